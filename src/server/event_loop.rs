//! The loop that owns the member.
//!
//! ```text
//!   mailbox --.                        .--> replies, watch responses, published views
//!   peers ----+--> Input --> member ---+--> peers
//!   disk -----+                        +--> log task, database task
//!   clock ----'                        '--> next wake-up
//! ```
//!
//! One wake-up moves a batch: whatever has gathered in any queue goes into the member before its
//! outputs are asked for once. Nothing in here decides anything about data.
//!
//! Invariants:
//! - outputs are performed in the order in which the member gave them;
//! - a view is published before any reply that follows it;
//! - no wait in here is for the disk or the network: those answer with events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::rt::sync::{mpsc, oneshot};
use slab::Slab;

use super::disk_tasks::{DatabaseJob, DiskEvent, LogJob};
use super::observe::Observer;
use super::peers::{PeerEvent, Peers};
use crate::limits;
use crate::mailbox::{Mail, MailboxReceiver};
use crate::member::{Input, Member, Output, Persist, Reply, Ticket, WatchCommand};
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb as pb;
use crate::rt::{self, Clock, MissedTickBehavior, Shutdown};
use crate::types::log::PeerMessage;
use crate::types::{LocalFault, RequestError, StreamId};

type ReplySender = oneshot::Sender<Result<Reply, RequestError>>;

/// Why the loop ended without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Shutdown,
    /// The member was removed from its cluster.
    Removed,
}

/// Everything the loop talks to.
pub struct Wiring {
    /// Requests of clients.
    pub mailbox: MailboxReceiver,
    /// Messages of peers.
    pub peer_events: mpsc::Receiver<PeerEvent>,
    /// The way to peers.
    pub peers: Peers,
    /// The log task.
    pub log: mpsc::UnboundedSender<LogJob>,
    /// The database task.
    pub database: mpsc::UnboundedSender<DatabaseJob>,
    /// What both did.
    pub disk_events: mpsc::UnboundedReceiver<DiskEvent>,
    /// This member's clock.
    pub clock: Arc<dyn Clock>,
    /// Time between two ticks of raft.
    pub heartbeat: Duration,
    /// Who looks on.
    pub observer: Option<Arc<dyn Observer>>,
}

/// The loop and what it owns.
pub struct EventLoop {
    member: Member,
    wiring: Wiring,
    tickets: Slab<ReplySender>,
    streams: BTreeMap<StreamId, mpsc::UnboundedSender<Vec<pb::WatchResponse>>>,
    /// Set between an install and its completion: what must not reach the log before it.
    held_back: Option<Vec<LogJob>>,
    mail: Vec<Mail>,
    from_peers: Vec<PeerEvent>,
    outputs: Vec<Output>,
    removed: bool,
    stopping: bool,
}

impl EventLoop {
    /// A loop around a member.
    pub fn new(member: Member, wiring: Wiring) -> Self {
        Self {
            member,
            wiring,
            tickets: Slab::new(),
            streams: BTreeMap::new(),
            held_back: None,
            mail: Vec::new(),
            from_peers: Vec::new(),
            outputs: Vec::new(),
            removed: false,
            stopping: false,
        }
    }

