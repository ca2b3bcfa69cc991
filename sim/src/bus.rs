//! The network between members in lite runs: raft messages and lease questions as parcels, each with a
//! fate of its own.
//!
//! ```text
//!   member's loop -- PeerNetwork --> Bus: lost? late? twice? --> heap by arrival --> pump --> PeerEvent
//! ```
//!
//! It is less kind than a stream: parcels of one path may overtake each other, come twice, or come again
//! much later. What it keeps of a stream is that a connection dies with either end: nothing of an earlier
//! run of the sender or for an earlier run of the receiver arrives.
//!
//! Invariants:
//! - every draw comes from the bus's own stream of the seed, in the order of sending;
//! - a parcel arrives at least a millisecond after it was sent, and never across a blocked path;
//! - a path holds at most its capacity; what is over it is lost, and the sender is told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use detcd::proto::detcdpb::{LeaseAnswer, LeaseCall};
use detcd::raft::{self, MessageKind};
use detcd::rt::sync::{Notify, mpsc};
use detcd::server::peers::PeerEvent;
use detcd::server::reach::Inbox;
use detcd::transport::{CHUNK_BYTES, PeerActivity, PeerNetwork, SnapshotSource, SnapshotStore};
use detcd::types::MemberId;
use detcd::types::log::{PeerMessage, SnapshotPoint};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::clock::true_time;
use crate::history::{MemberNumber, Time};
use crate::random::{Draw, Random};
use crate::trace::{Fate, Trace, What};

/// What the network is like. Times in milliseconds, chances in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// The usual time on the way, at least 1.
    pub latency: u64,
    /// How many parcels take much longer.
    pub late_percent: u32,
    /// Up to how much longer.
    pub late_by: u64,
    /// How many parcels are lost.
    pub loss_percent: u32,
    /// How many come twice.
    pub duplicate_percent: u32,
    /// How many are followed by an older one of the same path.
    pub replay_percent: u32,
    /// Whether parcels of one path may overtake each other.
    pub reorder: bool,
    /// Parcels on one path at a time.
    pub capacity: usize,
}

impl Network {
    /// A network that does nothing wrong.
    pub const CALM: Network = Network {
        latency: 1,
        late_percent: 0,
        late_by: 0,
        loss_percent: 0,
        duplicate_percent: 0,
        replay_percent: 0,
        reorder: false,
        capacity: 10_000,
    };

    /// Whether parcels may arrive more than once.
    pub fn repeats(&self) -> bool {
        self.duplicate_percent > 0 || self.replay_percent > 0
    }
}

/// A path: from, to.
pub type Path = (MemberNumber, MemberNumber);

/// Older parcels of a path that may come again.
const REMEMBERED: usize = 16;

/// The network. Clones are the same.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    queued: Notify,
    trace: Trace,
}

struct State {
    random: Random,
    network: Network,
    ends: BTreeMap<MemberNumber, End>,
    numbers: BTreeMap<MemberId, MemberNumber>,
    queue: BinaryHeap<Reverse<Parcel>>,
    sent: u64,
    on_path: BTreeMap<Path, usize>,
    last_arrival: BTreeMap<Path, Time>,
    old: BTreeMap<Path, Vec<Content>>,
    blocked: BTreeSet<Path>,
    /// Kinds of messages that do not get through a path.
    muted: BTreeMap<Path, Vec<Kind>>,
}

/// What kind of message, as faults name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Kind {
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Vote,
    Snapshot,
    Propose,
    ReadIndex,
    Lease,
    Other,
}

/// One end of every path of a member.
#[derive(Clone)]
struct End {
    run: u64,
    id: MemberId,
    events: mpsc::Sender<PeerEvent>,
    snapshots: Arc<dyn SnapshotStore>,
}

/// Something on its way. Ordered by arrival, then by when it was sent.
struct Parcel {
    arrives: Time,
    number: u64,
    path: Path,
    runs: (u64, u64),
    content: Content,
}

#[derive(Clone)]
enum Content {
    Raft(Bytes),
    Call(LeaseCall),
    Answer(LeaseAnswer),
}

