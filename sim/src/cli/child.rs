//! One run in a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::setup::{Profile, Setup};

/// What a run says of itself, as one line of JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The broken claims, each with what was seen; none when the run is green.
    pub violations: Vec<(String, String)>,
    /// The hash of everything that happened.
    pub hash: u64,
    /// Number of events.
    pub events: u64,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// Calls made, and answered.
    pub calls: (u64, u64),
    /// Entries committed.
    pub entries: u64,
    /// Events heard by watchers.
    pub heard: u64,
    /// How often each rare path was reached.
    pub markers: BTreeMap<String, u64>,
}

impl Verdict {
    /// The claim that was found broken first.
    pub fn claim(&self) -> Option<&str> {
        self.violations.first().map(|(claim, _)| claim.as_str())
    }
}

/// Which run, as a child is told.
#[derive(Clone, Debug)]
pub struct Job {
    /// The seed.
    pub seed: u64,
    /// What kind of run.
    pub profile: Profile,
    /// A setup from a file.
    pub setup: Option<PathBuf>,
    /// A bug to arm.
    pub arm: Option<String>,
    /// Seconds of the machine that it may take.
    pub wall_limit: Duration,
}

impl Job {
    /// The time of this machine that a run may take when nobody says otherwise.
    pub const WALL_LIMIT: Duration = Duration::from_secs(60);

    /// The run of a setup, which goes to a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn of_setup(setup: &Setup, file: PathBuf) -> Result<Self, String> {
        let text = serde_json::to_string_pretty(setup).map_err(|error| error.to_string())?;
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let (seed, profile) = (setup.seed, setup.profile);
        Ok(Self { seed, profile, setup: Some(file), arm: None, wall_limit: Job::WALL_LIMIT })
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = match &self.setup {
            Some(file) => vec!["--setup".into(), file.display().to_string()],
            None => {
                vec!["--seed".into(), self.seed.to_string(), "--profile".into(), self.profile.to_string()]
            }
        };
        if let Some(bug) = &self.arm {
            arguments.extend(["--arm".into(), bug.clone()]);
        }
        arguments
    }

    /// The line that repeats the run.
    pub fn line(&self) -> String {
        format!("cargo sim run {}", self.arguments().join(" "))
    }

    /// Runs it and gives its whole trace.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn trace(&self) -> Result<String, String> {
        let program =
            std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let output = Command::new(program)
            .arg("run")
            .args(self.arguments())
            .arg("--trace")
            .output()
            .map_err(|error| format!("cannot start a run: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn run(&self) -> Result<Verdict, String> {
        let program =
            std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut child = Command::new(program)
            .arg("run")
            .args(self.arguments())
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start a run: {error}"))?;
        // Both are small; read on the side, so that a full pipe never holds the child up.
        let output = child.stdout.take().map(read_all);
        let errors = child.stderr.take().map(read_all);
        let began = Instant::now();
        let ended = loop {
            match child.try_wait().map_err(|error| format!("cannot wait for a run: {error}"))? {
                Some(status) => break Some(status),
                None if began.elapsed() > self.wall_limit => {
                    // It may have ended just now.
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let text = |reader: Option<std::thread::JoinHandle<String>>| {
            reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
        };
        let (output, errors) = (text(output), text(errors));
        let verdict = output.lines().last().and_then(|line| serde_json::from_str(line).ok());
        Ok(match (ended, verdict) {
            (Some(_), Some(verdict)) => verdict,
            (Some(status), None) => {
                died("no-panic", format!("the run ended with {status}: {}", tail(&errors)))
            }
            (None, _) => died("no-hang", format!("the run was cut off after {:?}", self.wall_limit)),
        })
    }
}

fn died(claim: &str, text: String) -> Verdict {
    Verdict { violations: vec![(claim.into(), text)], ..Verdict::default() }
}

fn read_all(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        // What was read before an error is what there is.
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(6)..].join(" | ")
}
