//! The command line.

use std::path::{Path, PathBuf};

use crate::Failure;
use crate::scenario::{SCENARIOS, Scenario};

/// Compare detcd with etcd under the same load on this machine.
#[derive(clap::Parser, Debug)]
#[command(name = "side_by_side")]
pub struct Options {
    /// The etcd server to compare with
    #[arg(long, env = "ETCD_BIN", value_name = "PATH", default_value = "tests/interop/go/bin/server")]
    pub etcd: PathBuf,

    /// The detcd server [default: the one that cargo built beside this benchmark]
    #[arg(long, value_name = "PATH")]
    detcd: Option<PathBuf>,

    /// Scenarios to run, by name [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    scenario: Vec<String>,

    /// Cluster sizes to run on
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "1,3",
          value_parser = clap::value_parser!(u8).range(1..=7))]
    pub members: Vec<u8>,

    /// Measured rounds of each server in each scenario
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// Length of a round, in seconds
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,

    /// The servers' --quota-backend-bytes
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 30)]
    pub quota: u64,

    /// Where to put the data folders; they are removed at the end [default: the target folder]
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,

    /// Where to write every round [default: side_by_side.json in the target folder]
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,

    /// List the scenarios and exit
    #[arg(long)]
    pub list: bool,

    /// What `cargo bench` passes to every benchmark and `cargo test` does not
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// The chosen scenarios, in the order of the table.
    pub fn scenarios(&self) -> Result<Vec<&'static Scenario>, Failure> {
        if let Some(unknown) = self.scenario.iter().find(|name| SCENARIOS.iter().all(|s| s.name != **name)) {
            return Err(format!("no scenario {unknown:?}; --list shows them").into());
        }
        let chosen = |s: &&Scenario| self.scenario.is_empty() || self.scenario.iter().any(|n| n == s.name);
        Ok(SCENARIOS.iter().filter(chosen).collect())
    }

    pub fn detcd_path(&self) -> Result<PathBuf, Failure> {
        match &self.detcd {
            Some(path) => Ok(path.clone()),
            None => Ok(profile_dir()?.join("detcd")),
        }
    }

    /// The folder for data folders, which exists.
    pub fn data_dir(&self) -> Result<PathBuf, Failure> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            // Not the system's temporary folder: it may be memory, where a sync costs nothing.
            None => target_dir()?.join("tmp"),
        };
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    pub fn json_path(&self) -> Result<PathBuf, Failure> {
        match &self.json {
            Some(path) => Ok(path.clone()),
            None => Ok(target_dir()?.join("side_by_side.json")),
        }
    }
}

/// `target/release`, where this program is `target/release/deps/side_by_side-...`.
fn profile_dir() -> Result<PathBuf, Failure> {
    ancestor(2)
}

fn target_dir() -> Result<PathBuf, Failure> {
    ancestor(3)
}

fn ancestor(levels: usize) -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    let ancestor = program.ancestors().nth(levels).map(Path::to_owned);
    ancestor.ok_or_else(|| format!("{} is not in a target folder", program.display()).into())
}
