//! Writes, reads, time-outs, restarts, snapshots, watches: one claim a test.

use super::super::*;
use super::cluster::{Cluster, HEARTBEAT, put};
use crate::apply;
use crate::proto::etcdserverpb as pb;
use crate::quota::Quota;
use crate::types::StreamId;

fn revision(reply: Option<&Result<Reply, RequestError>>) -> i64 {
    match reply {
        Some(Ok(Reply::Applied(apply::Reply::Put(response)))) => {
            response.header.as_ref().map_or(0, |header| header.revision)
        }
        other => panic!("not the answer to a put: {other:?}"),
    }
}

fn single() -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.elect(0);
    cluster
}

fn three() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    cluster
}

#[test]
fn a_single_member_answers_after_its_disk_did() {
    let mut cluster = single();
    cluster.nodes[0].sync_held = true;
    let asked: Vec<_> = (0..3).map(|n| cluster.ask(0, put("k", &n.to_string()))).collect();
    cluster.settle();
    assert!(asked.iter().all(|ticket| !cluster.replies.contains_key(ticket)));
    cluster.sync(0);
    let revisions: Vec<_> = asked.iter().map(|ticket| revision(cluster.replies.get(ticket))).collect();
    assert_eq!(revisions, [2, 3, 4]);
    assert_eq!(cluster.value(0, "k").as_deref(), Some("2"));
}

#[test]
fn a_leader_counts_itself_only_after_its_own_disk() {
    let mut cluster = three();
    cluster.nodes[0].sync_held = true;
    cluster.nodes[1].cut = true;
    let ticket = cluster.ask(0, put("k", "v"));
    cluster.settle();
    assert_eq!(cluster.replies.get(&ticket), None, "one disk of three holds it");
    cluster.sync(0);
    cluster.settle();
    assert_eq!(revision(cluster.replies.get(&ticket)), 2);
}

#[test]
fn what_waits_for_a_leader_happens_once_when_there_is_one() {
    let mut cluster = Cluster::new(3);
    let put = cluster.ask(0, put("k", "v"));
    let read = cluster.ask(0, Request::ReadIndex);
    cluster.elect(1);
    assert_eq!(revision(cluster.replies.get(&put)), 2);
    assert_eq!(cluster.replies.get(&read), Some(&Ok(Reply::ReadIndex)));
}

#[test]
fn proposals_held_during_a_handover_that_fails_go_on() {
    let mut cluster = three();
    cluster.nodes[1].cut = true;
    let target = cluster.nodes[1].id;
    let moved = cluster.ask(0, Request::MoveLeader(target));
    let held = cluster.ask(0, put("k", "v"));
    cluster.settle();
    assert_eq!(cluster.replies.get(&held), None);
    cluster.run(3 * Now::SECOND);
    assert_eq!(cluster.replies.get(&moved), Some(&Err(RequestError::TimeoutLeaderTransfer)));
    assert_eq!(revision(cluster.replies.get(&held)), 2);
}

#[test]
fn leadership_moves_and_only_to_voters() {
    let mut cluster = three();
    let (own, other) = (cluster.nodes[0].id, cluster.nodes[2].id);
    let checks = [
        (0, own, Ok(Reply::MoveLeader)),
        (1, own, Err(RequestError::NotLeader)),
        (0, MemberId(77), Err(RequestError::BadLeaderTransferee)),
        (0, other, Ok(Reply::MoveLeader)),
    ];
    for (node, target, expected) in checks {
        let ticket = cluster.ask(node, Request::MoveLeader(target));
        cluster.settle();
        assert_eq!(cluster.replies.get(&ticket), Some(&expected));
    }
    assert!(cluster.leads(2));
}

#[test]
fn what_waits_for_a_lost_leader_is_told_so() {
    let mut cluster = three();
    cluster.nodes[0].cut = true;
    let on_deposed = cluster.ask(0, put("k", "lost"));
    let forwarded = cluster.ask(1, put("k", "lost too"));
    cluster.settle();
    cluster.run(8 * Now::SECOND);
    assert_eq!(cluster.replies.get(&on_deposed), Some(&Err(RequestError::Timeout)));
    assert_eq!(cluster.replies.get(&forwarded), Some(&Err(RequestError::TimeoutLeaderFailure)));
    cluster.nodes[0].cut = false;
    cluster.run(3 * Now::SECOND);
    assert_eq!(cluster.value(0, "k"), None, "an unacknowledged entry gave way");
}

