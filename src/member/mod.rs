//! One cluster member, pure: what happens to it goes in, what is to be done comes out.
//!
//! ```text
//!              step(Input, now)                     advance(now, &mut outputs)
//!   requests --> admission --> proposals ---.     .--> Send, Persist          (raft)
//!   peers -----------------------------> raft driver
//!   disk  --------------------------------'  |    .--> Publish, then Reply    (state machine)
//!                                            v    |
//!                          committed --> state machine --> watch hub --> Watch
//!                                            |
//!                                            '-------------------------> Commit, ReleaseLog
//! ```
//!
//! `step` takes in one input; `advance` is called once for a batch of inputs and says what is to be
//! done about all of them. Time comes in with every call, and nothing else does: the same inputs give
//! the same outputs, byte for byte.
//!
//! Invariants:
//! - a reply to a write is given after the entry was durable on a quorum and applied here, and after
//!   a view that shows it was published;
//! - what tells of a promise leaves only after the promise is durable (see [`Persist`]);
//! - every request gets one reply: its answer, or an error when its time is up;
//! - the database is at most one commit behind in flight; the log is released only up to what the
//!   database holds.
//!
//! This room does not know files, sockets, tasks, or the wall clock.

mod admission;
mod backend;
mod committed;
mod compaction;
mod forwarded;
mod leases;
mod message;
mod proposals;
mod reads;
#[cfg(test)]
mod tests;
mod upkeep;
mod view;
mod watches;

use std::sync::Arc;

use bytes::Bytes;

use crate::apply::{StateMachine, StateMachineConfig};
use crate::limits;
use crate::planted::{self, Bug};
use crate::raft::{
    self, Driver, DriverConfig, MessageKind, Ready, RecoveredLog, Role, RoleChange, StepError,
};
use crate::types::log::SnapshotPoint;
use crate::types::{ClusterId, LocalFault, MemberId, Now, RequestError};
use crate::watch::{Hub, HubConfig};

/// What a response weighs in its stream's budget: to be given back by [`WatchCommand::Drained`].
pub use crate::watch::response_weight;
pub use message::{Committed, Input, Output, Persist, Recovered, Reply, Request, Ticket, WatchCommand};
pub use view::{MemberStatistics, MemberStatus, MemberView};

use backend::Backend;
use compaction::Compaction;
use forwarded::Forwarded;
use leases::LeaseCalls;
use message::ReplyTo;
use proposals::Proposals;
use reads::Reads;
use upkeep::Upkeep;

/// How a member takes part in its cluster, and its bounds.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The name that the member publishes.
    pub name: String,
    /// The addresses for clients that it publishes.
    pub client_urls: Vec<String>,
    /// Raft's settings; they name the member.
    pub driver: DriverConfig,
    /// The state machine's settings.
    pub machine: StateMachineConfig,
    /// The watch hub's settings.
    pub watch: HubConfig,
    /// Whether the only voter of a cluster begins to lead without waiting for an election.
    pub elect_alone_at_once: bool,
    /// Nanoseconds of one election timeout.
    pub election_timeout: u64,
    /// Largest marshalled request in bytes.
    pub max_request_bytes: usize,
    /// Most operations of a transaction.
    pub max_txn_ops: usize,
    /// Entries kept in the log behind what the database holds, for followers that lag.
    pub catchup_entries: u64,
    /// Nanoseconds between two commits of the database under load.
    pub backend_interval: u64,
    /// Operations that make the database commit earlier.
    pub backend_batch_operations: usize,
    /// Past revisions that one step of a compaction looks at.
    pub compaction_batch: usize,
    /// Nanoseconds between two steps of a compaction.
    pub compaction_pause: u64,
}

impl MemberConfig {
    /// Nanoseconds after which a request is answered with a time-out (etcd: 5 s and two elections).
    pub fn request_timeout(&self) -> u64 {
        5 * Now::SECOND + 2 * self.election_timeout
    }
}

/// One member.
pub struct Member {
    config: MemberConfig,
    id: MemberId,
    driver: Driver,
    machine: StateMachine,
    hub: Hub,
    proposals: Proposals,
    forwarded: Forwarded,
    reads: Reads,
    lease_calls: LeaseCalls,
    backend: Backend,
    upkeep: Upkeep,
    compaction: Compaction,
    /// As of the last [`Ready`]: the driver may know better.
    role: RoleChange,
    statistics: MemberStatistics,
    /// What is to be done, in order; replies apart, since they follow the view.
    outputs: Vec<Output>,
    replies: Vec<Output>,
    /// Whether the published view is older than the state.
    view_is_old: bool,
    published: Option<Arc<MemberView>>,
    /// Set between the receipt of a snapshot and its installation.
    installing: Option<SnapshotPoint>,
}

