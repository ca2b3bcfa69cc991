//! Random requests under random faults, from a seed: messages lost, repeated and overtaken, slow disks,
//! crashes, partitions, clocks that drift, snapshots. The cluster asserts what it sees of every output;
//! the clients in here check what they were promised:
//! - a write that was acknowledged is in history once, at its revision; any other once or never;
//! - a watch sees all of history once and in order, whichever members it was on;
//! - a lease lives as long as its last acknowledged renewal says, and is gone some time later;
//! - every caller whose member lives is answered; after the faults, all members are the same.

use std::collections::BTreeMap;
use std::hash::Hasher;

use super::super::*;
use super::cluster::{Cluster, put};
use crate::apply;
use crate::proto::etcdserverpb as pb;
use crate::types::{LeaseId, StreamId};
use crate::watch::response_weight;

const STEPS: usize = 1200;
const TTL: u64 = 3 * Now::SECOND;
/// Thousandths that a clock may be off, with room to spare.
const DRIFT: i64 = 5;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }

    fn thousandths(&mut self, chance: usize) -> bool {
        self.below(1000) < chance
    }
}

/// A client that watches everything, and goes on at another member when its own dies.
struct Watcher {
    node: usize,
    streams: u64,
    taken: usize,
    next: i64,
    events: Vec<(i64, String, Option<String>)>,
}

impl Watcher {
    fn stream(&self) -> StreamId {
        StreamId(self.streams)
    }

