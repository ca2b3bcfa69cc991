//! Lives of a log: made, written to, rolled, released, crashed, recovered.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use detcd::disk::OpenMode;
use detcd::types::LocalFault;
use detcd::wal::{Recovered, Wal, WalConfig};
use rand::Rng;

use super::log_model::{BatchSource, LogModel};
use super::promise::Promise;
use super::rig::{Rig, Trouble, make_folder, no_panic, unjustified};
use super::wal_recovery::{self, CLAIM, METADATA, violated};
use super::{StorageReport, log_damage};
use crate::disk::{Fault, SimDisk};
use crate::evidence::Violation;
use crate::random::{Draw, Random};

/// The folder of the log.
pub(super) const FOLDER: &str = "/member/wal";
/// Changes of the disk in one life, about.
const CHANGES: u64 = 60;

/// Lives of one log.
struct LogRun {
    rig: Rig,
    promise: Promise<LogModel>,
    source: BatchSource,
    config: WalConfig,
    /// None between lives.
    wal: Option<Wal>,
    trouble: Trouble,
    /// Whether a lie was found out since the log was made: what it has left on the disk may be in the way
    /// at any time. Then the log may refuse, and still must not give back what is wrong.
    tainted: bool,
}

/// Runs so many lives.
pub(super) fn run(mut rig: Rig, lives: u64) -> Result<StorageReport, Violation> {
    make_folder(&*rig.disk.mount(), Path::new("/member"));
    let config = draw_config(&mut rig.random);
    let promise = Promise::new(LogModel::default());
    let source = BatchSource::default();
    let trouble = Trouble::None;
    let mut run = LogRun { rig, promise, source, config, wal: None, trouble, tainted: false };
    run.create()?;
    for _ in 0..lives {
        run.live()?;
        run.end()?;
        if run.tainted && run.rig.percent(30) {
            run.start_anew()?;
        }
        if !run.tainted && run.rig.percent(40) {
            let case = log_damage::Case::new(&run.rig.disk, run.config, &run.source, run.promise.kept());
            case.check(&mut run.rig)?;
        }
    }
    Ok(run.rig.finish())
}

/// Small segments, so that many are begun, released and used again.
fn draw_config(random: &mut Random) -> WalConfig {
    let segment_bytes = match random.random_range(0..100) {
        0..2 => 2_600_000,
        2..10 => 60_000,
        _ => *random.pick(&[600, 1024, 1536, 2048, 2048, 4096, 4096, 8192, 16_384]),
    };
    WalConfig { segment_bytes, spare_segments: random.random_range(0..4) }
}

/// Opens the log on a disk, in the process that lives now.
pub(super) fn open(
    disk: &SimDisk,
    config: WalConfig,
) -> Result<Result<(Wal, Recovered), LocalFault>, Violation> {
    no_panic(CLAIM, "opening the log", || Wal::open(disk.mount(), Path::new(FOLDER), config))
}

/// The last bytes that were written to the log, for hostile payloads.
pub(super) fn last_written(disk: &SimDisk) -> Vec<u8> {
    let Some(write) = disk.last_write() else { return Vec::new() };
    read(disk, &write.path, write.offset, write.length.min(4096)).unwrap_or_default()
}

/// Bytes of a file, whoever has it open; none when it does not have them.
pub(super) fn read(disk: &SimDisk, path: &Path, offset: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    let file = disk.fork().mount().open(path, OpenMode::ReadWrite).ok()?;
    file.read_at(offset, &mut bytes).ok()?;
    Some(bytes)
}

impl LogRun {
    /// Makes the log, at times with a crash on the way. It exists whole or not at all.
    fn create(&mut self) -> Result<(), Violation> {
        loop {
            let interrupted = self.rig.percent(40);
            if interrupted {
                let after = self.rig.random.random_range(1..12);
                self.rig.arm(Fault::Death, after);
            }
            let disk = self.rig.disk.mount();
            let made = no_panic(CLAIM, "making the log", || {
                Wal::create(disk, Path::new(FOLDER), self.config, Bytes::from_static(METADATA))
            })?;
            let promised = made.is_ok();
            match made {
                Ok(wal) if !interrupted => {
                    self.wal = Some(wal);
                    return Ok(());
                }
                Err(fault) if !interrupted => return Err(unjustified(CLAIM, "making the log", &fault)),
                _ => {}
            }
            self.rig.mark_if(!promised, "wal creation interrupted");
            self.rig.calm();
            self.rig.crash();
            let exists = Wal::exists(&*self.rig.disk.mount(), Path::new(FOLDER))
                .map_err(|fault| unjustified(CLAIM, "looking for the log", &fault))?;
            if exists && promised {
                return self.recover();
            }
            if exists {
                // Only an undisturbed opening makes its name durable.
                return self.recover_undisturbed();
            }
            if promised {
                return Err(violated("the log was made, and is gone after a crash".into()));
            }
        }
    }

