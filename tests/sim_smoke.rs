//! Three whole members on the simulator's scheduler and network: gRPC over real HTTP/2, the peer
//! protocol, the log and the database on a disk in memory. They elect, take writes, lose their leader,
//! and go on; the same seed gives the same run.
//!
//! Run with `RUSTFLAGS="--cfg madsim" cargo test --target-dir target-madsim --test sim_smoke`.
#![cfg(madsim)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use detcd::client::{Channel, Options};
use detcd::disk::memory::MemoryDisk;
use detcd::proto::etcdserverpb::kv_client::KvClient;
use detcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use detcd::proto::etcdserverpb::{PutRequest, RangeRequest, StatusRequest};
use detcd::rt::{self, SystemClock};
use detcd::server::node::{self, Environment, NodeConfig};
use detcd::server::reach::Reach;
use madsim::runtime::{Handle, NodeHandle, Runtime};

const MEMBERS: u8 = 3;
const CLIENT: u8 = 100;

fn address(member: u8, port: u16) -> SocketAddr {
    format!("10.0.0.{member}:{port}").parse().expect("a literal address")
}

fn config(member: u8) -> NodeConfig {
    let peer = |member| format!("http://{}", address(member, 2380));
    let cluster: Vec<String> = (1..=MEMBERS).map(|id| format!("m{id}={}", peer(id))).collect();
    NodeConfig {
        name: format!("m{member}"),
        data_dir: "/data".into(),
        initial_cluster: cluster.join(","),
        advertise_peer_urls: vec![peer(member)],
        advertise_client_urls: vec![format!("http://{}", address(member, 2379))],
        listen_client: vec![address(member, 2379)],
        listen_peer: vec![address(member, 2380)],
        wal_segment_bytes: 1 << 20,
        ..NodeConfig::default()
    }
}

/// Starts a member on a node of its own, anew at each restart; its disk survives the node.
fn start(handle: &Handle, member: u8, disk: &MemoryDisk) -> NodeHandle {
    let disk = disk.clone();
    let run = move || {
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(SystemClock::new()),
            seed: u64::from(member),
            reach: Reach::Ports,
            observer: None,
        };
        async move {
            let (_trigger, shutdown) = rt::shutdown_channel();
            let ended = node::run(config(member), environment, shutdown).await;
            panic!("member {member} ended: {ended:?}");
        }
    };
    handle.create_node().name(format!("m{member}")).ip(address(member, 0).ip()).init(run).build()
}

fn channel(member: u8) -> Channel {
    let endpoint = format!("http://{}", address(member, 2379)).parse().expect("a literal endpoint");
    Channel::new(vec![endpoint], Options::default())
}

async fn leader(members: &[u8]) -> u8 {
    loop {
        for &member in members {
            let status = MaintenanceClient::new(channel(member)).status(StatusRequest {}).await;
            if let Ok(status) = status.map(|status| status.into_inner())
                && status.header.as_ref().is_some_and(|header| header.member_id == status.leader)
            {
                return member;
            }
        }
        rt::sleep(Duration::from_millis(50)).await;
    }
}

async fn put(member: u8, key: &str, value: &str) -> i64 {
    let request =
        PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    let response = KvClient::new(channel(member)).put(request).await.expect("a put with a quorum up");
    response.into_inner().header.expect("a header").revision
}

async fn get(member: u8, key: &str) -> Option<Vec<u8>> {
    let request = RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let response = KvClient::new(channel(member)).range(request).await.expect("a get with a quorum up");
    let kvs = response.into_inner().kvs;
    kvs.first().map(|kv| kv.decode().expect("a key-value").value.to_vec())
}

/// What happened, for the comparison of two runs.
type Story = Arc<Mutex<Vec<String>>>;

fn note(story: &Story, what: String) {
    story
        .lock()
        .expect("one thread")
        .push(format!("{:?} {what}", madsim::time::TimeHandle::current().elapsed()));
}

