//! A cluster in one value: members, what their disks hold, the network between them, and the time.
//!
//! Nothing happens by itself. A test decides when a disk syncs, a packet arrives, a member crashes. On the
//! way it is asserted of every output that
//! - a caller is answered once, after a view that shows the effect was published;
//! - what a member shows as applied is on the disks of a quorum;
//! - members that have applied the same entries hold the same (HashKV);
//! - a read index answer comes with a view that holds all that was acknowledged before it was asked for;
//! - one commit of the database is outstanding at a time.

mod outputs;

use std::collections::{BTreeMap, VecDeque};
use std::hash::DefaultHasher;

use super::super::*;
use crate::apply;
use crate::lease::LessorConfig;
use crate::membership::InitialCluster;
use crate::mvcc::StoreConfig;
use crate::mvcc::testing::MemoryBackend;
use crate::proto::detcdpb::{LeaseAnswer, LeaseCall};
use crate::proto::etcdserverpb as pb;
use crate::quota::Quota;
use crate::raft::with_snapshot_point;
use crate::types::StreamId;
use crate::types::backend::{AppliedPoint, BackendBatch};
use crate::types::log::{HardState, LogEntry, PeerMessage};
use crate::watch::BatchLimits;

pub const HEARTBEAT: u64 = 100 * Now::MILLISECOND;

/// What survives a crash.
#[derive(Default)]
pub struct Disk {
    pub backend: MemoryBackend,
    pub hard_state: HardState,
    pub entries: Vec<LogEntry>,
}

enum LogJob {
    Persist(Persist),
    Release(u64),
}

enum DatabaseJob {
    Commit(BackendBatch),
    Install(MemoryBackend),
}

pub struct Node {
    pub id: MemberId,
    /// `None` while crashed.
    pub member: Option<Member>,
    pub disk: Disk,
    log: VecDeque<LogJob>,
    held_back: Option<Vec<LogJob>>,
    database: VecDeque<DatabaseJob>,
    arrived: Option<(SnapshotPoint, MemoryBackend)>,
    pub view: Option<Arc<MemberView>>,
    pub watched: BTreeMap<StreamId, Vec<pb::WatchResponse>>,
    pub removed: bool,
    /// Neither sends nor receives.
    pub cut: bool,
    pub sync_held: bool,
    pub database_held: bool,
    /// Thousandths that its clock runs fast.
    pub drift: i64,
    next_tick: u64,
    /// Bytes that its database is said to have.
    pub size: u64,
}

#[derive(Clone)]
enum Wire {
    Raft(PeerMessage, Option<MemoryBackend>),
    Call(LeaseCall),
    Answer(LeaseAnswer),
}

#[derive(Clone)]
pub struct Packet {
    from: usize,
    pub to: usize,
    wire: Wire,
}

impl Packet {
    pub fn is_lease_answer(&self) -> bool {
        matches!(self.wire, Wire::Answer(_))
    }
}

struct Asked {
    node: usize,
    acknowledged: i64,
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub network: Vec<Packet>,
    pub time: u64,
    asked: u64,
    tickets: BTreeMap<Ticket, Asked>,
    pub replies: BTreeMap<Ticket, Result<Reply, RequestError>>,
    /// The newest revision that any client was told of.
    pub acknowledged: i64,
    /// Snapshots that members began to install.
    pub snapshots: usize,
    states: BTreeMap<u64, (i64, u32)>,
    pub trace: DefaultHasher,
    initial: InitialCluster,
    pub config: fn(&mut MemberConfig),
}

impl Cluster {
    pub fn new(size: usize) -> Self {
        Self::with_config(size, |_| {})
    }

    pub fn with_config(size: usize, config: fn(&mut MemberConfig)) -> Self {
        let members: Vec<_> = (1..=size).map(|n| format!("m{n}=http://m{n}:2380")).collect();
        let initial = InitialCluster::parse(&members.join(","), "test").expect("a list of members");
        let mut cluster = Self {
            nodes: Vec::new(),
            network: Vec::new(),
            time: 0,
            asked: 0,
            tickets: BTreeMap::new(),
            replies: BTreeMap::new(),
            acknowledged: 1,
            snapshots: 0,
            states: BTreeMap::new(),
            trace: DefaultHasher::new(),
            initial,
            config,
        };
        for node in 0..size {
            cluster.add(node);
        }
        cluster
    }

