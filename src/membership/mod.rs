//! Membership: who belongs to the cluster, as replicated state.
//!
//! A member has raft attributes (peer URLs, learner or not), which change by conf changes alone, one at a
//! time, and attributes of its own (name, client URLs), which it publishes through the log once it runs.
//! A member without a name has not started yet.
//!
//! ```text
//!   --initial-cluster --> InitialCluster --> MemberChange::Add 1..n --+
//!   MemberAdd, Remove, Update, Promote ----> MemberChange ------------+--> validate --> apply
//!                                             (context of a conf change)        |
//!   rows of the database <------- take_rows --------------------- Membership <--+
//!            +------------------- restore ----------------------------^
//! ```
//!
//! The same [`Membership::validate`] runs before a change is proposed, for a quick answer, and when it is
//! applied, for the truth: in between another change may have come first. All that it needs travels with
//! the change, the limit of learners too, so that members with different settings decide alike.
//!
//! Invariants:
//! - what is stored follows from the applied changes alone, and is the only record of the members: the
//!   voters and learners in here are those of raft's conf state at the same index;
//! - an id that was removed never comes back;
//! - no peer URL belongs to two members;
//! - a change of URLs never changes a learner into a voter; only a promotion does;
//! - the cluster id never changes.

mod bootstrap;
mod change;
mod ids;
mod json;
mod rows;
#[cfg(test)]
mod tests;
mod urls;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::proto::{etcdserverpb, membershippb};
use crate::types::backend::Table;
use crate::types::{ClusterId, MemberId, RequestError};

pub use bootstrap::InitialCluster;
pub use change::MemberChange;
pub use ids::{added_member_id, bootstrap_member_id, cluster_id};
pub use json::{members_from_json, members_to_json};
pub use rows::MembershipRows;
pub use urls::{check_member_urls, parse_urls};

/// One member. Its JSON form is that of etcd's peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, never 0.
    #[serde(serialize_with = "json::id", deserialize_with = "json::read_id")]
    pub id: MemberId,
    /// Where its peers reach it; sorted.
    #[serde(rename = "peerURLs", default, deserialize_with = "json::null_is_empty")]
    pub peer_urls: Vec<String>,
    /// Whether it follows the log without a vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    /// Its name, empty until it has started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where its clients reach it, as it published them.
    #[serde(
        rename = "clientURLs",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "json::null_is_empty"
    )]
    pub client_urls: Vec<String>,
}

impl Member {
    /// A member to be added by a `MemberAdd` at `unix_seconds`, which goes into its id. The URLs are
    /// sorted here; [`check_member_urls`] has found them good.
    pub fn added(mut peer_urls: Vec<String>, is_learner: bool, unix_seconds: u64) -> Self {
        peer_urls.sort();
        Self { id: added_member_id(&peer_urls, unix_seconds), peer_urls, is_learner, ..Self::default() }
    }

    /// Whether it has started once: it has published its name.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The member as the Cluster service shows it.
    pub fn to_wire(&self) -> etcdserverpb::Member {
        etcdserverpb::Member {
            id: self.id.0,
            name: self.name.clone(),
            peer_ur_ls: self.peer_urls.clone(),
            client_ur_ls: self.client_urls.clone(),
            is_learner: self.is_learner,
        }
    }
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MembershipStatistics {
    /// Members that vote.
    pub voters: usize,
    /// Members that do not.
    pub learners: usize,
    /// Ids that were removed.
    pub removed: usize,
}

/// The members of one cluster. See the head of the module.
#[derive(Debug)]
pub struct Membership {
    cluster_id: ClusterId,
    members: BTreeMap<MemberId, Member>,
    removed: BTreeSet<MemberId>,
    cluster_version: Option<String>,
    changed_rows: Vec<(Table, Bytes, Option<Bytes>)>,
}

impl Membership {
    /// A cluster without members: they come by applied changes.
    pub fn new(cluster_id: ClusterId) -> Self {
        let mut membership = Self::without_rows(cluster_id);
        membership.changed_rows.push(rows::of_cluster_id(cluster_id));
        membership
    }

    fn without_rows(cluster_id: ClusterId) -> Self {
        Self {
            cluster_id,
            members: BTreeMap::new(),
            removed: BTreeSet::new(),
            cluster_version: None,
            changed_rows: Vec::new(),
        }
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// A member by its id.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Every member, by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// The members that vote, by id.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| !member.is_learner)
    }

