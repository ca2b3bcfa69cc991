//! From a data folder to a member's memory: what is on disk, or a new cluster.
//!
//! The log and the database are two files that cannot change at once, so a crash can leave either one
//! step ahead. Recovery takes both and returns one whole:
//!
//! - the database is behind the log: the usual case; the entries in between are applied again;
//! - the database is ahead of the log, or they disagree at the database's index: a received snapshot was
//!   installed and the crash came before the log heard of it; the log restarts behind the database;
//! - there is a database and no log: the crash came during bootstrap, before anything was promised.

use std::path::PathBuf;
use std::sync::Arc;

use prost::Message;

use super::disk_tasks::{DatabaseHome, database_as_it_is};
use crate::disk::Disk;
use crate::member::Recovered;
use crate::membership::InitialCluster;
use crate::proto::detcdpb::WalMetadata;
use crate::storage::Storage;
use crate::types::backend::{AppliedPoint, BackendBatch, BackendSnapshot};
use crate::types::log::{HardState, LogEntry, SnapshotPoint};
use crate::types::{ClusterId, LocalFault, MemberId};
use crate::wal::{self, Wal, WalBatch, WalConfig};

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
    let storage = Storage::open(&**disk, &home.database.path, home.database.config)?;
    let applied = storage.snapshot().applied()?.ok_or_else(|| {
        LocalFault::new(format!(
            "the database {} holds nothing although the log {} does",
            home.database.path.display(),
            home.wal_dir.display()
        ))
    })?;
    let recovered = join(&mut wal, found, &storage, &applied)?;
    Ok(Some(Opened {
        cluster_id: ClusterId(metadata.cluster_id),
        member_id: MemberId(metadata.member_id),
        wal,
        storage,
        recovered,
    }))
}

/// Makes one whole of the log and the database.
fn join(
    wal: &mut Wal,
    found: wal::Recovered,
    storage: &Storage,
    applied: &AppliedPoint,
) -> Result<Recovered, LocalFault> {
    if applied.index < found.snapshot.index {
        return Err(LocalFault::new(format!(
            "the log begins behind entry {}, but the database only holds the effects up to entry {}",
            found.snapshot.index, applied.index
        )));
    }
    let standing = standing(applied);
    let agrees = agrees(&found.snapshot, &found.entries, &standing);
    // Says so in the log as well: it keeps what follows the point if it agrees, and restarts if not.
    wal.append(&WalBatch { snapshot: Some(standing), entries: Vec::new(), hard_state: None });
    wal.flush()?;
    let hard_state = HardState {
        term: found.hard_state.term.max(applied.term),
        vote: if found.hard_state.term >= applied.term { found.hard_state.vote } else { 0 },
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
/// When the disk fails.
pub fn bootstrap(home: &Home, cluster: &InitialCluster, member_id: MemberId) -> Result<Opened, LocalFault> {
    let disk: &Arc<dyn Disk> = &home.database.disk;
    remove_half_made(home)?;
    let voters: Vec<u64> = {
        let mut ids: Vec<u64> = cluster.members().map(|member| member.id.0).collect();
        ids.sort_unstable();
        ids
    };
    let applied = AppliedPoint { index: 1, term: 1, voters, learners: Vec::new() };
    let mut storage = Storage::open(&**disk, &home.database.path, home.database.config)?;
    storage.commit(BackendBatch {
        rows: cluster.to_membership()?.take_rows(),
        applied: Some(applied.clone()),
        ..BackendBatch::default()
    })?;
    let cluster_id = cluster.cluster_id();
    let metadata = WalMetadata { cluster_id: cluster_id.0, member_id: member_id.0 };
    let mut wal = Wal::create(disk.clone(), &home.wal_dir, home.wal, metadata.encode_to_vec().into())?;
    let hard_state = HardState { term: 1, vote: 0, commit: 1 };
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

/// A bootstrap that crashed leaves a database without a log: nobody was promised anything by it.
fn remove_half_made(home: &Home) -> Result<(), LocalFault> {
    let path = &home.database.path;
    let disk = &home.database.disk;
    let failed = |error| LocalFault::new(format!("cannot remove the unused {}: {error}", path.display()));
    if disk.exists(path).map_err(failed)? {
        disk.remove(path).map_err(failed)?;
    }
    Ok(())
}
