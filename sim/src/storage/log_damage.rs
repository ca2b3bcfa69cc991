//! Damage to a log, on forks of its disk: rot, misplaced and stale sectors, lost ends and lost segments,
//! and reads that fail.

use std::path::{Path, PathBuf};

use detcd::disk::{OpenMode, SECTOR_BYTES};
use detcd::wal::{Wal, WalBatch, WalConfig};
use rand::Rng;

use super::log_model::{BatchSource, LogModel};
use super::log_run::{FOLDER, last_written, open, read};
use super::rig::{Rig, unjustified};
use super::wal_recovery::{self, CLAIM, violated};
use crate::disk::{Fault, SimDisk};
use crate::evidence::Violation;
use crate::random::{Draw, Random};

const SECTOR: usize = SECTOR_BYTES as usize;

/// A log on a disk of its own, and what it must hold.
pub(super) struct Case {
    disk: SimDisk,
    config: WalConfig,
    source: BatchSource,
    /// What is there, after each batch that was written here. The first was there before.
    states: Vec<LogModel>,
    /// Where each of those batches begins.
    places: Vec<(PathBuf, u64)>,
}

impl Case {
    /// The log as it is on a disk, its process killed.
    pub fn new(disk: &SimDisk, config: WalConfig, source: &BatchSource, state: &LogModel) -> Self {
        let disk = disk.fork();
        disk.kill();
        Self { disk, config, source: source.clone(), states: vec![state.clone()], places: Vec::new() }
    }

    /// Looks into one kind of damage.
    pub fn check(mut self, rig: &mut Rig) -> Result<(), Violation> {
        rig.report.damages += 1;
        match rig.random.random_range(0..100) {
            0..12 => self.check_read_error(rig),
            12..30 => self.check_silent_fault(rig),
            30..45 => {
                self.write_some(rig)?;
                self.check_last_batch(rig)
            }
            45..55 => {
                self.write_some(rig)?;
                self.check_lost_file(rig)
            }
            55..67 => self.check_other_history(rig),
            _ => {
                self.write_some(rig)?;
                self.check_damage(rig)
            }
        }
    }

    fn open(&self) -> Result<Wal, Violation> {
        let (wal, found) =
            open(&self.disk, self.config)?.map_err(|fault| unjustified(CLAIM, "opening a log", &fault))?;
        wal_recovery::check_damaged(self.state(), &found)?;
        Ok(wal)
    }

    /// What the log holds now.
    fn state(&self) -> &LogModel {
        &self.states[self.states.len() - 1]
    }

    /// Writes a few batches more, so that it is known where the last ones are, and ends the process.
    fn write_some(&mut self, rig: &mut Rig) -> Result<(), Violation> {
        let mut wal = self.open()?;
        for _ in 0..rig.random.random_range(1..5) {
            self.write(&mut wal, &mut rig.random)?;
        }
        self.disk.kill();
        Ok(())
    }

    /// Writes one batch, at times an empty one.
    fn write(&mut self, wal: &mut Wal, random: &mut Random) -> Result<(), Violation> {
        let batch = match random.percent(15) {
            true => WalBatch::default(),
            false => self.draw(random),
        };
        self.write_batch(wal, &batch)
    }

    fn draw(&mut self, random: &mut Random) -> WalBatch {
        let Case { source, states, .. } = self;
        source.draw(random, &states[states.len() - 1], &[])
    }

    fn write_batch(&mut self, wal: &mut Wal, batch: &WalBatch) -> Result<(), Violation> {
        let mut state = self.state().clone();
        wal.append(batch);
        state.apply(batch);
        let written = if *batch == WalBatch::default() { wal.seal() } else { wal.flush().map(|_| ()) };
        written.map_err(|fault| unjustified(CLAIM, "writing to a log", &fault))?;
        let write = self.disk.last_write();
        self.places.extend(write.map(|write| (write.path, write.offset)));
        self.states.push(state);
        Ok(())
    }

    /// Where the last batch begins.
    fn last_place(&self) -> (PathBuf, u64) {
        self.places[self.places.len() - 1].clone()
    }

