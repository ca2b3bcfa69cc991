//! Planted bugs: mistakes that the simulator must find, to prove that it would find real ones.
//!
//! Each [`Bug`] has a switch at the place where such a mistake would really be made, a few lines below
//! an `if planted::is(...)`. They are there in builds with the feature `planted` alone, which no release
//! can have; in any other [`is`] is a constant `false` and the compiler drops what hangs on it.
//!
//! ```text
//!   cargo sim planted --> arm(bug), once in the process --> seeds --> which claim caught it, and when
//! ```
//!
//! Invariants:
//! - one bug at most is armed in a process, from before its first run on: a run follows from its seed and
//!   the armed bug alone;
//! - a bug changes what the code does and nothing else: no switch draws a random number or keeps a state
//!   of its own.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("a release has no planted bugs: build without the feature `planted`");

/// What the simulator claims of every run. Its checkers and its monitor carry the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// A vote or an acknowledgement leaves when it is durable, and nothing durable is missing after a crash.
    Promises,
    /// One leader a term; logs match; what is committed is on a durable majority, and stays.
    Agreement,
    /// What a member has applied is the committed log, each entry once and in order.
    AppliedOnce,
    /// A request happens once or never: what was acknowledged is not lost, what failed did not happen.
    Once,
    /// Answers are those of one store that does one thing after the other, and reads are never old.
    Linearizable,
    /// A serializable read is right for a state that the store had by then.
    Serializable,
    /// No revision is used twice.
    UniqueRevision,
    /// Members hold the same.
    Convergence,
    /// What is compacted stays compacted.
    Compaction,
    /// Watchers hear every event once, in order, whole revisions, and true progress.
    Watch,
    /// In a healed cluster every watcher hears of everything.
    WatchCaughtUp,
    /// A lease lives as long as was promised, and not much longer.
    Lease,
    /// A lock is held by one at a time, in the order of the line.
    Lock,
    /// One leads an election at a time.
    Election,
    /// Observers of an election hear of its leaders in order.
    Observe,
    /// Want of space stops what takes space, and nothing else.
    Quota,
    /// The log gives back what it confirmed, and refuses damage.
    WalRecovery,
    /// The database is after a crash what its last commits made it.
    BackendPrefix,
    /// Changes of members happen once, and who was removed has no vote.
    Membership,
    /// When faults have ended every call is answered, and every member catches up.
    Liveness,
    /// No assertion of the server fails.
    NoPanic,
}

impl Claim {
    /// Its name, as reports show it.
    pub const fn name(self) -> &'static str {
        match self {
            Claim::Promises => "promises",
            Claim::Agreement => "agreement",
            Claim::AppliedOnce => "applied-once",
            Claim::Once => "once",
            Claim::Linearizable => "linearizable",
            Claim::Serializable => "serializable",
            Claim::UniqueRevision => "unique-revision",
            Claim::Convergence => "convergence",
            Claim::Compaction => "compaction",
            Claim::Watch => "watch",
            Claim::WatchCaughtUp => "watch-caught-up",
            Claim::Lease => "lease",
            Claim::Lock => "lock",
            Claim::Election => "election",
            Claim::Observe => "observe",
            Claim::Quota => "quota",
            Claim::WalRecovery => "wal-recovery",
            Claim::BackendPrefix => "backend-prefix",
            Claim::Membership => "membership",
            Claim::Liveness => "liveness",
            Claim::NoPanic => "no-panic",
        }
    }
}

/// Declares the bugs: variant, name, what is wrong, who should find it; and for those that cannot show in
/// a run yet, what they wait for.
macro_rules! bugs {
    ($($bug:ident, $name:literal, $wrong:literal, [$($claim:ident),+] $(, waits: $waits:literal)?;)+) => {
        /// A mistake that can be switched on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $(#[doc = $wrong] $bug,)+
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &'static [Bug] = &[$(Bug::$bug),+];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$bug => $name),+ }
            }

            /// What is wrong, in one sentence.
            pub const fn wrong(self) -> &'static str {
                match self { $(Bug::$bug => $wrong),+ }
            }

            /// The claims of which one should find it, the likeliest first.
            pub const fn claims(self) -> &'static [Claim] {
                match self { $(Bug::$bug => &[$(Claim::$claim),+]),+ }
            }

            /// What has to come before it can show in a run; none for a bug that can.
            pub const fn waits_for(self) -> Option<&'static str> {
                match self {
                    $($(Bug::$bug => Some($waits),)?)+
                    #[allow(unreachable_patterns, reason = "every bug may wait one day")]
                    _ => None,
                }
            }
        }
    };
}

