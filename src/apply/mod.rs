//! The replicated state machine: what a committed entry of the log does.
//!
//! Everything that all members must agree on lives under here: the key space, leases, alarms, members.
//! The siblings below never meet each other; this room carries what one tells to the other, such as the
//! keys of a revoked lease from the lessor to the store.
//!
//! ```text
//!   entry --> decode --> gate (alarms) --> one match --> mvcc | lessor | alarms | membership
//!                                                            `--> Applied { reply, changes, effect }
//! ```
//!
//! Invariants:
//! - the result is a function of the state and the entry: `now` only starts a lease's local timer;
//! - a request that is refused changes nothing; one that is accepted cannot fail half-way;
//! - the applied point goes into the same backend batch as the effects of the entry;
//! - a fault of this member is never an answer: it ends [`StateMachine::apply`] with a [`LocalFault`].
//!
//! This room does not know raft, streams, or who waits for an answer.

mod gate;
mod reply;
mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::alarm::Alarms;
use crate::lease::{Lessor, LessorConfig};
use crate::membership::{MemberChange, Membership, MembershipRows};
use crate::mvcc::{Store, StoreConfig};
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb as pb;
use crate::quota::Quota;
use crate::txn::{self, LeaseMove};
use crate::types::backend::{AppliedPoint, BackendBatch, BackendSnapshot, Table};
use crate::types::change::RevisionChanges;
use crate::types::{Error, KeyRange, LeaseId, LocalFault, MemberId, Now, RequestError};

pub use reply::{Applied, Effect, Reply};
pub use request::{Command, decode, encode};

/// Settings of the state machine.
#[derive(Clone, Debug)]
pub struct StateMachineConfig {
    /// The key space's.
    pub store: StoreConfig,
    /// The lessor's.
    pub lessor: LessorConfig,
    /// The quota's.
    pub quota: Quota,
}

/// The replicated state of one member.
pub struct StateMachine {
    store: Store,
    lessor: Lessor,
    alarms: Alarms,
    membership: Membership,
    quota: Quota,
    applied: AppliedPoint,
}

/// What a request did and how it is answered.
type Outcome = (Reply, Option<Arc<RevisionChanges>>, Effect);

impl StateMachine {
    /// Reads the state that a database holds.
    ///
    /// # Errors
    /// When the database cannot be read or holds something that cannot be.
    pub fn restore(
        snapshot: Arc<dyn BackendSnapshot>,
        config: StateMachineConfig,
    ) -> Result<Self, LocalFault> {
        let applied = snapshot.applied()?.unwrap_or_default();
        let alarms = Alarms::restore(snapshot.rows(Table::Alarm)?)?;
        let membership = Membership::restore(MembershipRows {
            meta: snapshot.rows(Table::Meta)?,
            members: snapshot.rows(Table::Members)?,
            removed: snapshot.rows(Table::MembersRemoved)?,
            cluster: snapshot.rows(Table::Cluster)?,
        })?
        .ok_or_else(|| LocalFault::new("the database does not say which cluster it belongs to"))?;
        let leases = snapshot.rows(Table::Lease)?;
        let (store, attachments) = Store::restore(snapshot, config.store)?;
        let lessor = Lessor::restore(leases, attachments, config.lessor)?;
        Ok(Self { store, lessor, alarms, membership, quota: config.quota, applied })
    }

    /// The key space.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The key space, for its compaction and its backend; requests change it through [`Self::apply`].
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The leases.
    pub fn lessor(&self) -> &Lessor {
        &self.lessor
    }

    /// The leases, for what only the primary keeps: deadlines and renewals.
    pub fn lessor_mut(&mut self) -> &mut Lessor {
        &mut self.lessor
    }

    /// The alarms.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The members.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The quota.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// How far the log has been applied.
    pub fn applied(&self) -> &AppliedPoint {
        &self.applied
    }

    /// Applies the payload of a normal entry.
    ///
    /// # Errors
    /// When this member's disk or memory is at fault, or the entry is no request at all, which a quorum
    /// can only have stored if a member runs another format.
    pub fn apply(&mut self, index: u64, term: u64, data: &Bytes, now: Now) -> Result<Applied, LocalFault> {
        self.advance(index, term);
        if data.is_empty() {
            let effect = Effect::None;
            let reply = Ok(Reply::Internal);
            return Ok(Applied { request: None, cost: 0, reply, changes: None, effect });
        }
        let (request, command) = request::decode(data).map_err(|reason| {
            LocalFault::new(format!(
                "entry {index} of the log holds no request that this version knows: {reason}"
            ))
        })?;
        let cost = gate::cost(&command);
        let outcome = match gate::admit(&self.alarms, &command) {
            Ok(()) => self.run(command, now),
            Err(error) => Err(error.into()),
        };
        let (reply, changes, effect) = match outcome {
            Ok((reply, changes, effect)) => (Ok(reply), changes, effect),
            Err(Error::Request(error)) => (Err(error), None, Effect::None),
            Err(Error::Local(fault)) => return Err(fault),
        };
        Ok(Applied { request: Some(request), cost, reply, changes, effect })
    }

    /// Notes that an entry without effect on this state was applied.
    pub fn advance(&mut self, index: u64, term: u64) {
        assert!(index == self.applied.index + 1, "entry {index} applied behind entry {}", self.applied.index);
        self.applied.index = index;
        self.applied.term = term;
    }

    /// Notes the voters and learners in force from the last applied entry on.
    pub fn set_conf_state(&mut self, voters: Vec<u64>, learners: Vec<u64>) {
        self.applied.voters = voters;
        self.applied.learners = learners;
    }

