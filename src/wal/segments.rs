//! The files of the log: their names, where new ones come from, where old ones go.
//!
//! ```text
//!   zeroed in steps                          no longer needed
//!        |                                        |
//!   prepare.tmp --> spare-<n> --> <sequence>-<first index>.wal --> spare-<n> or removed
//!              synced,       header and first batch written,
//!              renamed       synced, renamed, folder synced
//! ```
//!
//! Invariants:
//! - a file has a segment's name only once its header and first batch are durable;
//! - a spare is as long as a segment and was written once from end to end, so that overwriting it
//!   changes no metadata of the file system. What it holds is void.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::WalConfig;
use crate::disk::{Disk, File, OpenMode};
use crate::types::LocalFault;

const PREPARED: &str = "prepare.tmp";
const SPARE_PREFIX: &str = "spare-";
/// Zeros written at a time.
const ZEROS: &[u8] = &[0; 1 << 20];

/// A segment that has its name.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub sequence: u64,
    /// As in the header.
    pub first_index: u64,
    /// Length of the file.
    pub length: u64,
    /// Highest index of an entry in it, 0 without entries.
    pub max_index: u64,
}

impl Segment {
    pub fn file_name(&self) -> String {
        format!("{:016x}-{:016x}.wal", self.sequence, self.first_index)
    }

    /// The segment of that name, none for any other file.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (sequence, first_index) = name.strip_suffix(".wal")?.split_once('-')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let segment =
            Self { sequence: number(sequence)?, first_index: number(first_index)?, length: 0, max_index: 0 };
        (segment.file_name() == name).then_some(segment)
    }
}

/// A file that waits to become a segment.
pub(super) struct Blank {
    name: String,
    pub file: Arc<dyn File>,
    pub length: u64,
}

/// A new segment file on its way: zeros up to `length`.
struct Preparing {
    file: Arc<dyn File>,
    length: u64,
}

/// The folder of the log and the files in it that are no segments.
pub(super) struct Folder {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub config: WalConfig,
    spares: Vec<String>,
    /// Above the number of every spare there is.
    next_spare: u64,
    preparing: Option<Preparing>,
}

impl Folder {
    /// Looks into the folder: its spares, and its segments in order. Leftovers are removed.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: WalConfig,
    ) -> Result<(Self, Vec<Segment>), LocalFault> {
        let names = disk.list(dir).map_err(|error| fault("list", dir, error))?;
        let segments: Vec<Segment> = names.iter().filter_map(|name| Segment::from_file_name(name)).collect();
        let number = |name: &String| name.strip_prefix(SPARE_PREFIX)?.parse::<u64>().ok();
        let spares: Vec<String> = names.iter().filter(|name| number(name).is_some()).cloned().collect();
        let next_spare = spares.iter().filter_map(number).max().map_or(0, |highest| highest + 1);

        let folder = Self { disk, dir: dir.into(), config, spares, next_spare, preparing: None };
        if names.iter().any(|name| name == PREPARED) {
            let path = folder.path(PREPARED);
            folder.disk.remove(&path).map_err(|error| fault("remove", &path, error))?;
        }
        Ok((folder, segments))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes the names in the folder durable.
    pub fn sync(&self) -> Result<(), LocalFault> {
        self.disk.sync_dir(&self.dir).map_err(|error| fault("sync", &self.dir, error))
    }

    /// A file with room for `needed` bytes: a spare, or else a new one, now.
    pub fn take_blank(&mut self, needed: u64) -> Result<Blank, LocalFault> {
        let length = needed.max(self.config.segment_bytes);
        while length == self.config.segment_bytes
            && let Some(name) = self.spares.pop()
        {
            let path = self.path(&name);
            let open = self.disk.open(&path, OpenMode::ReadWrite);
            let file = open.map_err(|error| fault("open", &path, error))?;
            if file.len().map_err(|error| fault("open", &path, error))? == length {
                return Ok(Blank { name, file, length });
            }
            // Segments had another size when this one was made.
            self.disk.remove(&path).map_err(|error| fault("remove", &path, error))?;
        }
        while self.zero_more(length)? {}
        match self.preparing.take() {
            Some(Preparing { file, length }) => Ok(Blank { name: PREPARED.into(), file, length }),
            None => Err(LocalFault::new("no segment file was prepared")),
        }
    }

    /// Gives a blank the name of the segment that has been written to it and synced.
    pub fn publish(&self, blank: &Blank, segment: &Segment) -> Result<(), LocalFault> {
        self.rename(&blank.name, &segment.file_name())
    }

    /// Puts away a segment that is no longer needed. The folder is synced each time, so that segments go
    /// strictly one after the other and a gap is never the trace of a crash.
    pub fn retire(&mut self, segment: &Segment) -> Result<(), LocalFault> {
        let name = segment.file_name();
        if self.spares.len() < self.config.spare_segments && segment.length == self.config.segment_bytes {
            let spare = self.new_spare_name();
            self.rename(&name, &spare)?;
            self.spares.push(spare);
            return Ok(());
        }
        let path = self.path(&name);
        self.disk.remove(&path).map_err(|error| fault("remove", &path, error))?;
        self.sync()
    }

    /// Does one step of getting a spare ready; says whether more steps are needed.
    pub fn prepare_step(&mut self) -> Result<bool, LocalFault> {
        if !self.spares.is_empty() {
            return Ok(false);
        }
        if self.zero_more(self.config.segment_bytes)? {
            return Ok(true);
        }
        if let Some(Preparing { file, .. }) = self.preparing.take() {
            file.sync_data().map_err(|error| fault("sync", &self.path(PREPARED), error))?;
            let spare = self.new_spare_name();
            self.rename(PREPARED, &spare)?;
            self.spares.push(spare);
        }
        Ok(false)
    }

    fn new_spare_name(&mut self) -> String {
        self.next_spare += 1;
        format!("{SPARE_PREFIX}{}", self.next_spare - 1)
    }

    /// Writes zeros to the file being prepared; says whether it is still shorter than `length`.
    fn zero_more(&mut self, length: u64) -> Result<bool, LocalFault> {
        let path = self.path(PREPARED);
        if self.preparing.is_none() {
            let open = self.disk.open(&path, OpenMode::CreateNew);
            let file = open.map_err(|error| fault("create", &path, error))?;
            self.preparing = Some(Preparing { file, length: 0 });
        }
        let Some(preparing) = &mut self.preparing else { return Ok(false) };
        let end = length.min(preparing.length + ZEROS.len() as u64);
        if preparing.length < end {
            write_zeros(&*preparing.file, preparing.length, end)
                .map_err(|error| fault("fill", &path, error))?;
            preparing.length = end;
        }
        Ok(preparing.length < length)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), LocalFault> {
        let path = self.path(from);
        self.disk.rename(&path, &self.path(to)).map_err(|error| fault("rename", &path, error))?;
        self.sync()
    }
}

/// Writes zeros from one offset up to another.
pub(super) fn write_zeros(file: &dyn File, mut from: u64, to: u64) -> io::Result<()> {
    while from < to {
        let count = ZEROS.len().min(usize::try_from(to - from).unwrap_or(usize::MAX));
        file.write_at(from, &ZEROS[..count])?;
        from += count as u64;
    }
    Ok(())
}

/// What the system said when the log asked it for something.
pub(super) fn fault(action: &str, path: &Path, error: io::Error) -> LocalFault {
    LocalFault::new(format!("write-ahead log: cannot {action} {}: {error}", path.display()))
}
