//! What was before: superseded revisions and tombstones, until compaction removes them.
//!
//! One tree holds the past of all keys, ordered by key and then by revision, so that adding to a key
//! with a long past costs no more than adding to one without. The newest revision of a live key is not
//! in it: the past of a store that is wholly compacted is empty, however many keys are alive.

use std::ops::Bound;

use super::key::Key;
use super::tree::{Range, Tree, TreeKey, Weigh};
use crate::types::{KeyRange, RangeEnd, Revision};

/// The smallest revision there is, below every real one.
const REVISION_MIN: Revision = Revision { main: i64::MIN, sub: i64::MIN };
/// The biggest revision there is, above every real one.
const REVISION_MAX: Revision = Revision { main: i64::MAX, sub: i64::MAX };

/// One past revision of one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PastKey {
    /// The key.
    pub key: Key,
    /// The revision.
    pub revision: Revision,
}

impl TreeKey for PastKey {
    fn separator(below: &Self, above: &Self) -> Self {
        if below.key == above.key {
            above.clone()
        } else {
            Self { key: Key::separator(&below.key, &above.key), revision: REVISION_MIN }
        }
    }
}

/// What a past revision was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// A put, superseded since.
    Put {
        /// Main revision of the first put of its generation.
        create_revision: i64,
        /// Puts in the generation up to it.
        version: i64,
    },
    /// A deletion.
    Tombstone,
}

impl Weigh for Past {
    fn weight(&self) -> u64 {
        0
    }
}

/// The past of all keys.
pub(super) type History = Tree<PastKey, Past>;

/// The newest past revision of `key` that is at most `until`.
pub(super) fn newest_past<'a>(
    history: &'a History,
    key: &[u8],
    until: Revision,
) -> Option<(&'a PastKey, &'a Past)> {
    let above = history.rank(Bound::Excluded(&PastKey { key: key.into(), revision: until }));
    let (found, past) = history.at(above.checked_sub(1)?)?;
    (*found.key == *key).then_some((found, past))
}

/// The past of the keys in `range`.
pub(super) fn past_of<'a>(history: &'a History, range: &KeyRange) -> Range<'a, PastKey, Past> {
    let lowest = PastKey { key: range.start[..].into(), revision: REVISION_MIN };
    history.range(Bound::Included(&lowest), past_end(range).as_ref())
}

/// The past of the keys in `range` that come after `key`.
pub(super) fn past_after<'a>(history: &'a History, key: &Key, range: &KeyRange) -> Range<'a, PastKey, Past> {
    let last = PastKey { key: key.clone(), revision: REVISION_MAX };
    history.range(Bound::Excluded(&last), past_end(range).as_ref())
}

/// Where the past of the keys in `range` ends.
fn past_end(range: &KeyRange) -> Bound<PastKey> {
    match &range.end {
        RangeEnd::Single => Bound::Included(PastKey { key: range.start[..].into(), revision: REVISION_MAX }),
        RangeEnd::Before(end) => Bound::Excluded(PastKey { key: end[..].into(), revision: REVISION_MIN }),
        RangeEnd::Open => Bound::Unbounded,
    }
}
