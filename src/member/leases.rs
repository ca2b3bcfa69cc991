//! Leases beyond what is replicated: renewals, time to live, expiry, and passing questions to the leader.
//!
//! Renewals touch the leader's memory only. Before a renewal is answered, a read index proves that this
//! member still leads: a leader that was cut off must not promise a lease that its successor lets run
//! out (etcd #15247). The same proof precedes the revoke of leases that ran out; the proposal itself is
//! bound to the leader's term, since it is appended here or nowhere.

use std::collections::{BTreeMap, VecDeque};

use super::message::{Output, ReplyTo};
use super::reads::Purpose;
use super::{Member, Reply};
use crate::apply::Command;
use crate::lease::RenewError;
use crate::limits;
use crate::proto::detcdpb::lease_answer::Outcome;
use crate::proto::detcdpb::lease_call::Kind;
use crate::proto::detcdpb::{LeaseAnswer, LeaseCall};
use crate::proto::etcdserverpb as pb;
use crate::types::{LeaseId, MemberId, Now, RequestError};

/// Time between two looks at leases that ran out (etcd: 500 ms).
const EXPIRY_INTERVAL: u64 = 500 * Now::MILLISECOND;

/// A question about a lease that waits for the leader.
#[derive(Clone, Copy)]
struct Question {
    to: ReplyTo,
    lease: LeaseId,
    kind: Kind,
    since: u64,
}

/// Questions about leases that are on their way, and renewals that wait for a revoke.
pub(super) struct LeaseCalls {
    timeout: u64,
    next_call: u64,
    /// Sent to the leader, by call id.
    asked: BTreeMap<u64, Question>,
    /// To be asked (again) at the next tick.
    again: VecDeque<Question>,
    /// Renewals of leases that ran out: the answer is that of the revoke that is under way.
    expiring: Vec<(LeaseId, ReplyTo, u64)>,
    next_expiry: u64,
}

impl LeaseCalls {
    /// No questions.
    pub fn new(timeout: u64) -> Self {
        Self {
            timeout,
            next_call: 0,
            asked: BTreeMap::new(),
            again: VecDeque::new(),
            expiring: Vec::new(),
            next_expiry: 0,
        }
    }

    /// A renewal whose proof of leadership failed is tried again, here or at the new leader.
    pub fn ask_again(&mut self, to: ReplyTo, lease: LeaseId, since: u64) {
        self.again.push_back(Question { to, lease, kind: Kind::KeepAlive, since });
    }

    fn is_late(&self, since: u64, now: Now) -> bool {
        now.mono.saturating_sub(since) >= self.timeout
    }
}

impl Member {
    pub(super) fn keep_alive(&mut self, to: ReplyTo, lease: LeaseId, now: Now) {
        self.ask(Question { to, lease, kind: Kind::KeepAlive, since: now.mono }, now);
    }

    pub(super) fn time_to_live(&mut self, to: ReplyTo, request: pb::LeaseTimeToLiveRequest, now: Now) {
        let kind = if request.keys { Kind::TimeToLiveWithKeys } else { Kind::TimeToLive };
        self.ask(Question { to, lease: LeaseId(request.id), kind, since: now.mono }, now);
    }

    /// Answers here if this member leads, else passes the question on.
    fn ask(&mut self, question: Question, now: Now) {
        let Question { to, lease, kind, since } = question;
        if self.leads() {
            match kind {
                Kind::KeepAlive if self.leads_alone() => self.renew(to, lease, now),
                Kind::KeepAlive => self.when_confirmed(Purpose::KeepAlive(to, lease), since),
                Kind::TimeToLive | Kind::TimeToLiveWithKeys => {
                    let keys = kind == Kind::TimeToLiveWithKeys;
                    let reply = self.describe_lease(lease, keys, now);
                    self.reply(to, Ok(Reply::LeaseTimeToLive(reply)));
                }
            }
            return;
        }
        let Some(leader) = self.role.leader else {
            self.reply(to, Err(RequestError::NoLeader));
            return;
        };
        if let ReplyTo::Peer { .. } = to {
            // A question is passed on once; its first member asks again.
            self.reply(to, Err(RequestError::NotLeader));
            return;
        }
        self.lease_calls.next_call += 1;
        let id = self.lease_calls.next_call;
        self.lease_calls.asked.insert(id, question);
        let call = LeaseCall { id, kind: kind as i32, lease: lease.0 };
        self.outputs.push(Output::LeaseCall { to: leader, call });
    }

