//! Leases across members: renewals, expiry, changes of leader.

use super::super::*;
use super::cluster::{Cluster, HEARTBEAT};
use crate::proto::etcdserverpb as pb;
use crate::types::LeaseId;

const LEASE: LeaseId = LeaseId(7);

/// Three members, the first leads; a lease of `ttl` seconds with the key `k`.
fn with_lease(ttl: i64, config: fn(&mut MemberConfig)) -> Cluster {
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(0);
    let grant = Request::LeaseGrant(pb::LeaseGrantRequest { id: LEASE.0, ttl });
    let grant = cluster.ask(1, grant);
    cluster.settle();
    assert!(matches!(cluster.replies.get(&grant), Some(Ok(_))));
    let put = pb::PutRequest { key: "k".into(), lease: LEASE.0, ..Default::default() };
    cluster.ask(1, Request::Put(put));
    cluster.settle();
    cluster
}

fn check_renewal(cluster: &mut Cluster, node: usize, expected: Result<i64, RequestError>) {
    let ticket = cluster.ask(node, Request::LeaseKeepAlive(LEASE));
    cluster.run(2 * HEARTBEAT);
    let expected = expected.map(Reply::LeaseKeepAlive);
    assert_eq!(cluster.replies.get(&ticket), Some(&expected), "at node {node}");
}

fn alive(cluster: &Cluster) -> bool {
    cluster.value(1, "k").is_some()
}

#[test]
fn any_member_renews_through_the_leader_until_the_lease_runs_out() {
    let mut cluster = with_lease(3, |_| {});
    for node in [2, 0, 1, 2] {
        cluster.run(2 * Now::SECOND);
        check_renewal(&mut cluster, node, Ok(3));
    }
    cluster.run(2500 * Now::MILLISECOND);
    assert!(alive(&cluster));
    cluster.run(1500 * Now::MILLISECOND);
    assert!(!alive(&cluster));
    check_renewal(&mut cluster, 2, Ok(0));
}

#[test]
fn a_follower_passes_on_what_only_the_leader_knows() {
    let mut cluster = with_lease(10, |_| {});
    cluster.run(3 * Now::SECOND);
    let request = pb::LeaseTimeToLiveRequest { id: LEASE.0, keys: true };
    let ticket = cluster.ask(2, Request::LeaseTimeToLive(request));
    cluster.run(HEARTBEAT);
    let Some(Ok(Reply::LeaseTimeToLive(found))) = cluster.replies.get(&ticket) else { panic!("no answer") };
    assert_eq!((found.ttl, found.granted_ttl, found.keys.len()), (6, 10, 1));
    let unknown = pb::LeaseTimeToLiveRequest { id: 99, keys: true };
    let ticket = cluster.ask(2, Request::LeaseTimeToLive(unknown));
    cluster.run(HEARTBEAT);
    let Some(Ok(Reply::LeaseTimeToLive(found))) = cluster.replies.get(&ticket) else { panic!("no answer") };
    assert_eq!((found.ttl, found.granted_ttl), (-1, 0));
}

#[test]
fn an_acknowledged_grant_is_known_to_a_leader_whose_disk_is_slow() {
    let mut cluster = with_lease(10, |_| {});
    cluster.nodes[0].sync_held = true;
    let granted = cluster.ask(1, Request::LeaseGrant(pb::LeaseGrantRequest { id: 8, ttl: 10 }));
    cluster.settle();
    assert!(matches!(cluster.replies.get(&granted), Some(Ok(_))));
    let ticket = cluster.ask(0, Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: 8, keys: false }));
    cluster.settle();
    assert_eq!(cluster.replies.get(&ticket), None);
    cluster.nodes[0].sync_held = false;
    cluster.run(HEARTBEAT);
    let Some(Ok(Reply::LeaseTimeToLive(found))) = cluster.replies.get(&ticket) else { panic!("no answer") };
    assert_eq!(found.granted_ttl, 10);
}

#[test]
fn a_leader_that_is_cut_off_neither_renews_nor_revokes() {
    let mut cluster = with_lease(2, |config| config.driver.check_quorum = false);
    cluster.nodes[0].cut = true;
    let ticket = cluster.ask(0, Request::LeaseKeepAlive(LEASE));
    let before = cluster.nodes[0].disk.entries.len();
    cluster.run(5 * Now::SECOND);
    assert!(cluster.leads(0), "it does not know that it is deposed");
    assert_eq!(cluster.replies.get(&ticket), None);
    assert_eq!(cluster.nodes[0].disk.entries.len(), before, "it proposed a revoke");
    cluster.run(3 * Now::SECOND);
    assert_eq!(cluster.replies.get(&ticket), Some(&Err(RequestError::Timeout)));
}

