//! The rare paths that a batch of runs must reach, or it proves little.
//!
//! A marker is set where the path is (`Trace::mark`): by the monitor, the disk, the supervisor, or after
//! the run from what it left behind ([`crate::coverage`]). It is counted over the batch, and owed by the
//! batches of the profiles that stand beside it. The same table, for readers, is in `docs/simulation.md`; a
//! test holds both together.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::setup::Profile;

/// A rare path.
#[derive(Clone, Copy, Debug)]
pub struct Marker {
    /// Its name, short and in lower case.
    pub name: &'static str,
    /// What has happened when it is set.
    pub says: &'static str,
    /// The profiles whose batches owe it.
    pub owed: &'static [Profile],
}

/// Batches of clusters on the bus.
const BUS: &[Profile] = &[Profile::Lite, Profile::Watch, Profile::Lease];
/// Batches of any kind of cluster.
const ALL: &[Profile] = &[Profile::Lite, Profile::Full, Profile::Watch, Profile::Lease];
const LITE: &[Profile] = &[Profile::Lite];
const WATCH: &[Profile] = &[Profile::Watch];
const LITE_AND_WATCH: &[Profile] = &[Profile::Lite, Profile::Watch];
const LEASE: &[Profile] = &[Profile::Lease];
const LITE_AND_LEASE: &[Profile] = &[Profile::Lite, Profile::Lease];
/// Too rare for a batch that must end soon: the scenarios owe them.
const SCENARIOS: &[Profile] = &[];

