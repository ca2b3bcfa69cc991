use super::*;

/// Runs seeds and prints what the first failing one did.
fn run_seeds(seeds: std::ops::Range<u64>) {
    let mut reached = std::collections::BTreeMap::new();
    let mut total = StorageReport::default();
    for seed in seeds {
        let trace = Trace::new(false, false);
        match run(seed, &trace) {
            Ok(report) => total.add(&report),
            Err(violation) => {
                let _ = run(seed, &Trace::new(false, true));
                panic!("seed {seed} violates {}: {}", violation.claim, violation.text);
            }
        }
        for (name, count) in trace.markers() {
            *reached.entry(name).or_insert(0) += count;
        }
    }
    println!("{total:#?}\n{reached:#?}");
    let missed: Vec<_> = MARKERS.iter().filter(|name| !reached.contains_key(*name)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

/// As many seeds as `STORAGE_SEEDS` says (`first..last`), or a few.
#[test]
fn every_claim_holds_over_many_seeds() {
    let range = std::env::var("STORAGE_SEEDS").unwrap_or_else(|_| "0..60".into());
    let (first, last) = range.split_once("..").expect("first..last");
    run_seeds(first.parse().unwrap()..last.parse().unwrap());
}

#[test]
fn a_seed_is_the_same_twice() {
    for seed in 0..3 {
        let hash = || {
            let trace = Trace::new(false, false);
            let report = run(seed, &trace);
            (trace.hash(), trace.count(), report)
        };
        assert_eq!(hash(), hash());
    }
}
