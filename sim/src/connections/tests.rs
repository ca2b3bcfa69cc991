//! One host that listens, one that connects, and each fault between them.
#![expect(clippy::disallowed_methods, reason = "each world has a thread of its own")]

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use detcd::rt::io::{AsyncReadExt, AsyncWriteExt};
use detcd::rt::{TcpListener, TcpStream, sleep, timeout};
use madsim::runtime::{Handle, NodeHandle, Runtime};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A world of two hosts.
struct Two {
    connections: Connections,
    near: NodeHandle,
    far: NodeHandle,
}

fn ip(host: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, host])
}

fn port() -> SocketAddr {
    SocketAddr::new(ip(2), 80)
}

/// Runs a world on a thread of its own, as madsim wants it.
fn simulate<F, T>(seed: u64, test: impl FnOnce(Two) -> F + Send + 'static) -> T
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let world = std::thread::spawn(move || {
        let mut runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.set_time_limit(Duration::from_secs(3600));
        runtime.block_on(async move {
            let connections = Connections::new(seed);
            let node = |host| {
                let node = Handle::current().create_node().ip(ip(host)).build();
                connections.add_host(node.id(), ip(host), host);
                node
            };
            let (near, far) = (node(1), node(2));
            let _installed = connections.install();
            test(Two { connections, near, far }).await
        })
    });
    world.join().expect("the world does not panic")
}

impl Two {
    /// A connection: the end of who connected, and of who accepted.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        let accepting = self.far.spawn(async {
            let listener = TcpListener::bind(port()).await.expect("a free port");
            listener.accept().await.expect("a connection").0
        });
        let connecting = self.connect();
        let accepted = accepting.await.expect("accepts");
        (connecting.await.expect("connects").expect("a connection"), accepted)
    }

    fn connect(&self) -> madsim::task::JoinHandle<io::Result<TcpStream>> {
        self.near.spawn(async {
            // The listener's first poll may come after this one.
            sleep(Duration::from_millis(1)).await;
            TcpStream::connect(port()).await
        })
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 64 * 1024];
    let size = stream.read(&mut bytes).await?;
    bytes.truncate(size);
    Ok(bytes)
}

/// Nothing is to be read for this long.
async fn is_silent(stream: &mut TcpStream, time: Duration) -> bool {
    timeout(time, read(stream)).await.is_err()
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("a failure").kind()
}

fn since_start() -> Duration {
    madsim::time::TimeHandle::current().elapsed()
}

#[test]
fn bytes_arrive_whole_and_in_order_however_small_the_pieces_and_buffers() {
    for seed in 0..10 {
        simulate(seed, |two| async move {
            let (one, other) = (ip(1), ip(2));
            two.connections.set_pieces(one, other, Some(7), Some(5));
            two.connections.set_capacity(one, other, 100);
            two.connections.set_latency(one, other, Duration::from_millis(1)..=Duration::from_millis(40));
            let (mut near, mut far) = two.pair().await;
            let sent: Vec<u8> = (0..2000_u32).map(|number| (number % 251) as u8).collect();
            let expected = sent.clone();
            let writing = two.near.spawn(async move {
                near.write_all(&sent).await.expect("written");
                near.shutdown().await.expect("shut down");
                assert_eq!(kind(near.write_all(b"more").await), ErrorKind::BrokenPipe);
                near
            });
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.expect("read");
            assert_eq!(received, expected);
            writing.await.expect("the writer");
            assert!(two.connections.statistics().full > 0, "the buffer was never full");
        });
    }
}

#[test]
fn the_same_seed_gives_the_same_times_and_another_seed_others() {
    let story = |seed| {
        simulate(seed, |two| async move {
            let (mut near, mut far) = two.pair().await;
            for number in 0..20 {
                near.write_all(&[number]).await.expect("written");
                assert_eq!(read(&mut far).await.expect("read"), [number]);
            }
            (since_start(), two.connections.digest())
        })
    };
    assert_eq!(story(1), story(1));
    assert_ne!(story(1), story(2));
}