    fn add(&mut self, index: usize) {
        let mut voters: Vec<u64> = self.initial.members().map(|member| member.id.0).collect();
        voters.sort_unstable();
        let mut disk = Disk { hard_state: HardState { term: 1, vote: 0, commit: 1 }, ..Disk::default() };
        disk.backend.commit(BackendBatch {
            rows: self.initial.to_membership().expect("members with ids of their own").take_rows(),
            applied: Some(AppliedPoint { index: 1, term: 1, voters, learners: Vec::new() }),
            ..BackendBatch::default()
        });
        let id = self.initial.local(&format!("m{}", index + 1)).expect("an initial member").id;
        self.nodes.push(Node {
            id,
            member: None,
            disk,
            log: VecDeque::new(),
            held_back: None,
            database: VecDeque::new(),
            arrived: None,
            view: None,
            watched: BTreeMap::new(),
            removed: false,
            cut: false,
            sync_held: false,
            database_held: false,
            drift: 0,
            next_tick: 0,
            size: 1000,
        });
        self.restart(index);
    }

    pub fn now(&self, node: usize) -> Now {
        let drift = self.time as i64 / 1000 * self.nodes[node].drift;
        let mono = self.time.saturating_add_signed(drift);
        Now { mono, wall: 1_700_000_000_000 + mono / Now::MILLISECOND }
    }

    fn member_config(&self, node: usize) -> MemberConfig {
        let id = self.nodes[node].id;
        let mut config = MemberConfig {
            cluster_id: self.initial.cluster_id(),
            name: format!("m{}", node + 1),
            client_urls: vec![format!("http://m{}:2379", node + 1)],
            driver: DriverConfig::new(id, 7),
            machine: StateMachineConfig {
                store: StoreConfig::default(),
                lessor: LessorConfig::default(),
                quota: Quota::new(-1),
            },
            watch: HubConfig {
                max_response_bytes: 1 << 20,
                stream_budget_bytes: 1 << 20,
                progress_interval: 600 * Now::SECOND,
                batch: BatchLimits::default(),
            },
            election_timeout: Now::SECOND,
            elect_alone_at_once: false,
            max_request_bytes: 10_000,
            max_txn_ops: 128,
            catchup_entries: 5000,
            backend_interval: HEARTBEAT,
            backend_batch_operations: 1000,
            compaction_batch: 2,
            compaction_pause: 10 * Now::MILLISECOND,
        };
        (self.config)(&mut config);
        config
    }

    /// Everything that is not on disk is gone, callers included.
    pub fn crash(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.member = None;
        node.log.clear();
        node.held_back = None;
        node.database.clear();
        node.arrived = None;
        node.view = None;
        node.watched.clear();
        self.tickets.retain(|_, asked| asked.node != index);
        // Its connections die with it.
        let lost: Vec<_> = self.network.extract_if(.., |packet| packet.to == index).collect();
        for packet in lost {
            self.deliver(packet, false);
        }
    }

    /// As the server recovers: the log goes on from the database or restarts behind it.
    pub fn restart(&mut self, index: usize) {
        let (config, now) = (self.member_config(index), self.now(index));
        let node = &mut self.nodes[index];
        let applied = node.disk.backend.applied.clone().expect("a database with an applied point");
        let first = node.disk.entries.first().map_or(applied.index + 1, |entry| entry.index);
        let agrees = first == applied.index + 1
            || node
                .disk
                .entries
                .iter()
                .any(|entry| (entry.index, entry.term) == (applied.index, applied.term));
        if !agrees {
            node.disk.entries.clear();
        }
        let found = node.disk.hard_state;
        let hard_state = HardState {
            term: found.term.max(applied.term),
            vote: if found.term >= applied.term { found.vote } else { 0 },
            commit: found.commit.max(applied.index),
        };
        let recovered =
            Recovered { backend: committed(node), hard_state, entries: node.disk.entries.clone() };
        node.member = Some(Member::new(config, recovered, now).expect("a disk that a member wrote"));
        node.next_tick = now.mono + HEARTBEAT;
        self.pump(index);
    }

