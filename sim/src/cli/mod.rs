//! The command line, `cargo sim`: runs a seed, runs many, compares, shrinks, draws.
//!
//! Every run is a process of its own: nothing that one seed leaves in a static reaches another, a hang is
//! ended from outside, and any seed runs alone as it ran in the batch.

#![expect(clippy::disallowed_methods, reason = "runs processes, files and clocks of this machine")]

mod batch;
mod child;
mod commands;
mod controls;
mod scenarios;
mod seeds;
mod shrink;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::setup::Profile;
pub use child::Verdict;
use seeds::Seeds;

/// Runs detcd's clusters in a simulated world, and checks what happened.
#[derive(Parser)]
#[command(name = "cargo sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed, or one setup from a file.
    Run(RunArguments),
    /// Runs many seeds, each in a process of its own.
    Swarm(SwarmArguments),
    /// Runs each seed twice, in two processes, and compares what happened.
    Meta(SwarmArguments),
    /// Makes a failing run as small as it gets while the same claim stays broken.
    Shrink(ShrinkArguments),
    /// Arms one planted bug after the other, and says how soon it is caught.
    Planted(PlantedArguments),
    /// Runs the negative controls, each of which must be red, and says how soon they are.
    Controls(ControlArguments),
    /// Draws a run as a page.
    Report(ReportArguments),
    /// Runs the scripted scenarios and the seeds that ever failed.
    Scenarios(ScenarioArguments),
}

/// Which run.
#[derive(Args, Clone)]
struct Which {
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What kind of run: lite, full, storage, watch or lease.
    #[arg(long, default_value = "lite")]
    profile: Profile,
    /// A setup from a file, in place of the seed's own.
    #[arg(long, conflicts_with = "seed")]
    setup: Option<PathBuf>,
    /// Arms a planted bug by its name.
    #[arg(long)]
    arm: Option<String>,
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    which: Which,
    /// Prints every event.
    #[arg(long)]
    trace: bool,
    /// Prints what the run is like before it begins.
    #[arg(long)]
    show: bool,
    /// Prints the verdict as one line of JSON and nothing else.
    #[arg(long)]
    json: bool,
    /// Writes a page that shows the run.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Args, Clone)]
struct SwarmArguments {
    /// The seeds, as FIRST..LAST (without the last).
    #[arg(long, default_value = "0..200")]
    seeds: Seeds,
    /// Takes as many seeds from this text, such as a commit's hash, in place of the first ones.
    #[arg(long)]
    seeds_from: Option<String>,
    /// What kind of run.
    #[arg(long, default_value = "lite")]
    profile: Profile,
    /// Runs at the same time. Default: one for each core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Arms a planted bug by its name.
    #[arg(long)]
    arm: Option<String>,
    /// Goes on after the first failure.
    #[arg(long)]
    keep_going: bool,
    /// Fails when a rare path that the batch must reach was not reached.
    #[arg(long)]
    require_markers: bool,
    /// Seconds that one run may take.
    #[arg(long, default_value_t = 60)]
    wall_limit: u64,
}

impl SwarmArguments {
    fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }

    fn seeds(&self) -> Vec<u64> {
        match &self.seeds_from {
            Some(text) => self.seeds.shifted_by(text),
            None => self.seeds.all(),
        }
    }

    fn wall_limit(&self) -> Duration {
        Duration::from_secs(self.wall_limit)
    }
}

#[derive(Args)]
struct ShrinkArguments {
    #[command(flatten)]
    which: Which,
    /// Seconds that it may take.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the smallest setup goes.
    #[arg(long, default_value = "shrunk.json")]
    out: PathBuf,
}

#[derive(Args)]
struct PlantedArguments {
    /// Only these bugs.
    #[arg(long)]
    bug: Vec<String>,
    /// How many bugs at most, in the order of the list.
    #[arg(long)]
    first: Option<usize>,
    /// Lite seeds that one bug may take; a full run counts as five.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs at the same time.
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Args)]
struct ControlArguments {
    /// Seeds that one control may take.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Runs at the same time. Default: one for each core.
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Args)]
struct ReportArguments {
    #[command(flatten)]
    which: Which,
    /// Where the page goes.
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
}

#[derive(Args)]
struct ScenarioArguments {
    /// Only those whose name holds this.
    #[arg(default_value = "")]
    name: String,
    /// Runs at the same time. Default: one for each core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Arms a planted bug by its name.
    #[arg(long)]
    arm: Option<String>,
    /// Names them and tells their stories, and runs none.
    #[arg(long)]
    list: bool,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => commands::run(&arguments),
        Command::Swarm(arguments) => commands::swarm(&arguments),
        Command::Meta(arguments) => commands::meta(&arguments),
        Command::Shrink(arguments) => commands::shrink(&arguments),
        Command::Planted(arguments) => commands::planted(&arguments),
        Command::Controls(arguments) => controls::controls(&arguments),
        Command::Report(arguments) => commands::report(&arguments),
        Command::Scenarios(arguments) => scenarios::scenarios(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo sim: {error}");
            ExitCode::from(2)
        }
    }
}
