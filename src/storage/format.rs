//! Tables of the database file and how their keys and values are laid out. See the chapter
//! "Backend" of docs/formats.md for the pictures.
//!
//! Invariants:
//! - every stored value begins with a CRC-32C over its key, its table and its content, because the
//!   database checks its pages only when it repairs itself, never on an ordinary read;
//! - ascending keys of the table `key` are ascending revisions;
//! - whatever is read is checked before it is used: a damaged value is a [`LocalFault`], never a value.

use bytes::{BufMut, Bytes};
use redb::TableDefinition;

use crate::proto::EncodedKeyValue;
use crate::types::backend::{AppliedPoint, StoredRecord, Table};
use crate::types::{LocalFault, Revision};

/// Version of the layout described here. A file with a higher one is refused.
pub(super) const FORMAT_VERSION: u32 = 1;

/// One record per revision: `main << 64 | sub` to flag, checksum and record.
pub(super) const RECORDS: TableDefinition<u128, &[u8]> = TableDefinition::new("key");
/// The rows of every [`Table`]: tag and row key to checksum and row value.
pub(super) const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("row");
/// What this room keeps for itself, by name: checksum and content.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Names in [`META`]: the format version, the applied point, the live sizes.
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_APPLIED: &str = "applied";
pub(super) const META_USAGE: &str = "usage";

/// Tag of the checksum of a [`META`] entry, beside those of [`table_tag`].
const META_TAG: u8 = 0;
/// Bytes of a checksum in front of a value.
const CHECKSUM_LEN: usize = 4;
/// Bytes of a key of [`RECORDS`].
const KEY_LEN: usize = size_of::<u128>();
/// Checksum and flag in front of a record.
const RECORD_HEAD_LEN: usize = CHECKSUM_LEN + 1;
/// Flags of a record.
const FLAG_PUT: u8 = 0;
const FLAG_TOMBSTONE: u8 = 1;

/// The key of a revision, or the fault that says that it is none: revisions are never negative.
pub(super) fn record_key(revision: Revision) -> Result<u128, LocalFault> {
    match (u64::try_from(revision.main), u64::try_from(revision.sub)) {
        (Ok(main), Ok(sub)) => Ok(u128::from(main) << 64 | u128::from(sub)),
        _ => Err(LocalFault::new(format!("revision {revision} cannot be stored: it is negative"))),
    }
}

/// The revision of a key.
pub(super) fn record_revision(key: u128) -> Result<Revision, LocalFault> {
    match (i64::try_from(key >> 64), i64::try_from(key as u64)) {
        (Ok(main), Ok(sub)) => Ok(Revision::new(main, sub)),
        _ => Err(LocalFault::new(format!("stored key {key:#034x} is damaged: it is no revision"))),
    }
}

/// Overwrites `out` with the stored value of a record.
pub(super) fn encode_record(key: u128, record: &StoredRecord, out: &mut Vec<u8>) {
    let flag = if record.tombstone { FLAG_TOMBSTONE } else { FLAG_PUT };
    let bytes = record.record.as_bytes();
    out.clear();
    out.reserve(RECORD_HEAD_LEN + bytes.len());
    out.put_u32_le(record_checksum(key, flag, bytes));
    out.put_u8(flag);
    out.put_slice(bytes);
}

/// The record in a stored value; its bytes are copied once.
pub(super) fn decode_record(key: u128, stored: &[u8]) -> Result<StoredRecord, LocalFault> {
    let (tombstone, bytes) = check_record(key, stored)?;
    let record = EncodedKeyValue::from_bytes(Bytes::copy_from_slice(bytes));
    Ok(StoredRecord { tombstone, record })
}

