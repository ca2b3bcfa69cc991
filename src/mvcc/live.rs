//! What the index knows of a key that is alive.

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
    pub(super) resident: Option<EncodedKeyValue>,
    /// Whether the record was used since eviction last came by.
    pub(super) touched: Touched,
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
            touched: Touched::default(),
        }
    }

    /// The same with its record in memory, as just used.
    pub(super) fn with_resident(mut self, record: EncodedKeyValue) -> Self {
        self.resident = Some(record);
        self.touched.set();
        self
    }

    /// Bytes of the record if it is in memory, else 0.
    pub(super) fn resident_len(&self) -> usize {
        self.resident.as_ref().map_or(0, |record| record.as_bytes().len())
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

/// An access bit that readers set through a shared reference.
///
/// A copy of a tree node copies the bit, so a mark left in an old view may be missed. That costs one
/// eviction that came early, never an answer.
#[derive(Debug, Default)]
pub(super) struct Touched(AtomicBool);

impl Touched {
    /// Marks an access.
    pub(super) fn set(&self) {
        // Looked at first: readers of a hot key would otherwise fight for its cache line.
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Clears the mark and says whether it was set.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Clone for Touched {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.0.load(Ordering::Relaxed)))
    }
}
