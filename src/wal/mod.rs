//! The write-ahead log: what a member has promised, durable before anybody is told.
//!
//! It keeps raft's entries, hard state and snapshot points without knowing what they mean. The owner
//! appends what it has gathered and flushes: one write and one sync for all of it, a *batch*.
//!
//! ```text
//!   segment n                                                    segment n+1
//!   +--------+---------+---------+---------+------+-----------+  +--------+---------+----
//!   | header | batch 7 | batch 8 | batch 9 | zero | void      |  | header | batch 10|
//!   +--------+---------+---------+---------+------+-----------+  +--------+---------+----
//!             carried   ^         ^           ^    ^                       carried
//!             state     |         |           |    zeros, or what the file held in an earlier use
//!                       |         |           end mark: part of the write of batch 9
//!                       whole sectors; a header with number, offset and the checksum of batch 7
//! ```
//!
//! Segments are written once with zeros and then used again and again, so that a sync changes no
//! metadata of the file system. Each begins with all that held before it (metadata, snapshot point, hard
//! state): segments in front of it can go.
//!
//! # Torn tail or damage?
//!
//! After a crash the last batch may be there in part: its sectors reach the medium in any order. That
//! batch was never acknowledged and is cut off. Anything else that is unreadable was promised to
//! somebody, and a member that forgets it may vote twice or lose a write: the log refuses to open.
//! What tells the two apart:
//!
//! 1. Batch n+1 is written only after batch n has been synced, and a segment is begun only after all
//!    batches of the one before. So at any time at most one batch is not durable, and it is the last.
//! 2. A batch begins with its header, which lies in one sector, has a checksum of its own and names its
//!    segment, its offset and its number. It proves itself without anything before it being readable.
//! 3. Hence a valid header behind a damaged place proves that the place was durable: damage. A batch has
//!    one header, so the parts of a torn batch never look like such a proof.
//! 4. What a recycled file held before names another segment and proves nothing. Checksums of headers
//!    start from the chain at the beginning of the segment, which values that clients choose cannot know.
//! 5. Every batch is written with a sector of zeros behind it, which the next one overwrites. Where the
//!    log ends there are thus zeros, even in a recycled file; anything else there is the torn batch.
//!
//! What is left: damage in the very last batch looks like a crash while it was written. It is cut off and
//! reported in [`Recovered::repaired`]. [`Wal::seal`] writes an empty batch after it, the proof that it
//! was durable; it is called when a server stops, and may be when it is idle.
//!
//! # Invariants
//! - what [`Wal::flush`] has confirmed is given back by [`Wal::open`], or that fails;
//! - a batch is given back whole or not at all, and nothing that was not appended is given back;
//! - what `open` gives back is durable;
//! - no write touches a sector that holds something durable;
//! - after an error nothing is written any more: a failed sync is never tried again.

mod format;
mod recovery;
mod replay;
mod segments;
mod terms;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, File, SECTOR_BYTES};
use crate::planted::{self, Bug};
use crate::types::LocalFault;
use crate::types::log::{HardState, LogEntry, SnapshotPoint};
use format::{BATCH_HEADER_BYTES, MAX_PAYLOAD_BYTES, Position, SECTOR, SegmentHeader};
use recovery::Recovery;
use segments::{Folder, Segment, fault};
use terms::Terms;

/// Size of a segment file unless configured otherwise.
pub const DEFAULT_SEGMENT_BYTES: u64 = 32 << 20;
/// Unneeded segments that are kept for reuse unless configured otherwise.
pub const DEFAULT_SPARE_SEGMENTS: usize = 1;
/// Memory that the batch buffer keeps from one flush to the next.
const KEPT_BUFFER_BYTES: usize = 4 << 20;

/// Settings of a log. They may differ each time that it is opened.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// Size of a segment file in bytes, rounded up to whole sectors. A batch that needs more gets a
    /// segment of its own size.
    pub segment_bytes: u64,
    /// Most segments that are kept for reuse when they are no longer needed; others are removed.
    pub spare_segments: usize,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self { segment_bytes: DEFAULT_SEGMENT_BYTES, spare_segments: DEFAULT_SPARE_SEGMENTS }
    }
}

