//! What the runs of this level stand on: a disk, chance, a clock that counts steps, and the ways in which
//! a life goes wrong and ends.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use detcd::disk::Disk;
use detcd::types::LocalFault;
use rand::Rng;

use super::StorageReport;
use crate::disk::{Cut, Fault, SimDisk};
use crate::evidence::Violation;
use crate::random::{Draw, Random, stream};
use crate::trace::{Trace, What};

/// The member that the trace tells of.
const MEMBER: u8 = 1;
/// Time of a step in the trace.
const STEP_NANOSECONDS: u64 = 1000;

/// One part of a run.
pub(super) struct Rig {
    pub disk: SimDisk,
    pub random: Random,
    pub report: StorageReport,
    trace: Trace,
    steps: Arc<AtomicU64>,
    faults: usize,
}

/// What a life suffers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing: it ends between two operations.
    None,
    /// A fault strikes an operation.
    Fault(Fault),
    /// The disk is full after some bytes more.
    FullDisk,
    /// Syncs lie.
    Lies,
}

impl Trouble {
    /// Whether no operation fails of it.
    pub fn is_quiet(self) -> bool {
        matches!(self, Trouble::None | Trouble::Lies)
    }
}

impl Rig {
    /// A part by name, with a disk of its own.
    pub fn new(seed: u64, name: &str, trace: &Trace) -> Self {
        let random = stream(seed, &format!("storage {name}"));
        let disk = SimDisk::new(stream(seed, &format!("storage {name} disk")));
        let steps = Arc::new(AtomicU64::new(0));
        let report = StorageReport::default();
        let time = steps.clone();
        let now = move || time.load(Ordering::Relaxed) * STEP_NANOSECONDS;
        disk.record(trace.clone(), MEMBER, Arc::new(now));
        Self { disk, random, report, trace: trace.clone(), steps, faults: 0 }
    }

    /// Another step begins.
    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a rare path was reached.
    pub fn mark(&self, name: &'static str) {
        self.trace.mark(self.now(), MEMBER, name);
    }

    /// The same, if so.
    pub fn mark_if(&self, reached: bool, name: &'static str) {
        if reached {
            self.mark(name);
        }
    }

    /// Tells people what goes wrong in this life.
    pub fn tell(&self, text: impl FnOnce() -> String) {
        let text = if self.trace.is_read() { text() } else { String::new() };
        self.trace.note(self.now(), MEMBER, What::Fault { fault: self.faults, text, until: 0 });
    }

    fn now(&self) -> u64 {
        self.steps.load(Ordering::Relaxed) * STEP_NANOSECONDS
    }

    /// True in `percent` of a hundred draws.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.random.percent(percent)
    }

    /// Draws what the next life suffers from, and lets it begin. `operations` is about how many changes
    /// the life makes.
    pub fn arm_trouble(&mut self, operations: u64) -> Trouble {
        let trouble = match self.random.random_range(0..100) {
            0..20 => Trouble::None,
            20..66 => Trouble::Fault(Fault::Death),
            66..72 => Trouble::Fault(Fault::WriteError),
            72..82 => Trouble::Fault(Fault::SyncError),
            82..90 => Trouble::FullDisk,
            _ => Trouble::Lies,
        };
        let after = self.random.log_uniform(1, operations);
        match trouble {
            Trouble::None => {}
            Trouble::Fault(fault) => self.arm(fault, after),
            Trouble::FullDisk => {
                let room = self.random.log_uniform(1, 40_000);
                self.disk.set_capacity(Some(self.disk.used() + room));
            }
            Trouble::Lies => self.disk.set_lying(true),
        }
        self.faults += 1;
        self.tell(|| format!("{trouble:?} within {after} operations"));
        trouble
    }

    /// Lets a fault strike. A failed sync takes what a lying one has left, like a power cut; so that a promise
    /// is broken by power cuts alone, the device dies then instead.
    pub fn arm(&self, fault: Fault, after: u64) {
        let fault = if fault == Fault::SyncError && self.disk.owes() { Fault::Death } else { fault };
        self.disk.arm(fault, after);
    }

    /// Ends every trouble that has not struck.
    pub fn calm(&self) {
        self.disk.disarm();
        self.disk.set_capacity(None);
        self.disk.set_lying(false);
    }

    /// Ends the life of the process. Gives whether power was cut while the disk owed something.
    pub fn crash(&mut self) -> bool {
        self.report.crashes += 1;
        self.step();
        if self.percent(25) {
            self.disk.kill();
            return false;
        }
        let owed = self.disk.owes();
        self.disk.power_cut(&mut self.random);
        owed
    }

    /// The disk as one more cut of this moment would leave it.
    pub fn other_cut(&mut self) -> SimDisk {
        self.report.crashes += 1;
        let fork = self.disk.fork();
        fork.disarm();
        fork.set_lying(false);
        fork.set_capacity(None);
        fork.power_cut(&mut self.random);
        fork
    }

    /// The disk as a cut that takes everything would leave it.
    pub fn worst_cut(&mut self) -> SimDisk {
        self.report.crashes += 1;
        let fork = self.disk.fork();
        fork.power_cut_as(&Cut::NOTHING, &mut self.random);
        fork
    }

    /// The report so far, with what the disk was asked for.
    pub fn finish(mut self) -> StorageReport {
        self.report.disk.add(&self.disk.statistics());
        self.report
    }
}

/// Makes the folders that a member's data folder has.
pub(super) fn make_folder(disk: &dyn Disk, folder: &Path) {
    // A new folder is durable on return, and no trouble is armed before there is one.
    disk.create_dir(folder).unwrap_or_else(|error| unreachable!("a calm disk: {error}"));
}

/// Runs code that must not panic. The panics that the server itself catches stay quiet too.
pub(super) fn no_panic<T>(
    claim: &'static str,
    doing: &str,
    code: impl FnOnce() -> T,
) -> Result<T, Violation> {
    static HOOK: Once = Once::new();
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(code));
    QUIET.set(before);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Violation::new(claim, format!("{doing} panicked: {text}"))
    })
}

/// A refusal where there was no reason for one.
pub(super) fn unjustified(claim: &'static str, doing: &str, fault: &LocalFault) -> Violation {
    Violation::new(claim, format!("{doing} failed without a reason: {fault}"))
}
