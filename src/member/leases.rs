//! Leases beyond what is replicated: renewals, time to live, expiry, and passing questions to the leader.
//!
//! ```text
//!   ask --leader here--> read round --> answer (renew, describe)
//!    ^ `--elsewhere----> LeaseCall .... LeaseAnswer --> reply
//!    `--- again, at a tick: lost, refused, or the leader changed
//! ```
//!
//! Renewals touch the leader's memory only. Before a question is answered, a read index proves that this
//! member still leads and has applied all that was acknowledged: a leader that was cut off must not
//! promise a lease that its successor lets run out (etcd #15247). The same proof precedes the revoke of
//! leases that ran out; the proposal itself is bound to the leader's term, since it is appended here or
//! nowhere.
//!
//! Invariants:
//! - an asker hears once: the leader's answer, or that its time is up, counted from its first question;
//! - an answer is taken for the question that it names only: ids are not used again;
//! - a renewal that undoes a checkpoint is answered after the log says so.

use std::collections::{BTreeMap, VecDeque};

use super::message::{Output, ReplyTo};
use super::proposals::first_number;
use super::reads::Purpose;
use super::{Member, Reply};
use crate::apply::Command;
use crate::lease::RenewError;
use crate::limits;
use crate::planted::{self, Bug};
use crate::proto::detcdpb::lease_answer::Outcome;
use crate::proto::detcdpb::lease_call::Kind;
use crate::proto::detcdpb::{LeaseAnswer, LeaseCall};
use crate::proto::etcdserverpb as pb;
use crate::types::{LeaseId, MemberId, Now, RequestError};

/// Time between two looks at leases that ran out (etcd: 500 ms).
const EXPIRY_INTERVAL: u64 = 500 * Now::MILLISECOND;

/// Time after which the leader is asked again: the call or its answer may have been lost.
const RETRY: u64 = Now::SECOND;

/// A question about a lease that waits for the leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Whom to answer.
    pub to: ReplyTo,
    /// The lease that it is about.
    pub lease: LeaseId,
    /// What is asked.
    pub kind: Kind,
    /// When the asker began to wait.
    pub since: u64,
}

/// Questions about leases that are on their way, and renewals that wait for a revoke.
pub(super) struct LeaseCalls {
    timeout: u64,
    last_call: u64,
    /// Sent to the leader, by call id, with the time.
    asked: BTreeMap<u64, (u64, Question)>,
    /// To be asked (again) at the next tick.
    again: VecDeque<Question>,
    /// Renewals of leases that ran out: the answer is that of the revoke that is under way.
    expiring: Vec<Question>,
    next_expiry: u64,
}

impl LeaseCalls {
    /// No questions.
    pub fn new(member: MemberId, seed: u64, now: Now, timeout: u64) -> Self {
        Self {
            timeout,
            last_call: first_number(member, seed, now),
            asked: BTreeMap::new(),
            again: VecDeque::new(),
            expiring: Vec::new(),
            next_expiry: 0,
        }
    }

    /// A question that got no answer here is asked again at the next tick, here or at the new leader.
    pub fn ask_again(&mut self, question: Question) {
        self.again.push_back(question);
    }

    /// Another leader, or another term of the same one: nothing that the old one was asked counts.
    pub fn restart(&mut self) {
        self.again.extend(std::mem::take(&mut self.asked).into_values().map(|(_, question)| question));
        self.again.append(&mut std::mem::take(&mut self.expiring).into());
    }

    fn is_late(&self, question: &Question, now: Now) -> bool {
        now.mono.saturating_sub(question.since) >= self.timeout
    }

