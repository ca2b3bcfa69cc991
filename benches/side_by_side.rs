//! detcd and etcd side by side: the same load on both, in turn, on this machine.
//!
//! ```text
//!   cargo bench --bench side_by_side -- --etcd PATH [--scenario put-100,list-10k] [--members 1]
//!
//!   for each scenario, on one member and on three:
//!     start both clusters ─> fill both ─> warm-up, dropped ─> etcd, detcd, etcd, detcd, ... ─> medians
//! ```
//!
//! # What is measured
//!
//! A *client* is a task that sends its next request when it has the answer to the last one; the clients
//! share ten connections, as in etcd's own tool. A round is time-boxed: when its time is over nobody
//! begins a request, and the round ends with the last answer. So every request that cost the server
//! something is counted, and none is counted twice.
//!
//! **CPU** is user plus system time of the server processes, all members together, read from
//! `/proc/PID/stat` before and after the round. The kernel keeps this sum exactly and shows it in steps
//! of 10 ms, below one percent of a busy round. Divided by the requests of the round it is the
//! steadiest figure of all: requests a second and latencies also depend on what the load generator
//! takes from the same cores, on the disk's mood and on the neighbours, while the work that a server
//! does for a request hardly does. When one number is to be quoted, quote the ratio of CPU a request.
//! The generator's own CPU is shown beside it: with fewer than four cores it, not the server, is often
//! what limits requests a second.
//!
//! **Memory** is what the processes hold at the end of a round. etcd maps its database, so part of its
//! figure is page cache; the JSON file has the anonymous part and the peak too. **Disk** is blocks in use, so a
//! file that was made longer in advance counts in full.
//!
//! # What makes it fair
//!
//! - Both get the same flags, and folders on one file system; both sync every write. No flag is tuned.
//! - Rounds alternate, so that a slow minute of the machine hits both; the ratio is the median of the
//!   ratios of neighbouring rounds.
//! - Both clusters run all the time. The idle one costs about a hundredth of a core.
//! - The generator speaks to both over the same code, with the same keys in the same order.
//!
//! # What it does not show
//!
//! It is our tool; etcd's own, `benchmark`, is the second opinion. The loop is closed, so the latencies
//! are those of a full house, not those at a given rate. Time-boxed rounds let the faster server write
//! more, so it ends with the longer history. Everything is on one machine: no network, one disk.

#![expect(clippy::disallowed_methods, reason = "this measures real time, files and processes")]

#[path = "side_by_side/clients.rs"]
mod clients;
#[path = "side_by_side/cluster.rs"]
mod cluster;
#[path = "side_by_side/compare.rs"]
mod compare;
#[path = "side_by_side/fan_out.rs"]
mod fan_out;
#[path = "side_by_side/options.rs"]
mod options;
#[path = "side_by_side/process.rs"]
mod process;
#[path = "side_by_side/report.rs"]
mod report;
#[path = "side_by_side/round.rs"]
mod round;
#[path = "side_by_side/scenario.rs"]
mod scenario;
#[path = "side_by_side/wire.rs"]
mod wire;

use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use cluster::Program;
use options::Options;
use report::Report;

/// What stops a scenario or the whole run. There is nobody to tell apart one from another.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        print!("{}", report::list());
        return ExitCode::SUCCESS;
    }
    if !options.bench {
        // `cargo test --all-targets` runs benchmarks too, to see that they start.
        eprintln!("side_by_side: only runs with --bench, as from `cargo bench`");
        return ExitCode::SUCCESS;
    }
    // One thread: the generator must leave the other cores to the servers. On two cores it was measured
    // to take 10 us of CPU for a get, and 18 us on two threads, which wake each other all the time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run_or_stop(&options)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("side_by_side: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until the end or until a signal. Either way the servers are stopped when the future is dropped.
async fn run_or_stop(options: &Options) -> Result<bool, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = run(options) => outcome,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

/// Runs what was chosen; tells whether every scenario could be measured without an error.
async fn run(options: &Options) -> Result<bool, Failure> {
    let scenarios = options.scenarios()?;
    let programs =
        [Program::find("etcd", options.etcd.clone())?, Program::find("detcd", options.detcd_path()?)?];
    let data = tempfile::Builder::new().prefix("side_by_side-").tempdir_in(options.data_dir()?)?;
    let json = options.json_path()?;
    let mut report = Report::new(&programs, options);
    println!("{}", report.head());

    let bar = ProgressBar::new((scenarios.len() * options.members.len()) as u64)
        .with_style(ProgressStyle::with_template("[{elapsed}] {wide_bar} {pos}/{len} {msg}")?);
    for scenario in scenarios {
        for &members in &options.members {
            bar.set_message(format!("{} on {members}", scenario.name));
            match compare::compare(scenario, members.into(), &programs, options, data.path(), &bar).await {
                Ok(results) => report.results.extend(results),
                Err(failure) => {
                    report.failures.push(format!("{} on {members}: {failure}", scenario.name));
                }
            }
            // After each, so that an interrupted run leaves what it has.
            report.write(&json)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    println!("{}\nraw rounds: {}", report.table(), json.display());
    Ok(report.is_clean())
}
