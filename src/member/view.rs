//! What a member shows of itself to the handlers that serve its clients.
//!
//! A [`MemberView`] never changes; the member publishes a new one before it answers a request whose
//! effect the view must show. Handlers read from it in their own tasks, so that a range over a million
//! keys never stands in the way of a put.

use std::sync::Arc;

use crate::mvcc::View;
use crate::proto::etcdserverpb as pb;
use crate::types::{ClusterId, MemberId};

/// One member at one moment: its store, its place in the cluster, its numbers.
#[derive(Clone)]
pub struct MemberView {
    /// The key space.
    pub store: View,
    /// Where the member stands.
    pub status: MemberStatus,
    /// The alarms that are raised.
    pub alarms: Arc<Vec<pb::AlarmMember>>,
    /// The members of the cluster, by id.
    pub members: Arc<Vec<pb::Member>>,
    /// The version that the cluster agreed on, such as `3.7.0`.
    pub cluster_version: Option<Arc<str>>,
    /// Figures for the metrics page.
    pub statistics: MemberStatistics,
}

/// Where a member stands in raft and on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// This member.
    pub member_id: MemberId,
    /// Its current term.
    pub term: u64,
    /// The leader that it knows, 0 for none.
    pub leader: MemberId,
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// Whether every linearizable read may be served from this view at once: the member is alone in its
    /// cluster and leads, so nobody can have acknowledged anything before it was published here.
    pub reads_need_no_round: bool,
    /// Highest index known to be committed.
    pub commit: u64,
    /// Highest index applied.
    pub applied: u64,
    /// Bytes of the database file.
    pub db_size: u64,
    /// Bytes of it that hold data.
    pub db_size_in_use: u64,
    /// Limit of the database in bytes, 0 when there is none.
    pub quota: u64,
}

/// Figures of a member that only the metrics page shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MemberStatistics {
    pub leader_changes: u64,
    pub proposals_committed: u64,
    pub proposals_applied: u64,
    pub proposals_pending: u64,
    pub proposals_failed: u64,
    pub read_indexes_failed: u64,
    pub slow_read_indexes: u64,
    pub puts: u64,
    pub deletes: u64,
    pub txns: u64,
    pub watch_streams: u64,
    pub watchers: u64,
    pub slow_watchers: u64,
    pub pending_events: u64,
    pub events: u64,
    pub leases_granted: u64,
    pub leases_revoked: u64,
    pub leases_renewed: u64,
    pub leases_expired: u64,
    pub compaction_keys: u64,
}