impl Member {
    /// A member that goes on from what its disk held.
    ///
    /// # Errors
    /// When what was recovered does not fit together.
    pub fn new(config: MemberConfig, recovered: Recovered, now: Now) -> Result<Self, LocalFault> {
        let machine = StateMachine::restore(recovered.backend.snapshot.clone(), config.machine.clone())?;
        let standing = backend::standing(&machine);
        let log = RecoveredLog {
            hard_state: recovered.hard_state,
            snapshot: standing.clone(),
            entries: recovered.entries,
        };
        let (id, seed) = (config.driver.id, config.driver.seed);
        let mut driver = Driver::new(config.driver.clone(), log)?;
        driver.set_snapshot_point(standing);
        let hub = Hub::new(config.watch.clone(), machine.store().revision());
        let status = driver.status();
        let role = RoleChange { role: status.role, leader: status.leader, term: status.term };
        // It may have stopped between hearing of its removal and acting on it.
        let removed = machine.membership().is_removed(id);
        if config.elect_alone_at_once && machine.applied().voters == [id.0] {
            // Nobody else could win: waiting out an election would only delay the start.
            driver.campaign();
        }
        let mut compaction = Compaction::default();
        // An earlier run may have left one unfinished.
        compaction.scheduled(now);
        Ok(Self {
            id,
            driver,
            hub,
            proposals: Proposals::new(id, seed, now, config.request_timeout()),
            forwarded: Forwarded::default(),
            reads: Reads::new(id, seed, now, config.request_timeout()),
            lease_calls: LeaseCalls::new(id, seed, now, config.request_timeout()),
            backend: Backend::new(recovered.backend, now),
            upkeep: Upkeep::default(),
            compaction,
            role,
            statistics: MemberStatistics::default(),
            outputs: if removed { vec![Output::Removed] } else { Vec::new() },
            replies: Vec::new(),
            view_is_old: true,
            published: None,
            installing: None,
            machine,
            config,
        })
    }

    /// Takes in what happened.
    ///
    /// # Errors
    /// A fault that stops the member.
    pub fn step(&mut self, input: Input, now: Now) -> Result<(), LocalFault> {
        match input {
            Input::Tick => self.on_tick(now)?,
            Input::Request { ticket, request } => self.on_request(ReplyTo::Ticket(ticket), request, now),
            Input::Peer(message) => self.on_peer_message(&message)?,
            Input::LeaseCall { from, call } => self.on_lease_call(from, call, now),
            Input::LeaseAnswer(answer) => self.on_lease_answer(answer),
            Input::Unreachable(peer) => self.driver.report_unreachable(peer),
            Input::SnapshotSent { to, ok } => self.driver.report_snapshot(to, ok),
            Input::Persisted(number) => self.driver.persisted(number),
            Input::BackendCommitted(committed) => self.on_backend_committed(committed, now),
            Input::Installed(committed) => self.on_installed(committed, now)?,
            Input::Watch { stream, command } => self.on_watch(stream, command),
            // `advance` looks at everything that may be due.
            Input::Wakeup => {}
        }
        Ok(())
    }

    /// Says what is to be done about everything taken in since the last call.
    ///
    /// # Errors
    /// A fault that stops the member.
    pub fn advance(&mut self, now: Now, outputs: &mut Vec<Output>) -> Result<(), LocalFault> {
        self.compact_in_background(now);
        if self.driver.take_snapshot_wanted() {
            // A follower waits for a snapshot that is newer than the database.
            self.backend.commit_soon();
        }
        self.start_read_round(now);
        while self.driver.has_ready() {
            let ready = self.driver.take_ready();
            self.on_ready(ready, now)?;
            self.start_read_round(now);
        }
        self.catch_watchers_up()?;
        self.commit_backend_when_due(now);
        if self.replies.is_empty() || !planted::is(Bug::ReplyBeforeView) {
            self.publish();
        }
        outputs.append(&mut self.outputs);
        outputs.append(&mut self.replies);
        self.emit_watch_responses(outputs);
        Ok(())
    }

    /// The newest view, as published or as it would be.
    pub fn view(&mut self) -> Arc<MemberView> {
        self.publish();
        self.published.clone().expect("publish always leaves a view")
    }

    fn on_ready(&mut self, ready: Ready, now: Now) -> Result<(), LocalFault> {
        if let Some(change) = ready.role_change {
            self.on_role_change(change, now);
        }
        if !ready.send_now.is_empty() {
            self.outputs.push(Output::Send(ready.send_now));
        }
        if let Some(point) = ready.install_snapshot {
            self.installing = Some(point.clone());
            self.outputs.push(Output::Install(point));
        }
        if ready.persist.is_some() || !ready.send_after_persist.is_empty() {
            let mut persist = Persist { send_after: ready.send_after_persist, ..Persist::default() };
            if let Some(written) = ready.persist {
                persist.number = written.must_sync.then_some(ready.number);
                persist.entries = written.entries;
                persist.hard_state = written.hard_state;
                persist.snapshot = written.snapshot;
            }
            self.outputs.push(Output::Persist(persist));
        }
        for state in ready.read_states {
            self.on_read_state(&state);
        }
        self.apply_committed(ready.committed, now)?;
        self.serve_confirmed_reads(now);
        Ok(())
    }