    /// Applies what a configuration change means for the members beyond raft.
    ///
    /// # Errors
    /// When the members as they are now refuse the change; then raft must not change either. The last
    /// voter stays whatever was checked when its removal was proposed: raft cannot go on without one.
    pub fn apply_member_change(&mut self, change: MemberChange) -> Result<(), RequestError> {
        if change == MemberChange::Remove(self.only_voter()) {
            return Err(RequestError::NotEnoughStarted);
        }
        self.membership.apply(change)
    }

    /// The one member that votes, 0 when there are more.
    fn only_voter(&self) -> MemberId {
        match self.applied.voters[..] {
            [voter] => MemberId(voter),
            _ => MemberId(0),
        }
    }

    /// Everything that changed since the last call, for one commit of the database.
    pub fn take_batch(&mut self) -> BackendBatch {
        let mut batch = self.store.take_batch();
        batch.rows.append(&mut self.lessor.take_rows());
        batch.rows.append(&mut self.alarms.take_rows());
        batch.rows.append(&mut self.membership.take_rows());
        batch.applied = Some(self.applied.clone());
        batch
    }

    fn run(&mut self, command: Command, now: Now) -> Result<Outcome, Error> {
        match command {
            Command::Put(request) => self.put(&request, now),
            Command::DeleteRange(request) => self.delete_range(&request),
            Command::Txn(request) => self.txn(&request),
            Command::Compact(request) => self.compact(&request),
            Command::LeaseGrant(request) => self.lease_grant(&request, now),
            Command::LeaseRevoke(request) => self.lease_revoke(&request, now),
            Command::LeaseCheckpoint(request) => {
                for checkpoint in &request.checkpoints {
                    self.lessor.checkpoint(LeaseId(checkpoint.id), checkpoint.remaining_ttl, now);
                }
                Ok((Reply::Internal, None, Effect::None))
            }
            Command::Alarm(request) => {
                let mut response = self.alarms.apply(&request);
                response.header = self.header();
                Ok((Reply::Alarm(response), None, Effect::AlarmsChanged))
            }
            Command::MemberAttributes(request) => {
                let attributes = request.member_attributes.unwrap_or_default();
                // A member that is gone may still tell its name: nobody needs it.
                self.membership.set_attributes(MemberId(request.member_id), &attributes);
                Ok((Reply::Internal, None, Effect::MembersChanged))
            }
            Command::ClusterVersion(version) => {
                self.membership.set_cluster_version(version);
                Ok((Reply::Internal, None, Effect::MembersChanged))
            }
        }
    }

    fn put(&mut self, request: &pb::PutRequest, now: Now) -> Result<Outcome, Error> {
        let lessor = &self.lessor;
        let is_over = |id| lessor.time_to_live(id, now).is_some_and(|left| left.remaining == 0);
        let exists = |id| lessor.exists(id) && !(planted::is(Bug::LocalClockInApply) && is_over(id));
        let done = txn::put(&mut self.store, request, &exists)?;
        self.move_leases(done.lease_moves);
        Ok((Reply::Put(done.response), done.changes, Effect::None))
    }

    fn delete_range(&mut self, request: &pb::DeleteRangeRequest) -> Result<Outcome, Error> {
        let done = txn::delete_range(&mut self.store, request)?;
        self.move_leases(done.lease_moves);
        Ok((Reply::DeleteRange(done.response), done.changes, Effect::None))
    }

    fn txn(&mut self, request: &pb::TxnRequest) -> Result<Outcome, Error> {
        let lessor = &self.lessor;
        let done = txn::txn(&mut self.store, request, &|id| lessor.exists(id))?;
        self.move_leases(done.lease_moves);
        Ok((Reply::Txn(done.response), done.changes, Effect::None))
    }

    fn compact(&mut self, request: &pb::CompactionRequest) -> Result<Outcome, Error> {
        self.store.compact(request.revision)?;
        let response = pb::CompactionResponse { header: self.header() };
        let effect = Effect::Compacted { revision: request.revision, physical: request.physical };
        Ok((Reply::Compact(response), None, effect))
    }

    fn lease_grant(&mut self, request: &pb::LeaseGrantRequest, now: Now) -> Result<Outcome, Error> {
        let ttl = self.lessor.grant(LeaseId(request.id), request.ttl, now)?;
        let response =
            pb::LeaseGrantResponse { header: self.header(), id: request.id, ttl, error: String::new() };
        Ok((Reply::LeaseGrant(response), None, Effect::None))
    }

    /// Deletes the lease and all its keys, in key order and in one revision.
    fn lease_revoke(&mut self, request: &pb::LeaseRevokeRequest, now: Now) -> Result<Outcome, Error> {
        let id = LeaseId(request.id);
        let mut keys = self.lessor.revoke(id)?;
        if planted::is(Bug::RevokeInHashOrder) {
            // The clock stands for the seed of a member's hasher.
            keys.sort_by_key(|key| crc32c::crc32c_append(now.mono as u32, key));
        }
        if planted::is(Bug::RevokeLeavesKey) {
            keys.pop();
        }
        let mut write = self.store.write();
        for key in keys {
            write.delete_range(&KeyRange::single(key));
        }
        let changes = write.finish();
        let response = pb::LeaseRevokeResponse { header: self.header() };
        Ok((Reply::LeaseRevoke(response), changes, Effect::LeaseRevoked(id)))
    }

    fn move_leases(&mut self, moves: Vec<LeaseMove>) {
        for LeaseMove { key, from, to } in moves {
            if from != LeaseId(0) && !(planted::is(Bug::OverwrittenKeyKeepsLease) && to != LeaseId(0)) {
                self.lessor.detach(&key, from);
            }
            if to != LeaseId(0) {
                self.lessor.attach(key, to);
            }
        }
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { revision: self.store.revision(), ..Default::default() })
    }
}
