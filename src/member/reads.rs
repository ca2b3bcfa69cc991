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
//! - a reader is served after the applied index reached the confirmed one, or told that its leader
//!   changed or its time is up.

use std::collections::VecDeque;

use bytes::Bytes;

use super::message::ReplyTo;
use super::{Member, Reply};
use crate::raft::ReadState;
use crate::types::{LeaseId, MemberId, Now, RequestError};

/// Time after which an unanswered round is asked again (etcd: 500 ms).
const RETRY: u64 = 500 * Now::MILLISECOND;

/// What is done once the read index is confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Tell the reader that the view is good.
    Read(ReplyTo),
    /// Renew a lease, as the leader that this member is proven to be.
    KeepAlive(ReplyTo, LeaseId),
    /// Propose the revokes of leases that ran out, as above.
    Expire,
}

struct Reader {
    purpose: Purpose,
    since: u64,
}

struct Round {
    context: u64,
    asked: u64,
    readers: Vec<Reader>,
}

/// Readers on their way to be served.
pub(super) struct Reads {
    next_context: u64,
    timeout: u64,
    waiting: Vec<Reader>,
    round: Option<Round>,
    /// Confirmed, by the index that must be applied first.
    confirmed: VecDeque<(u64, Vec<Reader>)>,
}

impl Reads {
    /// No readers. Contexts begin with the member and the time, so that an answer to an earlier run of
    /// this member is never taken for one to this run.
    pub fn new(member: MemberId, now: Now, timeout: u64) -> Self {
        let next_context = (member.0 << 48) | ((now.wall & 0xff_ffff_ffff) << 8);
        Self { next_context, timeout, waiting: Vec::new(), round: None, confirmed: VecDeque::new() }
    }

    fn take_all(&mut self) -> impl Iterator<Item = Reader> + use<> {
        let round = self.round.take().map(|round| round.readers).unwrap_or_default();
        std::mem::take(&mut self.waiting).into_iter().chain(round)
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
        self.reads.waiting.push(Reader { purpose, since });
    }

    /// Starts a round for those that wait, if none is under way and somebody leads.
    pub(super) fn start_read_round(&mut self, now: Now) {
        if self.reads.waiting.is_empty() || self.reads.round.is_some() || self.role.leader.is_none() {
            return;
        }
        self.reads.next_context += 1;
        let context = self.reads.next_context;
        let readers = std::mem::take(&mut self.reads.waiting);
        self.reads.round = Some(Round { context, asked: now.mono, readers });
        self.driver.read_index(Bytes::copy_from_slice(&context.to_be_bytes()));
    }

    pub(super) fn on_read_state(&mut self, state: &ReadState) {
        let answers = |round: &Round| state.context.as_ref() == round.context.to_be_bytes();
        if !self.reads.round.as_ref().is_some_and(answers) {
            return;
        }
        if let Some(round) = self.reads.round.take() {
            self.reads.confirmed.push_back((state.index, round.readers));
        }
    }

    /// Serves the readers whose index is applied.
    pub(super) fn serve_confirmed_reads(&mut self, now: Now) {
        while let Some((index, _)) = self.reads.confirmed.front() {
            if *index > self.machine.applied().index {
                return;
            }
            let Some((_, readers)) = self.reads.confirmed.pop_front() else { return };
            for reader in readers {
                match reader.purpose {
                    Purpose::Read(to) => self.reply(to, Ok(Reply::ReadIndex)),
                    Purpose::KeepAlive(to, lease) => self.renew(to, lease, now),
                    Purpose::Expire => self.propose_expired(now),
                }
            }
        }
    }

    /// Ends every wait for a leader's word. Confirmed readers only wait for this member.
    pub(super) fn fail_reads(&mut self, error: RequestError) {
        for reader in self.reads.take_all() {
            self.statistics.read_indexes_failed += 1;
            match reader.purpose {
                Purpose::Read(to) => self.reply(to, Err(error)),
                Purpose::KeepAlive(to, lease) => self.lease_calls.ask_again(to, lease, reader.since),
                Purpose::Expire => {}
            }
        }
    }

    /// Asks again where no answer came, and ends the waits that took too long.
    pub(super) fn tick_reads(&mut self, now: Now) {
        for reader in self.reads.take_late(now) {
            self.statistics.read_indexes_failed += 1;
            match reader.purpose {
                Purpose::Read(to) | Purpose::KeepAlive(to, _) => {
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
        let context = round.context;
        self.driver.read_index(Bytes::copy_from_slice(&context.to_be_bytes()));
    }
}