#[test]
fn a_deposed_leader_serves_no_read() {
    let mut cluster = three();
    cluster.nodes[0].cut = true;
    let stale = cluster.ask(0, Request::ReadIndex);
    cluster.run(3 * Now::SECOND);
    let leader = cluster.leader().expect("the others elect one");
    let written = cluster.ask(leader, put("k", "new"));
    cluster.settle();
    assert_eq!(revision(cluster.replies.get(&written)), 2);
    assert_eq!(cluster.replies.get(&stale), None);
    // Joined again, it asks the new leader before its caller gives up.
    cluster.nodes[0].cut = false;
    cluster.run(2 * Now::SECOND);
    assert_eq!(cluster.replies.get(&stale), Some(&Ok(Reply::ReadIndex)));
    assert_eq!(cluster.value(0, "k").as_deref(), Some("new"));
}

#[test]
fn a_read_without_a_leader_ends_in_time() {
    let mut cluster = three();
    cluster.nodes[2].cut = true;
    let read = cluster.ask(2, Request::ReadIndex);
    cluster.run(7 * Now::SECOND + 2 * HEARTBEAT);
    assert_eq!(cluster.replies.get(&read), Some(&Err(RequestError::Timeout)));
}

#[test]
fn a_follower_waits_until_it_has_applied_the_read_index() {
    let mut cluster = three();
    cluster.nodes[2].sync_held = true;
    let written = cluster.ask(0, put("k", "v"));
    cluster.settle();
    assert_eq!(revision(cluster.replies.get(&written)), 2);
    let read = cluster.ask(2, Request::ReadIndex);
    cluster.settle();
    assert_eq!(cluster.replies.get(&read), None);
    cluster.sync(2);
    cluster.settle();
    assert_eq!(cluster.replies.get(&read), Some(&Ok(Reply::ReadIndex)));
}

#[test]
fn readers_share_a_round_and_late_ones_take_the_next() {
    let mut cluster = three();
    cluster.settle();
    let first = cluster.ask(1, Request::ReadIndex);
    let packets = cluster.network.len();
    let late: Vec<_> = (0..5).map(|_| cluster.ask(1, Request::ReadIndex)).collect();
    assert_eq!((packets, cluster.network.len()), (1, 1), "one question is under way");
    cluster.settle();
    for ticket in late.iter().chain([&first]) {
        assert_eq!(cluster.replies.get(ticket), Some(&Ok(Reply::ReadIndex)));
    }
}

#[test]
fn a_lost_read_round_is_asked_again() {
    let mut cluster = three();
    let read = cluster.ask(1, Request::ReadIndex);
    cluster.network.clear();
    cluster.settle();
    assert_eq!(cluster.replies.get(&read), None);
    cluster.run(700 * Now::MILLISECOND);
    assert_eq!(cluster.replies.get(&read), Some(&Ok(Reply::ReadIndex)));
}

#[test]
fn a_read_round_that_is_lost_with_its_leader_starts_again_at_the_next() {
    let mut cluster = three();
    let read = cluster.ask(1, Request::ReadIndex);
    cluster.network.clear();
    cluster.elect(2);
    assert_eq!(cluster.replies.get(&read), Some(&Ok(Reply::ReadIndex)));
}

#[test]
fn the_answer_to_an_earlier_round_serves_nobody() {
    let mut cluster = three();
    let to_reader = |packet: &super::cluster::Packet| packet.to == 1;
    let first = cluster.ask(1, Request::ReadIndex);
    let question = cluster.network.clone();
    cluster.settle();
    assert_eq!(cluster.replies.get(&first), Some(&Ok(Reply::ReadIndex)));
    // The question arrives again, and its answer is late.
    cluster.network = question;
    cluster.settle_but(to_reader);
    let late = std::mem::take(&mut cluster.network);
    let written = cluster.ask(0, put("k", "v"));
    cluster.settle_but(to_reader);
    assert_eq!(revision(cluster.replies.get(&written)), 2);
    let second = cluster.ask(1, Request::ReadIndex);
    for packet in late {
        cluster.deliver(packet, true);
    }
    assert_eq!(cluster.replies.get(&second), None);
    cluster.settle();
    assert_eq!(cluster.replies.get(&second), Some(&Ok(Reply::ReadIndex)));
}

