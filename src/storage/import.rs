//! The receiving end of an [`Export`](super::Export): a new database beside the one in use.
//!
//! Everything goes into one transaction, so that an import is there as a whole or not at all; an
//! interrupted one leaves a file that the next [`Storage::open`](super::Storage::open) removes.
//!
//! Invariants:
//! - a chunk that is damaged, missing, repeated or out of order is refused, and so is everything
//!   after it;
//! - an import without the trailer, or with other totals than the trailer's, is never installed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::WriteTransaction;

use super::export::{
    CHUNK_HEAD_LEN, CHUNK_TAIL_LEN, FRAME_APPLIED, FRAME_HEAD, FRAME_RECORD, FRAME_ROW, FRAME_TRAILER,
    STREAM_MAGIC, STREAM_VERSION, Totals,
};
use super::file::{self, OpenDatabase};
use super::format::{self, RECORDS, ROWS, Reader, Usage};
use super::guard::{Failure, guarded};
use super::{StorageConfig, begin_write, initialise, write_meta};
use crate::disk::Disk;
use crate::planted::{self, Bug};
use crate::types::LocalFault;
use crate::types::backend::{AppliedPoint, Table};

/// Why an import does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportError {
    /// What arrived is not what was sent. Throw the import away and ask for another.
    Refused(String),
    /// This member's disk failed.
    Local(LocalFault),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Refused(why) => write!(f, "the received database is refused: {why}"),
            ImportError::Local(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {}

impl From<LocalFault> for ImportError {
    fn from(fault: LocalFault) -> Self {
        ImportError::Local(fault)
    }
}

/// A database that is being received.
pub struct Import {
    write: WriteTransaction,
    database: Arc<OpenDatabase>,
    /// Number of the chunk that must come next; none once something was refused.
    next_number: Option<u64>,
    checksum: u32,
    received: Received,
}

/// A whole received database, closed and durable, ready for
/// [`Storage::install`](super::Storage::install).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedDatabase {
    path: PathBuf,
    applied: Option<AppliedPoint>,
    totals: Totals,
}

impl ImportedDatabase {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far the log was applied in it.
    pub fn applied(&self) -> Option<&AppliedPoint> {
        self.applied.as_ref()
    }

    /// How much it holds.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

impl Import {
    /// Starts an import into a new file at `path`, best [`import_path`](super::import_path); a file
    /// that is there is the rest of an older import and is removed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin(disk: &dyn Disk, path: &Path, config: StorageConfig) -> Result<Import, LocalFault> {
        file::remove_if_present(disk, path)?;
        let database = OpenDatabase::create(disk, path, config)?;
        let write = guarded(path, "beginning an import", || {
            let write = begin_write(&database)?;
            initialise(&write)?;
            Ok(write)
        })?;
        Ok(Import { write, database, next_number: Some(0), checksum: 0, received: Received::default() })
    }

    /// Takes the next chunk of the export.
    ///
    /// # Errors
    /// [`ImportError::Refused`] when it is not the chunk that was sent next; from then on every call
    /// is refused. [`ImportError::Local`] when the disk fails.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), ImportError> {
        let Some(number) = self.next_number.take() else {
            return Err(ImportError::Refused("an earlier chunk was refused".into()));
        };
        let (frames, checksum) = open_chunk(chunk, number, self.checksum).map_err(ImportError::Refused)?;
        let (received, write) = (&mut self.received, &self.write);
        guarded(self.database.path(), "importing a chunk", || received.take_frames(frames, write))?
            .map_err(ImportError::Refused)?;
        self.checksum = checksum;
        self.next_number = Some(number + 1);
        Ok(())
    }

    /// Makes the import durable once its last chunk was taken.
    ///
    /// # Errors
    /// [`ImportError::Refused`] when chunks are missing, [`ImportError::Local`] when the disk fails.
    pub fn finish(self) -> Result<ImportedDatabase, ImportError> {
        let Import { write, database, next_number, received, .. } = self;
        if next_number.is_none() || received.last_kind != FRAME_TRAILER {
            return Err(ImportError::Refused("it is not complete".into()));
        }
        let path = database.path().to_path_buf();
        guarded(&path, "committing an import", || {
            write_meta(&write, received.applied.as_ref(), &received.usage)?;
            Ok(write.commit()?)
        })?;
        OpenDatabase::close(database)?;
        Ok(ImportedDatabase { path, applied: received.applied, totals: received.totals })
    }
}

/// The frames of a chunk and the checksum up to it, or why it is refused.
fn open_chunk(chunk: &[u8], expected_number: u64, checksum: u32) -> Result<(&[u8], u32), String> {
    let short = || format!("a chunk has only {} bytes", chunk.len());
    let (content, tail) = chunk.split_last_chunk::<CHUNK_TAIL_LEN>().ok_or_else(short)?;
    let (head, frames) = content.split_first_chunk::<CHUNK_HEAD_LEN>().ok_or_else(short)?;
    let number = u64::from_le_bytes(*head);
    if number != expected_number {
        return Err(format!("chunk {number} came where chunk {expected_number} was due"));
    }
    let checksum = crc32c::crc32c_append(checksum, content);
    if checksum != u32::from_le_bytes(*tail) {
        return Err(format!("chunk {number} does not have its checksum"));
    }
    Ok((frames, checksum))
}

