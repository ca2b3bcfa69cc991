//! Makes a failing run small: takes away faults, clients, kinds of requests and settings for as long as the
//! same claim stays broken.
//!
//! What is shrunk is the setup, which is plain data, not the tape of random numbers: each part of a run
//! draws from a stream of its own, so what is left behaves as before. Still, the scheduler's draws shift
//! when tasks vanish; so a candidate gets a few tries with neighbouring schedules before it is given up.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::batch::run_all;
use super::child::Job;
use crate::bus::Network;
use crate::clock::EXACT;
use crate::history::MemberNumber;
use crate::setup::{Setup, Tuning};
use crate::workload::Weights;

/// Schedules that a candidate is tried with.
const SCHEDULES: u64 = 4;

/// A run made small.
pub struct Shrunk {
    /// The smallest setup that was found.
    pub setup: Setup,
    /// The claim that it breaks.
    pub claim: String,
    /// What was seen.
    pub text: String,
    /// Runs that it took.
    pub runs: usize,
    /// What the run was before.
    before: (usize, u32),
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { members, workload, network, tuning, clocks, plan, schedule, .. } = &self.setup;
        let (steps, calls) = self.before;
        writeln!(
            f,
            "after {} runs: {} of {steps} faults, {} of {calls} calls",
            self.runs,
            plan.steps.len(),
            workload.clients * workload.calls
        )?;
        writeln!(f, "breaks {}: {}", self.claim, self.text)?;
        writeln!(f, "members: {members}, schedule {schedule}")?;
        writeln!(
            f,
            "clients: {} with {} calls each, {} watchers, {} keys, patience {} ms",
            workload.clients, workload.calls, workload.watchers, workload.keys, workload.patience_ms
        )?;
        writeln!(f, "requests: {}", unusual(&workload.weights, &Weights::default()))?;
        writeln!(f, "network: {}", unusual(network, &Network::CALM))?;
        writeln!(f, "settings: {}", unusual(tuning, &Tuning::PLAIN))?;
        if clocks.iter().any(|clock| *clock != (EXACT, 0)) {
            writeln!(f, "clocks (rate, offset): {clocks:?}")?;
        }
        if plan.steps.is_empty() {
            return write!(f, "no faults");
        }
        write!(f, "faults:\n{plan}")
    }
}

/// The parts of something that are not as usual, by their names: what a person wants to see.
fn unusual<T: Serialize>(value: &T, usual: &T) -> String {
    let (Ok(Value::Object(value)), Ok(usual)) = (serde_json::to_value(value), serde_json::to_value(usual))
    else {
        return "?".into();
    };
    let parts = value.iter().filter(|(name, value)| usual.get(name) != Some(value));
    let parts: Vec<String> = parts.map(|(name, value)| format!("{name} {value}")).collect();
    if parts.is_empty() { "as usual".into() } else { parts.join(", ") }
}

/// One way to make a setup smaller.
type Candidate = (usize, Setup);

/// Makes a failing setup small within a time of this machine.
///
/// # Errors
/// When the setup breaks no claim, or runs cannot be started.
pub fn shrink(setup: Setup, arm: Option<String>, limit: Duration) -> Result<Shrunk, String> {
    let began = Instant::now();
    let shrinker = Shrinker::new(arm)?;
    let (claim, text) =
        shrinker.breaks(&setup)?.ok_or("the run breaks no claim: there is nothing to shrink")?;
    let before = (setup.plan.steps.len(), setup.workload.clients * setup.workload.calls);
    let mut shrunk = Shrunk { setup, claim, text, runs: 1, before };
    loop {
        let mut progress = false;
        let mut place = 0;
        while let Some((next, candidate)) = candidate(&shrunk.setup, place) {
            if began.elapsed() > limit {
                return Ok(shrunk);
            }
            let found = shrinker.still_breaks(&candidate, &shrunk.claim, &mut shrunk.runs)?;
            match found {
                Some((setup, text)) => {
                    shrunk.setup = setup;
                    shrunk.text = text;
                    progress = true;
                    // The list is shorter now: the same place holds something else.
                }
                None => place = next,
            }
        }
        if !progress {
            return Ok(shrunk);
        }
    }
}

struct Shrinker {
    arm: Option<String>,
    folder: PathBuf,
}

