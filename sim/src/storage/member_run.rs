//! Lives of a member's log and database together, as the server uses them: entries are logged, committed,
//! applied in the background, released; snapshots of a leader take the place of the database.

use std::path::Path;

use detcd::disk::OpenMode;
use detcd::membership::InitialCluster;
use detcd::server::disk_tasks::DatabaseHome;
use detcd::server::recovery::{self, Home, Opened};
use detcd::storage::{Export, Import, ImportError, Storage, StorageConfig, import_path};
use detcd::types::log::{EntryKind, HardState, LogEntry};
use detcd::types::{LocalFault, MemberId};
use detcd::wal::{Wal, WalBatch, WalConfig};
use rand::Rng;

use super::StorageReport;
use super::database_model::DatabaseModel;
use super::database_run::{self, FOLDER, path};
use super::log_model::LogModel;
use super::log_run;
use super::promise::Promise;
use super::recovery_whole::{self, CLAIM, Found, Truth, violated};
use super::rig::{Rig, Trouble, make_folder, no_panic, unjustified};
use crate::disk::{Fault, SimDisk};
use crate::evidence::Violation;
use crate::random::{Draw, stream};

const MEMBERS: &str = "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380";
/// Changes of the disk in one life, about.
const CHANGES: u64 = 120;

/// Lives of one member.
struct MemberRun {
    rig: Rig,
    cluster: InitialCluster,
    member_id: MemberId,
    truth: Truth,
    log: Promise<LogModel>,
    /// Applied index of the database.
    applied: Promise<u64>,
    term: u64,
    /// The leader's database, on a disk that works.
    leader: Storage,
    /// None between lives.
    opened: Option<(Wal, Storage)>,
    /// The database file as it was some lives ago.
    older: Vec<u8>,
}

/// Runs so many lives.
pub(super) fn run(rig: Rig, lives: u64) -> Result<StorageReport, Violation> {
    let cluster = InitialCluster::parse(MEMBERS, "token").map_err(|error| violated(error.to_string()))?;
    let member_id = cluster.local("a").map_err(|error| violated(error.to_string()))?.id;
    let (leader, log, base) = make_leader(&cluster, member_id)?;
    let index = base.index();
    let truth = Truth { base, committed: Vec::new() };
    make_folder(&*rig.disk.mount(), Path::new(FOLDER));
    let mut run = MemberRun {
        rig,
        cluster,
        member_id,
        truth,
        log: Promise::new(log),
        applied: Promise::new(index),
        term: 1,
        leader,
        opened: None,
        older: Vec::new(),
    };
    run.bootstrap()?;
    for _ in 0..lives {
        run.live()?;
        run.end()?;
    }
    Ok(run.rig.finish())
}

/// A new member on a disk that works: its database, its log, and what the database holds.
fn make_leader(
    cluster: &InitialCluster,
    member_id: MemberId,
) -> Result<(Storage, LogModel, DatabaseModel), Violation> {
    let disk = SimDisk::new(stream(0, "the leader's disk works"));
    make_folder(&*disk.mount(), Path::new(FOLDER));
    let home = home(&disk, StorageConfig::default(), WalConfig::default());
    let opened = recovery::bootstrap(&home, cluster, member_id)
        .map_err(|fault| unjustified(CLAIM, "making a member", &fault))?;
    drop(opened);
    let (_, recovered) = log_run::open(&disk, WalConfig::default())?
        .map_err(|fault| unjustified(CLAIM, "opening the log", &fault))?;
    let storage = database_run::open(&disk, StorageConfig::default())?
        .map_err(|fault| unjustified(CLAIM, "opening the database", &fault))?;
    let base = database_run::content(&storage)?
        .map_err(|fault| unjustified(CLAIM, "reading the database", &fault))?;
    Ok((storage, LogModel::of(&recovered), base))
}

fn home(disk: &SimDisk, config: StorageConfig, wal: WalConfig) -> Home {
    let database = DatabaseHome { disk: disk.mount(), path: path().into(), config };
    Home { database, wal_dir: log_run::FOLDER.into(), wal }
}

impl MemberRun {
    fn home(&mut self) -> Home {
        let wal = WalConfig {
            segment_bytes: *self.rig.random.pick(&[1024, 2048, 4096, 16_384]),
            spare_segments: self.rig.random.random_range(0..3),
        };
        let config = database_run::draw_config(&mut self.rig.random, true);
        home(&self.rig.disk, config, wal)
    }

    /// The same on a fork of the disk.
    fn home_on(&mut self, disk: &SimDisk) -> Home {
        let home = self.home();
        Home { database: DatabaseHome { disk: disk.mount(), ..home.database }, ..home }
    }