    pub fn step(&mut self, index: usize, input: Input) {
        let now = self.now(index);
        if let Some(member) = &mut self.nodes[index].member {
            member.step(input, now).expect("no fault");
            self.pump(index);
        }
    }

    /// Carries out what is due at a member.
    pub fn pump(&mut self, index: usize) {
        let now = self.now(index);
        let mut outputs = Vec::new();
        let Some(member) = &mut self.nodes[index].member else { return };
        member.advance(now, &mut outputs).expect("no fault");
        for output in outputs {
            self.perform(index, output);
        }
    }

    /// A client asks. Tickets are not used again.
    pub fn ask(&mut self, index: usize, request: Request) -> Ticket {
        self.asked += 1;
        let ticket = Ticket(self.asked);
        self.tickets.insert(ticket, Asked { node: index, acknowledged: self.acknowledged });
        if self.nodes[index].member.is_none() {
            self.tickets.remove(&ticket);
            self.replies.insert(ticket, Err(RequestError::Stopped));
        }
        self.step(index, Input::Request { ticket, request });
        ticket
    }

    /// The disk of a member syncs what it was given to log.
    pub fn sync(&mut self, index: usize) {
        let jobs = std::mem::take(&mut self.nodes[index].log);
        let mut synced = Vec::new();
        for job in jobs {
            let disk = &mut self.nodes[index].disk;
            match job {
                LogJob::Release(through) => disk.entries.retain(|entry| entry.index > through),
                LogJob::Persist(persist) => {
                    write(disk, &persist);
                    synced.push(persist);
                }
            }
        }
        for persist in synced {
            if let Some(number) = persist.number {
                self.step_quietly(index, Input::Persisted(number));
            }
            self.send(index, persist.send_after);
        }
        self.pump(index);
    }

    /// As one of a batch of inputs.
    pub fn step_quietly(&mut self, index: usize, input: Input) {
        let now = self.now(index);
        if let Some(member) = &mut self.nodes[index].member {
            member.step(input, now).expect("no fault");
        }
    }

    /// The database of a member does its next job.
    pub fn commit(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        match node.database.pop_front() {
            None => {}
            Some(DatabaseJob::Commit(batch)) => {
                node.disk.backend.commit(batch);
                let committed = committed(node);
                self.step(index, Input::BackendCommitted(committed));
            }
            Some(DatabaseJob::Install(backend)) => {
                node.disk.backend = backend;
                let committed = committed(node);
                node.log.extend(node.held_back.take().unwrap_or_default());
                self.step(index, Input::Installed(committed));
            }
        }
    }

    /// A packet arrives, or is lost.
    pub fn deliver(&mut self, packet: Packet, arrives: bool) {
        let Packet { from, to, wire } = packet;
        let arrives =
            arrives && !self.nodes[from].cut && !self.nodes[to].cut && self.nodes[to].member.is_some();
        if let Wire::Raft(PeerMessage { snapshot: Some(_), .. }, _) = &wire {
            let to = self.nodes[to].id;
            self.step(from, Input::SnapshotSent { to, ok: arrives });
        }
        if !arrives {
            return;
        }
        match wire {
            Wire::Raft(message, state) => {
                if let (Some(point), Some(state)) = (message.snapshot, state) {
                    self.nodes[to].arrived = Some((point, state));
                }
                self.step(to, Input::Peer(message.bytes));
            }
            Wire::Call(call) => {
                let from = self.nodes[from].id;
                self.step(to, Input::LeaseCall { from, call });
            }
            Wire::Answer(answer) => self.step(to, Input::LeaseAnswer(answer)),
        }
    }

    /// Takes the answers about leases off the network.
    pub fn take_lease_answers(&mut self) -> Vec<Packet> {
        self.network.extract_if(.., |packet| packet.is_lease_answer()).collect()
    }

    /// Everything under way arrives and is written, save what a test holds.
    pub fn settle(&mut self) {
        self.settle_but(|_| false);
    }

