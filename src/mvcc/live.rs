//! What the index knows of a key that is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::tree::Weigh;
use crate::proto::{EncodedKeyValue, KeyValue};
use crate::types::Revision;

/// A key that is alive, at its newest revision: everything of its record but the key and the value.
#[derive(Clone, Debug)]
pub struct LiveKey {
    /// Main revision of the first put of this generation.
    pub create_revision: i64,
    /// Revision of the last put.
    pub modified: Revision,
    /// Puts in this generation, 1 at creation.
    pub version: i64,
    /// Lease that the key is attached to, 0 for none.
    pub lease: i64,
    /// Bytes of the encoded record.
    pub encoded_len: u32,
    /// The record itself, while it is in memory.
    pub(super) resident: Option<Arc<Resident>>,
}

// Every copy of a node of the index copies these, and every key of the store has one.
const _: () = assert!(size_of::<LiveKey>() <= 56);

/// Memory that a record takes beside its bytes, about: reference counts, a place among the keys of the
/// value cache, what the allocator rounds up. Small values would go far over the budget without it.
const RESIDENT_OVERHEAD: usize = 128;

/// Bytes of memory that a record of `len` bytes takes.
pub(super) fn resident_cost(len: usize) -> usize {
    len + RESIDENT_OVERHEAD
}

/// A record in memory, shared by all views that know it.
#[derive(Debug)]
pub(super) struct Resident {
    record: EncodedKeyValue,
    /// Whether the record was used since eviction last came by.
    touched: AtomicBool,
}

impl Resident {
    /// A record that was just used.
    fn new(record: EncodedKeyValue) -> Self {
        Self { record, touched: AtomicBool::new(true) }
    }

    /// The record, marked as used.
    pub(super) fn record(&self) -> &EncodedKeyValue {
        // Looked at first: readers of a hot key would otherwise fight for its cache line.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
        &self.record
    }

    /// Whether it was used since the last call.
    pub(super) fn take_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }
}

impl LiveKey {
    /// The live key that `kv`, encoded as `record`, makes at `modified`.
    pub(super) fn new(kv: &KeyValue, modified: Revision, record: &EncodedKeyValue) -> Self {
        let len = record.as_bytes().len();
        assert!(u32::try_from(len).is_ok(), "a record of {len} bytes passed the limit on requests");
        Self {
            create_revision: kv.create_revision,
            modified,
            version: kv.version,
            lease: kv.lease,
            encoded_len: len as u32,
            resident: None,
        }
    }

    /// The same with its record in memory, as just used.
    pub(super) fn with_resident(mut self, record: EncodedKeyValue) -> Self {
        self.resident = Some(Arc::new(Resident::new(record)));
        self
    }

    /// Bytes of memory that the record takes, 0 when it is not in memory.
    pub(super) fn resident_cost(&self) -> usize {
        if self.resident.is_some() { resident_cost(self.encoded_len as usize) } else { 0 }
    }
}

/// Equal when the replicated state is: what is in memory does not count.
impl PartialEq for LiveKey {
    fn eq(&self, other: &Self) -> bool {
        (self.create_revision, self.modified, self.version, self.lease, self.encoded_len)
            == (other.create_revision, other.modified, other.version, other.lease, other.encoded_len)
    }
}

impl Weigh for LiveKey {
    /// Bytes that the record takes as an element of `RangeResponse.kvs`: tag, length, record.
    fn weight(&self) -> u64 {
        let len = u64::from(self.encoded_len);
        1 + prost::encoding::encoded_len_varint(len) as u64 + len
    }
}
