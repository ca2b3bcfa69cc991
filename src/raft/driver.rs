//! The driver: the raft crate's `RawNode` behind plain values. See the head of [`crate::raft`].

use std::collections::VecDeque;

use ::raft::eraftpb::{Entry, EntryType, Message};
use ::raft::{Config, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use bytes::Bytes;

use super::conf_change::ConfChange;
use super::log_storage::LogStorage;
use super::message::{self, MessageKind, Receiver, StepError};
use super::ready::{DriverConfig, Persist, ProposeRefused, ReadState, Ready, RecoveredLog};
use super::status::{Configuration, RoleChange};
use super::{MAX_COMMITTED_BYTES_PER_READY, MAX_POSTPONED_READS, convert};
use crate::planted::{self, Bug};
use crate::types::log::{HardState, PeerMessage, SnapshotPoint};
use crate::types::{LocalFault, MemberId};

/// One member's raft.
///
/// After any call, [`Driver::has_ready`] says whether there is something to be done.
pub struct Driver {
    pub(super) node: RawNode<LogStorage>,
    seed: u64,
    max_message_bytes: u64,
    log_memory_bytes: u64,
    /// Number of the newest [`Ready`].
    number: u64,
    /// Numbers of the [`Ready`]s with a synced write that is not durable yet, ascending.
    unsynced: VecDeque<u64>,
    /// The newest of `unsynced` that changed the term or the vote.
    unsynced_vote: Option<u64>,
    /// What the state machine has reached. Raft is told as far as it is durable.
    applied: u64,
    /// As last given out.
    hard_state: HardState,
    /// As last given out.
    role: RoleChange,
    /// Read index requests that wait for the first commit of this leader's term.
    postponed_reads: Vec<Message>,
}

impl Driver {
    /// A member at start. `log` must be durable as it is.
    ///
    /// Fails when `config` or `log` contradicts itself.
    pub fn new(config: DriverConfig, log: RecoveredLog) -> Result<Self, LocalFault> {
        let applied = log.snapshot.index;
        let raft_config = Config {
            id: config.id.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied,
            max_size_per_msg: config.max_message_bytes,
            max_inflight_msgs: config.max_inflight,
            check_quorum: config.check_quorum,
            pre_vote: config.pre_vote,
            read_only_option: if planted::is(Bug::ReadWithoutRound) {
                ReadOnlyOption::LeaseBased
            } else {
                ReadOnlyOption::Safe
            },
            batch_append: true,
            max_uncommitted_size: config.max_uncommitted_bytes,
            max_committed_size_per_ready: MAX_COMMITTED_BYTES_PER_READY,
            ..Config::default()
        };
        // Both are checked here since raft panics on the one and leaves the other to overflow.
        if config.id.0 == 0 || config.election_ticks > usize::MAX / 4 {
            return Err(LocalFault::new("raft: no member id, or an election timeout out of range"));
        }
        let storage = LogStorage::recover(log)?;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&raft_config, storage, &logger)
            .map_err(|error| LocalFault::new(format!("raft cannot start: {error}")))?;
        let mut driver = Self {
            hard_state: convert::hard_state_from_raft(&node.raft.hard_state()),
            node,
            seed: config.seed,
            max_message_bytes: config.max_message_bytes,
            log_memory_bytes: config.log_memory_bytes,
            number: 0,
            unsynced: VecDeque::new(),
            unsynced_vote: None,
            applied,
            role: RoleChange::default(),
            postponed_reads: Vec::new(),
        };
        driver.role = driver.current_role();
        driver.bound_log(u64::MAX);
        Ok(driver)
    }

    /// One tick of the clock has passed.
    pub fn tick(&mut self) {
        let timeout = self.election_timeout();
        self.node.raft.set_randomized_election_timeout(timeout);
        let due = !self.is_leader() && self.node.raft.election_elapsed + 1 >= timeout;
        if due && !self.may_campaign() {
            self.node.raft.election_elapsed += 1;
        } else {
            self.node.tick();
        }
    }

    /// Ticks without a leader's word until an election, in `election_ticks..2 * election_ticks`.
    fn election_timeout(&self) -> usize {
        let raft = &self.node.raft;
        let base = raft.election_timeout();
        let draw = scramble(scramble(self.seed ^ raft.id).wrapping_add(raft.term));
        base + (draw % base as u64) as usize
    }

    /// Whether this member may stand for election. Raft only asks the first of these and fails in the
    /// middle of winning, or of reading its own log, on the others.
    fn may_campaign(&self) -> bool {
        let raft = &self.node.raft;
        let whole = raft.raft_log.last_index() == raft.raft_log.persisted;
        let installed = raft.raft_log.applied + 1 >= raft.raft_log.first_index();
        raft.promotable() && whole && installed
    }

    /// Takes a peer's marshalled message. On an error nothing has changed.
    pub fn step(&mut self, bytes: &Bytes) -> Result<(), StepError> {
        let message = message::unmarshal(bytes)?;
        let receiver = Receiver {
            id: self.node.raft.id,
            term: self.node.raft.term,
            leading: self.is_leader(),
            last_index: self.node.raft.raft_log.last_index(),
        };
        message::check(&message, &receiver)?;
        match message.get_msg_type() {
            MessageKind::MsgReadIndex if self.must_postpone_reads() => {
                self.postpone_read(message);
                return Ok(());
            }
            // Too late for the one, too early for the other; raft would trip over both.
            MessageKind::MsgTransferLeader if !self.is_leader() => return Ok(()),
            MessageKind::MsgTimeoutNow if !self.may_campaign() => return Ok(()),
            _ => {}
        }
        let from = message.from;
        self.node.step(message).map_err(|error| match error {
            ::raft::Error::StepPeerNotFound => StepError::UnknownPeer { from },
            ::raft::Error::ProposalDropped => StepError::ProposalDropped,
            _ => StepError::Malformed("raft refused it"),
        })?;
        if planted::is(Bug::OldTermCommitted) && self.is_leader() {
            let (copied, _) = self.node.raft.mut_prs().maximal_committed_index();
            self.node.raft.raft_log.commit_to(copied);
        }
        Ok(())
    }

    /// Proposes an entry. A follower forwards it to its leader. It may still be lost: only its appearance
    /// among the committed entries tells.
    pub fn propose(&mut self, data: Bytes) -> Result<(), ProposeRefused> {
        self.propose_entry(EntryType::EntryNormal, data)
    }

    /// Proposes a change of one member. On a leader refused while an earlier one is not applied; a
    /// forwarded one is then silently replaced by an empty entry.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), ProposeRefused> {
        if self.is_leader() && self.node.raft.has_pending_conf() {
            return Err(ProposeRefused::ConfChangePending);
        }
        self.propose_entry(EntryType::EntryConfChange, change.encode())
    }

    fn propose_entry(&mut self, kind: EntryType, data: Bytes) -> Result<(), ProposeRefused> {
        if self.node.raft.leader_id == 0 {
            return Err(ProposeRefused::NoLeader);
        }
        if self.node.raft.lead_transferee.is_some() {
            return Err(ProposeRefused::Transferring);
        }
        let mut entry = Entry { data, ..Entry::default() };
        entry.set_entry_type(kind);
        let mut message = Message { from: self.node.raft.id, ..Message::default() };
        message.set_msg_type(MessageKind::MsgPropose);
        message.mut_entries().push(entry);
        self.node.step(message).map_err(|_| ProposeRefused::TooMuchUncommitted)
    }

    /// Asks for a read index; `context` comes back with it and must be unique. False when there is no
    /// leader to ask. See the head of [`crate::raft`] for what may become of it.
    pub fn read_index(&mut self, context: Bytes) -> bool {
        if self.node.raft.leader_id == 0 {
            return false;
        }
        let mut message = Message::default();
        message.set_msg_type(MessageKind::MsgReadIndex);
        message.mut_entries().push(Entry { data: context, ..Entry::default() });
        if self.must_postpone_reads() {
            return self.postpone_read(message);
        }
        self.node.step(message).is_ok()
    }

    fn must_postpone_reads(&self) -> bool {
        self.is_leader() && !self.node.raft.commit_to_current_term()
    }

    fn postpone_read(&mut self, message: Message) -> bool {
        let room = self.postponed_reads.len() < MAX_POSTPONED_READS;
        if room {
            self.postponed_reads.push(message);
        }
        room
    }

    fn release_postponed_reads(&mut self) {
        if self.postponed_reads.is_empty() || self.must_postpone_reads() {
            return;
        }
        let reads = std::mem::take(&mut self.postponed_reads);
        // Without leadership they are lost, as raft's own pending reads are.
        if self.is_leader() {
            for read in reads {
                // Reading is never refused by a leader that has committed in its term.
                let _ = self.node.step(read);
            }
        }
    }

    /// Hands leadership to `to`, a voter; a follower asks its leader to. Given up after an election timeout.
    pub fn transfer_leader(&mut self, to: MemberId) {
        self.node.transfer_leader(to.0);
    }

    /// Stands for election at once, without waiting for the timeout, if it may.
    pub fn campaign(&mut self) {
        if self.may_campaign() {
            // Only a failing storage could refuse.
            let _ = self.node.campaign();
        }
    }

    /// The last message to `to` could not be delivered. The leader falls back to probing.
    pub fn report_unreachable(&mut self, to: MemberId) {
        self.node.report_unreachable(to.0);
    }

    /// Whether the snapshot for `to` has arrived there. Every snapshot message must be reported on, or its
    /// receiver is sent nothing more.
    pub fn report_snapshot(&mut self, to: MemberId, ok: bool) {
        let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(to.0, status);
    }

    /// Whether [`Driver::take_ready`] has something to give.
    pub fn has_ready(&self) -> bool {
        self.node.has_ready()
    }

    /// Everything that has become due since the last call.
    pub fn take_ready(&mut self) -> Ready {
        self.release_postponed_reads();
        let mut ready = self.node.ready();
        self.number = ready.number();
        let persist = self.take_persist(&mut ready);
        let synced = persist.as_ref().is_some_and(|persist| persist.must_sync);
        if synced {
            self.unsynced.push_back(self.number);
        }
        let install_snapshot = persist.as_ref().and_then(|persist| persist.snapshot.clone());
        let mut messages = ready.take_messages();
        messages.append(&mut ready.take_persisted_messages());
        let (send_now, send_after_persist) = self.sort_messages(messages);
        let committed = ready.take_committed_entries().iter().map(convert::entry_from_raft).collect();
        let read_states = ready
            .take_read_states()
            .into_iter()
            .map(|read| ReadState { index: read.index, context: Bytes::from(read.request_ctx) })
            .collect();
        self.node.advance_append_async(ready);
        self.settle();
        Ready {
            number: self.number,
            send_now,
            persist,
            send_after: if send_after_persist.is_empty() {
                0
            } else {
                self.unsynced.back().copied().unwrap_or(0)
            },
            send_after_persist,
            install_snapshot,
            committed,
            read_states,
            role_change: self.take_role_change(),
        }
    }

    /// What is to be written. From here on raft reads it back from the storage.
    fn take_persist(&mut self, ready: &mut ::raft::Ready) -> Option<Persist> {
        let snapshot =
            (!ready.snapshot().is_empty()).then(|| convert::point_from_raft(ready.snapshot().get_metadata()));
        let entries = ready.take_entries();
        let mut hard_state = ready.hs().map(convert::hard_state_from_raft);
        if planted::is(Bug::VoteNotWritten) {
            let known = (self.hard_state.term, self.hard_state.commit);
            hard_state = hard_state.filter(|state| (state.term, state.commit) != known);
        }
        if snapshot.is_none() && entries.is_empty() && hard_state.is_none() {
            return None;
        }
        if let Some(state) = hard_state {
            if (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote) {
                self.unsynced_vote = Some(self.number);
            }
            self.hard_state = state;
        }
        let persist = Persist {
            entries: entries.iter().map(convert::entry_from_raft).collect(),
            hard_state,
            snapshot: snapshot.clone(),
            must_sync: ready.must_sync(),
        };
        if let Some(point) = snapshot {
            self.node.mut_store().install(point);
        }
        self.node.mut_store().append(entries);
        self.bound_log(u64::MAX);
        Some(persist)
    }

    /// Which messages may leave at once, and which wait for the newest write.
    fn sort_messages(&self, messages: Vec<Message>) -> (Vec<PeerMessage>, Vec<PeerMessage>) {
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for message in message::repack(messages, self.max_message_bytes) {
            let free = self.unsynced.is_empty()
                || if self.is_leader() { self.unsynced_vote.is_none() } else { promises_nothing(&message) };
            if free { &mut now } else { &mut later }.push(message::outgoing(&message));
        }
        (now, later)
    }

    /// The writes of [`Ready`] `number` and of all before it are on stable storage. Called before their
    /// `send_after_persist` leave, so that no answer comes back earlier.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.number, "ready {number} is durable before it was given out ({})", self.number);
        while self.unsynced.front().is_some_and(|&first| first <= number) {
            self.unsynced.pop_front();
        }
        if self.unsynced_vote.is_some_and(|vote| vote <= number) {
            self.unsynced_vote = None;
        }
        self.settle();
    }

    /// The state machine has applied all entries up to `index`, and their configuration changes were
    /// given to [`Driver::apply_conf_change`] or rejected.
    pub fn applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
        self.settle();
    }

    /// The state machine was replaced by the snapshot at `point`.
    pub fn installed_snapshot(&mut self, point: &SnapshotPoint) {
        self.applied(point.index);
    }

    /// Tells raft what is durable and applied. A [`Ready`] that nobody has to sync is durable with the
    /// one before it.
    fn settle(&mut self) {
        let mut durable = self.unsynced.front().map_or(self.number, |first| first - 1);
        if planted::is(Bug::LeaderCountsItselfEarly) && self.is_leader() {
            durable = self.number;
        }
        self.node.on_persist_ready(durable);
        if planted::is(Bug::AnsweredBeforeQuorum) && self.is_leader() {
            let own = self.node.raft.raft_log.persisted;
            self.node.raft.raft_log.commit_to(own);
        }
        let log = &self.node.raft.raft_log;
        let applied = self.applied.min(log.committed).min(log.persisted);
        if applied > log.applied {
            self.node.advance_apply_to(applied);
        }
    }

    /// Carries out a committed configuration change, before [`Driver::applied`] is called for its entry.
    /// One that the membership rules reject is not given here at all. Fails, the same way on every member
    /// and without effect, when no voter would be left.
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> Result<Configuration, LocalFault> {
        self.node.apply_conf_change(&change.to_raft()).map_err(|error| {
            LocalFault::new(format!("raft cannot carry out {:?} of {}: {error}", change.kind, change.member))
        })?;
        // Raft goes on leading without itself and fails at its next commit.
        let raft = &mut self.node.raft;
        if !raft.promotable() && raft.state != StateRole::Follower {
            let term = raft.term;
            raft.become_follower(term, 0);
        }
        Ok(self.configuration())
    }

    /// Offers `point` to followers that need entries which are no longer here. What is streamed beside the
    /// message must be the state at that point; see [`message::with_snapshot_point`] to move it.
    pub fn set_snapshot_point(&mut self, point: SnapshotPoint) {
        self.node.mut_store().set_snapshot_point(point);
        self.bound_log(u64::MAX);
    }

    /// As [`Driver::set_snapshot_point`], and drops entries from memory, all but `keep_entries` before
    /// `point`. Applied ones only.
    pub fn compact_log(&mut self, point: SnapshotPoint, keep_entries: u64) {
        self.node.mut_store().set_snapshot_point(point);
        self.bound_log(keep_entries);
    }

    /// Whether a follower waits for a newer snapshot point than was set. Asking clears it.
    pub fn take_snapshot_wanted(&self) -> bool {
        self.node.store().take_snapshot_wanted()
    }

    fn bound_log(&mut self, keep_entries: u64) {
        let applied = self.node.raft.raft_log.applied;
        let max_bytes = self.log_memory_bytes;
        self.node.mut_store().compact(applied, keep_entries, max_bytes);
    }

    /// The snapshot that followers are offered.
    pub fn snapshot_point(&self) -> &SnapshotPoint {
        self.node.store().snapshot_point()
    }

    pub(super) fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn take_role_change(&mut self) -> Option<RoleChange> {
        let role = self.current_role();
        (role != self.role).then(|| {
            self.role = role;
            role
        })
    }
}

/// Messages of a follower that hold true whatever its disk forgets. A heartbeat's answer says that no
/// higher term was seen so far, which a crash does not change; reads need not wait for writes.
fn promises_nothing(message: &Message) -> bool {
    match message.get_msg_type() {
        MessageKind::MsgPropose | MessageKind::MsgReadIndex | MessageKind::MsgHeartbeatResponse => true,
        MessageKind::MsgRequestVoteResponse => planted::is(Bug::VoteBeforeDurable),
        MessageKind::MsgAppendResponse => planted::is(Bug::AppendAcknowledgedBeforeDurable),
        _ => false,
    }
}

/// Spreads `x` over all 64 bits (the finalizer of splitmix64): how a run of a member draws from its seed.
pub fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
