//! How members talk: raft messages and questions about leases in streams, snapshots beside them.
//!
//! ```text
//!   member A                                                    member B
//!   send() --> outbox of B --> sender --PeerFrame, PeerFrame--> serve() --> PeerEvent queue
//!                                     <--------pings----------
//!   PeerEvent queue <-- serve() <--PeerFrame, PeerFrame-- sender <-- outbox of A <-- send()
//!
//!   send_snapshot() --> task --SnapshotFrame ... last--> serve() --> SnapshotSink --> PeerEvent
//! ```
//!
//! Each member dials a stream to each other one and only sends on it, so a pair has two; a snapshot has
//! a connection of its own and does not delay them. [`Transport::send`] only queues. What has gathered
//! while the last write ran is one frame and one write, so the busier a member, the larger its batches.
//!
//! **Delay.** A stream keeps its order, so a heartbeat waits for the appends before it. That is at most
//! a full queue ([`TransportConfig::queue_bytes`]): 8 MiB pass a 1 Gbit/s link in 70 ms, less than a
//! heartbeat interval, and on a slower link the appends before it do a heartbeat's work as they arrive.
//! A batch is at most [`BATCH_BYTES`] (or one message), so a receiver has something to do long before
//! the last byte of a backlog.
//!
//! **Loss.** Raft sends again what got lost, so nothing is kept for it: a full queue refuses the newest,
//! and a broken connection takes its queue with it. Either is told as [`PeerEvent::Unreachable`].
//!
//! **Back-pressure.** Events go into a bounded queue. While it is full nothing is read, and TCP makes
//! the peers wait; their queues are bounded in turn.
//!
//! **Liveness.** A peer that lost power closes no connection, and a few heartbeats never fill a socket's
//! buffer. So a sender pings at intervals; the answer also measures the round trip. Both sides leave a
//! connection that is silent for [`TransportConfig::silence_timeout`], and the sender dials again.
//!
//! Invariants:
//! - no call of [`Transport`] but [`Transport::serve`] waits, and none fails;
//! - a slow, dead or hostile peer costs its own queue, its own tasks and one frame, nobody else's;
//! - messages to a peer arrive in the order of `send`, with gaps only at a reported loss;
//! - every accepted [`Transport::send_snapshot`] is answered by one [`PeerEvent::SnapshotSent`];
//! - nothing from a member of another cluster, or from a removed one, becomes an event.

mod activity;
mod dial;
mod outbox;
mod receiver;
mod sender;
mod snapshot;
mod wire;

#[cfg(all(test, not(madsim)))]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::limits;
use crate::proto::detcdpb::{LeaseAnswer, LeaseCall};
use crate::rt::sync::mpsc;
use crate::rt::{
    self, AsyncRead, AsyncWrite, Clock, Shutdown, ShutdownTrigger, TaskSpawner, shutdown_channel,
};
use crate::types::log::{PeerMessage, SnapshotPoint};
use crate::types::{ClusterId, MemberId};

pub use activity::{PeerActivity, RoundTrips};
pub use snapshot::{CHUNK_BYTES, SnapshotSink, SnapshotSource, SnapshotStore};
pub use wire::MAGIC;

use activity::Counters;
use dial::Addresses;
use outbox::{Item, Outbox};
use sender::Sender;
use wire::{Frame, PeerError};

/// Size of a frame of messages in bytes, above which what has gathered goes out in several.
pub const BATCH_BYTES: usize = 1024 * 1024;

/// Largest frame in bytes before a caller has said who it is; it holds an error's text as well.
const HANDSHAKE_BYTES: usize = 4 * 1024;

/// How this member talks to its peers.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// The cluster; connections of others are refused.
    pub cluster_id: ClusterId,
    /// This member.
    pub member_id: MemberId,
    /// Seed of the pauses before dialling again.
    pub seed: u64,
    /// A peer that is dialled must have accepted, and a caller must have introduced itself, in this time.
    pub connect_timeout: Duration,
    /// Bound of the first pause before dialling again. Each further one is twice as long.
    pub least_pause: Duration,
    /// Bound of every pause. It should be below an election timeout, or a healed network does not help.
    pub most_pause: Duration,
    /// Time between two pings.
    pub ping_interval: Duration,
    /// A stream of messages on which nothing moves for this long is given up: several election timeouts.
    /// A ping waits behind what is in the sockets' buffers, so these must pass in this time as well.
    pub silence_timeout: Duration,
    /// The same for the connection of a snapshot, where the disks of both sides take their time.
    pub snapshot_timeout: Duration,
    /// What may wait for one peer, in bytes. About a megabyte more is on its way to the socket.
    pub queue_bytes: usize,
    /// Largest frame in bytes, either way. Every message and every chunk of a snapshot must fit in, so
    /// it follows from the largest request.
    pub max_frame_bytes: usize,
}

