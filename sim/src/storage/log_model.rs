//! What a log should hold, in the plainest form; and batches that fit it.

use std::fmt;

use bytes::Bytes;
use detcd::types::log::{EntryKind, HardState, LogEntry, SnapshotPoint};
use detcd::wal::{Recovered, WalBatch};
use rand::Rng;

use crate::random::{Draw, Random};

/// The content of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogModel {
    pub snapshot: SnapshotPoint,
    pub hard_state: HardState,
    pub entries: Vec<LogEntry>,
}

impl LogModel {
    /// What an opened log gave back.
    pub fn of(recovered: &Recovered) -> Self {
        Self {
            snapshot: recovered.snapshot.clone(),
            hard_state: recovered.hard_state,
            entries: recovered.entries.clone(),
        }
    }

    /// Index of the last entry, or of the snapshot point.
    pub fn last(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.index, |entry| entry.index)
    }

    /// Term of the entry or point at an index.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        self.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term)
    }

    /// What a batch makes of it.
    pub fn apply(&mut self, batch: &WalBatch) {
        if let Some(point) = &batch.snapshot {
            if self.term(point.index) != Some(point.term) {
                self.entries.clear();
            }
            self.entries.retain(|entry| entry.index > point.index);
            self.snapshot = point.clone();
        }
        for entry in &batch.entries {
            self.entries.retain(|older| older.index < entry.index);
            self.entries.push(entry.clone());
        }
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
    }

    /// Where this log differs from another, in a sentence.
    pub fn difference(&self, other: &LogModel) -> String {
        let of = |model: &LogModel, index| {
            let entry = model.entries.iter().find(|entry: &&LogEntry| entry.index == index);
            entry.map(|entry| (entry.term, entry.kind, entry.data.len(), crc(&entry.data)))
        };
        let last = self.last().max(other.last());
        let first = self.snapshot.index.min(other.snapshot.index);
        match (first..=last).find(|index| of(self, *index) != of(other, *index)) {
            Some(index) => format!(
                "{self}; but {other}; entry {index} is {:?} and {:?} (term, kind, bytes, checksum)",
                of(self, index),
                of(other, index)
            ),
            None => format!("{self}; but {other}"),
        }
    }
}

fn crc(bytes: &[u8]) -> u64 {
    crate::random::fnv(bytes)
}

impl fmt::Display for LogModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HardState { term, vote, commit } = self.hard_state;
        write!(
            f,
            "snapshot {} of term {}, {} entries to {}, term {term}, vote {vote}, commit {commit}",
            self.snapshot.index,
            self.snapshot.term,
            self.entries.len(),
            self.last()
        )
    }
}

/// Makes batches like those of a busy and unlucky member. No two payloads are equal.
#[derive(Clone, Debug, Default)]
pub(super) struct BatchSource {
    term: u64,
    serial: u64,
}

impl BatchSource {
    /// A batch that fits a log. `old` is what a hostile client may have seen of the medium: it comes back
    /// as a payload at times.
    pub fn draw(&mut self, random: &mut Random, log: &LogModel, old: &[u8]) -> WalBatch {
        self.term = self.term.max(log.hard_state.term).max(log.term(log.last()).unwrap_or(0)).max(1);
        self.term += u64::from(random.percent(20));
        let snapshot = self.draw_point(random, log);
        let mut after = log.clone();
        after.apply(&WalBatch { snapshot: snapshot.clone(), ..WalBatch::default() });
        let back = if random.percent(15) { random.random_range(0..6) } else { 0 };
        let kept = after.last() - back.min(after.entries.len() as u64);
        let count = if random.percent(15) { 0 } else { random.random_range(1..5) };
        let entries = (kept + 1..=kept + count).map(|index| self.draw_entry(random, index, old)).collect();
        let commit = random.random_range(after.snapshot.index..=kept);
        let vote = random.random_range(0..5);
        let hard_state = random.percent(60).then_some(HardState { term: self.term, vote, commit });
        WalBatch { snapshot, entries, hard_state }
    }

    fn draw_point(&self, random: &mut Random, log: &LogModel) -> Option<SnapshotPoint> {
        let (first, last) = (log.snapshot.index, log.last());
        let (index, term) = match random.random_range(0..100) {
            // The database has caught up with a part of the log.
            0..16 => {
                let index = random.random_range(first..=last);
                (index, log.term(index).unwrap_or(self.term))
            }
            // A snapshot of the leader's takes the place of the log.
            16..20 => (random.random_range(first + 1..=last + 9), self.term),
            _ => return None,
        };
        let voters = (1..=random.random_range(1..6)).collect();
        let learners = (11..11 + random.random_range(0..3)).collect();
        Some(SnapshotPoint { index, term, voters, learners })
    }

    fn draw_entry(&mut self, random: &mut Random, index: u64, old: &[u8]) -> LogEntry {
        let kind = *random.pick(&[
            EntryKind::Normal,
            EntryKind::Normal,
            EntryKind::Normal,
            EntryKind::ConfChange,
            EntryKind::ConfChangeV2,
        ]);
        let length = match random.random_range(0..100) {
            0..10 => 0,
            10..85 => random.random_range(1..300),
            85..99 => random.random_range(300..3000),
            _ => random.random_range(3000..30_000),
        };
        LogEntry { index, term: self.term, kind, data: self.draw_data(random, length, old) }
    }

    fn draw_data(&mut self, random: &mut Random, length: usize, old: &[u8]) -> Bytes {
        self.serial += 1;
        if length > 600 && !old.is_empty() && random.percent(50) {
            let repeated = old.iter().cycle().skip(random.random_range(0..old.len()));
            return repeated.take(length).copied().collect();
        }
        let byte = self.serial as u8;
        let mut data = vec![byte; length];
        let serial = self.serial.to_le_bytes();
        let marked = length.min(serial.len());
        data[..marked].copy_from_slice(&serial[..marked]);
        data.into()
    }
}
