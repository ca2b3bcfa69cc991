//! Networks that part, flap, repeat and hold back.

use super::{FOLLOWER, LEADER, Script, script};
use crate::bus::Network;
use crate::markers;
use crate::nemesis::{Action, Direction, Target, When};

pub(super) fn all() -> Vec<Script> {
    vec![
        script(
            "member-that-hears-and-is-not-heard",
            "A follower's messages do not get out, and later the leader's. One-way partitions made etcd
             clusters change leaders for ever before pre-vote and check-quorum (Cloudflare, November 2020). A
             deaf or mute member must neither stop the others nor depose them. Guarded by liveness and
             agreement.",
        )
        .step(When::At(300), Action::Isolate(FOLLOWER, Direction::Out), 2000)
        .step(When::At(2600), Action::Isolate(FOLLOWER, Direction::In), 2000)
        .step(When::LeaderHasUncommitted(4800), Action::Isolate(LEADER, Direction::Out), 1500)
        .clients(|workload| workload.calls = 160)
        .reaches(&[markers::UNCOMMITTED_TAIL]),
        script(
            "flapping-partition",
            "The leader's network comes and goes faster than an election takes. Every return may bring
             messages of the old term, and every absence a new leader. Guarded by agreement and linearizable.",
        )
        .step(When::At(300), Action::Flap(LEADER, 350), 3500)
        .step(When::At(4000), Action::Flap(FOLLOWER, 120), 1500)
        .clients(|workload| workload.patience_ms = 800)
        .reaches(&[markers::CONFLICT_REFUSED, markers::UNKNOWN_LOST])
        .tries(4),
        script(
            "halves-with-a-bridge",
            "Two halves of five members see each other only through one member that sees all. Whoever leads in
             one half is unknown to the other, and both can only win with the bridge's vote (Jepsen's
             \"bridge\"). Guarded by agreement, linearizable and liveness.",
        )
        .members(5)
        .step(When::At(300), Action::Bridge(3), 2000)
        .step(When::LeaderHasUncommitted(2700), Action::Bridge(2), 2000)
        .clients(|workload| {
            workload.pause_ms = 30;
            workload.patience_ms = 1000;
            workload.calls = 200;
        })
        .reaches(&[markers::UNCOMMITTED_TAIL]),
        script(
            "cut-one-by-one",
            "Members are cut off one after another and come back in the reverse order (FoundationDB's
             swizzle-clogging), so that for a while nobody has a majority and then the one with the oldest log
             comes first. Guarded by agreement and convergence.",
        )
        .members(5)
        .steps([300, 3000], &Action::Swizzle, 2400)
        .clients(|workload| workload.patience_ms = 1000)
        .reaches(&[markers::UNKNOWN_LOST, markers::OLD_ENTRY_COMMITTED])
        .tries(4),
        script(
            "storm-of-duplicates",
            "Most messages come twice, and old ones come again. Raft is at home with that, except for
             forwarded proposals: one that is taken twice happens twice. Guarded by once.",
        )
        .network(Network {
            latency: 3,
            duplicate_percent: 60,
            replay_percent: 30,
            reorder: true,
            ..Network::CALM
        })
        .clients(|workload| workload.pause_ms = 30)
        .reaches(&[markers::PROPOSAL_TWICE]),
        script(
            "two-messages-at-a-time",
            "A path holds two messages; what is over that is lost and its sender told. Pipelines of appends
             break all the time, and progress has to be found out again and again. Guarded by liveness and
             convergence.",
        )
        .network(Network { latency: 8, capacity: 2, ..Network::CALM })
        .tuned(|tuning| tuning.append_bytes = 1)
        .clients(|workload| {
            workload.clients = 8;
            workload.pause_ms = 5;
        })
        .reaches(&[markers::READ_RETRIED, markers::UNKNOWN_LOST]),
        script(
            "old-leader-among-late-messages",
            "Half of all messages take up to two seconds longer, in any order: votes, appends and answers of
             terms long gone arrive in the middle of new ones. Guarded by agreement, promises and
             linearizable.",
        )
        .network(Network { latency: 4, late_percent: 50, late_by: 1500, reorder: true, ..Network::CALM })
        .step(When::At(500), Action::Isolate(LEADER, Direction::Both), 900)
        .step(When::At(2500), Action::Isolate(Target::Member(1), Direction::Both), 900)
        .clients(|workload| workload.pause_ms = 30)
        .reaches(&[markers::CONFLICT_REFUSED, markers::OLD_ENTRY_COMMITTED])
        .tries(4),
    ]
}