    /// The segments, with their lengths.
    fn segments(&self) -> Vec<(PathBuf, u64)> {
        let mut files = self.disk.files();
        files.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "wal"));
        files
    }

    /// A place before the last batch, where batches begin as likely as anywhere else.
    fn draw_place(&self, random: &mut Random) -> (PathBuf, u64) {
        let (last, end) = self.last_place();
        if random.percent(40) {
            let place = random.pick(&self.places).clone();
            if place != (last.clone(), end) {
                return (place.0, place.1 + random.random_range(0..64));
            }
        }
        let (path, length) = random.pick(&self.segments()).clone();
        let length = if path == last { end } else { length };
        (path, random.random_range(0..length))
    }

    /// Damage before the last batch.
    fn check_damage(self, rig: &mut Rig) -> Result<(), Violation> {
        let (path, offset) = self.draw_place(&mut rig.random);
        let limit = if path == self.last_place().0 { self.last_place().1 } else { u64::MAX };
        let what = damage(&self.disk, &path, offset, limit, &mut rig.random);
        rig.tell(|| format!("{what} in {} at offset {offset}", path.display()));
        self.check_refused_or_whole(rig, &path, Some(offset))
    }

    /// Whatever was done to a file: the log is whole, or refuses and stays as it is.
    fn check_refused_or_whole(
        &self,
        rig: &mut Rig,
        file: &Path,
        offset: Option<u64>,
    ) -> Result<(), Violation> {
        let before = self.disk.statistics();
        match open(&self.disk, self.config)? {
            Ok((_, found)) => wal_recovery::check_damaged(self.state(), &found),
            Err(fault) => {
                wal_recovery::check_refusal(&fault, file, offset)?;
                rig.mark("wal damage refused");
                let after = self.disk.statistics();
                if (before.writes, before.length_changes) != (after.writes, after.length_changes) {
                    return Err(violated(format!("a log that was refused was changed: {fault}")));
                }
                Ok(())
            }
        }
    }

    /// Damage within the last batch looks like a crash: no more than that batch may go.
    fn check_last_batch(self, rig: &mut Rig) -> Result<(), Violation> {
        let (path, start) = self.last_place();
        let Some(length) = self.disk.length(&path) else { return Ok(()) };
        let end = length.min(start + self.disk.last_write().map_or(0, |write| write.length));
        let offset = rig.random.random_range(start..end);
        let what = damage(&self.disk, &path, offset, u64::MAX, &mut rig.random);
        rig.tell(|| format!("{what} in the last batch, {} at offset {offset}", path.display()));
        self.check_all_but_last(rig, &path, Some(offset))
    }

    /// Whatever was done to the last batch: the log is whole, or all but that batch, or refuses.
    fn check_all_but_last(&self, rig: &mut Rig, file: &Path, offset: Option<u64>) -> Result<(), Violation> {
        let before = &self.states[self.states.len() - 2];
        let blank = self.is_blank(&self.last_place())?;
        match open(&self.disk, self.config)? {
            Ok((_, found)) => {
                rig.mark_if(LogModel::of(&found) != *self.state(), "damaged last batch cut");
                wal_recovery::check_last_batch_damaged(self.state(), before, blank, &found)
            }
            Err(fault) => wal_recovery::check_refusal(&fault, file, offset),
        }
    }

    /// Whether there are zeros where a batch begins.
    fn is_blank(&self, (path, offset): &(PathBuf, u64)) -> Result<bool, Violation> {
        let sector = read(&self.disk, path, *offset, SECTOR_BYTES);
        let sector = sector.ok_or_else(|| violated(format!("{} is too short", path.display())))?;
        Ok(sector.iter().all(|byte| *byte == 0))
    }

    /// A segment that is gone or cut short. The loss of the last one leaves no trace, so it is not tried.
    fn check_lost_file(self, rig: &mut Rig) -> Result<(), Violation> {
        let segments = self.segments();
        let (last, end) = self.last_place();
        let (path, length) = rig.random.pick(&segments).clone();
        let mount = self.disk.mount();
        if path != last && rig.percent(50) {
            rig.tell(|| format!("{} is lost", path.display()));
            mount.remove(&path).map_err(|error| violated(error.to_string()))?;
            return self.check_refused_or_whole(rig, Path::new(FOLDER), None);
        }
        let length = rig.random.random_range(0..if path == last { end } else { length });
        rig.tell(|| format!("{} is cut to {length} bytes", path.display()));
        let file = mount.open(&path, OpenMode::ReadWrite).map_err(|error| violated(error.to_string()))?;
        file.set_len(length).map_err(|error| violated(error.to_string()))?;
        self.check_refused_or_whole(rig, &path, None)
    }

    /// A write that is acknowledged and stale or misplaced, and others after it.
    fn check_silent_fault(mut self, rig: &mut Rig) -> Result<(), Violation> {
        let mut wal = self.open()?;
        let fault = *rig.random.pick(&[Fault::StaleSector, Fault::MisdirectedWrite]);
        self.disk.arm(fault, rig.random.random_range(1..5));
        let mut struck_last = true;
        while self.disk.armed() > 0 {
            self.write(&mut wal, &mut rig.random)?;
        }
        // A misplaced write destroys what it lands on, so only what follows can prove that it was there.
        if fault == Fault::MisdirectedWrite || rig.percent(60) {
            self.write(&mut wal, &mut rig.random)?;
            struck_last = false;
        }
        rig.tell(|| format!("{fault:?}, and {struck_last} that nothing follows"));
        self.disk.kill();
        if !struck_last {
            return self.check_refused_or_whole(rig, Path::new(FOLDER), None);
        }
        self.check_all_but_last(rig, Path::new(FOLDER), None)
    }

    /// A batch or a segment as it would be had the log gone on otherwise: all of it is intact and in its
    /// place, and does not belong to what is around it. So look writes that were lost on a disk that then
    /// was written to again.
    fn check_other_history(mut self, rig: &mut Rig) -> Result<(), Violation> {
        let mut other = Case::new(&self.disk, self.config, &self.source, self.state());
        let (mut wal, mut other_wal) = (self.open()?, other.open()?);
        for _ in 0..rig.random.random_range(2..6) {
            let batch = self.draw(&mut rig.random);
            self.write_batch(&mut wal, &batch)?;
            other.write_batch(&mut other_wal, &other_content(batch))?;
        }
        self.disk.kill();
        let (file, offset, length) = if rig.percent(60) {
            // The batch behind must be there to prove that this one is not it.
            let at = rig.random.random_range(0..self.places.len() - 1);
            let ((file, offset), (next, end)) = (self.places[at].clone(), self.places[at + 1].clone());
            (file.clone(), offset, if next == file { end - offset } else { SECTOR_BYTES })
        } else {
            let file = rig.random.pick(&self.segments()).0.clone();
            let differs = |(path, length): &(PathBuf, u64)| {
                *path != file && read(&self.disk, path, 0, *length) != read(&other.disk, path, 0, *length)
            };
            if !self.segments().iter().any(differs) {
                // Nothing around it proves that it is not the right one.
                return Ok(());
            }
            (file.clone(), 0, self.disk.length(&file).unwrap_or(0))
        };
        let Some(bytes) = read(&other.disk, &file, offset, length) else { return Ok(()) };
        self.disk.damage(&file, offset, bytes.len(), |place| place.copy_from_slice(&bytes));
        rig.tell(|| format!("{length} bytes of another history in {} at offset {offset}", file.display()));
        self.check_refused_or_whole(rig, Path::new(FOLDER), None)
    }

    /// A read that fails is a refusal, and the log is whole when it can be read again.
    fn check_read_error(self, rig: &mut Rig) -> Result<(), Violation> {
        self.disk.arm(Fault::ReadError, rig.random.log_uniform(1, 12));
        let opened = open(&self.disk, self.config)?;
        let struck = self.disk.armed() == 0;
        self.disk.disarm();
        match opened {
            Ok(_) if struck => return Err(violated("a read failed and the log was opened".into())),
            Ok((_, found)) => wal_recovery::check_damaged(self.state(), &found)?,
            Err(fault) => {
                wal_recovery::check_refusal(&fault, Path::new(FOLDER), None)?;
                rig.mark("wal read error refused");
            }
        }
        self.disk.kill();
        self.open().map(|_| ())
    }
}