/// Whether a stored record is a tombstone, and its bytes, once the checksum has been found right.
pub(super) fn check_record(key: u128, stored: &[u8]) -> Result<(bool, &[u8]), LocalFault> {
    let damaged = |why: String| {
        let (main, sub) = (key >> 64, key as u64);
        LocalFault::new(format!("stored record of revision {main}/{sub} is damaged: {why}"))
    };
    let Some((checksum, [flag, bytes @ ..])) = stored.split_first_chunk::<CHECKSUM_LEN>() else {
        return Err(damaged(format!("it has only {} bytes", stored.len())));
    };
    let (expected, actual) = (u32::from_le_bytes(*checksum), record_checksum(key, *flag, bytes));
    if expected != actual {
        return Err(damaged(format!("its checksum is {expected:#010x}, its content has {actual:#010x}")));
    }
    match *flag {
        FLAG_PUT => Ok((false, bytes)),
        FLAG_TOMBSTONE => Ok((true, bytes)),
        other => Err(damaged(format!("its flag is {other}"))),
    }
}

fn record_checksum(key: u128, flag: u8, bytes: &[u8]) -> u32 {
    let mut head = [0; 17];
    head[..16].copy_from_slice(&key.to_le_bytes());
    head[16] = flag;
    crc32c::crc32c_append(crc32c::crc32c(&head), bytes)
}

/// The number that stands for a table in the file. Never reuse one.
pub(super) fn table_tag(table: Table) -> u8 {
    match table {
        Table::Meta => 1,
        Table::Lease => 2,
        Table::Alarm => 3,
        Table::Members => 4,
        Table::MembersRemoved => 5,
        Table::Cluster => 6,
        Table::Auth => 7,
    }
}

/// The table of a tag, `None` when there is none.
pub(super) fn table_of_tag(tag: u8) -> Option<Table> {
    Table::ALL.into_iter().find(|table| table_tag(*table) == tag)
}

/// The key of a row in [`ROWS`].
pub(super) fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(table_tag(table));
    out.extend_from_slice(key);
    out
}

/// The stored value of the row with this key of [`ROWS`].
pub(super) fn encode_row(row_key: &[u8], value: &[u8]) -> Vec<u8> {
    seal(row_key, value)
}

/// The value of a row, once its checksum has been found right.
pub(super) fn check_row<'a>(row_key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], LocalFault> {
    unseal(row_key, stored)
        .map_err(|why| LocalFault::new(format!("stored row {} is damaged: {why}", Hex(row_key))))
}

/// The stored value of an entry of [`META`].
pub(super) fn encode_meta(name: &str, content: &[u8]) -> Vec<u8> {
    seal(&meta_key(name), content)
}

/// The content of an entry of [`META`], once its checksum has been found right.
pub(super) fn check_meta<'a>(name: &str, stored: &'a [u8]) -> Result<&'a [u8], LocalFault> {
    unseal(&meta_key(name), stored)
        .map_err(|why| LocalFault::new(format!("stored entry \"{name}\" is damaged: {why}")))
}

fn meta_key(name: &str) -> Vec<u8> {
    let mut out = vec![META_TAG];
    out.extend_from_slice(name.as_bytes());
    out
}

/// Puts a checksum over key length, key and value in front of the value. The length is in it so that
/// no byte can move from the key to the value.
fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(CHECKSUM_LEN + value.len());
    out.put_u32_le(sealed_checksum(key, value));
    out.put_slice(value);
    out
}

fn unseal<'a>(key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], String> {
    let Some((checksum, value)) = stored.split_first_chunk::<CHECKSUM_LEN>() else {
        return Err(format!("it has only {} bytes", stored.len()));
    };
    let (expected, actual) = (u32::from_le_bytes(*checksum), sealed_checksum(key, value));
    if expected != actual {
        return Err(format!("its checksum is {expected:#010x}, its content has {actual:#010x}"));
    }
    Ok(value)
}

fn sealed_checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut sum = crc32c::crc32c(&(key.len() as u64).to_le_bytes());
    sum = crc32c::crc32c_append(sum, key);
    crc32c::crc32c_append(sum, value)
}

