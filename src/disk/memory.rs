//! A disk in memory that loses what was not synced, for tests.
//!
//! Every file has two images. Reads see the *live* one; a power cut leaves the *durable* one, plus those
//! unsynced sectors that the caller lets survive. Names have the same two images.
//!
//! ```text
//!             write_at, set_len            sync_data
//!   caller ----------------------> live ----------------> durable      contents, file by file
//!             open, rename, remove         sync_dir
//!   caller ----------------------> live ----------------> durable      names, folder by folder
//!
//!   power_cut: live := durable + the unsynced parts that survive        kill: live stays
//! ```
//!
//! Invariants:
//! - unsynced changes of contents survive in any selection, sector by sector; those of names as a prefix
//!   of the order in which they were made, as on a file system with a journal;
//! - a file that was opened before a power cut or kill can do nothing afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Disk, File, OpenMode, SECTOR_BYTES, in_use};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    contents: Vec<Contents>,
    folders: BTreeSet<PathBuf>,
    /// Which of `contents` a name stands for.
    live: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    unsynced: Vec<NameChange>,
    locks: BTreeMap<PathBuf, Weak<MemoryFile>>,
    /// Counts power cuts and kills; a file knows in which life it was opened.
    life: u64,
    /// Changes made so far.
    changes: u64,
    /// The change at which the device dies.
    dies_at: Option<u64>,
    dead: bool,
    next_sync_fails: bool,
}

/// The two images of one file's bytes.
#[derive(Default)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<ByteChange>,
}

enum ByteChange {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

enum NameChange {
    Set(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of changes and syncs that the disk has been asked for.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Lets the device die at the `count`-th change or sync from now, the next being 1: that one fails,
    /// and so does everything after it. A write at which it dies has happened in part: it is unsynced.
    pub fn die_after(&self, count: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.changes + count);
    }

    /// Lets the next sync of a file fail, and only that one. Nothing that it was to make durable will be by
    /// a later sync, although it is seen until the file is opened for reading.
    pub fn fail_next_sync(&self) {
        self.state().next_sync_fails = true;
    }

    /// Power is cut and comes back: what was synced is there, and of the rest the sectors and changes
    /// for which `survives` says so. Files that are open are dead, locks are free.
    pub fn power_cut(&self, mut survives: impl FnMut() -> bool) {
        let mut state = self.state();
        for contents in &mut state.contents {
            contents.cut(&mut survives);
        }
        for change in std::mem::take(&mut state.unsynced) {
            if !survives() {
                break;
            }
            change.apply(&mut state.durable);
        }
        state.live = state.durable.clone();
        state.begin_life();
    }

    /// The process is killed: its files are dead and its locks free, but nothing written is lost, and
    /// nothing unsynced has become durable.
    pub fn kill(&self) {
        self.state().begin_life();
    }