/// The index of the running round may be older than what was acknowledged meanwhile.
#[test]
fn the_answer_to_a_running_round_does_not_serve_who_came_later() {
    let mut cluster = three();
    let to_reader = |packet: &super::cluster::Packet| packet.to == 1;
    let first = cluster.ask(1, Request::ReadIndex);
    cluster.settle_but(to_reader);
    let answers = std::mem::take(&mut cluster.network);
    let written = cluster.ask(0, put("k", "v"));
    cluster.settle_but(to_reader);
    assert_eq!(revision(cluster.replies.get(&written)), 2);
    let late = cluster.ask(1, Request::ReadIndex);
    for packet in answers {
        cluster.deliver(packet, true);
    }
    let served = [&first, &late].map(|ticket| cluster.replies.contains_key(ticket));
    assert_eq!(served, [true, false]);
    cluster.settle();
    assert_eq!(cluster.replies.get(&late), Some(&Ok(Reply::ReadIndex)));
}

#[test]
fn only_a_lone_voter_that_leads_may_skip_the_round() {
    let check = |size, elected, expected: &[bool]| {
        let mut cluster = Cluster::new(size);
        if elected {
            cluster.elect(0);
        }
        let found: Vec<_> = (0..size).map(|node| cluster.view(node).status.reads_need_no_round).collect();
        assert_eq!(found, expected, "{size} members, elected: {elected}");
    };
    check(1, false, &[false]);
    check(1, true, &[true]);
    check(3, true, &[false, false, false]);
}

#[test]
fn a_restarted_member_applies_each_entry_once() {
    for commits in 0..3 {
        let mut cluster = single();
        cluster.nodes[0].database_held = true;
        for n in 0..4 {
            cluster.ask(0, put("k", &n.to_string()));
            cluster.run(2 * HEARTBEAT);
            if n < commits {
                cluster.commit(0);
            }
        }
        assert_eq!(cluster.acknowledged, 5);
        cluster.crash(0);
        cluster.restart(0);
        cluster.elect(0);
        assert_eq!(cluster.view(0).store.revision(), 5, "with {commits} commits of the database");
        assert_eq!(cluster.value(0, "k").as_deref(), Some("3"));
    }
}

#[test]
fn a_lagging_member_gets_a_snapshot_and_its_watchers_miss_nothing() {
    let mut cluster = Cluster::with_config(3, |config| {
        config.catchup_entries = 2;
        config.driver.log_memory_bytes = 1;
    });
    cluster.elect(0);
    let stream = StreamId(1);
    let create = pb::WatchCreateRequest { key: "k".into(), start_revision: 2, ..Default::default() };
    cluster.step(2, Input::Watch { stream, command: WatchCommand::Open });
    cluster.step(2, Input::Watch { stream, command: WatchCommand::Create(create) });
    cluster.ask(0, put("k", "0"));
    cluster.settle();
    cluster.nodes[2].cut = true;
    for n in 1..20 {
        cluster.ask(0, put("k", &n.to_string()));
        cluster.run(HEARTBEAT);
    }
    cluster.run(2 * Now::SECOND);
    let before = cluster.view(2).status.applied;
    cluster.nodes[2].cut = false;
    let read = cluster.ask(2, Request::ReadIndex);
    cluster.run(4 * Now::SECOND);
    assert!(
        cluster.nodes[2].disk.entries.iter().all(|entry| entry.index > before + 5),
        "no snapshot was needed"
    );
    assert_eq!(cluster.replies.get(&read), Some(&Ok(Reply::ReadIndex)));
    assert_eq!(cluster.value(2, "k").as_deref(), Some("19"));
    assert_eq!(cluster.view(2).status.applied, cluster.view(0).status.applied);
    let revisions: Vec<_> = cluster.nodes[2].watched[&stream]
        .iter()
        .flat_map(|response| &response.events)
        .map(event_revision)
        .collect();
    assert_eq!(revisions, Vec::from_iter(2..22));
    // What it has now outlives a crash.
    cluster.crash(2);
    cluster.restart(2);
    cluster.run(2 * Now::SECOND);
    assert_eq!(cluster.value(2, "k").as_deref(), Some("19"));
}

fn event_revision(event: &crate::proto::EncodedEvent) -> i64 {
    let event = event.decode().expect("an event that was encoded here");
    event.kv.and_then(|kv| kv.decode().ok()).map_or(0, |kv| kv.mod_revision)
}

#[test]
fn a_physical_compaction_is_answered_when_the_database_has_it() {
    let mut cluster = single();
    for n in 0..10 {
        cluster.ask(0, put("k", &n.to_string()));
    }
    cluster.run(Now::SECOND);
    let compact = |revision, physical| Request::Compact(pb::CompactionRequest { revision, physical });
    let logical = cluster.ask(0, compact(4, false));
    cluster.settle();
    assert!(matches!(cluster.replies.get(&logical), Some(Ok(_))));
    cluster.nodes[0].database_held = true;
    let physical = cluster.ask(0, compact(8, true));
    let twice = cluster.ask(0, compact(8, true));
    cluster.run(Now::SECOND);
    assert_eq!(cluster.replies.get(&twice), Some(&Err(RequestError::Compacted)));
    assert_eq!(cluster.replies.get(&physical), None, "the removal is only in memory");
    cluster.nodes[0].database_held = false;
    cluster.run(Now::SECOND);
    assert!(matches!(cluster.replies.get(&physical), Some(Ok(_))));
    let oldest = cluster.nodes[0].disk.backend.records.keys().next().map(|revision| revision.main);
    assert_eq!(oldest, Some(8));
    assert_eq!(cluster.view(0).statistics.compaction_keys, 6);
}

