//! Claim: bytes that rot in the database are found, when it is opened or by the checksum of the value that
//! they belong to. They are never given out as a value, and no panic leaves the database's room.

use detcd::disk::{OpenMode, SECTOR_BYTES};
use detcd::storage::{Storage, StorageConfig};
use detcd::types::LocalFault;
use detcd::types::backend::{BackendBatch, BackendSnapshot, Table};
use rand::Rng;

use super::database_model::{CommitSource, DatabaseModel};
use super::database_run::{PATH, path};
use super::rig::{Rig, no_panic, unjustified};
use crate::disk::{Fault, SimDisk};
use crate::evidence::Violation;
use crate::random::{Draw, Random};

/// The claim's name.
const CLAIM: &str = "value-checksum";

/// Looks into one kind of damage, on a fork of a disk that holds a database in this state.
pub(super) fn check(rig: &mut Rig, source: &CommitSource, state: &DatabaseModel) -> Result<(), Violation> {
    rig.report.damages += 1;
    let disk = rig.disk.fork();
    disk.kill();
    let mut case = Case { disk, source: source.clone(), states: vec![state.clone()] };
    match rig.random.random_range(0..100) {
        0..30 => case.check_rot_at_rest(rig),
        30..55 => case.check_rot_that_nobody_looked_for(rig),
        55..75 => case.check_rot_under_an_open_database(rig),
        75..90 => case.check_silent_fault(rig),
        _ => case.check_read_error(rig),
    }
}

/// A database on a disk of its own.
struct Case {
    disk: SimDisk,
    source: CommitSource,
    /// What was there after each commit; the last is what it holds.
    states: Vec<DatabaseModel>,
}

impl Case {
    fn state(&self) -> &DatabaseModel {
        &self.states[self.states.len() - 1]
    }

    fn open(&self, config: StorageConfig) -> Result<Result<Storage, LocalFault>, Violation> {
        let mount = self.disk.mount();
        no_panic(CLAIM, "opening the database", || Storage::open(&*mount, path(), config))
    }

    fn open_whole(&self, config: StorageConfig) -> Result<Storage, Violation> {
        self.open(config)?.map_err(|fault| unjustified(CLAIM, "opening the database", &fault))
    }

    /// A batch, and what it makes of what is there.
    fn next(&mut self, random: &mut Random) -> (BackendBatch, DatabaseModel) {
        let mut state = self.state().clone();
        let batch = self.source.draw(random, &state);
        state.commit(&batch);
        (batch, state)
    }

    fn commit(&mut self, storage: &mut Storage, random: &mut Random) -> Result<(), Violation> {
        let (batch, state) = self.next(random);
        storage.commit(batch).map_err(|fault| unjustified(CLAIM, "committing", &fault))?;
        self.states.push(state);
        Ok(())
    }

    /// Bits flip while the database is closed, cleanly or not.
    fn check_rot_at_rest(&mut self, rig: &mut Rig) -> Result<(), Violation> {
        let mut storage = self.open_whole(CACHED)?;
        for _ in 0..rig.random.random_range(1..4) {
            self.commit(&mut storage, &mut rig.random)?;
        }
        let clean = rig.percent(50);
        if clean {
            drop(storage);
            self.disk.kill();
        } else {
            self.disk.kill();
            drop(storage);
        }
        let offsets = rot(&self.disk, self.state(), &mut rig.random);
        rig.tell(|| format!("bits rot at {offsets:?}, database closed cleanly: {clean}"));
        self.check_one_state_or_refusal(rig)
    }

    /// Opened with its check, a database holds one state of its past, or refuses.
    fn check_one_state_or_refusal(&self, rig: &mut Rig) -> Result<(), Violation> {
        let storage = match self.open(CACHED)? {
            Ok(storage) => storage,
            Err(fault) => {
                rig.mark("bit rot found");
                return check_names_file(&fault.to_string());
            }
        };
        let found = no_panic(CLAIM, "reading the database", || DatabaseModel::read(&*storage.snapshot()))?;
        let Ok(found) = found else {
            rig.mark("bit rot found");
            return Ok(());
        };
        rig.mark_if(found != *self.state(), "database set back by rot");
        if self.states.contains(&found) {
            return Ok(());
        }
        let difference = self.state().difference(&found);
        Err(violated(format!("a damaged database shows a state that never was: {difference}")))
    }