/// The same batch with the same sizes and promises and other data.
fn other_content(mut batch: WalBatch) -> WalBatch {
    for entry in &mut batch.entries {
        entry.data = entry.data.iter().map(|byte| !byte).collect();
    }
    batch
}

/// Damages a file around an offset, but nothing from `limit` on. Says what it did.
fn damage(disk: &SimDisk, path: &Path, offset: u64, limit: u64, random: &mut Random) -> &'static str {
    let sector = offset / SECTOR_BYTES * SECTOR_BYTES;
    let room = limit.min(disk.length(path).unwrap_or(0)).saturating_sub(sector).min(SECTOR_BYTES) as usize;
    match random.random_range(0..10) {
        0..5 => {
            let bit = random.random_range(0..8);
            disk.damage(path, offset, 1, |byte| byte[0] ^= 1 << bit);
            "a flipped bit"
        }
        5 | 6 => {
            disk.damage(path, sector, room, |bytes| bytes.fill(0));
            "a sector of zeros"
        }
        7 => {
            let garbage: [u8; SECTOR] = std::array::from_fn(|_| random.random());
            disk.damage(path, sector, room, |bytes| bytes.copy_from_slice(&garbage[..bytes.len()]));
            "a sector of garbage"
        }
        _ => {
            let other = last_written(disk);
            let from = random.random_range(0..other.len().max(SECTOR) / SECTOR) * SECTOR;
            disk.damage(path, sector, room, |bytes| {
                let copied = other[from.min(other.len())..].iter().chain(std::iter::repeat(&0));
                bytes.iter_mut().zip(copied).for_each(|(byte, copied)| *byte = *copied);
            });
            "a sector of another batch"
        }
    }
}
