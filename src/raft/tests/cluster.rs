//! A whole cluster in one value: drivers, their disks, their state machines and the network between them.
//!
//! Nothing happens by itself. Whoever holds it decides when a disk syncs, a message arrives, a member
//! crashes. Broken promises of raft are asserted on the way:
//! - one leader a term;
//! - members apply the same entry at the same index, without gaps, and only what their own disk holds;
//! - an entry that anybody applies is on the disks of a quorum (while the members stay the same);
//! - a read index is not older than what anybody had applied when it was asked for.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::message::unmarshal;
use super::super::*;
use crate::types::MemberId;
use crate::types::log::*;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub hard_state: HardState,
    /// Where `state` stands.
    pub point: SnapshotPoint,
    pub entries: Vec<LogEntry>,
    pub state: Vec<LogEntry>,
}

struct Write {
    number: u64,
    persist: Persist,
    /// The state that came with `persist.snapshot`.
    state: Vec<LogEntry>,
}

pub(super) struct Node {
    /// `None` while crashed.
    pub driver: Option<Driver>,
    pub disk: Disk,
    pub point: SnapshotPoint,
    pub state: Vec<LogEntry>,
    writes: VecDeque<Write>,
    held: VecDeque<(u64, PeerMessage)>,
    /// The state beside the snapshot message that arrived last.
    arrived: Vec<LogEntry>,
    starts: u64,
}

#[derive(Clone)]
pub(super) struct Packet {
    pub from: u64,
    pub message: PeerMessage,
    state: Vec<LogEntry>,
}

pub(super) struct Cluster {
    pub nodes: BTreeMap<u64, Node>,
    pub network: Vec<Packet>,
    pub trace: Vec<String>,
    config: fn(&mut DriverConfig),
    seed: u64,
    leaders: BTreeMap<u64, u64>,
    applied: BTreeMap<u64, LogEntry>,
    reads: BTreeMap<Bytes, u64>,
    fixed_members: bool,
}

