//! The disk of one member. It outlives the member's processes, and everything can go wrong with it.
//!
//! ```text
//!   process of life 1 --> Mount, files --+
//!        (killed: its mount is dead)     |                        faults that are armed, space,
//!   process of life 2 --> Mount, files --+--> names, contents <-- lies, latency, damage, cuts, kills
//!                                             live | durable          (SimDisk: the nemesis)
//! ```
//!
//! Every file has a *live* image, which programs see, and a *durable* one, which is on the medium; so
//! have the names. A sync of a file makes its bytes and its length durable, a sync of a folder the names
//! in it. A power cut leaves the durable images and any part of what was not synced; a kill loses
//! nothing, and makes nothing durable either. Images share their pages, so a crash costs as much as was
//! not synced, whatever the size of the files.
//!
//! The disk promises what `detcd::disk` says, and nothing more: in particular it tears writes at sectors,
//! reorders them, and forgets names whose folder was not synced. With a fault armed it promises less; see
//! [`Fault`].
//!
//! Invariants:
//! - a file or mount of an earlier life changes and reads nothing;
//! - what is random follows from the generators that it is given;
//! - without faults, what was synced is there after any crash.

mod contents;
mod fault;
mod image;
mod latency;
mod mount;
mod names;
mod state;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use detcd::disk::Disk;
use rand::Rng;
use serde::Serialize;

use crate::history::MemberNumber;
use crate::random::Random;
use crate::trace::{DiskAction, Trace, What};
use mount::Mount;
use state::State;

pub use fault::{Cut, Fault};
pub use latency::{Latency, charge_blocking_work, take_pending_delay};

/// A disk. Clones are the same one.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// How often the disk was asked for what, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Statistics {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
    pub length_changes: u64,
    pub syncs: u64,
    pub folder_syncs: u64,
    pub name_changes: u64,
    pub power_cuts: u64,
    pub kills: u64,
    /// Operations that a fault has struck, and bits that have rotted.
    pub faults: u64,
}

impl Statistics {
    /// Adds what another disk was asked for.
    pub fn add(&mut self, other: &Statistics) {
        self.reads += other.reads;
        self.read_bytes += other.read_bytes;
        self.writes += other.writes;
        self.written_bytes += other.written_bytes;
        self.length_changes += other.length_changes;
        self.syncs += other.syncs;
        self.folder_syncs += other.folder_syncs;
        self.name_changes += other.name_changes;
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.faults += other.faults;
    }
}

/// A write that a program asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWrite {
    /// The name that the file has now, empty when it has none.
    pub path: PathBuf,
    /// Where it began.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// Tells a trace what happens.
