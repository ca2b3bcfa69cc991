//! The database of one member: the key space's records and the small tables, in one file.
//!
//! ```text
//!   BackendBatch --> Storage::commit --> one transaction --> file
//!                         |
//!                         v
//!                     Snapshot  <-- reads, from any thread
//!                         |
//!                      Export -- chunks --> Import -- Storage::install --> another member's file
//! ```
//!
//! `commit` blocks for as long as the disk takes to make the batch durable; call it where blocking is
//! allowed. Reads block only when a page is not in memory.
//!
//! Invariants:
//! - after a crash the file holds exactly the batches of a prefix of the commits, among them every
//!   commit that returned; a batch's applied point is there if and only if its effects are;
//! - the applied index never goes back;
//! - a file that is missing is created, one that cannot be opened is corrupt: never is it taken for
//!   an empty database;
//! - this room does not know what a record or a row means.

mod blocks;
mod export;
mod file;
mod format;
mod guard;
mod import;
mod occupancy;
mod snapshot;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Durability, Table as OpenTable, WriteTransaction};

pub use export::{Export, Totals};
pub use import::{Import, ImportError, ImportedDatabase};
pub use snapshot::Snapshot;

use crate::disk::Disk;
use crate::planted::{self, Bug};
use crate::types::LocalFault;
use crate::types::backend::{AppliedPoint, BackendBatch};
use file::OpenDatabase;
use format::{META, META_APPLIED, META_FORMAT, META_USAGE, RECORDS, ROWS, Usage};
use guard::{Failure, guarded};

/// Default of [`StorageConfig::cache_bytes`]. Small, because the kernel caches the file as well and
/// the values that are read most are in memory already; half of it bounds unwritten pages of a commit.
pub const CACHE_BYTES: usize = 4 << 20;

/// What an operator may choose about a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// Whether opening reads the whole file and compares every page with its checksum. After a crash
    /// that happens anyway.
    pub verify_on_open: bool,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { cache_bytes: CACHE_BYTES, verify_on_open: true }
    }
}

/// What a commit leaves behind.
#[derive(Clone)]
pub struct Committed {
    /// The database with the batch in it.
    pub snapshot: Arc<Snapshot>,
    /// As [`Storage::size`].
    pub size: u64,
    /// As [`Storage::size_in_use`].
    pub size_in_use: u64,
}

/// An open database. One per file; it is the only writer.
pub struct Storage {
    database: Arc<OpenDatabase>,
    /// After the latest commit.
    latest: Arc<Snapshot>,
}

impl Storage {
    /// Opens the database at `path` and creates it when there is no such file. What an interrupted
    /// creation or import left beside it is removed.
    ///
    /// # Errors
    /// When the disk fails, the file is damaged, or its format is newer than this program's.
    pub fn open(disk: &dyn Disk, path: &Path, config: StorageConfig) -> Result<Storage, LocalFault> {
        let aside = creation_path(path);
        for leftover in [&aside, &import_path(path)] {
            file::remove_if_present(disk, leftover)?;
        }
        if !file::exists(disk, path)? {
            let database = OpenDatabase::create(disk, &aside, config)?;
            guarded(&aside, "creating the database", || {
                let write = begin_write(&database)?;
                initialise(&write)?;
                Ok(write.commit()?)
            })?;
            // Closing it is what marks the file as cleanly shut down.
            OpenDatabase::close(database)?;
            file::rename_durably(disk, &aside, path)?;
        } else {
            // A process that was killed may have put it in place and not come to make that durable.
            file::sync_name(disk, path)?;
        }
        Self::over(OpenDatabase::open(disk, path, path, config)?)
    }

    /// Puts the finished import at `aside` in the place of the database at `path`, and opens it. It is
    /// opened before it is renamed: what cannot be opened replaces nothing.
    ///
    /// Drop the replaced [`Storage`] before or after. Its snapshots stay readable: the file that they
    /// read lives until the last of them is dropped.
    ///
    /// # Errors
    /// As [`Storage::open`]. The rename is atomic: after a crash `path` is the old or the new database.
    pub fn install(
        disk: &dyn Disk,
        aside: &Path,
        path: &Path,
        config: StorageConfig,
    ) -> Result<Storage, LocalFault> {
        let storage = Self::over(OpenDatabase::open(disk, aside, path, config)?)?;
        file::rename_durably(disk, aside, path)?;
        Ok(storage)
    }

    fn over(database: Arc<OpenDatabase>) -> Result<Storage, LocalFault> {
        let latest =
            guarded(database.path(), "opening the database", || Snapshot::after_open(database.clone()))?;
        Ok(Storage { database, latest: Arc::new(latest) })
    }

    /// Commits a batch durably and as a whole, its applied point with it.
    ///
    /// # Errors
    /// When the disk fails, or when the batch would take the applied index back or is not in order.
    /// After a fault of the disk the database refuses everything: the member has to stop.
    pub fn commit(&mut self, batch: BackendBatch) -> Result<Committed, LocalFault> {
        if !batch.is_empty() {
            let latest = guarded(self.database.path(), "committing a batch", || self.write(&batch))?;
            self.latest = Arc::new(latest);
        }
        Ok(Committed { snapshot: self.latest.clone(), size: self.size(), size_in_use: self.size_in_use() })
    }