impl Bus {
    /// A network that draws from `random`; its pump must be started by [`Bus::pump`].
    pub fn new(random: Random, network: Network, trace: Trace) -> Self {
        let state = State {
            random,
            network,
            ends: BTreeMap::new(),
            numbers: BTreeMap::new(),
            queue: BinaryHeap::new(),
            sent: 0,
            on_path: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            old: BTreeMap::new(),
            blocked: BTreeSet::new(),
            muted: BTreeMap::new(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), queued: Notify::new(), trace }) }
    }

    /// A member's run begins; `inbox` is where its parcels go. Gives its way to the others.
    pub fn join(&self, member: MemberNumber, run: u64, inbox: Inbox) -> Arc<dyn PeerNetwork> {
        let mut state = self.lock();
        state.numbers.insert(inbox.member_id, member);
        // What an earlier run sent or was sent does not come again: a connection dies with either end.
        state.old.retain(|path, _| path.0 != member && path.1 != member);
        state.ends.insert(
            member,
            End { run, id: inbox.member_id, events: inbox.events, snapshots: inbox.snapshots },
        );
        Arc::new(Port { bus: self.clone(), member, run })
    }

    /// A member's run has ended: nothing leaves it or reaches it any more, from this moment on.
    pub fn leave(&self, member: MemberNumber) {
        self.lock().ends.remove(&member);
    }

    /// The number of the member with this id, once it has joined.
    pub fn number_of(&self, id: MemberId) -> Option<MemberNumber> {
        self.lock().numbers.get(&id).copied()
    }

    /// Changes what the network is like.
    pub fn set_network(&self, network: Network) {
        self.lock().network = network;
    }

    /// What the network is like.
    pub fn network(&self) -> Network {
        self.lock().network
    }

    /// Lets nothing pass these paths, or everything again.
    pub fn block(&self, paths: impl IntoIterator<Item = Path>, blocked: bool) {
        let mut state = self.lock();
        for path in paths {
            if blocked {
                state.blocked.insert(path);
            } else {
                state.blocked.remove(&path);
            }
        }
    }

    /// Lets messages of these kinds not pass a path.
    pub fn mute(&self, path: Path, kinds: Vec<Kind>) {
        self.lock().muted.insert(path, kinds);
    }

    /// Opens every path for everything.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.blocked.clear();
        state.muted.clear();
    }

    /// Delivers parcels for as long as the world lasts.
    pub async fn pump(self) {
        loop {
            let queued = self.shared.queued.notified();
            let next = self.lock().queue.peek().map(|Reverse(parcel)| parcel.arrives);
            match next {
                None => queued.await,
                Some(at) => {
                    let now = true_time();
                    if at <= now {
                        self.deliver_due(now);
                        continue;
                    }
                    detcd::rt::select! {
                        () = detcd::rt::sleep(Duration::from_nanos(at - now)) => {}
                        () = queued => {}
                    }
                }
            }
        }
    }

    fn deliver_due(&self, now: Time) {
        loop {
            let mut state = self.lock();
            if state.queue.peek().is_none_or(|Reverse(parcel)| parcel.arrives > now) {
                return;
            }
            let Some(Reverse(parcel)) = state.queue.pop() else { return };
            if let Some(count) = state.on_path.get_mut(&parcel.path) {
                *count -= 1;
            }
            if state.blocked.contains(&parcel.path) {
                continue;
            }
            let (Some(from), Some(to)) = (state.ends.get(&parcel.path.0), state.ends.get(&parcel.path.1))
            else {
                continue;
            };
            if (from.run, to.run) != parcel.runs {
                continue;
            }
            let (from, events) = (from.id, to.events.clone());
            drop(state);
            let event = match parcel.content {
                Content::Raft(message) => PeerEvent::Raft { from, messages: vec![message] },
                Content::Call(call) => PeerEvent::LeaseCall { from, call },
                Content::Answer(answer) => PeerEvent::LeaseAnswer { from, answer },
            };
            if events.try_send(event).is_err() {
                // Its queue is full (it is paused, or drowning): a stream would stop reading.
                self.tell(parcel.path.0, parcel.runs.0, PeerEvent::Unreachable, parcel.path.1);
            }
        }
    }

    /// Tells a member something about another one, if that run of it is there to hear it.
    fn tell(
        &self,
        member: MemberNumber,
        run: u64,
        event: impl FnOnce(MemberId) -> PeerEvent,
        about: MemberNumber,
    ) {
        let state = self.lock();
        let about = state.numbers.iter().find(|(_, number)| **number == about).map(|(id, _)| *id);
        if let (Some(end), Some(about)) = (state.ends.get(&member), about)
            && end.run == run
        {
            // A full queue loses it: the next loss tells again.
            let _ = end.events.try_send(event(about));
        }
    }

    fn send(&self, member: MemberNumber, run: u64, to: MemberId, content: Content) {
        let now = true_time();
        let mut state = self.lock();
        let Some(number) = state.numbers.get(&to).copied() else { return };
        if state.ends.get(&member).is_none_or(|end| end.run != run) {
            return;
        }
        let path = (member, number);
        let (label, term, index) = content.describe();
        let network = state.network;
        let lost = !state.ends.contains_key(&number)
            || state.blocked.contains(&path)
            || state.muted.get(&path).is_some_and(|kinds| kinds.contains(&content.kind()))
            || state.random.percent(network.loss_percent);
        let full = state.on_path.get(&path).copied().unwrap_or_default() >= network.capacity;
        let note = |fate, arrives| {
            self.shared.trace.note(
                now,
                member,
                What::Message { to: number, message: label, term, index, fate, arrives },
            );
        };
        if lost || full {
            note(Fate::Lost, 0);
            drop(state);
            if full {
                self.tell(member, run, PeerEvent::Unreachable, number);
            }
            return;
        }
        let (arrives, late) = state.arrival(now, path);
        note(if late { Fate::Delayed } else { Fate::Delivered }, arrives);
        state.queue_parcel(arrives, path, content.clone());
        if state.random.percent(network.duplicate_percent) {
            let (arrives, _) = state.arrival(now, path);
            note(Fate::Duplicated, arrives);
            state.queue_parcel(arrives, path, content.clone());
        }
        if state.random.percent(network.replay_percent) {
            let old = state.old.get(&path).filter(|old| !old.is_empty()).map(|old| old.len());
            if let Some(count) = old {
                let which = state.random.random_range(0..count);
                let content = state.old[&path][which].clone();
                let (arrives, _) = state.arrival(now, path);
                note(Fate::Replayed, arrives);
                state.queue_parcel(arrives, path, content);
            }
        }
        if network.replay_percent > 0 {
            let old = state.old.entry(path).or_default();
            if old.len() == REMEMBERED {
                old.remove(0);
            }
            old.push(content);
        }
        drop(state);
        self.shared.queued.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When a parcel that leaves now arrives, and whether that is late.
    fn arrival(&mut self, now: Time, path: Path) -> (Time, bool) {
        let network = self.network;
        let late = self.random.percent(network.late_percent);
        // Microseconds, so that arrivals do not fall together.
        let usual = network.latency * 1000;
        let mut micros = usual + self.random.random_range(0..=usual / 2);
        if late {
            micros += self.random.random_range(0..=network.late_by * 1000);
        }
        let mut arrives = now + micros * 1000;
        if !network.reorder {
            let last = self.last_arrival.entry(path).or_default();
            arrives = arrives.max(*last + 1);
            *last = arrives;
        }
        (arrives, late)
    }

    fn queue_parcel(&mut self, arrives: Time, path: Path, content: Content) {
        let (Some(from), Some(to)) = (self.ends.get(&path.0), self.ends.get(&path.1)) else { return };
        let runs = (from.run, to.run);
        self.sent += 1;
        *self.on_path.entry(path).or_default() += 1;
        self.queue.push(Reverse(Parcel { arrives, number: self.sent, path, runs, content }));
    }
}