    fn follow(&mut self, cluster: &mut Cluster, random: &mut Random) {
        let Some(responses) = cluster.nodes[self.node].watched.get(&self.stream()) else {
            self.node = random.below(cluster.nodes.len());
            self.begin(cluster);
            return;
        };
        let mut weight = 0;
        for response in &responses[self.taken..] {
            weight += response_weight(response);
            assert!(!response.canceled, "{response:?}");
            for event in &response.events {
                let event = event.decode().expect("an event that was encoded here");
                let kv = event.kv.expect("a key").decode().expect("a record that was encoded here");
                assert!(kv.mod_revision >= self.next, "{} after {}", kv.mod_revision, self.next);
                let value = (event.r#type == 0).then(|| text(&kv.value));
                self.events.push((kv.mod_revision, text(&kv.key), value));
            }
            let last = self.events.last().map_or(0, |(revision, ..)| *revision);
            self.next = self.next.max(last + 1);
        }
        self.taken = responses.len();
        if weight > 0 {
            let stream = self.stream();
            cluster.step(self.node, Input::Watch { stream, command: WatchCommand::Drained(weight) });
        }
    }

    fn begin(&mut self, cluster: &mut Cluster) {
        if cluster.nodes[self.node].member.is_none() {
            return;
        }
        self.streams += 1;
        self.taken = 0;
        let stream = self.stream();
        let create = pb::WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: self.next,
            ..Default::default()
        };
        cluster.step(self.node, Input::Watch { stream, command: WatchCommand::Open });
        cluster.step(self.node, Input::Watch { stream, command: WatchCommand::Create(create) });
        cluster.nodes[self.node].watched.entry(stream).or_default();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A lease with one key, as its owner sees it.
#[derive(Default)]
struct Owned {
    /// Revision at which its key was put, 0 as long as that is not known.
    attached: i64,
    good_until: u64,
}

#[derive(Default)]
struct Clients {
    /// What waits for a reply: since when, and what for.
    asked: BTreeMap<Ticket, (u64, Asked)>,
    written: BTreeMap<String, Option<i64>>,
    leases: BTreeMap<i64, Owned>,
}

enum Asked {
    Put(String),
    Grant(i64),
    Attach(i64),
    Renew(i64),
    Other,
}

impl Clients {
    fn ask(&mut self, cluster: &mut Cluster, random: &mut Random, compact: i64) {
        let node = random.below(cluster.nodes.len());
        let number = self.written.len() as i64 + 1;
        let newest = self.leases.keys().next_back().copied().unwrap_or(0);
        let (asked, request) = match random.below(100) {
            0..45 => {
                let value = format!("v{number}");
                self.written.insert(value.clone(), None);
                let request = put(&format!("k{}", random.below(5)), &value);
                (Asked::Put(value), request)
            }
            45..65 => (Asked::Other, Request::ReadIndex),
            65..70 => {
                let key = format!("k{}", random.below(5)).into();
                (Asked::Other, Request::DeleteRange(pb::DeleteRangeRequest { key, ..Default::default() }))
            }
            70..74 => {
                let request = pb::LeaseGrantRequest { id: newest + 1, ttl: (TTL / Now::SECOND) as i64 };
                self.leases.insert(newest + 1, Owned::default());
                (Asked::Grant(newest + 1), Request::LeaseGrant(request))
            }
            74..78 if compact > 0 => {
                let physical = random.below(2) == 0;
                (Asked::Other, Request::Compact(pb::CompactionRequest { revision: compact, physical }))
            }
            _ => {
                let lease = (newest - random.below(4) as i64).max(1);
                (Asked::Renew(lease), Request::LeaseKeepAlive(LeaseId(lease)))
            }
        };
        let ticket = cluster.ask(node, request);
        self.asked.insert(ticket, (cluster.time, asked));
    }

    /// Takes in the replies.
    fn hear(&mut self, cluster: &mut Cluster) {
        let heard: Vec<_> =
            self.asked.extract_if(.., |ticket, _| cluster.replies.contains_key(ticket)).collect();
        for (ticket, (since, asked)) in heard {
            let Some(Ok(reply)) = cluster.replies.get(&ticket).cloned() else { continue };
            let revision = match &reply {
                Reply::Applied(apply::Reply::Put(put)) => {
                    put.header.as_ref().map_or(0, |header| header.revision)
                }
                _ => 0,
            };
            match asked {
                Asked::Put(value) => {
                    self.written.insert(value, Some(revision));
                }
                Asked::Grant(lease) => {
                    let owned = self.leases.entry(lease).or_default();
                    owned.good_until = owned.good_until.max(since + TTL);
                    let request = pb::PutRequest { key: key_of(lease).into(), lease, ..Default::default() };
                    let node = (lease % 3) as usize;
                    let ticket = cluster.ask(node, Request::Put(request));
                    self.asked.insert(ticket, (cluster.time, Asked::Attach(lease)));
                }
                Asked::Attach(lease) => self.leases.entry(lease).or_default().attached = revision,
                Asked::Renew(lease) => {
                    let owned = self.leases.entry(lease).or_default();
                    if reply != Reply::LeaseKeepAlive(0) {
                        owned.good_until = owned.good_until.max(since + TTL);
                    } else if owned.attached > 0 {
                        check_over(owned, lease, cluster.time);
                    }
                }
                Asked::Other => {}
            }
        }
    }

    /// No member may have dropped the key of a lease that its owner counts on.
    fn check_leases(&self, cluster: &Cluster) {
        for (&lease, owned) in self.leases.iter().filter(|(_, owned)| owned.attached > 0) {
            let dropped = |node: usize| {
                let shown = cluster.nodes[node].view.as_ref().map_or(0, |view| view.store.revision());
                shown >= owned.attached && cluster.value(node, &key_of(lease)).is_none()
            };
            if (0..cluster.nodes.len()).any(dropped) {
                check_over(owned, lease, cluster.time);
            }
        }
    }
}

fn key_of(lease: i64) -> String {
    format!("lease{lease}")
}

fn check_over(owned: &Owned, lease: i64, time: u64) {
    let allowed = TTL / 1000 * 4 * DRIFT as u64;
    assert!(
        time + allowed >= owned.good_until,
        "lease {lease} ended at {time}, promised until {}",
        owned.good_until
    );
}

/// One step of the world.
fn step(cluster: &mut Cluster, random: &mut Random) {
    cluster.pass((1 + random.below(30) as u64) * Now::MILLISECOND);
    let mut packets = std::mem::take(&mut cluster.network);
    while !packets.is_empty() {
        let packet = packets.swap_remove(random.below(packets.len()));
        match random.below(100) {
            0..35 => cluster.network.push(packet),
            35..38 => cluster.deliver(packet, false),
            38..41 => {
                cluster.network.push(packet.clone());
                cluster.deliver(packet, true);
            }
            _ => cluster.deliver(packet, true),
        }
    }
    for node in 0..cluster.nodes.len() {
        if random.thousandths(600) {
            cluster.sync(node);
        }
        if random.thousandths(300) {
            cluster.commit(node);
        }
        if cluster.nodes[node].member.is_none() {
            if random.thousandths(25) {
                cluster.restart(node);
            }
        } else if random.thousandths(3) {
            cluster.crash(node);
        }
        let chance = if cluster.nodes[node].cut { 20 } else { 3 };
        if random.thousandths(chance) {
            cluster.nodes[node].cut = !cluster.nodes[node].cut;
        }
    }
}

/// What a run came to.
#[derive(Debug, PartialEq)]
struct Summary {
    /// Hash of all outputs.
    trace: u64,
    events: usize,
    snapshots: usize,
    leases_ended: usize,
}

/// A whole run.
fn run(seed: u64) -> Summary {
    let mut cluster = Cluster::with_config(3, |config| {
        config.catchup_entries = 3;
        config.driver.log_memory_bytes = 1000;
        config.watch.stream_budget_bytes = 400;
    });
    cluster.nodes[1].drift = DRIFT;
    cluster.nodes[2].drift = -DRIFT;
    let mut random = Random(seed);
    let mut clients = Clients::default();
    let mut watcher = Watcher { node: 0, streams: 0, taken: 0, next: 2, events: Vec::new() };
    for _ in 0..STEPS {
        step(&mut cluster, &mut random);
        if random.thousandths(250) {
            let compact = watcher.next - 3;
            clients.ask(&mut cluster, &mut random, compact);
        }
        if random.thousandths(300) {
            watcher.follow(&mut cluster, &mut random);
        }
        clients.hear(&mut cluster);
        clients.check_leases(&cluster);
    }
    for node in 0..3 {
        cluster.nodes[node].cut = false;
        if cluster.nodes[node].member.is_none() {
            cluster.restart(node);
        }
    }
    for _ in 0..150 {
        cluster.run(100 * Now::MILLISECOND);
        clients.hear(&mut cluster);
        watcher.follow(&mut cluster, &mut random);
        clients.check_leases(&cluster);
    }
    check_end(&cluster, &clients, &watcher, seed);
    let ended =
        |(_, key, value): &&(i64, String, Option<String>)| key.starts_with("lease") && value.is_none();
    Summary {
        trace: cluster.trace.finish(),
        events: watcher.events.len(),
        snapshots: cluster.snapshots,
        leases_ended: watcher.events.iter().filter(ended).count(),
    }
}

fn check_end(cluster: &Cluster, clients: &Clients, watcher: &Watcher, seed: u64) {
    assert_eq!(cluster.waiting(), 0, "seed {seed}: callers without an answer");
    assert!(cluster.leader().is_some(), "seed {seed}: no leader");
    let ends: Vec<_> =
        (0..3).map(|n| (cluster.view(n).status.applied, cluster.view(n).store.revision())).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "seed {seed}: {ends:?}");
    assert_eq!(watcher.next, ends[0].1 + 1, "seed {seed}: the watch is behind");
    for (value, acknowledged) in &clients.written {
        let seen: Vec<_> = watcher
            .events
            .iter()
            .filter(|(.., put)| put.as_ref() == Some(value))
            .map(|(revision, ..)| *revision)
            .collect();
        match acknowledged {
            Some(revision) => assert_eq!(seen, [*revision], "seed {seed}: {value}"),
            None => assert!(seen.len() <= 1, "seed {seed}: {value} happened at {seen:?}"),
        }
    }
    let mut replayed = BTreeMap::new();
    for (_, key, value) in &watcher.events {
        replayed.insert(key.clone(), value.clone());
    }
    for (key, value) in replayed {
        assert_eq!(cluster.value(0, &key), value, "seed {seed}: {key}");
        assert!(!key.starts_with("lease") || value.is_none(), "seed {seed}: {key} outlives its lease");
    }
}

#[test]
fn promises_hold_under_faults() {
    let runs: Vec<_> = (1..=6).map(run).collect();
    let sum = |part: fn(&Summary) -> usize| runs.iter().map(part).sum::<usize>();
    let reached = (sum(|run| run.events), sum(|run| run.snapshots), sum(|run| run.leases_ended));
    assert!(
        reached > (300, 0, 0) && reached.1 > 2 && reached.2 > 10,
        "too quiet to show anything: {reached:?}"
    );
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    assert_eq!(run(77), run(77));
}