    /// Bits flip while the database is closed, and it is opened without its check: what protects a value
    /// is its own checksum.
    fn check_rot_that_nobody_looked_for(&mut self, rig: &mut Rig) -> Result<(), Violation> {
        let mut storage = self.open_whole(CACHED)?;
        self.commit(&mut storage, &mut rig.random)?;
        drop(storage);
        self.disk.kill();
        let offsets = rot(&self.disk, self.state(), &mut rig.random);
        rig.tell(|| format!("bits rot at {offsets:?}, and the database is opened unchecked"));
        let Ok(storage) = self.open(UNCHECKED)? else { return Ok(()) };
        let snapshot = storage.snapshot();
        let found = no_panic(CLAIM, "reading the database", || self.read_all(&*snapshot, Missing::Allowed))??;
        rig.mark_if(found, "bit rot found by a value's checksum");
        // Whether it can be closed or written to is another matter: see the blocks of the storage room.
        self.disk.kill();
        no_panic(CLAIM, "closing the database", || drop((snapshot, storage)))
    }

    /// Bits flip while it is open.
    fn check_rot_under_an_open_database(&mut self, rig: &mut Rig) -> Result<(), Violation> {
        let mut storage = self.open_whole(UNCACHED)?;
        if rig.percent(50) {
            self.commit(&mut storage, &mut rig.random)?;
        }
        let snapshot = storage.snapshot();
        let offsets = rot(&self.disk, self.state(), &mut rig.random);
        rig.tell(|| format!("bits rot under the open database at {offsets:?}"));
        let read = no_panic(CLAIM, "reading the database", || self.read_all(&*snapshot, Missing::Refused))??;
        rig.mark_if(read, "bit rot found under an open database");
        // Whatever is committed now, nothing of what was is given out changed.
        let (batch, state) = self.next(&mut rig.random);
        if no_panic(CLAIM, "committing", || storage.commit(batch))?.is_ok() {
            self.states.push(state);
            let snapshot = storage.snapshot();
            no_panic(CLAIM, "reading the database", || self.read_all(&*snapshot, Missing::Refused))??;
        }
        drop(snapshot);
        no_panic(CLAIM, "closing the database", || drop(storage))
    }

    /// Reads everything in every way; whether something was found damaged. What is given out is right, and
    /// nothing is missing, unless that is allowed.
    fn read_all(&self, snapshot: &dyn BackendSnapshot, missing: Missing) -> Result<bool, Violation> {
        let state = self.state();
        let mut found = false;
        for (revision, record) in &state.records {
            match snapshot.record(*revision) {
                Ok(Some(read)) if read == *record => {}
                Ok(Some(_)) => return Err(violated(format!("record {revision} was given out changed"))),
                Ok(None) if missing == Missing::Allowed => {}
                Ok(None) => return Err(violated(format!("record {revision} is said to be missing"))),
                Err(_) => found = true,
            }
        }
        match snapshot.records(Default::default(), usize::MAX) {
            Ok(records) => {
                let right = records.iter().all(|(at, record)| state.records.get(at) == Some(record));
                let whole = missing == Missing::Allowed || records.len() == state.records.len();
                if !right || !whole {
                    return Err(violated("the records of a scan were given out changed".into()));
                }
            }
            Err(_) => found = true,
        }
        for table in Table::ALL {
            let Ok(rows) = snapshot.rows(table) else {
                found = true;
                continue;
            };
            let expected = state.rows.iter().filter(|((of, _), _)| *of == table);
            if !expected
                .map(|((_, key), value)| (key, value))
                .eq(rows.iter().map(|(key, value)| (key, value)))
            {
                return Err(violated(format!("the rows of {table:?} were given out changed")));
            }
        }
        Ok(found)
    }

    /// Writes that are acknowledged and stale or misplaced.
    fn check_silent_fault(&mut self, rig: &mut Rig) -> Result<(), Violation> {
        let mut storage = self.open_whole(CACHED)?;
        let fault = *rig.random.pick(&[Fault::StaleSector, Fault::MisdirectedWrite]);
        self.disk.arm(fault, rig.random.log_uniform(1, 20));
        for _ in 0..rig.random.random_range(1..5) {
            let (batch, state) = self.next(&mut rig.random);
            // The library may stumble over what it reads back.
            if no_panic(CLAIM, "committing", || storage.commit(batch))?.is_err() {
                break;
            }
            self.states.push(state);
        }
        self.disk.disarm();
        if rig.percent(50) {
            self.disk.kill();
        }
        no_panic(CLAIM, "closing the database", || drop(storage))?;
        self.disk.kill();
        rig.tell(|| format!("{fault:?} under the open database"));
        self.check_one_state_or_refusal(rig)
    }