    /// Takes the questions that are to be asked now.
    fn take_again(&mut self, now: Now) -> VecDeque<Question> {
        let unanswered = self.asked.extract_if(.., |_, (at, _)| now.mono.saturating_sub(*at) >= RETRY);
        self.again.extend(unanswered.map(|(_, (_, question))| question));
        std::mem::take(&mut self.again)
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
        if self.leads_alone() || (planted::is(Bug::KeepAliveUnproven) && self.leads()) {
            self.answer_question(question, now);
            return;
        }
        if self.leads() {
            self.when_confirmed(Purpose::Lease(question), question.since);
            return;
        }
        match (self.role.leader, question.to) {
            // An election takes less time than the caller has.
            (None, _) => self.lease_calls.ask_again(question),
            // Deposed in this very batch of inputs.
            (Some(leader), _) if leader == self.id => self.lease_calls.ask_again(question),
            // A question is passed on once; its first member asks again.
            (Some(_), to @ ReplyTo::Peer { .. }) => self.reply(to, Err(RequestError::NotLeader)),
            (Some(leader), _) => {
                self.lease_calls.last_call += 1;
                let id = self.lease_calls.last_call;
                self.lease_calls.asked.insert(id, (now.mono, question));
                let call = LeaseCall { id, kind: question.kind as i32, lease: question.lease.0 };
                self.outputs.push(Output::LeaseCall { to: leader, call });
            }
        }
    }

    /// Answers, as a leader that is proven to lead.
    pub(super) fn answer_question(&mut self, question: Question, now: Now) {
        match question.kind {
            Kind::KeepAlive => self.renew(question, now),
            _ if !self.machine.lessor().is_primary() => self.lease_calls.ask_again(question),
            Kind::TimeToLive | Kind::TimeToLiveWithKeys => {
                let keys = question.kind == Kind::TimeToLiveWithKeys;
                let reply = self.describe_lease(question.lease, keys, now);
                self.reply(question.to, Ok(Reply::LeaseTimeToLive(reply)));
            }
        }
    }

    fn renew(&mut self, question: Question, now: Now) {
        let Question { to, lease, .. } = question;
        match self.machine.lessor_mut().renew(lease, now) {
            Ok(renewal) => match renewal.reset {
                None => self.reply(to, Ok(Reply::LeaseKeepAlive(renewal.ttl))),
                Some(checkpoint) => {
                    // The promise holds only once the log says so: the answer follows the entry.
                    let request = pb::LeaseCheckpointRequest { checkpoints: vec![checkpoint] };
                    let answer = Some(Reply::LeaseKeepAlive(renewal.ttl));
                    let command = Command::LeaseCheckpoint(request);
                    if self.propose_in_term(to, answer, command, now).is_err() {
                        self.lease_calls.ask_again(question);
                    }
                }
            },
            Err(RenewError::Expiring) if planted::is(Bug::ExpiringLeaseRenewed) => {
                let left = self.machine.lessor().time_to_live(lease, now);
                let granted = left.map_or(0, |left| left.granted);
                self.reply(to, Ok(Reply::LeaseKeepAlive(granted)));
            }
            Err(RenewError::NotFound) => self.reply(to, Ok(Reply::LeaseKeepAlive(0))),
            Err(RenewError::Expiring) => self.lease_calls.expiring.push(question),
            Err(RenewError::NotPrimary) => self.lease_calls.ask_again(question),
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
        let misplaced = planted::is(Bug::LeaseAnswerMisplaced);
        let oldest = self.lease_calls.asked.keys().next().copied().filter(|_| misplaced);
        let id = oldest.unwrap_or(answer.id);
        let Some((_, question)) = self.lease_calls.asked.remove(&id) else { return };
        if answer.outcome() == Outcome::NotLeader {
            self.lease_calls.ask_again(question);
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
        let done: Vec<_> = expiring.extract_if(.., |question| question.lease == lease).collect();
        for question in done {
            self.reply(question.to, Ok(Reply::LeaseKeepAlive(0)));
        }
    }

    /// Asks again, ends late waits, and looks for leases that ran out.
    pub(super) fn tick_leases(&mut self, now: Now) {
        for question in self.lease_calls.take_again(now) {
            if self.lease_calls.is_late(&question, now) {
                let led = self.role.leader.is_some();
                self.reply(
                    question.to,
                    Err(if led { RequestError::Timeout } else { RequestError::NoLeader }),
                );
            } else if self.role.leader.is_some() {
                self.ask(question, now);
            } else {
                self.lease_calls.ask_again(question);
            }
        }
        let late: Vec<_> = {
            let calls = &mut self.lease_calls;
            let timeout = calls.timeout;
            let is_late = |question: &mut Question| now.mono.saturating_sub(question.since) >= timeout;
            calls.expiring.extract_if(.., is_late).collect()
        };
        for question in late {
            self.reply(question.to, Err(RequestError::Timeout));
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
