//! Three members on disks in memory, a client with real stubs, and the story that both tell.
#![expect(clippy::disallowed_methods, reason = "each world has a thread of its own")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use detcd::client::{Channel, Options};
use detcd::disk::memory::MemoryDisk;
use detcd::member::{Input, Output, Recovered};
use detcd::proto::etcdserverpb::kv_client::KvClient;
use detcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use detcd::proto::etcdserverpb::watch_client::WatchClient;
use detcd::proto::etcdserverpb::watch_request::RequestUnion;
use detcd::proto::etcdserverpb::{
    PutRequest, RangeRequest, StatusRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use detcd::rt::sim_tcp::Installed;
use detcd::rt::{self, SystemClock};
use detcd::server::node::{Environment, NodeConfig};
use detcd::server::observe::Observer;
use detcd::server::reach::Reach;
use detcd::types::MemberId;
use detcd::types::log::PeerMessage;
use madsim::runtime::{Handle, NodeHandle, Runtime};
use madsim::time::TimeHandle;
use sim::connections::Connections;
use sim::full::{self, Ended, Member};
use tonic::{Code, Status, Streaming};

pub const MEMBERS: u8 = 3;

/// How long a client waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for another number of seeds than is usual.
const SEEDS: &str = "WIRE_SEEDS";

/// The seeds of a test that runs many: so many, unless others are asked for.
pub fn seeds(usual: u64) -> Range<u64> {
    let number = std::env::var(SEEDS).ok().map(|number| number.parse().expect("a number of seeds"));
    0..number.unwrap_or(usual)
}

/// Entries that a member keeps for one that lags: few, so that snapshots are needed.
const CATCHUP_ENTRIES: u64 = 20;

/// What happened: lines for people, and every step of every member's loop for the comparison of two runs.
#[derive(Clone, Default)]
pub struct Story {
    inner: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    lines: Vec<String>,
    steps: Vec<Step>,
    digest: DefaultHasher,
}

/// One step: when, of which kind, and a number that stands for its contents.
pub type Step = (Duration, &'static str, u64);

impl Story {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell(&self, what: String) {
        let line = format!("{:?} {what}", elapsed());
        self.lock().lines.push(line);
    }

    fn step(&self, kind: &'static str, contents: impl Hash) {
        let mut told = self.lock();
        let mut hasher = DefaultHasher::new();
        contents.hash(&mut hasher);
        let step = (elapsed(), kind, hasher.finish());
        step.hash(&mut told.digest);
        told.steps.push(step);
    }

    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    pub fn digest(&self) -> u64 {
        self.lock().digest.finish()
    }

    /// The first step at which two stories part ways.
    pub fn parts_from(&self, other: &Self) -> Option<(Option<Step>, Option<Step>)> {
        let (one, other) = (self.lock().steps.clone(), other.lock().steps.clone());
        let steps = 0..one.len().max(other.len());
        steps
            .map(|number| (one.get(number).copied(), other.get(number).copied()))
            .find(|(one, other)| one != other)
    }
}

impl Observer for Story {
    fn begins(&self, member: MemberId, _: &Recovered) {
        self.step("begins", member.0);
    }

    fn takes(&self, input: &Input) {
        let bytes = match input {
            Input::Peer(message) => Some(message),
            _ => None,
        };
        self.step("takes", (std::mem::discriminant(input), bytes));
    }

    fn gives(&self, output: &Output) {
        self.step("gives", std::mem::discriminant(output));
    }

    fn sends(&self, messages: &[PeerMessage]) {
        for message in messages {
            self.step("sends", (message.to, &message.bytes));
        }
    }
}

pub fn elapsed() -> Duration {
    TimeHandle::current().elapsed()
}

pub struct Cluster {
    pub connections: Connections,
    pub members: Vec<Member>,
    pub disks: Vec<MemoryDisk>,
    pub client: NodeHandle,
    pub story: Story,
    /// How each member's last process ended: none when it was killed.
    ended: Vec<Option<rt::JoinHandle<Option<Ended>>>>,
    _installed: Installed,
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        let connections = Connections::new(seed);
        let installed = connections.install();
        let members = (1..=MEMBERS).map(|number| Member::new(&connections, number)).collect();
        let disks = (1..=MEMBERS).map(|_| MemoryDisk::new()).collect();
        let client = full::client(&connections, 1);
        let ended = (1..=MEMBERS).map(|_| None).collect();
        let story = Story::default();
        let mut cluster = Self { connections, members, disks, client, story, ended, _installed: installed };
        for member in 1..=MEMBERS {
            cluster.start(member);
        }
        cluster
    }

    /// Starts a member; a fault that stops it fails the test.
    pub fn start(&mut self, member: u8) {
        let place = usize::from(member) - 1;
        let environment = Environment {
            disk: Arc::new(self.disks[place].clone()),
            clock: Arc::new(SystemClock::new()),
            seed: u64::from(member),
            reach: Reach::Ports,
            observer: Some(Arc::new(self.story.clone())),
        };
        let config = NodeConfig { catchup_entries: CATCHUP_ENTRIES, ..full::config(member, MEMBERS) };
        let ended = self.members[place].start(config, environment);
        self.ended[place] = Some(rt::spawn(async move {
            match ended.await {
                Ok(Ok(ended)) => Some(ended),
                Ok(Err(fault)) => panic!("member {member} failed: {fault}"),
                Err(_) => None,
            }
        }));
    }

    /// Stops a member in good order, and says how it ended.
    pub async fn stop(&mut self, member: u8) -> Option<Ended> {
        let place = usize::from(member) - 1;
        self.members[place].stop();
        let ended = self.ended[place].take().expect("it was started");
        ended.await.expect("not killed")
    }

    pub fn kill(&mut self, member: u8) {
        let place = usize::from(member) - 1;
        self.members[place].kill();
        self.disks[place].kill();
    }

    /// No unsynced write survives.
    pub fn power_cut(&mut self, member: u8) {
        let place = usize::from(member) - 1;
        self.members[place].power_cut();
        self.disks[place].power_cut(|| false);
    }

    /// Runs a client's task on the client's host.
    pub async fn ask<F>(&self, task: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.client.spawn(task).await.expect("the client's host lives")
    }

    pub async fn leader(&self) -> u8 {
        let leader = self.ask(leader(vec![1, 2, 3])).await;
        self.story.tell(format!("leader {leader}"));
        leader
    }

    /// Twenty puts, each at the next member.
    pub async fn twenty_puts(&self, prefix: &'static str) {
        self.twenty_puts_at((1..=MEMBERS).collect(), prefix).await;
    }

    /// Twenty puts, each at the next of these members.
    pub async fn twenty_puts_at(&self, members: Vec<u8>, prefix: &'static str) {
        let story = self.story.clone();
        self.ask(async move {
            let channels: Vec<Channel> = members.iter().map(|&member| channel(&[member])).collect();
            for number in 0..20_usize {
                let channel = &channels[number % channels.len()];
                let revision = put(channel, &format!("{prefix}{number}"), "value").await;
                story.tell(format!("{prefix}{number} at revision {revision:?}"));
                revision.expect("a put with a quorum up");
            }
        })
        .await;
    }

    /// Twenty puts through any member, whatever becomes of them.
    pub async fn twenty_tries(&self, prefix: &'static str) {
        let story = self.story.clone();
        self.ask(async move {
            let channel = channel(&[1, 2, 3]);
            for number in 0..20 {
                let revision = put(&channel, &format!("{prefix}/{number}"), "value").await;
                story.tell(format!("{prefix}/{number}: {:?}", revision.map_err(|status| status.code())));
            }
        })
        .await;
    }

    /// Puts through any member until one succeeds: the cluster goes on.
    pub async fn goes_on(&self, key: &'static str) {
        let story = self.story.clone();
        self.ask(async move {
            let channel = channel(&[1, 2, 3]);
            let begun = elapsed();
            loop {
                match put(&channel, key, "on").await {
                    Ok(revision) => return story.tell(format!("{key} at revision {revision}")),
                    Err(status) => story.tell(format!("{key}: {:?}", status.code())),
                }
                assert!(elapsed() - begun < Duration::from_secs(60), "the cluster does not go on");
                rt::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    }

    /// Waits until every member has this key, by its own reading.
    pub async fn all_have(&self, key: &'static str) {
        let story = self.story.clone();
        self.ask(async move {
            for member in 1..=MEMBERS {
                let channel = channel(&[member]);
                let begun = elapsed();
                while !matches!(has(&channel, key).await, Ok(true)) {
                    assert!(elapsed() - begun < Duration::from_secs(60), "member {member} does not catch up");
                    rt::sleep(Duration::from_millis(100)).await;
                }
                story.tell(format!("m{member} has {key}"));
            }
        })
        .await;
    }
}

pub fn ip(member: u8) -> IpAddr {
    full::member_ip(member)
}

pub fn client_ip() -> IpAddr {
    full::client_ip(1)
}

pub fn channel(members: &[u8]) -> Channel {
    full::channel(members, Options::default())
}

/// As a client with a deadline does.
pub async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    rt::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "late")))
}