    /// The members that do not vote, by id.
    pub fn learners(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| member.is_learner)
    }

    /// Whether there is such a member, and it does not vote.
    pub fn is_learner(&self, id: MemberId) -> bool {
        self.member(id).is_some_and(|member| member.is_learner)
    }

    /// Whether this id was a member once and is none any more.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// Every member as the Cluster service lists them, by id.
    pub fn to_wire(&self) -> Vec<etcdserverpb::Member> {
        self.members().map(Member::to_wire).collect()
    }

    /// The body of `GET /members`.
    pub fn to_json(&self) -> String {
        members_to_json(self.members())
    }

    /// Applies the attributes that a member published. Unknown and removed members are ignored: the
    /// message may have been overtaken by a removal. Gives whether the member exists.
    pub fn set_attributes(&mut self, id: MemberId, attributes: &membershippb::Attributes) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        if !has_attributes(member, attributes) {
            member.name.clone_from(&attributes.name);
            member.client_urls.clone_from(&attributes.client_urls);
            self.changed_rows.push(rows::of_member(member));
        }
        true
    }

    /// Whether the member has these attributes, so that it need not publish them again.
    pub fn is_published(&self, id: MemberId, attributes: &membershippb::Attributes) -> bool {
        self.member(id).is_some_and(|member| has_attributes(member, attributes))
    }

    /// The cluster version, `X.Y.Z`; none until the first leader has set it.
    pub fn cluster_version(&self) -> Option<&str> {
        self.cluster_version.as_deref()
    }

    /// Applies a cluster version. Whoever proposes it has decided that it may be this one.
    pub fn set_cluster_version(&mut self, version: String) {
        self.changed_rows.push(rows::of_cluster_version(&version));
        self.cluster_version = Some(version);
    }

    /// The rows that changed since the last call, in the order of the changes.
    pub fn take_rows(&mut self) -> Vec<(Table, Bytes, Option<Bytes>)> {
        std::mem::take(&mut self.changed_rows)
    }

    /// Numbers for metrics.
    pub fn statistics(&self) -> MembershipStatistics {
        MembershipStatistics {
            voters: self.voters().count(),
            learners: self.learners().count(),
            removed: self.removed.len(),
        }
    }

    /// Strict reconfiguration check for adding a voter: enough voters must have started for the larger
    /// cluster to have a quorum. A single started member may always add its second, to recover a cluster.
    ///
    /// # Errors
    /// `NotEnoughStarted`.
    pub fn check_started_to_add(&self) -> Result<(), RequestError> {
        let (voters, started) = self.count_voters(None);
        if started == 1 && voters == 1 { Ok(()) } else { check_started(started, voters + 1) }
    }

    /// Strict reconfiguration check for promoting a learner, which counts as started.
    ///
    /// # Errors
    /// `NotEnoughStarted`.
    pub fn check_started_to_promote(&self) -> Result<(), RequestError> {
        let (voters, started) = self.count_voters(None);
        check_started(started + 1, voters + 1)
    }

    /// Strict reconfiguration check for removing a member: enough of the voters that stay must have
    /// started, and one must stay. A learner can always go.
    ///
    /// # Errors
    /// `NotEnoughStarted`.
    pub fn check_started_to_remove(&self, id: MemberId) -> Result<(), RequestError> {
        if self.is_learner(id) {
            return Ok(());
        }
        let (voters, started) = self.count_voters(Some(id));
        check_started(started, voters)
    }

    /// How many voters there are, and how many of them have started, without the one to leave out.
    fn count_voters(&self, without: Option<MemberId>) -> (usize, usize) {
        let voters = || self.voters().filter(|member| Some(member.id) != without);
        (voters().count(), voters().filter(|member| member.is_started()).count())
    }
}

/// How many of `voters` make a majority; 1 when there are none.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

fn check_started(started: usize, voters: usize) -> Result<(), RequestError> {
    if started >= quorum(voters) { Ok(()) } else { Err(RequestError::NotEnoughStarted) }
}

fn has_attributes(member: &Member, attributes: &membershippb::Attributes) -> bool {
    member.name == attributes.name && member.client_urls == attributes.client_urls
}
