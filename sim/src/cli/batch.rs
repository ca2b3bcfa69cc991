//! Many runs, some at a time, with their sum.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::child::{Job, Verdict};

/// What a batch of runs came to.
#[derive(Default)]
pub struct Batch {
    /// Runs that were done, in the order of their jobs.
    pub done: BTreeMap<usize, Verdict>,
    /// Time of this machine.
    pub took: Duration,
}

impl Batch {
    /// Runs that broke a claim.
    pub fn failures(&self) -> impl Iterator<Item = (usize, &Verdict)> {
        self.done
            .iter()
            .filter(|(_, verdict)| !verdict.violations.is_empty())
            .map(|(place, verdict)| (*place, verdict))
    }

    /// Simulated seconds of all runs.
    pub fn simulated_seconds(&self) -> f64 {
        self.done.values().map(|verdict| verdict.simulated as f64 / 1e9).sum()
    }

    /// How often rare paths were reached, and in how many runs.
    pub fn markers(&self) -> BTreeMap<&str, (u64, usize)> {
        let mut sum: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
        for verdict in self.done.values() {
            for (name, count) in &verdict.markers {
                let entry = sum.entry(name).or_default();
                entry.0 += count;
                entry.1 += 1;
            }
        }
        sum
    }
}

/// Runs jobs, `at_once` of them at a time, until `enough` says so.
///
/// # Errors
/// When runs cannot be started.
pub fn run_all(
    jobs: &[Job],
    at_once: usize,
    progress: bool,
    enough: impl Fn(&Verdict) -> bool + Sync,
) -> Result<Batch, String> {
    let began = Instant::now();
    let bar = if progress { bar(jobs.len() as u64) } else { ProgressBar::hidden() };
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let batch: Mutex<Batch> = Mutex::default();
    let failure: Mutex<Option<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(place) else { return };
                    match job.run() {
                        Ok(verdict) => {
                            if enough(&verdict) {
                                stop.store(true, Ordering::Relaxed);
                            }
                            let mut batch = lock(&batch);
                            batch.done.insert(place, verdict);
                            let failed = batch.failures().count();
                            let speed = batch.simulated_seconds() / began.elapsed().as_secs_f64();
                            drop(batch);
                            bar.set_message(format!("{failed} failed, {speed:.0} simulated s/s"));
                            bar.inc(1);
                        }
                        Err(error) => {
                            *lock(&failure) = Some(error);
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    if let Some(error) = lock(&failure).take() {
        return Err(error);
    }
    let mut batch = std::mem::take(&mut *lock(&batch));
    batch.took = began.elapsed();
    Ok(batch)
}

fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {msg}, {per_sec}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
