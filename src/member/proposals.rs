//! Requests on their way through the log: who waits for which, and for how long.
//!
//! Ids grow within a run, so the waiting ones are sorted by age as well.
//!
//! Invariants:
//! - a caller is answered once: by its entry or by the end of its time, whichever comes first;
//! - what is held was never given to raft, so that proposing it later cannot make it happen twice. What
//!   was given to raft is never proposed again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Reply;
use super::message::ReplyTo;
use crate::raft::scramble;
use crate::types::{MemberId, Now, RequestError, RequestId};

/// Proposals kept for the time when there is a leader; more are refused.
const MAX_HELD: usize = 5000;

/// Bytes of them; one larger proposal is kept alone.
const MAX_HELD_BYTES: usize = 16 << 20;

/// Requests that were proposed, or will be as soon as somebody leads.
pub(super) struct Proposals {
    last_id: u64,
    timeout: u64,
    waiting: BTreeMap<RequestId, Waiting>,
    held: VecDeque<(RequestId, Bytes)>,
    held_bytes: usize,
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

/// A number that begins with the member: counting up from it, this run of the member does not use a number
/// again that an earlier run sent out. What one run waits for, the answer to another must not look like: an
/// entry that is committed late, or a read index that comes late.
///
/// Time alone does not tell runs apart: clocks are set back, and stand still. So the place where a run begins
/// is drawn anew with its seed, out of so many that two runs hardly ever come near each other.
pub(super) fn first_number(member: MemberId, seed: u64, now: Now) -> u64 {
    let place = scramble(scramble(seed).wrapping_add(now.wall));
    // The highest bit of the place stays free: counting up does not reach the member.
    ((member.0 & 0xffff) << 48) | (place & 0x7fff_ffff_ffff)
}

impl Proposals {
    /// No proposals yet.
    pub fn new(member: MemberId, seed: u64, now: Now, timeout: u64) -> Self {
        Self {
            last_id: first_number(member, seed, now),
            timeout,
            waiting: BTreeMap::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            leader_since: 0,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a new id, larger than all before it.
    pub fn next_id(&mut self) -> RequestId {
        self.last_id += 1;
        RequestId(self.last_id)
    }

    /// Notes that somebody waits for a request.
    pub fn wait(&mut self, id: RequestId, reply_to: ReplyTo, answer: Option<Reply>, now: Now) {
        if reply_to != ReplyTo::Nobody {
            self.waiting.insert(id, Waiting { reply_to, answer, since: now.mono });
        }
    }

    /// Who waits for the request, if anybody here does; nobody after that.
    pub fn answered(&mut self, id: RequestId) -> Option<Waiting> {
        self.waiting.remove(&id)
    }

    /// Whether one more proposal may be kept.
    pub fn has_room_to_hold(&self) -> bool {
        self.held.len() < MAX_HELD && self.held_bytes < MAX_HELD_BYTES
    }

    /// Keeps a proposal that nobody can take now.
    pub fn hold(&mut self, id: RequestId, data: Bytes) {
        self.held_bytes += data.len();
        self.held.push_back((id, data));
    }

    /// The oldest kept proposal that somebody still waits for.
    pub fn first_held(&mut self) -> Option<Bytes> {
        self.forget_unwanted();
        self.held.front().map(|(_, data)| data.clone())
    }

    /// Lets go of the oldest kept proposal: raft has it now.
    pub fn release_held(&mut self) {
        if let Some((_, data)) = self.held.pop_front() {
            self.held_bytes -= data.len();
        }
    }

    fn forget_unwanted(&mut self) {
        while self.held.front().is_some_and(|(id, _)| !self.waiting.contains_key(id)) {
            self.release_held();
        }
    }

    /// Notes that a new leader was elected.
    pub fn leader_elected(&mut self, now: Now) {
        self.leader_since = now.mono;
    }

    /// Those whose time is up, with the error that tells why (etcd: a request that was under way when
    /// the leader was lost says so, and one that found no leader all the time says that its time is up).
    /// They may still happen, unless they were only held.
    pub fn expired(&mut self, now: Now, election_timeout: u64) -> Vec<(ReplyTo, RequestError)> {
        let mut expired = Vec::new();
        while let Some(oldest) = self.waiting.first_entry() {
            let since = oldest.get().since;
            if now.mono.saturating_sub(since) < self.timeout {
                break;
            }
            let lost_with_leader =
                since <= self.leader_since && since + 2 * election_timeout >= self.leader_since;
            let error = if self.held.binary_search_by_key(oldest.key(), |(id, _)| *id).is_ok() {
                RequestError::DeadlineExceeded
            } else if lost_with_leader {
                RequestError::TimeoutLeaderFailure
            } else {
                RequestError::Timeout
            };
            expired.push((oldest.remove().reply_to, error));
        }
        self.forget_unwanted();
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Ticket;

    /// What was held was never proposed: its caller hears that time is up and not that it may still happen.
    #[test]
    fn what_no_leader_took_is_told_from_what_one_did() {
        let at = |mono| Now { mono, wall: 0 };
        let mut proposals = Proposals::new(MemberId(1), 7, at(0), 10);
        proposals.leader_elected(at(1000));
        for held in [true, false, true] {
            let id = proposals.next_id();
            if held {
                proposals.hold(id, Bytes::new());
            }
            proposals.wait(id, ReplyTo::Ticket(Ticket(u64::from(held))), None, at(0));
        }
        // A leader took the first of them in the end.
        assert!(proposals.first_held().is_some());
        proposals.release_held();
        let (given, held) = (ReplyTo::Ticket(Ticket(0)), ReplyTo::Ticket(Ticket(1)));
        let expected = [
            (held, RequestError::Timeout),
            (given, RequestError::Timeout),
            (held, RequestError::DeadlineExceeded),
        ];
        assert_eq!(proposals.expired(at(9), 1), []);
        assert_eq!(proposals.expired(at(10), 1), expected);
        assert_eq!(proposals.first_held(), None);
    }

    #[test]
    fn runs_do_not_share_numbers_though_the_clock_stands_still() {
        let now = Now { mono: 0, wall: 1_790_000_000_000 };
        let firsts: Vec<u64> = (0..1000).map(|seed| first_number(MemberId(0x1_2345), seed, now)).collect();
        for (run, first) in firsts.iter().enumerate() {
            assert_eq!(first >> 48, 0x2345, "{first:x} tells the member");
            let far = |other: &u64| first.abs_diff(*other) > 1 << 20;
            assert!(firsts[..run].iter().all(far), "run {run} begins at {first:x}, near an earlier one");
        }
    }
}
