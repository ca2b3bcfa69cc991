//! Watchers: behind, ahead, slow, cut off, and served from elsewhere.

use super::{FOLLOWER, LEADER, Script, script};
use crate::markers;
use crate::nemesis::{Action, Direction, Target, When};
use crate::workload::Weights;

const EVENTS: Weights = Weights {
    put: 25,
    delete: 8,
    compare_and_swap: 5,
    txn: 6,
    get: 2,
    list: 0,
    past_read: 0,
    compact: 0,
    lease_grant: 2,
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
            "watch-under-a-snapshot",
            "etcd #15271: after a partition a member got a snapshot, and fed events to its watchers again that
             they had heard already. Watchers stay on a member that is cut off and caught up by snapshots.
             Guarded by watch (ordered, unique, no gap).",
        )
        .tuned(|tuning| {
            tuning.catchup_entries = 2;
            tuning.backend_interval_ms = 20;
            tuning.wal_segment_bytes = 16 << 10;
        })
        .asking(EVENTS)
        .clients(|workload| {
            workload.watchers = 8;
            workload.pause_ms = 20;
            workload.calls = 220;
        })
        .step(When::At(300), Action::Isolate(Target::Member(1), Direction::Both), 1200)
        .step(When::At(1800), Action::Isolate(Target::Member(2), Direction::Both), 1200)
        .step(When::At(3300), Action::Isolate(Target::Member(3), Direction::Both), 1200)
        .reaches(&[markers::INSTALLED_UNDER_WATCHERS]),
        script(
            "progress-ahead-of-events",
            "etcd #15220: a stream was told of progress while a watcher on it was still catching up, and the
             events came after. Clients ask for progress right after they ask for the past. Guarded by watch
             (no event at or below an announced revision).",
        )
        .tuned(|tuning| {
            tuning.watch_progress_ms = 100;
            tuning.watch_batch_revisions = 1;
        })
        .asking(EVENTS)
        .clients(|workload| {
            workload.watchers = 10;
            workload.pause_ms = 20;
            workload.calls = 220;
        })
        .reaches(&[markers::PROGRESS_BEHIND, markers::PROGRESS_AFTER, markers::PROGRESS_PERIODIC]),
        script(
            "slow-reader-and-a-compaction",
            "etcd #17529: a watcher that read too slowly was skipped by a compaction and lost events without a
             word. Readers that pause, small budgets for their streams, and compactions close behind. Guarded
             by watch (all events, or an end that says compacted).",
        )
        .tuned(|tuning| {
            tuning.watch_stream_bytes = 300;
            tuning.watch_batch_revisions = 3;
        })
        .asking(Weights { compact: 3, ..EVENTS })
        .clients(|workload| {
            workload.watchers = 10;
            workload.slow_reader_percent = 25;
            workload.pause_ms = 20;
            workload.calls = 220;
        })
        .reaches(&[markers::FELL_BACK, markers::OVERTAKEN])
        .tries(4),
        script(
            "watch-of-the-future",
            "etcd #20221: a watcher that asked for a revision yet to come was put among those that are up to
             date, and heard of old events and of progress. Guarded by watch (nothing below its start).",
        )
        .tuned(|tuning| tuning.watch_progress_ms = 100)
        .asking(EVENTS)
        .clients(|workload| {
            workload.watchers = 12;
            workload.pause_ms = 20;
            workload.calls = 220;
        })
        .step(When::At(1500), Action::Restart(FOLLOWER), 300)
        .reaches(&[markers::FUTURE_WATCH])
        .tries(4),
        script(
            "responses-in-fragments",
            "Revisions that are larger than a response may be are sent in parts, and only the last part is not
             marked as one. Streams break in the middle of them. Guarded by watch (a revision is never split
             for who did not ask for it).",
        )
        .tuned(|tuning| tuning.watch_response_bytes = 150)
        .asking(Weights { txn: 20, delete: 12, ..EVENTS })
        .clients(|workload| {
            workload.watchers = 10;
            workload.pause_ms = 30;
            workload.keys = 12;
        })
        .steps([1500, 3000], &Action::Kill(FOLLOWER), 200)
        .reaches(&[markers::FRAGMENTED]),
        script(
            "watchers-move-on",
            "Members are restarted under their watchers, which resume where they were, each on the same member
             from the next revision (etcd #17247 delivered events twice from a cache). Every member tells the
             same story. Guarded by watch.",
        )
        .asking(EVENTS)
        .clients(|workload| {
            workload.watchers = 4;
            workload.pause_ms = 20;
            workload.calls = 200;
        })
        .steps([500, 2000, 3500], &Action::Kill(FOLLOWER), 200)
        .steps([1200, 2700], &Action::PowerCut(LEADER), 200)
        .reaches(&[markers::RESUMED]),
    ]
}
