//! Requests on their way through the log: who waits for which, and for how long.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Reply;
use super::message::ReplyTo;
use crate::types::{MemberId, Now, RequestError, RequestId};

/// Proposals kept for the time when there is a leader; more are refused.
const MAX_HELD: usize = 5000;

/// Requests that were proposed, or will be as soon as somebody leads.
pub struct Proposals {
    next_id: u64,
    timeout: u64,
    waiting: BTreeMap<RequestId, Waiting>,
    /// The waiting ones by age; ids that were answered meanwhile are skipped.
    by_age: VecDeque<(u64, RequestId)>,
    /// Never appended anywhere, so proposing them later cannot make them happen twice.
    held: VecDeque<(RequestId, Bytes)>,
    leader_since: u64,
}

/// A caller and what it is waiting for.
pub(super) struct Waiting {
    /// Whom to answer.
    pub reply_to: ReplyTo,
    /// What to answer when the request succeeds, if not what the state machine says.
    pub answer: Option<Reply>,
    since: u64,
}

impl Proposals {
    /// No proposals yet. Ids begin with the member and the time, so that a restarted member does not
    /// use an id again that may still be in the log.
    pub fn new(member: MemberId, now: Now, timeout: u64) -> Self {
        let member = (member.0 & 0xffff) << 48;
        let time = (now.wall & 0xff_ffff_ffff) << 8;
        Self {
            next_id: member | time,
            timeout,
            waiting: BTreeMap::new(),
            by_age: VecDeque::new(),
            held: VecDeque::new(),
            leader_since: 0,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a new id.
    pub fn next_id(&mut self) -> RequestId {
        self.next_id += 1;
        RequestId(self.next_id)
    }

    /// Notes that somebody waits for a request.
    pub fn wait(&mut self, id: RequestId, reply_to: ReplyTo, answer: Option<Reply>, now: Now) {
        if reply_to != ReplyTo::Nobody {
            self.waiting.insert(id, Waiting { reply_to, answer, since: now.mono });
            self.by_age.push_back((now.mono, id));
        }
    }

    /// Who waits for the request, if anybody here does; nobody after that.
    pub fn answered(&mut self, id: RequestId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        if self.waiting.is_empty() {
            self.by_age.clear();
        }
        Some(waiting)
    }

    /// Whether one more proposal may be kept.
    pub fn has_room_to_hold(&self) -> bool {
        self.held.len() < MAX_HELD
    }

    /// Keeps a proposal that nobody can take now.
    pub fn hold(&mut self, id: RequestId, data: Bytes) {
        self.held.push_back((id, data));
    }

    /// The oldest kept proposal that somebody still waits for.
    pub fn take_held(&mut self) -> Option<(RequestId, Bytes)> {
        while let Some((id, data)) = self.held.pop_front() {
            if self.waiting.contains_key(&id) {
                return Some((id, data));
            }
        }
        None
    }

    /// Puts a kept proposal back in front.
    pub fn hold_again(&mut self, id: RequestId, data: Bytes) {
        self.held.push_front((id, data));
    }

    /// Notes that a new leader was elected.
    pub fn leader_elected(&mut self, now: Now) {
        self.leader_since = now.mono;
    }

    /// Those whose time is up, with the error that tells why (etcd: a request that was under way when
    /// the leader was lost says so). They may still happen.
    pub fn expired(&mut self, now: Now, election_timeout: u64) -> Vec<(ReplyTo, RequestError)> {
        let mut expired = Vec::new();
        while let Some(&(since, id)) = self.by_age.front() {
            if now.mono.saturating_sub(since) < self.timeout {
                break;
            }
            self.by_age.pop_front();
            let Some(waiting) = self.waiting.remove(&id) else { continue };
            let lost_with_leader = waiting.since <= self.leader_since
                && waiting.since + 2 * election_timeout >= self.leader_since;
            let error =
                if lost_with_leader { RequestError::TimeoutLeaderFailure } else { RequestError::Timeout };
            expired.push((waiting.reply_to, error));
        }
        expired
    }
}
