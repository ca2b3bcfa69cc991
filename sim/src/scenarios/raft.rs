//! Figures of the Raft paper, and what elections can do to logs.

use super::{FOLLOWER, LEADER, Script, script};
use crate::bus::Kind;
use crate::markers;
use crate::nemesis::{Action, Direction, Target, When};
use crate::workload::Weights;

const WRITES: Weights = Weights {
    put: 30,
    get: 5,
    list: 2,
    compare_and_swap: 10,
    past_read: 0,
    delete: 5,
    txn: 0,
    compact: 0,
    lease_grant: 0,
    lease_revoke: 0,
    keep_alive: 0,
    time_to_live: 0,
    lease_list: 0,
    hash: 0,
    status: 0,
    bad_request: 0,
    alarm: 0,
};

pub(super) fn all() -> Vec<Script> {
    vec![
        script(
            "raft-figure-8",
            "Raft, figure 8: a leader finds an entry of an earlier term on a majority. It is not committed by
             that: the leader dies, and one that never had the entry wins and replaces it. Whoever counts
             replicas of old terms answers a client and then forgets. Guarded by agreement, once and
             linearizable.",
        )
        .members(5)
        .tuned(|tuning| tuning.append_bytes = 1)
        .syncs_take(6)
        .asking(WRITES)
        .clients(|workload| {
            workload.clients = 6;
            workload.pause_ms = 40;
            workload.patience_ms = 900;
            workload.calls = 200;
        })
        .step(When::At(0), Action::MoveLeader(1), 0)
        .step(When::LeaderHasUncommitted(600), Action::Split(vec![1, 2]), 1600)
        .step(When::LeaderChanged(600), Action::Isolate(LEADER, Direction::Both), 2600)
        .step(When::Reached(2000, markers::OLD_ENTRY_ON_MAJORITY.into()), Action::Kill(Target::Member(1)), 2000)
        .step(When::Reached(2000, markers::OLD_ENTRY_ON_MAJORITY.into()), Action::Kill(Target::Member(2)), 2000)
        .step(When::Reached(2000, markers::OLD_ENTRY_ON_MAJORITY.into()), Action::Reunite, 0)
        .reaches(&[markers::UNCOMMITTED_TAIL, markers::OLD_ENTRY_ON_MAJORITY, markers::MAJORITY_OVERWRITTEN])
        .tries(8),
        script(
            "raft-figure-7",
            "Raft, figure 7: leader after leader is cut off with entries of its own, until the logs of five
             members differ in every way. The next leaders must bring them together without touching what is
             committed. Guarded by agreement and convergence.",
        )
        .members(5)
        .asking(WRITES)
        .clients(|workload| {
            workload.clients = 6;
            workload.pause_ms = 30;
            workload.patience_ms = 800;
            workload.calls = 220;
            workload.roaming_percent = 60;
        })
        .step(When::LeaderHasUncommitted(300), Action::Isolate(LEADER, Direction::Both), 4500)
        .step(When::LeaderHasUncommitted(1900), Action::Isolate(LEADER, Direction::Both), 2500)
        .step(When::At(4600), Action::Isolate(LEADER, Direction::Out), 1500)
        .step(When::LeaderChanged(4700), Action::Kill(LEADER), 700)
        .reaches(&[markers::TAIL_OVERWRITTEN, markers::CONFLICT_REFUSED, markers::UNCOMMITTED_TAIL]),
        script(
            "old-entries-committed-by-a-new-leader",
            "Raft, 5.4.2: what a dead leader had on a majority but never announced is committed by the first
             entry of its successor. Its client has given up long ago: unknown outcomes that did happen.
             Guarded by once and linearizable.",
        )
        .asking(WRITES)
        .steps([500, 1700, 2900, 4100], &Action::Mute(LEADER, vec![Kind::AppendResponse]), 60)
        .steps([540, 1740, 2940, 4140], &Action::Kill(LEADER), 400)
        .clients(|workload| {
            workload.pause_ms = 20;
            workload.patience_ms = 600;
            workload.calls = 200;
        })
        .reaches(&[markers::OLD_ENTRY_COMMITTED, markers::UNKNOWN_HAPPENED]),
        script(
            "votes-lost-in-a-crash",
            "A member votes, loses power before the vote is durable, comes back and is asked again in the same
             term. If the first vote had left before it was durable, two leaders of one term would follow
             (Raft, figure 2: persist before responding). Guarded by promises, one-vote and agreement.",
        )
        .syncs_take(40)
        .tuned(|tuning| tuning.pre_vote = false)
        .steps([500, 1900, 3300, 4700], &Action::Isolate(LEADER, Direction::Both), 1000)
        .steps([1000, 1080, 1160, 1240], &Action::PowerCut(FOLLOWER), 20)
        .steps([2400, 2480, 2560, 2640], &Action::PowerCut(Target::Follower(3)), 20)
        .steps([3800, 3880, 3960, 4040], &Action::PowerCut(FOLLOWER), 20)
        .reaches(&[markers::VOTE_NOT_DURABLE])
        .tries(6),
        script(
            "leadership-is-handed-over",
            "The leadership is moved around while clients write (etcd: MoveLeader). What was proposed to the
             old leader is carried out once or not at all; nobody hears of success and loses it. Guarded by
             once and linearizable.",
        )
        .asking(WRITES)
        .steps([300, 1500, 2700], &Action::MoveLeader(1), 0)
        .steps([700, 1900, 3100], &Action::MoveLeader(2), 0)
        .steps([1100, 2300, 3500], &Action::MoveLeader(3), 0)
        .clients(|workload| workload.pause_ms = 20)
        .reaches(&[markers::LEADER_TRANSFERRED]),
        script(
            "leader-behind-its-followers",
            "The leader's disk is slow: entries are durable on both followers long before they are at home.
             They count without the leader's own log (Raft thesis, 10.2.1), also when the leader then loses
             power. Guarded by agreement and promises.",
        )
        .syncs_take(2)
        .asking(WRITES)
        .step(When::At(200), Action::Disk(LEADER, crate::nemesis::DiskFault::Slow(80)), 2500)
        .step(When::At(2000), Action::PowerCut(LEADER), 500)
        .reaches(&[markers::LEADER_NOT_DURABLE]),
        script(
            "minority-leader",
            "Five members split in two and three, with the leader among the two. It takes requests that can
             never be committed, while the others elect another one and go on. After the healing its tail is
             replaced. Guarded by linearizable and once.",
        )
        .members(5)
        .asking(WRITES)
        .step(When::At(0), Action::MoveLeader(2), 0)
        .step(When::LeaderHasUncommitted(800), Action::Split(vec![1, 2]), 2500)
        .clients(|workload| {
            workload.pause_ms = 20;
            workload.patience_ms = 1000;
        })
        .reaches(&[markers::TAIL_OVERWRITTEN, markers::UNKNOWN_LOST, markers::UNCOMMITTED_TAIL]),
    ]
}
