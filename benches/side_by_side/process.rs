//! What the kernel says about a process and about a folder.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// One step of the times in `/proc/PID/stat`. The unit is part of Linux's interface and the same on
/// every architecture in use.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User plus system time, of all threads, ended ones included.
    pub cpu: Duration,
    /// Bytes that it caused to be written to the disk.
    pub written: u64,
}

/// What a process holds now, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub resident: u64,
    /// The most that it ever held.
    pub peak: u64,
    /// The part of `resident` that is not backed by a file.
    pub anonymous: u64,
}

impl Usage {
    /// Of the process with this id, or of this process: `"self"`.
    pub fn of(process: &str) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name comes second, in parentheses, and may hold anything. The times are fields 14 and 15.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut times = after_name.split_whitespace().skip(11).map(str::parse::<u32>);
        let (Some(Ok(user)), Some(Ok(system))) = (times.next(), times.next()) else {
            return Err(io::Error::other(format!("no times in {stat:?}")));
        };
        let io = fs::read_to_string(format!("/proc/{process}/io"))?;
        Ok(Self { cpu: TICK * (user + system), written: field(&io, "write_bytes:")? })
    }

    pub fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, written: self.written + other.written }
    }

    pub fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu - earlier.cpu, written: self.written - earlier.written }
    }
}

impl Memory {
    /// Of the process with this id.
    pub fn of(process: &str) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let bytes = |name| field(&status, name).map(|kib| kib * 1024);
        Ok(Self { resident: bytes("VmRSS:")?, peak: bytes("VmHWM:")?, anonymous: bytes("RssAnon:")? })
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            resident: self.resident + other.resident,
            peak: self.peak + other.peak,
            anonymous: self.anonymous + other.anonymous,
        }
    }
}

/// Bytes of disk in use below a folder. A file that vanishes meanwhile counts as nothing.
pub fn disk_usage(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        sum += match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => disk_usage(&path)?,
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        };
    }
    Ok(sum)
}

/// The number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> io::Result<u64> {
    let number =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("no {name} in /proc")))
}
