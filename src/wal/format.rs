//! The bytes of the log: segment header, batch header, records. `docs/formats.md` draws them.
//!
//! All numbers are little endian. Decoding takes anything and never panics.

use bytes::{Buf, BufMut, Bytes};

use crate::disk::SECTOR_BYTES;
use crate::planted::{self, Bug};
use crate::types::log::{EntryKind, HardState, LogEntry, SnapshotPoint};

/// The format that this program writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;
/// A sector as a length in memory.
pub(super) const SECTOR: usize = SECTOR_BYTES as usize;
/// Bytes in front of a batch's payload.
pub(super) const BATCH_HEADER_BYTES: usize = 44;
/// Most payload that a batch may have: far above what one flush gathers, far below the field's range.
pub(super) const MAX_PAYLOAD_BYTES: usize = 1 << 30;

const SEGMENT_MAGIC: &[u8; 8] = b"detcdWAL";
const SEGMENT_CHECKED_BYTES: usize = 52;
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"BTCH");
const BATCH_CHECKED_BYTES: usize = 40;

const METADATA: u8 = 1;
const ENTRY: u8 = 2;
const HARD_STATE: u8 = 3;
const SNAPSHOT: u8 = 4;

/// The first sector of a segment: which one it is and what it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Number of the segment, from 1, without gaps.
    pub sequence: u64,
    /// Index after the last entry of the log when the segment was begun.
    pub first_index: u64,
    /// Number of the segment's first batch.
    pub first_batch: u64,
    /// Where the last batch of the segment before ends, 0 in the first segment.
    pub previous_end: u64,
    /// The chain at that point. It also salts the checksums of this segment's batch headers.
    pub chain: u32,
}

impl SegmentHeader {
    /// What the checksums of this segment's batch headers begin with.
    fn salt(&self) -> u32 {
        if planted::is(Bug::RecycledTailAccepted) { 0 } else { self.chain }
    }

    /// The sector.
    pub fn encode(&self) -> Vec<u8> {
        let mut sector = Vec::with_capacity(SECTOR);
        sector.put_slice(SEGMENT_MAGIC);
        sector.put_u32_le(VERSION);
        sector.put_u32_le(0);
        sector.put_u64_le(self.sequence);
        sector.put_u64_le(self.first_index);
        sector.put_u64_le(self.first_batch);
        sector.put_u64_le(self.previous_end);
        sector.put_u32_le(self.chain);
        sector.put_u32_le(crc32c::crc32c(&sector));
        sector.resize(SECTOR, 0);
        sector
    }

    /// Reads the sector; the error says what is wrong with it.
    pub fn decode(sector: &[u8]) -> Result<Self, String> {
        if sector.len() < SECTOR || !sector.starts_with(SEGMENT_MAGIC) {
            return Err("it is not a log segment: the magic bytes are missing".into());
        }
        let (checked, mut rest) = sector.split_at(SEGMENT_CHECKED_BYTES);
        let checksum_fits = crc32c::crc32c(checked) == rest.get_u32_le();
        let mut fields = &checked[SEGMENT_MAGIC.len()..];
        let version = fields.get_u32_le();
        if version > VERSION {
            return Err(format!("its format version {version} is newer than {VERSION}, the newest known"));
        }
        if !checksum_fits || version == 0 || fields.get_u32_le() != 0 {
            return Err("the checksum of the segment header does not match".into());
        }
        Ok(Self {
            sequence: fields.get_u64_le(),
            first_index: fields.get_u64_le(),
            first_batch: fields.get_u64_le(),
            previous_end: fields.get_u64_le(),
            chain: fields.get_u32_le(),
        })
    }
}

/// What stands in front of a batch's payload, in one sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Bytes of payload.
    pub length: u32,
    /// Number of the segment it was written to.
    pub sequence: u64,
    /// Number of the batch, without gaps over the life of the log.
    pub number: u64,
    /// Where in the segment it was written.
    pub offset: u64,
    /// The chain before this batch: the checksum of the header of the batch before.
    pub previous: u32,
    /// Checksum of the payload.
    pub payload_checksum: u32,
}