/// What is appended together and becomes durable together. It takes effect in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalBatch {
    /// The backend holds everything up to this point. If the log has an entry of that index and term,
    /// those after it stay; otherwise (a snapshot was installed) the log begins anew after the point.
    pub snapshot: Option<SnapshotPoint>,
    /// Entries with consecutive indexes, which replace those from the first of them on.
    pub entries: Vec<LogEntry>,
    /// The new hard state.
    pub hard_state: Option<HardState>,
}

/// What a flush has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushStats {
    /// Bytes written for the batch, 0 when there was nothing to flush.
    pub bytes: u64,
    /// Whether a new segment was begun.
    pub rolled: bool,
}

/// What was found in a log when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// As given to [`Wal::create`].
    pub metadata: Bytes,
    /// The last hard state.
    pub hard_state: HardState,
    /// The last snapshot point.
    pub snapshot: SnapshotPoint,
    /// The entries after the snapshot point, without gaps.
    pub entries: Vec<LogEntry>,
    /// Set when a batch that a crash had torn was cut off. Worth a warning: see the essay above.
    pub repaired: Option<Repair>,
}

/// Where a torn batch was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The segment.
    pub file: PathBuf,
    /// Where the torn batch began.
    pub offset: u64,
    /// Bytes filled with zeros from there, to the end of the segment.
    pub bytes: u64,
}

/// The state that a segment carries over from those before it.
#[derive(Clone, Debug, Default)]
struct Carried {
    hard_state: HardState,
    snapshot: SnapshotPoint,
    last_index: u64,
}

/// An open log, owned by the one who writes it. All methods but [`Wal::append`] block on the disk.
pub struct Wal {
    folder: Folder,
    metadata: Bytes,
    /// In order; the last is being written.
    segments: Vec<Segment>,
    file: Arc<dyn File>,
    position: Position,
    /// As of the last flush.
    durable: Carried,
    /// With what has been appended since.
    appended: Carried,
    terms: Terms,
    /// The next batch, without its header.
    buffer: Vec<u8>,
    buffer_max_index: u64,
    failed: Option<LocalFault>,
}

