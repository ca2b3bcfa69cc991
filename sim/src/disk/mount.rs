//! The disk as one process sees it. It ends with the process: what a dead process still does, in the
//! destructors of its tasks, reaches no medium.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use detcd::disk::{Disk, File, OpenMode};

use super::names::FileId;
use super::state::{State, not_found};

/// A life's view of the disk.
#[derive(Clone)]
pub(super) struct Mount {
    pub device: Arc<Mutex<State>>,
    pub life: u64,
}

impl Mount {
    /// Does an operation, unless the process is dead.
    fn with<T>(&self, operation: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let (result, tell) = {
            let mut state = self.device.lock().unwrap_or_else(PoisonError::into_inner);
            if state.life != self.life {
                return Err(io::Error::other("the process that used this disk is gone"));
            }
            let result = operation(&mut state);
            (result, state.news_of_death.take())
        };
        if let Some(tell) = tell {
            tell();
        }
        result
    }

    fn open_file(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<MountedFile>> {
        let file = self.with(|state| state.open(path, mode))?;
        Ok(Arc::new(MountedFile { mount: self.clone(), file, writable: mode != OpenMode::Read }))
    }
}

impl Disk for Mount {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(self.open_file(path, mode)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|state| state.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|state| state.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.with(|state| state.sync_folder(dir))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.with(|state| {
            state.alive()?;
            state.names.create_folder(dir);
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.with(|state| {
            state.alive()?;
            if !state.names.has_folder(dir) {
                return Err(not_found(dir));
            }
            Ok(state.names.list(dir))
        })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.with(|state| {
            state.alive()?;
            Ok(state.names.find(path).is_some() || state.names.has_folder(path))
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let held =
            self.with(|state| Ok(state.locks.get(path).is_some_and(|holder| holder.strong_count() > 0)))?;
        if held {
            let text = format!("{} is in use: another process holds its lock", path.display());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        let file = self.open_file(path, OpenMode::OpenOrCreate)?;
        self.with(|state| {
            state.locks.insert(path.into(), Arc::downgrade(&file));
            Ok(())
        })?;
        Ok(file)
    }
}

/// A file that a process has open.
pub(super) struct MountedFile {
    mount: Mount,
    file: FileId,
    writable: bool,
}

impl MountedFile {
    fn change(&self, operation: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.mount.with(operation)
    }
}

impl File for MountedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.mount.with(|state| state.read(self.file, offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|state| state.write(self.file, offset, bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        // Also of a file that is open for reading: the system syncs what others have written.
        self.mount.with(|state| state.sync(self.file))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(|state| state.set_length(self.file, length))
    }

    fn len(&self) -> io::Result<u64> {
        self.mount.with(|state| {
            state.alive()?;
            Ok(state.contents.get(&self.file).map_or(0, |contents| contents.live().length()))
        })
    }
}
