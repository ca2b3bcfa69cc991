//! Leases: never early, never much too late, through changes of leaders and with clocks of all kinds.

use super::{FOLLOWER, LEADER, Script, script};
use crate::bus::Kind;
use crate::clock::EXACT;
use crate::markers;
use crate::nemesis::{Action, ClockFault, Direction, Target, When};
use crate::workload::{Weights, Workload};

/// Clients that live by leases.
fn leases(workload: &mut Workload) {
    workload.weights = Weights {
        put: 15,
        get: 6,
        lease_grant: 8,
        keep_alive: 25,
        time_to_live: 8,
        lease_revoke: 1,
        lease_list: 1,
        ..Weights::default()
    };
    workload.calls = 200;
    workload.pause_ms = 60;
}

pub(super) fn all() -> Vec<Script> {
    vec![
        script(
            "stalled-leader-revokes",
            "etcd #15247: a leader stood still, was replaced, and woke up believing that leases had run out
             which clients had renewed with its successor; its revokes were carried out. A leader proves that
             it leads before it revokes. Guarded by lease (never early).",
        )
        .clients(leases)
        .steps([800, 4600], &Action::Pause(LEADER), 2600)
        .reaches(&[markers::LEADER_PAUSED, markers::LEASE_SURVIVED]),
        script(
            "renewal-against-revoke",
            "etcd of 2025 (fixed in 3.5.23 and 3.6.5) told a client that its lease was renewed while the revoke
             was on its way. Keep-alives come about as often as leases run out. Guarded by lease (a renewal is
             a promise).",
        )
        .clients(leases)
        .clients(|workload| {
            workload.weights.keep_alive = 8;
            workload.calls = 140;
        })
        .reaches(&[markers::LEASE_EXPIRED, markers::LEASE_QUESTION]),
        script(
            "checkpoints-across-leaders",
            "etcd up to 3.5.2 did not keep checkpoints of leases, and every new leader began to count from the
             full time. Leaders change while long leases are checkpointed often; renewals undo checkpoints
             before they are answered. Guarded by lease (early and late).",
        )
        .tuned(|tuning| {
            tuning.lease_checkpoint = true;
            tuning.lease_checkpoint_ms = 300;
        })
        .clients(leases)
        .steps([1000, 2500, 4000], &Action::Kill(LEADER), 300)
        .step(When::At(5200), Action::PowerCutAll, 200)
        .reaches(&[markers::LEASE_CHECKPOINTED, markers::LEASE_SURVIVED]),
        script(
            "expiry-around-elections",
            "Leases run out while nobody leads, or while a leader is new. The next one gives them time, since it
             cannot know of renewals that the last one has granted. Guarded by lease and by liveness of expiry.",
        )
        .clients(leases)
        .clients(|workload| workload.weights.keep_alive = 4)
        .steps([700, 2200, 3700, 5200], &Action::Kill(LEADER), 600)
        .reaches(&[markers::LEASE_EXPIRED, markers::EXPIRED_AT_ELECTION])
        .tries(4),
        script(
            "leases-with-many-keys",
            "A lease takes all its keys in one revision, also with a negative id, which two versions of etcd
             wrote to disk differently (fixed in 3.4.20). Members are killed around it and must hold the same.
             Guarded by watch, applied-once and convergence.",
        )
        .clients(leases)
        .clients(|workload| {
            workload.weights.put = 40;
            workload.weights.keep_alive = 3;
            workload.weights.lease_grant = 4;
            workload.keys = 20;
        })
        .steps([1500, 3000], &Action::Kill(FOLLOWER), 200)
        .reaches(&[markers::EXPIRED_WITH_KEYS])
        .tries(5),
        script(
            "questions-get-lost",
            "Followers pass questions about leases to the leader; the questions and answers get lost, and are
             asked again. An answer is taken for the question that it was given to. Guarded by lease and
             linearizable.",
        )
        .clients(leases)
        .steps([500, 2500], &Action::Mute(LEADER, vec![Kind::Lease]), 1200)
        .step(When::At(4000), Action::Isolate(FOLLOWER, Direction::In), 1000)
        .reaches(&[markers::LEASE_QUESTION, markers::LEASE_EXPIRED])
        .tries(4),
        script(
            "clocks-are-set",
            "Wall clocks jump by an hour, forth and back, on the leader and on a follower that is then started
             anew. Leases count in monotonic time; ids that begin with the time must not come again. Guarded by
             lease, once and linearizable.",
        )
        .clients(leases)
        .steps([500, 3500], &Action::Clock(LEADER, ClockFault::Step(3_600_000)), 0)
        .steps([1500, 4500], &Action::Clock(LEADER, ClockFault::Step(-3_600_000)), 0)
        .steps([2000], &Action::Clock(Target::Member(2), ClockFault::Step(-3_600_000)), 0)
        .steps([2100], &Action::Kill(Target::Member(2)), 200)
        .reaches(&[markers::WALL_BACK, markers::LEASE_EXPIRED]),
        script(
            "clocks-drift",
            "One member's clock is five percent fast, another's as slow. Whoever leads decides when a lease has
             run out; a client is promised no more than the fastest legal clock allows. Guarded by lease.",
        )
        .clocks(&[(EXACT + 50_000, 0), (EXACT - 50_000, 0), (EXACT, 0)])
        .clients(leases)
        .clients(|workload| workload.weights.keep_alive = 12)
        .steps([1500, 4500], &Action::MoveLeader(1), 0)
        .steps([3000, 6000], &Action::MoveLeader(2), 0)
        .reaches(&[markers::LEASE_EXPIRED, markers::LEASE_SURVIVED])
        .tries(4),
        script(
            "clock-stands-still",
            "The clock of the leader stands still, as on a machine that is being moved, and makes up for it at
             once or never. Leases may live longer then, or be revoked at once; never without a leader's proof.
             Guarded by lease and liveness.",
        )
        .clients(leases)
        .step(When::At(800), Action::Clock(LEADER, ClockFault::Freeze(false)), 1800)
        .step(When::At(3500), Action::Clock(LEADER, ClockFault::Freeze(true)), 1800)
        .reaches(&[markers::CLOCK_FROZEN, markers::LEASE_EXPIRED])
        .tries(4),
    ]
}
