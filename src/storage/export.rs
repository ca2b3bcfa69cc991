//! A whole database as a stream of chunks, for a member that lags too far behind the log.
//!
//! ```text
//!   stream = head, rows by table and key, records by revision, applied point, trailer   (frames)
//!   chunk  = number | whole frames | CRC-32C of the chunk before and of this one
//! ```
//!
//! Rows and records travel with the checksums that they are stored with, so the receiver checks the
//! very bytes that the sender's database was given. See the chapter "Backend" of docs/formats.md.
//!
//! Invariants:
//! - an export shows one snapshot, whatever is committed meanwhile, and holds no more than a chunk
//!   and a frame in memory;
//! - it ends with a trailer only if it carried as much as was ever stored.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use redb::Range;

use super::Snapshot;
use super::format;
use super::guard::{Failure, guarded};
use super::snapshot::check_order;
use crate::types::LocalFault;

/// Version of the stream; a receiver refuses another.
pub(super) const STREAM_VERSION: u32 = 1;
/// First bytes of a stream.
pub(super) const STREAM_MAGIC: [u8; 8] = *b"detcdexp";

/// Bytes of a chunk before its frames: its number, from 0.
pub(super) const CHUNK_HEAD_LEN: usize = 8;
/// Bytes of a chunk behind its frames: the running checksum.
pub(super) const CHUNK_TAIL_LEN: usize = 4;

/// Kinds of frames, in the order in which they come.
pub(super) const FRAME_HEAD: u8 = 1;
pub(super) const FRAME_ROW: u8 = 2;
pub(super) const FRAME_RECORD: u8 = 3;
pub(super) const FRAME_APPLIED: u8 = 4;
pub(super) const FRAME_TRAILER: u8 = 5;

/// How much an export carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows of all tables.
    pub rows: u64,
    /// Records.
    pub records: u64,
    /// Bytes of their keys and stored values.
    pub bytes: u64,
}

/// Gives out a snapshot chunk by chunk.
pub struct Export {
    snapshot: Arc<Snapshot>,
    stage: Stage,
    /// A frame that did not fit into the last chunk.
    pending: Vec<u8>,
    next_number: u64,
    checksum: u32,
    totals: Totals,
}

/// What comes next.
enum Stage {
    Head,
    Rows(Range<'static, &'static [u8], &'static [u8]>),
    Records { range: Range<'static, u128, &'static [u8]>, lowest: u128 },
    Applied,
    Trailer,
    Done,
}

impl Export {
    /// An export of this snapshot. It keeps the snapshot until it is dropped.
    pub fn new(snapshot: Arc<Snapshot>) -> Export {
        Export {
            snapshot,
            stage: Stage::Head,
            pending: Vec::new(),
            next_number: 0,
            checksum: 0,
            totals: Totals::default(),
        }
    }

    /// The next chunk, `None` after the last. It has at most `max_bytes` bytes, unless a single
    /// frame needs more. The receiver must be given the chunks as they are, one by one.
    ///
    /// # Errors
    /// When the disk fails or what is stored is damaged; the export cannot go on then.
    pub fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, LocalFault> {
        let snapshot = self.snapshot.clone();
        guarded(snapshot.path(), "exporting the database", || self.fill_chunk(max_bytes))
    }

    fn fill_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, Failure> {
        let mut chunk = Vec::new();
        chunk.put_u64_le(self.next_number);
        chunk.append(&mut self.pending);
        loop {
            let frame_start = chunk.len();
            if !self.append_frame(&mut chunk)? {
                break;
            }
            if chunk.len() + CHUNK_TAIL_LEN > max_bytes && frame_start > CHUNK_HEAD_LEN {
                self.pending = chunk.split_off(frame_start);
                break;
            }
        }
        if chunk.len() == CHUNK_HEAD_LEN {
            return Ok(None);
        }
        self.checksum = crc32c::crc32c_append(self.checksum, &chunk);
        self.next_number += 1;
        chunk.put_u32_le(self.checksum);
        Ok(Some(chunk.into()))
    }

    /// Appends the next frame; `false` when there is none.
    fn append_frame(&mut self, out: &mut Vec<u8>) -> Result<bool, Failure> {
        loop {
            match &mut self.stage {
                Stage::Head => {
                    out.put_u8(FRAME_HEAD);
                    out.put_slice(&STREAM_MAGIC);
                    out.put_u32_le(STREAM_VERSION);
                    self.stage = Stage::Rows(self.snapshot.row_range()?);
                    return Ok(true);
                }
                Stage::Rows(range) => {
                    if let Some(pair) = range.next() {
                        let (row_key, stored) = pair?;
                        self.totals.rows += 1;
                        append_row(row_key.value(), stored.value(), &mut self.totals, out)?;
                        return Ok(true);
                    }
                    let expected = self.snapshot.usage().rows.iter().sum();
                    check_count("rows", self.totals.rows, expected)?;
                    self.stage = Stage::Records { range: self.snapshot.record_range(0)?, lowest: 0 };
                }
                Stage::Records { range, lowest } => {
                    if let Some(pair) = range.next() {
                        let (key, stored) = pair?;
                        let key = key.value();
                        check_order(*lowest <= key)?;
                        *lowest = key.saturating_add(1);
                        self.totals.records += 1;
                        append_record(key, stored.value(), &mut self.totals, out)?;
                        return Ok(true);
                    }
                    check_count("records", self.totals.records, self.snapshot.usage().records)?;
                    self.stage = Stage::Applied;
                }
                Stage::Applied => {
                    self.stage = Stage::Trailer;
                    if let Some(applied) = self.snapshot.applied_point() {
                        out.put_u8(FRAME_APPLIED);
                        put_sized(&format::encode_applied(applied), out);
                        return Ok(true);
                    }
                }
                Stage::Trailer => {
                    out.put_u8(FRAME_TRAILER);
                    for total in [self.totals.rows, self.totals.records, self.totals.bytes] {
                        out.put_u64_le(total);
                    }
                    self.stage = Stage::Done;
                    return Ok(true);
                }
                Stage::Done => return Ok(false),
            }
        }
    }
}

fn append_row(
    row_key: &[u8],
    stored: &[u8],
    totals: &mut Totals,
    out: &mut Vec<u8>,
) -> Result<(), LocalFault> {
    format::check_row(row_key, stored)?;
    totals.bytes += (row_key.len() + stored.len()) as u64;
    out.put_u8(FRAME_ROW);
    put_sized(row_key, out);
    put_sized(stored, out);
    Ok(())
}

fn append_record(key: u128, stored: &[u8], totals: &mut Totals, out: &mut Vec<u8>) -> Result<(), LocalFault> {
    format::check_record(key, stored)?;
    totals.bytes += (size_of::<u128>() + stored.len()) as u64;
    out.put_u8(FRAME_RECORD);
    out.put_u128_le(key);
    put_sized(stored, out);
    Ok(())
}

/// Bytes behind their length. The database stores nothing longer than 3 GiB.
fn put_sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

fn check_count(what: &str, found: u64, expected: u64) -> Result<(), LocalFault> {
    if found == expected {
        return Ok(());
    }
    Err(LocalFault::new(format!("{found} {what} were found where {expected} were stored")))
}
