//! `cargo sim controls`: runs what must be red, and says how soon it is.

use std::fs;

use super::ControlArguments;
use super::batch::run_all;
use super::child::{Job, Verdict};
use super::commands::Done;
use crate::controls::{ALL, Control};

/// `cargo sim controls`.
pub fn controls(arguments: &ControlArguments) -> Done {
    let at_once =
        arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let folder = std::env::temp_dir().join(format!("detcd-sim-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    println!("{:<32} {:>6} {:>8}  reported as", "control", "seeds", "seconds");
    let mut green = 0;
    for control in ALL {
        let job =
            |seed| Job::of_setup(&control.setup(seed), folder.join(format!("{}-{seed}.json", control.name)));
        let jobs = (0..arguments.seeds).map(job).collect::<Result<Vec<_>, _>>()?;
        let batch = run_all(&jobs, at_once, false, |verdict| seen(control, verdict).is_some())?;
        let seconds = batch.took.as_secs_f64();
        let first = batch.done.iter().find_map(|(place, verdict)| Some((place + 1, seen(control, verdict)?)));
        match first {
            Some((seeds, text)) => println!("{:<32} {seeds:>6} {seconds:>8.1}  {text}", control.name),
            None => {
                green += 1;
                println!(
                    "{:<32} {:>6} {seconds:>8.1}  NOT REPORTED: {}",
                    control.name,
                    jobs.len(),
                    control.what
                );
            }
        }
    }
    // They can be had again at any time.
    let _ = fs::remove_dir_all(&folder);
    Ok(green == 0)
}

/// What a run says of the control, in the words of one of its claims.
fn seen(control: &Control, verdict: &Verdict) -> Option<String> {
    let is_meant = |claim: &&(String, String)| control.claims.contains(&claim.0.as_str());
    verdict.violations.iter().find(is_meant).map(|(claim, text)| format!("{claim}: {text}"))
}