/// Defines a constant with each marker's name, and the table of all.
macro_rules! markers {
    ($($constant:ident, $name:literal, $owed:expr, $says:literal;)*) => {
        $(#[doc = $says] pub const $constant: &str = $name;)*

        /// All of them.
        pub const MARKERS: &[Marker] = &[$(Marker { name: $name, says: $says, owed: $owed },)*];
    };
}

markers! {
    // Leaders and logs.
    UNCOMMITTED_TAIL, "leader changed with an uncommitted tail", ALL,
        "A member begins to lead while some log holds entries of an earlier term that are not committed.";
    TAIL_OVERWRITTEN, "tail overwritten", BUS,
        "A member replaces entries of its log by those of another leader.";
    OLD_ENTRY_ON_MAJORITY, "old entry on a majority", BUS,
        "An entry of an earlier term is durable on a majority and not committed: figure 8 (c) of Raft.";
    MAJORITY_OVERWRITTEN, "entry of a majority overwritten", SCENARIOS,
        "Such an entry is replaced by another leader's after all: figure 8 (d) of Raft.";
    OLD_ENTRY_COMMITTED, "old entry committed by a new leader", BUS,
        "An entry is first known to be committed in a later term than its own.";
    LEADER_NOT_DURABLE, "committed before its leader's disk", BUS,
        "An entry is on a majority of durable logs before it is durable on its leader.";
    CONFLICT_REFUSED, "conflicting append refused", ALL,
        "A follower refuses entries that do not follow its log.";
    VOTE_NOT_DURABLE, "crash before a vote was durable", BUS,
        "A member ends after it decided on a vote and before that was durable.";
    LEADER_TRANSFERRED, "leader transferred", BUS,
        "A member leads because the leader before it has handed over.";
    PROPOSAL_TWICE, "forwarded proposal came twice", LITE_AND_WATCH,
        "The network delivers a follower's proposal to the leader a second time.";

    // Snapshots.
    SNAPSHOT_SENT, "snapshot sent", ALL,
        "A leader sends its database to a follower that lags too far behind.";
    SNAPSHOT_INTERRUPTED, "snapshot interrupted", BUS,
        "A snapshot does not arrive whole, and its sender hears of that.";
    SNAPSHOT_AGAIN, "snapshot sent again", BUS,
        "A member gets another snapshot after one that did not arrive.";
    SNAPSHOT_INSTALLED, "snapshot installed", BUS,
        "A received database has taken the place of a member's own.";
    INSTALLED_UNDER_WATCHERS, "snapshot installed under watchers", BUS,
        "The same while clients watch on that member.";

    // Crashes and disks.
    REPLAYED, "log applied again", BUS,
        "A member begins with entries that its database does not hold, and applies them again.";
    UNSYNCED_LOST, "unsynced entries lost", BUS,
        "A member begins without entries that it had given to its log before the crash.";
    TORN_TAIL, "torn tail cut", BUS,
        "A log ends in a batch that was torn by a power cut, and recovery cuts it off.";
    DIED_RECOVERING, "died while recovering", BUS,
        "A member's device dies before the member has made its state whole again.";
    ALL_LOST_POWER, "all lost power and came back", BUS,
        "No member has power at some moment; later the cluster commits on top of what it had.";
    REFUSED_TO_START, "refused to start on damage", LITE,
        "A member finds its disk damaged and does not start.";
    STOPPED_BY_DISK, "stopped by a failing disk", BUS,
        "A running member stops because its disk fails.";
    DIED_UNSYNCED, "device died before a sync", BUS,
        "A device dies while it holds writes that were not synced.";
    COMPACTION_UNFINISHED, "began with a compaction unfinished", LITE_AND_WATCH,
        "A member begins with a compaction that an earlier run of it has not finished.";

    // Reads.
    READ_RETRIED, "read index asked again", BUS,
        "A follower asks its leader again to confirm a read.";
    READ_LOST, "read index lost with its leader", BUS,
        "A follower's question for a read index is open when it learns of another leader, or of none.";
    DEPOSED_READ, "read on a deposed leader waited", BUS,
        "A linearizable read comes to a leader that another one has replaced; it is not answered in that role.";
    STALE_READ, "stale serializable read", BUS,
        "A serializable read is answered from an older revision than one that was told before it began.";
    READ_COMPACTED, "compaction overtook a read", LITE_AND_WATCH,
        "A read of a revision that was there when it began is refused, since that has been compacted.";

    // Compactions.
    COMPACTION, "compaction committed", ALL,
        "A compaction is committed; its work in the background begins.";
    COMPACTED_PHYSICALLY, "physical compaction", BUS,
        "A client that waits for the end of a compaction's work is answered.";

    // Watches.
    OPENED_BEHIND, "watcher opened in the past", ALL,
        "A watcher is opened at a revision that its member has passed.";
    CAUGHT_UP_UNDER_LOAD, "watcher caught up under load", LITE_AND_WATCH,
        "A watcher hears of the past while revisions are added that are newer than the watcher.";
    FELL_BACK, "watcher fell back to history", WATCH,
        "A watcher that heard of events as they happened reads too slowly and is served from history.";
    OVERTAKEN, "compaction overtook a watcher", WATCH,
        "A watcher is cancelled by a compaction that came after the watcher.";
    WATCH_COMPACTED, "watch of a compacted revision refused", BUS,
        "A watcher asks for a revision that is compacted already.";
    FRAGMENTED, "response fragmented", WATCH,
        "A response is sent in several parts, as its watcher asked for.";
    FUTURE_WATCH, "watcher of the future heard", LITE_AND_WATCH,
        "A watcher that was opened ahead of the store's revision hears of its first event.";
    PROGRESS_BEHIND, "progress asked while behind", WATCH,
        "A client asks a stream for progress while one of its watchers has not heard of the past.";
    PROGRESS_AFTER, "progress told after catching up", WATCH,
        "The answer to such a question, behind the events.";
    PROGRESS_PERIODIC, "periodic progress", ALL,
        "A watcher is told of progress without a question.";
    RESUMED, "watcher resumed", ALL,
        "A client whose stream broke watches on from where it was.";

    // Leases.
    LEASE_EXPIRED, "lease expired", ALL,
        "A lease that nobody renewed is revoked by the cluster.";
    EXPIRED_AT_ELECTION, "lease expired around an election", LITE_AND_LEASE,
        "The same within two seconds of a new term.";
    EXPIRED_WITH_KEYS, "lease expired with several keys", LEASE,
        "A lease that runs out takes two keys or more with it, in one revision.";
    LEASE_SURVIVED, "lease survived a leader change", LITE_AND_LEASE,
        "A lease is renewed under a later leader than the one that granted it.";
    LEASE_CHECKPOINTED, "lease checkpointed", LEASE,
        "The rest of a long lease is written to the log.";
    LEASE_QUESTION, "lease question passed on", BUS,
        "A follower passes a client's question about a lease to the leader.";

    // Locks and elections.
    LOCK_WAITED, "lock handed over", BUS,
        "Somebody waits for a lock and gets it when the holder has gone.";
    LOCK_AGAIN, "lock held again", BUS,
        "Somebody asks for a lock that it holds.";
    WAITER_EXPIRED, "lock waiter lost its lease", LITE_AND_LEASE,
        "Somebody waits for a lock, and its lease runs out before its turn.";
    WAITER_LEFT, "lock waiter left the line", BUS,
        "A call for a lock ends before its turn, and its key is taken out of the line.";
    ELECTION_WON, "election won after waiting", BUS,
        "A candidate gets its turn when the leader before it has gone.";
    ELECTION_AGAIN, "candidate with another word", BUS,
        "A candidate that stands in line already comes with another value.";
    OBSERVED_CHANGE, "observer heard of another leader", BUS,
        "An observer of an election hears of a second leader.";
    OBSERVED_WORD, "observer heard another word", BUS,
        "An observer hears of a leader's next word.";

    // Space and alarms.
    QUOTA_REACHED, "quota reached", LITE,
        "A member finds its database too large, and raises the alarm for all.";
    ALARM_RAISED, "alarm raised", BUS,
        "An alarm is raised that was not, by a member or a client.";
    ALARM_CLEARED, "alarm cleared", BUS,
        "An alarm that was raised is cleared.";
    WRITTEN_AFTER_ALARM, "written after an alarm was cleared", BUS,
        "A put is carried out when the last alarm that refused it is gone.";
    DELETED_UNDER_ALARM, "deleted under an alarm", BUS,
        "A deletion or compaction is carried out while there is no space.";

    // Outcomes.
    UNKNOWN_HAPPENED, "unknown outcome that happened", ALL,
        "A client does not hear what became of a request, and it stands in the log.";
    UNKNOWN_LOST, "unknown outcome that did not happen", ALL,
        "The same, and it does not.";
    SWAP_WON, "compare and swap won", ALL,
        "A transaction writes a key that nobody else has written since.";
    SWAP_LOST, "compare and swap lost", ALL,
        "A transaction finds that somebody else has written the key, and does not write.";
    TXN_NESTED, "nested transaction", BUS,
        "A transaction in a transaction is carried out.";
    TXN_COMPACTED, "transaction refused for a compacted range", LITE_AND_WATCH,
        "A transaction that also writes asks for a compacted revision: it is refused as a whole.";

    // Refusals of each kind.
    REFUSED_EMPTY_KEY, "refused: empty key", BUS, "A request without a key.";
    REFUSED_KEY_NOT_FOUND, "refused: key not found", BUS, "A put that keeps a value or lease of a key that is not there.";
    REFUSED_VALUE, "refused: value provided", BUS, "A put that keeps the value and brings one.";
    REFUSED_LEASE, "refused: lease provided", BUS, "A put that keeps the lease and brings one.";
    REFUSED_OPERATIONS, "refused: too many operations", BUS, "A transaction of too many operations.";
    REFUSED_DUPLICATE, "refused: duplicate key", BUS, "A transaction that would write a key twice.";
    REFUSED_SORT, "refused: invalid sort", BUS, "A range in an order that does not exist.";
    REFUSED_STREAM_SORT, "refused: sorted stream", BUS, "A streamed range in another order than that of keys.";
    REFUSED_STREAM_FILTER, "refused: filtered stream", BUS, "A streamed range with bounds of revisions.";
    REFUSED_COMPACTED, "refused: compacted", ALL, "A read, transaction or compaction of a compacted revision.";
    REFUSED_FUTURE, "refused: future", ALL, "The same of a revision that does not exist yet.";
    REFUSED_TTL, "refused: lease too long", BUS, "A lease for longer than there may be one.";
    REFUSED_NO_LEASE, "refused: no such lease", ALL, "A put or revoke with a lease that is not there.";
    REFUSED_NO_LEADER, "refused: no leader of an election", BUS, "A question who leads when nobody does.";
    REFUSED_NOT_LEADER, "refused: not the leader of an election", BUS, "A word of who does not lead any more.";
    REFUSED_LEADER_MISSING, "refused: leader missing", BUS, "A word of who does not say as whom it speaks.";
    REFUSED_NO_SPACE, "refused: no space", BUS, "A request that takes space while there is none.";
    REFUSED_CORRUPT, "refused: corrupt", BUS, "A write while some member's data is said to be corrupt.";
    REFUSED_LEASE_EXISTS, "refused: lease exists", BUS, "A lease with an id that another one has.";

    // Clocks and processes.
    WALL_BACK, "wall clock went backwards", BUS,
        "The wall clock of a running member is set back.";
    CLOCK_FROZEN, "clock stood still", BUS,
        "The clock of a running member stands still for a while.";
    LEADER_PAUSED, "leader stood still", BUS,
        "The process of the leader stands still for a while.";
}

/// The markers that a batch of at least some hundred seeds of this profile must reach.
pub fn expected(profile: Profile) -> Vec<&'static str> {
    MARKERS.iter().filter(|marker| marker.owed.contains(&profile)).map(|marker| marker.name).collect()
}

