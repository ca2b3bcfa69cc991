//! Snapshots, whole and broken on either side.

use std::sync::atomic::AtomicUsize;

use super::*;

const CHUNK: usize = 200_000;
const MESSAGE: &[u8] = b"announces";

fn point() -> SnapshotPoint {
    SnapshotPoint { index: 40, term: 3, voters: vec![1, 2], learners: vec![5] }
}

fn chunk(number: usize) -> Bytes {
    vec![number as u8; CHUNK].into()
}

/// Gives `chunks` chunks, and then ends or fails.
struct Source {
    next: usize,
    chunks: usize,
    fails: bool,
}

impl Source {
    fn of(chunks: usize) -> Box<Self> {
        Box::new(Self { next: 0, chunks, fails: false })
    }
}

impl SnapshotSource for Source {
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, LocalFault> {
        assert!(CHUNK <= max_bytes);
        if self.next < self.chunks {
            self.next += 1;
            return Ok(Some(chunk(self.next - 1)));
        }
        if self.fails { Err(LocalFault::new("cannot read")) } else { Ok(None) }
    }
}

/// Checks the chunks that come and counts sinks that are open.
#[derive(Default)]
struct Store {
    /// Fails at this chunk.
    bad_chunk: Option<usize>,
    finish_fails: bool,
    /// How long completing the file takes.
    finish_takes: Duration,
    open: AtomicUsize,
}

struct Sink {
    store: Arc<Store>,
    received: usize,
}

struct SharedStore(Arc<Store>);

impl SnapshotStore for SharedStore {
    fn begin(&self, begun: &SnapshotPoint) -> Result<Box<dyn SnapshotSink>, LocalFault> {
        assert_eq!(*begun, point());
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Sink { store: self.0.clone(), received: 0 }))
    }
}