pub async fn put(channel: &Channel, key: &str, value: &str) -> Result<i64, Status> {
    let request =
        PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    let response = in_time(KvClient::new(channel.clone()).put(request)).await?;
    Ok(response.into_inner().header.expect("a header").revision)
}

/// Whether a member has a key, at the end of what the cluster has agreed on.
pub async fn has(channel: &Channel, key: &str) -> Result<bool, Status> {
    let request = RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let response = in_time(KvClient::new(channel.clone()).range(request)).await?;
    Ok(response.into_inner().count == 1)
}

/// A watch stream with one watcher. It lives as long as this value.
pub struct Watching {
    _said: rt::sync::mpsc::UnboundedSender<WatchRequest>,
    pub heard: Streaming<WatchResponse>,
}

/// Watches the keys with a prefix, from a revision on.
pub async fn watch(channel: &Channel, prefix: &str, from: i64) -> Result<Watching, Status> {
    let (said, requests) = rt::sync::mpsc::unbounded_channel();
    // Everything from the key on, as etcdctl asks for an empty prefix, or all that begin with it.
    let (key, range_end) = match prefix.as_bytes() {
        [] => (vec![0], vec![0]),
        [start @ .., last] => (prefix.into(), [start, &[last + 1]].concat()),
    };
    let create = WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: from,
        ..Default::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    said.send(create).expect("its receiver is in this function");
    let requests = futures::stream::unfold(requests, |mut requests| async {
        requests.recv().await.map(|request| (request, requests))
    });
    let heard = in_time(WatchClient::new(channel.clone()).watch(requests)).await?.into_inner();
    Ok(Watching { _said: said, heard })
}

