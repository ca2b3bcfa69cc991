//! Processes that die, machines that lose power, disks that fail.

use super::{FOLLOWER, LEADER, Script, script};
use crate::markers;
use crate::nemesis::{Action, DiskFault, Target, When};
use crate::workload::Weights;

const ONLY: Target = Target::Member(1);

pub(super) fn all() -> Vec<Script> {
    vec![
        script(
            "single-member-acknowledges-what-is-durable",
            "etcd #14370: a cluster of one answered before its log was synced, and lost the write with the
             power. Power is cut the moment an entry is committed, again and again. Guarded by once,
             linearizable and promises.",
        )
        .members(1)
        .syncs_take(5)
        .clients(|workload| workload.pause_ms = 10)
        .step(When::Committed(300, 3), Action::PowerCut(ONLY), 150)
        .step(When::Committed(800, 5), Action::PowerCut(ONLY), 150)
        .step(When::Committed(1300, 2), Action::PowerCut(ONLY), 150)
        .step(When::Committed(1800, 7), Action::PowerCut(ONLY), 150)
        .step(When::Committed(2300, 1), Action::PowerCut(ONLY), 150)
        .reaches(&[markers::UNSYNCED_LOST, markers::ALL_LOST_POWER]),
        script(
            "applied-once-across-kills",
            "etcd #13766: the applied index and its effects were written in different transactions, so that a
             kill under load made members apply entries twice or never. Here the database commits all the time
             and members are killed all the time. Guarded by applied-once and convergence.",
        )
        .tuned(|tuning| {
            tuning.backend_interval_ms = 5;
            tuning.backend_batch_operations = 2;
        })
        .clients(|workload| workload.pause_ms = 10)
        .steps([300, 1300, 2300], &Action::Kill(FOLLOWER), 60)
        .steps([600, 1600, 2600], &Action::Kill(Target::Follower(3)), 60)
        .steps([900, 1900, 2900], &Action::PowerCut(FOLLOWER), 60)
        .reaches(&[markers::REPLAYED]),
        script(
            "revision-after-a-restart",
            "etcd #14685: after a defragmentation and a crash, revisions went back. A member is stopped in
             order, killed and cut off its power in turn, around compactions; its revision may only grow.
             Guarded by applied-once, unique-revision and promises.",
        )
        .tuned(|tuning| tuning.compaction_batch = 3)
        .asking(Weights { put: 20, delete: 10, compact: 4, get: 5, hash: 3, ..Weights::default() })
        .steps([400, 1800, 3200], &Action::Restart(Target::Member(2)), 400)
        .steps([900, 2300, 3700], &Action::Kill(Target::Member(2)), 100)
        .steps([1300, 2700, 4100], &Action::PowerCut(Target::Member(2)), 100)
        .reaches(&[markers::REPLAYED, markers::COMPACTION]),
        script(
            "everybody-loses-power",
            "The whole rack goes dark at once, three times, under load. What was acknowledged was durable on a
             majority; so it is there when the power comes back, whatever else was torn. Guarded by once,
             promises and convergence.",
        )
        .syncs_take(10)
        .clients(|workload| {
            workload.clients = 6;
            workload.pause_ms = 10;
        })
        .steps([500, 2200, 3900], &Action::PowerCutAll, 300)
        .reaches(&[markers::ALL_LOST_POWER, markers::UNSYNCED_LOST, markers::REPLAYED]),
        script(
            "torn-end-of-a-log",
            "etcd of 2023 (fixed in 3.5.7) did not start behind a log whose last record was written in part.
             Disks that sync slowly lose power under load; recovery cuts off what is torn and nothing else.
             Guarded by promises and no-panic.",
        )
        .syncs_take(5)
        .clients(|workload| {
            workload.clients = 10;
            workload.pause_ms = 3;
            workload.calls = 300;
            workload.large_value = 4000;
        })
        .steps([400, 1000, 1600, 2200, 2800], &Action::PowerCut(FOLLOWER), 100)
        .steps([700, 1300, 1900, 2500, 3100], &Action::PowerCut(Target::Follower(3)), 100)
        .reaches(&[markers::TORN_TAIL])
        .tries(5),
        script(
            "crash-in-a-recovery",
            "A member loses power; while it reads and repairs its log, its device dies, and it recovers once
             more from what that left. A repair that is not safe to repeat turns a torn end into a gap.
             Guarded by promises.",
        )
        .syncs_take(4)
        .clients(|workload| workload.pause_ms = 10)
        .steps([400, 1900, 3400], &Action::KillTwice(LEADER), 600)
        .steps([1200, 2700, 4200], &Action::KillTwice(FOLLOWER), 600)
        .reaches(&[markers::DIED_RECOVERING]),
        script(
            "rolling-restart",
            "One member after another is restarted, as an operator does for an upgrade; then all are killed
             one after another. Clients notice at most time-outs. Guarded by liveness, once and watch.",
        )
        .step(When::At(300), Action::Restart(Target::Member(1)), 600)
        .step(When::At(1200), Action::Restart(Target::Member(2)), 600)
        .step(When::At(2100), Action::Restart(Target::Member(3)), 600)
        .step(When::At(3200), Action::RollingKill, 1200)
        .clients(|workload| workload.watchers = 3)
        .reaches(&[markers::RESUMED, markers::UNCOMMITTED_TAIL])
        .tries(5),
        script(
            "device-dies-under-a-write",
            "The leader's device dies at some operation: of what was written and not synced any part is there
             when it comes back. Nothing may have been acknowledged on the strength of the write alone.
             Guarded by promises and once.",
        )
        .syncs_take(3)
        .clients(|workload| workload.pause_ms = 10)
        .step(When::At(400), Action::Disk(LEADER, DiskFault::DiesAt(7)), 500)
        .step(When::At(1700), Action::Disk(LEADER, DiskFault::DiesAt(18)), 500)
        .step(When::At(3000), Action::Disk(FOLLOWER, DiskFault::DiesAt(12)), 500)
        .reaches(&[markers::DIED_UNSYNCED]),
        script(
            "failed-sync-on-the-leader",
            "fsync fails once and would succeed the next time, with the pages gone (PostgreSQL, 2018). The
             leader must stop, not try again. Guarded by promises and once.",
        )
        .clients(|workload| workload.pause_ms = 10)
        .steps([400, 1800, 3200], &Action::Disk(LEADER, DiskFault::SyncFails), 400)
        .reaches(&[markers::STOPPED_BY_DISK]),
        script(
            "full-disk-on-the-leader",
            "The leader's disk has no room left, later a follower's. Whoever cannot write stops and
             acknowledges nothing; the others go on. Guarded by once and liveness.",
        )
        .tuned(|tuning| tuning.wal_segment_bytes = 16 << 10)
        .clients(|workload| {
            workload.pause_ms = 10;
            workload.large_value = 4000;
        })
        .step(When::At(400), Action::Disk(LEADER, DiskFault::Full), 1500)
        .step(When::At(2400), Action::Disk(FOLLOWER, DiskFault::Full), 1500)
        .reaches(&[markers::STOPPED_BY_DISK])
        .tries(4),
        script(
            "rotten-database",
            "Bits of a follower's database flip at rest. The database's pages have no checksums of their own,
             so values carry one; the member refuses to start or to serve rather than tell lies. Guarded by
             convergence, linearizable and serializable.",
        )
        .clients(|workload| workload.pause_ms = 20)
        .step(When::At(1200), Action::Disk(Target::Member(3), DiskFault::Rot(200)), 100)
        .step(When::At(1500), Action::Kill(Target::Member(3)), 200)
        .step(When::At(2800), Action::Kill(Target::Member(3)), 200)
        .reaches(&[markers::REFUSED_TO_START])
        .tries(5),
    ]
}