impl SnapshotSink for Sink {
    fn write(&mut self, received: Bytes) -> Result<(), LocalFault> {
        if self.store.bad_chunk == Some(self.received) {
            return Err(LocalFault::new(format!("no space{}", "é".repeat(5000))));
        }
        assert!(received == chunk(self.received), "chunk {} differs", self.received);
        self.received += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<PathBuf, LocalFault> {
        #[expect(clippy::disallowed_methods, reason = "a disk blocks its thread")]
        std::thread::sleep(self.store.finish_takes);
        if self.store.finish_fails {
            return Err(LocalFault::new("cannot sync"));
        }
        Ok(PathBuf::from(format!("/snapshots/{}", self.received)))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.store.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A pair of members, the first knowing the second, which keeps snapshots in `store`.
async fn pair(store: Store) -> (Node, Node, Arc<Store>) {
    let one = Node::start(1).await;
    let store = Arc::new(store);
    let settings = TransportConfig { snapshot_timeout: Duration::from_secs(5), ..config(2) };
    let two = Node::with(settings, 10, Arc::new(SharedStore(store.clone()))).await;
    one.knows(&[&two]);
    one.connected(two.id).await;
    (one, two, store)
}

fn send(one: &Node, to: MemberId, source: Box<dyn SnapshotSource>) {
    one.transport.send_snapshot(to, Bytes::from_static(MESSAGE), point(), source);
}

async fn sent(node: &mut Node) -> bool {
    match node.event().await {
        PeerEvent::SnapshotSent { ok, .. } => ok,
        event => panic!("unexpected {event:?}"),
    }
}

async fn arrived(node: &mut Node) -> PathBuf {
    match node.event().await {
        PeerEvent::SnapshotArrived { message, point: at, file } => {
            assert_eq!((&message[..], at), (MESSAGE, point()));
            file
        }
        event => panic!("unexpected {event:?}"),
    }
}

/// A snapshot of 20 chunks breaks and leaves nothing; the next one arrives.
fn check_failure(store: Store, source: Source) {
    check(async {
        let (mut one, mut two, store) = pair(store).await;
        send(&one, two.id, Box::new(source));
        assert!(!sent(&mut one).await);
        while store.open.load(Ordering::SeqCst) > 0 {
            rt::sleep(Duration::from_millis(1)).await;
        }
        assert!(two.events.try_recv().is_err());
        if store.bad_chunk.is_none() && !store.finish_fails {
            send(&one, two.id, Source::of(1));
            assert_eq!(arrived(&mut two).await, Path::new("/snapshots/1"));
            assert!(sent(&mut one).await);
        }
    });
}

#[test]
fn a_snapshot_of_several_megabytes_arrives() {
    check(async {
        let (mut one, mut two, store) = pair(Store::default()).await;
        for chunks in [40, 0, 1] {
            send(&one, two.id, Source::of(chunks));
            let file = arrived(&mut two).await;
            assert_eq!(file, PathBuf::from(format!("/snapshots/{chunks}")));
            assert!(sent(&mut one).await);
            assert_eq!(store.open.load(Ordering::SeqCst), 0);
        }
    });
}

#[test]
fn the_source_fails() {
    check_failure(Store::default(), Source { next: 0, chunks: 20, fails: true });
    check_failure(Store::default(), Source { next: 0, chunks: 0, fails: true });
}

#[test]
fn the_sink_fails() {
    let source = || Source { next: 0, chunks: 20, fails: false };
    check_failure(Store { bad_chunk: Some(0), ..Store::default() }, source());
    check_failure(Store { bad_chunk: Some(7), ..Store::default() }, source());
    check_failure(Store { finish_fails: true, ..Store::default() }, source());
}

#[test]
fn a_store_without_room_refuses() {
    check(async {
        let (mut one, two) = (Node::start(1).await, Node::start(2).await);
        one.knows(&[&two]);
        send(&one, two.id, Source::of(3));
        assert!(!sent(&mut one).await);
    });
}

#[test]
fn a_long_finish_is_waited_for() {
    check(async {
        let mut one = Node::with(
            TransportConfig { snapshot_timeout: Duration::from_millis(200), ..config(1) },
            10,
            Arc::new(NoSnapshots),
        )
        .await;
        let slow = Store { finish_takes: Duration::from_millis(500), ..Store::default() };
        let store: Arc<dyn SnapshotStore> = Arc::new(SharedStore(Arc::new(slow)));
        let mut two = Node::with(config(2), 10, store).await;
        one.knows(&[&two]);
        send(&one, two.id, Source::of(2));
        arrived(&mut two).await;
        assert!(sent(&mut one).await);
    });
}

#[test]
fn the_receiver_vanishes() {
    check(async {
        let mut one = Node::start(1).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let two = MemberId(2);
        let peers = vec![peer(two, listener.local_addr().expect("an address"))];
        one.transport.set_members(peers, BTreeSet::new());
        let _messages = welcome(&listener).await;
        send(&one, two, Source::of(40));
        let (mut connection, hello) = welcome(&listener).await;
        assert_eq!(hello, super::hello(1, two, Purpose::Snapshot));
        connection.next().await.expect("the first frame");
        drop(connection);
        assert!(!sent(&mut one).await);
    });
}

#[test]
fn one_at_a_time() {
    check(async {
        let mut one = Node::start(1).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let two = MemberId(2);
        let peers = vec![peer(two, listener.local_addr().expect("an address"))];
        one.transport.set_members(peers, BTreeSet::new());
        send(&one, two, Source::of(1));
        send(&one, two, Source::of(1));
        assert!(!sent(&mut one).await, "the second, as the first is still under way");
        one.knows(&[]);
        assert!(!sent(&mut one).await, "the first, as its receiver is no peer any more");
        send(&one, two, Source::of(1));
        assert!(!sent(&mut one).await, "one for nobody");
    });
}

#[test]
fn two_leaders_do_not_disturb_each_other() {
    check(async {
        let (mut one, mut two, _) = pair(Store::default()).await;
        let hello = |from| super::hello(from, two.id, Purpose::Snapshot);
        let (first, welcome) = call(two.address, hello(8)).await;
        assert_eq!(welcome, PeerWelcome::default());
        let (_, welcome) = call(two.address, hello(9)).await;
        assert_eq!(welcome.error, "another snapshot is being received");
        drop(first);
        while !{
            send(&one, two.id, Source::of(1));
            sent(&mut one).await
        } {}
        arrived(&mut two).await;
    });
}