    /// Renews, as a leader that is proven to lead.
    pub(super) fn renew(&mut self, to: ReplyTo, lease: LeaseId, now: Now) {
        match self.machine.lessor_mut().renew(lease, now) {
            Ok(renewal) => match renewal.reset {
                None => self.reply(to, Ok(Reply::LeaseKeepAlive(renewal.ttl))),
                Some(checkpoint) => {
                    // The promise holds only once the log says so: the answer follows the entry.
                    let request = pb::LeaseCheckpointRequest { checkpoints: vec![checkpoint] };
                    let answer = Some(Reply::LeaseKeepAlive(renewal.ttl));
                    let command = Command::LeaseCheckpoint(request);
                    if let Err(error) = self.propose_in_term(to, answer, command, now) {
                        self.reply(to, Err(error));
                    }
                }
            },
            Err(RenewError::NotFound) => self.reply(to, Ok(Reply::LeaseKeepAlive(0))),
            Err(RenewError::Expiring) => self.lease_calls.expiring.push((lease, to, now.mono)),
            Err(RenewError::NotPrimary) => self.lease_calls.ask_again(to, lease, now.mono),
        }
    }

    fn describe_lease(&self, lease: LeaseId, keys: bool, now: Now) -> pb::LeaseTimeToLiveResponse {
        let header = Some(self.revision_header());
        match self.machine.lessor().time_to_live(lease, now) {
            None => pb::LeaseTimeToLiveResponse { header, id: lease.0, ttl: -1, ..Default::default() },
            Some(found) => pb::LeaseTimeToLiveResponse {
                header,
                id: lease.0,
                ttl: found.remaining,
                granted_ttl: found.granted,
                keys: if keys { found.keys().cloned().collect() } else { Vec::new() },
            },
        }
    }

    pub(super) fn list_leases(&self) -> Reply {
        let leases = self.machine.lessor().leases();
        Reply::LeaseLeases(pb::LeaseLeasesResponse {
            header: Some(self.revision_header()),
            leases: leases.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect(),
        })
    }

    fn revision_header(&self) -> pb::ResponseHeader {
        pb::ResponseHeader { revision: self.machine.store().revision(), ..Default::default() }
    }

    pub(super) fn on_lease_call(&mut self, from: MemberId, call: LeaseCall, now: Now) {
        let to = ReplyTo::Peer { member: from, call: call.id };
        let question = Question { to, lease: LeaseId(call.lease), kind: call.kind(), since: now.mono };
        if self.leads() {
            self.ask(question, now);
        } else {
            self.reply(to, Err(RequestError::NotLeader));
        }
    }

    /// Turns a reply into the answer to a peer.
    pub(super) fn answer_lease_call(&mut self, to: ReplyTo, result: Result<Reply, RequestError>) {
        let ReplyTo::Peer { member, call } = to else { return };
        let mut answer = LeaseAnswer { id: call, ..Default::default() };
        match result {
            Ok(Reply::LeaseKeepAlive(0)) => answer.set_outcome(Outcome::NotFound),
            Ok(Reply::LeaseKeepAlive(ttl)) => answer.ttl = ttl,
            Ok(Reply::LeaseTimeToLive(found)) => {
                answer.ttl = found.ttl;
                answer.granted_ttl = found.granted_ttl;
                answer.keys = found.keys;
            }
            Ok(_) | Err(_) => answer.set_outcome(Outcome::NotLeader),
        }
        self.outputs.push(Output::LeaseAnswer { to: member, answer });
    }

