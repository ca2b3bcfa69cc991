//! The command line: `cargo sim`.

use std::process::ExitCode;

use crate::run::run;
use crate::setup::{Profile, Setup};
use crate::trace::Trace;

pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let seed: u64 = args[1].parse().unwrap();
    let last: u64 = args.get(2).map_or(seed, |l| l.parse().unwrap());
    let print = args.get(3).is_some();
    let mut failed = 0;
    for seed in seed..=last {
        let setup = Setup::draw(seed, Profile::Lite);
        let trace = Trace::new(false, print);
        let began = std::time::Instant::now();
        let outcomes = run(&setup, &trace);
        println!("seed {seed}: {:?} wall {:?} sim {} s calls {} answered {} entries {} events {} hash {:x} traced {}", outcomes.violations, began.elapsed(), outcomes.simulated / 1_000_000_000, outcomes.calls, outcomes.answered, outcomes.entries, outcomes.events, trace.hash(), trace.count());
        failed += u32::from(!outcomes.violations.is_empty());
    }
    println!("failed {failed}");
    ExitCode::SUCCESS
}