#[test]
fn nobody_listening_refuses_and_a_swallowed_connect_waits() {
    simulate(1, |two| async move {
        assert_eq!(kind(two.connect().await.expect("a task")), ErrorKind::ConnectionRefused);
        two.connections.set_connects(ip(1), ip(2), Connects::Swallowed);
        let begun = since_start();
        let connecting = two.near.spawn(TcpStream::connect(port()));
        assert_eq!(kind(connecting.await.expect("a task")), ErrorKind::TimedOut);
        assert_eq!((since_start() - begun).as_secs(), 127, "as long as Linux tries");

        let connecting = two.near.spawn(TcpStream::connect(port()));
        let listening = two.far.spawn(async {
            let listener = TcpListener::bind(port()).await.expect("a free port");
            listener.accept().await.expect("a connection").1
        });
        sleep(2 * SECOND).await;
        assert!(!connecting.is_finished());
        two.connections.restore(ip(1), ip(2));
        let stream = connecting.await.expect("a task").expect("connected once nothing swallows it");
        assert_eq!(listening.await.expect("a task"), stream.local_addr().expect("an address"));
        two.connections.set_connects(ip(1), ip(2), Connects::Refused);
        let refused = two.near.spawn(TcpStream::connect(port())).await.expect("a task");
        assert_eq!(kind(refused), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_port_is_taken_until_its_listener_is_gone() {
    simulate(1, |two| async move {
        let binding = two.far.spawn(async {
            let first = TcpListener::bind(port()).await.expect("a free port");
            assert_eq!(kind(TcpListener::bind(port()).await), ErrorKind::AddrInUse);
            let other = TcpListener::bind((ip(1), 80)).await;
            assert_eq!(kind(other), ErrorKind::AddrNotAvailable);
            drop(first);
            let again = TcpListener::bind("127.0.0.1:80").await.expect("free again");
            assert_eq!(again.local_addr().expect("an address"), port());
        });
        binding.await.expect("the host");
    });
}

#[test]
fn a_reset_is_seen_by_both_ends() {
    simulate(1, |two| async move {
        let (mut near, mut far) = two.pair().await;
        let reading = two.near.spawn(async move { kind(read(&mut near).await) });
        sleep(SECOND).await;
        assert_eq!(two.connections.reset(ip(2), ip(1)), 1);
        assert_eq!(reading.await.expect("the reader is woken"), ErrorKind::ConnectionReset);
        assert_eq!(kind(far.write(b"x").await), ErrorKind::ConnectionReset);
        assert_eq!(kind(read(&mut far).await), ErrorKind::ConnectionReset);
        drop(far);
        assert_eq!(two.connections.count(), 0);
    });
}

#[test]
fn a_close_ends_and_a_close_with_unread_bytes_resets() {
    simulate(1, |two| async move {
        let (mut near, far) = two.pair().await;
        drop(far);
        assert_eq!(read(&mut near).await.expect("an end"), b"");
        assert_eq!(near.write(b"to nobody").await.expect("nothing is known yet"), 9);
        sleep(SECOND).await;
        assert_eq!(kind(near.write(b"x").await), ErrorKind::ConnectionReset);

        let (mut near, mut far) = two.pair().await;
        far.write_all(b"lost with the reset").await.expect("written");
        near.write_all(b"unread").await.expect("written");
        sleep(SECOND).await;
        drop(far);
        sleep(SECOND).await;
        assert_eq!(kind(read(&mut near).await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_cut_holds_bytes_back_one_way_until_it_is_mended() {
    simulate(1, |two| async move {
        let (mut near, mut far) = two.pair().await;
        two.connections.cut(ip(1), ip(2));
        near.write_all(b"held").await.expect("written");
        far.write_all(b"the other way").await.expect("written");
        assert_eq!(read(&mut near).await.expect("read"), b"the other way");
        assert!(is_silent(&mut far, 10 * SECOND).await);
        near.write_all(b" back").await.expect("written");
        two.connections.mend(ip(1), ip(2));
        let mended = since_start();
        assert_eq!(read(&mut far).await.expect("read"), b"held back");
        let waited = since_start() - mended;
        assert!(waited > Duration::from_millis(100) && waited < 7 * SECOND, "{waited:?}: a retransmission");
    });
}

#[test]
fn a_writer_that_hears_no_acknowledgement_fills_the_buffer() {
    simulate(1, |two| async move {
        let (mut near, mut far) = two.pair().await;
        two.connections.set_capacity(ip(1), ip(2), 10);
        two.connections.cut(ip(2), ip(1));
        near.write_all(b"0123456789").await.expect("there is room");
        assert_eq!(read(&mut far).await.expect("it arrives"), b"0123456789");
        assert!(timeout(SECOND, near.write_all(b"x")).await.is_err(), "no room as far as it knows");
        two.connections.mend_all();
        near.write_all(b"x").await.expect("acknowledged");
        assert_eq!(read(&mut far).await.expect("read"), b"x");
    });
}

#[test]
fn an_isolated_host_reaches_itself_only() {
    simulate(1, |two| async move {
        let (mut near, mut far) = two.pair().await;
        two.connections.isolate(ip(2), true, true);
        near.write_all(b"in").await.expect("written");
        far.write_all(b"out").await.expect("written");
        assert!(is_silent(&mut far, SECOND).await && is_silent(&mut near, SECOND).await);
        let within = two.far.spawn(async {
            let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let _near = TcpStream::connect(address).await.expect("connected");
            listener.accept().await.expect("accepted");
        });
        within.await.expect("the host itself");
        two.connections.rejoin(ip(2));
        assert_eq!(read(&mut far).await.expect("read"), b"in");
        assert_eq!(read(&mut near).await.expect("read"), b"out");
    });
}

#[test]
fn a_power_cut_tells_nobody_and_its_destructors_reach_nobody() {
    simulate(1, |two| async move {
        let (mut near, mut far) = two.pair().await;
        far.write_all(b"before").await.expect("written");
        assert_eq!(read(&mut near).await.expect("read"), b"before");
        let holding = two.far.spawn(async move {
            // What it does once it is dead must not get out.
            let _far = far;
            std::future::pending::<()>().await;
        });
        assert_eq!(two.connections.power_cut(ip(2)), 1);
        Handle::current().kill(two.far.id());
        assert!(holding.await.is_err(), "its tasks are dropped");
        assert!(is_silent(&mut near, 100 * SECOND).await);
        near.write_all(b"into the void").await.expect("there is room");
        let connecting = two.near.spawn(TcpStream::connect(port()));
        sleep(5 * SECOND).await;
        assert!(!connecting.is_finished(), "who is without power refuses nobody");
        two.connections.power_on(ip(2));
        assert_eq!(
            kind(read(&mut near).await),
            ErrorKind::ConnectionReset,
            "what was sent again is answered"
        );
        assert_eq!(kind(connecting.await.expect("a task")), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_host_that_is_back_answers_only_to_who_writes() {
    simulate(1, |two| async move {
        let (mut near, _far) = two.pair().await;
        two.connections.power_cut(ip(2));
        two.connections.power_on(ip(2));
        assert!(is_silent(&mut near, 100 * SECOND).await);
        near.write_all(b"anybody?").await.expect("written");
        assert_eq!(kind(read(&mut near).await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn of_what_had_left_before_a_power_cut_some_arrives() {
    let arrived = |seed| {
        simulate(seed, |two| async move {
            let (mut near, mut far) = two.pair().await;
            for number in 0..8 {
                far.write_all(&[number]).await.expect("written");
            }
            two.connections.power_cut(ip(2));
            let mut received = Vec::new();
            while let Ok(Ok(bytes)) = timeout(SECOND, read(&mut near)).await {
                received.extend(bytes);
            }
            assert!(received.iter().copied().eq(0..received.len() as u8), "a prefix: {received:?}");
            received.len()
        })
    };
    let counts: std::collections::BTreeSet<usize> = (0..20).map(arrived).collect();
    assert!(counts.len() > 3, "{counts:?}");
}

#[test]
fn a_half_open_connection_stays_silent_and_a_new_one_works() {
    simulate(1, |two| async move {
        let (mut near, mut far) = two.pair().await;
        far.write_all(b"on its way").await.expect("written");
        assert_eq!(two.connections.half_open(ip(1), ip(2)), 1);
        near.write_all(b"into the void").await.expect("there is room");
        assert!(is_silent(&mut near, 100 * SECOND).await);
        two.connections.mend_all();
        assert!(is_silent(&mut far, 100 * SECOND).await);
        drop(far);
        assert!(is_silent(&mut near, 100 * SECOND).await);
        let (mut near, mut far) = two.pair().await;
        near.write_all(b"anew").await.expect("written");
        assert_eq!(read(&mut far).await.expect("read"), b"anew");
    });
}

#[test]
fn a_killed_process_is_seen_at_once() {
    simulate(1, |two| async move {
        let (mut near, far) = two.pair().await;
        let holding = two.far.spawn(async move {
            let _far = far;
            let _listener = TcpListener::bind(port()).await.expect("a free port");
            std::future::pending::<()>().await;
        });
        sleep(SECOND).await;
        let connecting = two.connect();
        sleep(Duration::from_millis(4)).await;
        assert_eq!(two.connections.kill(ip(2)), 1);
        Handle::current().kill(two.far.id());
        assert!(holding.await.is_err());
        assert_eq!(read(&mut near).await.expect("an end"), b"");
        match connecting.await.expect("a task") {
            Ok(mut queued) => assert_eq!(kind(read(&mut queued).await), ErrorKind::ConnectionReset),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
        drop(near);
        sleep(SECOND).await;
        assert_eq!(two.connections.count(), 0);
    });
}

#[test]
fn a_slow_reader_reads_at_its_pace_and_the_writer_waits() {
    simulate(1, |two| async move {
        let (mut near, mut far) = two.pair().await;
        two.connections.set_capacity(ip(1), ip(2), 50);
        let pace = Pace { bytes: 10, every: Duration::from_millis(100) };
        two.connections.slow_reader(ip(1), ip(2), pace);
        let begun = since_start();
        let writing = two.near.spawn(async move {
            near.write_all(&[7; 200]).await.expect("written");
            (near, since_start())
        });
        let mut received = 0;
        while received < 200 {
            let bytes = read(&mut far).await.expect("read");
            assert!(bytes.len() <= 10);
            received += bytes.len();
        }
        let took = (since_start() - begun).as_millis();
        assert!((1900..2100).contains(&took), "{took} ms for 20 reads");
        let (_near, written) = writing.await.expect("the writer");
        assert!((written - begun).as_millis() > 1400, "the writer waits for the reader");
    });
}

#[test]
fn a_writer_that_waits_for_room_sleeps_also_when_it_has_bytes_to_read() {
    simulate(1, |two| async move {
        let (mut near, mut far) = two.pair().await;
        two.connections.set_capacity(ip(1), ip(2), 10);
        far.write_all(b"to be read later").await.expect("written");
        let waiting = two.near.spawn(async move { near.write_all(&[7; 20]).await.map(|()| near) });
        sleep(SECOND).await;
        let full = two.connections.statistics().full;
        assert!(full <= 3, "it asked {full} times for room");
        let mut received = 0;
        while received < 20 {
            received += read(&mut far).await.expect("read").len();
        }
        let mut near = waiting.await.expect("the writer").expect("written");
        assert_eq!(read(&mut near).await.expect("read"), b"to be read later");
    });
}

#[test]
fn what_happens_is_in_the_trace() {
    simulate(1, |two| async move {
        let trace = Trace::new(true, false);
        two.connections.trace_to(trace.clone());
        let (_near, _far) = two.pair().await;
        two.connections.reset(ip(1), ip(2));
        two.connections.cut(ip(1), ip(2));
        let told: Vec<String> = trace.events().iter().map(|event| event.to_string()).collect();
        assert!(told[0].ends_with("reset, to m2: 1"), "{told:?}");
        assert!(told[1].contains("cut, to m2"), "{told:?}");
    });
}

#[test]
fn without_faults_madsims_own_sockets_serve_who_installs_none() {
    let world = std::thread::spawn(|| {
        Runtime::with_seed_and_config(1, madsim::Config::default()).block_on(async {
            let handle = Handle::current();
            let node = handle.create_node().ip(ip(2)).build();
            let within = node.spawn(async {
                let listener = TcpListener::bind(port()).await.expect("a port");
                let mut near = TcpStream::connect(port()).await.expect("connected");
                let (mut far, _) = listener.accept().await.expect("accepted");
                near.write_all(b"x").await.expect("written");
                near.flush().await.expect("flushed");
                assert_eq!(read(&mut far).await.expect("read"), b"x");
            });
            within.await.expect("the host");
        });
    });
    world.join().expect("the world does not panic");
}
