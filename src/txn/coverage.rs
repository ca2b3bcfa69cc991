//! Which keys a number of key ranges cover together.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::types::{KeyRange, RangeEnd};

/// A union of key ranges. Adding and asking take O(log n) on average, however the ranges overlap.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    /// Where each piece begins and ends (`None`: never). Pieces neither touch nor overlap.
    pieces: BTreeMap<Bytes, Option<Bytes>>,
}

impl Coverage {
    /// Adds the keys of `range`.
    pub(super) fn add(&mut self, range: &KeyRange) {
        if range.is_empty() {
            return;
        }
        let end = match &range.end {
            RangeEnd::Single => Some(successor(&range.start)),
            RangeEnd::Open => None,
            RangeEnd::Before(end) => Some(end.clone()),
        };
        self.add_piece(range.start.clone(), end);
    }

    /// Adds everything that `other` covers.
    pub(super) fn add_all(&mut self, other: Coverage) {
        for (start, end) in other.pieces {
            self.add_piece(start, end);
        }
    }

    /// Whether `key` lies in any of the ranges.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        let at_or_before = (Bound::Unbounded, Bound::Included(key));
        let piece = self.pieces.range::<[u8], _>(at_or_before).next_back();
        piece.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < &end[..]))
    }

    /// Takes out the pieces that the new one touches and puts in one that covers them all.
    fn add_piece(&mut self, mut start: Bytes, mut end: Option<Bytes>) {
        loop {
            let at_or_before = match &end {
                Some(end) => self.pieces.range::<Bytes, _>(..=end).next_back(),
                None => self.pieces.last_key_value(),
            };
            let Some((other_start, other_end)) = at_or_before else { break };
            if other_end.as_ref().is_some_and(|other_end| *other_end < start) {
                break;
            }
            let (other_start, other_end) = (other_start.clone(), other_end.clone());
            self.pieces.remove(&other_start);
            start = start.min(other_start);
            end = match (end, other_end) {
                (Some(end), Some(other_end)) => Some(end.max(other_end)),
                _ => None,
            };
        }
        self.pieces.insert(start, end);
    }
}

/// The first key after `key`.
fn successor(key: &Bytes) -> Bytes {
    [key, &b"\0"[..]].concat().into()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Bytes> {
        vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b')], 0..3).prop_map(Bytes::from)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn it_covers_what_one_of_its_ranges_contains(
            wire in vec((key(), key()), 0..8),
            probes in vec(key(), 20),
            into in any::<bool>(),
        ) {
            let ranges: Vec<KeyRange> =
                wire.into_iter().map(|(key, end)| KeyRange::from_wire(key, end)).collect();
            let (mut coverage, mut later) = (Coverage::default(), Coverage::default());
            for (number, range) in ranges.iter().enumerate() {
                if into && number % 2 == 1 { later.add(range) } else { coverage.add(range) }
            }
            coverage.add_all(later);
            for key in probes {
                let expected = ranges.iter().any(|range| range.contains(&key));
                prop_assert_eq!(coverage.contains(&key), expected, "{:?} in {:?}", key, ranges);
            }
        }
    }
}
