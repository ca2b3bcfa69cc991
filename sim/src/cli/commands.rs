//! What each command does. `Ok(false)` is a run that broke a claim, `Err` a command that could not be done.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::batch::{Batch, run_all};
use super::child::{Job, Verdict};
use super::{PlantedArguments, ReportArguments, RunArguments, ShrinkArguments, SwarmArguments, Which};
use crate::run::{self, Outcomes};
use crate::setup::{Profile, Setup};
use crate::trace::Trace;

/// Done: whether all is well. Or not done, and why.
pub type Done = Result<bool, String>;

/// Differing lines that `meta` shows.
const SHOWN_LINES: usize = 3;

impl Which {
    fn setup(&self) -> Result<Setup, String> {
        match &self.setup {
            Some(file) => read_setup(file),
            None => Ok(Setup::draw(self.seed, self.profile)),
        }
    }

    fn job(&self) -> Job {
        Job {
            seed: self.seed,
            profile: self.profile,
            setup: self.setup.clone(),
            arm: self.arm.clone(),
            wall_limit: Job::WALL_LIMIT,
        }
    }
}

fn read_setup(file: &Path) -> Result<Setup, String> {
    let text =
        fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is no setup: {error}", file.display()))
}

/// `cargo sim run`.
pub fn run(arguments: &RunArguments) -> Done {
    let setup = arguments.which.setup()?;
    arm(arguments.which.arm.as_deref())?;
    if arguments.show {
        println!("{}", serde_json::to_string_pretty(&setup).map_err(|error| error.to_string())?);
        println!("the plan:\n{}", setup.plan);
    }
    let trace = Trace::new(arguments.report.is_some(), arguments.trace);
    let outcomes = run::run(&setup, &trace);
    let verdict = verdict(&outcomes, &trace);
    if let Some(file) = &arguments.report {
        write_report(file, &setup, &verdict, &trace, &arguments.which.job().line())?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&verdict).map_err(|error| error.to_string())?);
    } else {
        print_verdict(&verdict);
        if !verdict.violations.is_empty() {
            println!("\nto repeat it: {} --trace", arguments.which.job().line());
        }
    }
    Ok(verdict.violations.is_empty())
}

fn arm(bug: Option<&str>) -> Result<(), String> {
    match bug {
        None => Ok(()),
        Some(name) => crate::planted::arm(name),
    }
}

fn verdict(outcomes: &Outcomes, trace: &Trace) -> Verdict {
    Verdict {
        violations: outcomes
            .violations
            .iter()
            .map(|violation| (violation.claim.to_owned(), violation.text.clone()))
            .collect(),
        hash: trace.hash(),
        events: trace.count(),
        simulated: outcomes.simulated,
        calls: (outcomes.calls, outcomes.answered),
        entries: outcomes.entries,
        heard: outcomes.events,
        markers: trace.markers().into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
    }
}

fn print_verdict(verdict: &Verdict) {
    for (claim, text) in &verdict.violations {
        println!("VIOLATED {claim}: {text}");
    }
    println!(
        "{}: {:.1} simulated s, {} calls ({} answered), {} entries, {} events heard, {} traced, hash {:016x}",
        if verdict.violations.is_empty() { "green" } else { "red" },
        verdict.simulated as f64 / 1e9,
        verdict.calls.0,
        verdict.calls.1,
        verdict.entries,
        verdict.heard,
        verdict.events,
        verdict.hash
    );
}

fn jobs(arguments: &SwarmArguments) -> Vec<Job> {
    let job = |seed| Job {
        seed,
        profile: arguments.profile,
        setup: None,
        arm: arguments.arm.clone(),
        wall_limit: arguments.wall_limit(),
    };
    arguments.seeds().into_iter().map(job).collect()
}

/// `cargo sim swarm`.
pub fn swarm(arguments: &SwarmArguments) -> Done {
    let jobs = jobs(arguments);
    let enough = |verdict: &Verdict| !arguments.keep_going && !verdict.violations.is_empty();
    let batch = run_all(&jobs, arguments.jobs(), true, enough)?;
    for (place, verdict) in batch.failures() {
        for (claim, text) in verdict.violations.iter().take(1) {
            println!("FAILED {claim}: {text}\n  to repeat it: {}", jobs[place].line());
        }
    }
    print_sum(arguments.profile, &batch);
    let missing = missing_markers(arguments.profile, &batch);
    if arguments.require_markers && !missing.is_empty() {
        println!("never reached: {}", missing.join(", "));
        return Ok(false);
    }
    Ok(batch.failures().next().is_none())
}

fn print_sum(profile: Profile, batch: &Batch) {
    let sum = |part: fn(&Verdict) -> u64| batch.done.values().map(part).sum::<u64>();
    let seconds = batch.took.as_secs_f64();
    println!("how often rare paths were reached, and in how many runs:");
    for (name, (count, runs)) in batch.markers() {
        println!("  {count:>9} {runs:>7}  {name}");
    }
    println!(
        "{} {profile} seeds, {} failed: {:.1} simulated hours in {seconds:.0} s ({:.0} simulated s a second, \
         {:.0} seeds a minute), {} calls ({} answered), {} entries, {} events heard",
        batch.done.len(),
        batch.failures().count(),
        batch.simulated_seconds() / 3600.0,
        batch.simulated_seconds() / seconds,
        batch.done.len() as f64 * 60.0 / seconds,
        sum(|verdict| verdict.calls.0),
        sum(|verdict| verdict.calls.1),
        sum(|verdict| verdict.entries),
        sum(|verdict| verdict.heard),
    );
}