struct Recorder {
    trace: Trace,
    member: MemberNumber,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Recorder {
    fn mark(&self, marker: &'static str) {
        self.trace.mark((self.clock)(), self.member, marker);
    }

    fn note(&self, action: DiskAction, path: &Path, offset: u64, bytes: u64) {
        let file = path.to_string_lossy().into_owned();
        self.trace.note((self.clock)(), self.member, What::Disk { action, file, offset, bytes });
    }
}

impl SimDisk {
    /// An empty disk, which draws what its faults do from `random`.
    pub fn new(random: Random) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(random))) }
    }

    /// Tells a trace of everything from now on, as of this member at the times of this clock.
    pub fn record(&self, trace: Trace, member: MemberNumber, clock: Arc<dyn Fn() -> u64 + Send + Sync>) {
        self.state().recorder = Some(Recorder { trace, member, clock });
    }

    /// The disk for a process that starts now. It works until the next crash.
    pub fn mount(&self) -> Arc<dyn Disk> {
        Arc::new(Mount { device: self.state.clone(), life: self.state().life })
    }

    /// A disk of its own that is as this one is now. It tells no trace, and takes no time.
    pub fn fork(&self) -> SimDisk {
        Self { state: Arc::new(Mutex::new(self.state().fork())) }
    }

    /// A disk as this one would be if power were cut now and nothing survived that was not synced: what
    /// may be relied on.
    pub fn durable(&self) -> SimDisk {
        let disk = self.fork();
        disk.power_cut_as(&Cut::NOTHING, &mut crate::random::stream(0, "nothing is drawn"));
        disk
    }

    /// Cuts the power: the process is dead, and of what was not synced any part is lost.
    pub fn power_cut(&self, random: &mut Random) {
        let cut = Cut::draw(random);
        self.power_cut_as(&cut, random);
    }

    /// Cuts the power in this way.
    pub fn power_cut_as(&self, cut: &Cut, random: &mut Random) {
        let mut state = self.state();
        state.contents.values_mut().for_each(|contents| contents.cut(cut, random));
        state.names.cut(cut, random);
        state.begin_life();
        state.statistics.power_cuts += 1;
        state.note(DiskAction::Cut, Path::new(""), 0, u64::from(cut.survival_percent));
    }

    /// Kills the process: its files are dead, but what it wrote is still seen.
    pub fn kill(&self) {
        let mut state = self.state();
        state.begin_life();
        state.statistics.kills += 1;
    }

    /// Loses everything, as when the disk is replaced.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.names = Default::default();
        state.contents.clear();
        state.begin_life();
    }

    /// Lets a fault strike the `after`-th next operation of its kind, 1 being the next. It waits through
    /// crashes.
    pub fn arm(&self, fault: Fault, after: u64) {
        self.state().armed.add(fault, after, None);
    }

    /// The same, counting only operations on this file, or on files and names in this folder.
    pub fn arm_below(&self, path: &Path, fault: Fault, after: u64) {
        self.state().armed.add(fault, after, Some(path));
    }

    /// Takes back every fault that has not struck.
    pub fn disarm(&self) {
        self.state().armed.clear();
    }

    /// Number of faults that have not struck.
    pub fn armed(&self) -> usize {
        self.state().armed.count()
    }

    /// Has `tell` called at the operation at which the device dies, in the middle of the process that
    /// asked for it: it may note or send something, no more.
    pub fn on_death(&self, tell: Arc<dyn Fn() + Send + Sync>) {
        self.state().on_death = Some(tell);
    }

    /// Whether the device has died in this life.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Lets syncs say that they are done and do nothing, or no longer.
    pub fn set_lying(&self, lying: bool) {
        self.state().lying = lying;
    }

    /// Whether something is not durable although a sync said so. A sync that does what it says makes up
    /// for earlier lies about the same file or folder; a power cut takes what is owed.
    pub fn owes(&self) -> bool {
        let state = self.state();
        state.names.owes() || state.contents.values().any(|contents| contents.owes())
    }

    /// How many bytes all files together may have. What would make them longer fails.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes that all files together have.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// How long operations take: see [`take_pending_delay`].
    pub fn set_latency(&self, latency: Latency) {
        self.state().latency = latency;
    }

    /// How many times as long they take, 1 being as usual: for slow episodes.
    pub fn set_slowdown(&self, times: u32) {
        self.state().slowdown = times;
    }

    /// Flips `bits` drawn bits of a file on the medium; gives their bytes' offsets. An empty or missing
    /// file stays as it is.
    pub fn rot(&self, path: &Path, bits: usize, random: &mut Random) -> Vec<u64> {
        let Some(length) = self.length(path).filter(|length| *length > 0) else { return Vec::new() };
        let flip = |_| {
            let (offset, bit) = (random.random_range(0..length), random.random_range(0..8));
            self.damage(path, offset, 1, |byte| byte[0] ^= 1 << bit);
            offset
        };
        (0..bits).map(flip).collect()
    }

    /// Changes `length` bytes of a file on the medium, behind the back of whoever uses it. Where the
    /// file ends before, nothing is changed.
    pub fn damage(&self, path: &Path, offset: u64, length: usize, change: impl Fn(&mut [u8])) {
        let mut state = self.state();
        let Some(file) = state.names.find(path) else { return };
        if let Some(contents) = state.contents.get_mut(&file) {
            contents.damage(offset, &change, length);
        }
        state.statistics.faults += 1;
        state.note(DiskAction::Damaged, path, offset, length as u64);
    }

    /// The files that there are, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let length = |file| state.contents[&file].live().length();
        state.names.files().map(|(path, file)| (path.to_path_buf(), length(file))).collect()
    }

    /// Length of a file, none when there is none.
    pub fn length(&self, path: &Path) -> Option<u64> {
        let state = self.state();
        let file = state.names.find(path)?;
        Some(state.contents[&file].live().length())
    }

    /// How often the disk was asked for what.
    pub fn statistics(&self) -> Statistics {
        self.state().statistics
    }

    /// The last write that was asked for.
    pub fn last_write(&self) -> Option<LastWrite> {
        let state = self.state();
        let (file, write) = state.last_write.clone()?;
        let path = state.names.name_of(file).map(Path::to_path_buf).unwrap_or_default();
        Some(LastWrite { path, ..write })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
