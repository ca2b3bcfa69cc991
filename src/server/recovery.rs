//! From a data folder to a member's memory: what is on disk, or a new cluster.
//!
//! The log and the database are two files that cannot change at once, so a crash can leave either one
//! step ahead. Recovery takes both and returns one whole:
//!
//! - the database is behind the log: the usual case; the entries in between are applied again;
//! - the database is ahead of the log, or they disagree at the database's index: a received snapshot was
//!   installed and the crash came before the log heard of it; the log restarts behind the database;
//! - there is a database as bootstrap makes it and no log: the crash came during bootstrap, before
//!   anything was promised.
//!
//! Any other combination comes from an operator's hand (a folder forgotten or mixed up). It is refused,
//! and no file is changed or removed.

use std::path::PathBuf;
use std::sync::Arc;

use prost::Message;

use super::disk_tasks::{DatabaseHome, database_as_it_is};
use crate::disk::Disk;
use crate::member::Recovered;
use crate::membership::{InitialCluster, Membership, MembershipRows};
use crate::planted::{self, Bug};
use crate::proto::detcdpb::WalMetadata;
use crate::storage::Storage;
use crate::types::backend::{AppliedPoint, BackendBatch, BackendSnapshot, Table};
use crate::types::log::{HardState, LogEntry, SnapshotPoint};
use crate::types::{ClusterId, LocalFault, MemberId};
use crate::wal::{self, Wal, WalBatch, WalConfig};

/// The entry that stands for the making of a cluster.
const FIRST_INDEX: u64 = 1;

/// Its term.
const FIRST_TERM: u64 = 1;

/// Where a member's state is.
#[derive(Clone)]
pub struct Home {
    /// The database.
    pub database: DatabaseHome,
    /// The folder of the log.
    pub wal_dir: PathBuf,
    /// The log's settings.
    pub wal: WalConfig,
}

/// A member's state, off the disk.
pub struct Opened {
    /// The cluster that it belongs to.
    pub cluster_id: ClusterId,
    /// The member that it is.
    pub member_id: MemberId,
    /// The log, ready to be appended to.
    pub wal: Wal,
    /// The database.
    pub storage: Storage,
    /// What both hold.
    pub recovered: Recovered,
}

/// Opens the state that is there, `None` when there is none.
///
/// # Errors
/// When the disk fails or what is on it is damaged.
pub fn reopen(home: &Home) -> Result<Option<Opened>, LocalFault> {
    let disk = &home.database.disk;
    if !Wal::exists(&**disk, &home.wal_dir)? {
        return Ok(None);
    }
    let (mut wal, found) = Wal::open(disk.clone(), &home.wal_dir, home.wal)?;
    if let Some(repair) = &found.repaired {
        tracing::warn!(
            file = %repair.file.display(),
            offset = repair.offset,
            bytes = repair.bytes,
            "cut off the torn end of the log, which was never acknowledged"
        );
    }
    let metadata = WalMetadata::decode(found.metadata.clone())
        .map_err(|error| LocalFault::new(format!("the log's metadata cannot be read: {error}")))?;
    // Opening it would make an empty one.
    if !exists(home)? {
        return Err(mismatch(home, "the database is missing"));
    }
    let storage = Storage::open(&**disk, &home.database.path, home.database.config)?;
    let applied = storage
        .snapshot()
        .applied()?
        .ok_or_else(|| mismatch(home, "the database holds nothing although the log does"))?;
    let cluster_id = ClusterId(metadata.cluster_id);
    if let Some(other) = cluster_of(&*storage.snapshot())?.filter(|held| *held != cluster_id) {
        let reason = format!("the log is of cluster {cluster_id}, the database of cluster {other}");
        return Err(mismatch(home, &reason));
    }
    if let Some(reason) = contradiction(&found, &applied) {
        return Err(mismatch(home, &reason));
    }
    let recovered = join(&mut wal, found, &storage, &applied)?;
    Ok(Some(Opened { cluster_id, member_id: MemberId(metadata.member_id), wal, storage, recovered }))
}

/// The cluster that a database is of, if it says so.
fn cluster_of(database: &dyn BackendSnapshot) -> Result<Option<ClusterId>, LocalFault> {
    let rows = MembershipRows { meta: database.rows(Table::Meta)?, ..MembershipRows::default() };
    Ok(Membership::restore(rows)?.map(|membership| membership.cluster_id()))
}

/// Why no crash can have left this log beside a database that stands here, if so.
fn contradiction(found: &wal::Recovered, applied: &AppliedPoint) -> Option<String> {
    let AppliedPoint { index, term, .. } = applied;
    if *index < found.snapshot.index {
        let begin = found.snapshot.index;
        return Some(format!(
            "the log begins behind entry {begin}, but the database only holds the effects up to entry {index}"
        ));
    }
    // What is committed stays: a database that replaced this one would hold the same entries.
    let commit = found.hard_state.commit;
    if *index <= commit && !agrees(&found.snapshot, &found.entries, &standing(applied)) {
        return Some(format!(
            "the database stands at entry {index} of term {term}, but the log has committed another entry {index}"
        ));
    }
    None
}

