//! Which term each entry of the log has, as runs of equal terms: a few numbers for a log of any length.
//!
//! The log needs it for one question: is a snapshot point part of the log, so that the entries behind it
//! stay, or does it replace the log (Raft, figure 13, step 6)?

use crate::types::log::{LogEntry, SnapshotPoint};

/// Terms of the snapshot point and of the entries after it.
#[derive(Debug)]
pub(super) struct Terms {
    /// First index and term of each run, ascending in both. The first begins at or before the point.
    runs: Vec<(u64, u64)>,
    last: u64,
}

impl Terms {
    /// A log that ends at a snapshot point.
    pub fn new(point: &SnapshotPoint) -> Self {
        Self { runs: vec![(point.index, point.term)], last: point.index }
    }

    /// Index of the last entry, or of the snapshot point when none follows it.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Takes in an entry, which replaces those from its index on.
    pub fn append(&mut self, entry: &LogEntry) {
        self.runs.retain(|(first, _)| *first < entry.index);
        if self.runs.last().is_none_or(|(_, term)| *term != entry.term) {
            self.runs.push((entry.index, entry.term));
        }
        self.last = entry.index;
    }

    /// Whether the log has this very point.
    pub fn contains(&self, point: &SnapshotPoint) -> bool {
        let run = self.runs.iter().rfind(|(first, _)| *first <= point.index);
        point.index <= self.last && run.is_some_and(|(_, term)| *term == point.term)
    }

    /// Takes in a snapshot point. The log begins behind it; unless the log has it, it is all there is.
    pub fn supersede(&mut self, point: &SnapshotPoint) {
        if self.contains(point) {
            let covered = self.runs.partition_point(|(first, _)| *first <= point.index);
            self.runs.drain(..covered.saturating_sub(1));
        } else {
            *self = Self::new(point);
        }
    }
}