async fn elect_write_and_lose_the_leader(story: Story) {
    let handle = Handle::current();
    let disks: Vec<MemoryDisk> = (0..MEMBERS).map(|_| MemoryDisk::new()).collect();
    let nodes: Vec<NodeHandle> =
        (1..=MEMBERS).map(|member| start(&handle, member, &disks[usize::from(member) - 1])).collect();
    let client = handle.create_node().name("client").ip(address(CLIENT, 0).ip()).build();
    let told = story.clone();
    let first = client.spawn(async move {
        let first = leader(&[1, 2, 3]).await;
        note(&told, format!("leader {first}"));
        for number in 0..20 {
            let member = number % MEMBERS + 1;
            let revision = put(member, &format!("key{number}"), &number.to_string()).await;
            assert_eq!(revision, i64::from(number) + 2, "each put makes one revision");
        }
        for member in 1..=MEMBERS {
            assert_eq!(get(member, "key19").await.as_deref(), Some(&b"19"[..]), "member {member}");
        }
        note(&told, "written and read".into());
        first
    });
    let first = first.await.expect("the client");

    handle.kill(nodes[usize::from(first) - 1].id());
    disks[usize::from(first) - 1].kill();
    let told = story.clone();
    let rest: Vec<u8> = (1..=MEMBERS).filter(|&member| member != first).collect();
    let goes_on = client.spawn(async move {
        let second = leader(&rest).await;
        note(&told, format!("leader {second}"));
        let revision = put(second, "after", "the leader is gone").await;
        for &member in &rest {
            assert_eq!(get(member, "key7").await.as_deref(), Some(&b"7"[..]));
        }
        note(&told, format!("revision {revision}"));
    });
    goes_on.await.expect("the client");

    handle.restart(nodes[usize::from(first) - 1].id());
    let told = story.clone();
    let back = client.spawn(async move {
        leader(&[1, 2, 3]).await;
        loop {
            let request = RangeRequest { key: "after".into(), ..Default::default() };
            if KvClient::new(channel(first)).range(request).await.is_ok_and(|r| r.get_ref().count == 1) {
                break;
            }
            rt::sleep(Duration::from_millis(50)).await;
        }
        note(&told, "the old leader has caught up".into());
    });
    back.await.expect("the client");
}

/// Writes and reads while rare things happen all the time: slow turns, lost messages, broken streams, the
/// smallest of all settings. Calls may fail; what was acknowledged is there in the end, on every member.
async fn write_while_rare_things_happen(story: Story) {
    let mut state: u64 = madsim::rand::random();
    let rare = Arc::new(AtomicUsize::new(0));
    let happened = rare.clone();
    rt::set_buggify(Some(Box::new(move |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let happens = (state >> 32).is_multiple_of(40);
        happened.fetch_add(usize::from(happens), Ordering::Relaxed);
        happens.then_some(state >> 8)
    })));
    let handle = Handle::current();
    let disks: Vec<MemoryDisk> = (0..MEMBERS).map(|_| MemoryDisk::new()).collect();
    for member in 1..=MEMBERS {
        start(&handle, member, &disks[usize::from(member) - 1]);
    }
    let client = handle.create_node().name("client").ip(address(CLIENT, 0).ip()).build();
    let done = client.spawn(async move {
        leader(&[1, 2, 3]).await;
        for number in 0..40 {
            let request = PutRequest {
                key: format!("key{number}").into(),
                value: number.to_string().into(),
                ..Default::default()
            };
            let mut tries = 1;
            while KvClient::new(channel(number % MEMBERS + 1)).put(request.clone()).await.is_err() {
                tries += 1;
            }
            note(&story, format!("put {number}, {tries} tries"));
        }
        rt::set_buggify(None);
        let rare = rare.load(Ordering::Relaxed);
        assert!(rare > 50, "only {rare} rare things happened");
        for member in 1..=MEMBERS {
            let all = RangeRequest { key: "key".into(), range_end: "kez".into(), ..Default::default() };
            let found = KvClient::new(channel(member)).range(all).await.expect("a get in quiet times");
            assert_eq!(found.into_inner().count, 40, "member {member}");
        }
    });
    done.await.expect("the client");
}

fn run(seed: u64) -> Vec<String> {
    run_story(seed, elect_write_and_lose_the_leader)
}

fn run_story<F: Future<Output = ()> + 'static>(seed: u64, tell: fn(Story) -> F) -> Vec<String> {
    let story = Story::default();
    let told = story.clone();
    let run = std::thread::spawn(move || {
        let mut runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.set_time_limit(Duration::from_secs(120));
        runtime.block_on(tell(told));
    });
    let outcome = run.join();
    let told = story.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(outcome.is_ok(), "seed {seed} failed after {told:#?}");
    told
}

#[test]
fn three_members_elect_take_writes_and_survive_their_leader() {
    for seed in [1, 2, 3] {
        let story = run(seed);
        assert_eq!(story.len(), 5, "seed {seed}: {story:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(run(7), run(7));
}

#[test]
fn rare_behaviour_stops_nobody_and_follows_from_the_seed() {
    for seed in 1..=5 {
        assert_eq!(run_story(seed, write_while_rare_things_happen).len(), 40, "seed {seed}");
    }
    let again = || run_story(6, write_while_rare_things_happen);
    assert_eq!(again(), again());
}
