//! Which newest values stay in memory.
//!
//! A value is in memory from its put on. Over the budget, a hand goes round the keys whose value is in
//! memory, in key order: a key that was used since the hand last passed is spared once, any other gives
//! up its value, provided that the database has it. A write moves the hand a bounded number of steps.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::key::Key;
use super::live::{LiveKey, resident_cost};
use super::tree::Tree;

/// The keys whose newest value is in memory, and the memory that those take.
#[derive(Debug)]
pub(super) struct ValueCache {
    budget: usize,
    bytes: usize,
    keys: BTreeSet<Key>,
    /// The key that the hand looked at last.
    hand: Key,
}

impl ValueCache {
    /// An empty cache that may hold `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, bytes: 0, keys: BTreeSet::new(), hand: Key::from(&[][..]) }
    }

    /// Whether a record of `len` bytes fits without evicting one.
    pub(super) fn has_room_for(&self, len: usize) -> bool {
        self.bytes + resident_cost(len) <= self.budget
    }

    /// Notes that the record of `key` takes `after` bytes of memory where it took `before`, 0 for a record
    /// that is not in memory.
    pub(super) fn changed(&mut self, key: &Key, before: usize, after: usize) {
        match (before, after) {
            (0, 1..) => drop(self.keys.insert(key.clone())),
            (1.., 0) => drop(self.keys.remove(key)),
            _ => {}
        }
        self.bytes = self.bytes + after - before;
    }

    /// Moves the hand up to `steps` keys on while over the budget. Only values whose main revision is
    /// at most `flushed` are in the database.
    pub(super) fn evict(&mut self, live: &mut Tree<Key, LiveKey>, flushed: i64, steps: usize) {
        for _ in 0..steps {
            if self.bytes <= self.budget {
                return;
            }
            let Some(key) = self.advance() else { return };
            let state = live.get(&key[..]).unwrap_or_else(|| panic!("{key:?} is in memory but not alive"));
            let used = || state.resident.as_ref().is_some_and(|resident| resident.take_touched());
            if state.modified.main > flushed || used() {
                continue;
            }
            let cost = state.resident_cost();
            live.update(&key[..], |state| state.resident = None);
            self.changed(&key, cost, 0);
        }
    }

    /// The next key under the hand, in a circle.
    fn advance(&mut self) -> Option<Key> {
        let after = (Bound::Excluded(&self.hand[..]), Bound::Unbounded);
        let next = self.keys.range::<[u8], _>(after).next().or_else(|| self.keys.first())?;
        self.hand = next.clone();
        Some(self.hand.clone())
    }

    /// Bytes of memory that values take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
