//! Changes of the members as the log carries them, and a second snapshot on top of the first.

use super::super::*;
use super::cluster::{Cluster, put};
use crate::membership::MemberChange;
use crate::raft::{ConfChange, ConfChangeKind};

fn propose(cluster: &mut Cluster, node: usize, kind: ConfChangeKind, change: &MemberChange) {
    let change = ConfChange { kind, member: change.id(), context: change.to_context().into() };
    let member = cluster.nodes[node].member.as_mut().expect("a member that is up");
    member.driver.propose_conf_change(&change).expect("a leader without another change under way");
    cluster.pump(node);
    cluster.run(Now::SECOND);
}

/// Who votes, by the database of a node.
fn voters(cluster: &Cluster, node: usize) -> std::collections::BTreeSet<u64> {
    let applied = cluster.nodes[node].disk.backend.applied.clone().expect("an applied point");
    applied.voters.into_iter().collect()
}

#[test]
fn a_promoted_learner_votes() {
    let mut cluster = Cluster::new(1);
    cluster.elect(0);
    let added = crate::membership::Member::added(vec!["http://new:2380".into()], true, 1);
    let id = added.id;
    let change = MemberChange::Add { member: added, max_learners: 1 };
    propose(&mut cluster, 0, ConfChangeKind::AddLearner, &change);
    assert_eq!(voters(&cluster, 0).len(), 1);
    propose(&mut cluster, 0, ConfChangeKind::AddVoter, &MemberChange::Promote(id));
    assert!(voters(&cluster, 0).contains(&id.0));
}

#[test]
fn a_removed_member_is_told_to_stop_and_again_when_it_starts() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let gone = cluster.nodes[2].id;
    propose(&mut cluster, 0, ConfChangeKind::Remove, &MemberChange::Remove(gone));
    assert_eq!(cluster.view(0).members.len(), 2);
    assert_eq!(voters(&cluster, 0), cluster.nodes[..2].iter().map(|node| node.id.0).collect());
    // The entry reaches the removed member only if it was sent before it was applied.
    if cluster.nodes[2].removed {
        cluster.nodes[2].removed = false;
        cluster.crash(2);
        cluster.restart(2);
        assert!(cluster.nodes[2].removed);
    }
}

#[test]
fn a_change_that_the_members_refuse_changes_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let unknown = MemberChange::Remove(MemberId(5));
    propose(&mut cluster, 0, ConfChangeKind::Remove, &unknown);
    let voters = cluster.nodes[1].disk.backend.applied.as_ref().map(|point| point.voters.len());
    assert_eq!((cluster.view(1).members.len(), voters), (3, Some(3)));
}

#[test]
fn the_last_voter_stays() {
    let mut cluster = Cluster::new(1);
    cluster.elect(0);
    let own = cluster.nodes[0].id;
    propose(&mut cluster, 0, ConfChangeKind::Remove, &MemberChange::Remove(own));
    assert!(!cluster.nodes[0].removed);
    let ticket = cluster.ask(0, put("k", "v"));
    cluster.settle();
    assert!(matches!(cluster.replies.get(&ticket), Some(Ok(_))));
}

#[test]
fn a_change_is_applied_once_across_a_crash() {
    for held in [false, true] {
        let mut cluster = Cluster::new(1);
        cluster.elect(0);
        cluster.nodes[0].database_held = held;
        let member = crate::membership::Member::added(vec!["http://new:2380".into()], true, 1);
        let change = MemberChange::Add { member, max_learners: 1 };
        propose(&mut cluster, 0, ConfChangeKind::AddLearner, &change);
        let status = cluster.view(0).status;
        assert!(!status.reads_need_no_round, "a learner may hear of a commit first");
        cluster.crash(0);
        cluster.nodes[0].database_held = false;
        cluster.restart(0);
        cluster.elect(0);
        cluster.run(Now::SECOND);
        let applied = cluster.nodes[0].disk.backend.applied.clone().expect("an applied point");
        assert_eq!((applied.voters.len(), applied.learners.len(), cluster.view(0).members.len()), (1, 1, 2));
    }
}

#[test]
fn a_compaction_that_a_snapshot_overtakes_is_answered() {
    let mut cluster = Cluster::with_config(3, |config| {
        config.catchup_entries = 1;
        config.driver.log_memory_bytes = 1;
        config.compaction_pause = 2 * Now::SECOND;
    });
    cluster.elect(0);
    for n in 0..10 {
        cluster.ask(0, put("k", &n.to_string()));
    }
    cluster.run(Now::SECOND);
    let compact = crate::proto::etcdserverpb::CompactionRequest { revision: 9, physical: true };
    let ticket = cluster.ask(2, Request::Compact(compact));
    cluster.settle();
    cluster.nodes[2].cut = true;
    for n in 0..10 {
        cluster.ask(0, put("k", &n.to_string()));
        cluster.run(200 * Now::MILLISECOND);
    }
    let before = cluster.view(2).status.applied;
    cluster.nodes[2].cut = false;
    cluster.run(2 * Now::SECOND);
    assert!(
        cluster.nodes[2].disk.entries.iter().all(|entry| entry.index > before + 1),
        "no snapshot was needed"
    );
    cluster.run(20 * Now::SECOND);
    assert!(matches!(cluster.replies.get(&ticket), Some(Ok(_))));
}

#[test]
fn one_snapshot_at_a_time_is_installed() {
    let mut cluster = Cluster::with_config(3, |config| {
        config.catchup_entries = 1;
        config.driver.log_memory_bytes = 1;
    });
    cluster.elect(0);
    cluster.nodes[2].cut = true;
    let write = |cluster: &mut Cluster| {
        for n in 0..10 {
            cluster.ask(0, put("k", &n.to_string()));
            cluster.run(200 * Now::MILLISECOND);
        }
    };
    let installing =
        |cluster: &Cluster| cluster.nodes[2].member.as_ref().map(|member| member.installing.clone());
    write(&mut cluster);
    cluster.nodes[2].database_held = true;
    cluster.nodes[2].cut = false;
    while installing(&cluster) == Some(None) {
        cluster.run(10 * Now::MILLISECOND);
    }
    let first = installing(&cluster);
    let now = cluster.now(2);
    let wakeup = cluster.nodes[2].member.as_ref().and_then(|member| member.next_wakeup(now));
    assert_eq!(wakeup, None, "there is nothing to wake up for");
    // The leader offers another one while the first is being installed.
    cluster.nodes[2].cut = true;
    write(&mut cluster);
    cluster.nodes[2].cut = false;
    cluster.run(Now::SECOND);
    assert_eq!(installing(&cluster), first);
    cluster.nodes[2].database_held = false;
    cluster.run(5 * Now::SECOND);
    assert_eq!(cluster.view(2).status.applied, cluster.view(0).status.applied);
}
