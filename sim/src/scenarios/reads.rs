//! Reads on members that are not what they believe to be.

use super::{FOLLOWER, LEADER, Script, script};
use crate::bus::{Kind, Network};
use crate::markers;
use crate::nemesis::{Action, Direction, Target, When};
use crate::workload::{Weights, Workload};

/// Clients that mostly read, everywhere.
fn readers(workload: &mut Workload) {
    workload.weights = Weights { put: 12, get: 30, list: 6, compare_and_swap: 3, ..Weights::default() };
    workload.clients = 6;
    workload.pause_ms = 15;
    workload.calls = 250;
    workload.patience_ms = 2500;
    workload.keys = 3;
}

pub(super) fn all() -> Vec<Script> {
    vec![
        script(
            "reads-across-a-pause",
            "etcd #20418: a process stood still, and the late answer to an old question for a read index was
             taken for a newer one: reads that missed acknowledged writes. Members stand still, the leader
             first of all, while others read and write. Guarded by linearizable.",
        )
        .clients(readers)
        .steps([600, 4200], &Action::Pause(LEADER), 1500)
        .steps([2600], &Action::Pause(FOLLOWER), 1200)
        .reaches(&[markers::LEADER_PAUSED, markers::READ_LOST])
        .tries(4),
        script(
            "reads-on-a-deposed-leader",
            "A leader is cut off from the others, not from its clients. For a while it believes that it leads,
             though another one does: it may answer no linearizable read until it has made sure (Raft, 6.4).
             Guarded by linearizable.",
        )
        .clients(readers)
        .clients(|workload| workload.roaming_percent = 70)
        .steps([500, 2600, 4700], &Action::Isolate(LEADER, Direction::Both), 1500)
        .reaches(&[markers::DEPOSED_READ])
        .tries(6),
        script(
            "questions-for-a-read-index-get-lost",
            "Followers ask the leader for a read index; the questions get lost, come late, or the leader is gone
             before it answers. Each is asked again, and each answer serves only who was there when it was
             asked for. Guarded by linearizable and liveness.",
        )
        .network(Network { latency: 3, late_percent: 20, late_by: 600, reorder: true, ..Network::CALM })
        .clients(readers)
        .steps([500, 2500], &Action::Mute(LEADER, vec![Kind::ReadIndex]), 900)
        .steps([1800, 4000], &Action::Kill(LEADER), 300)
        .reaches(&[markers::READ_RETRIED, markers::READ_LOST])
        .tries(4),
        script(
            "old-answers-are-allowed",
            "Serializable reads are answered from what a member has, however old, but whole, and never back in
             time on one member. A follower that is cut off gives old ones. Guarded by serializable.",
        )
        .clients(readers)
        .clients(|workload| workload.weights.list = 25)
        .step(When::At(400), Action::Isolate(Target::Member(1), Direction::Both), 2000)
        .step(When::At(2600), Action::Isolate(Target::Member(3), Direction::Both), 2000)
        .reaches(&[markers::STALE_READ]),
        script(
            "swaps-through-failover",
            "What Kubernetes does all day: read, then write if nobody else has. Leaders die and are cut off
             meanwhile; of two swaps on one revision at most one may win. Guarded by once and linearizable.",
        )
        .clients(readers)
        .clients(|workload| workload.patience_ms = 600)
        .asking(Weights { compare_and_swap: 30, get: 10, put: 3, txn: 4, ..Weights::default() })
        .step(When::LeaderHasUncommitted(500), Action::Isolate(LEADER, Direction::Both), 1200)
        .step(When::LeaderHasUncommitted(2300), Action::Kill(LEADER), 400)
        .step(When::LeaderHasUncommitted(3600), Action::PowerCut(LEADER), 400)
        .reaches(&[markers::SWAP_WON, markers::SWAP_LOST, markers::UNKNOWN_HAPPENED])
        .tries(5),
    ]
}