impl Wal {
    /// Whether a log has been created in a folder.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, LocalFault> {
        let missing = !disk.exists(dir).map_err(|error| fault("look for", dir, error))?;
        if missing {
            return Ok(false);
        }
        let names = disk.list(dir).map_err(|error| fault("list", dir, error))?;
        Ok(names.iter().any(|name| Segment::from_file_name(name).is_some()))
    }

    /// Makes an empty log in a folder, which is created if need be. It exists whole or not at all: a crash
    /// on the way leaves a folder in which it can be tried again. `metadata` is given back on every open.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: WalConfig,
        metadata: Bytes,
    ) -> Result<Wal, LocalFault> {
        disk.create_dir(dir).map_err(|error| fault("create", dir, error))?;
        let (mut folder, segments) = Folder::open(disk, dir, rounded(config))?;
        if !segments.is_empty() {
            return Err(LocalFault::new(format!("write-ahead log: there is one in {}", dir.display())));
        }
        let carried = Carried::default();
        let header = SegmentHeader {
            sequence: 1,
            first_index: 1,
            first_batch: 1,
            previous_end: 0,
            chain: crc32c::crc32c(&metadata),
        };
        let (segment, file, position) = begin_segment(&mut folder, header, &metadata, &carried, 0)?;
        Ok(Self::new(folder, metadata, vec![segment], file, position, carried, &[]))
    }

    /// Opens the log in a folder and reads it. A torn tail is repaired; damage is an error that names the
    /// file and the offset, and leaves everything as it is.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: WalConfig) -> Result<(Wal, Recovered), LocalFault> {
        let (folder, segments) = Folder::open(disk, dir, rounded(config))?;
        let Recovery { recovered, segments, file, position } = recovery::recover(&folder, segments)?;
        let carried = Carried {
            hard_state: recovered.hard_state,
            snapshot: recovered.snapshot.clone(),
            last_index: recovered.entries.last().map_or(recovered.snapshot.index, |entry| entry.index),
        };
        let metadata = recovered.metadata.clone();
        let wal = Self::new(folder, metadata, segments, file, position, carried, &recovered.entries);
        Ok((wal, recovered))
    }

    fn new(
        folder: Folder,
        metadata: Bytes,
        segments: Vec<Segment>,
        file: Arc<dyn File>,
        position: Position,
        carried: Carried,
        entries: &[LogEntry],
    ) -> Self {
        let mut terms = Terms::new(&carried.snapshot);
        entries.iter().for_each(|entry| terms.append(entry));
        Self {
            folder,
            metadata,
            segments,
            file,
            position,
            durable: carried.clone(),
            appended: carried,
            terms,
            buffer: format::new_batch(),
            buffer_max_index: 0,
            failed: None,
        }
    }

    /// Adds to what the next flush writes. Nothing is written yet.
    ///
    /// # Panics
    /// When the batch does not fit the log: a snapshot point that goes back, an entry at or below it, or
    /// one that would leave a gap.
    pub fn append(&mut self, batch: &WalBatch) {
        if let Some(point) = &batch.snapshot {
            let before = self.appended.snapshot.index;
            assert!(point.index >= before, "snapshot point {} goes back from {before}", point.index);
            format::put_snapshot(&mut self.buffer, point, !self.terms.contains(point));
            self.terms.supersede(point);
            self.appended.snapshot = point.clone();
        }
        for entry in &batch.entries {
            let (point, last, index) = (self.appended.snapshot.index, self.terms.last(), entry.index);
            assert!(index > point && index <= last + 1, "entry {index} after point {point}, last {last}");
            format::put_entry(&mut self.buffer, entry);
            self.terms.append(entry);
            self.buffer_max_index = self.buffer_max_index.max(index);
        }
        if let Some(state) = batch.hard_state {
            format::put_hard_state(&mut self.buffer, &state);
            self.appended.hard_state = state;
        }
        self.appended.last_index = self.terms.last();
    }

    /// Makes everything appended durable, with one write and one sync; begins a new segment before it when
    /// the current one has no room. After an error this and every later call fails, and what had been
    /// appended since the last success may or may not be durable.
    pub fn flush(&mut self) -> Result<FlushStats, LocalFault> {
        self.unless_failed(|wal| {
            if wal.buffer.len() == BATCH_HEADER_BYTES { Ok(FlushStats::default()) } else { wal.write_batch() }
        })
    }

    /// Flushes and writes an empty batch, after which damage to any record is told from a crash. For the
    /// end of a run, and for idle moments.
    pub fn seal(&mut self) -> Result<(), LocalFault> {
        self.flush()?;
        self.unless_failed(Self::write_batch).map(|_| ())
    }

    /// Says that entries up to an index are not needed any more: segments with no others are put away for
    /// reuse or removed. Never goes beyond the last flushed snapshot point, without which the log could
    /// not be read.
    pub fn release(&mut self, index: u64) -> Result<(), LocalFault> {
        self.unless_failed(|wal| {
            let limit = index.min(wal.durable.snapshot.index);
            let needed_to = |segment: &Segment| {
                if planted::is(Bug::LogReleasedTooFar) { segment.first_index } else { segment.max_index }
            };
            while wal.segments.len() > 1 && needed_to(&wal.segments[0]) <= limit {
                wal.folder.retire(&wal.segments[0])?;
                wal.segments.remove(0);
            }
            Ok(())
        })
    }

    /// Does a step (at most a MiB of writing) of having a segment file ready before it is needed, so that a
    /// flush need not make one; says whether there is more to do. For moments in which nothing waits.
    pub fn prepare(&mut self) -> Result<bool, LocalFault> {
        self.unless_failed(|wal| wal.folder.prepare_step())
    }

    /// Index of the last entry appended, or of the snapshot point when none follows it.
    pub fn last_index(&self) -> u64 {
        self.terms.last()
    }

    fn unless_failed<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, LocalFault>,
    ) -> Result<T, LocalFault> {
        if let Some(fault) = &self.failed {
            return Err(fault.clone());
        }
        step(self).inspect_err(|fault| self.failed = Some(fault.clone()))
    }

    fn write_batch(&mut self) -> Result<FlushStats, LocalFault> {
        let payload = self.buffer.len() - BATCH_HEADER_BYTES;
        if payload > MAX_PAYLOAD_BYTES {
            return Err(LocalFault::new(format!("write-ahead log: a batch of {payload} bytes is too large")));
        }
        // The end mark must fit as well.
        let needed = (format::batch_bytes(payload) + SECTOR) as u64;
        let rolled = self.position.offset + needed > self.current().length;
        if rolled {
            self.roll(needed)?;
        }
        let chain = format::finish_batch(&mut self.buffer, &self.position);
        let written = self.file.write_at(self.position.offset, &self.buffer);
        written.map_err(|error| fault("write to", &self.current_path(), error))?;
        self.sync()?;

        self.position = self.position.after(payload, chain);
        self.durable = self.appended.clone();
        let max_index = std::mem::take(&mut self.buffer_max_index);
        if let Some(segment) = self.segments.last_mut() {
            segment.max_index = segment.max_index.max(max_index);
        }
        self.buffer.truncate(BATCH_HEADER_BYTES);
        self.buffer.shrink_to(KEPT_BUFFER_BYTES);
        Ok(FlushStats { bytes: needed, rolled })
    }

    /// Makes durable what was written to the current segment.
    fn sync(&self) -> Result<(), LocalFault> {
        if planted::is(Bug::WalWithoutSync) {
            return Ok(());
        }
        let synced = self.file.sync_data();
        if planted::is(Bug::SyncErrorIgnored) {
            return Ok(());
        }
        synced.map_err(|error| fault("sync", &self.current_path(), error))
    }

    /// The segment being written.
    fn current(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn current_path(&self) -> PathBuf {
        self.folder.path(&self.current().file_name())
    }

    /// Begins a new segment that has room for a batch of `needed` bytes.
    fn roll(&mut self, needed: u64) -> Result<(), LocalFault> {
        let header = SegmentHeader {
            sequence: self.position.segment.sequence + 1,
            first_index: self.durable.last_index + 1,
            first_batch: self.position.number,
            previous_end: self.position.offset,
            chain: self.position.chain,
        };
        let (segment, file, position) =
            begin_segment(&mut self.folder, header, &self.metadata, &self.durable, needed)?;
        self.segments.push(segment);
        (self.file, self.position) = (file, position);
        Ok(())
    }
}

