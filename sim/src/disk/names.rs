//! Which file a name stands for: as programs see it, and as it is on the medium.
//!
//! A name that came, changed or went is durable once its folder was synced. Without that a power cut
//! keeps some of the changes: a prefix of them, as a file system with a journal does, or any of them.
//!
//! Invariant: a file has at most one name in each of both images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::fault::Cut;
use crate::random::{Draw, Random};

/// Number of a file, whatever its name is.
pub(super) type FileId = u64;

/// The names on a disk.
#[derive(Clone, Default)]
pub(super) struct Names {
    live: BTreeMap<PathBuf, FileId>,
    durable: BTreeMap<PathBuf, FileId>,
    unsynced: Vec<Change>,
    folders: BTreeSet<PathBuf>,
    /// Whether a sync of a folder said that it was done and was not.
    owes: bool,
}

/// A change of names in one folder.
#[derive(Clone)]
enum Change {
    /// The file has this name, and no longer the one that it had.
    Link(PathBuf, FileId),
    Unlink(PathBuf, FileId),
}

impl Names {
    pub fn find(&self, path: &Path) -> Option<FileId> {
        self.live.get(path).copied()
    }

    /// The name of a file that has one.
    pub fn name_of(&self, file: FileId) -> Option<&Path> {
        self.live.iter().find(|(_, id)| **id == file).map(|(path, _)| path.as_path())
    }

    pub fn files(&self) -> impl Iterator<Item = (&Path, FileId)> {
        self.live.iter().map(|(path, id)| (path.as_path(), *id))
    }

    pub fn has_folder(&self, dir: &Path) -> bool {
        self.folders.contains(dir)
    }

    /// Names of the files and folders in a folder, sorted.
    pub fn list(&self, dir: &Path) -> Vec<String> {
        let children = self.live.keys().chain(&self.folders).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> =
            children.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.sort();
        names
    }

    /// Makes a folder with its parents, durably.
    pub fn create_folder(&mut self, dir: &Path) {
        self.folders.extend(dir.ancestors().map(Path::to_path_buf));
    }

    /// Gives a file a name in the place of the one that it may have.
    pub fn link(&mut self, path: &Path, file: FileId) {
        self.change(Change::Link(path.into(), file));
    }

    pub fn unlink(&mut self, path: &Path, file: FileId) {
        self.change(Change::Unlink(path.into(), file));
    }

    /// Makes the names in a folder durable.
    pub fn sync(&mut self, dir: &Path) {
        for change in std::mem::take(&mut self.unsynced) {
            if change.folder() == Some(dir) {
                change.apply(&mut self.durable);
            } else {
                self.unsynced.push(change);
            }
        }
        self.owes &= !self.unsynced.is_empty();
    }

    /// Says that the names in a folder are durable, and does nothing.
    pub fn sync_as_a_lie(&mut self, dir: &Path) {
        self.owes |= self.unsynced.iter().any(|change| change.folder() == Some(dir));
    }

    /// Whether a lying sync has left something that is not durable.
    pub fn owes(&self) -> bool {
        self.owes
    }

    /// Makes some of the changes durable, as the cut says. The rest still waits.
    pub fn write_back(&mut self, cut: &Cut, random: &mut Random) {
        let mut ended = false;
        for change in std::mem::take(&mut self.unsynced) {
            let survives = random.percent(cut.survival_percent);
            ended |= cut.in_order && !survives;
            if survives && !ended {
                change.apply(&mut self.durable);
                self.unsynced.retain(|earlier| !change.supersedes(earlier));
            } else {
                self.unsynced.push(change);
            }
        }
    }

    /// Leaves what is durable, and what the cut lets survive.
    pub fn cut(&mut self, cut: &Cut, random: &mut Random) {
        self.write_back(cut, random);
        self.unsynced.clear();
        self.live = self.durable.clone();
        self.owes = false;
    }

    /// Every file that a name may stand for, now or after a power cut.
    pub fn reachable(&self) -> BTreeSet<FileId> {
        let changed = self.unsynced.iter().map(|change| change.parts().1);
        self.live.values().chain(self.durable.values()).copied().chain(changed).collect()
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }
}

impl Change {
    fn parts(&self) -> (&Path, FileId) {
        let (Change::Link(path, file) | Change::Unlink(path, file)) = self;
        (path, *file)
    }

    /// The folder that must be synced.
    fn folder(&self) -> Option<&Path> {
        self.parts().0.parent()
    }

    /// Whether an earlier change means nothing any more once this one is durable.
    fn supersedes(&self, earlier: &Change) -> bool {
        let ((path, file), (earlier_path, earlier_file)) = (self.parts(), earlier.parts());
        path == earlier_path || file == earlier_file
    }

    /// Does the change, also where those before it were lost.
    fn apply(&self, names: &mut BTreeMap<PathBuf, FileId>) {
        names.retain(|_, file| *file != self.parts().1);
        if let Change::Link(path, file) = self {
            names.insert(path.clone(), *file);
        }
    }
}