impl Shrinker {
    fn new(arm: Option<String>) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("detcd-shrink-{}", std::process::id()));
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        Ok(Self { arm, folder })
    }

    fn breaks(&self, setup: &Setup) -> Result<Option<(String, String)>, String> {
        let verdicts = self.run(std::slice::from_ref(setup))?;
        Ok(verdicts.into_iter().next().flatten())
    }

    /// Whether a candidate breaks the claim, with its own schedule or a neighbouring one.
    fn still_breaks(
        &self,
        candidate: &Setup,
        claim: &str,
        runs: &mut usize,
    ) -> Result<Option<(Setup, String)>, String> {
        let tries: Vec<Setup> = (0..SCHEDULES)
            .map(|shift| Setup { schedule: candidate.schedule + shift, ..candidate.clone() })
            .collect();
        let verdicts = self.run(&tries)?;
        *runs += tries.len();
        let hit = tries.into_iter().zip(verdicts).find_map(|(setup, broken)| {
            let (broken, text) = broken?;
            (broken == claim).then_some((setup, text))
        });
        Ok(hit)
    }

    fn run(&self, setups: &[Setup]) -> Result<Vec<Option<(String, String)>>, String> {
        let mut jobs = Vec::new();
        for (number, setup) in setups.iter().enumerate() {
            let job = Job::of_setup(setup, self.folder.join(format!("{number}.json")))?;
            jobs.push(Job { arm: self.arm.clone(), wall_limit: Duration::from_secs(20), ..job });
        }
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        let batch = run_all(&jobs, at_once, false, |_| false)?;
        Ok((0..jobs.len())
            .map(|place| batch.done.get(&place).and_then(|verdict| verdict.violations.first().cloned()))
            .collect())
    }
}

impl Drop for Shrinker {
    fn drop(&mut self) {
        // It lies in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The candidate at a place of the list of all, with the place after it; none behind the last.
fn candidate(setup: &Setup, place: usize) -> Option<Candidate> {
    let all = candidates(setup);
    let candidate = all.into_iter().skip(place).enumerate().find(|(_, candidate)| candidate != setup);
    candidate.map(|(skipped, candidate)| (place + skipped + 1, candidate))
}

/// Keeps so many members of more, and the faults that only concern them.
fn keep_members(setup: &mut Setup, members: MemberNumber) {
    if setup.members > members {
        setup.members = members;
        setup.clocks.truncate(members.into());
        setup.plan.steps.retain(|step| step.action.highest() <= members);
        setup.left_behind = if setup.left_behind <= members && members > 1 { setup.left_behind } else { 0 };
    }
}

/// Everything that is smaller by one thing, the largest things first.
fn candidates(setup: &Setup) -> Vec<Setup> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Setup)| {
        let mut smaller = setup.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    let steps = setup.plan.steps.len();
    for part in [2, 4] {
        let size = steps.div_ceil(part);
        for first in (0..steps).step_by(size.max(1)).filter(|_| size > 1) {
            add(&|setup| drop(setup.plan.steps.drain(first..steps.min(first + size))));
        }
    }
    for step in 0..steps {
        add(&|setup| drop(setup.plan.steps.remove(step)));
    }
    for members in [1, 3] {
        add(&|setup| keep_members(setup, members));
    }
    add(&|setup| setup.buggify = false);
    add(&|setup| setup.left_behind = 0);
    add(&|setup| setup.network = Network { latency: setup.network.latency, ..Network::CALM });
    add(&|setup| setup.workload.watchers = 0);
    add(&|setup| (setup.workload.sessions, setup.workload.observers) = (0, 0));
    add(&|setup| setup.workload.observers = 0);
    add(&|setup| setup.workload.sessions = setup.workload.sessions.div_ceil(2));
    add(&|setup| setup.workload.clients = setup.workload.clients.div_ceil(2));
    add(&|setup| setup.workload.calls = setup.workload.calls.div_ceil(2));
    add(&|setup| setup.workload.calls = setup.workload.calls * 4 / 5);
    for weight in 0..Weights::COUNT {
        add(&|setup| setup.workload.weights.clear(weight));
    }
    add(&|setup| setup.network.late_percent = 0);
    add(&|setup| setup.network.loss_percent = 0);
    add(&|setup| setup.network.duplicate_percent = 0);
    add(&|setup| setup.network.replay_percent = 0);
    add(&|setup| setup.network.reorder = false);
    add(&|setup| setup.clocks = vec![(EXACT, 0); setup.clocks.len()]);
    add(&|setup| setup.tuning = Tuning { heartbeat_ms: setup.tuning.heartbeat_ms, ..Tuning::PLAIN });
    add(&|setup| setup.tuning.quota_bytes = 0);
    add(&|setup| setup.workload.keys = setup.workload.keys.div_ceil(2));
    for step in 0..steps {
        add(&|setup| setup.plan.steps[step].lasts /= 2);
    }
    all
}