impl TransportConfig {
    /// Settings for a local network, etcd's default timings and etcd's default limits.
    pub fn new(cluster_id: ClusterId, member_id: MemberId, seed: u64) -> Self {
        Self {
            cluster_id,
            member_id,
            seed,
            connect_timeout: Duration::from_secs(2),
            least_pause: Duration::from_millis(50),
            most_pause: Duration::from_millis(500),
            ping_interval: Duration::from_millis(500),
            silence_timeout: Duration::from_secs(3),
            snapshot_timeout: Duration::from_secs(30),
            queue_bytes: 8 * 1024 * 1024,
            max_frame_bytes: 2 * (limits::MAX_REQUEST_BYTES + limits::GRPC_OVERHEAD_BYTES),
        }
    }
}

/// What the peers have to say, and what became of what was sent to them.
#[derive(Debug)]
pub enum PeerEvent {
    /// Raft messages came.
    Raft {
        /// The member that sent them.
        from: MemberId,
        /// The marshalled messages, in the order in which they were sent. They share the memory of what
        /// was read in one go: what is kept for long should be copied.
        messages: Vec<Bytes>,
    },
    /// A peer asks about a lease.
    LeaseCall {
        /// The asking member.
        from: MemberId,
        /// Its question.
        call: LeaseCall,
    },
    /// A peer answered a question about a lease.
    LeaseAnswer {
        /// The member that answered.
        from: MemberId,
        /// Its answer.
        answer: LeaseAnswer,
    },
    /// Messages to this peer were lost, or may have been. Told once for each connection that broke and
    /// for each run over of a queue, not for each message.
    Unreachable(MemberId),
    /// How a snapshot fared.
    SnapshotSent {
        /// The peer that it was for.
        to: MemberId,
        /// Whether the peer has it whole.
        ok: bool,
    },
    /// A snapshot was received whole.
    SnapshotArrived {
        /// The marshalled raft message that announces it.
        message: Bytes,
        /// Where it stands in the log.
        point: SnapshotPoint,
        /// Where the [`SnapshotSink`] put it.
        file: PathBuf,
    },
    /// A peer of this cluster knows that this member was removed. Told each time a peer says so.
    Removed,
}

/// The way to the peers, as a member's loop uses it: streams of [`Transport`], or whatever else brings
/// messages to where they belong. No call waits, and none fails.
pub trait PeerNetwork: Send + Sync {
    /// Talks to these peers from now on, and to no others: see [`Transport::set_members`].
    fn set_members(&self, peers: Vec<(MemberId, Vec<String>)>, removed: BTreeSet<MemberId>);

    /// Queues messages for their receivers: see [`Transport::send`].
    fn send(&self, messages: Vec<PeerMessage>);

    /// Queues a question about a lease.
    fn lease_call(&self, to: MemberId, call: LeaseCall);

    /// Queues the answer to a question about a lease.
    fn lease_answer(&self, to: MemberId, answer: LeaseAnswer);

    /// Sends a snapshot, and answers with one [`PeerEvent::SnapshotSent`]: see
    /// [`Transport::send_snapshot`].
    fn send_snapshot(
        &self,
        to: MemberId,
        message: Bytes,
        point: SnapshotPoint,
        source: Box<dyn SnapshotSource>,
    );

    /// How the connections with the peers do, by member, ascending.
    fn activity(&self) -> Vec<PeerActivity>;
}

/// The way to the peers over TCP. Clones share it.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

/// What the handles and the tasks share.
struct Shared {
    config: TransportConfig,
    events: mpsc::Sender<PeerEvent>,
    snapshots: Arc<dyn SnapshotStore>,
    clock: Arc<dyn Clock>,
    tasks: TaskSpawner,
    incoming_snapshot: Turn,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    peers: BTreeMap<MemberId, Peer>,
    removed: BTreeSet<MemberId>,
}