#[test]
fn a_new_leader_gives_the_full_time_and_the_election_timeout() {
    let mut cluster = with_lease(5, |_| {});
    cluster.run(4 * Now::SECOND);
    cluster.elect(2);
    let promoted = cluster.time;
    cluster.run(5500 * Now::MILLISECOND);
    assert!(alive(&cluster), "after {} ms", (cluster.time - promoted) / Now::MILLISECOND);
    cluster.run(1500 * Now::MILLISECOND);
    assert!(!alive(&cluster));
}

#[test]
fn a_question_to_a_leader_that_dies_is_asked_again() {
    let mut cluster = with_lease(30, |_| {});
    let ticket = cluster.ask(1, Request::LeaseKeepAlive(LEASE));
    cluster.crash(0);
    cluster.run(4 * Now::SECOND);
    assert_eq!(cluster.replies.get(&ticket), Some(&Ok(Reply::LeaseKeepAlive(30))));
}

#[test]
fn a_question_that_is_lost_is_asked_again() {
    let mut cluster = with_lease(30, |_| {});
    let ticket = cluster.ask(1, Request::LeaseKeepAlive(LEASE));
    cluster.network.clear();
    cluster.run(1500 * Now::MILLISECOND);
    assert_eq!(cluster.replies.get(&ticket), Some(&Ok(Reply::LeaseKeepAlive(30))));
}

#[test]
fn a_question_to_a_deposed_leader_goes_to_the_new_one_at_once() {
    let mut cluster = with_lease(30, |_| {});
    let ticket = cluster.ask(1, Request::LeaseKeepAlive(LEASE));
    cluster.network.clear();
    cluster.elect(2);
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.replies.get(&ticket), Some(&Ok(Reply::LeaseKeepAlive(30))));
}

#[test]
fn a_leader_that_comes_back_has_forgotten_its_old_deadlines() {
    let mut cluster = with_lease(5, |_| {});
    cluster.elect(1);
    cluster.run(4 * Now::SECOND);
    check_renewal(&mut cluster, 2, Ok(5));
    cluster.elect(0);
    cluster.run(4500 * Now::MILLISECOND);
    assert!(alive(&cluster));
}

#[test]
fn an_answer_to_an_earlier_run_is_not_taken() {
    let mut cluster = with_lease(30, |_| {});
    cluster.ask(1, Request::LeaseKeepAlive(LEASE));
    cluster.settle_but(|packet| packet.is_lease_answer());
    let late = cluster.take_lease_answers();
    assert_eq!(late.len(), 1);
    cluster.crash(1);
    cluster.run(HEARTBEAT);
    cluster.restart(1);
    cluster.run(Now::SECOND);
    let unknown = cluster.ask(1, Request::LeaseKeepAlive(LeaseId(99)));
    for packet in late {
        cluster.deliver(packet, true);
    }
    assert_eq!(cluster.replies.get(&unknown), None);
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.replies.get(&unknown), Some(&Ok(Reply::LeaseKeepAlive(0))));
}

#[test]
fn a_renewal_of_a_lease_that_ran_out_waits_for_the_revoke() {
    let mut cluster = with_lease(2, |_| {});
    for node in 0..3 {
        cluster.nodes[node].sync_held = true;
    }
    cluster.run(2600 * Now::MILLISECOND);
    let ticket = cluster.ask(0, Request::LeaseKeepAlive(LEASE));
    cluster.settle();
    assert_eq!(cluster.replies.get(&ticket), None);
    for node in 0..3 {
        cluster.nodes[node].sync_held = false;
    }
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.replies.get(&ticket), Some(&Ok(Reply::LeaseKeepAlive(0))));
}

#[test]
fn a_renewal_that_undoes_a_checkpoint_waits_for_the_log() {
    let mut cluster = with_lease(20, |config| {
        config.machine.lessor.checkpoint = true;
        config.machine.lessor.checkpoint_interval = 5 * Now::SECOND;
    });
    cluster.run(6 * Now::SECOND);
    let index = cluster.view(0).status.applied;
    check_renewal(&mut cluster, 2, Ok(20));
    assert_eq!(cluster.view(0).status.applied, index + 1, "the reset went through the log");
    cluster.elect(1);
    cluster.run(15 * Now::SECOND);
    assert!(alive(&cluster), "the new leader goes on from the reset");
}
