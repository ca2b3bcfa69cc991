//! Followers that lag too far behind: a whole database on its way.

use super::{LEADER, Script, script};
use crate::bus::Kind;
use crate::markers;
use crate::nemesis::{Action, Direction, Target, When};

const LAGGARD: Target = Target::Member(3);

/// A member is away for long enough that it needs a snapshot.
fn laggard(name: &str, story: &str) -> Script {
    script(name, story)
        .tuned(|tuning| {
            tuning.catchup_entries = 3;
            tuning.backend_interval_ms = 20;
            tuning.wal_segment_bytes = 16 << 10;
        })
        .clients(|workload| {
            workload.pause_ms = 15;
            workload.calls = 220;
            workload.watchers = 3;
        })
        .step(When::At(200), Action::Isolate(LAGGARD, Direction::Both), 1500)
}

pub(super) fn all() -> Vec<Script> {
    vec![
        laggard(
            "snapshot-to-a-laggard",
            "A follower is away until the log that it needs is gone, and gets a snapshot under load, with
             clients watching on it. Everything switches as one: keys, leases, applied index (etcd #15271 and
             the list of its changelogs). Guarded by applied-once, watch and convergence.",
        )
        .reaches(&[
            markers::SNAPSHOT_SENT,
            markers::SNAPSHOT_INSTALLED,
            markers::INSTALLED_UNDER_WATCHERS,
        ]),
        laggard(
            "snapshot-interrupted-and-repeated",
            "The receiver dies while a snapshot is on its way, then the snapshot does not get through. Half a
             database must never be taken for a whole one; the leader offers another. Guarded by promises,
             agreement and liveness.",
        )
        .step(When::Reached(300, markers::SNAPSHOT_SENT.into()), Action::Kill(LAGGARD), 300)
        .step(When::At(1900), Action::Mute(LAGGARD, vec![Kind::Snapshot]), 900)
        .reaches(&[markers::SNAPSHOT_INTERRUPTED, markers::SNAPSHOT_AGAIN, markers::SNAPSHOT_INSTALLED])
        .tries(5),
        laggard(
            "snapshot-of-a-dead-leader",
            "The sender of a snapshot dies in the middle; the next leader sends one of its own, of another
             index and term. Guarded by agreement and convergence.",
        )
        .step(When::Reached(300, markers::SNAPSHOT_SENT.into()), Action::Kill(LEADER), 600)
        .step(When::Reached(2400, markers::SNAPSHOT_SENT.into()), Action::PowerCut(LEADER), 600)
        .step(When::At(2600), Action::Isolate(LAGGARD, Direction::Both), 1500)
        .reaches(&[markers::SNAPSHOT_SENT, markers::SNAPSHOT_INSTALLED])
        .tries(4),
        laggard(
            "power-cut-behind-an-install",
            "Power goes the moment a received database has taken the place of the old one, before the log
             says so. etcd once overwrote the applied index of a received snapshot with its old one (3.5.3),
             and once did not start behind a log that began later than the database (3.4). Guarded by promises
             and applied-once.",
        )
        .step(When::Reached(300, markers::SNAPSHOT_INSTALLED.into()), Action::PowerCut(LAGGARD), 200)
        .step(When::At(2600), Action::Isolate(LAGGARD, Direction::Both), 1200)
        .step(When::Reached(2700, markers::SNAPSHOT_INSTALLED.into()), Action::KillTwice(LAGGARD), 600)
        .reaches(&[markers::SNAPSHOT_INSTALLED])
        .tries(4),
        laggard(
            "one-snapshot-after-the-other",
            "etcd #18055: two snapshots at once made the process fall. The follower is away again and again,
             and the network repeats and delays what is sent to it. Guarded by no-panic and convergence.",
        )
        .network(crate::bus::Network {
            latency: 4,
            duplicate_percent: 30,
            replay_percent: 20,
            reorder: true,
            loss_percent: 5,
            ..crate::bus::Network::CALM
        })
        .step(When::At(2100), Action::Flap(LAGGARD, 250), 2500)
        .step(When::At(2200), Action::Isolate(Target::Member(2), Direction::Both), 900)
        .reaches(&[markers::SNAPSHOT_INSTALLED, markers::SNAPSHOT_INTERRUPTED])
        .tries(5),
    ]
}