    fn on_peer_message(&mut self, message: &Bytes) -> Result<(), LocalFault> {
        let taken = match raft::peek(message).map(|head| head.kind) {
            Some(MessageKind::MsgPropose) => {
                self.forwarded.is_new(message) || planted::is(Bug::ForwardedTwice)
            }
            // One database at a time takes the place of the own one. The leader offers another one later.
            Some(MessageKind::MsgSnapshot) => self.installing.is_none(),
            _ => true,
        };
        if !taken {
            return Ok(());
        }
        match self.driver.step(message) {
            Err(lost @ StepError::LogLost { .. }) => Err(LocalFault::new(lost.to_string())),
            // Anything else comes from a peer that is broken, of another version, or out of date: raft
            // sends what matters again.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn on_role_change(&mut self, change: RoleChange, now: Now) {
        let before = std::mem::replace(&mut self.role, change);
        self.view_is_old = true;
        if before.role == Role::Leader && (change.role, change.term) != (before.role, before.term) {
            self.machine.lessor_mut().demote();
        }
        if (change.leader, change.term) == (before.leader, before.term) {
            return;
        }
        self.restart_reads();
        self.lease_calls.restart();
        if change.leader.is_some() {
            self.statistics.leader_changes += u64::from(change.leader != before.leader);
            self.proposals.leader_elected(now);
            self.propose_held();
            self.tick_transfers(now);
        }
    }

    /// Whether this member leads, even if a message of this very batch has deposed it already: then
    /// nothing may be said in the leader's name, though the change of role is yet to come.
    fn leads(&self) -> bool {
        self.role.role == Role::Leader && self.role.term == self.driver.term()
    }

    /// Whether nobody but this member can have acknowledged anything: it is the only member that raft
    /// knows, and leads. A learner would not do either: it may hear of a commit before it is published here.
    fn leads_alone(&self) -> bool {
        let applied = self.machine.applied();
        self.leads() && applied.voters == [self.id.0] && applied.learners.is_empty()
    }

    /// Whether linearizable reads may do without a read index.
    fn needs_no_round(&self) -> bool {
        self.leads_alone() || (planted::is(Bug::LeaderReadsAtOnce) && self.leads())
    }

    fn reply(&mut self, to: ReplyTo, result: Result<Reply, RequestError>) {
        match to {
            ReplyTo::Ticket(ticket) => self.replies.push(Output::Reply { ticket, result }),
            ReplyTo::Peer { .. } => self.answer_lease_call(to, result),
            ReplyTo::Nobody => {}
        }
    }

    fn publish(&mut self) {
        if !self.view_is_old && self.published.is_some() {
            return;
        }
        let previous = self.published.as_deref();
        let view = Arc::new(self.make_view(previous));
        let members_changed = previous.is_none_or(|previous| {
            !Arc::ptr_eq(&previous.members, &view.members) && previous.members != view.members
        });
        self.upkeep.lists_published();
        if members_changed {
            self.outputs.push(Output::MembersChanged(view.members.clone()));
        }
        self.outputs.push(Output::Publish(view.clone()));
        self.published = Some(view);
        self.view_is_old = false;
    }

    fn make_view(&self, previous: Option<&MemberView>) -> MemberView {
        let membership = self.machine.membership();
        let shared_lists = previous.filter(|_| !self.upkeep.lists_changed());
        MemberView {
            store: self.machine.store().view(),
            status: MemberStatus {
                cluster_id: self.config.cluster_id,
                member_id: self.id,
                term: self.driver.term(),
                leader: self.role.leader.unwrap_or_default(),
                is_leader: self.leads(),
                is_learner: membership.is_learner(self.id),
                reads_need_no_round: self.needs_no_round() && self.has_applied_own_term(),
                commit: self.driver.commit_index(),
                applied: self.machine.applied().index,
                db_size: self.backend.size(),
                db_size_in_use: self.backend.size_in_use(),
                quota: u64::try_from(self.machine.quota().bytes()).unwrap_or(0),
            },
            alarms: match shared_lists {
                Some(view) => view.alarms.clone(),
                None => Arc::new(self.machine.alarms().all()),
            },
            members: match shared_lists {
                Some(view) => view.members.clone(),
                None => Arc::new(membership.to_wire()),
            },
            cluster_version: match shared_lists {
                Some(view) => view.cluster_version.clone(),
                None => membership.cluster_version().map(Arc::from),
            },
            statistics: self.statistics(),
        }
    }

    /// A leader has applied everything acknowledged before its term once it applied an entry of it
    /// (Raft, 6.4: no read before the first commit of the own term).
    fn has_applied_own_term(&self) -> bool {
        self.machine.applied().term == self.role.term
    }

    fn statistics(&self) -> MemberStatistics {
        let lessor = self.machine.lessor().statistics();
        MemberStatistics {
            proposals_committed: self.driver.commit_index(),
            proposals_applied: self.machine.applied().index,
            proposals_pending: self.proposals.len() as u64,
            leases_granted: lessor.granted_total,
            leases_revoked: lessor.revoked_total,
            leases_renewed: lessor.renewed_total,
            leases_expired: lessor.expired_total,
            ..self.statistics
        }
    }
}

const _: () = assert!(limits::LEASE_REVOKES_PER_PASS <= 1000);