async fn leader(members: Vec<u8>) -> u8 {
    let channels: Vec<(u8, Channel)> =
        members.into_iter().map(|member| (member, channel(&[member]))).collect();
    loop {
        for (member, channel) in &channels {
            let status = in_time(MaintenanceClient::new(channel.clone()).status(StatusRequest {})).await;
            if let Ok(status) = status.map(|status| status.into_inner())
                && status.header.as_ref().is_some_and(|header| header.member_id == status.leader)
            {
                return *member;
            }
        }
        rt::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs a world on a thread of its own, and gives its story.
pub fn simulate<F>(seed: u64, test: impl FnOnce(Cluster) -> F + Send + 'static) -> Story
where
    F: Future<Output = ()>,
{
    let story = Arc::new(Mutex::new(Story::default()));
    let told = story.clone();
    let world = std::thread::spawn(move || {
        let mut runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.set_time_limit(Duration::from_secs(1200));
        runtime.block_on(async move {
            let cluster = Cluster::new(seed);
            let (connections, story) = (cluster.connections.clone(), cluster.story.clone());
            *told.lock().expect("one thread") = story.clone();
            let nodes: Vec<_> = cluster.members.iter().map(Member::node).collect();
            test(cluster).await;
            story.step("bytes on connections", connections.digest());
            // What waits in a world that ends is never dropped, disks and databases included.
            nodes.into_iter().for_each(|node| Handle::current().kill(node));
            rt::sleep(Duration::from_millis(1)).await;
        });
    });
    let outcome = world.join();
    let story = story.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(outcome.is_ok(), "seed {seed} failed after {:#?}", story.lines());
    story
}
