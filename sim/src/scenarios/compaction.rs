//! Compactions: what they may take, what they must leave, and what a crash makes of them.

use super::{FOLLOWER, LEADER, Script, script};
use crate::markers;
use crate::nemesis::{Action, Target, When};
use crate::setup::Tuning;
use crate::workload::Weights;

/// Every compaction takes long, in small steps.
fn slowly(tuning: &mut Tuning) {
    tuning.compaction_batch = 1;
    tuning.compaction_pause_ms = 60;
    tuning.backend_interval_ms = 20;
}

pub(super) fn all() -> Vec<Script> {
    vec![
        script(
            "revision-after-a-crash-in-a-compaction",
            "etcd #17780: the newest revision was a tombstone, a compaction removed it, the process crashed in
             the middle, and the revision went back. Keys are deleted and compacted all the time, and members
             die in compactions. Guarded by applied-once, unique-revision and compaction.",
        )
        .tuned(slowly)
        .asking(Weights { put: 12, delete: 14, compact: 5, get: 4, hash: 3, ..Weights::default() })
        .clients(|workload| {
            workload.keys = 3;
            workload.clients = 2;
        })
        .step(When::Reached(300, markers::COMPACTION.into()), Action::Kill(LEADER), 200)
        .step(When::Reached(1500, markers::COMPACTION.into()), Action::PowerCutAll, 200)
        .step(When::Reached(2700, markers::COMPACTION.into()), Action::KillTwice(FOLLOWER), 400)
        .step(When::Reached(3900, markers::COMPACTION.into()), Action::PowerCutAll, 200)
        .reaches(&[markers::COMPACTION_UNFINISHED]),
        script(
            "tombstone-at-the-boundary",
            "etcd #18089: a compaction at the very revision of a deletion took its tombstone with it, and who
             watched from that revision never heard of the deletion. Two keys, mostly deleted, compacted at the
             newest revision, watched from where the past ends. Guarded by watch and compaction.",
        )
        .asking(Weights { put: 12, delete: 12, compact: 8, past_read: 5, hash: 3, ..Weights::default() })
        .clients(|workload| {
            workload.keys = 2;
            workload.watchers = 6;
            workload.calls = 200;
            workload.pause_ms = 40;
        })
        .steps([1000, 2500], &Action::Kill(FOLLOWER), 200)
        .reaches(&[markers::COMPACTION, markers::OPENED_BEHIND, markers::WATCH_COMPACTED]),
        script(
            "watch-during-a-compaction",
            "etcd #19179: whether a watcher's start was compacted was looked up, and history read, without one
             lock around both; a compaction in between made a gap. Slow compactions, crashes in them, and
             watchers that come with every revision of the recent past. Guarded by watch.",
        )
        .tuned(slowly)
        .tuned(|tuning| tuning.watch_batch_revisions = 1)
        .asking(Weights { put: 15, delete: 10, compact: 6, ..Weights::default() })
        .clients(|workload| {
            workload.keys = 4;
            workload.watchers = 8;
            workload.calls = 200;
            workload.pause_ms = 40;
        })
        .step(When::Reached(800, markers::COMPACTION.into()), Action::Kill(FOLLOWER), 150)
        .step(When::Reached(2000, markers::COMPACTION.into()), Action::PowerCut(Target::Follower(2)), 150)
        .reaches(&[markers::OPENED_BEHIND, markers::OVERTAKEN, markers::CAUGHT_UP_UNDER_LOAD])
        .tries(5),
        script(
            "transaction-with-a-compacted-range",
            "etcd #18667: a transaction had written when it found that a range of it asked for a compacted
             revision; half of it stayed. And with PR 21432: members that were at different points of a
             compaction answered differently. It is refused as a whole, everywhere. Guarded by once,
             applied-once and convergence.",
        )
        .tuned(slowly)
        .asking(Weights { put: 10, delete: 4, txn: 25, compact: 6, ..Weights::default() })
        .clients(|workload| {
            workload.keys = 4;
            workload.clients = 6;
        })
        .steps([1500, 3000], &Action::Kill(FOLLOWER), 300)
        .reaches(&[markers::TXN_COMPACTED, markers::REFUSED_COMPACTED])
        .tries(4),
        script(
            "reading-what-is-being-compacted",
            "Readers of the past and compactions race; a read is answered whole from its revision, or refused.
             Physical compactions are answered when their work is done, also across crashes. Guarded by
             linearizable, serializable and compaction.",
        )
        .tuned(slowly)
        .asking(Weights {
            put: 15,
            delete: 5,
            past_read: 30,
            list: 5,
            compact: 8,
            hash: 4,
            ..Weights::default()
        })
        .clients(|workload| {
            workload.clients = 8;
            workload.pause_ms = 10;
            workload.keys = 8;
        })
        .step(When::Reached(700, markers::COMPACTION.into()), Action::Restart(LEADER), 300)
        .reaches(&[markers::READ_COMPACTED, markers::COMPACTED_PHYSICALLY])
        .tries(5),
    ]
}
