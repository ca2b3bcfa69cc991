//! Claim: a snapshot that is exported, received and installed leaves the old or the new database, whole,
//! wherever it is interrupted; the new one once the installation returned. What arrives is what was sent,
//! or it is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use detcd::storage::{Export, Import, ImportError, Snapshot, Storage, StorageConfig, import_path};
use detcd::types::LocalFault;
use rand::Rng;

use super::StorageReport;
use super::backend_prefix::check_snapshot;
use super::database_model::{CommitSource, DatabaseModel};
use super::database_run::{FOLDER, content, draw_config, open, path};
use super::promise::Promise;
use super::rig::{Rig, make_folder, no_panic, unjustified};
use crate::disk::{Fault, SimDisk};
use crate::evidence::Violation;
use crate::random::{Draw, stream};

/// The claim's name.
const CLAIM: &str = "snapshot-install";
/// Changes of the disk in one transfer, about.
const CHANGES: u64 = 120;

/// A database that sends, on a disk that works, and one that receives, on a disk that fails.
struct TransferRun {
    rig: Rig,
    sender: Storage,
    sent: DatabaseModel,
    source: CommitSource,
    /// Of the receiver.
    promise: Promise<DatabaseModel>,
    receiver: Option<Storage>,
    /// Whether the device was to die in an installation, beside the trouble of the transfer.
    armed_late: bool,
}

/// A snapshot in chunks.
struct Sent {
    chunks: Vec<Bytes>,
    state: DatabaseModel,
}

/// Runs so many transfers.
pub(super) fn run(rig: Rig, transfers: u64) -> Result<StorageReport, Violation> {
    let disk = SimDisk::new(stream(0, "the sender's disk works"));
    make_folder(&*disk.mount(), Path::new(FOLDER));
    make_folder(&*rig.disk.mount(), Path::new(FOLDER));
    let sender =
        open(&disk, StorageConfig::default())?.map_err(|fault| unjustified(CLAIM, "opening", &fault))?;
    let receiver = open(&rig.disk, StorageConfig::default())?;
    let receiver = receiver.map_err(|fault| unjustified(CLAIM, "opening", &fault))?;
    let mut run = TransferRun {
        rig,
        sender,
        sent: DatabaseModel::default(),
        source: CommitSource::default(),
        promise: Promise::new(DatabaseModel::default()),
        receiver: Some(receiver),
        armed_late: false,
    };
    for _ in 0..transfers {
        run.commit_both()?;
        let sent = run.export()?;
        if run.rig.percent(40) {
            run.check_damaged_transfer(&sent)?;
        }
        run.transfer(&sent)?;
        run.end()?;
    }
    Ok(run.rig.finish())
}

impl TransferRun {
    /// Both databases go on.
    fn commit_both(&mut self) -> Result<(), Violation> {
        for _ in 0..self.rig.random.random_range(0..4) {
            let batch = self.source.draw(&mut self.rig.random, &self.sent);
            self.sent.commit(&batch);
            self.sender.commit(batch).map_err(|fault| unjustified(CLAIM, "committing", &fault))?;
        }
        let Some(receiver) = &mut self.receiver else { return Ok(()) };
        for _ in 0..self.rig.random.random_range(0..2) {
            let batch = self.source.draw(&mut self.rig.random, self.promise.kept());
            self.promise.ask(|state| state.commit(&batch));
            receiver.commit(batch).map_err(|fault| unjustified(CLAIM, "committing", &fault))?;
            self.promise.acknowledged();
        }
        Ok(())
    }

    /// A snapshot of the sender, which goes on meanwhile.
    fn export(&mut self) -> Result<Sent, Violation> {
        let state = self.sent.clone();
        let mut export = Export::new(self.sender.snapshot());
        let max_bytes = self.rig.random.log_uniform(1, 20_000) as usize;
        let mut chunks = Vec::new();
        loop {
            let chunk = no_panic(CLAIM, "exporting", || export.next_chunk(max_bytes))?;
            match chunk.map_err(|fault| unjustified(CLAIM, "exporting", &fault))? {
                Some(chunk) => chunks.push(chunk),
                None => break,
            }
            if self.rig.percent(5) {
                let batch = self.source.draw(&mut self.rig.random, &self.sent);
                self.sent.commit(&batch);
                self.sender.commit(batch).map_err(|fault| unjustified(CLAIM, "committing", &fault))?;
            }
        }
        Ok(Sent { chunks, state })
    }