impl BatchHeader {
    /// The header and its checksum, which is the chain after this batch.
    fn encode(&self, salt: u32) -> (Vec<u8>, u32) {
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES);
        bytes.put_u32_le(BATCH_MAGIC);
        bytes.put_u32_le(self.length);
        bytes.put_u64_le(self.sequence);
        bytes.put_u64_le(self.number);
        bytes.put_u64_le(self.offset);
        bytes.put_u32_le(self.previous);
        bytes.put_u32_le(self.payload_checksum);
        let checksum = crc32c::crc32c_append(salt, &bytes);
        bytes.put_u32_le(checksum);
        (bytes, checksum)
    }

    /// Reads a header and the chain after it. None unless the sector begins with a header that was
    /// written to this segment at this offset.
    pub fn decode(sector: &[u8], segment: &SegmentHeader, offset: u64) -> Option<(Self, u32)> {
        let (checked, mut rest) = sector.split_at_checked(BATCH_CHECKED_BYTES)?;
        let mut fields = checked;
        if fields.get_u32_le() != BATCH_MAGIC {
            return None;
        }
        let header = Self {
            length: fields.get_u32_le(),
            sequence: fields.get_u64_le(),
            number: fields.get_u64_le(),
            offset: fields.get_u64_le(),
            previous: fields.get_u32_le(),
            payload_checksum: fields.get_u32_le(),
        };
        let checksum = rest.try_get_u32_le().ok()?;
        let recycled = planted::is(Bug::RecycledTailAccepted);
        let ours = (header.sequence == segment.sequence || recycled) && header.offset == offset;
        (ours && checksum == crc32c::crc32c_append(segment.salt(), checked)).then_some((header, checksum))
    }
}

/// Where a batch goes and what it follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// The segment.
    pub segment: SegmentHeader,
    /// Where in it.
    pub offset: u64,
    /// Number of the batch.
    pub number: u64,
    /// The chain before it.
    pub chain: u32,
}

impl Position {
    /// Where the first batch of a segment goes.
    pub fn first(segment: SegmentHeader) -> Self {
        Self { segment, offset: SECTOR_BYTES, number: segment.first_batch, chain: segment.chain }
    }

    /// Where the next batch goes after one with so much payload, which made the chain `chain`.
    pub fn after(&self, payload: usize, chain: u32) -> Self {
        let offset = self.offset + batch_bytes(payload) as u64;
        Self { offset, number: self.number + 1, chain, ..*self }
    }
}

/// Bytes that a batch with so much payload takes: whole sectors.
pub(super) fn batch_bytes(payload: usize) -> usize {
    (BATCH_HEADER_BYTES + payload).next_multiple_of(SECTOR)
}

/// An empty batch: room for the header, to which records are put.
pub(super) fn new_batch() -> Vec<u8> {
    vec![0; BATCH_HEADER_BYTES]
}

/// Completes a batch to what is written at `at`: header, records, zeros to the end of the sector, and the
/// end mark, a sector of zeros. Gives the chain after it.
pub(super) fn finish_batch(buffer: &mut Vec<u8>, at: &Position) -> u32 {
    let payload = &buffer[BATCH_HEADER_BYTES..];
    let header = BatchHeader {
        length: payload.len() as u32,
        sequence: at.segment.sequence,
        number: at.number,
        offset: at.offset,
        previous: at.chain,
        payload_checksum: crc32c::crc32c(payload),
    };
    let (bytes, chain) = header.encode(at.segment.salt());
    let size = batch_bytes(payload.len());
    buffer[..BATCH_HEADER_BYTES].copy_from_slice(&bytes);
    let end_mark = if planted::is(Bug::RecycledTailAccepted) { 0 } else { SECTOR };
    buffer.resize(size + end_mark, 0);
    chain
}

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Metadata(Bytes),
    Entry(LogEntry),
    HardState(HardState),
    Snapshot {
        point: SnapshotPoint,
        /// Entries behind the point are void as well: it is not part of the log written so far.
        restart: bool,
    },
}