    /// Makes the member, at times with crashes on the way. It is there whole or can be made again.
    fn bootstrap(&mut self) -> Result<(), Violation> {
        loop {
            let interrupted = self.rig.percent(60);
            if interrupted {
                let after = self.rig.random.log_uniform(1, 80);
                self.rig.arm(Fault::Death, after);
            }
            let home = self.home();
            let made = no_panic(CLAIM, "making the member", || self.start(&home))?;
            if interrupted {
                let promised = made.is_ok();
                drop(made);
                self.rig.calm();
                self.rig.crash();
                let there = Wal::exists(&*self.rig.disk.mount(), Path::new(log_run::FOLDER));
                if promised && !there.map_err(|fault| unjustified(CLAIM, "looking for the log", &fault))? {
                    return Err(violated("the member was made, and is gone after a crash".into()));
                }
                self.rig.mark_if(!promised, "bootstrap interrupted");
                continue;
            }
            let opened = made.map_err(|fault| unjustified(CLAIM, "making the member", &fault))?;
            return self.accept(opened);
        }
    }

    /// What a start of the server does.
    fn start(&self, home: &Home) -> Result<Opened, LocalFault> {
        match recovery::reopen(home)? {
            Some(opened) => Ok(opened),
            None => recovery::bootstrap(home, &self.cluster, self.member_id),
        }
    }

