//! Lives of a database: made, committed to, read, crashed, recovered.

use std::path::Path;
use std::sync::Arc;

use detcd::storage::{Snapshot, Storage, StorageConfig};
use detcd::types::LocalFault;
use rand::Rng;

use super::backend_prefix::{self, CLAIM, unreadable, violated};
use super::database_model::{CommitSource, DatabaseModel};
use super::promise::Promise;
use super::rig::{Rig, Trouble, make_folder, no_panic, unjustified};
use super::{StorageReport, value_checksum};
use crate::disk::{Fault, SimDisk};
use crate::evidence::Violation;
use crate::random::{Draw, Random};

/// The folder of the database.
pub(super) const FOLDER: &str = "/member";
/// The database.
pub(super) const PATH: &str = "/member/db";
/// Changes of the disk in one life, about.
const CHANGES: u64 = 120;

pub(super) fn path() -> &'static Path {
    Path::new(PATH)
}

/// Lives of one database.
struct DatabaseRun {
    rig: Rig,
    promise: Promise<DatabaseModel>,
    source: CommitSource,
    /// None between lives.
    storage: Option<Storage>,
    /// A snapshot that somebody still reads, and what it shows.
    held: Option<(Arc<Snapshot>, DatabaseModel)>,
    trouble: Trouble,
}

/// Runs so many lives.
pub(super) fn run(rig: Rig, lives: u64) -> Result<StorageReport, Violation> {
    make_folder(&*rig.disk.mount(), Path::new(FOLDER));
    let promise = Promise::new(DatabaseModel::default());
    let source = CommitSource::default();
    let mut run = DatabaseRun { rig, promise, source, storage: None, held: None, trouble: Trouble::None };
    // It begins without a file: making one is the first thing that crashes.
    run.recover()?;
    for _ in 0..lives {
        run.live()?;
        run.end()?;
        if run.rig.percent(35) && !run.rig.disk.owes() {
            value_checksum::check(&mut run.rig, &run.source, run.promise.kept())?;
        }
    }
    Ok(run.rig.finish())
}

/// Caches from none to more than everything. Who cannot trust the medium (a lie was found out) has the whole
/// file checked, as a server does.
pub(super) fn draw_config(random: &mut Random, trusts: bool) -> StorageConfig {
    StorageConfig {
        cache_bytes: *random.pick(&[0, 20_000, 200_000, 4 << 20]),
        verify_on_open: !trusts || random.percent(85),
    }
}

/// Opens the database on a disk, in the process that lives now.
pub(super) fn open(disk: &SimDisk, config: StorageConfig) -> Result<Result<Storage, LocalFault>, Violation> {
    let mount = disk.mount();
    no_panic(CLAIM, "opening the database", || Storage::open(&*mount, path(), config))
}

/// What an opened database holds.
pub(super) fn content(storage: &Storage) -> Result<Result<DatabaseModel, LocalFault>, Violation> {
    no_panic(CLAIM, "reading the database", || DatabaseModel::read(&*storage.snapshot()))
}

impl DatabaseRun {
    /// A life of some commits, which trouble may end.
    fn live(&mut self) -> Result<(), Violation> {
        self.trouble = self.rig.arm_trouble(CHANGES);
        for _ in 0..self.rig.random.random_range(1..12) {
            self.rig.step();
            if self.trouble == Trouble::Lies && self.rig.percent(15) {
                self.rig.disk.set_lying(false);
            }
            if let Err(fault) = self.take_step()? {
                self.rig.mark_if(self.trouble == Trouble::Fault(Fault::SyncError), "database sync failed");
                if self.trouble.is_quiet() {
                    return Err(unjustified(CLAIM, "using the database", &fault));
                }
                return self.check_stopped();
            }
        }
        Ok(())
    }

    /// One step. The inner result is the database's.
    fn take_step(&mut self) -> Result<Result<(), LocalFault>, Violation> {
        let Some(mut storage) = self.storage.take() else { return Ok(Ok(())) };
        let outcome = match self.rig.random.random_range(0..100) {
            0..75 => self.commit(&mut storage)?,
            75..83 => {
                self.held = Some((storage.snapshot(), self.promise.kept().clone()));
                Ok(())
            }
            83..93 => {
                backend_prefix::check_snapshot(self.promise.kept(), &*storage.snapshot())?;
                if let Some((snapshot, shown)) = &self.held {
                    backend_prefix::check_snapshot(shown, &**snapshot)?;
                }
                Ok(())
            }
            _ => {
                // Closed cleanly, and opened again in the same process.
                self.held = None;
                drop(storage);
                match open(&self.rig.disk, draw_config(&mut self.rig.random, true))? {
                    Ok(opened) => storage = opened,
                    Err(fault) => return Ok(Err(fault)),
                }
                backend_prefix::check_snapshot(self.promise.kept(), &*storage.snapshot())?;
                Ok(())
            }
        };
        self.storage = Some(storage);
        Ok(outcome)
    }

    fn commit(&mut self, storage: &mut Storage) -> Result<Result<(), LocalFault>, Violation> {
        let batch = self.source.draw(&mut self.rig.random, self.promise.kept());
        self.promise.ask(|state| state.commit(&batch));
        self.promise.sent();
        let committed = match no_panic(CLAIM, "committing", || storage.commit(batch))? {
            Ok(committed) => committed,
            Err(fault) => return Ok(Err(fault)),
        };
        self.promise.acknowledged();
        self.rig.report.commits += 1;
        if self.rig.percent(20) {
            backend_prefix::check_snapshot(self.promise.kept(), &*committed.snapshot)?;
        }
        Ok(Ok(()))
    }

