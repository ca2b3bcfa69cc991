//! The disk of production: files of the operating system.

#![expect(clippy::disallowed_methods, reason = "this file is where they are called for all others")]

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::{Disk, File, OpenMode, in_use};

/// Owner only, for folders.
const FOLDER_MODE: u32 = 0o700;
/// Owner only, for files.
const FILE_MODE: u32 = 0o600;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(mode != OpenMode::Read)
            .create(mode == OpenMode::OpenOrCreate)
            .create_new(mode == OpenMode::CreateNew)
            .mode(FILE_MODE)
            .open(path)?;
        if mode == OpenMode::Read {
            forget_clean_pages(&file)?;
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(or_here(dir))?.sync_all()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = or_here(dir);
        if dir.is_dir() {
            return Ok(());
        }
        let parent = or_here(dir.parent().unwrap_or(Path::new("")));
        self.create_dir(parent)?;
        fs::DirBuilder::new().mode(FOLDER_MODE).create(dir)?;
        self.sync_dir(parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(or_here(dir))? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Arc::new(RealFile(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(in_use(path)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The folder that a relative path without a folder part means.
fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

/// Drops what the page cache holds of a file and believes to be on the medium.
///
/// After a failed sync the system keeps the pages, marked clean: a process that starts anew would read
/// bytes that are on no medium, and its syncs would succeed without writing them. Dirty pages stay. Only
/// who opens for reading alone wants the truth; who writes wants the pages that it wrote before.
#[cfg(target_os = "linux")]
fn forget_clean_pages(file: &fs::File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn forget_clean_pages(_: &fs::File) -> io::Result<()> {
    Ok(())
}

/// A file of the operating system.
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
