//! What applying an entry of the log yields.

use std::sync::Arc;

use crate::proto::etcdserverpb as pb;
use crate::types::change::RevisionChanges;
use crate::types::{RequestError, RequestId};

/// The answer of the state machine to a replicated request. Headers carry the revision only.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Reply {
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    Alarm(pb::AlarmResponse),
    /// A request that only the cluster itself makes.
    Internal,
}

/// What one entry did.
#[derive(Debug)]
pub struct Applied {
    /// The request in the entry, `None` in an entry without one (the start of a term).
    pub request: Option<RequestId>,
    /// What it was estimated to add to the database, in bytes (see [`crate::quota`]).
    pub cost: u64,
    /// Its answer, the same on every member.
    pub reply: Result<Reply, RequestError>,
    /// What changed in the key space.
    pub changes: Option<Arc<RevisionChanges>>,
    /// Effects beyond the key space that somebody outside may have to act on.
    pub effect: Effect,
}

/// What an entry did beyond the key space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// The store was compacted; removing what that superseded goes on in steps.
    Compacted {
        /// The compaction revision.
        revision: i64,
        /// Whether the caller wants its answer when the removal is in the database.
        physical: bool,
    },
    /// A lease is gone.
    LeaseRevoked(crate::types::LeaseId),
    /// The alarms are others now.
    AlarmsChanged,
    /// The members or the cluster version are others now.
    MembersChanged,
}