/// A member to which messages are sent. Dropping it stops its tasks.
struct Peer {
    addresses: Arc<Addresses>,
    outbox: Arc<Outbox>,
    counters: Arc<Counters>,
    outgoing_snapshot: Turn,
    stop: Shutdown,
    _trigger: ShutdownTrigger,
}

impl Transport {
    /// A transport without peers. Its tasks go into `tasks`.
    pub fn new(
        config: TransportConfig,
        events: mpsc::Sender<PeerEvent>,
        snapshots: Arc<dyn SnapshotStore>,
        clock: Arc<dyn Clock>,
        tasks: TaskSpawner,
    ) -> Self {
        assert!(
            (HANDSHAKE_BYTES..u32::MAX as usize).contains(&config.max_frame_bytes),
            "a frame bound of {} bytes cannot be kept",
            config.max_frame_bytes
        );
        assert!(!config.ping_interval.is_zero(), "the time between two pings is zero");
        let shared = Shared {
            config,
            events,
            snapshots,
            clock,
            tasks,
            incoming_snapshot: Turn::default(),
            table: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Talks to these peers from now on, each known by its peer URLs, and to no others; this member may
    /// be among them. Connections of `removed` members end and are refused.
    pub fn set_members(&self, peers: Vec<(MemberId, Vec<String>)>, removed: BTreeSet<MemberId>) {
        let mut table = self.shared.lock();
        table.removed = removed;
        let mut old = std::mem::take(&mut table.peers);
        for (member, urls) in peers {
            if member == self.shared.config.member_id {
                continue;
            }
            let peer = match old.remove(&member) {
                Some(peer) if peer.addresses.urls() == urls => peer,
                moved => self.start(member, urls, moved.map(|peer| peer.counters).unwrap_or_default()),
            };
            table.peers.insert(member, peer);
        }
    }

    /// Queues messages for their receivers. A message to somebody who is no peer is dropped. Snapshot
    /// messages go through [`Transport::send_snapshot`].
    pub fn send(&self, messages: Vec<PeerMessage>) {
        let table = self.shared.lock();
        let mut messages = messages.into_iter().peekable();
        while let Some(first) = messages.next() {
            let to = first.to;
            let run = iter::once(first).chain(iter::from_fn(|| messages.next_if(|next| next.to == to)));
            let items = run.map(|message| {
                debug_assert!(message.snapshot.is_none(), "a snapshot message without its data to {to:x}");
                Item::Raft(message.bytes)
            });
            table.push(MemberId(to), items);
        }
    }

    /// Queues a question about a lease.
    pub fn lease_call(&self, to: MemberId, call: LeaseCall) {
        self.shared.lock().push(to, iter::once(Item::LeaseCall(call)));
    }

    /// Queues the answer to a question about a lease.
    pub fn lease_answer(&self, to: MemberId, answer: LeaseAnswer) {
        self.shared.lock().push(to, iter::once(Item::LeaseAnswer(answer)));
    }

    /// Sends a snapshot: the raft message that announces it and the database from `source`. One at a
    /// time goes to a peer; another one fails at once.
    pub fn send_snapshot(
        &self,
        to: MemberId,
        message: Bytes,
        point: SnapshotPoint,
        source: Box<dyn SnapshotSource>,
    ) {
        let shared = self.shared.clone();
        let claimed = self.shared.lock().peers.get(&to).and_then(|peer| {
            let turn = peer.outgoing_snapshot.claim()?;
            Some((turn, peer.addresses.clone(), peer.counters.clone(), peer.stop.clone()))
        });
        self.shared.tasks.spawn(async move {
            let mut ok = false;
            if let Some((_turn, addresses, counters, mut stop)) = claimed {
                let index = point.index;
                let snapshot = snapshot::Outgoing { to, message, point, source };
                let sent = rt::select! {
                    () = stop.wait() => Err(PeerError::Stopping),
                    sent = snapshot::send(&shared, &addresses, &counters, snapshot) => sent,
                };
                match &sent {
                    Ok(()) => tracing::info!(peer = %to, index, "sent a snapshot"),
                    Err(error) => tracing::warn!(peer = %to, index, %error, "cannot send a snapshot"),
                }
                ok = sent.is_ok();
            }
            // Without a listener there is nobody to tell.
            let _ = shared.tell(PeerEvent::SnapshotSent { to, ok }).await;
        });
    }

    /// Serves an accepted connection, [`MAGIC`] being read from it already, until it ends.
    pub async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        if let Err(error) = receiver::serve(&self.shared, stream).await {
            tracing::debug!(%error, "the connection of a peer ended");
        }
    }

    /// How the connections with the peers do, by member, ascending.
    pub fn activity(&self) -> Vec<PeerActivity> {
        let table = self.shared.lock();
        table.peers.iter().map(|(member, peer)| peer.counters.read(*member)).collect()
    }

    /// Starts to send to a peer.
    fn start(&self, to: MemberId, urls: Vec<String>, counters: Arc<Counters>) -> Peer {
        let shared = &self.shared;
        let config = &shared.config;
        let (trigger, mut stop) = shutdown_channel();
        let outbox = Outbox::new(to, config.queue_bytes, config.max_frame_bytes, shared.events.clone());
        let peer = Peer {
            addresses: Arc::new(Addresses::new(urls)),
            outbox: Arc::new(outbox),
            counters,
            outgoing_snapshot: Turn::default(),
            stop: stop.clone(),
            _trigger: trigger,
        };
        let sender = Sender {
            shared: shared.clone(),
            to,
            addresses: peer.addresses.clone(),
            outbox: peer.outbox.clone(),
            counters: peer.counters.clone(),
        };
        shared.tasks.spawn(async move {
            rt::select! {
                () = stop.wait() => {}
                () = sender.run() => {}
            }
        });
        peer
    }
}

impl PeerNetwork for Transport {
    fn set_members(&self, peers: Vec<(MemberId, Vec<String>)>, removed: BTreeSet<MemberId>) {
        Transport::set_members(self, peers, removed);
    }

