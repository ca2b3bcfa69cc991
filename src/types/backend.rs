//! The contract between the replicated state machine and the database that keeps it on disk.
//!
//! The state machine hands out [`BackendBatch`]es and reads through [`BackendSnapshot`]s; it never
//! learns which database is behind them.
//!
//! Invariants:
//! - a batch is committed whole or not at all, its applied index with its effects;
//! - batches are committed in the order in which they were handed out;
//! - a snapshot shows the database right after one commit and never changes.

use bytes::Bytes;

use super::{LocalFault, Revision};
use crate::proto::EncodedKeyValue;

/// What is stored for one revision: `mvccpb.KeyValue` bytes; of a tombstone only the key is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Whether the revision deleted the key.
    pub tombstone: bool,
    /// The encoded key-value.
    pub record: EncodedKeyValue,
}

/// Tables of small replicated state beside the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Compaction points, cluster id, storage version.
    Meta,
    /// Lease id (u64 big endian) to `leasepb.Lease`.
    Lease,
    /// Marshalled `AlarmMember` to nothing.
    Alarm,
    /// Member id (u64 big endian) to `membershippb.Member`.
    Members,
    /// Member id (u64 big endian) of a removed member to nothing.
    MembersRemoved,
    /// Cluster version and the like, by name.
    Cluster,
    /// Auth flags, users and roles, for later.
    Auth,
}

impl Table {
    /// Every table, in the order in which they are exported.
    pub const ALL: [Table; 7] = [
        Table::Meta,
        Table::Lease,
        Table::Alarm,
        Table::Members,
        Table::MembersRemoved,
        Table::Cluster,
        Table::Auth,
    ];
}

/// How far the log has been applied, committed together with the effects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedPoint {
    /// Index of the last applied entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Ids of the voters in force at that index, ascending.
    pub voters: Vec<u64>,
    /// Ids of the learners in force at that index, ascending.
    pub learners: Vec<u64>,
}

/// Changes that go to the database in one commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendBatch {
    /// New revisions, ascending.
    pub records: Vec<(Revision, StoredRecord)>,
    /// Revisions that compaction removes; missing ones are ignored. Applied after `records`.
    pub removed_records: Vec<Revision>,
    /// Rows to set (`Some`) or delete (`None`), in order; a later one wins.
    pub rows: Vec<(Table, Bytes, Option<Bytes>)>,
    /// How far the log is applied once this batch is in; none leaves it as it is.
    pub applied: Option<AppliedPoint>,
}

impl BackendBatch {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.removed_records.is_empty()
            && self.rows.is_empty()
            && self.applied.is_none()
    }

    /// Appends a younger batch, so that both are committed as one.
    pub fn append(&mut self, mut younger: BackendBatch) {
        self.records.append(&mut younger.records);
        self.removed_records.append(&mut younger.removed_records);
        self.rows.append(&mut younger.rows);
        if younger.applied.is_some() {
            self.applied = younger.applied;
        }
    }
}

/// The database as one commit left it. Reads may come from any thread.
pub trait BackendSnapshot: Send + Sync {
    /// The record of one revision, `None` when there is none.
    ///
    /// # Errors
    /// When the disk fails or the record's checksum does not match.
    fn record(&self, revision: Revision) -> Result<Option<StoredRecord>, LocalFault>;

    /// Records from `from` (inclusive) on in ascending order, at most `limit` of them.
    ///
    /// # Errors
    /// As [`BackendSnapshot::record`].
    fn records(&self, from: Revision, limit: usize) -> Result<Vec<(Revision, StoredRecord)>, LocalFault>;

    /// Every row of a small table, by ascending key.
    ///
    /// # Errors
    /// As [`BackendSnapshot::record`].
    fn rows(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>, LocalFault>;

    /// How far the log was applied, `None` in a database that never applied anything.
    ///
    /// # Errors
    /// As [`BackendSnapshot::record`].
    fn applied(&self) -> Result<Option<AppliedPoint>, LocalFault>;
}