/// Makes a segment with a header and a first batch that holds the carried state, and with room for `needed`
/// bytes more. It gets its name when it is durable.
fn begin_segment(
    folder: &mut Folder,
    header: SegmentHeader,
    metadata: &[u8],
    carried: &Carried,
    needed: u64,
) -> Result<(Segment, Arc<dyn File>, Position), LocalFault> {
    let mut batch = format::new_batch();
    format::put_metadata(&mut batch, metadata);
    format::put_snapshot(&mut batch, &carried.snapshot, false);
    format::put_hard_state(&mut batch, &carried.hard_state);
    let first = Position::first(header);
    let payload = batch.len() - BATCH_HEADER_BYTES;
    let chain = format::finish_batch(&mut batch, &first);
    let position = first.after(payload, chain);

    let blank = folder.take_blank(position.offset + needed.max(SECTOR_BYTES))?;
    let segment = Segment {
        sequence: header.sequence,
        first_index: header.first_index,
        length: blank.length,
        max_index: 0,
    };
    let bytes = [header.encode(), batch].concat();
    let path = folder.path(&segment.file_name());
    blank.file.write_at(0, &bytes).map_err(|error| fault("write", &path, error))?;
    blank.file.sync_data().map_err(|error| fault("sync", &path, error))?;
    folder.publish(&blank, &segment)?;
    Ok((segment, blank.file, position))
}

/// The configuration with whole sectors.
fn rounded(config: WalConfig) -> WalConfig {
    WalConfig { segment_bytes: config.segment_bytes.next_multiple_of(SECTOR_BYTES), ..config }
}
