//! The device behind every handle: what each operation does, and what goes wrong with it.
//!
//! Invariants:
//! - an operation is struck by at most one fault;
//! - while the device is dead nothing changes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use detcd::disk::{OpenMode, SECTOR_BYTES};
use rand::Rng;

use super::contents::Contents;
use super::fault::{Armed, Cut, Fault, Kind};
use super::image::PAGE_BYTES;
use super::latency::Latency;
use super::mount::MountedFile;
use super::names::{FileId, Names};
use super::{LastWrite, Recorder, Statistics};
use crate::markers;
use crate::random::{Draw, Random};
use crate::trace::DiskAction;

/// The system's number for an input or output error.
const EIO: i32 = 5;
/// Its number for a full disk.
const ENOSPC: i32 = 28;

/// A disk.
pub(super) struct State {
    pub names: Names,
    pub contents: BTreeMap<FileId, Contents>,
    pub next_file: FileId,
    /// Counts crashes: a mount and a file know in which life they began.
    pub life: u64,
    pub dead: bool,
    pub lying: bool,
    /// Bytes that all files together may have.
    pub capacity: Option<u64>,
    pub armed: Armed,
    pub latency: Latency,
    pub slowdown: u32,
    pub random: Random,
    pub statistics: Statistics,
    pub recorder: Option<Recorder>,
    pub locks: BTreeMap<PathBuf, Weak<MountedFile>>,
    pub last_write: Option<(FileId, LastWrite)>,
    pub on_death: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Set when the device has just died: to be called once the lock is free.
    pub news_of_death: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl State {
    pub fn new(random: Random) -> Self {
        Self {
            names: Names::default(),
            contents: BTreeMap::new(),
            next_file: 0,
            life: 0,
            dead: false,
            lying: false,
            capacity: None,
            armed: Armed::default(),
            latency: Latency::default(),
            slowdown: 1,
            random,
            statistics: Statistics::default(),
            recorder: None,
            locks: BTreeMap::new(),
            last_write: None,
            on_death: None,
            news_of_death: None,
        }
    }

    /// The same medium, memory and faults in a device of its own, which tells nobody what happens.
    pub fn fork(&self) -> Self {
        Self {
            names: self.names.clone(),
            contents: self.contents.clone(),
            next_file: self.next_file,
            life: self.life,
            dead: self.dead,
            lying: self.lying,
            capacity: self.capacity,
            armed: self.armed.clone(),
            last_write: self.last_write.clone(),
            ..Self::new(self.random.clone())
        }
    }

    /// Starts the next life: what was open is dead, locks are free, the device is back.
    pub fn begin_life(&mut self) {
        self.life += 1;
        self.dead = false;
        self.locks.clear();
        let reachable = self.names.reachable();
        self.contents.retain(|file, _| reachable.contains(file));
    }

    /// Bytes of all files that have a name.
    pub fn used(&self) -> u64 {
        self.names.files().map(|(_, file)| self.contents[&file].live().length()).sum()
    }

    pub fn note(&mut self, action: DiskAction, path: &Path, offset: u64, bytes: u64) {
        if let Some(recorder) = &self.recorder {
            recorder.note(action, path, offset, bytes);
        }
    }

    fn note_file(&mut self, action: DiskAction, file: FileId, offset: u64, bytes: u64) {
        if self.recorder.is_some() {
            let path = self.path_of(file);
            self.note(action, &path, offset, bytes);
        }
    }

    /// The name of a file, empty when it has none any more.
    fn path_of(&self, file: FileId) -> PathBuf {
        self.names.name_of(file).map(Path::to_path_buf).unwrap_or_default()
    }

    fn file(&mut self, file: FileId) -> &mut Contents {
        self.contents.entry(file).or_default()
    }

    pub fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the device is dead")) } else { Ok(()) }
    }