    /// A life of some steps, which trouble may end.
    fn live(&mut self) -> Result<(), Violation> {
        self.trouble = self.rig.arm_trouble(CHANGES);
        for _ in 0..self.rig.random.random_range(1..30) {
            self.rig.step();
            if self.trouble == Trouble::Lies && self.rig.percent(15) {
                self.rig.disk.set_lying(false);
            }
            if let Err(fault) = no_panic(CLAIM, "using the log", || self.take_step())?? {
                self.rig.mark_if(self.trouble == Trouble::Fault(Fault::SyncError), "sync failed");
                self.rig.mark_if(self.trouble == Trouble::FullDisk, "disk full");
                if self.trouble.is_quiet() && !self.tainted {
                    return Err(unjustified(CLAIM, "writing to the log", &fault));
                }
                return self.check_stopped();
            }
        }
        Ok(())
    }

    /// One step. The inner result is the log's.
    fn take_step(&mut self) -> Result<Result<(), LocalFault>, Violation> {
        let Some(mut wal) = self.wal.take() else { return Ok(Ok(())) };
        let outcome = match self.rig.random.random_range(0..100) {
            0..25 => {
                self.append(&mut wal);
                Ok(())
            }
            25..70 => {
                self.append(&mut wal);
                self.flush(&mut wal)
            }
            70..76 => self.seal(&mut wal),
            76..90 => self.release(&mut wal),
            90..96 => self.prepare(&mut wal),
            _ => {
                drop(wal);
                return self.reopen();
            }
        };
        self.wal = Some(wal);
        Ok(outcome)
    }

    fn append(&mut self, wal: &mut Wal) {
        let old = if self.rig.percent(5) { last_written(&self.rig.disk) } else { Vec::new() };
        let batch = self.source.draw(&mut self.rig.random, self.promise.asked(), &old);
        wal.append(&batch);
        self.promise.ask(|log| log.apply(&batch));
    }

    fn flush(&mut self, wal: &mut Wal) -> Result<(), LocalFault> {
        let spares = self.spares();
        self.promise.sent();
        let stats = wal.flush()?;
        self.promise.acknowledged();
        self.rig.report.batches += 1;
        self.rig.mark_if(stats.rolled, "segment begun");
        self.rig.mark_if(stats.rolled && self.spares() < spares, "segment recycled");
        Ok(())
    }

    fn seal(&mut self, wal: &mut Wal) -> Result<(), LocalFault> {
        self.promise.sent();
        wal.seal()?;
        self.promise.acknowledged();
        Ok(())
    }

    fn release(&mut self, wal: &mut Wal) -> Result<(), LocalFault> {
        let segments = self.files(".wal");
        let last = self.promise.kept().last();
        // Also more than the snapshot point allows: the log must know better.
        let index = match self.rig.random.random_range(0..4) {
            0 => last,
            1 => u64::MAX,
            2 => self.promise.kept().snapshot.index,
            _ => self.rig.random.random_range(0..=last),
        };
        wal.release(index)?;
        self.rig.mark_if(self.files(".wal") < segments, "segment released");
        Ok(())
    }

    fn prepare(&mut self, wal: &mut Wal) -> Result<(), LocalFault> {
        while wal.prepare()? && self.rig.percent(80) {}
        Ok(())
    }

    /// Ends the log without a crash and opens it again, in the same process.
    fn reopen(&mut self) -> Result<Result<(), LocalFault>, Violation> {
        self.config = draw_config(&mut self.rig.random);
        let (wal, found) = match open(&self.rig.disk, self.config)? {
            Ok(opened) => opened,
            Err(fault) => return Ok(Err(fault)),
        };
        // What was appended and not flushed is gone with the log that it was appended to.
        wal_recovery::check_recovered(&self.promise, &found)?;
        self.promise.settle(LogModel::of(&found));
        self.wal = Some(wal);
        Ok(Ok(()))
    }

    /// After an error the log writes nothing any more, and says so.
    fn check_stopped(&mut self) -> Result<(), Violation> {
        let before = self.rig.disk.statistics();
        let Some(wal) = &mut self.wal else { return Ok(()) };
        let tried = [wal.flush().is_ok(), wal.seal().is_ok(), wal.release(u64::MAX).is_ok()];
        let after = self.rig.disk.statistics();
        if tried.contains(&true) || before != after {
            return Err(violated(format!("the log went on after an error: {before:?}, then {after:?}")));
        }
        Ok(())
    }

