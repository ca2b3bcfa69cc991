//! Read indexes: proof that this member's state holds everything acknowledged before a read began
//! (Raft, section 6.4; etcd: ReadIndex).
//!
//! One round of heartbeats serves every reader that waits. Those that come while a round is under way
//! join the next one, since the answer of the running round may be older than they are.
//!
//! ```text
//!   waiting --start--> round (context) --confirmed--> until applied >= index --> served
//! ```
//!
//! Invariants:
//! - an answer serves only the readers that were there when its round began: each round has a context
//!   of its own that is never used again;
//! - a reader is served after the applied index reached the confirmed one, or told that its time is up:
//!   when a round is lost with its leader, its readers join the next one;
//! - what is done because this member is proven to lead is done in the term of the proof.

use std::collections::VecDeque;

use bytes::Bytes;

use super::leases::Question;
use super::message::ReplyTo;
use super::proposals::first_number;
use super::{Member, Reply};
use crate::planted::{self, Bug};
use crate::raft::ReadState;
use crate::types::{MemberId, Now, RequestError};

/// Time after which an unanswered round is asked again (etcd: 500 ms).
const RETRY: u64 = 500 * Now::MILLISECOND;

/// What is done once the read index is confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Tell the reader that the view is good.
    Read(ReplyTo),
    /// Answer a question about a lease, as the leader that this member is proven to be.
    Lease(Question),
    /// Propose the revokes of leases that ran out, as above.
    Expire,
}

struct Reader {
    purpose: Purpose,
    since: u64,
}

struct Round {
    context: Bytes,
    asked: u64,
    readers: Vec<Reader>,
}

/// Readers on their way to be served.
pub(super) struct Reads {
    member: MemberId,
    last_round: u64,
    timeout: u64,
    waiting: Vec<Reader>,
    round: Option<Round>,
    /// Confirmed, by the index that must be applied first.
    confirmed: VecDeque<(u64, Vec<Reader>)>,
}

impl Reads {
    /// No readers.
    pub fn new(member: MemberId, seed: u64, now: Now, timeout: u64) -> Self {
        Self {
            member,
            last_round: first_number(member, seed, now),
            timeout,
            waiting: Vec::new(),
            round: None,
            confirmed: VecDeque::new(),
        }
    }

    /// A context that no member used before: leaders tell the rounds of all members apart by it.
    fn next_context(&mut self) -> Bytes {
        self.last_round += 1;
        [self.member.0.to_be_bytes(), self.last_round.to_be_bytes()].concat().into()
    }

    /// Takes the readers whose proof is void without the leader that was asked for it. To a mere reader a
    /// confirmed index stays good.
    fn take_unproven(&mut self) -> Vec<Reader> {
        let mut readers = self.round.take().map(|round| round.readers).unwrap_or_default();
        readers.append(&mut self.waiting);
        for (_, confirmed) in &mut self.confirmed {
            let needs_leader = |reader: &mut Reader| !matches!(reader.purpose, Purpose::Read(_));
            readers.extend(confirmed.extract_if(.., needs_leader));
        }
        readers
    }

    /// Removes the readers whose time is up.
    fn take_late(&mut self, now: Now) -> Vec<Reader> {
        let timeout = self.timeout;
        let is_late = |reader: &mut Reader| now.mono.saturating_sub(reader.since) >= timeout;
        let mut late: Vec<Reader> = self.waiting.extract_if(.., is_late).collect();
        if let Some(round) = &mut self.round {
            late.extend(round.readers.extract_if(.., is_late));
        }
        for (_, readers) in &mut self.confirmed {
            late.extend(readers.extract_if(.., is_late));
        }
        late
    }
}

impl Member {
    /// Serves a reader as soon as a read index is confirmed and applied.
    pub(super) fn read_index(&mut self, to: ReplyTo, now: Now) {
        self.when_confirmed(Purpose::Read(to), now.mono);
    }

    /// Does something as soon as a read index is confirmed and applied. `since` is when its caller began
    /// to wait.
    pub(super) fn when_confirmed(&mut self, purpose: Purpose, since: u64) {
        let reader = Reader { purpose, since };
        if planted::is(Bug::ReadJoinsRunningRound)
            && let Some(round) = &mut self.reads.round
        {
            return round.readers.push(reader);
        }
        self.reads.waiting.push(reader);
    }

    /// Starts a round for those that wait, if none is under way and somebody leads.
    pub(super) fn start_read_round(&mut self, now: Now) {
        if self.reads.waiting.is_empty() || self.reads.round.is_some() || self.role.leader.is_none() {
            return;
        }
        let context = self.reads.next_context();
        let readers = std::mem::take(&mut self.reads.waiting);
        self.reads.round = Some(Round { context: context.clone(), asked: now.mono, readers });
        // A request that is not taken is made again like one that is lost.
        self.driver.read_index(context);
    }

    pub(super) fn on_read_state(&mut self, state: &ReadState) {
        let any = planted::is(Bug::ReadStateMisplaced);
        if let Some(round) = self.reads.round.take_if(|round| round.context == state.context || any) {
            self.reads.confirmed.push_back((state.index, round.readers));
        }
    }

    /// Serves the readers whose index is applied.
    pub(super) fn serve_confirmed_reads(&mut self, now: Now) {
        let mut served = false;
        while let Some((index, _)) = self.reads.confirmed.front() {
            let follows = planted::is(Bug::ReadFollowsAnother) && served;
            let waits = !planted::is(Bug::ReadNotWaiting) && !follows;
            if *index > self.machine.applied().index && waits {
                return;
            }
            let Some((_, readers)) = self.reads.confirmed.pop_front() else { return };
            served = true;
            for reader in readers {
                match reader.purpose {
                    Purpose::Read(to) => self.reply(to, Ok(Reply::ReadIndex)),
                    Purpose::Lease(question) => self.answer_question(question, now),
                    Purpose::Expire => self.propose_expired(now),
                }
            }
        }
    }

    /// Another leader, or another term of the same one: who waited for the word of the old one begins anew.
    pub(super) fn restart_reads(&mut self) {
        for reader in self.reads.take_unproven() {
            match reader.purpose {
                Purpose::Read(_) => self.reads.waiting.push(reader),
                Purpose::Lease(question) => self.lease_calls.ask_again(question),
                Purpose::Expire => {}
            }
        }
    }

    /// Asks again where no answer came, and ends the waits that took too long.
    pub(super) fn tick_reads(&mut self, now: Now) {
        for reader in self.reads.take_late(now) {
            self.statistics.read_indexes_failed += 1;
            match reader.purpose {
                Purpose::Read(to) | Purpose::Lease(Question { to, .. }) => {
                    self.reply(to, Err(RequestError::Timeout));
                }
                Purpose::Expire => {}
            }
        }
        let Some(round) = &mut self.reads.round else { return };
        if now.mono.saturating_sub(round.asked) < RETRY {
            return;
        }
        self.statistics.slow_read_indexes += 1;
        round.asked = now.mono;
        let context = round.context.clone();
        self.driver.read_index(context);
    }
}
