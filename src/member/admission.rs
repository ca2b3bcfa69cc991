//! What a client asks, up to the point where it is on its way: static checks, quota, size, proposal.

use bytes::Bytes;

use super::message::ReplyTo;
use super::{Member, Reply, Request};
use crate::apply::{self, Command};
use crate::limits;
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb as pb;
use crate::quota;
use crate::raft::ProposeRefused;
use crate::txn;
use crate::types::{MemberId, Now, RequestError, RequestId};

impl Member {
    pub(super) fn on_request(&mut self, to: ReplyTo, request: Request, now: Now) {
        let refused = match request {
            Request::Put(put) => self.admit_put(to, put, now),
            Request::DeleteRange(delete) => {
                txn::check_delete(&delete).and_then(|()| self.propose(to, Command::DeleteRange(delete), now))
            }
            Request::Txn(request) => self.admit_txn(to, request, now),
            Request::Compact(request) => self.propose(to, Command::Compact(request), now),
            Request::LeaseGrant(grant) => self.admit_grant(to, grant, now),
            Request::LeaseRevoke(revoke) => self.propose(to, Command::LeaseRevoke(revoke), now),
            Request::LeaseKeepAlive(lease) => {
                self.keep_alive(to, lease, now);
                Ok(())
            }
            Request::LeaseTimeToLive(request) => {
                self.time_to_live(to, request, now);
                Ok(())
            }
            Request::LeaseLeases => {
                let reply = self.list_leases();
                self.reply(to, Ok(reply));
                Ok(())
            }
            Request::Alarm(alarm) => self.propose(to, Command::Alarm(alarm), now),
            Request::ReadIndex => {
                self.read_index(to, now);
                Ok(())
            }
            Request::MoveLeader(target) => self.move_leader(to, target, now),
        };
        if let Err(error) = refused {
            self.reply(to, Err(error));
        }
    }

    fn admit_put(&mut self, to: ReplyTo, put: pb::PutRequest, now: Now) -> Result<(), RequestError> {
        txn::check_put(&put)?;
        self.check_quota(quota::put_cost(&put), now)?;
        self.propose(to, Command::Put(put), now)
    }

    fn admit_txn(&mut self, to: ReplyTo, request: pb::TxnRequest, now: Now) -> Result<(), RequestError> {
        txn::check_txn(&request, self.config.max_txn_ops)?;
        self.check_quota(quota::txn_cost(&request), now)?;
        self.propose(to, Command::Txn(request), now)
    }

    fn admit_grant(
        &mut self,
        to: ReplyTo,
        mut grant: pb::LeaseGrantRequest,
        now: Now,
    ) -> Result<(), RequestError> {
        self.check_quota(quota::lease_grant_cost(), now)?;
        if grant.id == 0 {
            // Chosen here and written to the log, so that every member grants the same id: positive,
            // 63 bits, as unlikely to meet a chosen one as a request's id is.
            grant.id = (self.proposals.next_id().0 & (i64::MAX as u64)) as i64;
        }
        self.propose(to, Command::LeaseGrant(grant), now)
    }

    /// Refuses what would not fit, and raises the alarm that makes all members refuse it (etcd 6.8).
    fn check_quota(&mut self, cost: u64, now: Now) -> Result<(), RequestError> {
        if self.machine.quota().allows(self.backend.size(), cost) {
            return Ok(());
        }
        self.raise_nospace(now);
        Err(RequestError::NoSpace)
    }

    pub(super) fn raise_nospace(&mut self, now: Now) {
        let raised = self.machine.alarms().nospace() || planted::is(Bug::QuotaRaisesNoAlarm);
        if raised || self.role.leader.is_none() || !self.upkeep.may_raise_alarm(now) {
            return;
        }
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate as i32,
            member_id: self.id.0,
            alarm: pb::AlarmType::Nospace as i32,
        };
        // Refused only when too much is under way; the next request over the quota tries again.
        let _ = self.propose(ReplyTo::Nobody, Command::Alarm(alarm), now);
    }

    /// Sends a request on its way through the log; while nobody leads, it waits for somebody who does.
    pub(super) fn propose(&mut self, to: ReplyTo, command: Command, now: Now) -> Result<(), RequestError> {
        let (id, data) = self.encode_proposal(command)?;
        match self.driver.propose(data.clone()) {
            Ok(()) if planted::is(Bug::ProposalRetried) && to != ReplyTo::Nobody => {
                self.proposals.hold(id, data);
            }
            Ok(()) => {}
            Err(ProposeRefused::NoLeader | ProposeRefused::Transferring)
                if self.proposals.has_room_to_hold() =>
            {
                // What nobody waits for comes up again by itself.
                if to != ReplyTo::Nobody {
                    self.proposals.hold(id, data);
                }
            }
            Err(_) => return Err(self.refuse_proposal()),
        }
        self.proposals.wait(id, to, None, now);
        Ok(())
    }

    /// As [`Member::propose`], but for what only the leader of this very term may say: it is appended
    /// here and now, or not at all. `answer` replaces what the state machine answers.
    pub(super) fn propose_in_term(
        &mut self,
        to: ReplyTo,
        answer: Option<Reply>,
        command: Command,
        now: Now,
    ) -> Result<(), RequestError> {
        let (id, data) = self.encode_proposal(command)?;
        if !self.leads() || self.driver.propose(data).is_err() {
            return Err(self.refuse_proposal());
        }
        self.proposals.wait(id, to, answer, now);
        Ok(())
    }

    fn encode_proposal(&mut self, command: Command) -> Result<(RequestId, Bytes), RequestError> {
        let unapplied = self.driver.commit_index().saturating_sub(self.machine.applied().index);
        if unapplied > limits::MAX_UNAPPLIED_ENTRIES {
            return Err(self.refuse_proposal());
        }
        let id = self.proposals.next_id();
        let data = apply::encode(id, command);
        if data.len() > self.config.max_request_bytes {
            return Err(RequestError::RequestTooLarge);
        }
        Ok((id, data))
    }

    fn refuse_proposal(&mut self) -> RequestError {
        self.statistics.proposals_failed += 1;
        RequestError::TooManyRequests
    }

    /// Proposes what waited for a leader, as much as it takes.
    pub(super) fn propose_held(&mut self) {
        while let Some(data) = self.proposals.first_held() {
            if self.driver.propose(data).is_err() {
                return;
            }
            self.proposals.release_held();
        }
    }

    fn move_leader(&mut self, to: ReplyTo, target: MemberId, now: Now) -> Result<(), RequestError> {
        if !self.leads() {
            return Err(RequestError::NotLeader);
        }
        if target == self.id {
            self.reply(to, Ok(Reply::MoveLeader));
            return Ok(());
        }
        if !self.machine.applied().voters.contains(&target.0) {
            return Err(RequestError::BadLeaderTransferee);
        }
        self.driver.transfer_leader(target);
        let until = now.mono + self.config.election_timeout;
        self.upkeep.wait_for_leader(to, target, until);
        Ok(())
    }
}