bugs! {
    // The log on disk.
    WalWithoutSync, "wal-without-sync",
        "The log is written but not synced before anybody hears of it.",
        [Promises, WalRecovery, Agreement, Once];
    SyncErrorIgnored, "sync-error-ignored",
        "A failed sync of the log counts as a success.",
        [WalRecovery, Promises, Agreement, Once];
    DamageTakenForTornTail, "damage-taken-for-torn-tail",
        "Damage in the middle of the log is cut off as if a crash had torn its last batch.",
        [WalRecovery, Promises, Agreement, Once];
    RecycledTailAccepted, "recycled-tail-accepted",
        "What a recycled segment held before is read as if it belonged to the log.",
        [WalRecovery, Liveness, Promises];
    LogReleasedTooFar, "log-released-too-far",
        "A segment is let go although its last entry is one that the database does not hold.",
        [WalRecovery, Liveness, Promises];
    LogReleasedTooEarly, "log-released-too-early",
        "The log is told that the database holds a batch when the batch is handed out, not when it is in.",
        [Liveness, Promises];

    ReplayKeepsOldTail, "replay-keeps-old-tail",
        "When the log is read, an entry that replaces another leaves those behind it.",
        [WalRecovery, Promises, Agreement, NoPanic, Liveness];

    // Replication.
    VoteBeforeDurable, "vote-before-durable",
        "A vote leaves before it is on disk.",
        [Promises, Agreement];
    VoteNotWritten, "vote-not-written",
        "A vote in a term that was known already is not written at all.",
        [Promises, Agreement];
    VoteForgotten, "vote-forgotten",
        "A restart forgets whom the member voted for.",
        [Promises, Agreement];
    AppendAcknowledgedBeforeDurable, "append-acknowledged-before-durable",
        "A follower acknowledges entries before they are on its disk.",
        [Promises, Agreement];
    LeaderCountsItselfEarly, "leader-counts-itself-early",
        "A leader counts its own copy of an entry before that is on its disk.",
        [Agreement, Once];
    AnsweredBeforeQuorum, "answered-before-quorum",
        "A leader commits, applies and answers what is on its own disk alone.",
        [Agreement, Once, NoPanic];
    OldTermCommitted, "old-term-committed",
        "A leader commits an entry of an earlier term by counting its copies (Raft, figure 8).",
        [Agreement, NoPanic],
        waits: "elections in one certain order, which no plan is drawn for: `cargo sim scenarios raft-figure-8` finds it";
    ProposalRetried, "proposal-retried",
        "A proposal that is not answered within a tick is proposed a second time.",
        [Once, Linearizable];
    ForwardedTwice, "forwarded-twice",
        "A forwarded proposal that the network delivers twice is taken twice.",
        [Once, Linearizable];
    ConfChangeTwice, "conf-change-twice",
        "The addition of a learner is carried out a second time, behind its promotion.",
        [Membership],
        waits: "member changes";
    RemovedStillVotes, "removed-still-votes",
        "A removed member stays a voter for raft.",
        [Membership, Liveness],
        waits: "member changes";


    // Linearizable reads.
    ReadWithoutRound, "read-without-round",
        "A leader answers read index requests without asking whether it still leads.",
        [Linearizable];
    LeaderReadsAtOnce, "leader-reads-at-once",
        "A leader of several members reads from its newest view without any read index.",
        [Linearizable];
    ReadNotWaiting, "read-not-waiting",
        "A read does not wait until its read index has been applied.",
        [Linearizable];
    ReadJoinsRunningRound, "read-joins-running-round",
        "A read joins the round of heartbeats that is under way, whose answer may be older than the read.",
        [Linearizable];
    ReadStateMisplaced, "read-state-misplaced",
        "The answer to an earlier read index request is taken for that of a newer one.",
        [Linearizable];
    ReplyBeforeView, "reply-before-view",
        "A write is acknowledged before a view that shows it is published.",
        [Linearizable];

    SerializableIfAny, "serializable-if-any",
        "A transaction of reads is answered from what the member has if one of them may be.",
        [Linearizable];
    StreamReadsLocally, "stream-reads-locally",
        "A streamed range is answered from what the member has.",
        [Linearizable];
    ReadFollowsAnother, "read-follows-another",
        "A read whose index is not applied yet is served together with one whose index is.",
        [Linearizable];

    // The database and what is restored from it.
    AppliedIndexFirst, "applied-index-first",
        "The applied index is committed in a transaction of its own, before the effects.",
        [AppliedOnce, BackendPrefix, Convergence];
    AppliedIndexLast, "applied-index-last",
        "The applied index is committed in a transaction of its own, behind the effects.",
        [AppliedOnce, BackendPrefix, Convergence];
    SnapshotKeepsOldIndex, "snapshot-keeps-old-index",
        "When a snapshot is installed, the key space in memory stays as it was.",
        [AppliedOnce, Convergence, NoPanic];
    SnapshotWithoutLeases, "snapshot-without-leases",
        "A received database lacks the leases.",
        [AppliedOnce, Linearizable, Lease];
    SnapshotSkipsWatchers, "snapshot-skips-watchers",
        "Watchers are not shown what a snapshot brought that they had not seen.",
        [Watch, WatchCaughtUp];
    InstallOvertaken, "install-overtaken",
        "The log restarts behind a snapshot before its database is in place.",
        [Liveness, Promises];
    CompactionForgotten, "compaction-forgotten",
        "A restart forgets that the store is compacted.",
        [Compaction, Linearizable];

    RestoreSplitsRevision, "restore-splits-revision",
        "A restart loses the rest of a revision that does not fit into a page.",
        [AppliedOnce, Convergence, Linearizable];
    RecentLostBeforeFlush, "recent-lost-before-flush",
        "Recent changes are let go of before the database has them.",
        [Liveness, NoPanic];

    // The state machine.
    LocalClockInApply, "local-clock-in-apply",
        "Whether a put finds its lease depends on the clock of the member that applies it.",
        [AppliedOnce, Linearizable, Convergence];
    RevokeInHashOrder, "revoke-in-hash-order",
        "The keys of a revoked lease are deleted in an order that differs from member to member.",
        [Convergence, Watch];
    RevokeLeavesKey, "revoke-leaves-key",
        "The last key of a revoked lease is not deleted.",
        [AppliedOnce, Linearizable, Convergence];
    RevokedLeaseReturns, "revoked-lease-returns",
        "A revoked lease stays in the database, and is there again after a restart.",
        [Linearizable, AppliedOnce];
    AlarmIgnored, "alarm-ignored",
        "What needs space is applied although the alarm for the lack of it is raised.",
        [Quota, Linearizable];

    AlarmsForgotten, "alarms-forgotten",
        "A restart forgets the alarms.",
        [AppliedOnce, Quota];
    AlarmsOfOldDatabase, "alarms-of-old-database",
        "A received database brings alarms that nobody is shown.",
        [AppliedOnce, Serializable];
    AlarmClearsAll, "alarm-clears-all",
        "Clearing the alarm of one member clears those of all.",
        [AppliedOnce, Linearizable];
    QuotaRaisesNoAlarm, "quota-raises-no-alarm",
        "A member that lacks space refuses requests and tells nobody.",
        [Liveness];

    // The key space.
    CompactionOffByOne, "compaction-off-by-one",
        "A compaction removes as if it were one revision further.",
        [Linearizable, Serializable, NoPanic];
    TombstoneDropped, "tombstone-dropped",
        "A compaction removes the tombstone at its own revision.",
        [Watch, WatchCaughtUp];
    FutureRevisionAnswered, "future-revision-answered",
        "A read at a revision that is still to come is answered from the present.",
        [Linearizable, Serializable];
    CountOfThePresent, "count-of-the-present",
        "Counting the keys at a past revision counts those of the present.",
        [Linearizable, Serializable];
    LongHistoryMisread, "long-history-misread",
        "A range in the past finds one revision too much of a key with a long history.",
        [Linearizable, Serializable];
    PreviousTooOld, "previous-too-old",
        "The previous key-value of an event is the one before the previous.",
        [Watch];

    CompactedRevisionRefused, "compacted-revision-refused",
        "The revision up to which the store is compacted cannot be read.",
        [Linearizable, Serializable];
    LimitBeforeFilters, "limit-before-filters",
        "A limit cuts a range before its filters are looked at.",
        [Linearizable, Serializable];
    CountCutByLimit, "count-cut-by-limit",
        "The count of a range that a limit cuts is that of what is left.",
        [Linearizable, Serializable];
    VersionSurvivesDeletion, "version-survives-deletion",
        "A key that was deleted does not begin with version 1 again.",
        [Linearizable, AppliedOnce];
    PreviousInsideTransaction, "previous-inside-transaction",
        "The previous key-value of an event is one that its own transaction has made.",
        [Watch];
    PageSplitsRevision, "page-splits-revision",
        "Watchers that read history miss the rest of a revision that does not fit into a page.",
        [Watch, WatchCaughtUp];
    CompactionNotResumed, "compaction-not-resumed",
        "A restart forgets that the work of a compaction is not done.",
        [Compaction];
    CompactionSkipsEntry, "compaction-skips-entry",
        "Each step of a compaction passes over one record.",
        [Compaction];
    HashCountsTombstones, "hash-counts-tombstones",
        "The hash covers tombstones that a compaction removes.",
        [Serializable, Convergence];

    // Transactions.
    NestedCompareSeesChanges, "nested-compare-sees-changes",
        "The compares of a nested transaction see what the transaction around it has changed.",
        [Linearizable];
    ValueCompareOnNothing, "value-compare-on-nothing",
        "A compare of the value of a key that does not exist may hold.",
        [Linearizable];
    IgnoreLeaseDetaches, "ignore-lease-detaches",
        "A put that keeps the lease of its key loses it.",
        [Linearizable, AppliedOnce];

    KeysOnlyLeaksValues, "keys-only-leaks-values",
        "A range in a transaction that asks for keys alone gives values.",
        [Linearizable];
    AnyKeyOfIntervalHolds, "any-key-of-interval-holds",
        "A compare of an interval holds when it does for one of its keys.",
        [Linearizable, AppliedOnce];
    NestedLeaseUnchecked, "nested-lease-unchecked",
        "A nested transaction may put with a lease that does not exist.",
        [Linearizable, AppliedOnce];

    // Watches.
    WatcherLost, "watcher-lost",
        "A watcher that has caught up is never fed again.",
        [WatchCaughtUp, Watch];
    WatcherSyncedTooEarly, "watcher-synced-too-early",
        "A watcher that lacks the newest revision counts as caught up.",
        [Watch];
    WatchStartsTooLate, "watch-starts-too-late",
        "A watcher begins one revision behind the one it asked for.",
        [Watch];
    RevisionSplit, "revision-split",
        "A response that holds many events is split anywhere, inside a revision too.",
        [Watch];
    FragmentFlagMissing, "fragment-flag-missing",
        "The pieces of a fragmented response are not marked as such.",
        [Watch];
    ProgressOfTheStore, "progress-of-the-store",
        "Progress is announced by what the store has reached, not by what the watcher was sent.",
        [Watch];
    ProgressBelowStart, "progress-below-start",
        "Progress is announced to a watcher whose start has not come.",
        [Watch];
    CompactedWatcherSkipsAhead, "compacted-watcher-skips-ahead",
        "A watcher whose next revision was compacted goes on behind the gap, and is not told.",
        [Watch];

    FilterSwallowsDeletions, "filter-swallows-deletions",
        "A watcher that wants no puts hears of no deletions either.",
        [Watch, WatchCaughtUp];
    CancelledWatcherGoesOn, "cancelled-watcher-goes-on",
        "A watcher that was cancelled still hears of events.",
        [Watch];
    FallBackSkipsRevision, "fall-back-skips-revision",
        "A watcher that falls back to history misses the first revision there.",
        [Watch, WatchCaughtUp];
    DrainedWatcherForgotten, "drained-watcher-forgotten",
        "When a stream has drained, its first watcher is not fed again.",
        [WatchCaughtUp, Watch];
    FutureWatcherHearsAtOnce, "future-watcher-hears-at-once",
        "A watcher hears of what comes before its start.",
        [Watch, NoPanic];
    FragmentLosesEvent, "fragment-loses-event",
        "The event at which a response is split is lost.",
        [Watch, WatchCaughtUp];

    // Leases.
    LeaseNotExtended, "lease-not-extended",
        "A new leader gives leases no time: they run out as soon as it leads.",
        [Lease];
    DeadlinesOutliveLeadership, "deadlines-outlive-leadership",
        "A leader that comes back goes on with the deadlines of its earlier term.",
        [Lease];
    KeepAliveUnproven, "keep-alive-unproven",
        "A leader renews leases without asking whether it still leads.",
        [Lease];
    OverwrittenKeyKeepsLease, "overwritten-key-keeps-lease",
        "A key that a put moves to another lease stays attached to the first as well.",
        [Linearizable, AppliedOnce, Convergence];
    DeletedKeyStaysAttached, "deleted-key-stays-attached",
        "A deleted key stays attached to its lease, and is deleted with it when it is there again.",
        [Linearizable, AppliedOnce];
    RestOfLeaseForgotten, "rest-of-lease-forgotten",
        "A restart forgets the rest of a lease that the log has told.",
        [Lease];
    RenewalWithoutReset, "renewal-without-reset",
        "A renewal is answered before the log takes back an earlier checkpoint.",
        [Lease];
    ExpiringLeaseRenewed, "expiring-lease-renewed",
        "A renewal is answered while the revoke of its lease is under way.",
        [Lease];
    LeaseAnswerMisplaced, "lease-answer-misplaced",
        "A leader's answer about a lease is taken for that to the oldest question.",
        [Linearizable, Lease];

    // Locks and elections.
    WaiterLooksOnce, "waiter-looks-once",
        "A waiter holds the lock when the one before it has gone, without looking who else is in front.",
        [Lock, Election];
    WaiterUnchecked, "waiter-unchecked",
        "A waiter whose lease is gone holds the lock when it is its turn.",
        [Lock];
    WaiterMissesDeletion, "waiter-misses-deletion",
        "A waiter does not hear of a departure right behind its look at the line.",
        [Liveness];
    LeaderByKey, "leader-by-key",
        "The leader of an election is whose key comes first in the order of keys.",
        [Linearizable, Observe];
    ObserverSkipsWords, "observer-skips-words",
        "Of several words that come together an observer hears the last one.",
        [Observe];
    ObserverFollowsLate, "observer-follows-late",
        "An observer misses what a leader says right behind the word that it has heard.",
        [Observe];
}

