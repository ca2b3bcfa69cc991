//! Reads of the database as one commit left it.
//!
//! A snapshot holds the tables of one read transaction open, so a read is one descent of a tree, one
//! checksum and one copy. The database does not reuse a page that a snapshot can still reach: an old
//! snapshot costs disk space, not time.
//!
//! Invariants:
//! - a value is handed out only after its checksum was found right;
//! - keys of a scan ascend strictly, and a table has as many rows as were put into it: where damage
//!   leads the database to the wrong page, the keys there betray it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Range, ReadOnlyTable, ReadableDatabase};

use super::file::OpenDatabase;
use super::format::{self, META, META_APPLIED, META_FORMAT, META_USAGE, RECORDS, ROWS, Usage};
use super::guard::{Failure, guarded};
use crate::types::backend::{AppliedPoint, BackendSnapshot, StoredRecord, Table};
use crate::types::{LocalFault, Revision};

/// Records for which a scan makes room ahead, at most.
const SCAN_CAPACITY: usize = 1024;

/// The database right after one commit. Dropping it lets the database reuse what later commits freed.
pub struct Snapshot {
    records: ReadOnlyTable<u128, &'static [u8]>,
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    applied: Option<AppliedPoint>,
    usage: Usage,
    // Last, so that the tables are closed before the database may be.
    database: Arc<OpenDatabase>,
}

impl Snapshot {
    /// The state right after a commit whose applied point and usage are known.
    pub(super) fn after_commit(
        database: Arc<OpenDatabase>,
        applied: Option<AppliedPoint>,
        usage: Usage,
    ) -> Result<Snapshot, Failure> {
        let read = database.begin_read()?;
        let records = read.open_table(RECORDS)?;
        let rows = read.open_table(ROWS)?;
        Ok(Snapshot { records, rows, applied, usage, database })
    }

    /// The state of a database that was just opened; refuses a format newer than ours.
    pub(super) fn after_open(database: Arc<OpenDatabase>) -> Result<Snapshot, Failure> {
        let meta = database.begin_read()?.open_table(META)?;
        let content = |name: &str| -> Result<Option<Vec<u8>>, Failure> {
            let Some(stored) = meta.get(name)? else { return Ok(None) };
            Ok(Some(format::check_meta(name, stored.value())?.to_vec()))
        };
        let damaged = |name: &str| LocalFault::new(format!("entry \"{name}\" is missing or damaged"));

        let version = content(META_FORMAT)?
            .and_then(|content| format::Reader(&content).u32())
            .ok_or_else(|| damaged(META_FORMAT))?;
        if version > format::FORMAT_VERSION {
            return Err(Failure::Fault(LocalFault::new(format!(
                "the file has format {version}, written by a newer version; this version reads up to \
                 format {}",
                format::FORMAT_VERSION
            ))));
        }
        let usage = content(META_USAGE)?
            .and_then(|content| Usage::decode(&content))
            .ok_or_else(|| damaged(META_USAGE))?;
        let applied = content(META_APPLIED)?
            .map(|content| format::decode_applied(&content).ok_or_else(|| damaged(META_APPLIED)))
            .transpose()?;
        Self::after_commit(database, applied, usage)
    }

    /// Path of the database file, for faults.
    pub(super) fn path(&self) -> &Path {
        self.database.path()
    }

    /// How much lives in the database.
    pub(super) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// How far the log was applied, without a copy.
    pub(super) fn applied_point(&self) -> Option<&AppliedPoint> {
        self.applied.as_ref()
    }

    /// The stored records from a key on.
    pub(super) fn record_range(&self, from: u128) -> Result<Range<'static, u128, &'static [u8]>, Failure> {
        Ok(self.records.range(from..)?)
    }

    /// The stored rows of every table, by table and key.
    pub(super) fn row_range(&self) -> Result<Range<'static, &'static [u8], &'static [u8]>, Failure> {
        Ok(self.rows.range::<&[u8]>(..)?)
    }
}

impl BackendSnapshot for Snapshot {
    fn record(&self, revision: Revision) -> Result<Option<StoredRecord>, LocalFault> {
        guarded(self.path(), "reading a record", || {
            let key = format::record_key(revision)?;
            let Some(stored) = self.records.get(key)? else { return Ok(None) };
            Ok(Some(format::decode_record(key, stored.value())?))
        })
    }

    fn records(&self, from: Revision, limit: usize) -> Result<Vec<(Revision, StoredRecord)>, LocalFault> {
        guarded(self.path(), "reading records", || {
            let mut found = Vec::with_capacity(limit.min(SCAN_CAPACITY));
            let mut lowest = format::record_key(from)?;
            for pair in self.record_range(lowest)?.take(limit) {
                let (key, stored) = pair?;
                let key = key.value();
                check_order(lowest <= key)?;
                lowest = key.saturating_add(1);
                found.push((format::record_revision(key)?, format::decode_record(key, stored.value())?));
            }
            Ok(found)
        })
    }

    fn rows(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>, LocalFault> {
        guarded(self.path(), "reading rows", || {
            let tag = format::table_tag(table);
            let mut found: Vec<(Bytes, Bytes)> = Vec::new();
            for pair in self.rows.range::<&[u8]>([tag].as_slice()..[tag + 1].as_slice())? {
                let (row_key, stored) = pair?;
                let value = format::check_row(row_key.value(), stored.value())?;
                let key = row_key.value().strip_prefix(&[tag]).ok_or_else(order_fault)?;
                check_order(found.last().is_none_or(|(last, _)| last < key))?;
                found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            }
            let expected = self.usage.rows_of(table);
            if found.len() as u64 != expected {
                let have = found.len();
                let fault = format!("table {table:?} has {have} rows where {expected} were stored");
                return Err(Failure::Fault(LocalFault::new(fault)));
            }
            Ok(found)
        })
    }

    fn applied(&self) -> Result<Option<AppliedPoint>, LocalFault> {
        Ok(self.applied.clone())
    }
}

/// Refuses a scan whose keys do not ascend.
pub(super) fn check_order(ascending: bool) -> Result<(), LocalFault> {
    if ascending { Ok(()) } else { Err(order_fault()) }
}

fn order_fault() -> LocalFault {
    LocalFault::new("a tree of the file is damaged: its keys do not ascend")
}