impl Content {
    fn kind(&self) -> Kind {
        match self {
            Content::Raft(message) => raft::peek(message).map_or(Kind::Other, |head| kind(head.kind)),
            Content::Call(_) | Content::Answer(_) => Kind::Lease,
        }
    }

    /// Its name, term and index, for the trace.
    fn describe(&self) -> (&'static str, u64, u64) {
        match self {
            Content::Raft(message) => {
                let Some(message) = crate::wire::message(message) else { return ("?", 0, 0) };
                let index = match message.get_msg_type() {
                    MessageKind::MsgAppend => message.index + message.entries.len() as u64,
                    MessageKind::MsgHeartbeat => message.commit,
                    _ => message.index,
                };
                (label(message.get_msg_type()), message.term, index)
            }
            Content::Call(_) => ("LeaseCall", 0, 0),
            Content::Answer(_) => ("LeaseAnswer", 0, 0),
        }
    }
}

fn kind(kind: MessageKind) -> Kind {
    match kind {
        MessageKind::MsgAppend => Kind::Append,
        MessageKind::MsgAppendResponse => Kind::AppendResponse,
        MessageKind::MsgHeartbeat => Kind::Heartbeat,
        MessageKind::MsgHeartbeatResponse => Kind::HeartbeatResponse,
        MessageKind::MsgRequestVote
        | MessageKind::MsgRequestVoteResponse
        | MessageKind::MsgRequestPreVote
        | MessageKind::MsgRequestPreVoteResponse => Kind::Vote,
        MessageKind::MsgSnapshot => Kind::Snapshot,
        MessageKind::MsgPropose => Kind::Propose,
        MessageKind::MsgReadIndex | MessageKind::MsgReadIndexResp => Kind::ReadIndex,
        _ => Kind::Other,
    }
}

