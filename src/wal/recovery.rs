//! Opening a log: reads every segment, and tells the torn tail of a crash from damage.
//!
//! The argument stands in the essay of [`super`]; here is the procedure for a place that does not hold
//! the batch that is due:
//!
//! ```text
//!   not the last segment, or its first batch?       -> refuse: it was synced before the next was begun
//!   a batch header of this segment further behind?  -> refuse: it was synced before that was written
//!   the end of the file?                            -> refuse: there was an end mark behind every batch
//!   zeros?                                          -> the end, nothing was there
//!   anything else                                   -> torn tail: fill with zeros, say so
//! ```
//!
//! Nothing is written before everything has been read and found whole.

use std::path::PathBuf;
use std::sync::Arc;

use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, Position, Record, SECTOR, SegmentHeader, decode_records,
};
use super::replay::Replay;
use super::segments::{Folder, Segment, fault, write_zeros};
use super::{Recovered, Repair};
use crate::disk::{File, OpenMode, SECTOR_BYTES};
use crate::planted::{self, Bug};
use crate::types::LocalFault;

/// Bytes read from a segment at a time.
const WINDOW_BYTES: u64 = 1 << 20;

/// A log that has been read.
pub(super) struct Recovery {
    pub recovered: Recovered,
    pub segments: Vec<Segment>,
    /// The last segment's file, for writing.
    pub file: Arc<dyn File>,
    /// Where the next batch goes.
    pub position: Position,
}

/// Reads the log that consists of these segments.
pub(super) fn recover(folder: &Folder, mut segments: Vec<Segment>) -> Result<Recovery, LocalFault> {
    // What a killed process wrote may be read without being durable. It is made so before anybody acts
    // on it: the names here, the last batch below.
    folder.sync()?;
    let mut readers = open_readers(folder, &mut segments)?;
    let mut replay = Replay::default();
    let mut end: Option<Position> = None;
    for at in 0..readers.len() {
        if let Some(end) = &end {
            readers[at].check_continues(end)?;
        }
        let synced_to = readers.get(at + 1).map(|next| next.header.previous_end);
        end = Some(readers[at].read(&mut replay, &mut segments[at], synced_to)?);
    }
    let (Some(mut last), Some(position)) = (readers.pop(), end) else {
        return Err(LocalFault::new(format!(
            "write-ahead log: there is no segment in {}",
            folder.dir.display()
        )));
    };
    let mut recovered = replay.finish().map_err(|reason| last.damaged(SECTOR_BYTES, &reason))?;
    let open = folder.disk.open(&last.path, OpenMode::ReadWrite);
    let file = open.map_err(|error| fault("open", &last.path, error))?;
    recovered.repaired = last.repair(&*file, &position)?;
    Ok(Recovery { recovered, segments, file, position })
}

/// Opens the segments and reads their headers. They must follow one another.
fn open_readers(folder: &Folder, segments: &mut [Segment]) -> Result<Vec<Reader>, LocalFault> {
    let mut readers = Vec::with_capacity(segments.len());
    let count = segments.len();
    let mut due = None;
    for (at, segment) in segments.iter_mut().enumerate() {
        let reader = Reader::open(folder, segment, at + 1 == count)?;
        let due = due.replace(segment.sequence + 1).unwrap_or(segment.sequence);
        if segment.sequence != due {
            return Err(reader.damaged(0, &format!("segment {due:016x}, which comes before it, is gone")));
        }
        readers.push(reader);
    }
    Ok(readers)
}

/// What stands where a batch is due.
enum Found {
    Batch(Vec<Record>, Position),
    /// No batch, for this reason.
    Nothing(&'static str),
}

/// Reads one segment.
struct Reader {
    path: PathBuf,
    file: Arc<dyn File>,
    header: SegmentHeader,
    length: u64,
    /// A part of the file, and where it begins.
    window: Vec<u8>,
    window_start: u64,
}

impl Reader {
    fn open(folder: &Folder, segment: &mut Segment, is_last: bool) -> Result<Self, LocalFault> {
        let path = folder.path(&segment.file_name());
        let open = folder.disk.open(&path, OpenMode::Read);
        let file = open.map_err(|error| fault("open", &path, error))?;
        if is_last {
            file.sync_data().map_err(|error| fault("sync", &path, error))?;
        }
        segment.length = file.len().map_err(|error| fault("open", &path, error))?;
        let header = SegmentHeader { sequence: 0, first_index: 0, first_batch: 0, previous_end: 0, chain: 0 };
        let length = segment.length;
        let mut reader = Self { path, file, header, length, window: Vec::new(), window_start: 0 };

        let sector = if length < SECTOR_BYTES { &[] } else { reader.bytes(0, SECTOR)? };
        let header = SegmentHeader::decode(sector).map_err(|reason| reader.damaged(0, &reason))?;
        if (header.sequence, header.first_index) != (segment.sequence, segment.first_index) {
            return Err(reader.damaged(0, "the segment header is that of another segment"));
        }
        reader.header = header;
        Ok(reader)
    }

    /// Checks that this segment begins where the one before ended.
    fn check_continues(&self, end: &Position) -> Result<(), LocalFault> {
        let header = &self.header;
        if (header.previous_end, header.first_batch, header.chain) == (end.offset, end.number, end.chain) {
            return Ok(());
        }
        Err(self.damaged(0, "the segment does not continue the one before it"))
    }