    /// Begins an operation: takes its time, and says which fault strikes it.
    fn begin(&mut self, kind: Kind, path: Option<&Path>, file: Option<FileId>) -> io::Result<Option<Fault>> {
        self.alive()?;
        self.latency.charge(kind, self.slowdown, &mut self.random);
        if self.armed.count() == 0 {
            return Ok(None);
        }
        let named = file.map(|file| self.path_of(file));
        let path = path.or(named.as_deref()).unwrap_or(Path::new(""));
        let struck = self.armed.strike(kind, path);
        if let Some(fault) = struck {
            self.statistics.faults += 1;
            let silent = matches!(fault, Fault::MisdirectedWrite | Fault::StaleSector);
            let action = if silent { DiskAction::Damaged } else { DiskAction::Failed };
            let path = path.to_path_buf();
            self.note(action, &path, 0, 0);
        }
        Ok(struck)
    }

    /// The error of a struck operation. At a death the device is dead from here on.
    fn fail<T>(&mut self, fault: Fault) -> io::Result<T> {
        if fault != Fault::Death {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if let Some(recorder) = &self.recorder
            && self.contents.values().any(Contents::is_unsynced)
        {
            recorder.mark(markers::DIED_UNSYNCED);
        }
        self.dead = true;
        self.news_of_death = self.on_death.clone();
        self.alive()?;
        unreachable!("the device has just died")
    }

    pub fn read(&mut self, file: FileId, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.statistics.reads += 1;
        self.statistics.read_bytes += buffer.len() as u64;
        if let Some(fault) = self.begin(Kind::Read, None, Some(file))? {
            return self.fail(fault);
        }
        if self.file(file).live().read(offset, buffer) {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    pub fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.statistics.writes += 1;
        self.statistics.written_bytes += length;
        let struck = self.begin(Kind::Write, None, Some(file))?;
        self.check_space(file, offset.saturating_add(length))?;
        self.last_write = Some((file, LastWrite { path: PathBuf::new(), offset, length }));
        match struck {
            None => self.file(file).write(offset, bytes),
            Some(Fault::MisdirectedWrite) => self.misdirect(file, offset, bytes),
            Some(Fault::StaleSector) => self.leave_out_a_part(file, offset, bytes),
            Some(fault) => {
                let part = self.random.random_range(0..=bytes.len());
                self.file(file).write(offset, &bytes[..part]);
                return self.fail(fault);
            }
        }
        self.note_file(DiskAction::Write, file, offset, length);
        Ok(())
    }

    /// Writes at another place. In a file without one, where it should.
    fn misdirect(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        let length = self.file(file).live().length();
        let places = length.saturating_sub(offset % SECTOR_BYTES + bytes.len() as u64) / SECTOR_BYTES + 1;
        let mut target = offset;
        if places > 1 {
            let place = self.random.random_range(0..places - 1);
            let place = if place >= offset / SECTOR_BYTES { place + 1 } else { place };
            target = place * SECTOR_BYTES + offset % SECTOR_BYTES;
        }
        self.extend(file, offset + bytes.len() as u64);
        self.file(file).write(target, bytes);
    }

    /// Writes all but one sector or page.
    fn leave_out_a_part(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let unit = *self.random.pick(&[SECTOR_BYTES, PAGE_BYTES]);
        let units = offset / unit..end.div_ceil(unit);
        self.extend(file, end);
        if units.is_empty() {
            return;
        }
        let start = self.random.random_range(units) * unit;
        let (from, to) = (start.max(offset), (start + unit).min(end));
        self.file(file).write(offset, &bytes[..(from - offset) as usize]);
        self.file(file).write(to, &bytes[(to - offset) as usize..]);
    }

    /// The file is at least this long: lengths are kept elsewhere than bytes.
    fn extend(&mut self, file: FileId, end: u64) {
        if self.file(file).live().length() < end {
            self.file(file).set_length(end);
        }
    }

    pub fn set_length(&mut self, file: FileId, length: u64) -> io::Result<()> {
        self.statistics.length_changes += 1;
        let struck = self.begin(Kind::SetLength, None, Some(file))?;
        self.check_space(file, length)?;
        if struck.is_none() || self.random.percent(50) {
            self.file(file).set_length(length);
        }
        if let Some(fault) = struck {
            return self.fail(fault);
        }
        self.note_file(DiskAction::SetLength, file, length, 0);
        Ok(())
    }

    /// Fails when a file that ends at `end` would not fit.
    fn check_space(&mut self, file: FileId, end: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let growth = end.saturating_sub(self.file(file).live().length());
        if growth == 0 || self.used() + growth <= capacity {
            return Ok(());
        }
        self.statistics.faults += 1;
        self.note_file(DiskAction::Failed, file, end, growth);
        Err(io::Error::from_raw_os_error(ENOSPC))
    }

    pub fn sync(&mut self, file: FileId) -> io::Result<()> {
        self.statistics.syncs += 1;
        let struck = self.begin(Kind::Sync, None, Some(file))?;
        let cut = struck.map(|_| Cut::draw(&mut self.random));
        let contents = self.contents.entry(file).or_default();
        match (struck, cut) {
            (Some(fault), Some(cut)) => {
                if fault == Fault::Death {
                    contents.write_back(&cut, &mut self.random);
                } else {
                    contents.fail_sync(&cut, &mut self.random);
                }
                return self.fail(fault);
            }
            _ if self.lying => contents.sync_as_a_lie(),
            _ => contents.sync(),
        }
        self.note_file(DiskAction::Sync, file, 0, 0);
        Ok(())
    }

    pub fn sync_folder(&mut self, dir: &Path) -> io::Result<()> {
        self.statistics.folder_syncs += 1;
        if let Some(fault) = self.begin(Kind::SyncFolder, Some(dir), None)? {
            let cut = Cut::draw(&mut self.random);
            self.names.write_back(&cut, &mut self.random);
            return self.fail(fault);
        }
        if self.lying {
            self.names.sync_as_a_lie(dir);
        } else {
            self.names.sync(dir);
        }
        self.note(DiskAction::SyncFolder, dir, 0, 0);
        Ok(())
    }

    /// Finds a file or makes it, as the mode says.
    pub fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<FileId> {
        self.alive()?;
        match (self.names.find(path), mode) {
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), mode) => {
                if mode == OpenMode::Read {
                    self.file(file).forget_orphans();
                }
                Ok(file)
            }
            (None, OpenMode::Read | OpenMode::ReadWrite) => Err(not_found(path)),
            (None, OpenMode::CreateNew | OpenMode::OpenOrCreate) => self.create(path),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<FileId> {
        if !path.parent().is_some_and(|folder| self.names.has_folder(folder)) {
            return Err(not_found(path));
        }
        let file = self.next_file;
        self.next_file += 1;
        self.contents.insert(file, Contents::default());
        self.change_name(path, DiskAction::Write, |names| names.link(path, file))?;
        Ok(file)
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.lookup(from)?;
        self.change_name(to, DiskAction::Rename, |names| names.link(to, file))
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        let file = self.lookup(path)?;
        self.change_name(path, DiskAction::Remove, |names| names.unlink(path, file))
    }

    fn lookup(&self, path: &Path) -> io::Result<FileId> {
        self.alive()?;
        self.names.find(path).ok_or_else(|| not_found(path))
    }

    fn change_name(
        &mut self,
        path: &Path,
        action: DiskAction,
        change: impl FnOnce(&mut Names),
    ) -> io::Result<()> {
        self.statistics.name_changes += 1;
        let struck = self.begin(Kind::Name, Some(path), None)?;
        if struck.is_none() || self.random.percent(50) {
            change(&mut self.names);
        }
        if let Some(fault) = struck {
            return self.fail(fault);
        }
        self.note(action, path, 0, 0);
        Ok(())
    }
}

pub(super) fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}