    /// A read that fails is an error, and nothing more.
    fn check_read_error(&mut self, rig: &mut Rig) -> Result<(), Violation> {
        let storage = self.open_whole(UNCACHED)?;
        let snapshot = storage.snapshot();
        self.disk.arm(Fault::ReadError, rig.random.log_uniform(1, 30));
        no_panic(CLAIM, "reading the database", || self.read_all(&*snapshot, Missing::Refused))??;
        self.disk.disarm();
        self.disk.kill();
        drop((snapshot, storage));
        self.disk.arm(Fault::ReadError, rig.random.log_uniform(1, 30));
        let opened = self.open(CACHED)?;
        let struck = self.disk.armed() == 0;
        self.disk.disarm();
        match opened {
            Ok(_) if struck => return Err(violated("a read failed and the database was opened".into())),
            Ok(storage) => drop(storage),
            Err(fault) if struck => check_names_file(&fault.to_string())?,
            Err(fault) => return Err(unjustified(CLAIM, "opening the database", &fault)),
        }
        self.disk.kill();
        let storage = self.open_whole(CACHED)?;
        super::backend_prefix::check_snapshot(self.state(), &*storage.snapshot())
    }
}

/// Whether a record may be missed. Only the index that asks for it knows that it must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Allowed,
    Refused,
}

const CACHED: StorageConfig = StorageConfig { cache_bytes: 1 << 20, verify_on_open: true };
/// Bytes of a page of the database library.
const PAGE_BYTES: usize = 4096;
/// Every read goes to the disk.
const UNCACHED: StorageConfig = StorageConfig { cache_bytes: 0, verify_on_open: true };

/// So does this, and nothing is read before it is asked for.
const UNCHECKED: StorageConfig = StorageConfig { cache_bytes: 0, verify_on_open: false };

/// Flips some bits of the file: of a value or its key, of the head of a page, or anywhere.
fn rot(disk: &SimDisk, state: &DatabaseModel, random: &mut Random) -> Vec<u64> {
    let bytes = read_file(disk);
    let flips = random.log_uniform(1, 5);
    let mut offsets = Vec::new();
    for _ in 0..flips {
        let offset = match random.random_range(0..10) {
            0..4 => near_a_value(&bytes, state, random),
            4..7 => in_a_page_head(&bytes, random),
            7..9 => in_a_used_sector(&bytes, random),
            _ => None,
        };
        let Some(offset) = offset else {
            offsets.extend(disk.rot(path(), 1, random));
            continue;
        };
        let bit = random.random_range(0..8);
        disk.damage(path(), offset as u64, 1, |byte| byte[0] ^= 1 << bit);
        offsets.push(offset as u64);
    }
    offsets
}

fn read_file(disk: &SimDisk) -> Vec<u8> {
    let mut bytes = vec![0; disk.length(path()).unwrap_or(0) as usize];
    let read = disk.mount().open(path(), OpenMode::ReadWrite).and_then(|file| file.read_at(0, &mut bytes));
    if read.is_ok() { bytes } else { Vec::new() }
}

/// An offset in a stored value or close before it, where its checksum and key are.
fn near_a_value(bytes: &[u8], state: &DatabaseModel, random: &mut Random) -> Option<usize> {
    let rows = !state.rows.is_empty() && random.percent(60);
    let value = if rows {
        state.rows.values().nth(random.random_range(0..state.rows.len()))?.clone()
    } else {
        let at = random.random_range(0..state.records.len().max(1));
        state.records.values().nth(at)?.record.as_bytes().clone()
    };
    let places: Vec<usize> = match value.len() {
        0..8 => return None,
        length => {
            bytes.windows(length).enumerate().filter(|(_, part)| *part == value).map(|(at, _)| at).collect()
        }
    };
    let place = *places.get(random.random_range(0..places.len().max(1)))?;
    Some((place + random.random_range(0..value.len() + 24)).saturating_sub(24))
}

/// An offset where a page says what it is and how much is in it.
fn in_a_page_head(bytes: &[u8], random: &mut Random) -> Option<usize> {
    let used = |page: &usize| bytes[*page..].iter().take(16).any(|byte| *byte != 0);
    let pages: Vec<usize> = (0..bytes.len()).step_by(PAGE_BYTES).filter(used).collect();
    let page = *pages.get(random.random_range(0..pages.len().max(1)))?;
    Some(page + random.random_range(0..16)).filter(|offset| *offset < bytes.len())
}

/// An offset in a sector that is not all zeros; none when chance finds none.
fn in_a_used_sector(bytes: &[u8], random: &mut Random) -> Option<usize> {
    let sectors: Vec<&[u8]> = bytes.chunks(SECTOR_BYTES as usize).collect();
    (0..200).find_map(|_| {
        let sector = random.random_range(0..sectors.len().max(1));
        let used = sectors.get(sector)?.iter().any(|byte| *byte != 0);
        used.then(|| sector * SECTOR_BYTES as usize + random.random_range(0..sectors[sector].len()))
    })
}

fn check_names_file(refusal: &str) -> Result<(), Violation> {
    if refusal.contains(PATH) { Ok(()) } else { Err(violated(format!("a refusal names no file: {refusal}"))) }
}

fn violated(text: String) -> Violation {
    Violation::new(CLAIM, text)
}