/// The log and the database are not of one member, or not of one time.
fn mismatch(home: &Home, reason: &str) -> LocalFault {
    let (log, database) = (home.wal_dir.display(), home.database.path.display());
    LocalFault::new(format!("the log {log} and the database {database} do not belong together: {reason}"))
}

/// Whether there is a database.
fn exists(home: &Home) -> Result<bool, LocalFault> {
    let path = &home.database.path;
    let failed = |error| LocalFault::new(format!("cannot look for {}: {error}", path.display()));
    home.database.disk.exists(path).map_err(failed)
}

/// Makes one whole of the log and the database.
fn join(
    wal: &mut Wal,
    found: wal::Recovered,
    storage: &Storage,
    applied: &AppliedPoint,
) -> Result<Recovered, LocalFault> {
    let standing = standing(applied);
    let agrees = agrees(&found.snapshot, &found.entries, &standing);
    // Says so in the log as well: it keeps what follows the point if it agrees, and restarts if not.
    wal.append(&WalBatch { snapshot: Some(standing), entries: Vec::new(), hard_state: None });
    wal.flush()?;
    let vote_counts = found.hard_state.term >= applied.term && !planted::is(Bug::VoteForgotten);
    let hard_state = HardState {
        term: found.hard_state.term.max(applied.term),
        vote: if vote_counts { found.hard_state.vote } else { 0 },
        commit: found.hard_state.commit.max(applied.index),
    };
    Ok(Recovered {
        backend: database_as_it_is(storage),
        hard_state,
        entries: if agrees { found.entries } else { Vec::new() },
    })
}

/// Whether the log goes on from the point.
fn agrees(log_start: &SnapshotPoint, entries: &[LogEntry], point: &SnapshotPoint) -> bool {
    if log_start.index == point.index {
        return log_start.term == point.term;
    }
    entries.iter().any(|entry| entry.index == point.index && entry.term == point.term)
}

fn standing(applied: &AppliedPoint) -> SnapshotPoint {
    SnapshotPoint {
        index: applied.index,
        term: applied.term,
        voters: applied.voters.clone(),
        learners: applied.learners.clone(),
    }
}

/// Makes the state of a member of a new cluster.
///
/// Every member begins with the same database: the members, as if entry 1 of term 1 had made them. No
/// log holds that entry, so a member that joins later gets a snapshot first.
///
/// # Errors
/// When the disk fails, or there is a database with something in it: only its log is missing.
pub fn bootstrap(home: &Home, cluster: &InitialCluster, member_id: MemberId) -> Result<Opened, LocalFault> {
    let disk: &Arc<dyn Disk> = &home.database.disk;
    remove_half_made(home)?;
    let voters: Vec<u64> = {
        let mut ids: Vec<u64> = cluster.members().map(|member| member.id.0).collect();
        ids.sort_unstable();
        ids
    };
    let applied = AppliedPoint { index: FIRST_INDEX, term: FIRST_TERM, voters, learners: Vec::new() };
    let mut storage = Storage::open(&**disk, &home.database.path, home.database.config)?;
    storage.commit(BackendBatch {
        rows: cluster.to_membership()?.take_rows(),
        applied: Some(applied.clone()),
        ..BackendBatch::default()
    })?;
    let cluster_id = cluster.cluster_id();
    let metadata = WalMetadata { cluster_id: cluster_id.0, member_id: member_id.0 };
    let mut wal = Wal::create(disk.clone(), &home.wal_dir, home.wal, metadata.encode_to_vec().into())?;
    let hard_state = HardState { term: FIRST_TERM, vote: 0, commit: FIRST_INDEX };
    wal.append(&WalBatch {
        snapshot: Some(standing(&applied)),
        entries: Vec::new(),
        hard_state: Some(hard_state),
    });
    wal.flush()?;
    let backend = database_as_it_is(&storage);
    let recovered = Recovered { backend, hard_state, entries: Vec::new() };
    Ok(Opened { cluster_id, member_id, wal, storage, recovered })
}

/// A bootstrap that crashed leaves a database without a log: nobody was promised anything by it. One that
/// holds more has lost its log, most likely because the log's folder is not the one it was.
fn remove_half_made(home: &Home) -> Result<(), LocalFault> {
    if !exists(home)? {
        return Ok(());
    }
    let DatabaseHome { disk, path, config } = &home.database;
    let applied = Storage::open(&**disk, path, *config)?.snapshot().applied()?;
    if let Some(index) = applied.map(|applied| applied.index).filter(|index| *index > FIRST_INDEX) {
        let reason = format!("the database holds the effects up to entry {index}, but there is no log");
        return Err(mismatch(home, &reason));
    }
    disk.remove(path)
        .map_err(|error| LocalFault::new(format!("cannot remove the unused {}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
