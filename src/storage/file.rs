//! The database file: how the database library reaches the disk, and how files come and go.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Builder, Database, StorageBackend};

use super::StorageConfig;
use super::blocks::Blocks;
use super::guard::guarded;
use super::occupancy::Occupancy;
use crate::disk::{Disk, File, OpenMode};
use crate::types::LocalFault;

/// An open database with its path and size. It closes, and writes that it was shut down cleanly,
/// when the storage and every snapshot of it are gone.
pub(super) struct OpenDatabase {
    /// There until it closes.
    database: Option<Database>,
    path: PathBuf,
    pages: Arc<Pages>,
}

impl OpenDatabase {
    /// Creates an empty database in a new file.
    pub fn create(disk: &dyn Disk, path: &Path, config: StorageConfig) -> Result<Arc<Self>, LocalFault> {
        let file = disk
            .open(path, OpenMode::CreateNew)
            .map_err(|error| disk_fault("creating the database", path, &error))?;
        Self::over(file, path, config)
    }

    /// Opens the database in a file, which faults call `name`. A file that is no database is a fault,
    /// also an empty one. What is read is durable, or will be with the first sync.
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        name: &Path,
        config: StorageConfig,
    ) -> Result<Arc<Self>, LocalFault> {
        let fault = |error: &io::Error| disk_fault("opening the database", path, error);
        // After a sync that failed, memory may hold pages that are on no medium and that no later sync
        // writes: of an earlier process, or of a database that this one closed. To open for reading drops them.
        disk.open(path, OpenMode::Read).map_err(|error| fault(&error))?;
        let file = disk.open(path, OpenMode::ReadWrite).map_err(|error| fault(&error))?;
        if file.len().map_err(|error| fault(&error))? == 0 {
            return Err(fault(&io::Error::other("the file is corrupt: it is empty")));
        }
        Self::over(file, name, config)
    }

    fn over(file: Arc<dyn File>, path: &Path, config: StorageConfig) -> Result<Arc<Self>, LocalFault> {
        let pages = Arc::new(Pages { opening: AtomicBool::new(true), ..Pages::default() });
        let backend = Backend { file, pages: pages.clone() };
        let database = guarded(path, "opening the database", || {
            if !config.verify_on_open {
                let length = backend.len().map_err(redb::StorageError::from)?;
                pages.occupancy.touch(0, length);
            }
            let mut builder = Builder::new();
            builder.set_cache_size(config.cache_bytes);
            builder.set_check_integrity_on_open(config.verify_on_open);
            Ok(builder.create_with_backend(backend)?)
        })?;
        pages.opening.store(false, Ordering::Relaxed);
        Ok(Arc::new(OpenDatabase { database: Some(database), path: path.into(), pages }))
    }

    /// Closes it, unless somebody else has it open. After a fault nobody can say what the file holds.
    pub fn close(database: Arc<OpenDatabase>) -> Result<(), LocalFault> {
        Arc::into_inner(database).map_or(Ok(()), |mut database| database.close_now())
    }

    fn close_now(&mut self) -> Result<(), LocalFault> {
        let Some(database) = self.database.take() else { return Ok(()) };
        guarded(&self.path, "closing the database", || Ok(database.close()?))
    }

    /// What faults call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As [`Storage::size`](super::Storage::size).
    pub fn size(&self) -> u64 {
        self.pages.occupancy.bytes()
    }
}

impl Deref for OpenDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        match &self.database {
            Some(database) => database,
            None => unreachable!("only its end takes the database away"),
        }
    }
}

impl Drop for OpenDatabase {
    /// The last owner may be any reader, so whatever goes wrong here must not reach it. What was committed
    /// is durable; the next opening checks the file.
    fn drop(&mut self) {
        if let Err(fault) = self.close_now() {
            tracing::warn!(error = %fault, "the database was not closed cleanly");
        }
    }
}

/// What is known of the pages of the file.
#[derive(Default)]
struct Pages {
    /// Whether the file is being opened. Only then is a page read that was not touched before.
    opening: AtomicBool,
    occupancy: Occupancy,
    blocks: Blocks,
}

/// A file as the database library wants it.
struct Backend {
    file: Arc<dyn File>,
    pages: Arc<Pages>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)?;
        self.pages.blocks.check(offset, out)?;
        if self.pages.opening.load(Ordering::Relaxed) {
            self.pages.occupancy.touch(offset, out.len() as u64);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.pages.occupancy.cut(len);
        self.pages.blocks.resized(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.pages.blocks.writing(offset, data.len());
        self.file.write_at(offset, data)?;
        self.pages.blocks.wrote(offset, data);
        self.pages.occupancy.touch(offset, data.len() as u64);
        Ok(())
    }
}

/// The fault of an operation on a file that is not the database library's.
pub(super) fn disk_fault(doing: &str, path: &Path, error: &io::Error) -> LocalFault {
    LocalFault::new(format!("database {}: {doing} failed: {error}", path.display()))
}

/// Whether there is such a file.
pub(super) fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, LocalFault> {
    disk.exists(path).map_err(|error| disk_fault("looking for the database", path, &error))
}

/// Removes a file that may not be there. Should it come back after a crash, it is removed again.
pub(super) fn remove_if_present(disk: &dyn Disk, path: &Path) -> Result<(), LocalFault> {
    if !exists(disk, path)? {
        return Ok(());
    }
    disk.remove(path).map_err(|error| disk_fault("removing an unfinished database", path, &error))
}

/// Gives a durable file its name, durably.
pub(super) fn rename_durably(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), LocalFault> {
    disk.rename(from, to).map_err(|error| disk_fault("putting a new database in place", to, &error))?;
    sync_name(disk, to)
}

/// Makes the name of a file durable.
pub(super) fn sync_name(disk: &dyn Disk, path: &Path) -> Result<(), LocalFault> {
    let folder = path.parent().unwrap_or(Path::new(""));
    disk.sync_dir(folder).map_err(|error| disk_fault("making its name durable", path, &error))
}
