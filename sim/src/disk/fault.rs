//! What can go wrong with a disk, as data: faults that wait for their operation, and power cuts.

use std::path::{Path, PathBuf};

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::image::PAGE_BYTES;
use crate::random::{Draw, Random};
use detcd::disk::SECTOR_BYTES;

/// A fault that strikes one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A read fails.
    ReadError,
    /// A write or a change of length fails, and may have happened in part.
    WriteError,
    /// A sync of a file or folder fails. Some of what was to become durable is; the rest never will be
    /// by a later sync, although programs still see it until they open the file for reading.
    SyncError,
    /// A write lands at another place of the same file. Nobody is told.
    MisdirectedWrite,
    /// One sector or page of a write is left as it was. Nobody is told.
    StaleSector,
    /// The device dies at a change or sync, which may have happened in part, and everything after it
    /// fails. It is back after the next kill or power cut.
    Death,
}

/// What the program asks of the disk, as far as faults tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    SetLength,
    Sync,
    /// A name that comes, changes or goes.
    Name,
    SyncFolder,
}

impl Fault {
    fn strikes(self, kind: Kind) -> bool {
        match self {
            Fault::ReadError => kind == Kind::Read,
            Fault::WriteError => matches!(kind, Kind::Write | Kind::SetLength),
            Fault::SyncError => matches!(kind, Kind::Sync | Kind::SyncFolder),
            Fault::MisdirectedWrite | Fault::StaleSector => kind == Kind::Write,
            Fault::Death => kind != Kind::Read,
        }
    }
}

/// The faults that wait.
#[derive(Clone, Default)]
pub(super) struct Armed(Vec<Waiting>);

#[derive(Clone)]
struct Waiting {
    fault: Fault,
    /// Operations of its kind that are left, its own among them.
    left: u64,
    /// The file or folder that it waits for; none for all.
    below: Option<PathBuf>,
}

impl Armed {
    pub fn add(&mut self, fault: Fault, after: u64, below: Option<&Path>) {
        self.0.push(Waiting { fault, left: after.max(1), below: below.map(Path::to_path_buf) });
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Counts an operation on a path. Gives the fault that strikes it; others whose turn it is as well
    /// wait for the next one.
    pub fn strike(&mut self, kind: Kind, path: &Path) -> Option<Fault> {
        let mut struck = None;
        for (at, waiting) in self.0.iter_mut().enumerate() {
            let concerned = waiting.below.as_ref().is_none_or(|below| path.starts_with(below));
            if !concerned || !waiting.fault.strikes(kind) {
                continue;
            }
            waiting.left = waiting.left.saturating_sub(1);
            if waiting.left == 0 && struck.is_none() {
                struck = Some(at);
            }
        }
        struck.map(|at| self.0.remove(at).fault)
    }
}

/// What a power cut does with operations that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Of a hundred pieces, how many survive.
    pub survival_percent: u32,
    /// The pieces: writes are torn at multiples of this in the file.
    pub unit_bytes: u64,
    /// Whether writes to one place take effect in the order in which they were made, and changes of
    /// names survive only with those before them. Otherwise in any order.
    pub in_order: bool,
}

impl Cut {
    /// Everything that was not synced is lost.
    pub const NOTHING: Cut = Cut { survival_percent: 0, unit_bytes: SECTOR_BYTES, in_order: true };
    /// Everything survives.
    pub const EVERYTHING: Cut = Cut { survival_percent: 100, unit_bytes: SECTOR_BYTES, in_order: true };

    /// A cut of any kind.
    pub fn draw(random: &mut Random) -> Self {
        let survival_percent = match random.random_range(0..10) {
            0 | 1 => 0,
            2 => 100,
            _ => random.random_range(3..98),
        };
        let unit_bytes = *random.pick(&[SECTOR_BYTES, SECTOR_BYTES, PAGE_BYTES, u64::MAX]);
        Self { survival_percent, unit_bytes, in_order: random.percent(50) }
    }
}