/// What has arrived so far, and what may therefore come next.
#[derive(Default)]
struct Received {
    last_kind: u8,
    last_row_key: Vec<u8>,
    /// Lowest key that the next record may have.
    lowest_key: u128,
    applied: Option<AppliedPoint>,
    usage: Usage,
    totals: Totals,
}

impl Received {
    /// Stores the frames of a chunk. The inner result says why they are refused.
    fn take_frames(
        &mut self,
        frames: &[u8],
        write: &WriteTransaction,
    ) -> Result<Result<(), String>, Failure> {
        let mut records = write.open_table(RECORDS)?;
        let mut rows = write.open_table(ROWS)?;
        let mut reader = Reader(frames);
        while !reader.is_empty() {
            match self.next_frame(&mut reader) {
                Ok(Frame::Row { row_key, .. })
                    if planted::is(Bug::SnapshotWithoutLeases)
                        && format::table_of_tag(row_key[0]) == Some(Table::Lease) => {}
                Ok(Frame::Row { row_key, stored }) => drop(rows.insert(row_key, stored)?),
                Ok(Frame::Record { key, stored }) => drop(records.insert(key, stored)?),
                Ok(Frame::Other) => (),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(()))
    }

    /// Takes one frame off the reader, checks it against what came before and counts it.
    fn next_frame<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Frame<'a>, String> {
        let cut = || "a frame is cut short".to_string();
        let kind = reader.u8().ok_or_else(cut)?;
        let repeated = matches!(kind, FRAME_ROW | FRAME_RECORD) && kind == self.last_kind;
        if !repeated && kind <= self.last_kind || self.last_kind == 0 && kind != FRAME_HEAD {
            return Err(format!("a frame of kind {kind} came after one of kind {}", self.last_kind));
        }
        self.last_kind = kind;
        match kind {
            FRAME_HEAD => {
                check_head(reader)?;
                Ok(Frame::Other)
            }
            FRAME_ROW => {
                let (row_key, stored) = (reader.sized().ok_or_else(cut)?, reader.sized().ok_or_else(cut)?);
                self.count_row(row_key, stored)?;
                Ok(Frame::Row { row_key, stored })
            }
            FRAME_RECORD => {
                let (key, stored) = (reader.u128().ok_or_else(cut)?, reader.sized().ok_or_else(cut)?);
                self.count_record(key, stored)?;
                Ok(Frame::Record { key, stored })
            }
            FRAME_APPLIED => {
                let content = reader.sized().ok_or_else(cut)?;
                let applied = format::decode_applied(content).ok_or("its applied point is malformed")?;
                self.applied = Some(applied);
                Ok(Frame::Other)
            }
            FRAME_TRAILER => {
                let mut total = || reader.u64().ok_or_else(cut);
                let sent = Totals { rows: total()?, records: total()?, bytes: total()? };
                if sent != self.totals {
                    return Err(format!("{:?} arrived where {sent:?} were sent", self.totals));
                }
                Ok(Frame::Other)
            }
            _ => Err(format!("a frame has the unknown kind {kind}")),
        }
    }

    fn count_row(&mut self, row_key: &[u8], stored: &[u8]) -> Result<(), String> {
        format::check_row(row_key, stored).map_err(|fault| fault.to_string())?;
        let table = row_key.first().and_then(|tag| format::table_of_tag(*tag));
        let table = table.ok_or("a row is of no known table")?;
        if row_key <= self.last_row_key.as_slice() {
            return Err("rows do not ascend".into());
        }
        self.last_row_key = row_key.to_vec();
        self.usage.row_changed(table, row_key.len(), None, Some(stored.len()));
        self.totals.rows += 1;
        self.totals.bytes += (row_key.len() + stored.len()) as u64;
        Ok(())
    }

    fn count_record(&mut self, key: u128, stored: &[u8]) -> Result<(), String> {
        format::record_revision(key).map_err(|fault| fault.to_string())?;
        format::check_record(key, stored).map_err(|fault| fault.to_string())?;
        if key < self.lowest_key {
            return Err("records do not ascend".into());
        }
        self.lowest_key = key + 1;
        self.usage.record_changed(None, Some(stored.len()));
        self.totals.records += 1;
        self.totals.bytes += (size_of::<u128>() + stored.len()) as u64;
        Ok(())
    }
}

/// A frame that was found good.
enum Frame<'a> {
    Row { row_key: &'a [u8], stored: &'a [u8] },
    Record { key: u128, stored: &'a [u8] },
    Other,
}

fn check_head(reader: &mut Reader<'_>) -> Result<(), String> {
    if reader.take(STREAM_MAGIC.len()) != Some(STREAM_MAGIC.as_slice()) {
        return Err("it is no export of a database".into());
    }
    match reader.u32() {
        Some(STREAM_VERSION) => Ok(()),
        other => Err(format!("its format is {other:?}; this version reads format {STREAM_VERSION}")),
    }
}
