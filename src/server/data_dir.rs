//! The folder of everything that a member keeps.
//!
//! ```text
//!   <data-dir>/                 0700
//!     member/
//!       lock                    locked while a server runs
//!       db                      the database
//!       wal/                    the log, unless it has a folder of its own
//! ```
//!
//! Invariant: two servers never use one folder, nor the log's folder of another.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, File};
use crate::types::LocalFault;

/// The file that stands for the lock of a folder.
const LOCK_FILE: &str = "lock";

/// The database file of a data folder.
pub fn database_path(data_dir: &Path) -> PathBuf {
    data_dir.join("member").join("db")
}

/// The folder of the log: `wal_dir` if there is one, else it is in the data folder.
pub fn wal_path(data_dir: &Path, wal_dir: Option<&Path>) -> PathBuf {
    wal_dir.map_or_else(|| data_dir.join("member").join("wal"), Path::to_path_buf)
}

/// A data folder in use. Dropping it lets the next server in: do so when all files in it are closed.
pub struct DataDir {
    _locks: Vec<Arc<dyn File>>,
}

impl DataDir {
    /// Takes the folder, making it when it is missing; and the log's folder when that is elsewhere.
    ///
    /// # Errors
    /// When a folder cannot be made, or another server uses it.
    pub fn open(disk: &dyn Disk, data_dir: &Path, wal_dir: Option<&Path>) -> Result<Self, LocalFault> {
        let mut locks = vec![take(disk, "data folder", data_dir, &data_dir.join("member"))?];
        if let Some(wal_dir) = wal_dir {
            locks.push(take(disk, "folder of the log", wal_dir, wal_dir)?);
        }
        Ok(Self { _locks: locks })
    }
}

/// Makes `folder` and takes its lock; `shown` is what the operator calls it.
fn take(disk: &dyn Disk, what: &str, shown: &Path, folder: &Path) -> Result<Arc<dyn File>, LocalFault> {
    let shown = shown.display();
    disk.create_dir(folder)
        .map_err(|error| LocalFault::new(format!("the {what} {shown} cannot be made: {error}")))?;
    disk.lock(&folder.join(LOCK_FILE)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            LocalFault::new(format!("the {what} {shown} is in use: another server runs on it"))
        }
        _ => LocalFault::new(format!("the {what} {shown} cannot be locked: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::MemoryDisk;
    use crate::disk::real::RealDisk;

    fn check_refused(disk: &dyn Disk, data_dir: &str, wal_dir: Option<&str>, message: &str) {
        let refused = DataDir::open(disk, Path::new(data_dir), wal_dir.map(Path::new)).err();
        assert_eq!(refused.map(|fault| fault.to_string()).as_deref(), Some(message));
    }

    #[test]
    fn a_folder_has_one_server_at_a_time() {
        let disk = MemoryDisk::new();
        let held = DataDir::open(&disk, Path::new("/a"), Some(Path::new("/wal"))).expect("a new folder");
        check_refused(&disk, "/a", None, "the data folder /a is in use: another server runs on it");
        check_refused(
            &disk,
            "/b",
            Some("/wal"),
            "the folder of the log /wal is in use: another server runs on it",
        );
        drop(held);
        assert!(DataDir::open(&disk, Path::new("/b"), Some(Path::new("/wal"))).is_ok());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test of real files")]
    fn folders_are_their_owners_and_faults_are_sentences() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().expect("a folder");
        let data_dir = root.path().join("a/default.etcd");
        let _held = DataDir::open(&RealDisk, &data_dir, None).expect("a new folder");
        for folder in [&data_dir, &data_dir.join("member")] {
            let mode = std::fs::metadata(folder).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
        }
        let file = root.path().join("file");
        std::fs::write(&file, "").expect("a file");
        let fault = DataDir::open(&RealDisk, &file.join("data"), None).err().expect("no folder").to_string();
        assert!(
            fault.starts_with(&format!("the data folder {}/data cannot be made: ", file.display())),
            "{fault}"
        );
    }

    #[test]
    fn the_log_may_be_elsewhere() {
        let (data, wal) = (Path::new("/data"), Path::new("/wal"));
        assert_eq!(database_path(data), Path::new("/data/member/db"));
        assert_eq!(wal_path(data, None), Path::new("/data/member/wal"));
        assert_eq!(wal_path(data, Some(wal)), wal);
    }
}
