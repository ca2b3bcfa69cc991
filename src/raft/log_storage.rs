//! The part of the log that raft can read back: a tail in memory, bounded in bytes.
//!
//! The files of the log belong to another room and are only read at start. While a member runs, raft
//! needs recent entries again and again (to send them, to hand them out once committed) and old ones
//! almost never; a follower that needs an entry which is no longer here gets a snapshot.
//!
//! ```text
//!        dropped            entries (shared with network and disk buffers)
//!  ................ anchor | first ............ applied ....... last
//!                                ^ snapshot.index
//!                   entries up to min(snapshot.index, applied) may be dropped
//! ```
//!
//! Invariants:
//! - `entries` has no gaps and begins right after `anchor`, whose term is kept to match logs;
//! - `anchor.index <= snapshot.index`: whoever needs what was dropped can be served by the snapshot;
//! - an entry is only dropped once it was applied.

use std::cell::Cell;
use std::collections::VecDeque;

use ::raft::eraftpb::{Entry, HardState as WireHardState, Snapshot};
use ::raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use protobuf::Message as _;

use super::convert;
use super::ready::RecoveredLog;
use crate::types::LocalFault;
use crate::types::log::SnapshotPoint;

/// What an entry costs in memory besides its payload.
const ENTRY_OVERHEAD: u64 = size_of::<Entry>() as u64;

/// Index and term of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    index: u64,
    term: u64,
}

/// The log in memory. See the head of this module.
pub(super) struct LogStorage {
    /// What raft starts from; not kept up to date afterwards.
    initial: WireHardState,
    /// The entry before the first one held.
    anchor: Position,
    entries: VecDeque<Entry>,
    /// Cost of `entries` in memory.
    bytes: u64,
    /// What a follower is offered that needs dropped entries.
    snapshot: SnapshotPoint,
    /// A follower asked for a snapshot that `snapshot` cannot be. A cell because raft asks through `&self`.
    snapshot_wanted: Cell<bool>,
}

impl LogStorage {
    /// The log as it was found at start. See [`RecoveredLog`] for what has to hold; what does not hold is
    /// a fault of this member's files.
    pub(super) fn recover(log: RecoveredLog) -> Result<Self, LocalFault> {
        let RecoveredLog { hard_state, snapshot, entries } = log;
        if snapshot.index == 0 && !snapshot.voters.is_empty() {
            return Err(LocalFault::new(
                "the log of a cluster with voters must start from a snapshot point above index 0",
            ));
        }
        if let Some(pair) = entries.windows(2).find(|pair| pair[1].index != pair[0].index + 1) {
            return Err(LocalFault::new(format!(
                "the log jumps from entry {} to entry {}",
                pair[0].index, pair[1].index
            )));
        }
        let mut storage = Self {
            initial: WireHardState::default(),
            anchor: Position { index: snapshot.index, term: snapshot.term },
            entries: VecDeque::new(),
            bytes: 0,
            snapshot,
            snapshot_wanted: Cell::new(false),
        };
        storage.adopt(entries.iter().map(convert::entry_to_raft).collect())?;

        let last = storage.last();
        let commit = hard_state.commit.max(storage.snapshot.index);
        if commit > last.index {
            return Err(LocalFault::new(format!(
                "entry {commit} was committed but the log ends at entry {}: part of the log is lost",
                last.index
            )));
        }
        // A log of a higher term than the hard state: the write that carried both was cut short, so
        // nothing of it was ever promised to anybody. The vote belongs to the lower term.
        let vote = if last.term > hard_state.term { 0 } else { hard_state.vote };
        storage.initial.set_term(hard_state.term.max(last.term));
        storage.initial.set_vote(vote);
        storage.initial.set_commit(commit);
        Ok(storage)
    }