/// The name of a marker, in a plan or scenario: one that does not exist cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct MarkerName(&'static str);

impl MarkerName {
    /// The name.
    pub fn name(self) -> &'static str {
        self.0
    }
}

impl<'de> Deserialize<'de> for MarkerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = MARKERS.iter().find(|marker| marker.name == name);
        known
            .map(|marker| Self(marker.name))
            .ok_or_else(|| D::Error::custom(format!("there is no marker {name:?}")))
    }
}

impl From<MarkerName> for String {
    fn from(name: MarkerName) -> Self {
        name.0.to_owned()
    }
}

impl From<&'static str> for MarkerName {
    /// For the constants of this module.
    fn from(name: &'static str) -> Self {
        Self(name)
    }
}

impl fmt::Display for MarkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_guide_has_the_same_table() {
        let guide = include_str!("../../docs/simulation.md");
        for (place, marker) in MARKERS.iter().enumerate() {
            assert!(
                !MARKERS[..place].iter().any(|other| other.name == marker.name),
                "{:?} is there twice",
                marker.name
            );
            let owed: Vec<&str> = marker.owed.iter().map(|profile| profile.name()).collect();
            let owed = if owed.is_empty() { "scenarios".to_owned() } else { owed.join(", ") };
            let row = format!("| {} | {} | {owed} |", marker.name, marker.says);
            assert!(guide.contains(&row), "docs/simulation.md lacks the row\n{row}");
        }
    }

    #[test]
    fn a_plan_names_markers_that_exist() {
        let name: MarkerName = serde_json::from_str("\"snapshot sent\"").unwrap();
        assert_eq!(name.name(), SNAPSHOT_SENT);
        let error = serde_json::from_str::<MarkerName>("\"snapshot sunk\"").unwrap_err();
        assert!(error.to_string().contains("there is no marker \"snapshot sunk\""), "{error}");
    }
}
