//! Which watchers does a change of a key concern: an exact map for single keys, an interval tree for
//! ranges. A look-up costs the logarithm of the number of keys and ranges, and its hits.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::interval::IntervalTree;
use super::watcher::Slot;
use crate::types::KeyRange;

/// Watchers by what they watch.
#[derive(Default)]
pub(super) struct WatcherIndex {
    keys: BTreeMap<Bytes, BTreeSet<Slot>>,
    ranges: IntervalTree,
    len: usize,
}

impl WatcherIndex {
    /// How many watchers are in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a watcher that is not in it.
    pub(super) fn insert(&mut self, range: &KeyRange, watcher: Slot) {
        self.len += 1;
        if range.is_single() {
            self.keys.entry(range.start.clone()).or_default().insert(watcher);
        } else {
            self.ranges.insert(range, watcher);
        }
    }

    /// Takes out a watcher that is in it, by the range with which it came in.
    pub(super) fn remove(&mut self, range: &KeyRange, watcher: Slot) {
        self.len -= 1;
        if !range.is_single() {
            self.ranges.remove(range, watcher);
        } else if let Some(watchers) = self.keys.get_mut(&range.start) {
            watchers.remove(&watcher);
            if watchers.is_empty() {
                self.keys.remove(&range.start);
            }
        }
    }

    /// Fills `hits` with the watchers of `key`: those of the key itself first, each kind in a fixed order.
    pub(super) fn matching(&self, key: &[u8], hits: &mut Vec<Slot>) {
        hits.clear();
        if let Some(watchers) = self.keys.get(key) {
            hits.extend(watchers);
        }
        self.ranges.matching(key, hits);
    }
}