    /// Reads the batches of the segment and gives where the next would go. When it is known up to where
    /// the segment was synced, everything up to there must be found.
    fn read(
        &mut self,
        replay: &mut Replay,
        segment: &mut Segment,
        synced_to: Option<u64>,
    ) -> Result<Position, LocalFault> {
        let mut position = Position::first(self.header);
        while synced_to.is_none_or(|end| position.offset < end) {
            let first = position.offset == SECTOR_BYTES;
            let (records, next) = match self.batch_at(&position)? {
                Found::Batch(records, next) => (records, next),
                Found::Nothing(reason) => {
                    if first || synced_to.is_some() {
                        return Err(self.damaged(position.offset, reason));
                    }
                    self.check_is_tail(&position, reason)?;
                    break;
                }
            };
            let outcome = if first {
                replay.begin_segment(self.header.first_index, &records)
            } else {
                records.into_iter().try_for_each(|record| {
                    let index = replay.apply(record)?;
                    segment.max_index = segment.max_index.max(index.unwrap_or(0));
                    Ok(())
                })
            };
            outcome.map_err(|reason: String| self.damaged(position.offset, &reason))?;
            position = next;
        }
        if synced_to.is_some() {
            self.check_ends(&position)?;
        }
        Ok(position)
    }

    /// Makes sure that a segment ends where the next one says. That one's header may be what an attempt to
    /// begin it has left, if the write of the true one was lost.
    fn check_ends(&mut self, end: &Position) -> Result<(), LocalFault> {
        let segment = self.header;
        if end.offset + SECTOR_BYTES > self.length {
            return Err(self.damaged(end.offset, "the file ends before the log does"));
        }
        match BatchHeader::decode(self.bytes(end.offset, SECTOR)?, &segment, end.offset) {
            Some(_) => Err(self.damaged(end.offset, "a batch follows where the next segment goes on")),
            None => Ok(()),
        }
    }

    /// Reads the batch that is due at a position.
    fn batch_at(&mut self, at: &Position) -> Result<Found, LocalFault> {
        if at.offset + SECTOR_BYTES > self.length {
            return Err(self.damaged(at.offset, "the file ends before the log does"));
        }
        let segment = self.header;
        let sector = self.bytes(at.offset, SECTOR)?;
        let Some((header, chain)) = BatchHeader::decode(sector, &segment, at.offset) else {
            return Ok(Found::Nothing("there is no valid batch header"));
        };
        // A whole header in its place that is out of order is no trace of a crash.
        let follows = (header.number, header.previous) == (at.number, at.chain);
        if !follows && !planted::is(Bug::RecycledTailAccepted) {
            return Err(self.damaged(at.offset, "the batch does not follow the one before it"));
        }
        let size = BATCH_HEADER_BYTES + header.length as usize;
        if at.offset + size as u64 > self.length {
            return Err(self.damaged(at.offset, "the batch is longer than the file"));
        }
        let payload = &self.bytes(at.offset, size)?[BATCH_HEADER_BYTES..];
        if crc32c::crc32c(payload) != header.payload_checksum {
            return Ok(Found::Nothing("the checksum of the batch does not match"));
        }
        match decode_records(payload) {
            Some(records) => Ok(Found::Batch(records, at.after(header.length as usize, chain))),
            None => Err(self.damaged(at.offset, "the batch is intact but holds unknown records")),
        }
    }

    /// Makes sure that a place without a valid batch was never synced: nothing was written after it.
    fn check_is_tail(&mut self, at: &Position, reason: &str) -> Result<(), LocalFault> {
        if planted::is(Bug::DamageTakenForTornTail) {
            return Ok(());
        }
        let segment = self.header;
        let mut offset = at.offset + SECTOR_BYTES;
        while offset + SECTOR_BYTES <= self.length {
            if BatchHeader::decode(self.bytes(offset, SECTOR)?, &segment, offset).is_some() {
                let evidence = format!("{reason}, but it was durable: a batch at offset {offset} follows it");
                return Err(self.damaged(at.offset, &evidence));
            }
            offset += SECTOR_BYTES;
        }
        Ok(())
    }

    /// Fills everything behind the end with zeros when there is a torn batch.
    fn repair(&mut self, file: &dyn File, end: &Position) -> Result<Option<Repair>, LocalFault> {
        let length = self.length;
        let rest = length.saturating_sub(end.offset);
        let sector = self.bytes(end.offset, rest.min(SECTOR_BYTES) as usize)?;
        if sector.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        write_zeros(file, end.offset, length)
            .and_then(|()| file.sync_data())
            .map_err(|error| fault("repair", &self.path, error))?;
        Ok(Some(Repair { file: self.path.clone(), offset: end.offset, bytes: rest }))
    }

    /// Bytes of the file, which must have them.
    fn bytes(&mut self, offset: u64, count: usize) -> Result<&[u8], LocalFault> {
        let end = offset + count as u64;
        if offset < self.window_start || end > self.window_start + self.window.len() as u64 {
            let size = (count as u64).max(WINDOW_BYTES.min(self.length.saturating_sub(offset)));
            self.window.resize(size as usize, 0);
            self.window_start = offset;
            if let Err(error) = self.file.read_at(offset, &mut self.window) {
                self.window.clear();
                return Err(self.damaged(offset, &format!("it cannot be read: {error}")));
            }
        }
        let from = (offset - self.window_start) as usize;
        Ok(&self.window[from..from + count])
    }

    fn damaged(&self, offset: u64, reason: &str) -> LocalFault {
        let path = self.path.display();
        LocalFault::new(format!("write-ahead log: {path} at offset {offset}: {reason}"))
    }
}
