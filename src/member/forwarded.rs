//! Proposals that peers pass on: each is taken once, however often the network delivers it.
//!
//! Raft is at home with repeated messages, save this one kind: a forwarded proposal that arrives twice is
//! appended twice, and a request happens twice. Every proposal carries an id of its own, so two messages
//! with the same bytes are one message.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

/// Messages that are remembered. A repetition older than this many others is not recognised.
const REMEMBERED: usize = 8192;

/// The forwarded proposals of late, by the hash of their message.
#[derive(Default)]
pub(super) struct Forwarded {
    seen: BTreeSet<u64>,
    by_age: VecDeque<u64>,
}

impl Forwarded {
    /// Whether this message comes for the first time, and notes it.
    pub fn is_new(&mut self, message: &Bytes) -> bool {
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let hash = hasher.finish();
        if !self.seen.insert(hash) {
            return false;
        }
        self.by_age.push_back(hash);
        if self.by_age.len() > REMEMBERED
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once_and_memory_is_bounded() {
        let mut forwarded = Forwarded::default();
        let message = |n: usize| Bytes::from(n.to_string());
        assert!(forwarded.is_new(&message(0)) && !forwarded.is_new(&message(0)));
        assert!((1..=REMEMBERED).all(|n| forwarded.is_new(&message(n))));
        assert!(!forwarded.is_new(&message(1)));
        assert_eq!((forwarded.seen.len(), forwarded.by_age.len()), (REMEMBERED, REMEMBERED));
    }
}
