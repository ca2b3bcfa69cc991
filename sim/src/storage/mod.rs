//! The storage level: the log and the database alone on a disk that fails, through many short lives.
//!
//! No runtime, no network, no member: a seed drives `detcd::wal::Wal`, `detcd::storage::Storage` and
//! `detcd::server::recovery` through lives of a few steps each, ends each life in its own way, starts
//! again, and compares what is there with what was promised. A hundred crashes take some tenths of a
//! second, so this level sees orders of magnitude more of them than whole clusters do.
//!
//! ```text
//!   life:   trouble is armed --> steps (append, flush, commit, release, install ...) --> crash
//!             ^                                                                           |
//!             |      what was found = what was promised?                                  v
//!             +------ claim <------------------------------- recovery, itself interrupted at times
//!                       ^
//!       forks of the disk: other cuts of the same moment, damage, rot, errors
//! ```
//!
//! # What each fault may cost
//!
//! | fault | may be lost | what must be |
//! |---|---|---|
//! | power cut, kill, death of the device, error of a write, failed sync, full disk | what was not acknowledged | everything else is there, in order, and durable once it was given back |
//! | lying sync, then a power cut | what was acknowledged: also before the first lie, when a segment was released and a lie kept its successor's name from the medium | one state of its past, or a refusal; no mixture |
//! | error of a read | nothing | a refusal that names the place, and no change |
//! | damage of the log before its last batch | nothing | a refusal that names file and offset, and no change |
//! | damage of the last batch | that batch | it is cut off with a report, or a refusal |
//! | rot of a closed database | the last commits: the database may stand at an earlier one | one state of its past, or a refusal |
//! | rot of a database that is opened unchecked | access to what is hit | an error; of a record also that it is missed; never another value |
//! | rot under an open database | access to what is hit | an error, never another value or none |
//! | damaged chunks of a snapshot | the import | a refusal; the old database stays |
//!
//! Whoever lost something by its budget goes on with an empty disk, as a member that is replaced.

mod backend_prefix;
mod database_model;
mod database_run;
mod log_damage;
mod log_model;
mod log_run;
mod member_run;
mod promise;
mod recovery_whole;
mod rig;
mod snapshot_install;
#[cfg(test)]
mod tests;
mod value_checksum;
mod wal_recovery;

use serde::Serialize;

use crate::disk::Statistics;
use crate::evidence::Violation;
use crate::trace::{Trace, What};
use rig::Rig;

/// Lives of the log in one run.
const LOG_LIVES: u64 = 60;
/// Lives of the database.
const DATABASE_LIVES: u64 = 24;
/// Snapshots on their way from one database to another.
const TRANSFERS: u64 = 12;
/// Lives of a member's log and database together.
const MEMBER_LIVES: u64 = 16;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StorageReport {
    /// Crashes that were recovered from, on all disks and their forks.
    pub crashes: u64,
    /// Batches of the log that were acknowledged.
    pub batches: u64,
    /// Commits of databases that were acknowledged.
    pub commits: u64,
    /// Snapshots that were installed.
    pub installed: u64,
    /// Cases of damage, rot and read errors that were looked into.
    pub damages: u64,
    /// What the disks were asked for, without forks.
    pub disk: Statistics,
}

impl StorageReport {
    /// Adds what another run did.
    pub fn add(&mut self, other: &StorageReport) {
        self.crashes += other.crashes;
        self.batches += other.batches;
        self.commits += other.commits;
        self.installed += other.installed;
        self.damages += other.damages;
        self.disk.add(&other.disk);
    }
}

/// Rare paths that a batch of runs must reach.
pub const MARKERS: &[&str] = &[
    "torn wal tail cut",
    "batch in flight lost",
    "batch in flight survived",
    "segment begun",
    "segment recycled",
    "segment released",
    "sync failed",
    "disk full",
    "wal creation interrupted",
    "wal recovery interrupted",
    "wal damage refused",
    "wal read error refused",
    "damaged last batch cut",
    "wal set back by a lying disk",
    "wal lost to a lying disk",
    "commit in flight lost",
    "commit in flight survived",
    "database sync failed",
    "database repaired on open",
    "database opening interrupted",
    "database lost to a lying disk",
    "bit rot found",
    "bit rot found by a value's checksum",
    "bit rot found under an open database",
    "database set back by rot",
    "snapshot installed",
    "import interrupted",
    "import given up",
    "damaged snapshot refused",
    "install interrupted, new database",
    "install interrupted, old database",
    "bootstrap interrupted",
    "member start interrupted",
    "installed before the log knew",
    "log joined to the database",
    "member caught up from an older database",
    "older database refused",
];

/// A part of a run: it takes its rig and so many lives.
type Part = fn(Rig, u64) -> Result<StorageReport, Violation>;

/// Runs one seed. Every event goes to the trace, whose time counts the steps of each part, a microsecond
/// a step.
///
/// # Errors
/// The first claim that does not hold.
pub fn run(seed: u64, trace: &Trace) -> Result<StorageReport, Violation> {
    let parts: [(&str, Part, u64); 4] = [
        ("log", log_run::run, LOG_LIVES),
        ("database", database_run::run, DATABASE_LIVES),
        ("snapshot", snapshot_install::run, TRANSFERS),
        ("member", member_run::run, MEMBER_LIVES),
    ];
    let mut report = StorageReport::default();
    for (name, part, lives) in parts {
        trace.note(0, 0, What::Phase { name });
        report.add(&part(Rig::new(seed, name, trace), lives)?);
    }
    Ok(report)
}