    /// As [`Cluster::settle`], but some packets stay on the network.
    pub fn settle_but(&mut self, stays: impl Fn(&Packet) -> bool) {
        loop {
            let mut quiet = true;
            for index in 0..self.nodes.len() {
                if !self.nodes[index].sync_held && !self.nodes[index].log.is_empty() {
                    self.sync(index);
                    quiet = false;
                }
                if !self.nodes[index].database_held && !self.nodes[index].database.is_empty() {
                    self.commit(index);
                    quiet = false;
                }
            }
            let arriving: Vec<_> = self.network.extract_if(.., |packet| !stays(packet)).collect();
            for packet in arriving {
                self.deliver(packet, true);
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    /// Time passes; members tick and wake up by their own clocks.
    pub fn pass(&mut self, nanoseconds: u64) {
        self.time += nanoseconds;
        for index in 0..self.nodes.len() {
            let now = self.now(index);
            let node = &mut self.nodes[index];
            let Some(member) = &node.member else { continue };
            let wakes = member.next_wakeup(now).is_some_and(|wait| wait.is_zero());
            let ticks = now.mono >= node.next_tick;
            if ticks {
                node.next_tick = now.mono + HEARTBEAT;
                self.step(index, Input::Tick);
            } else if wakes {
                self.step(index, Input::Wakeup);
            }
        }
    }

    /// Time passes while everything settles.
    pub fn run(&mut self, nanoseconds: u64) {
        let end = self.time + nanoseconds;
        while self.time < end {
            self.pass(10 * Now::MILLISECOND);
            self.settle();
        }
    }

    /// Makes a member the leader: by an election, or handed over by the one who leads.
    pub fn elect(&mut self, index: usize) {
        for _ in 0..50 {
            match self.leader() {
                Some(leader) => {
                    let target = self.nodes[index].id;
                    self.ask(leader, Request::MoveLeader(target));
                }
                None => {
                    if let Some(member) = &mut self.nodes[index].member {
                        member.driver.campaign();
                    }
                    self.pump(index);
                }
            }
            self.settle();
            if self.leads(index) {
                self.run(HEARTBEAT);
                return;
            }
            self.run(HEARTBEAT);
        }
        panic!("node {index} cannot be elected");
    }

    /// Callers that were not answered yet.
    pub fn waiting(&self) -> usize {
        self.tickets.len()
    }

    pub fn leads(&self, index: usize) -> bool {
        self.nodes[index].member.as_ref().is_some_and(|member| member.leads())
    }

    pub fn leader(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|&index| self.leads(index) && !self.nodes[index].cut)
    }

    pub fn view(&self, index: usize) -> &MemberView {
        self.nodes[index].view.as_ref().expect("a member that is up")
    }

    /// The value of a key in a member's published view.
    pub fn value(&self, index: usize, key: &str) -> Option<String> {
        let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
        let answer = crate::txn::range(&self.view(index).store, &request).expect("a range that can be read");
        let kv = answer.kvs.first()?.decode().expect("a record that was encoded here");
        Some(String::from_utf8_lossy(&kv.value).into_owned())
    }
}

fn committed(node: &Node) -> Committed {
    Committed { snapshot: node.disk.backend.snapshot(), size: node.size, size_in_use: node.size }
}

fn point_of(backend: &MemoryBackend) -> SnapshotPoint {
    let applied = backend.applied.clone().expect("a database with an applied point");
    SnapshotPoint {
        index: applied.index,
        term: applied.term,
        voters: applied.voters,
        learners: applied.learners,
    }
}

fn write(disk: &mut Disk, persist: &Persist) {
    if let Some(point) = &persist.snapshot
        && !disk.entries.iter().any(|entry| (entry.index, entry.term) == (point.index, point.term))
    {
        disk.entries.clear();
    }
    if let Some(first) = persist.entries.first() {
        disk.entries.retain(|entry| entry.index < first.index);
        disk.entries.extend(persist.entries.iter().cloned());
    }
    if let Some(hard_state) = persist.hard_state {
        disk.hard_state = hard_state;
    }
}

pub fn put(key: &str, value: &str) -> Request {
    Request::Put(pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    })
}