    /// The database after the latest commit.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.latest.clone()
    }

    /// Bytes of the file that are in use, or have been since it was opened and will be used again.
    /// The file itself may be up to twice as long, with a hole. A database that was opened without
    /// being verified counts as full.
    pub fn size(&self) -> u64 {
        self.database.size()
    }

    /// Bytes of what is stored now, with keys and the overhead of each pair. The rest of
    /// [`Storage::size`] is free, holds the trees, or is lost to the rounding of pages.
    pub fn size_in_use(&self) -> u64 {
        self.latest.usage().live_bytes.min(self.size())
    }

    fn write(&self, batch: &BackendBatch) -> Result<Snapshot, Failure> {
        let applied = self.next_applied(batch)?;
        if planted::is(Bug::AppliedIndexFirst) {
            self.write_applied(batch, self.latest.usage())?;
        }
        let write = begin_write(&self.database)?;
        let mut usage = *self.latest.usage();
        if !batch.records.is_empty() || !batch.removed_records.is_empty() {
            write_records(&mut write.open_table(RECORDS)?, batch, &mut usage)?;
        }
        if !batch.rows.is_empty() {
            write_rows(&mut write.open_table(ROWS)?, batch, &mut usage)?;
        }
        let with_effects = batch.applied.as_ref().filter(|_| !planted::is(Bug::AppliedIndexLast));
        write_meta(&write, with_effects, &usage)?;
        write.commit()?;
        if planted::is(Bug::AppliedIndexLast) {
            self.write_applied(batch, &usage)?;
        }
        Snapshot::after_commit(self.database.clone(), applied, usage)
    }

    /// Commits the applied point of a batch in a transaction of its own, which only planted bugs do.
    fn write_applied(&self, batch: &BackendBatch, usage: &Usage) -> Result<(), Failure> {
        let write = begin_write(&self.database)?;
        write_meta(&write, batch.applied.as_ref(), usage)?;
        Ok(write.commit()?)
    }

    /// The applied point after a batch; refuses one that goes back.
    fn next_applied(&self, batch: &BackendBatch) -> Result<Option<AppliedPoint>, LocalFault> {
        let current = self.latest.applied_point();
        let (Some(current), Some(next)) = (current, &batch.applied) else {
            return Ok(batch.applied.as_ref().or(current).cloned());
        };
        if next.index < current.index || next.term < current.term {
            return Err(LocalFault::new(format!(
                "the batch is applied up to index {} of term {}, the database up to {} of term {}",
                next.index, next.term, current.index, current.term
            )));
        }
        Ok(Some(next.clone()))
    }
}

/// Where an import for the database at `path` is to be gathered. [`Storage::open`] clears it.
pub fn import_path(path: &Path) -> PathBuf {
    with_suffix(path, ".import")
}

/// Where a new database comes into being before it gets its name.
fn creation_path(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn begin_write(database: &OpenDatabase) -> Result<WriteTransaction, Failure> {
    let mut write = database.begin_write()?;
    // The library's default, but everything rests on it.
    write.set_durability(Durability::Immediate).map_err(redb::Error::from).map_err(Failure::Database)?;
    Ok(write)
}

/// Makes the tables of a new database, with the format version in them.
fn initialise(write: &WriteTransaction) -> Result<(), Failure> {
    write.open_table(RECORDS)?;
    write.open_table(ROWS)?;
    let version = format::FORMAT_VERSION.to_le_bytes();
    write.open_table(META)?.insert(META_FORMAT, format::encode_meta(META_FORMAT, &version).as_slice())?;
    write_meta(write, None, &Usage::default())
}

fn write_records(
    table: &mut OpenTable<'_, u128, &'static [u8]>,
    batch: &BackendBatch,
    usage: &mut Usage,
) -> Result<(), Failure> {
    let mut stored = Vec::new();
    let mut lowest = 0;
    for (revision, record) in &batch.records {
        let key = format::record_key(*revision)?;
        if key < lowest {
            let fault = format!("revision {revision} of the batch is not above the one before it");
            return Err(Failure::Fault(LocalFault::new(fault)));
        }
        lowest = key + 1;
        format::encode_record(key, record, &mut stored);
        let old = table.insert(key, stored.as_slice())?.map(|old| old.value().len());
        usage.record_changed(old, Some(stored.len()));
    }
    for revision in &batch.removed_records {
        let old = table.remove(format::record_key(*revision)?)?.map(|old| old.value().len());
        usage.record_changed(old, None);
    }
    Ok(())
}

fn write_rows(
    table: &mut OpenTable<'_, &'static [u8], &'static [u8]>,
    batch: &BackendBatch,
    usage: &mut Usage,
) -> Result<(), Failure> {
    for (owner, key, value) in &batch.rows {
        let row_key = format::row_key(*owner, key);
        let stored = value.as_ref().map(|value| format::encode_row(&row_key, value));
        let old = match &stored {
            Some(stored) => table.insert(row_key.as_slice(), stored.as_slice())?,
            None => table.remove(row_key.as_slice())?,
        };
        let old = old.map(|old| old.value().len());
        usage.row_changed(*owner, row_key.len(), old, stored.as_ref().map(Vec::len));
    }
    Ok(())
}

fn write_meta(
    write: &WriteTransaction,
    applied: Option<&AppliedPoint>,
    usage: &Usage,
) -> Result<(), Failure> {
    let mut meta = write.open_table(META)?;
    let mut put = |name: &str, content: &[u8]| -> Result<(), Failure> {
        meta.insert(name, format::encode_meta(name, content).as_slice())?;
        Ok(())
    };
    put(META_USAGE, &usage.encode())?;
    applied.map_or(Ok(()), |applied| put(META_APPLIED, &format::encode_applied(applied)))
}