    /// After a failed commit the database commits nothing any more.
    fn check_stopped(&mut self) -> Result<(), Violation> {
        let Some(storage) = &mut self.storage else { return Ok(()) };
        if self.trouble != Trouble::Fault(Fault::SyncError) {
            return Ok(());
        }
        let batch = self.source.draw(&mut self.rig.random, self.promise.asked());
        if batch.is_empty() {
            // Nothing is written for it.
            return Ok(());
        }
        match no_panic(CLAIM, "committing", || storage.commit(batch))? {
            Ok(_) => Err(violated("a commit was acknowledged after a failed sync".into())),
            Err(_) => Ok(()),
        }
    }

    /// The end of a life and the beginning of the next.
    fn end(&mut self) -> Result<(), Violation> {
        if self.rig.percent(40) {
            self.look_at_other_cut()?;
        }
        self.rig.calm();
        let owed = self.rig.crash();
        self.promise.cut(owed);
        self.close()?;
        self.recover()
    }

    /// Drops what a dead process held.
    fn close(&mut self) -> Result<(), Violation> {
        let (storage, held) = (self.storage.take(), self.held.take());
        no_panic(CLAIM, "closing the database", || drop((storage, held)))
    }

    /// What another cut of this moment would have left.
    fn look_at_other_cut(&mut self) -> Result<(), Violation> {
        let mut promise = self.promise.clone();
        promise.cut(self.rig.disk.owes());
        let fork = self.rig.other_cut();
        match open(&fork, draw_config(&mut self.rig.random, !promise.may_be_lost()))? {
            Ok(storage) => match content(&storage)? {
                Ok(found) => backend_prefix::check_recovered(&promise, &found),
                Err(_) if promise.may_be_lost() => Ok(()),
                Err(fault) => Err(unreadable("the database", &fault)),
            },
            Err(_) if promise.may_be_lost() => Ok(()),
            Err(fault) => Err(unjustified(CLAIM, "opening the database after a crash", &fault)),
        }
    }

    /// Opens the database after a crash, with crashes while it is being opened.
    fn recover(&mut self) -> Result<(), Violation> {
        while self.rig.percent(25) {
            let fault =
                *self.rig.random.pick(&[Fault::Death, Fault::Death, Fault::SyncError, Fault::ReadError]);
            let after = self.rig.random.log_uniform(1, 40);
            self.rig.arm(fault, after);
            let accepted = self.open_and_accept()?;
            self.rig.mark_if(!accepted, "database opening interrupted");
            self.rig.calm();
            let owed = self.rig.crash();
            self.promise.cut(owed);
            self.close()?;
        }
        if !self.open_and_accept()? {
            self.rig.mark("database lost to a lying disk");
            self.close()?;
            self.rig.disk.wipe();
            make_folder(&*self.rig.disk.mount(), Path::new(FOLDER));
            self.promise = Promise::new(DatabaseModel::default());
            return self.recover();
        }
        if !self.rig.disk.owes() && self.rig.percent(35) {
            let fork = self.rig.worst_cut();
            let storage = open(&fork, draw_config(&mut self.rig.random, true))?
                .map_err(|fault| unjustified(CLAIM, "opening the database a second time", &fault))?;
            let later = content(&storage)?.map_err(|fault| unreadable("the database", &fault))?;
            backend_prefix::check_durable(self.promise.kept(), &later)?;
        }
        Ok(())
    }

    /// Opens the database and compares it with the promise. False when it was refused with a reason: the
    /// device fails on the way, or a lie was found out.
    fn open_and_accept(&mut self) -> Result<bool, Violation> {
        let armed = self.rig.disk.armed();
        let config = draw_config(&mut self.rig.random, !self.promise.may_be_lost());
        let writes = self.rig.disk.statistics().writes;
        let opened = match open(&self.rig.disk, config)? {
            Ok(storage) => match content(&storage)? {
                Ok(found) => Ok((storage, found)),
                Err(fault) => {
                    self.storage = Some(storage);
                    Err(fault)
                }
            },
            Err(fault) => Err(fault),
        };
        let struck = self.rig.disk.armed() < armed;
        match opened {
            Ok((storage, found)) => {
                backend_prefix::check_recovered(&self.promise, &found)?;
                let existed = self.promise.kept().applied.is_some();
                let repaired = existed && self.rig.disk.statistics().writes > writes;
                self.rig.mark_if(repaired, "database repaired on open");
                let (kept, asked) = (self.promise.kept(), self.promise.asked());
                let in_flight = self.promise.is_in_flight() && kept != asked;
                self.rig.mark_if(in_flight && found == *kept, "commit in flight lost");
                self.rig.mark_if(in_flight && found == *asked, "commit in flight survived");
                self.promise.settle(found);
                self.storage = Some(storage);
                Ok(true)
            }
            Err(_) if struck || self.promise.may_be_lost() => Ok(false),
            Err(fault) => Err(unjustified(CLAIM, "opening the database after a crash", &fault)),
        }
    }
}