    fn send(&self, messages: Vec<PeerMessage>) {
        Transport::send(self, messages);
    }

    fn lease_call(&self, to: MemberId, call: LeaseCall) {
        Transport::lease_call(self, to, call);
    }

    fn lease_answer(&self, to: MemberId, answer: LeaseAnswer) {
        Transport::lease_answer(self, to, answer);
    }

    fn send_snapshot(
        &self,
        to: MemberId,
        message: Bytes,
        point: SnapshotPoint,
        source: Box<dyn SnapshotSource>,
    ) {
        Transport::send_snapshot(self, to, message, point, source);
    }

    fn activity(&self) -> Vec<PeerActivity> {
        Transport::activity(self)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the member, when there is room.
    async fn tell(&self, event: PeerEvent) -> Result<(), PeerError> {
        self.events.send(event).await.map_err(|_| PeerError::Stopping)
    }

    /// Counts a frame from `from`, and refuses it if that is no member any more.
    fn note_received(&self, from: MemberId, frame: &Frame) -> Result<(), PeerError> {
        let table = self.lock();
        if table.removed.contains(&from) {
            return Err(PeerError::Refused { why: format!("member {from} was removed"), removed: true });
        }
        if let Some(peer) = table.peers.get(&from) {
            peer.counters.received_bytes.fetch_add(frame.wire_bytes(), Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Table {
    fn push(&self, to: MemberId, items: impl Iterator<Item = Item>) {
        // Without such a peer, a change of members is on its way here or there.
        if let Some(peer) = self.peers.get(&to) {
            let dropped = peer.outbox.push(items);
            peer.counters.lost_messages.fetch_add(dropped, Ordering::Relaxed);
        }
    }
}

/// Something that only one may do at a time.
#[derive(Clone, Default)]
struct Turn {
    taken: Arc<AtomicBool>,
}

/// The turn of its owner, until dropped.
struct Claimed {
    taken: Arc<AtomicBool>,
}

impl Turn {
    /// The turn, unless somebody has it.
    fn claim(&self) -> Option<Claimed> {
        let free = !self.taken.swap(true, Ordering::AcqRel);
        free.then(|| Claimed { taken: self.taken.clone() })
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.taken.store(false, Ordering::Release);
    }
}