    pub(super) fn on_lease_answer(&mut self, answer: LeaseAnswer) {
        let Some(question) = self.lease_calls.asked.remove(&answer.id) else { return };
        if answer.outcome() == Outcome::NotLeader {
            self.lease_calls.again.push_back(question);
            return;
        }
        let reply = match question.kind {
            Kind::KeepAlive => Reply::LeaseKeepAlive(answer.ttl),
            Kind::TimeToLive | Kind::TimeToLiveWithKeys => {
                Reply::LeaseTimeToLive(pb::LeaseTimeToLiveResponse {
                    header: Some(self.revision_header()),
                    id: question.lease.0,
                    ttl: answer.ttl,
                    granted_ttl: answer.granted_ttl,
                    keys: answer.keys,
                })
            }
        };
        self.reply(question.to, Ok(reply));
    }

    /// A lease is gone: whoever wanted to renew it hears so.
    pub(super) fn answer_waiters_for_revoke(&mut self, lease: LeaseId) {
        let expiring = &mut self.lease_calls.expiring;
        let done: Vec<_> = expiring.extract_if(.., |(waiting, ..)| *waiting == lease).collect();
        for (_, to, _) in done {
            self.reply(to, Ok(Reply::LeaseKeepAlive(0)));
        }
    }

    /// This member leads no more: what waited for its word asks the new leader.
    pub(super) fn redirect_lease_waiters(&mut self) {
        let waiting = std::mem::take(&mut self.lease_calls.expiring);
        for (lease, to, since) in waiting {
            self.lease_calls.ask_again(to, lease, since);
        }
    }

    /// Asks again, ends late waits, and looks for leases that ran out.
    pub(super) fn tick_leases(&mut self, now: Now) {
        let late: Vec<u64> = self
            .lease_calls
            .asked
            .iter()
            .filter(|(_, question)| self.lease_calls.is_late(question.since, now))
            .map(|(&id, _)| id)
            .collect();
        for id in late {
            if let Some(question) = self.lease_calls.asked.remove(&id) {
                self.reply(question.to, Err(RequestError::Timeout));
            }
        }
        let timeout = self.lease_calls.timeout;
        let expiring = &mut self.lease_calls.expiring;
        let late: Vec<_> =
            expiring.extract_if(.., |(_, _, since)| now.mono.saturating_sub(*since) >= timeout).collect();
        for (_, to, _) in late {
            self.reply(to, Err(RequestError::Timeout));
        }
        for question in std::mem::take(&mut self.lease_calls.again) {
            if self.lease_calls.is_late(question.since, now) {
                self.reply(question.to, Err(RequestError::Timeout));
            } else if self.leads() || self.role.leader.is_some() {
                self.ask(question, now);
            } else {
                self.lease_calls.again.push_back(question);
            }
        }
        self.look_for_expired(now);
    }

    fn look_for_expired(&mut self, now: Now) {
        if !self.leads() || now.mono < self.lease_calls.next_expiry {
            return;
        }
        self.lease_calls.next_expiry = now.mono + EXPIRY_INTERVAL;
        if self.machine.lessor().next_deadline().is_none_or(|due| due > now.mono) {
            return;
        }
        self.when_confirmed(Purpose::Expire, now.mono);
    }

    /// Proposes the revoke of leases that ran out, and checkpoints of long ones.
    pub(super) fn propose_expired(&mut self, now: Now) {
        if !self.leads() {
            return;
        }
        let expired = self.machine.lessor_mut().expired(now, limits::LEASE_REVOKES_PER_PASS);
        for lease in expired {
            let revoke = Command::LeaseRevoke(pb::LeaseRevokeRequest { id: lease.0 });
            // A refused revoke comes up again after the retry interval.
            let _ = self.propose_in_term(ReplyTo::Nobody, None, revoke, now);
        }
        let checkpoints = self.machine.lessor_mut().due_checkpoints(now, limits::LEASE_CHECKPOINTS_PER_ENTRY);
        if !checkpoints.is_empty() {
            let request = pb::LeaseCheckpointRequest { checkpoints };
            let _ = self.propose_in_term(ReplyTo::Nobody, None, Command::LeaseCheckpoint(request), now);
        }
    }
}