/// Puts a record's kind, the length of its body, and the body.
fn put_record(buffer: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    buffer.put_u8(kind);
    let length_at = buffer.len();
    buffer.put_u32_le(0);
    body(buffer);
    let length = (buffer.len() - length_at - 4) as u32;
    buffer[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

pub(super) fn put_metadata(buffer: &mut Vec<u8>, metadata: &[u8]) {
    put_record(buffer, METADATA, |body| body.put_slice(metadata));
}

pub(super) fn put_entry(buffer: &mut Vec<u8>, entry: &LogEntry) {
    put_record(buffer, ENTRY, |body| {
        body.put_u64_le(entry.index);
        body.put_u64_le(entry.term);
        body.put_u8(entry.kind as u8);
        body.put_slice(&entry.data);
    });
}

pub(super) fn put_hard_state(buffer: &mut Vec<u8>, state: &HardState) {
    put_record(buffer, HARD_STATE, |body| {
        body.put_u64_le(state.term);
        body.put_u64_le(state.vote);
        body.put_u64_le(state.commit);
    });
}

pub(super) fn put_snapshot(buffer: &mut Vec<u8>, point: &SnapshotPoint, restart: bool) {
    put_record(buffer, SNAPSHOT, |body| {
        body.put_u64_le(point.index);
        body.put_u64_le(point.term);
        body.put_u8(u8::from(restart));
        for members in [&point.voters, &point.learners] {
            body.put_u32_le(members.len() as u32);
            members.iter().for_each(|member| body.put_u64_le(*member));
        }
    });
}

/// The records of a batch in order; none when they are not what this format says.
pub(super) fn decode_records(mut payload: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !payload.is_empty() {
        let kind = payload.try_get_u8().ok()?;
        let length = payload.try_get_u32_le().ok()?;
        let (body, rest) = payload.split_at_checked(length as usize)?;
        payload = rest;
        records.push(decode_record(kind, body)?);
    }
    Some(records)
}

fn decode_record(kind: u8, mut body: &[u8]) -> Option<Record> {
    let record = match kind {
        METADATA => Record::Metadata(Bytes::copy_from_slice(take_rest(&mut body))),
        ENTRY => Record::Entry(LogEntry {
            index: body.try_get_u64_le().ok()?,
            term: body.try_get_u64_le().ok()?,
            kind: entry_kind(body.try_get_u8().ok()?)?,
            data: Bytes::copy_from_slice(take_rest(&mut body)),
        }),
        HARD_STATE => Record::HardState(HardState {
            term: body.try_get_u64_le().ok()?,
            vote: body.try_get_u64_le().ok()?,
            commit: body.try_get_u64_le().ok()?,
        }),
        SNAPSHOT => {
            let index = body.try_get_u64_le().ok()?;
            let term = body.try_get_u64_le().ok()?;
            let restart = body.try_get_u8().ok()? != 0;
            let voters = decode_members(&mut body)?;
            let learners = decode_members(&mut body)?;
            Record::Snapshot { point: SnapshotPoint { index, term, voters, learners }, restart }
        }
        _ => return None,
    };
    body.is_empty().then_some(record)
}

fn take_rest<'a>(body: &mut &'a [u8]) -> &'a [u8] {
    std::mem::take(body)
}

fn decode_members(body: &mut &[u8]) -> Option<Vec<u64>> {
    let count = body.try_get_u32_le().ok()?;
    (0..count).map(|_| body.try_get_u64_le().ok()).collect()
}

fn entry_kind(number: u8) -> Option<EntryKind> {
    [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2].get(usize::from(number)).copied()
}