    /// Receives and installs a snapshot while something goes wrong.
    fn transfer(&mut self, sent: &Sent) -> Result<(), Violation> {
        let trouble = self.rig.arm_trouble(CHANGES);
        self.armed_late = false;
        let old = self.receiver.as_ref().map(|receiver| (receiver.snapshot(), self.promise.kept().clone()));
        let outcome = match self.import(sent)? {
            Ok(aside) => self.install(&aside, sent)?,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.rig.report.installed += 1;
                self.rig.mark("snapshot installed");
                self.check_installed(old)
            }
            Err(ImportError::Refused(why)) => Err(violated(format!("what was sent was refused: {why}"))),
            Err(ImportError::Local(fault)) if trouble.is_quiet() && !self.armed_late => {
                Err(unjustified(CLAIM, "receiving a snapshot", &fault))
            }
            Err(ImportError::Local(_)) => {
                self.rig.mark("import interrupted");
                Ok(())
            }
        }
    }

    /// Receives all chunks, unless the receiver loses patience. Gives where the import lies.
    fn import(&mut self, sent: &Sent) -> Result<Result<PathBuf, ImportError>, Violation> {
        let mount = self.rig.disk.mount();
        let config = draw_config(&mut self.rig.random, true);
        let aside = import_path(path());
        loop {
            let begun = no_panic(CLAIM, "beginning an import", || Import::begin(&*mount, &aside, config))?;
            let mut import = match begun {
                Ok(import) => import,
                Err(fault) => return Ok(Err(fault.into())),
            };
            let patience = if self.rig.percent(20) {
                self.rig.random.random_range(0..=sent.chunks.len())
            } else {
                usize::MAX
            };
            for chunk in sent.chunks.iter().take(patience) {
                if let Err(error) = no_panic(CLAIM, "importing a chunk", || import.write(chunk))? {
                    no_panic(CLAIM, "dropping an import", || drop(import))?;
                    return Ok(Err(error));
                }
            }
            if patience <= sent.chunks.len() {
                self.rig.mark("import given up");
                no_panic(CLAIM, "dropping an import", || drop(import))?;
                continue;
            }
            let finished = no_panic(CLAIM, "finishing an import", || import.finish())?;
            return Ok(finished.map(|imported| imported.path().to_path_buf()));
        }
    }

    fn install(&mut self, aside: &Path, sent: &Sent) -> Result<Result<(), ImportError>, Violation> {
        let mount = self.rig.disk.mount();
        let config = draw_config(&mut self.rig.random, true);
        if self.rig.percent(50) {
            self.receiver = None;
        }
        self.promise.ask(|state| *state = sent.state.clone());
        self.promise.sent();
        if self.rig.percent(15) {
            // Around the rename, which is one of many changes.
            let after = self.rig.random.random_range(1..30);
            self.rig.arm(Fault::Death, after);
            self.armed_late = true;
        }
        let installed = no_panic(CLAIM, "installing", || Storage::install(&*mount, aside, path(), config))?;
        let storage = match installed {
            Ok(storage) => storage,
            Err(fault) => return Ok(Err(fault.into())),
        };
        self.promise.acknowledged();
        self.receiver = Some(storage);
        Ok(Ok(()))
    }

    /// The new database is in place, and who reads the old one still can.
    fn check_installed(&self, old: Option<(Arc<Snapshot>, DatabaseModel)>) -> Result<(), Violation> {
        // The device may still die at one of these reads' neighbours; it works here.
        let Some(receiver) = &self.receiver else { return Ok(()) };
        check_snapshot(self.promise.kept(), &*receiver.snapshot()).map_err(as_ours)?;
        let Some((snapshot, state)) = old else { return Ok(()) };
        check_snapshot(&state, &*snapshot).map_err(as_ours)?;
        no_panic(CLAIM, "closing the old database", || drop(snapshot))
    }

    /// Crashes, and looks at what is there.
    fn end(&mut self) -> Result<(), Violation> {
        for _ in 0..2 {
            let mut promise = self.promise.clone();
            promise.cut(self.rig.disk.owes());
            let fork = self.rig.other_cut();
            let opened = open(&fork, draw_config(&mut self.rig.random, !promise.may_be_lost()))?;
            self.check_opened(&promise, opened)?;
        }
        self.rig.calm();
        let owed = self.rig.crash();
        self.promise.cut(owed);
        let receiver = self.receiver.take();
        no_panic(CLAIM, "closing the database", || drop(receiver))?;
        while self.rig.percent(20) {
            let after = self.rig.random.log_uniform(1, 20);
            self.rig.arm(Fault::Death, after);
            let _ = open(&self.rig.disk, draw_config(&mut self.rig.random, true))?;
            self.rig.calm();
            let owed = self.rig.crash();
            self.promise.cut(owed);
        }
        let trusts = !self.promise.may_be_lost();
        let opened = open(&self.rig.disk, draw_config(&mut self.rig.random, trusts))?;
        match self.check_opened(&self.promise, opened)? {
            Some((storage, found)) => {
                self.check_cleared()?;
                let in_flight = self.promise.is_in_flight();
                self.rig
                    .mark_if(in_flight && found == *self.promise.kept(), "install interrupted, old database");
                self.rig.mark_if(
                    in_flight && found == *self.promise.asked(),
                    "install interrupted, new database",
                );
                self.promise.settle(found);
                self.receiver = Some(storage);
                self.check_durable()?;
            }
            None => self.start_anew()?,
        }
        Ok(())
    }

    /// What an opened database showed is there for good.
    fn check_durable(&mut self) -> Result<(), Violation> {
        if self.rig.disk.owes() || self.rig.percent(60) {
            return Ok(());
        }
        let fork = self.rig.worst_cut();
        let opened = open(&fork, draw_config(&mut self.rig.random, true))?;
        self.check_opened(&self.promise, opened).map(|_| ())
    }

    /// What was opened is the old or the new database; none when a lie has destroyed it.
    fn check_opened(
        &self,
        promise: &Promise<DatabaseModel>,
        opened: Result<Storage, LocalFault>,
    ) -> Result<Option<(Storage, DatabaseModel)>, Violation> {
        let read = match opened {
            Ok(storage) => content(&storage)?.map(|found| (storage, found)),
            Err(fault) => Err(fault),
        };
        match read {
            Ok((storage, found)) if promise.allows(&found) => Ok(Some((storage, found))),
            Ok((_, found)) => {
                let (old, new) = (promise.kept(), promise.asked());
                Err(violated(format!("neither the old nor the new database: {old}, or {new}; but {found}")))
            }
            Err(_) if promise.may_be_lost() => Ok(None),
            Err(fault) => Err(unjustified(CLAIM, "opening the database after an installation", &fault)),
        }
    }

    /// Nothing of an unfinished import is left.
    fn check_cleared(&self) -> Result<(), Violation> {
        match self.rig.disk.files().iter().find(|(file, _)| file != path()) {
            Some((file, _)) => Err(violated(format!("{} was left behind", file.display()))),
            None => Ok(()),
        }
    }

    fn start_anew(&mut self) -> Result<(), Violation> {
        self.rig.disk.wipe();
        make_folder(&*self.rig.disk.mount(), Path::new(FOLDER));
        self.promise = Promise::new(DatabaseModel::default());
        let opened = open(&self.rig.disk, StorageConfig::default())?;
        self.receiver = Some(opened.map_err(|fault| unjustified(CLAIM, "opening", &fault))?);
        Ok(())
    }

    /// Chunks that are not those that were sent: refused, and the old database stays.
    fn check_damaged_transfer(&mut self, sent: &Sent) -> Result<(), Violation> {
        let mut chunks = sent.chunks.clone();
        let what = self.damage(&mut chunks)?;
        if chunks == sent.chunks {
            return Ok(());
        }
        self.rig.report.damages += 1;
        self.rig.tell(|| format!("a transfer with {what}"));
        let damaged = Sent { chunks, state: sent.state.clone() };
        match self.import(&damaged)? {
            Ok(_) => Err(violated(format!("a snapshot with {what} was taken for whole"))),
            Err(ImportError::Local(fault)) => Err(unjustified(CLAIM, "receiving a snapshot", &fault)),
            Err(ImportError::Refused(_)) => {
                self.rig.mark("damaged snapshot refused");
                Ok(())
            }
        }
    }

    /// Damages a stream of chunks. Says how.
    fn damage(&mut self, chunks: &mut Vec<Bytes>) -> Result<&'static str, Violation> {
        let at = self.rig.random.random_range(0..chunks.len());
        let kind = self.rig.random.random_range(0..7);
        Ok(match kind {
            0 => {
                chunks.remove(at);
                "a lost chunk"
            }
            1 => {
                chunks.insert(at, chunks[at].clone());
                "a repeated chunk"
            }
            2 => {
                let other = self.rig.random.random_range(0..chunks.len());
                chunks.swap(at, other);
                "chunks out of order"
            }
            3 => {
                chunks[at] = chunks[at].slice(..self.rig.random.random_range(0..chunks[at].len()));
                "a chunk cut short"
            }
            4 => {
                // Of another snapshot, in the same place.
                let mut other = self.export()?.chunks;
                if chunks.len() > 1 && at < other.len() {
                    chunks[at] = other.swap_remove(at);
                }
                "a chunk of another snapshot"
            }
            5 => {
                chunks.truncate(at);
                "its end missing"
            }
            _ => {
                let mut bytes = chunks[at].to_vec();
                let byte = self.rig.random.random_range(0..bytes.len());
                bytes[byte] ^= 1 << self.rig.random.random_range(0..8);
                chunks[at] = bytes.into();
                "a flipped bit"
            }
        })
    }
}

/// The claim of a database, seen through an installation.
fn as_ours(violation: Violation) -> Violation {
    Violation { claim: CLAIM, ..violation }
}

fn violated(text: String) -> Violation {
    Violation::new(CLAIM, text)
}
