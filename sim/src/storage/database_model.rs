//! What a database should hold, in the plainest form; and batches for it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use detcd::proto::EncodedKeyValue;
use detcd::types::backend::{AppliedPoint, BackendBatch, BackendSnapshot, StoredRecord, Table};
use detcd::types::{LocalFault, Revision};
use rand::Rng;

use crate::random::{Draw, Random};

/// The content of a database.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DatabaseModel {
    pub records: BTreeMap<Revision, StoredRecord>,
    pub rows: BTreeMap<(Table, Bytes), Bytes>,
    pub applied: Option<AppliedPoint>,
}

impl DatabaseModel {
    /// What a batch makes of it.
    pub fn commit(&mut self, batch: &BackendBatch) {
        self.records.extend(batch.records.iter().cloned());
        for revision in &batch.removed_records {
            self.records.remove(revision);
        }
        for (table, key, value) in &batch.rows {
            let row = (*table, key.clone());
            match value {
                Some(value) => drop(self.rows.insert(row, value.clone())),
                None => drop(self.rows.remove(&row)),
            }
        }
        self.applied = batch.applied.clone().or(self.applied.take());
    }

    /// Everything in a snapshot, read by scans.
    pub fn read(snapshot: &dyn BackendSnapshot) -> Result<Self, LocalFault> {
        let mut rows = BTreeMap::new();
        for table in Table::ALL {
            rows.extend(snapshot.rows(table)?.into_iter().map(|(key, value)| ((table, key), value)));
        }
        // In two scans, so that one also begins in the middle.
        let mut records: BTreeMap<_, _> = snapshot.records(Revision::default(), 7)?.into_iter().collect();
        if let Some((last, _)) = records.last_key_value() {
            let next = Revision::new(last.main, last.sub + 1);
            records.extend(snapshot.records(next, usize::MAX)?);
        }
        Ok(Self { records, rows, applied: snapshot.applied()? })
    }

    /// Index of the last applied entry, 0 when there is none.
    pub fn index(&self) -> u64 {
        self.applied.as_ref().map_or(0, |applied| applied.index)
    }

    /// Where this content differs from another, in a sentence.
    pub fn difference(&self, other: &DatabaseModel) -> String {
        let revisions = self.records.keys().chain(other.records.keys());
        let mut differing =
            revisions.filter(|revision| self.records.get(revision) != other.records.get(revision));
        let mut text = format!("{self}; but {other}");
        if let Some(revision) = differing.next() {
            let held = |model: &DatabaseModel| model.records.contains_key(revision);
            let count = differing.count() + 1;
            text += &format!(
                "; {count} records differ, the first at {revision}: there {} and {}",
                held(self),
                held(other)
            );
        }
        if self.rows != other.rows {
            text += "; rows differ";
        }
        text
    }
}

impl fmt::Display for DatabaseModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = self.applied.as_ref().map_or(0, |applied| applied.term);
        write!(
            f,
            "{} records, {} rows, applied {} of term {term}",
            self.records.len(),
            self.rows.len(),
            self.index()
        )
    }
}

/// Makes batches. No two records are equal.
#[derive(Clone, Debug, Default)]
pub(super) struct CommitSource {
    serial: u64,
}

impl CommitSource {
    /// A batch that fits a database.
    pub fn draw(&mut self, random: &mut Random, model: &DatabaseModel) -> BackendBatch {
        let main = model.records.last_key_value().map_or(1, |(revision, _)| revision.main);
        let index = model.index() + random.random_range(0..4);
        let term = model.applied.as_ref().map_or(1, |applied| applied.term) + u64::from(random.percent(10));
        let applied = AppliedPoint {
            index,
            term,
            voters: (1..=random.random_range(1..6)).collect(),
            learners: (20..20 + random.random_range(0..2)).collect(),
        };
        BackendBatch {
            records: self.draw_records(random, main),
            removed_records: Self::draw_removed(random, model),
            rows: self.draw_rows(random),
            // Mostly with effects, at times alone, at times not at all.
            applied: random.percent(90).then_some(applied),
        }
    }

    fn draw_records(&mut self, random: &mut Random, mut main: i64) -> Vec<(Revision, StoredRecord)> {
        let mut records = Vec::new();
        for _ in 0..random.log_uniform(1, 9) - 1 {
            main += 1;
            for sub in 0..random.log_uniform(1, 4) as i64 {
                let length = if random.percent(6) {
                    random.random_range(1000..9000)
                } else {
                    random.random_range(0..250)
                };
                let record =
                    StoredRecord { tombstone: random.percent(15), record: self.value(length).into_record() };
                records.push((Revision::new(main, sub), record));
            }
        }
        records
    }

    fn draw_removed(random: &mut Random, model: &DatabaseModel) -> Vec<Revision> {
        // Compaction takes many old ones at once, and never grows the database without bound.
        let many = model.records.len() > 150 || random.percent(10);
        let percent = if many { 60 } else { 1 };
        let mut removed: Vec<Revision> =
            model.records.keys().copied().filter(|_| random.percent(percent)).collect();
        if random.percent(10) {
            removed.push(Revision::new(1, 77));
        }
        removed
    }

    fn draw_rows(&mut self, random: &mut Random) -> Vec<(Table, Bytes, Option<Bytes>)> {
        let count = if random.percent(50) { 0 } else { random.random_range(1..6) };
        let row = |_| {
            let table = *random.pick(&Table::ALL);
            let key = random.random_range(0..12u64).to_be_bytes();
            let length = random.random_range(0..60);
            let value = random.percent(75).then(|| self.value(length).0);
            (table, Bytes::copy_from_slice(&key), value)
        };
        (0..count).map(row).collect()
    }

    /// Bytes that were never given out before, if there is room to say so.
    fn value(&mut self, length: usize) -> Value {
        self.serial += 1;
        let mut value = vec![self.serial as u8; length];
        let serial = self.serial.to_le_bytes();
        let marked = length.min(serial.len());
        value[..marked].copy_from_slice(&serial[..marked]);
        Value(value.into())
    }
}

struct Value(Bytes);

impl Value {
    fn into_record(self) -> EncodedKeyValue {
        EncodedKeyValue::from_bytes(self.0)
    }
}