/// Whether this bug is armed in this process.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}

/// Nothing is left of any bug in a build without the feature.
#[cfg(not(feature = "planted"))]
const _: () = {
    let mut at = 0;
    while at < Bug::ALL.len() {
        assert!(!is(Bug::ALL[at]));
        at += 1;
    }
};

#[cfg(feature = "planted")]
pub use armed::{arm, is};

/// The switch of builds that have the bugs.
#[cfg(feature = "planted")]
mod armed {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::planted::Bug;

    /// The armed bug by its place, from 1; 0 for none.
    static ARMED: AtomicUsize = AtomicUsize::new(0);

    /// The bug that the unit tests run with, to see that some of them notice: `DETCD_PLANTED=<name>`.
    #[cfg(test)]
    static OF_TESTS: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("DETCD_PLANTED").ok()?;
        let found = Bug::ALL.iter().find(|bug| bug.name() == name);
        Some(*found.unwrap_or_else(|| panic!("no bug is called {name}")))
    });

    /// Switches a bug on, for the rest of the process. To be called once, before the first run.
    ///
    /// # Panics
    /// When another bug is armed: what a run finds could be either.
    pub fn arm(bug: Bug) {
        let before = ARMED.swap(bug as usize + 1, Ordering::Relaxed);
        assert!(before == 0 || before == bug as usize + 1, "bug number {before} is armed already");
    }

    /// Whether this bug is armed in this process.
    #[inline]
    pub fn is(bug: Bug) -> bool {
        #[cfg(test)]
        if *OF_TESTS == Some(bug) {
            return true;
        }
        ARMED.load(Ordering::Relaxed) == bug as usize + 1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own_and_a_sentence() {
        let names: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        for bug in Bug::ALL {
            let kebab = bug.name().chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
            assert!(kebab && bug.wrong().ends_with('.'), "{bug:?}: {} {}", bug.name(), bug.wrong());
            assert!(!bug.claims().is_empty(), "nobody would find {bug:?}");
        }
    }
}
