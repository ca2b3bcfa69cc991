//! The loop's way to the other members: messages, and the snapshots that travel beside it.
//!
//! Raft only says that a follower needs a snapshot; the data is this member's database as its last
//! commit left it, streamed in chunks. On the other side the data lands in a file aside, and raft hears
//! of the snapshot when the file is complete.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::disk::Disk;
use crate::proto::detcdpb::{LeaseAnswer, LeaseCall};
use crate::proto::etcdserverpb as pb;
use crate::raft;
use crate::rt;
use crate::storage::{Export, Import, ImportError, Snapshot, StorageConfig, import_path};
use crate::transport::{PeerNetwork, SnapshotSink, SnapshotSource, SnapshotStore};
use crate::types::backend::BackendSnapshot;
use crate::types::log::{PeerMessage, SnapshotPoint};
use crate::types::{LocalFault, MemberId};

pub use crate::transport::PeerEvent;

/// The other members, as the event loop sees them.
pub struct Peers {
    network: Arc<dyn PeerNetwork>,
    own_id: MemberId,
    database: Arc<Snapshot>,
    /// The snapshots that arrived since raft was last asked what is to be done.
    arrived: Vec<(SnapshotPoint, PathBuf)>,
    disk: Arc<dyn Disk>,
    failed_snapshots: Vec<MemberId>,
}

impl Peers {
    /// The peers of `own_id`, whose database on `disk` stands at `database`.
    pub fn new(
        network: Arc<dyn PeerNetwork>,
        own_id: MemberId,
        database: Arc<Snapshot>,
        disk: Arc<dyn Disk>,
    ) -> Self {
        Self { network, own_id, database, arrived: Vec::new(), disk, failed_snapshots: Vec::new() }
    }

    /// Sends messages; a snapshot message brings its data along.
    pub fn send(&mut self, mut messages: Vec<PeerMessage>) {
        if messages.iter().all(|message| message.snapshot.is_none()) {
            if rt::buggify("peers: loses a message") {
                messages.pop();
            }
            if !messages.is_empty() {
                self.network.send(messages);
            }
            return;
        }
        let (snapshots, plain): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| message.snapshot.is_some());
        self.network.send(plain);
        for message in snapshots {
            let to = MemberId(message.to);
            if let Err(reason) = self.send_snapshot(message) {
                tracing::warn!(to = %to, %reason, "could not send a snapshot");
                self.failed_snapshots.push(to);
            }
        }
    }

    /// Streams the database as it is now, and says in the message what it is now.
    fn send_snapshot(&self, message: PeerMessage) -> Result<(), String> {
        if rt::buggify("peers: cannot begin a snapshot") {
            return Err("this simulated run has it so".into());
        }
        let applied = self
            .database
            .applied()
            .map_err(|fault| fault.to_string())?
            .ok_or("the database holds nothing yet")?;
        let point = SnapshotPoint {
            index: applied.index,
            term: applied.term,
            voters: applied.voters,
            learners: applied.learners,
        };
        let message = raft::with_snapshot_point(&message, &point).map_err(|error| format!("{error:?}"))?;
        let source = Box::new(DatabaseSource(Export::new(self.database.clone())));
        self.network.send_snapshot(MemberId(message.to), message.bytes, point, source);
        Ok(())
    }

    /// Passes on a question about a lease.
    pub fn lease_call(&self, to: MemberId, call: LeaseCall) {
        self.network.lease_call(to, call);
    }

    /// Answers a question about a lease.
    pub fn lease_answer(&self, to: MemberId, answer: LeaseAnswer) {
        self.network.lease_answer(to, answer);
    }

    /// The members of the cluster are now these.
    pub fn set_members(&self, members: &[pb::Member]) {
        let peers = members
            .iter()
            .filter(|member| member.id != self.own_id.0)
            .map(|member| (MemberId(member.id), member.peer_ur_ls.clone()))
            .collect();
        self.network.set_members(peers, BTreeSet::new());
    }

    /// The database is now this.
    pub fn set_database(&mut self, database: Arc<Snapshot>) {
        self.database = database;
    }

    /// Keeps the file of a snapshot that arrived, until raft has said whether it is to be installed.
    pub fn remember_arrived(&mut self, point: SnapshotPoint, file: PathBuf) {
        self.arrived.push((point, file));
    }

    /// Removes the files that raft had the chance to ask for, and did not: they are useless.
    pub fn forget_arrived(&mut self) {
        for (_, useless) in self.arrived.drain(..) {
            let disk = self.disk.clone();
            rt::spawn(rt::blocking(move || {
                // It costs only space, and the next start removes it.
                let _ = disk.remove(&useless);
            }));
        }
    }

    /// Peers whose snapshot could not even be begun since the last call.
    pub fn take_failed_snapshots(&mut self) -> Vec<MemberId> {
        std::mem::take(&mut self.failed_snapshots)
    }

    /// The file of the snapshot at this point, if it arrived.
    pub fn take_arrived(&mut self, point: &SnapshotPoint) -> Option<PathBuf> {
        let is_it = |arrived: &SnapshotPoint| (arrived.index, arrived.term) == (point.index, point.term);
        let found = self.arrived.iter().position(|(arrived, _)| is_it(arrived))?;
        Some(self.arrived.swap_remove(found).1)
    }
}

