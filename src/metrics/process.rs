//! What the operating system says about this process, read when a page is rendered.
//!
//! Where there is no `/proc`, these families are missing.

#![expect(clippy::disallowed_methods, reason = "/proc is the system's, not the member's disk")]

use std::fs;

use prometheus::proto::{MetricFamily, MetricType};
use rustix::process::{Resource, getrlimit};

use super::family::single;

/// Clock ticks in a second, the unit of times in `/proc`: Linux shows 100 to programs whatever it uses.
const TICKS_PER_SECOND: f64 = 100.0;

/// Times of this process.
#[derive(Debug, PartialEq)]
struct Times {
    /// Seconds of processor time, in programs and in the kernel.
    cpu: f64,
    /// Seconds between the start of the machine and that of the process.
    start: f64,
}

pub(super) fn families() -> Vec<MetricFamily> {
    let mut families = Vec::new();
    let mut push = |kind, name, help, value: Option<f64>| {
        families.extend(value.map(|value| single(kind, name, help, value)));
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    push(
        MetricType::GAUGE,
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        kilobytes(&status, "VmRSS:"),
    );
    push(
        MetricType::GAUGE,
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        kilobytes(&status, "VmSize:"),
    );
    let times = times(&fs::read_to_string("/proc/self/stat").unwrap_or_default());
    let boot = boot_time(&fs::read_to_string("/proc/stat").unwrap_or_default());
    push(
        MetricType::COUNTER,
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        times.as_ref().map(|times| times.cpu),
    );
    push(
        MetricType::GAUGE,
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        times.zip(boot).map(|(times, boot)| boot + times.start),
    );
    // The folder that is being listed is one of those that it lists.
    let used = fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as f64);
    let most = getrlimit(Resource::Nofile).current.map(|most| most as f64);
    push(MetricType::GAUGE, "process_open_fds", "Number of open file descriptors.", used);
    push(MetricType::GAUGE, "process_max_fds", "Maximum number of open file descriptors.", most);
    push(MetricType::GAUGE, "os_fd_used", "The number of used file descriptors.", used);
    push(MetricType::GAUGE, "os_fd_limit", "The file descriptor limit.", most);
    families
}

/// The bytes of a line such as `VmRSS:     1234 kB`.
fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024.0)
}

/// Reads `/proc/self/stat`. Its second field is the program's name in parentheses and may hold anything.
fn times(stat: &str) -> Option<Times> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
    // Counted from the third field of the line: 14 and 15 are processor times, 22 is the start.
    let cpu = (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND;
    Some(Times { cpu, start: ticks(19)? / TICKS_PER_SECOND })
}

/// Seconds between the Unix epoch and the start of the machine, from `/proc/stat`.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kilobytes() {
        let status = "Name:\tdetcd\nVmSize:\t   20 kB\nVmRSS:\t       3 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(3072.0));
        assert_eq!(kilobytes(status, "VmSize:"), Some(20480.0));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 250 150 0 0 20 0 9 0 12345 8 9";
        assert_eq!(times(stat), Some(Times { cpu: 4.0, start: 123.45 }));
        assert_eq!(times("7 (a"), None);
        assert_eq!(times("7 (a) S 1"), None);
    }

    #[test]
    fn the_machine_started_at_its_boot_time() {
        assert_eq!(boot_time("cpu 1 2 3\nbtime 1700000000\n"), Some(1.7e9));
        assert_eq!(boot_time("cpu 1 2 3\n"), None);
    }
}
