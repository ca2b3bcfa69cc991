//! What the records of the log amount to when they are read in order.
//!
//! Invariants:
//! - entries have consecutive indexes, and a later entry replaces those from its index on;
//! - the result is whole: when segments that hold needed entries are gone, that is an error.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Recovered;
use super::format::Record;
use crate::planted::{self, Bug};
use crate::types::log::{HardState, LogEntry, SnapshotPoint};

/// The log as the records read so far have left it.
#[derive(Debug, Default)]
pub(super) struct Replay {
    metadata: Bytes,
    hard_state: HardState,
    snapshot: SnapshotPoint,
    /// Index of the first of `entries`. Entries between the snapshot point and here were in segments
    /// that have been released: a later snapshot point must cover them.
    first: u64,
    entries: VecDeque<LogEntry>,
    began: bool,
}

impl Replay {
    /// Takes in the first batch of a segment, which says again what held before it. The oldest segment
    /// is believed, the others must agree with what has been read.
    pub fn begin_segment(&mut self, first_index: u64, records: &[Record]) -> Result<(), String> {
        let [
            Record::Metadata(metadata),
            Record::Snapshot { point, restart: false },
            Record::HardState(state),
        ] = records
        else {
            return Err("the first batch of the segment does not hold the carried state".into());
        };
        if !self.began {
            (self.metadata, self.snapshot, self.hard_state) = (metadata.clone(), point.clone(), *state);
            (self.first, self.began) = (first_index, true);
        } else if (&self.metadata, &self.snapshot, &self.hard_state, self.next_index())
            != (metadata, point, state, first_index)
        {
            return Err("the state carried into the segment is not what the segments before it say".into());
        }
        Ok(())
    }

    /// Takes in a record of any later batch. Gives the index, if it was an entry.
    pub fn apply(&mut self, record: Record) -> Result<Option<u64>, String> {
        match record {
            Record::Entry(entry) => return self.append(entry).map(Some),
            Record::HardState(state) => self.hard_state = state,
            Record::Snapshot { point, restart } => self.supersede(point, restart)?,
            Record::Metadata(_) => return Err("metadata stands where the log goes on".into()),
        }
        Ok(None)
    }

    /// The whole, or what is missing from it.
    pub fn finish(self) -> Result<Recovered, String> {
        if self.first > self.snapshot.index + 1 {
            return Err(format!(
                "entries {} to {} are missing: segments before this one are gone",
                self.snapshot.index + 1,
                self.first - 1
            ));
        }
        Ok(Recovered {
            metadata: self.metadata,
            hard_state: self.hard_state,
            snapshot: self.snapshot,
            entries: self.entries.into(),
            repaired: None,
        })
    }

    fn next_index(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn append(&mut self, entry: LogEntry) -> Result<u64, String> {
        let index = entry.index;
        let (after, before) = (self.snapshot.index, self.next_index());
        if index <= after || index > before {
            return Err(format!("entry {index} does not fit between {after} and {before}"));
        }
        if index < self.first {
            self.entries.clear();
            self.first = index;
        }
        let place = (index - self.first) as usize;
        if planted::is(Bug::ReplayKeepsOldTail) && place < self.entries.len() {
            self.entries[place] = entry;
            return Ok(index);
        }
        self.entries.truncate(place);
        self.entries.push_back(entry);
        Ok(index)
    }

    fn supersede(&mut self, point: SnapshotPoint, restart: bool) -> Result<(), String> {
        let held = self.snapshot.index..self.next_index();
        if point.index < held.start || (!restart && !held.contains(&point.index)) {
            return Err(format!("snapshot point {} does not fit the log {held:?}", point.index));
        }
        if restart {
            self.entries.clear();
            self.first = point.index + 1;
        } else if self.first <= point.index {
            self.entries.drain(..(point.index + 1 - self.first) as usize);
            self.first = point.index + 1;
        }
        self.snapshot = point;
        Ok(())
    }
}
