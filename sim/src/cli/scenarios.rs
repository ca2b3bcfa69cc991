//! `cargo sim scenarios`: runs the stories and the seeds that ever failed, and says which did not hold or did
//! not happen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::ScenarioArguments;
use super::batch::run_all;
use super::child::{Job, Verdict};
use super::commands::Done;
use crate::scenarios::Scenario;
use crate::setup::Setup;

/// `cargo sim scenarios`.
pub fn scenarios(arguments: &ScenarioArguments) -> Done {
    let all = crate::scenarios::all()?;
    let chosen: Vec<_> = all.into_iter().filter(|scenario| scenario.name.contains(&arguments.name)).collect();
    if chosen.is_empty() {
        return Err(format!("no scenario's name holds {:?}", arguments.name));
    }
    if arguments.list {
        for scenario in &chosen {
            println!("{}: {}\n  reaches: {}\n", scenario.name, scenario.story, scenario.reaches.join(", "));
        }
        return Ok(true);
    }
    let folder = std::env::temp_dir().join(format!("detcd-sim-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let mut jobs = Vec::new();
    let mut runs = Vec::new();
    for scenario in &chosen {
        for attempt in 0..scenario.tries {
            jobs.push(Job { arm: arguments.arm.clone(), ..job(&folder, scenario, attempt)? });
            runs.push(scenario);
        }
    }
    let at_once =
        arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let batch = run_all(&jobs, at_once, true, |_| false)?;
    let mut failed: BTreeMap<&str, String> = BTreeMap::new();
    for (place, verdict) in batch.failures() {
        if let Some((claim, text)) = verdict.violations.first() {
            let text = format!("{claim}: {text}\n  to repeat it: {}", jobs[place].line());
            failed.entry(&runs[place].name).or_insert(text);
        }
    }
    for scenario in &chosen {
        let own = batch.done.iter().filter(|(place, _)| runs[**place].name == scenario.name);
        let missing = missing(scenario, own.map(|(_, verdict)| verdict));
        if !missing.is_empty() {
            let text = format!("does not reach what it is there for: {}", missing.join(", "));
            failed.entry(&scenario.name).or_insert(text);
        }
    }
    for scenario in chosen.iter().filter(|scenario| failed.contains_key(&*scenario.name)) {
        println!("FAILED {}: {}\n  the story: {}", scenario.name, failed[&*scenario.name], scenario.story);
    }
    println!(
        "{} scenarios in {} runs, {} failed: {:.1} simulated minutes in {:.0} s",
        chosen.len(),
        batch.done.len(),
        failed.len(),
        batch.simulated_seconds() / 60.0,
        batch.took.as_secs_f64()
    );
    if failed.is_empty() {
        // They are needed to repeat a failure only.
        let _ = fs::remove_dir_all(&folder);
    }
    Ok(failed.is_empty())
}

/// What a scenario must reach and none of its runs has.
fn missing<'a>(scenario: &Scenario, runs: impl Iterator<Item = &'a Verdict>) -> Vec<&'static str> {
    let reached: BTreeSet<&str> =
        runs.flat_map(|verdict| verdict.markers.keys().map(String::as_str)).collect();
    scenario.reaches.iter().copied().filter(|name| !reached.contains(name)).collect()
}

/// The run of a scenario with its so-manieth seed, whose setup goes to a file.
fn job(folder: &Path, scenario: &Scenario, attempt: u64) -> Result<Job, String> {
    let setup = Setup { seed: scenario.setup.seed + attempt, ..scenario.setup.clone() };
    Job::of_setup(&setup, folder.join(format!("{}-{attempt}.json", scenario.name)))
}
