//! Members on loopback ports, talking over real sockets.

mod messages;
mod refusals;
mod snapshots;

use std::net::SocketAddr;
use std::path::Path;

use super::wire::Connection;
use super::*;
use crate::proto::detcdpb::peer_hello::Purpose;
use crate::proto::detcdpb::{PeerHello, PeerWelcome};
use crate::rt::io::AsyncReadExt;
use crate::rt::{SystemClock, TaskGroup, TcpListener, TcpStream};
use crate::types::LocalFault;

const CLUSTER: ClusterId = ClusterId(0xc1);

/// Runs a test to its end, which must come soon.
fn check(test: impl Future<Output = ()>) {
    rt::run(async { rt::timeout(Duration::from_secs(10), test).await.expect("the test hangs") })
        .expect("a runtime");
}

/// Short pauses, and patience for a busy machine.
fn config(id: u64) -> TransportConfig {
    TransportConfig {
        least_pause: Duration::from_millis(2),
        most_pause: Duration::from_millis(10),
        ping_interval: Duration::from_millis(20),
        silence_timeout: Duration::from_secs(5),
        ..TransportConfig::new(CLUSTER, MemberId(id), 7)
    }
}

/// A member: a transport, its listener and its events.
struct Node {
    id: MemberId,
    address: SocketAddr,
    transport: Transport,
    events: mpsc::Receiver<PeerEvent>,
    _senders: TaskGroup,
    /// Accepting and serving; dropped to be deaf.
    accepted: Option<TaskGroup>,
}

impl Node {
    async fn start(id: u64) -> Self {
        Self::with(config(id), 1000, Arc::new(NoSnapshots)).await
    }

    async fn with(config: TransportConfig, events: usize, snapshots: Arc<dyn SnapshotStore>) -> Self {
        let mut node = Self::deaf(config, events, snapshots);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        node.listen(listener);
        node
    }

    /// One that does not listen yet.
    fn deaf(config: TransportConfig, events: usize, snapshots: Arc<dyn SnapshotStore>) -> Self {
        let (sender, events) = mpsc::channel(events);
        let tasks = TaskGroup::new();
        let id = config.member_id;
        let clock = Arc::new(SystemClock::new());
        let transport = Transport::new(config, sender, snapshots, clock, tasks.spawner());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { id, address, transport, events, _senders: tasks, accepted: None }
    }

    fn listen(&mut self, listener: TcpListener) {
        self.address = listener.local_addr().expect("an address");
        let tasks = TaskGroup::new();
        let (transport, spawner) = (self.transport.clone(), tasks.spawner());
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let transport = transport.clone();
                spawner.spawn(async move {
                    let mut magic = [0; 8];
                    if stream.read_exact(&mut magic).await.is_ok() && &magic == MAGIC {
                        transport.serve(stream).await;
                    }
                });
            }
        });
        self.accepted = Some(tasks);
    }

    fn peer(&self) -> (MemberId, Vec<String>) {
        peer(self.id, self.address)
    }

    /// Talks to `peers` from now on.
    fn knows(&self, peers: &[&Node]) {
        let peers = peers.iter().map(|node| node.peer()).collect();
        self.transport.set_members(peers, BTreeSet::new());
    }

    async fn event(&mut self) -> PeerEvent {
        self.events.recv().await.expect("the transport is alive")
    }

    /// The next raft messages, passing over lost connections.
    async fn messages(&mut self) -> (MemberId, Vec<Bytes>) {
        loop {
            match self.event().await {
                PeerEvent::Raft { from, messages } => return (from, messages),
                PeerEvent::Unreachable(_) => {}
                event => panic!("unexpected {event:?}"),
            }
        }
    }

    /// The next `count` raft messages from `from`, each as its number.
    async fn numbers(&mut self, from: MemberId, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let (sender, messages) = self.messages().await;
            assert_eq!(sender, from);
            numbers.extend(messages.iter().map(number_of));
        }
        numbers
    }

    async fn unreachable(&mut self, peer: MemberId) {
        match self.event().await {
            PeerEvent::Unreachable(lost) => assert_eq!(lost, peer),
            event => panic!("unexpected {event:?}"),
        }
    }

    fn activity_of(&self, peer: MemberId) -> PeerActivity {
        let all = self.transport.activity();
        *all.iter().find(|activity| activity.member == peer).expect("a peer")
    }

    /// Waits until the stream to `peer` stands and a ping was answered.
    async fn connected(&self, peer: MemberId) {
        loop {
            let activity = self.activity_of(peer);
            if activity.connected_since.is_some() && activity.round_trips.count() > 0 {
                return;
            }
            rt::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn peer(id: MemberId, address: SocketAddr) -> (MemberId, Vec<String>) {
    (id, vec![format!("http://{address}")])
}

/// A message of `size` bytes that says its number.
fn numbered(to: MemberId, number: u64, size: usize) -> PeerMessage {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(size.max(bytes.len()), 0xab);
    PeerMessage { to: to.0, bytes: bytes.into(), snapshot: None }
}

fn number_of(message: &Bytes) -> u64 {
    u64::from_be_bytes(*message.first_chunk().expect("a numbered message"))
}

/// A caller that is no transport: opens a connection and says hello.
async fn call(address: SocketAddr, hello: PeerHello) -> (Connection<TcpStream>, PeerWelcome) {
    let stream = TcpStream::connect(address).await.expect("connected");
    let mut connection = Connection::new(stream, 1 << 20, Duration::from_secs(5));
    connection.write(MAGIC).await.expect("written");
    connection.send(&hello).await.expect("written");
    let welcome = connection.next().await.expect("a frame").decode().expect("a welcome");
    (connection, welcome)
}

fn hello(from: u64, to: MemberId, purpose: Purpose) -> PeerHello {
    PeerHello { cluster_id: CLUSTER.0, from, to: to.0, purpose: purpose as i32 }
}

/// A peer that is no transport: accepts one connection and welcomes the caller.
async fn welcome(listener: &TcpListener) -> (Connection<TcpStream>, PeerHello) {
    let (mut stream, _) = listener.accept().await.expect("a caller");
    let mut magic = [0; 8];
    stream.read_exact(&mut magic).await.expect("the magic");
    assert_eq!(&magic, MAGIC);
    let mut connection = Connection::new(stream, 1 << 20, Duration::from_secs(5));
    let hello = connection.next().await.expect("a frame").decode().expect("a hello");
    connection.send(&PeerWelcome::default()).await.expect("written");
    (connection, hello)
}

/// For members that receive no snapshots.
struct NoSnapshots;

impl SnapshotStore for NoSnapshots {
    fn begin(&self, _: &SnapshotPoint) -> Result<Box<dyn SnapshotSink>, LocalFault> {
        Err(LocalFault::new("no room for snapshots"))
    }
}