    /// Damages one byte of a file in both images, by flipping the bits that are set in `mask`.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.state();
        let id = state.live[path];
        let contents = &mut state.contents[id];
        contents.live[offset as usize] ^= mask;
        if let Some(byte) = contents.durable.get_mut(offset as usize) {
            *byte ^= mask;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(self.open_file(path, mode)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.lookup(from)?;
        state.change_name(NameChange::Rename(from.into(), to.into()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.lookup(path)?;
        state.change_name(NameChange::Remove(path.into()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.count_change()?;
        for change in std::mem::take(&mut state.unsynced) {
            if change.is_in(dir) {
                change.apply(&mut state.durable);
            } else {
                state.unsynced.push(change);
            }
        }
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.count_change()?;
        state.folders.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        if !state.folders.contains(dir) {
            return Err(not_found(dir));
        }
        let children = state.live.keys().chain(&state.folders).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> =
            children.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        state.alive()?;
        Ok(state.live.contains_key(path) || state.folders.contains(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if self.state().locks.get(path).is_some_and(|holder| holder.strong_count() > 0) {
            return Err(in_use(path));
        }
        let file = self.open_file(path, OpenMode::OpenOrCreate)?;
        self.state().locks.insert(path.into(), Arc::downgrade(&file));
        Ok(file)
    }
}

impl MemoryDisk {
    fn open_file(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<MemoryFile>> {
        let mut state = self.state();
        state.alive()?;
        let id = match (state.lookup(path), mode) {
            (Ok(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(id), _) => id,
            (Err(error), OpenMode::Read | OpenMode::ReadWrite) => return Err(error),
            (Err(_), OpenMode::CreateNew | OpenMode::OpenOrCreate) => state.create(path)?,
        };
        let writable = mode != OpenMode::Read;
        if !writable {
            state.contents[id].forget_clean();
        }
        Ok(Arc::new(MemoryFile { disk: self.clone(), id, life: state.life, writable }))
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the device is dead")) } else { Ok(()) }
    }

    /// Counts a change and fails at the one at which the device dies.
    fn count_change(&mut self) -> io::Result<()> {
        self.alive()?;
        self.changes += 1;
        self.dead = self.dies_at == Some(self.changes);
        self.alive()
    }

    fn lookup(&self, path: &Path) -> io::Result<usize> {
        self.live.get(path).copied().ok_or_else(|| not_found(path))
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        if !path.parent().is_some_and(|folder| self.folders.contains(folder)) {
            return Err(not_found(path));
        }
        self.contents.push(Contents::default());
        let id = self.contents.len() - 1;
        self.change_name(NameChange::Set(path.into(), id))?;
        Ok(id)
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let counted = self.count_change();
        change.apply(&mut self.live);
        self.unsynced.push(change);
        counted
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.dead = false;
        self.dies_at = None;
        self.next_sync_fails = false;
        self.locks.clear();
    }
}

impl Contents {
    /// Leaves the durable image and the unsynced sectors that survive.
    fn cut(&mut self, survives: &mut impl FnMut() -> bool) {
        for change in self.unsynced.drain(..) {
            match change {
                ByteChange::Write(offset, bytes) => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let at = offset + from as u64;
                        let room = (SECTOR_BYTES - at % SECTOR_BYTES) as usize;
                        let to = bytes.len().min(from + room);
                        if survives() {
                            write(&mut self.durable, at, &bytes[from..to]);
                        }
                        from = to;
                    }
                }
                ByteChange::SetLen(length) if survives() => self.durable.resize(length as usize, 0),
                ByteChange::SetLen(_) => {}
            }
        }
        self.live = self.durable.clone();
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Shows what is durable, or will be with the next sync.
    fn forget_clean(&mut self) {
        self.live = self.durable.clone();
        for change in &self.unsynced {
            change.apply(&mut self.live);
        }
    }

    fn change(&mut self, change: ByteChange) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }
}

impl ByteChange {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            ByteChange::Write(offset, bytes) => write(image, *offset, bytes),
            ByteChange::SetLen(length) => image.resize(*length as usize, 0),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Set(path, id) => {
                names.insert(path.clone(), *id);
            }
            NameChange::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
        }
    }

    /// Whether syncing this folder makes the change durable.
    fn is_in(&self, dir: &Path) -> bool {
        let (NameChange::Set(path, _) | NameChange::Rename(_, path) | NameChange::Remove(path)) = self;
        path.parent() == Some(dir)
    }
}

fn write(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = offset as usize;
    if image.len() < offset + bytes.len() {
        image.resize(offset + bytes.len(), 0);
    }
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

/// An open file of a [`MemoryDisk`].
struct MemoryFile {
    disk: MemoryDisk,
    id: usize,
    life: u64,
    writable: bool,
}

impl MemoryFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.alive()?;
        if state.life == self.life {
            Ok(state)
        } else {
            Err(io::Error::other("the process that opened this file is gone"))
        }
    }

    fn change(&self, change: ByteChange) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut state = self.state()?;
        let counted = state.count_change();
        state.contents[self.id].change(change);
        counted
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let live = &state.contents[self.id].live;
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let to = from.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(live.get(from..to).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(ByteChange::Write(offset, bytes.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.count_change()?;
        if std::mem::take(&mut state.next_sync_fails) {
            state.contents[self.id].unsynced.clear();
            return Err(io::Error::other("the device could not write"));
        }
        state.contents[self.id].sync();
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(ByteChange::SetLen(length))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.contents[self.id].live.len() as u64)
    }
}