    fn live(&mut self) -> Result<(), Violation> {
        let mut trouble = self.rig.arm_trouble(CHANGES);
        if trouble == Trouble::Lies {
            // What a lie costs is looked into where the log and the database are alone.
            self.rig.calm();
            trouble = Trouble::None;
        }
        for _ in 0..self.rig.random.random_range(1..16) {
            self.rig.step();
            match no_panic(CLAIM, "using the member's files", || self.take_step())?? {
                Ok(()) => {}
                Err(fault) if trouble == Trouble::None => {
                    return Err(unjustified(CLAIM, "using the member's files", &fault));
                }
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// One step, unless the life is over. The inner result is that of the log and the database.
    fn take_step(&mut self) -> Result<Result<(), LocalFault>, Violation> {
        let Some((mut wal, storage)) = self.opened.take() else { return Ok(Ok(())) };
        let done = match self.rig.random.random_range(0..100) {
            0..50 => self.persist(&mut wal).map(|()| Some(storage)),
            50..78 => self.apply(storage)?,
            78..90 => self.release(&mut wal).map(|()| Some(storage)),
            _ => self.install(&mut wal, storage)?,
        };
        Ok(done.map(|storage| self.opened = storage.map(|storage| (wal, storage))))
    }

    /// Logs entries and promises, and notes what is committed since.
    fn persist(&mut self, wal: &mut Wal) -> Result<(), LocalFault> {
        let (last, agreed) = (self.log.kept().last(), self.agreed());
        let new_term = self.rig.random.percent(25);
        self.term += u64::from(new_term);
        // What contradicts the committed entries is replaced; a new leader may replace what is not committed.
        let first = match agreed < self.truth.last() {
            true => agreed + 1,
            false if new_term => self.rig.random.random_range(agreed + 1..=last + 1),
            false => last + 1,
        };
        let count = self.rig.random.random_range(0..4);
        let entries = (first..first + count).map(|index| self.entry(index)).collect();
        let vote = self.rig.random.random_range(0..4);
        let hard_state = HardState { term: self.term, vote, commit: agreed };
        let batch = WalBatch { snapshot: None, entries, hard_state: Some(hard_state) };
        self.flush(wal, &batch)?;
        self.rig.report.batches += 1;
        if self.agreed() == self.truth.last() {
            let known = self.truth.last();
            let through = self.rig.random.random_range(known..=self.log.kept().last());
            let newly = self.log.kept().entries.iter();
            let newly = newly.filter(|entry| entry.index > known && entry.index <= through).cloned();
            self.truth.committed.extend(newly);
        }
        Ok(())
    }

    /// Up to which index the log holds committed entries.
    fn agreed(&self) -> u64 {
        let log = self.log.kept();
        let same = log.entries.iter().take_while(|entry| {
            entry.index <= self.truth.last() && entry.term == self.truth.term(entry.index)
        });
        same.last().map_or(log.snapshot.index, |entry| entry.index)
    }

    /// The committed entry of an index, or a new one.
    fn entry(&mut self, index: u64) -> LogEntry {
        if index > self.truth.last() {
            return self.draw_entry(index);
        }
        self.truth.between(index - 1, index)[0].clone()
    }

    fn draw_entry(&mut self, index: u64) -> LogEntry {
        let length = self.rig.random.log_uniform(16, 1500) as usize;
        let mut data = vec![self.term as u8; length];
        data[..8].copy_from_slice(&index.to_le_bytes());
        data[8..16].copy_from_slice(&self.rig.random.random::<u64>().to_le_bytes());
        LogEntry { index, term: self.term, kind: EntryKind::Normal, data: data.into() }
    }

    fn flush(&mut self, wal: &mut Wal, batch: &WalBatch) -> Result<(), LocalFault> {
        wal.append(batch);
        self.log.ask(|log| log.apply(batch));
        self.log.sent();
        wal.flush()?;
        self.log.acknowledged();
        Ok(())
    }

    /// Commits the effects of some committed entries to the database.
    fn apply(&mut self, mut storage: Storage) -> Result<Result<Option<Storage>, LocalFault>, Violation> {
        let from = *self.applied.kept();
        let through = self.rig.random.random_range(from..=self.agreed().max(from));
        let batch = self.truth.effects(self.truth.between(from, through));
        self.applied.ask(|index| *index = through);
        self.applied.sent();
        match no_panic(CLAIM, "committing", || storage.commit(batch))? {
            Ok(_) => {}
            Err(fault) => {
                no_panic(CLAIM, "closing the database", || drop(storage))?;
                return Ok(Err(fault));
            }
        }
        self.applied.acknowledged();
        self.rig.report.commits += 1;
        Ok(Ok(Some(storage)))
    }

    /// Tells the log where the database stands, and lets old segments go.
    fn release(&mut self, wal: &mut Wal) -> Result<(), LocalFault> {
        let index = *self.applied.kept();
        let standing = self.truth.standing(index);
        self.flush(wal, &WalBatch { snapshot: Some(standing), ..WalBatch::default() })?;
        let behind = self.rig.random.random_range(0..4);
        wal.release(index.saturating_sub(behind))?;
        if self.rig.percent(30) {
            wal.prepare()?;
        }
        Ok(())
    }

    /// The leader is ahead: its snapshot takes the place of the database, then of the log.
    fn install(
        &mut self,
        wal: &mut Wal,
        storage: Storage,
    ) -> Result<Result<Option<Storage>, LocalFault>, Violation> {
        self.lead_on()?;
        let index = self.truth.last();
        let aside = match self.receive()? {
            Ok(aside) => aside,
            Err(fault) => return Ok(Err(fault)),
        };
        no_panic(CLAIM, "closing the database", || drop(storage))?;
        self.applied.ask(|applied| *applied = index);
        self.applied.sent();
        let mount = self.rig.disk.mount();
        let config = database_run::draw_config(&mut self.rig.random, true);
        let installed = no_panic(CLAIM, "installing", || Storage::install(&*mount, &aside, path(), config))?;
        let storage = match installed {
            Ok(storage) => storage,
            Err(fault) => return Ok(Err(fault)),
        };
        self.applied.acknowledged();
        self.rig.report.installed += 1;
        if self.rig.percent(30) {
            // The crash comes before the log hears of it.
            self.rig.mark("installed before the log knew");
            return Ok(Ok(None));
        }
        let snapshot = Some(self.truth.standing(index));
        let hard_state = HardState { term: self.term, vote: 0, commit: index };
        let batch = WalBatch { snapshot, entries: Vec::new(), hard_state: Some(hard_state) };
        Ok(self.flush(wal, &batch).map(|()| Some(storage)))
    }

    /// The leader commits entries that this member may not have, and applies everything.
    fn lead_on(&mut self) -> Result<(), Violation> {
        let mut same = self.agreed() == self.truth.last();
        for _ in 0..self.rig.random.random_range(1..5) {
            let index = self.truth.last() + 1;
            let logged = self.log.kept().entries.iter().find(|entry| entry.index == index).cloned();
            same &= self.rig.random.percent(40);
            let entry = match logged.filter(|_| same) {
                Some(entry) => entry,
                None => {
                    same = false;
                    self.term += 1;
                    self.draw_entry(index)
                }
            };
            self.truth.committed.push(entry);
        }
        let applied = database_run::content(&self.leader)?.map_or(0, |database| database.index());
        let batch = self.truth.effects(self.truth.between(applied, self.truth.last()));
        self.leader.commit(batch).map_err(|fault| unjustified(CLAIM, "committing", &fault)).map(|_| ())
    }

    /// Receives the leader's snapshot. Gives where it lies.
    fn receive(&mut self) -> Result<Result<std::path::PathBuf, LocalFault>, Violation> {
        let mount = self.rig.disk.mount();
        let config = database_run::draw_config(&mut self.rig.random, true);
        let mut export = Export::new(self.leader.snapshot());
        let received = no_panic(CLAIM, "receiving a snapshot", || {
            let mut import = Import::begin(&*mount, &import_path(path()), config)?;
            while let Some(chunk) = export.next_chunk(3000)? {
                import.write(&chunk)?;
            }
            import.finish()
        })?;
        match received {
            Ok(imported) => Ok(Ok(imported.path().to_path_buf())),
            Err(ImportError::Local(fault)) => Ok(Err(fault)),
            Err(ImportError::Refused(why)) => Err(violated(format!("what was sent was refused: {why}"))),
        }
    }

    /// The end of a life and the beginning of the next.
    fn end(&mut self) -> Result<(), Violation> {
        self.look_at_other_cut()?;
        self.rig.calm();
        self.rig.crash();
        self.close()?;
        while self.rig.percent(25) {
            let fault = *self.rig.random.pick(&[Fault::Death, Fault::Death, Fault::SyncError]);
            let after = self.rig.random.log_uniform(1, 60);
            self.rig.arm(fault, after);
            let home = self.home();
            let opened = no_panic(CLAIM, "starting the member", || self.start(&home))?;
            let struck = self.rig.disk.armed() == 0;
            match opened {
                Ok(opened) => self.accept(opened)?,
                Err(_) if struck => self.rig.mark("member start interrupted"),
                Err(fault) => return Err(unjustified(CLAIM, "starting the member", &fault)),
            }
            self.rig.calm();
            self.rig.crash();
            self.close()?;
        }
        let home = self.home();
        let opened = no_panic(CLAIM, "starting the member", || self.start(&home))?;
        self.accept(opened.map_err(|fault| unjustified(CLAIM, "starting the member", &fault))?)?;
        if self.rig.percent(30) {
            // What a member goes on with is durable.
            let fork = self.rig.worst_cut();
            self.check_on(&fork)?;
        }
        if !self.older.is_empty() && self.rig.percent(20) {
            self.check_set_back_database()?;
        }
        if self.older.is_empty() || self.rig.percent(20) {
            let length = self.rig.disk.length(path()).unwrap_or(0);
            self.older = log_run::read(&self.rig.disk, path(), 0, length).unwrap_or_default();
        }
        Ok(())
    }

    /// A database that an operator's hand, or rot, has set back: the member goes on with what its log still
    /// has, or refuses. It never leaves out what is between them.
    fn check_set_back_database(&mut self) -> Result<(), Violation> {
        let fork = self.rig.disk.fork();
        fork.kill();
        let replaced = fork.mount().open(path(), OpenMode::ReadWrite).and_then(|file| {
            file.set_len(self.older.len() as u64)?;
            file.write_at(0, &self.older)
        });
        replaced.map_err(|error| violated(error.to_string()))?;
        let home = self.home_on(&fork);
        match no_panic(CLAIM, "starting the member", || self.start(&home))? {
            Ok(opened) => {
                self.rig.mark("member caught up from an older database");
                let database = database_run::content(&opened.storage)?
                    .map_err(|fault| unjustified(CLAIM, "reading the database", &fault))?;
                recovery_whole::check_caught_up(&self.truth, self.log.kept(), &Found::new(&opened, database))
            }
            Err(_) => {
                self.rig.mark("older database refused");
                Ok(())
            }
        }
    }

    /// What another cut of this moment would have left.
    fn look_at_other_cut(&mut self) -> Result<(), Violation> {
        let fork = self.rig.other_cut();
        self.check_on(&fork)
    }

    /// The member that starts on a fork of the disk.
    fn check_on(&mut self, disk: &SimDisk) -> Result<(), Violation> {
        let home = self.home_on(disk);
        let opened = no_panic(CLAIM, "starting the member", || self.start(&home))?;
        let opened = opened.map_err(|fault| unjustified(CLAIM, "starting the member", &fault))?;
        self.check(&opened).map(|_| ())
    }

    fn check(&self, opened: &Opened) -> Result<(LogModel, u64), Violation> {
        let database = database_run::content(&opened.storage)?
            .map_err(|fault| unjustified(CLAIM, "reading the database", &fault))?;
        let found = Found::new(opened, database);
        let log = recovery_whole::check(&self.truth, &self.log, &self.applied, &found)?;
        Ok((log, found.database.index()))
    }

    fn accept(&mut self, opened: Opened) -> Result<(), Violation> {
        let (log, index) = self.check(&opened)?;
        self.rig.mark_if(log.snapshot.index > self.log.kept().snapshot.index, "log joined to the database");
        self.log.settle(log);
        self.applied.settle(index);
        self.opened = Some((opened.wal, opened.storage));
        Ok(())
    }

    /// Drops what a dead process held.
    fn close(&mut self) -> Result<(), Violation> {
        let opened = self.opened.take();
        no_panic(CLAIM, "closing the database", || drop(opened))
    }
}
