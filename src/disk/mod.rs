//! The disk, as everything that writes files sees it: the log, snapshots, the database.
//!
//! Two traits stand between them and the operating system, so that the same code runs on a real file
//! system ([`real`]), on an image in memory that can lose what was not synced ([`memory`]), and on the
//! simulator's disk. All methods block and take `&self`; who must not block calls them elsewhere.
//!
//! What may be relied on, in every implementation:
//! - bytes are durable once `sync_data` has returned after they were written;
//! - a new, renamed or removed name is durable once `sync_dir` of its folder has returned;
//! - a rename replaces the target in one step;
//! - what is not durable yet may or may not survive a power cut, in any order, sector by sector.
//!
//! After a failed `sync_data` nobody can say what is durable: it must never be tried again on the same
//! data. The member stops.

pub mod memory;
pub mod real;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

/// The unit in which a medium writes: after a power cut a sector holds the old or the new bytes.
pub const SECTOR_BYTES: u64 = 512;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist. What is read is durable or will be with the next sync of the file: it
    /// is not what was left in memory by a sync that failed.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; it must not exist yet.
    CreateNew,
    /// For reading and writing; it is created empty when it does not exist.
    OpenOrCreate,
}

/// A file system.
pub trait Disk: Send + Sync {
    /// Opens a file. A new one is readable by its owner only.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Gives a file a new name in one step, replacing what had that name. Open files stay valid.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable: those that came, changed and went.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a folder and its missing parents, for their owner only, durable on return. A folder that
    /// exists stays as it is.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files and folders in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether there is a file or folder of that name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Takes the lock that a file stands for, creating the file if need be. The lock is held until the
    /// returned file is dropped, or the process ends. When another process (or this one) holds it, the
    /// error is of kind [`io::ErrorKind::WouldBlock`] and says that the path is in use.
    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>>;
}

/// An open file. Offsets and lengths are in bytes.
#[expect(clippy::len_without_is_empty, reason = "a file's length is asked for, its emptiness never")]
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset`; a file that ends before is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, making the file longer when it ends before.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written so far durable, and the length.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the file this long: cut, or filled with zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Length of the file.
    fn len(&self) -> io::Result<u64>;
}

/// The error of a [`Disk::lock`] that somebody else holds.
fn in_use(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::WouldBlock,
        format!("{} is in use: another process holds its lock", path.display()),
    )
}