/// This member's database on its way to a peer.
struct DatabaseSource(Export);

impl SnapshotSource for DatabaseSource {
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, LocalFault> {
        self.0.next_chunk(if rt::buggify("peers: sends small chunks") { 1 } else { max_bytes })
    }
}

/// Removes what imports left behind that an earlier run did not finish or install.
///
/// # Errors
/// When the disk fails.
pub fn remove_old_imports(disk: &dyn Disk, database: &Path) -> Result<(), LocalFault> {
    let failed = |error| LocalFault::new(format!("cannot remove old imports: {error}"));
    let (Some(folder), prefix) = (database.parent(), import_path(database)) else { return Ok(()) };
    let Some(prefix) = prefix.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let is_import = |name: &&String| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    for name in disk.list(folder).map_err(failed)?.iter().filter(is_import) {
        disk.remove(&folder.join(name)).map_err(failed)?;
    }
    Ok(())
}

/// Where databases from peers land.
pub struct Imports {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    config: StorageConfig,
    /// Imports begun so far.
    begun: AtomicU64,
}

impl Imports {
    /// Imports beside the database at `path`.
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf, config: StorageConfig) -> Self {
        Self { disk, path, config, begun: AtomicU64::new(0) }
    }
}

impl SnapshotStore for Imports {
    fn begin(&self, point: &SnapshotPoint) -> Result<Box<dyn SnapshotSink>, LocalFault> {
        // A name of its own: it must not meet one that is being installed, and a leader that was not told
        // in time sends the same snapshot again.
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let mut name = import_path(&self.path).into_os_string();
        name.push(format!("-{}-{}-{number}", point.term, point.index));
        let import = Import::begin(&*self.disk, Path::new(&name), self.config)?;
        Ok(Box::new(DatabaseSink(import)))
    }
}

/// A database on its way in.
struct DatabaseSink(Import);

impl SnapshotSink for DatabaseSink {
    fn write(&mut self, chunk: Bytes) -> Result<(), LocalFault> {
        self.0.write(&chunk).map_err(refused)
    }

    fn finish(self: Box<Self>) -> Result<PathBuf, LocalFault> {
        let imported = self.0.finish().map_err(refused)?;
        Ok(imported.path().to_path_buf())
    }
}

fn refused(error: ImportError) -> LocalFault {
    match error {
        ImportError::Refused(reason) => LocalFault::new(reason),
        ImportError::Local(fault) => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OpenMode;
    use crate::disk::memory::MemoryDisk;

    #[test]
    fn what_earlier_runs_left_of_imports_is_removed() {
        let disk = MemoryDisk::new();
        disk.create_dir(Path::new("/d/wal")).unwrap();
        for name in ["db", "db.import", "db.import-3-17-0", "db.important", "lock"] {
            drop(disk.open(&Path::new("/d").join(name), OpenMode::CreateNew).unwrap());
        }
        remove_old_imports(&disk, Path::new("/d/db")).unwrap();
        assert_eq!(disk.list(Path::new("/d")).unwrap(), ["db", "db.important", "lock", "wal"]);
    }

    /// The file of the first may be on its way into the database's place.
    #[test]
    fn a_snapshot_that_comes_again_has_a_file_of_its_own() {
        let disk = MemoryDisk::new();
        disk.create_dir(Path::new("/d")).unwrap();
        let imports = Imports::new(Arc::new(disk.clone()), "/d/db".into(), StorageConfig::default());
        let point = SnapshotPoint { index: 17, term: 3, ..SnapshotPoint::default() };
        let sinks = [imports.begin(&point).unwrap(), imports.begin(&point).unwrap()];
        assert_eq!(disk.list(Path::new("/d")).unwrap().len(), sinks.len());
    }
}
