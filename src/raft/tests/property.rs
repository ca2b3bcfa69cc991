//! A random schedule: delays, reordering, loss, duplicates, crashes, slow disks, changes of members. What
//! must hold is asserted by [`Cluster`] as it happens.

use bytes::Bytes;

use super::super::*;
use super::cluster::Cluster;
use crate::types::MemberId;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn small(config: &mut DriverConfig) {
    config.max_message_bytes = 200;
    config.max_inflight = 4;
    config.max_uncommitted_bytes = 2000;
    config.log_memory_bytes = 3000;
}

/// One random thing happens to one random member.
fn step(cluster: &mut Cluster, rng: &mut Rng, round: usize, conf_changes: bool) {
    let ids: Vec<u64> = cluster.nodes.keys().copied().collect();
    let id = ids[rng.below(ids.len())];
    match rng.below(100) {
        0..25 => cluster.act(id, Driver::tick),
        25..45 => {
            let count = 1 + rng.below(3);
            cluster.sync(id, count);
        }
        45..75 if !cluster.network.is_empty() => {
            // Reordered within a window, so that messages are not held back for ever.
            let at = rng.below(cluster.network.len().min(6));
            let packet = cluster.network.remove(at);
            if rng.chance(5) {
                cluster.network.push(packet.clone());
            }
            if rng.chance(5) {
                cluster.lose(packet);
            } else {
                cluster.deliver(packet);
            }
        }
        75..88 => {
            let data = Bytes::from(format!("{round}{}", "x".repeat(rng.below(60))));
            cluster.act(id, |driver| _ = driver.propose(data));
        }
        88..92 => _ = cluster.read(id, &round.to_string()),
        92 => cluster.checkpoint(id, rng.below(10) as u64),
        93 if cluster.nodes[&id].driver.is_some() => cluster.crash(id),
        94..97 if cluster.nodes[&id].driver.is_none() => {
            cluster.restart(id);
            cluster.pump(id);
        }
        97 => cluster.act(id, |driver| driver.transfer_leader(MemberId(1 + round as u64 % 3))),
        98 if conf_changes => {
            let member = MemberId(ids[rng.below(ids.len())]);
            let kind = match rng.below(3) {
                0 => ConfChangeKind::AddVoter,
                1 => ConfChangeKind::AddLearner,
                _ => ConfChangeKind::Remove,
            };
            let change = ConfChange { kind, member, context: Bytes::new() };
            cluster.act(id, |driver| {
                // The rules of membership, far above: no demotion, and two voters stay.
                let now = driver.status().configuration;
                let voter = now.voters.contains(&member.0);
                let legal = match kind {
                    ConfChangeKind::AddLearner => !voter,
                    ConfChangeKind::Remove => now.voters.len() > 2,
                    _ => true,
                };
                if legal {
                    let _ = driver.propose_conf_change(&change);
                }
            });
        }
        _ => {}
    }
}

/// Runs the seed's schedule, then lets everything heal, and returns the trace.
fn run(seed: u64, steps: usize, conf_changes: bool) -> Vec<String> {
    let mut rng = Rng(seed);
    let mut cluster = Cluster::new(&[1, 2, 3], seed, small);
    if conf_changes {
        cluster.join(4);
    }
    for round in 0..steps {
        step(&mut cluster, &mut rng, round, conf_changes);
    }
    cluster.check_log_matching();
    heal(&mut cluster);
    cluster.check_log_matching();
    cluster.trace
}

/// All members run and hear each other: a new proposal must reach every voter's state machine.
fn heal(cluster: &mut Cluster) {
    let ids: Vec<u64> = cluster.nodes.keys().copied().collect();
    for &id in &ids {
        if cluster.nodes[&id].driver.is_none() {
            cluster.restart(id);
        }
    }
    for round in 0..400 {
        for &id in &ids {
            cluster.act(id, Driver::tick);
            // A leader answers a member that waits for a newer snapshot.
            if cluster.driver(id).is_some_and(|driver| driver.take_snapshot_wanted()) {
                cluster.checkpoint(id, 1000);
            }
            if round == 300 {
                cluster.act(id, |driver| _ = driver.propose(Bytes::from("the end")));
            }
        }
        for _ in 0..10 {
            ids.iter().for_each(|&id| cluster.sync(id, usize::MAX));
            for packet in std::mem::take(&mut cluster.network) {
                cluster.deliver(packet);
            }
        }
    }
    let leader = ids.iter().find_map(|&id| {
        let status = cluster.nodes[&id].driver.as_ref()?.status();
        (status.role == Role::Leader).then_some(status)
    });
    let leader = leader.expect("a leader once all is well");
    for id in leader.configuration.voters {
        let last = cluster.nodes[&id].state.last().expect("an applied entry");
        assert_eq!(last.data, "the end", "{id} did not catch up");
    }
}

#[test]
fn safe_and_live_with_fixed_members() {
    for seed in 0..12 {
        run(seed, 3000, false);
    }
}

#[test]
fn safe_and_live_with_changing_members() {
    let traces: Vec<String> = (100..112).flat_map(|seed| run(seed, 3000, true)).collect();
    for seen in [
        "installed snapshot",
        "Append",
        "rejects",
        "ReadIndexResp",
        "TimeoutNow",
        "RequestVoteResponse",
        "Propose",
        ": read ",
        "=AddLearner 4",
        "=AddVoter 4",
        "=Remove 1",
    ] {
        assert!(traces.iter().any(|line| line.contains(seen)), "no schedule had: {seen}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = run(7, 2000, true);
    assert!(trace.len() > 1000);
    assert_eq!(trace, run(7, 2000, true));
    assert_ne!(trace, run(8, 2000, true));
}