#[test]
fn over_quota_is_refused_or_applied_and_told_and_raises_an_alarm() {
    let mut cluster = Cluster::with_config(3, |config| config.machine.quota = Quota::new(2000));
    cluster.elect(0);
    // Behind the leader's back its database grows.
    cluster.nodes[0].size = 5000;
    cluster.ask(1, put("small", "x"));
    cluster.run(Now::SECOND);
    let applied = cluster.ask(1, put("k", "v"));
    cluster.settle();
    assert_eq!(revision(cluster.replies.get(&applied)), 3, "its own member has room");
    cluster.run(Now::SECOND);
    let alarms = |cluster: &Cluster, node| {
        cluster.view(node).alarms.iter().map(|alarm| MemberId(alarm.member_id)).collect::<Vec<_>>()
    };
    assert_eq!(alarms(&cluster, 2), [cluster.nodes[0].id], "raised by the member that ran out");
    for node in 0..3 {
        let refused = cluster.ask(node, put("k", "no"));
        cluster.settle();
        assert_eq!(cluster.replies.get(&refused), Some(&Err(RequestError::NoSpace)));
    }
    let delete = pb::DeleteRangeRequest { key: "k".into(), ..Default::default() };
    let delete = cluster.ask(1, Request::DeleteRange(delete));
    let disarm = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Deactivate as i32,
        member_id: cluster.nodes[0].id.0,
        alarm: pb::AlarmType::Nospace as i32,
    };
    cluster.nodes[0].size = 100;
    cluster.settle();
    let disarm = cluster.ask(2, Request::Alarm(disarm));
    cluster.run(Now::SECOND);
    assert!(matches!(
        (cluster.replies.get(&delete), cluster.replies.get(&disarm)),
        (Some(Ok(_)), Some(Ok(_)))
    ));
    assert_eq!(alarms(&cluster, 1), []);
}

#[test]
fn who_asks_over_quota_at_apply_hears_of_it_though_it_is_applied() {
    let mut cluster = Cluster::with_config(1, |config| config.machine.quota = Quota::new(2000));
    cluster.elect(0);
    cluster.ask(0, put("small", "x"));
    cluster.settle();
    cluster.nodes[0].sync_held = true;
    let ticket = cluster.ask(0, put("k", "v"));
    // The database grows while the put is on its way.
    cluster.nodes[0].size = 5000;
    cluster.run(2 * HEARTBEAT);
    assert_eq!(cluster.view(0).status.db_size, 5000);
    cluster.sync(0);
    assert_eq!(cluster.replies.get(&ticket), Some(&Err(RequestError::NoSpace)));
    assert_eq!(cluster.value(0, "k").as_deref(), Some("v"));
}

#[test]
fn a_request_that_is_too_large_is_refused() {
    let mut cluster = single();
    let ticket = cluster.ask(0, put("k", &"v".repeat(10_000)));
    assert_eq!(cluster.replies.get(&ticket), Some(&Err(RequestError::RequestTooLarge)));
}

#[test]
fn members_tell_their_names_and_the_leader_the_version() {
    let mut cluster = three();
    cluster.run(Now::SECOND);
    for node in 0..3 {
        let names: std::collections::BTreeSet<_> =
            cluster.view(node).members.iter().map(|member| member.name.clone()).collect();
        assert_eq!(Vec::from_iter(names), ["m1", "m2", "m3"]);
        assert_eq!(cluster.view(node).cluster_version.as_deref(), Some("3.7.0"));
    }
}

#[test]
fn a_view_counts_what_was_applied() {
    let mut cluster = single();
    cluster.ask(0, put("a", "1"));
    cluster.ask(0, put("b", "1"));
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    cluster.ask(0, Request::DeleteRange(delete));
    cluster.settle();
    let statistics = cluster.view(0).statistics;
    assert_eq!((statistics.puts, statistics.deletes, statistics.txns), (2, 1, 0));
    assert_eq!(statistics.leader_changes, 1);
}