    /// Runs until `drained` is done or the member cannot go on. From `shutdown` on, streams end,
    /// since nothing else would end them; everything else is still answered.
    ///
    /// # Errors
    /// The fault that stopped the member.
    pub async fn run(
        mut self,
        mut shutdown: Shutdown,
        drained: impl Future<Output = ()>,
    ) -> Result<Ended, LocalFault> {
        let mut drained = std::pin::pin!(drained);
        let mut tick = rt::interval(self.wiring.clock.timer(self.wiring.heartbeat));
        // After a pause of the process, time goes on from there: a burst of ticks would be elections.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.advance()?;
            if self.removed {
                return Ok(Ended::Removed);
            }
            let wakeup = self.member.next_wakeup(self.wiring.clock.now());
            let wakeup = wakeup.map(|span| self.wiring.clock.timer(span));
            rt::select! {
                () = shutdown.wait(), if !self.stopping => {
                    self.stopping = true;
                    // First: whoever sees its watch end may ask why.
                    self.wiring.mailbox.announce_stop();
                    self.streams.clear();
                }
                () = &mut drained => return self.ports_ended(),
                // Before the queues: these may be ready every time, and time must go on nevertheless.
                _ = tick.tick() => {
                    self.step(Input::Tick)?;
                    if rt::buggify("loop: a tick comes twice") {
                        self.step(Input::Tick)?;
                    }
                }
                event = self.wiring.disk_events.recv() => match event {
                    Some(event) => self.on_disk(event)?,
                    None => return Err(LocalFault::new("the disk tasks ended unexpectedly")),
                },
                count = self.wiring.peer_events.recv_many(&mut self.from_peers, batch()) => {
                    if count == 0 {
                        return Err(LocalFault::new("the peer transport ended unexpectedly"));
                    }
                    self.on_peers()?;
                }
                count = self.wiring.mailbox.receive(&mut self.mail, batch()) => {
                    if count == 0 {
                        return Ok(Ended::Shutdown);
                    }
                    self.on_mail()?;
                }
                () = rt::sleep(wakeup.unwrap_or_default()), if wakeup.is_some() => {
                    self.step(Input::Wakeup)?;
                }
            }
            if rt::buggify("loop: wakes up for nothing") {
                self.step(Input::Wakeup)?;
            }
            if !rt::buggify("loop: takes one input at a time") {
                self.take_what_gathered()?;
            }
            rt::dawdle("loop: is slow").await;
        }
    }

    /// Without ports nobody can be served; unless that was asked for, it is a fault.
    fn ports_ended(&self) -> Result<Ended, LocalFault> {
        if self.stopping { Ok(Ended::Shutdown) } else { Err(LocalFault::new("the ports ended unexpectedly")) }
    }

    /// Feeds the member with what came in while the last batch was handled.
    fn take_what_gathered(&mut self) -> Result<(), LocalFault> {
        while let Ok(event) = self.wiring.disk_events.try_recv() {
            self.on_disk(event)?;
        }
        while self.from_peers.len() < batch() {
            match self.wiring.peer_events.try_recv() {
                Ok(event) => self.from_peers.push(event),
                Err(_) => break,
            }
        }
        self.on_peers()?;
        self.wiring.mailbox.receive_gathered(&mut self.mail, batch());
        self.on_mail()
    }

    fn step(&mut self, input: Input) -> Result<(), LocalFault> {
        if let Some(observer) = &self.wiring.observer {
            observer.takes(&input);
        }
        let now = self.wiring.clock.now();
        self.member.step(input, now)
    }

    fn on_disk(&mut self, event: DiskEvent) -> Result<(), LocalFault> {
        match event {
            DiskEvent::Persisted(batch) => {
                for persist in batch {
                    if let Some(number) = persist.number {
                        self.step(Input::Persisted(number))?;
                    }
                    // What tells of it may leave now.
                    self.send_to_peers(persist.send_after);
                }
                Ok(())
            }
            DiskEvent::Committed(committed, database) => {
                self.wiring.peers.set_database(database);
                self.step(Input::BackendCommitted(committed))
            }
            DiskEvent::Installed(committed, database) => {
                self.wiring.peers.set_database(database);
                for job in self.held_back.take().unwrap_or_default() {
                    self.send_to_log(job)?;
                }
                self.step(Input::Installed(committed))
            }
            DiskEvent::Failed(fault) => Err(fault),
        }
    }

    fn on_peers(&mut self) -> Result<(), LocalFault> {
        let mut events = std::mem::take(&mut self.from_peers);
        for event in events.drain(..) {
            match event {
                PeerEvent::Raft { from, messages } => {
                    for message in messages {
                        self.step(Input::Peer(message))?;
                    }
                    if rt::buggify("loop: a peer seems unreachable") {
                        self.step(Input::Unreachable(from))?;
                    }
                }
                PeerEvent::LeaseCall { from, call } => self.step(Input::LeaseCall { from, call })?,
                PeerEvent::LeaseAnswer { answer, .. } => self.step(Input::LeaseAnswer(answer))?,
                PeerEvent::Unreachable(peer) => self.step(Input::Unreachable(peer))?,
                PeerEvent::SnapshotSent { to, ok } => self.step(Input::SnapshotSent { to, ok })?,
                PeerEvent::SnapshotArrived { message, point, file } => {
                    self.wiring.peers.remember_arrived(point, file);
                    self.step(Input::Peer(message))?;
                }
                PeerEvent::Removed => self.removed = true,
            }
        }
        self.from_peers = events;
        Ok(())
    }

    fn on_mail(&mut self) -> Result<(), LocalFault> {
        let mut mail = std::mem::take(&mut self.mail);
        for item in mail.drain(..) {
            match item {
                Mail::Request { request, reply } => {
                    let ticket = Ticket(self.tickets.insert(reply) as u64);
                    self.step(Input::Request { ticket, request })?;
                }
                Mail::Fault(fault) => return Err(fault),
                Mail::WatchOpen { .. } if self.stopping => {}
                Mail::WatchOpen { stream, responses } => {
                    self.streams.insert(stream, responses);
                    self.step(Input::Watch { stream, command: WatchCommand::Open })?;
                }
                Mail::Watch { stream, command } => {
                    if matches!(command, WatchCommand::Close) {
                        self.streams.remove(&stream);
                    }
                    self.step(Input::Watch { stream, command })?;
                }
            }
        }
        self.mail = mail;
        Ok(())
    }

    /// Asks the member what is to be done, and does it.
    fn advance(&mut self) -> Result<(), LocalFault> {
        let now = self.wiring.clock.now();
        let mut outputs = std::mem::take(&mut self.outputs);
        self.member.advance(now, &mut outputs)?;
        for output in outputs.drain(..) {
            self.perform(output)?;
        }
        self.outputs = outputs;
        self.wiring.peers.forget_arrived();
        // Raft sends nothing more to a peer until it knows how its snapshot fared.
        for to in self.wiring.peers.take_failed_snapshots() {
            self.step(Input::SnapshotSent { to, ok: false })?;
        }
        Ok(())
    }

    fn send_to_peers(&mut self, messages: Vec<PeerMessage>) {
        if let Some(observer) = &self.wiring.observer {
            observer.sends(&messages);
        }
        self.wiring.peers.send(messages);
    }

    fn perform(&mut self, output: Output) -> Result<(), LocalFault> {
        if let Some(observer) = &self.wiring.observer {
            observer.gives(&output);
        }
        match output {
            Output::Send(messages) => self.send_to_peers(messages),
            Output::Persist(persist) => self.persist(persist)?,
            Output::Commit(batch) => self.send_to_database(DatabaseJob::Commit(batch))?,
            Output::Install(point) => {
                let file = self.wiring.peers.take_arrived(&point).ok_or_else(|| {
                    LocalFault::new(format!("the snapshot received at index {} is not on disk", point.index))
                })?;
                self.held_back = Some(Vec::new());
                self.send_to_database(DatabaseJob::Install(file))?;
            }
            Output::ReleaseLog { standing, through } => {
                self.queue_for_log(LogJob::Release { standing, through })?;
            }
            Output::Publish(view) => self.wiring.mailbox.publish(view),
            Output::Reply { ticket, result } => {
                if let Some(reply) = self.tickets.try_remove(ticket.0 as usize) {
                    // The caller may have gone; its reply goes to nobody.
                    let _ = reply.send(result);
                }
            }
            Output::Watch { stream, responses } => {
                if let Some(queue) = self.streams.get(&stream) {
                    // As above: the close of the stream is on its way.
                    let _ = queue.send(responses);
                }
            }
            Output::LeaseCall { to, call } => self.wiring.peers.lease_call(to, call),
            Output::LeaseAnswer { to, answer } => self.wiring.peers.lease_answer(to, answer),
            Output::MembersChanged(members) => self.wiring.peers.set_members(&members),
            Output::Removed => self.removed = true,
        }
        Ok(())
    }

    fn persist(&mut self, persist: Persist) -> Result<(), LocalFault> {
        self.queue_for_log(LogJob::Persist(persist))
    }

    fn queue_for_log(&mut self, job: LogJob) -> Result<(), LocalFault> {
        match &mut self.held_back {
            Some(held_back) if !planted::is(Bug::InstallOvertaken) => {
                held_back.push(job);
                Ok(())
            }
            _ => self.send_to_log(job),
        }
    }

    fn send_to_log(&self, job: LogJob) -> Result<(), LocalFault> {
        self.wiring.log.send(job).map_err(|_| LocalFault::new("the log task ended unexpectedly"))
    }

    fn send_to_database(&self, job: DatabaseJob) -> Result<(), LocalFault> {
        self.wiring.database.send(job).map_err(|_| LocalFault::new("the database task ended unexpectedly"))
    }
}

/// Most items that are taken from a queue at once.
fn batch() -> usize {
    if rt::buggify("loop: takes small batches") { 1 } else { limits::MAILBOX_BATCH }
}