fn missing_markers(profile: Profile, batch: &Batch) -> Vec<&'static str> {
    let reached = batch.markers();
    crate::markers::expected(profile).into_iter().filter(|name| !reached.contains_key(name)).collect()
}

/// `cargo sim meta`.
pub fn meta(arguments: &SwarmArguments) -> Done {
    let jobs = jobs(arguments);
    let never = |_: &Verdict| false;
    let first = run_all(&jobs, arguments.jobs(), true, never)?;
    let second = run_all(&jobs, arguments.jobs(), true, never)?;
    let mut differing = 0;
    for (place, verdict) in &first.done {
        let again = second.done.get(place);
        if again.is_some_and(|again| again == verdict) {
            continue;
        }
        differing += 1;
        println!("seed {} does not repeat:", jobs[*place].seed);
        show_difference(&jobs[*place])?;
    }
    println!("{} {} seeds twice, {differing} differ", first.done.len(), arguments.profile);
    Ok(differing == 0)
}

/// Runs a job twice with its whole trace, and prints where they part.
fn show_difference(job: &Job) -> Result<(), String> {
    let (one, other) = (job.trace()?, job.trace()?);
    let pairs = one.lines().zip(other.lines()).enumerate();
    let mut shown = 0;
    for (number, (left, right)) in pairs.filter(|(_, (left, right))| left != right) {
        println!("  line {number}:\n    {left}\n    {right}");
        shown += 1;
        if shown == SHOWN_LINES {
            break;
        }
    }
    if shown == 0 {
        println!("  with a trace, both runs are the same");
    }
    Ok(())
}

/// `cargo sim shrink`.
pub fn shrink(arguments: &ShrinkArguments) -> Done {
    let setup = arguments.which.setup()?;
    let shrunk =
        super::shrink::shrink(setup, arguments.which.arm.clone(), Duration::from_secs(arguments.seconds))?;
    let text = serde_json::to_string_pretty(&shrunk.setup).map_err(|error| error.to_string())?;
    fs::write(&arguments.out, text)
        .map_err(|error| format!("cannot write {}: {error}", arguments.out.display()))?;
    println!("{shrunk}");
    println!("to repeat it: cargo sim run --setup {} --trace", arguments.out.display());
    Ok(true)
}

/// `cargo sim planted`.
pub fn planted(arguments: &PlantedArguments) -> Done {
    let all = crate::planted::list();
    let chosen: Vec<_> = all
        .iter()
        .filter(|bug| arguments.bug.is_empty() || arguments.bug.iter().any(|name| name == bug.name))
        .take(arguments.first.unwrap_or(usize::MAX))
        .collect();
    if let Some(unknown) = arguments.bug.iter().find(|name| !all.iter().any(|bug| bug.name == **name)) {
        return Err(format!("there is no planted bug {unknown:?}"));
    }
    let at_once =
        arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut missed = 0;
    println!("{:<38} {:>6} {:>8}  caught by", "bug", "seeds", "seconds");
    for bug in chosen {
        let mut caught = None;
        let mut seconds = 0.0;
        let mut tried = 0;
        for profile in bug.profiles {
            let count = if *profile == Profile::Full { arguments.seeds.div_ceil(5) } else { arguments.seeds };
            let jobs: Vec<Job> = (arguments.from..arguments.from + count)
                .map(|seed| Job {
                    seed,
                    profile: *profile,
                    setup: None,
                    arm: Some(bug.name.to_owned()),
                    wall_limit: Job::WALL_LIMIT,
                })
                .collect();
            let batch = run_all(&jobs, at_once, false, |verdict| !verdict.violations.is_empty())?;
            seconds += batch.took.as_secs_f64();
            let first = batch.failures().next().map(|(place, verdict)| {
                (place as u64 + 1, verdict.claim().unwrap_or_default().to_owned(), *profile)
            });
            if let Some((seeds, claim, profile)) = first {
                caught = Some((tried + seeds, claim, profile));
                break;
            }
            tried += count;
        }
        match caught {
            Some((seeds, claim, profile)) => {
                println!("{:<38} {seeds:>6} {seconds:>8.1}  {claim} ({profile})", bug.name);
            }
            None => {
                missed += 1;
                println!("{:<38} {tried:>6} {seconds:>8.1}  NOT CAUGHT: {}", bug.name, bug.what);
            }
        }
    }
    if missed > 0 {
        println!("{missed} bugs were not caught");
    }
    Ok(missed == 0)
}

/// `cargo sim report`.
pub fn report(arguments: &ReportArguments) -> Done {
    let setup = arguments.which.setup()?;
    arm(arguments.which.arm.as_deref())?;
    let trace = Trace::new(true, false);
    let outcomes = run::run(&setup, &trace);
    let verdict = verdict(&outcomes, &trace);
    write_report(&arguments.out, &setup, &verdict, &trace, &arguments.which.job().line())?;
    print_verdict(&verdict);
    println!("{} shows it", arguments.out.display());
    Ok(true)
}

fn write_report(
    file: &Path,
    setup: &Setup,
    verdict: &Verdict,
    trace: &Trace,
    line: &str,
) -> Result<(), String> {
    let page = crate::report::page(setup, verdict, &trace.events(), line);
    fs::write(file, page).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
