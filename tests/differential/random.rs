//! Sequence after sequence from a seed, until there were enough requests or one is answered differently.

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::runtime::Runtime;

use crate::generate::sequence;
use crate::pair::{Mismatch, Pair};
use crate::step::{self, Step};

/// Requests in a run, when the environment does not say.
const REQUESTS: usize = 20_000;

/// After so many requests both servers are started anew.
const LIFE: usize = 5_000;

/// Attempts to make a sequence smaller.
const SHRINK_ATTEMPTS: usize = 400;

/// A number from the environment.
fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

/// The servers, alive as long as they can be used.
struct Servers {
    runtime: Runtime,
    pair: Option<Pair>,
    requests: usize,
    passed: BTreeMap<&'static str, usize>,
}

impl Servers {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        Self { runtime, pair: None, requests: 0, passed: BTreeMap::new() }
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), Mismatch> {
        let pair = self.pair.get_or_insert_with(|| self.runtime.block_on(Pair::start()));
        let result = self.runtime.block_on(pair.run(steps));
        let usable = result.is_ok() || self.runtime.block_on(pair.recovers());
        if !usable || pair.requests >= LIFE {
            self.stop();
        }
        result
    }

    fn stop(&mut self) {
        if let Some(pair) = self.pair.take() {
            self.requests += pair.requests;
            for (name, times) in &pair.passed {
                *self.passed.entry(name).or_default() += times;
            }
            // Its tasks and connections belong to the runtime.
            let _inside = self.runtime.enter();
            drop(pair);
        }
    }

    fn requests(&self) -> usize {
        self.requests + self.pair.as_ref().map_or(0, |pair| pair.requests)
    }
}

/// The generator of one sequence: of the seed, and of the sequence's number.
fn runner(seed: u64, number: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Runs the sequences.
pub fn run() {
    let seed = setting("DIFFERENTIAL_SEED").unwrap_or_else(rand::random::<u64>);
    let wanted = setting("DIFFERENTIAL_REQUESTS").unwrap_or(REQUESTS);
    println!("differential: DIFFERENTIAL_SEED={seed} DIFFERENTIAL_REQUESTS={wanted}");
    let begun = Instant::now();
    let (strategy, mut servers, mut number) = (sequence(), Servers::new(), 0);
    while servers.requests() < wanted {
        let mut tree = strategy.new_tree(&mut runner(seed, number)).expect("no filter rejects");
        if let Err(mismatch) = servers.run(&tree.current()) {
            println!("differential: sequence {number} of seed {seed}: {mismatch}");
            let (smallest, mismatch) = shrink(&mut servers, &mut *tree, mismatch);
            panic!("seed {seed}, sequence {number}: {mismatch}\n{}", step::write(&smallest));
        }
        number += 1;
    }
    servers.stop();
    println!(
        "differential: {} requests in {number} sequences, {:.1} s; differences that are meant: {:?}",
        servers.requests,
        begun.elapsed().as_secs_f64(),
        servers.passed
    );
}

/// The smallest sequence found whose last request is of the same method and still answered differently, on
/// new servers unless it takes what the sequences before it have left.
fn shrink(
    servers: &mut Servers,
    tree: &mut dyn ValueTree<Value = Vec<Step>>,
    mismatch: Mismatch,
) -> (Vec<Step>, Mismatch) {
    let mut smallest = (tree.current(), mismatch);
    servers.stop();
    match servers.run(&smallest.0) {
        Err(mismatch) => smallest.1 = mismatch,
        Ok(()) => {
            println!("differential: on new servers it is answered alike");
            return smallest;
        }
    }
    // What only new servers answer differently needs new ones for every attempt.
    let needs_new = servers.run(&smallest.0).is_ok();
    let mut is_smaller = tree.simplify();
    for _ in 0..SHRINK_ATTEMPTS {
        if !is_smaller {
            break;
        }
        if needs_new {
            servers.stop();
        }
        let steps = tree.current();
        is_smaller = match servers.run(&steps) {
            Err(mismatch) if mismatch.method == smallest.1.method => {
                smallest = (steps, mismatch);
                tree.simplify()
            }
            _ => tree.complicate(),
        };
    }
    smallest
}