    /// Takes the entries found on disk, which may begin before the snapshot and be wholly older than it.
    fn adopt(&mut self, entries: Vec<Entry>) -> Result<(), LocalFault> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let point = self.anchor;
        if first.index > point.index + 1 {
            return Err(LocalFault::new(format!(
                "the log begins at entry {} but the state stands at entry {}: entries between are lost",
                first.index, point.index
            )));
        }
        if first.index == point.index + 1 {
            self.extend(entries);
            return Ok(());
        }
        let agrees =
            last.index >= point.index && entries[(point.index - first.index) as usize].term == point.term;
        if agrees {
            // The first entry gives its place as the anchor: the term before it is not known.
            self.anchor = Position { index: first.index, term: first.term };
            self.extend(entries.into_iter().skip(1));
        }
        // Otherwise a snapshot replaced this log.
        Ok(())
    }

    fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.bytes += cost(&entry);
            self.entries.push_back(entry);
        }
    }

    fn first_held(&self) -> u64 {
        self.anchor.index + 1
    }

    fn last(&self) -> Position {
        match self.entries.back() {
            Some(entry) => Position { index: entry.index, term: entry.term },
            None => self.anchor,
        }
    }

    /// Memory that the entries take, in bytes, payloads and bookkeeping.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The snapshot that followers are offered.
    pub(super) fn snapshot_point(&self) -> &SnapshotPoint {
        &self.snapshot
    }

    /// Whether a follower waits for a newer snapshot point than there is. Asking clears it.
    pub(super) fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.take()
    }

    /// Appends `entries`, replacing what is there from the first of them on.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index >= self.first_held() && first.index <= self.last().index + 1,
            "entry {} does not connect to the log of entries {}..={}",
            first.index,
            self.first_held(),
            self.last().index
        );
        while self.last().index >= first.index {
            if let Some(replaced) = self.entries.pop_back() {
                self.bytes -= cost(&replaced);
            }
        }
        self.extend(entries);
    }

    /// Replaces the whole log by a received snapshot.
    pub(super) fn install(&mut self, point: SnapshotPoint) {
        self.anchor = Position { index: point.index, term: point.term };
        self.entries.clear();
        self.bytes = 0;
        self.snapshot = point;
    }

    /// Offers a newer snapshot to followers. An older one is ignored.
    pub(super) fn set_snapshot_point(&mut self, point: SnapshotPoint) {
        if point.index > self.snapshot.index {
            self.snapshot = point;
        }
    }

    /// Drops applied entries that the snapshot covers: all but the last `keep` of them, and of those as
    /// many as the bound of `max_bytes` asks for.
    pub(super) fn compact(&mut self, applied: u64, keep: u64, max_bytes: u64) {
        let covered = self.snapshot.index.min(applied);
        let unwanted = self.snapshot.index.saturating_sub(keep).min(covered);
        while let Some(first) = self.entries.front() {
            let drop = first.index <= unwanted || (first.index <= covered && self.bytes > max_bytes);
            if !drop {
                break;
            }
            self.anchor = Position { index: first.index, term: first.term };
            self.bytes -= cost(first);
            self.entries.pop_front();
        }
    }
}

impl Storage for LogStorage {
    fn initial_state(&self) -> ::raft::Result<RaftState> {
        Ok(RaftState::new(self.initial.clone(), convert::conf_state_to_raft(&self.snapshot)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> ::raft::Result<Vec<Entry>> {
        if low < self.first_held() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last().index + 1 || low > high {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let from = (low - self.first_held()) as usize;
        let to = (high - self.first_held()) as usize;
        let mut size = 0_u64;
        let mut found = Vec::new();
        for entry in self.entries.range(from..to) {
            size += u64::from(entry.compute_size());
            // One entry always goes, or a large one could never be sent.
            if size > max_size && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> ::raft::Result<u64> {
        if index == self.anchor.index {
            return Ok(self.anchor.term);
        }
        if index < self.anchor.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        match self.entries.get((index - self.first_held()) as usize) {
            Some(entry) => Ok(entry.term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> ::raft::Result<u64> {
        Ok(self.first_held())
    }

    fn last_index(&self) -> ::raft::Result<u64> {
        Ok(self.last().index)
    }

    /// Metadata only. Refused while the point at hand is older than the entry that added the receiver:
    /// a member ignores a snapshot that does not know it, and the leader would wait for it in vain.
    fn snapshot(&self, request_index: u64, to: u64) -> ::raft::Result<Snapshot> {
        let point = &self.snapshot;
        let knows = point.voters.contains(&to) || point.learners.contains(&to);
        if point.index == 0 || point.index < request_index || !knows {
            self.snapshot_wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(convert::point_to_raft(point));
        Ok(snapshot)
    }
}

fn cost(entry: &Entry) -> u64 {
    ENTRY_OVERHEAD + entry.data.len() as u64
}