fn label(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::MsgAppend => "Append",
        MessageKind::MsgAppendResponse => "AppendResponse",
        MessageKind::MsgHeartbeat => "Heartbeat",
        MessageKind::MsgHeartbeatResponse => "HeartbeatResponse",
        MessageKind::MsgRequestVote => "RequestVote",
        MessageKind::MsgRequestVoteResponse => "RequestVoteResponse",
        MessageKind::MsgRequestPreVote => "RequestPreVote",
        MessageKind::MsgRequestPreVoteResponse => "RequestPreVoteResponse",
        MessageKind::MsgSnapshot => "Snapshot",
        MessageKind::MsgPropose => "Propose",
        MessageKind::MsgReadIndex => "ReadIndex",
        MessageKind::MsgReadIndexResp => "ReadIndexResponse",
        MessageKind::MsgTimeoutNow => "TimeoutNow",
        MessageKind::MsgTransferLeader => "TransferLeader",
        _ => "Other",
    }
}

impl PartialEq for Parcel {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Parcel {}

impl PartialOrd for Parcel {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Parcel {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.arrives, self.number).cmp(&(other.arrives, other.number))
    }
}

/// One member's way to the others, for one of its runs.
struct Port {
    bus: Bus,
    member: MemberNumber,
    run: u64,
}

impl PeerNetwork for Port {
    /// The bus knows who is there; members that left do not join it.
    fn set_members(&self, _peers: Vec<(MemberId, Vec<String>)>, _removed: BTreeSet<MemberId>) {}

    fn send(&self, messages: Vec<PeerMessage>) {
        for message in messages {
            self.bus.send(self.member, self.run, MemberId(message.to), Content::Raft(message.bytes));
        }
    }

    fn lease_call(&self, to: MemberId, call: LeaseCall) {
        self.bus.send(self.member, self.run, to, Content::Call(call));
    }

    fn lease_answer(&self, to: MemberId, answer: LeaseAnswer) {
        self.bus.send(self.member, self.run, to, Content::Answer(answer));
    }

    fn send_snapshot(
        &self,
        to: MemberId,
        message: Bytes,
        point: SnapshotPoint,
        source: Box<dyn SnapshotSource>,
    ) {
        let (bus, member, run) = (self.bus.clone(), self.member, self.run);
        // A task of the sending member: it dies with it.
        detcd::rt::spawn(async move {
            let Some(number) = bus.number_of(to) else { return };
            let index = point.index;
            let ok = bus.carry_snapshot((member, number), run, message, point, source).await;
            bus.shared.trace.note(true_time(), member, What::Snapshot { to: number, index, ok });
            let events =
                bus.lock().ends.get(&member).filter(|end| end.run == run).map(|end| end.events.clone());
            if let Some(events) = events {
                // The loop may be gone.
                let _ = events.send(PeerEvent::SnapshotSent { to, ok }).await;
            }
        });
    }

    fn activity(&self) -> Vec<PeerActivity> {
        Vec::new()
    }
}

impl Bus {
    /// Carries a snapshot chunk by chunk; whether it arrived.
    async fn carry_snapshot(
        &self,
        path: Path,
        run: u64,
        message: Bytes,
        point: SnapshotPoint,
        mut source: Box<dyn SnapshotSource>,
    ) -> bool {
        let Some(receiver) = self.lock().ends.get(&path.1).cloned() else { return false };
        let Ok(mut sink) = receiver.snapshots.begin(&point) else { return false };
        loop {
            let Ok(chunk) = source.next_chunk(CHUNK_BYTES) else { return false };
            let pause = {
                let mut state = self.lock();
                let network = state.network;
                let usual = network.latency.max(1);
                let lost = state.blocked.contains(&path)
                    || state.muted.get(&path).is_some_and(|kinds| kinds.contains(&Kind::Snapshot))
                    || state.random.percent(network.loss_percent);
                let same = |member, run| state.ends.get(&member).is_some_and(|end: &End| end.run == run);
                if lost || !same(path.0, run) || !same(path.1, receiver.run) {
                    return false;
                }
                state.random.random_range(usual..=4 * usual)
            };
            detcd::rt::sleep(Duration::from_millis(pause)).await;
            match chunk {
                Some(chunk) => {
                    if sink.write(chunk).is_err() {
                        return false;
                    }
                }
                None => break,
            }
        }
        let same_run = self.lock().ends.get(&path.1).is_some_and(|end| end.run == receiver.run);
        if !same_run {
            return false;
        }
        let Ok(file) = sink.finish() else { return false };
        receiver.events.send(PeerEvent::SnapshotArrived { message, point, file }).await.is_ok()
    }
}
