//! Compaction: which revisions go, and how they go in bounded steps.
//!
//! Two things happen to a compaction at revision C. At once, reads below C fail; that is replicated. In
//! the background, each member removes what nobody can read any more; that is its own affair, and no
//! answer shows how far it is.
//!
//! ```text
//!   history of one key      2 put    5 put    7 tombstone      9 put   12 put(live)
//!   compacted at 6          gone     kept     kept             kept    kept
//!   compacted at 7          gone     gone     kept             kept    kept
//!   compacted at 8          gone     gone     gone             kept    kept
//!   compacted at 12         gone     gone     gone             gone    kept
//! ```
//!
//! Removed is what is older than C, unless it is what its key was at C: a put with no younger revision
//! up to C. Revision C itself stays whole, tombstones included, so that a watch from C on sees all of it.
//! The walk is over the history alone: what never changed costs nothing.

use std::ops::Bound;

use bytes::Bytes;

use super::history::{History, Past, PastKey};
use super::key::Key;
use super::live::LiveKey;
use super::store::Store;
use super::tree::Tree;
use crate::planted::{self, Bug};
use crate::types::backend::Table;
use crate::types::{LocalFault, RequestError};

/// Row of [`Table::Meta`] that says up to where the store is compacted.
pub(super) const SCHEDULED_ROW: &[u8] = b"scheduledCompactRev";
/// Row of [`Table::Meta`] that says up to where compacted revisions have been removed.
pub(super) const FINISHED_ROW: &[u8] = b"finishedCompactRev";

/// What a step of compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionProgress {
    /// There was nothing to do.
    Idle,
    /// There is more to do.
    Working,
    /// Everything that a compaction at `revision` removes is in the batches taken so far and the next.
    Finished {
        /// The compaction's revision.
        revision: i64,
    },
}

/// The removal of what one compaction made unreadable.
#[derive(Debug)]
pub(super) struct Pass {
    /// The compaction revision.
    target: i64,
    /// The last entry of the history that was looked at.
    cursor: Option<PastKey>,
}

impl Pass {
    pub(super) fn new(target: i64) -> Self {
        Self { target, cursor: None }
    }
}

impl Store {
    /// Compacts at `revision`: reads below it fail from now on, and [`Store::compaction_step`] has work.
    ///
    /// # Errors
    /// `Compacted` when that is not above the compaction revision (or 0), `FutureRevision` when it is
    /// above the current one.
    pub fn compact(&mut self, revision: i64) -> Result<(), RequestError> {
        if revision <= self.state.compact_revision.max(0) {
            return Err(RequestError::Compacted);
        }
        if revision > self.state.revision {
            return Err(RequestError::FutureRevision);
        }
        self.state.compact_revision = revision;
        self.set_row(SCHEDULED_ROW, revision);
        // A pass that is under way goes on to its own target. The one after it then goes straight to
        // the newest compaction: those in between are part of it.
        self.compaction.get_or_insert(Pass::new(revision));
        Ok(())
    }

    /// Looks at up to `max_keys` past revisions (at least one) and removes those that compaction has made
    /// unreadable. A compaction that a younger one overtook before its turn is not reported on its own.
    pub fn compaction_step(&mut self, max_keys: usize) -> CompactionProgress {
        let Some(pass) = &mut self.compaction else { return CompactionProgress::Idle };
        let target = pass.target;
        let lower = pass.cursor.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut past = self.state.history.range(lower, Bound::Unbounded).peekable();
        let mut removed = Vec::new();
        for _ in 0..max_keys.max(1) {
            let Some((entry, kind)) = past.next() else { break };
            let next = past.peek().map(|&(next, _)| next);
            if is_removed(entry, *kind, next, &self.state.live, target) {
                removed.push(entry.clone());
            }
            pass.cursor = Some(entry.clone());
        }
        if planted::is(Bug::CompactionSkipsEntry)
            && let Some(&(entry, _)) = past.peek()
        {
            pass.cursor = Some(entry.clone());
        }
        let at_end = past.peek().is_none();
        remove_all(&mut self.state.history, &removed);
        self.pending.removed_records.extend(removed.iter().map(|entry| entry.revision));
        if !at_end {
            return CompactionProgress::Working;
        }
        self.set_row(FINISHED_ROW, target);
        let newest = self.state.compact_revision;
        self.compaction = (newest > target).then(|| Pass::new(newest));
        CompactionProgress::Finished { revision: target }
    }

    fn set_row(&mut self, row: &'static [u8], revision: i64) {
        self.pending.rows.push((Table::Meta, Bytes::from_static(row), Some(encode_revision(revision))));
    }
}

/// Whether a compaction at `target` removes `entry`. `next` is the entry after it, of whatever key.
fn is_removed(
    entry: &PastKey,
    kind: Past,
    next: Option<&PastKey>,
    live: &Tree<Key, LiveKey>,
    target: i64,
) -> bool {
    if planted::is(Bug::TombstoneDropped) && kind == Past::Tombstone && entry.revision.main == target {
        return true;
    }
    let target = if planted::is(Bug::CompactionOffByOne) { target + 1 } else { target };
    if entry.revision.main >= target {
        return false;
    }
    let superseded_by = match (kind, next) {
        // What came after does not matter: a key that is gone at `target` leaves nothing to read.
        (Past::Tombstone, _) => return true,
        (_, Some(next)) if next.key == entry.key => Some(next.revision),
        _ => live.get(&entry.key[..]).map(|live| live.modified),
    };
    match superseded_by {
        Some(revision) => revision.main <= target,
        None => panic!("{:?} has no revision after its past put at {}", entry.key, entry.revision),
    }
}

fn remove_all(history: &mut History, entries: &[PastKey]) {
    for entry in entries {
        history.remove(entry);
    }
}

/// A main revision as rows hold it: 8 bytes big endian, `_`, and a sub revision of 0.
fn encode_revision(main: i64) -> Bytes {
    let mut row = Vec::with_capacity(17);
    row.extend_from_slice(&main.to_be_bytes());
    row.push(b'_');
    row.extend_from_slice(&0_i64.to_be_bytes());
    row.into()
}

/// Reads what [`encode_revision`] wrote.
pub(super) fn decode_revision(row: &[u8], value: &[u8]) -> Result<i64, LocalFault> {
    match value.split_first_chunk::<8>() {
        Some((main, [b'_', sub @ ..])) if sub.len() == 8 => Ok(i64::from_be_bytes(*main)),
        _ => Err(LocalFault::new(format!(
            "row {} of the database is no revision: {value:02x?}",
            String::from_utf8_lossy(row)
        ))),
    }
}
