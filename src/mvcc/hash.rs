//! HashKV: a checksum of the key space at a revision, which members compare.
//!
//! It is etcd's: CRC-32C over `key` and then over every record (bucket key and bytes) in order of
//! revision. Above the compaction revision every record counts. Below it counts what the keys were at
//! the hashed revision, tombstones never. So it does not matter what a member has removed already, or
//! has in memory only.

use std::ops::Bound;

use super::catch_up::decode;
use super::view::View;
use super::write::stored;
use crate::planted::{self, Bug};
use crate::types::backend::StoredRecord;
use crate::types::{KeyRange, LocalFault, RequestError, Revision};

/// A hash of the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The checksum.
    pub hash: u32,
    /// The compaction revision when it was taken, -1 for none. Only hashes with equal ones compare.
    pub compact_revision: i64,
    /// The revision that was hashed.
    pub hash_revision: i64,
}

/// A hash in the making. It holds a view, so it hashes one moment however long it takes.
pub struct HashJob {
    view: View,
    revision: i64,
    hash: u32,
    /// The first record that is not hashed yet.
    next: Revision,
    /// The revision at which a compacted record has to be its key's newest to count, once it is known.
    kept_at: Option<i64>,
}

impl View {
    /// Begins to hash the key space at `revision`, 0 for the current one. At a negative one there is
    /// nothing to hash, and the hash of nothing is the answer (etcd).
    ///
    /// # Errors
    /// As [`View::check_revision`].
    pub fn hash(&self, revision: i64) -> Result<HashJob, RequestError> {
        Ok(HashJob {
            revision: if revision < 0 { revision } else { self.check_revision(revision)? },
            view: self.clone(),
            hash: crc32c::crc32c(b"key"),
            next: Revision::default(),
            kept_at: None,
        })
    }

    /// Records from `from` on in order, at most `limit`; none when there are no more.
    fn records(&self, from: Revision, limit: usize) -> Result<Vec<(Revision, StoredRecord)>, LocalFault> {
        if from.main <= self.flushed {
            let records = self.backend.records(from, limit)?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
        // The database has no more; what it does not have yet is in memory.
        let first = from.max(Revision::new(self.flushed + 1, 0));
        let recent = self.recent.range(Bound::Included(&first.main), Bound::Unbounded);
        let changes = recent.flat_map(|(&main, recent)| {
            let skipped = if main == first.main { first.sub as usize } else { 0 };
            recent.changes.changes.iter().skip(skipped)
        });
        Ok(changes.take(limit).map(|change| (change.revision, stored(change))).collect())
    }
}

impl HashJob {
    /// Goes on by up to `max_records` records (at least one); the hash when there are no more.
    ///
    /// # Errors
    /// When the database cannot read.
    pub fn step(&mut self, max_records: usize) -> Result<Option<KvHash>, LocalFault> {
        let mut left = max_records.max(1);
        while left > 0 {
            let records = self.view.records(self.next, left.min(self.view.page_records))?;
            left -= records.len();
            let Some(&(last, _)) = records.last() else { return Ok(Some(self.result())) };
            for (revision, stored) in records {
                if revision.main > self.revision {
                    return Ok(Some(self.result()));
                }
                if self.counts(revision, &stored)? {
                    self.add(revision, &stored);
                }
            }
            self.next = Revision::new(last.main, last.sub + 1);
        }
        Ok(None)
    }

    /// Whether the hash covers a record that is not younger than the hashed revision.
    fn counts(&mut self, revision: Revision, stored: &StoredRecord) -> Result<bool, LocalFault> {
        let compact_revision = self.view.compact_revision;
        if revision.main > compact_revision {
            return Ok(true);
        }
        if stored.tombstone {
            return Ok(planted::is(Bug::HashCountsTombstones));
        }
        let kv = decode(revision, &stored.record)?;
        let kept_at = self.kept_at();
        let newest = self.view.key_at(&kv.key, kept_at);
        Ok(newest.is_some_and(|key| key.modified == revision))
    }

    /// The revision at which a compacted record must be its key's newest to count. That is the hashed
    /// one, unless no key was alive at it: then etcd counts all that compaction has kept.
    fn kept_at(&mut self) -> i64 {
        *self.kept_at.get_or_insert_with(|| {
            let alive = self.view.keys_at(&KeyRange::all(), self.revision).next().is_some();
            if alive { self.revision } else { self.view.compact_revision }
        })
    }

    fn add(&mut self, revision: Revision, stored: &StoredRecord) {
        let (key, len) = bucket_key(revision, stored.tombstone);
        self.hash = crc32c::crc32c_append(self.hash, &key[..len]);
        self.hash = crc32c::crc32c_append(self.hash, stored.record.as_bytes());
    }

    fn result(&self) -> KvHash {
        KvHash { hash: self.hash, compact_revision: self.view.compact_revision, hash_revision: self.revision }
    }
}

/// The bytes that stand for a record's revision, those of etcd's key bucket: 8 bytes big endian each
/// for main and sub revision, `_` between, and `t` behind for a tombstone. With how many of them count.
fn bucket_key(revision: Revision, tombstone: bool) -> ([u8; 18], usize) {
    let mut key = [0; 18];
    key[..8].copy_from_slice(&revision.main.to_be_bytes());
    key[8] = b'_';
    key[9..17].copy_from_slice(&revision.sub.to_be_bytes());
    key[17] = b't';
    (key, if tombstone { 18 } else { 17 })
}