/// Content of [`META_APPLIED`].
pub(super) fn encode_applied(point: &AppliedPoint) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + 8 * (point.voters.len() + point.learners.len()));
    out.put_u64_le(point.index);
    out.put_u64_le(point.term);
    for ids in [&point.voters, &point.learners] {
        out.put_u64_le(ids.len() as u64);
        ids.iter().for_each(|id| out.put_u64_le(*id));
    }
    out
}

/// Reads [`encode_applied`]'s bytes, `None` when they are none.
pub(super) fn decode_applied(content: &[u8]) -> Option<AppliedPoint> {
    let mut reader = Reader(content);
    let point = AppliedPoint {
        index: reader.u64()?,
        term: reader.u64()?,
        voters: reader.ids()?,
        learners: reader.ids()?,
    };
    reader.is_empty().then_some(point)
}

/// How much lives in the database; kept beside it because counting would walk every page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes of records and rows with their keys and what the database adds to each.
    pub live_bytes: u64,
    /// Records.
    pub records: u64,
    /// Rows of each table, by [`table_tag`] minus one.
    pub rows: [u64; Table::ALL.len()],
}

impl Usage {
    /// What the database needs for one pair beside its bytes: two end offsets in its page.
    const PAIR_OVERHEAD: u64 = 8;

    /// Rows of one table.
    pub fn rows_of(&self, table: Table) -> u64 {
        self.rows[usize::from(table_tag(table)) - 1]
    }

    /// Notes that a record's stored value replaced another of the given length, or none.
    pub fn record_changed(&mut self, old: Option<usize>, new: Option<usize>) {
        replace(&mut self.live_bytes, pair_bytes(KEY_LEN, old), pair_bytes(KEY_LEN, new));
        replace(&mut self.records, u64::from(old.is_some()), u64::from(new.is_some()));
    }

    /// Notes the same of a row.
    pub fn row_changed(&mut self, table: Table, key: usize, old: Option<usize>, new: Option<usize>) {
        replace(&mut self.live_bytes, pair_bytes(key, old), pair_bytes(key, new));
        let rows = &mut self.rows[usize::from(table_tag(table)) - 1];
        replace(rows, u64::from(old.is_some()), u64::from(new.is_some()));
    }

    /// Content of [`META_USAGE`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 8 * self.rows.len());
        out.put_u64_le(self.live_bytes);
        out.put_u64_le(self.records);
        self.rows.iter().for_each(|rows| out.put_u64_le(*rows));
        out
    }

    /// Reads [`Usage::encode`]'s bytes, `None` when they are none.
    pub fn decode(content: &[u8]) -> Option<Usage> {
        let mut reader = Reader(content);
        let mut usage = Usage { live_bytes: reader.u64()?, records: reader.u64()?, ..Usage::default() };
        for rows in &mut usage.rows {
            *rows = reader.u64()?;
        }
        reader.is_empty().then_some(usage)
    }
}

fn replace(total: &mut u64, old: u64, new: u64) {
    *total = (*total + new).saturating_sub(old);
}

fn pair_bytes(key: usize, value: Option<usize>) -> u64 {
    value.map_or(0, |value| (key + value) as u64 + Usage::PAIR_OVERHEAD)
}

/// Takes little-endian fields off the front of bytes; `None` when too few are left.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*head))
    }

    pub fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*head))
    }

    pub fn u128(&mut self) -> Option<u128> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u128::from_le_bytes(*head))
    }

    /// Bytes behind their length.
    pub fn sized(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len)
    }

    fn ids(&mut self) -> Option<Vec<u64>> {
        let count = usize::try_from(self.u64()?).ok()?;
        let mut ids = Vec::with_capacity(count.min(self.0.len() / 8));
        for _ in 0..count {
            ids.push(self.u64()?);
        }
        Some(ids)
    }
}

/// Shows bytes as hex in a fault.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
