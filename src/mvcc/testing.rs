//! A database in memory, for tests of this room and of those above.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::backend::{AppliedPoint, BackendBatch, BackendSnapshot, StoredRecord, Table};
use crate::types::{LocalFault, Revision};

/// A database in memory. A clone of it is a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryBackend {
    /// All records.
    pub records: BTreeMap<Revision, StoredRecord>,
    /// All rows of all tables.
    pub rows: BTreeMap<(Table, Bytes), Bytes>,
    /// The applied point.
    pub applied: Option<AppliedPoint>,
}

impl MemoryBackend {
    /// Commits a batch.
    pub fn commit(&mut self, batch: BackendBatch) {
        for (revision, stored) in batch.records {
            let last = self.records.last_key_value().map(|(&last, _)| last);
            assert!(last < Some(revision), "record {revision} comes after {last:?}");
            self.records.insert(revision, stored);
        }
        for revision in batch.removed_records {
            self.records.remove(&revision);
        }
        for (table, key, value) in batch.rows {
            match value {
                Some(value) => self.rows.insert((table, key), value),
                None => self.rows.remove(&(table, key)),
            };
        }
        if batch.applied.is_some() {
            self.applied = batch.applied;
        }
    }

    /// The database as it is now.
    pub fn snapshot(&self) -> Arc<dyn BackendSnapshot> {
        Arc::new(self.clone())
    }
}

impl BackendSnapshot for MemoryBackend {
    fn record(&self, revision: Revision) -> Result<Option<StoredRecord>, LocalFault> {
        Ok(self.records.get(&revision).cloned())
    }

    fn records(&self, from: Revision, limit: usize) -> Result<Vec<(Revision, StoredRecord)>, LocalFault> {
        let records = self.records.range(from..).take(limit);
        Ok(records.map(|(&revision, stored)| (revision, stored.clone())).collect())
    }

    fn rows(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>, LocalFault> {
        let rows = self.rows.iter().filter(|((other, _), _)| *other == table);
        Ok(rows.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn applied(&self) -> Result<Option<AppliedPoint>, LocalFault> {
        Ok(self.applied.clone())
    }
}