    /// The end of a life and the beginning of the next.
    fn end(&mut self) -> Result<(), Violation> {
        for _ in 0..self.rig.random.random_range(0..3) {
            self.look_at_other_cut()?;
        }
        self.rig.calm();
        if self.rig.percent(50) {
            self.wal = None;
        }
        let owed = self.rig.crash();
        self.promise.cut(owed);
        self.wal = None;
        if self.rig.percent(50) {
            self.config = draw_config(&mut self.rig.random);
        }
        self.recover()
    }

    /// What another cut of this moment would have left.
    fn look_at_other_cut(&mut self) -> Result<(), Violation> {
        let mut promise = self.promise.clone();
        promise.cut(self.rig.disk.owes());
        let fork = self.rig.other_cut();
        match open(&fork, self.config)? {
            Ok((_, found)) => wal_recovery::check_recovered(&promise, &found),
            Err(_) if promise.may_be_lost() || self.tainted => Ok(()),
            Err(fault) => Err(unjustified(CLAIM, "opening the log after a crash", &fault)),
        }
    }

    /// Opens the log after a crash, with crashes while it is being opened.
    fn recover(&mut self) -> Result<(), Violation> {
        while self.rig.percent(25) {
            if !self.try_to_recover()? {
                return Ok(());
            }
        }
        self.recover_undisturbed()
    }

    fn recover_undisturbed(&mut self) -> Result<(), Violation> {
        let (wal, found) = match open(&self.rig.disk, self.config)? {
            Ok(opened) => opened,
            Err(fault) => return self.lost(&fault),
        };
        self.accept(&found)?;
        self.wal = Some(wal);
        if !self.tainted && !self.rig.disk.owes() && self.rig.percent(40) {
            let fork = self.rig.worst_cut();
            let (_, later) = open(&fork, self.config)?
                .map_err(|fault| unjustified(CLAIM, "opening the log a second time", &fault))?;
            wal_recovery::check_durable(self.promise.kept(), &later)?;
        }
        Ok(())
    }

    /// Opens the log on a device that fails on the way, and crashes. False when the log was lost to a lie,
    /// and another made.
    fn try_to_recover(&mut self) -> Result<bool, Violation> {
        let fault = *self.rig.random.pick(&[Fault::Death, Fault::ReadError, Fault::SyncError]);
        let after = self.rig.random.random_range(1..8);
        self.rig.arm(fault, after);
        let opened = open(&self.rig.disk, self.config)?;
        let struck = self.rig.disk.armed() == 0;
        self.rig.calm();
        match opened {
            Ok((_, found)) => self.accept(&found)?,
            Err(_) if struck => self.rig.mark("wal recovery interrupted"),
            Err(fault) => {
                self.lost(&fault)?;
                return Ok(false);
            }
        }
        let owed = self.rig.crash();
        self.promise.cut(owed);
        Ok(true)
    }

    fn accept(&mut self, found: &Recovered) -> Result<(), Violation> {
        wal_recovery::check_recovered(&self.promise, found)?;
        let state = LogModel::of(found);
        let (kept, asked) = (self.promise.kept(), self.promise.asked());
        let in_flight = self.promise.is_in_flight() && kept != asked;
        self.rig.mark_if(in_flight && state == *kept, "batch in flight lost");
        self.rig.mark_if(in_flight && state == *asked, "batch in flight survived");
        self.rig.mark_if(found.repaired.is_some(), "torn wal tail cut");
        self.rig.mark_if(self.promise.may_be_lost() && state != *kept, "wal set back by a lying disk");
        self.tainted |= self.promise.may_be_lost();
        self.promise.settle(state);
        Ok(())
    }

    /// A log that cannot be opened: allowed only after a lie.
    fn lost(&mut self, fault: &LocalFault) -> Result<(), Violation> {
        if !self.promise.may_be_lost() && !self.tainted {
            return Err(unjustified(CLAIM, "opening the log after a crash", fault));
        }
        self.rig.mark("wal lost to a lying disk");
        self.start_anew()
    }

    fn start_anew(&mut self) -> Result<(), Violation> {
        self.rig.disk.wipe();
        make_folder(&*self.rig.disk.mount(), Path::new("/member"));
        self.promise = Promise::new(LogModel::default());
        self.wal = None;
        self.tainted = false;
        self.create()
    }

    fn spares(&self) -> usize {
        self.files("").saturating_sub(self.files(".wal"))
    }

    fn files(&self, ending: &str) -> usize {
        let ends = |(path, _): &(PathBuf, u64)| path.to_string_lossy().ends_with(ending);
        self.rig.disk.files().iter().filter(|file| ends(file)).count()
    }
}