impl Cluster {
    pub fn new(ids: &[u64], seed: u64, config: fn(&mut DriverConfig)) -> Self {
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            network: Vec::new(),
            trace: Vec::new(),
            config,
            seed,
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            reads: BTreeMap::new(),
            fixed_members: true,
        };
        for &id in ids {
            let log = RecoveredLog::bootstrap(ids.to_vec());
            let disk = Disk { hard_state: log.hard_state, point: log.snapshot, ..Disk::default() };
            cluster.add(id, disk);
        }
        cluster
    }

    pub fn join(&mut self, id: u64) {
        self.fixed_members = false;
        self.add(id, Disk::default());
    }

    fn add(&mut self, id: u64, disk: Disk) {
        let node = Node {
            driver: None,
            disk,
            point: SnapshotPoint::default(),
            state: Vec::new(),
            writes: VecDeque::new(),
            held: VecDeque::new(),
            arrived: Vec::new(),
            starts: 0,
        };
        self.nodes.insert(id, node);
        self.restart(id);
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("a member of the test")
    }

    pub fn driver(&mut self, id: u64) -> Option<&mut Driver> {
        self.node(id).driver.as_mut()
    }

    /// Everything that is not on disk is gone.
    pub fn crash(&mut self, id: u64) {
        let node = self.node(id);
        node.driver = None;
        node.writes.clear();
        node.held.clear();
        node.arrived.clear();
    }

    pub fn restart(&mut self, id: u64) {
        let mut config = DriverConfig::new(MemberId(id), self.seed);
        (self.config)(&mut config);
        let node = self.node(id);
        let log = RecoveredLog {
            hard_state: node.disk.hard_state,
            snapshot: node.disk.point.clone(),
            entries: node.disk.entries.clone(),
        };
        node.point = node.disk.point.clone();
        node.state = node.disk.state.clone();
        node.starts += 1;
        node.driver = Some(Driver::new(config, log).expect("a log that was written by a driver"));
    }

    /// Runs `action` on a living member and carries out what becomes due.
    pub fn act(&mut self, id: u64, action: impl FnOnce(&mut Driver)) {
        if let Some(driver) = self.driver(id) {
            action(driver);
            self.pump(id);
        }
    }

    pub fn read(&mut self, id: u64, context: &str) -> bool {
        let context = Bytes::copy_from_slice(context.as_bytes());
        let newest = self.applied.keys().next_back().copied().unwrap_or(1);
        self.reads.insert(context.clone(), newest);
        let mut taken = false;
        self.act(id, |driver| taken = driver.read_index(context));
        taken
    }

    /// Takes the state of a living member into its backend and shortens its log in memory.
    pub fn checkpoint(&mut self, id: u64, keep: u64) {
        let node = self.node(id);
        if let Some(driver) = &mut node.driver {
            node.disk.point = node.point.clone();
            node.disk.state = node.state.clone();
            driver.compact_log(node.point.clone(), keep);
        }
    }

    pub fn has_writes(&self, id: u64) -> bool {
        self.nodes[&id].writes.iter().any(|write| write.persist.must_sync)
    }

    /// One sync of the first `count` writes, and the report on it.
    pub fn sync(&mut self, id: u64, count: usize) {
        let node = self.node(id);
        let count = count.min(node.writes.len());
        let mut last = None;
        let mut installed = Vec::new();
        for write in node.writes.drain(..count).collect::<Vec<_>>() {
            last = Some(write.number);
            installed.extend(write.persist.snapshot.clone());
            node.store(write);
        }
        let (Some(number), Some(driver)) = (last, node.driver.as_mut()) else { return };
        driver.persisted(number);
        for point in &installed {
            driver.installed_snapshot(point);
        }
        self.trace.push(format!("{id}: synced #{number}"));
        for point in installed {
            self.trace.push(format!("{id}: installed snapshot {}/t{}", point.index, point.term));
        }
        while self.node(id).held.front().is_some_and(|(after, _)| *after <= number) {
            if let Some((_, message)) = self.node(id).held.pop_front() {
                self.send(id, message);
            }
        }
        self.pump(id);
    }

    fn send(&mut self, from: u64, message: PeerMessage) {
        self.trace.push(format!("{from}>{} {}", message.to, describe(&message)));
        let mut packet = Packet { from, message, state: Vec::new() };
        if packet.message.snapshot.is_some() {
            let node = self.node(from);
            packet.state = node.state.clone();
            packet.message = with_snapshot_point(&packet.message, &node.point).expect("state only moves on");
        }
        self.network.push(packet);
    }

    /// The sender learns of it only where the driver insists.
    pub fn lose(&mut self, packet: Packet) {
        if packet.message.snapshot.is_some() {
            self.act(packet.from, |driver| driver.report_snapshot(MemberId(packet.message.to), false));
        }
    }

    pub fn deliver(&mut self, packet: Packet) {
        let Packet { from, message, state } = packet;
        let to = message.to;
        let arrives = self.nodes.get(&to).is_some_and(|node| node.driver.is_some());
        if message.snapshot.is_some() {
            self.act(from, |driver| driver.report_snapshot(MemberId(to), arrives));
        }
        if !arrives {
            return;
        }
        if message.snapshot.is_some() {
            self.node(to).arrived = state;
        }
        let mut result = Ok(());
        self.act(to, |driver| result = driver.step(&message.bytes));
        match result {
            Ok(()) | Err(StepError::ProposalDropped | StepError::UnknownPeer { .. }) => {}
            Err(error) => panic!("{to} refuses {from}'s {}: {error}", describe(&message)),
        }
    }

    /// Acts on every [`Ready`] there is, without touching the disk.
    pub fn pump(&mut self, id: u64) {
        while let Some(ready) = self.driver(id).and_then(|d| d.has_ready().then(|| d.take_ready())) {
            if let Some(change) = ready.role_change {
                self.note_role(id, change);
            }
            for message in ready.send_now {
                self.send(id, message);
            }
            assert_eq!(ready.send_after_persist.is_empty(), ready.send_after == 0);
            for message in ready.send_after_persist {
                assert!(self.has_writes(id) || ready.persist.as_ref().is_some_and(|p| p.must_sync));
                let line = format!(
                    "{id}: holds until #{} {}>{} {}",
                    ready.send_after,
                    id,
                    message.to,
                    describe(&message)
                );
                self.trace.push(line);
                self.node(id).held.push_back((ready.send_after, message));
            }
            if let Some(persist) = ready.persist {
                self.trace.push(format!("{id}: write #{} {}", ready.number, describe_write(&persist)));
                let node = self.node(id);
                let state =
                    if persist.snapshot.is_some() { std::mem::take(&mut node.arrived) } else { Vec::new() };
                node.writes.push_back(Write { number: ready.number, persist, state });
            }
            for read in ready.read_states {
                let context = String::from_utf8_lossy(&read.context).into_owned();
                self.trace.push(format!("{id}: read {context} at {}", read.index));
                assert!(read.index >= self.reads[&read.context], "a stale read index");
            }
            for entry in ready.committed {
                self.apply(id, entry);
            }
        }
    }

    fn note_role(&mut self, id: u64, change: RoleChange) {
        let leader = change.leader.map_or("nobody".to_owned(), |leader| leader.to_string());
        self.trace.push(format!("{id}: {:?} of term {}, led by {leader}", change.role, change.term));
        if let Some(MemberId(leader)) = change.leader {
            let known = *self.leaders.entry(change.term).or_insert(leader);
            assert_eq!(known, leader, "two leaders of term {}", change.term);
        }
    }

    fn apply(&mut self, id: u64, entry: LogEntry) {
        self.trace.push(format!("{id}: apply {}", describe_entry(&entry)));
        assert_eq!(
            *self.applied.entry(entry.index).or_insert(entry.clone()),
            entry,
            "members apply different entries"
        );
        assert!(self.nodes[&id].disk.holds(&entry), "{id} applies what its disk does not hold");
        if self.fixed_members {
            let holders = self.nodes.values().filter(|node| node.disk.holds(&entry)).count();
            assert!(holders * 2 > self.nodes.len(), "entry {} is on {holders} disks only", entry.index);
        }
        let node = self.node(id);
        assert_eq!(entry.index, node.point.index + 1, "{id} applies out of order");
        let Some(driver) = &mut node.driver else { return };
        node.point.index = entry.index;
        node.point.term = entry.term;
        node.state.push(entry.clone());
        if entry.kind == EntryKind::ConfChange {
            let change = ConfChange::decode(&entry).expect("written by a driver");
            let configuration = driver.apply_conf_change(&change).expect("legal");
            node.point.voters = configuration.voters;
            node.point.learners = configuration.learners;
        }
        driver.applied(entry.index);
        if entry.kind == EntryKind::ConfChange {
            self.fixed_members = false;
            let point = &self.nodes[&id].point;
            self.trace.push(format!("{id}: voters {:?} learners {:?}", point.voters, point.learners));
        }
    }

    /// Same index and term mean the same log up to there, on all disks.
    pub fn check_log_matching(&self) {
        let disks: Vec<_> = self.nodes.values().map(|node| &node.disk).collect();
        for (i, one) in disks.iter().enumerate() {
            for other in &disks[i + 1..] {
                let mut agreed = false;
                for entry in one.entries.iter().rev() {
                    match other.entries.iter().find(|e| e.index == entry.index) {
                        Some(twin) if agreed || twin.term == entry.term => {
                            agreed = true;
                            assert_eq!(entry, twin, "logs differ below an entry they share");
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

impl Node {
    fn store(&mut self, write: Write) {
        let Persist { entries, hard_state, snapshot, .. } = write.persist;
        if let Some(state) = hard_state {
            self.disk.hard_state = state;
        }
        if let Some(point) = snapshot {
            self.disk.entries.clear();
            self.disk.state = write.state.clone();
            self.disk.point = point.clone();
            self.state = write.state;
            self.point = point;
        }
        if let Some(first) = entries.first() {
            self.disk.entries.retain(|entry| entry.index < first.index);
            self.disk.entries.extend(entries);
        }
    }
}

impl Disk {
    fn holds(&self, entry: &LogEntry) -> bool {
        self.entries.contains(entry) || self.state.contains(entry)
    }
}

fn describe(message: &PeerMessage) -> String {
    let wire = unmarshal(&message.bytes).expect("written by a driver");
    let head = peek(&message.bytes).expect("written by a driver");
    assert_eq!((head.kind, head.term, head.to.0), (wire.get_msg_type(), wire.term, message.to));
    let kind = format!("{:?}", head.kind);
    let mut text = format!("{} t{}", kind.trim_start_matches("Msg"), head.term);
    match head.kind {
        MessageKind::MsgAppend => {
            text += &format!(" after {}/t{} commit {}", wire.index, wire.log_term, wire.commit);
            for entry in wire.get_entries() {
                text += &format!(" {}", describe_entry(&super::super::convert::entry_from_raft(entry)));
            }
        }
        MessageKind::MsgAppendResponse if wire.reject => {
            text += &format!(" rejects {} hint {}", wire.index, wire.reject_hint);
        }
        MessageKind::MsgAppendResponse | MessageKind::MsgReadIndexResp => text += &format!(" {}", wire.index),
        MessageKind::MsgRequestVote | MessageKind::MsgRequestPreVote => {
            text += &format!(" log {}/t{}", wire.index, wire.log_term);
        }
        MessageKind::MsgRequestVoteResponse | MessageKind::MsgRequestPreVoteResponse => {
            text += if wire.reject { " no" } else { " yes" };
        }
        MessageKind::MsgSnapshot => {
            let point = message.snapshot.as_ref().expect("set on snapshots");
            text += &format!(" {}/t{} {:?}+{:?}", point.index, point.term, point.voters, point.learners);
        }
        _ => {}
    }
    text
}

fn describe_write(persist: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(point) = &persist.snapshot {
        parts.push(format!("snapshot {}/t{}", point.index, point.term));
    }
    parts.extend(persist.entries.iter().map(describe_entry));
    if let Some(state) = persist.hard_state {
        parts.push(format!("state t{} vote {} commit {}", state.term, state.vote, state.commit));
    }
    parts.push(if persist.must_sync { "sync".to_owned() } else { "lazy".to_owned() });
    parts.join(", ")
}

pub(super) fn describe_entry(entry: &LogEntry) -> String {
    let data = match ConfChange::decode(entry) {
        Ok(change) => format!("{:?} {}", change.kind, change.member),
        Err(_) if entry.data.is_empty() => "-".to_owned(),
        Err(_) if entry.data.len() > 16 => format!("{} bytes", entry.data.len()),
        Err(_) => String::from_utf8_lossy(&entry.data).into_owned(),
    };
    format!("{}/t{}={data}", entry.index, entry.term)
}
