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

/// After so many sequences both servers are killed and started again on what they have.
const SEQUENCES_UP: u64 = 100;

/// Attempts to make a sequence smaller.
const SHRINK_ATTEMPTS: usize = 300;

/// A number from the environment.
fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

/// The servers, alive as long as they can be used.
struct Servers {
    runtime: Runtime,
    /// More flags for detcd.
    flags: &'static [&'static str],
    pair: Option<Pair>,
    /// All that these servers have run, `Next` between two sequences.
    history: Vec<Step>,
    requests: usize,
    passed: BTreeMap<&'static str, usize>,
}

impl Servers {
    fn new(flags: &'static [&'static str]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        Self { runtime, flags, pair: None, history: Vec::new(), requests: 0, passed: BTreeMap::new() }
    }

    /// Runs a sequence on the servers that there are.
    fn run(&mut self, steps: &[Step]) -> Result<(), Mismatch> {
        if self.requests_of_pair() >= LIFE {
            self.stop();
        }
        let pair = self.pair.get_or_insert_with(|| self.runtime.block_on(Pair::start(self.flags)));
        if !self.history.is_empty() {
            self.history.push(Step::Next);
        }
        self.history.extend_from_slice(steps);
        self.runtime.block_on(pair.run(steps))
    }

    /// Runs a sequence on new servers.
    fn run_anew(&mut self, steps: &[Step]) -> Result<(), Mismatch> {
        self.stop();
        self.run(steps)
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
        self.history.clear();
    }

    fn requests_of_pair(&self) -> usize {
        self.pair.as_ref().map_or(0, |pair| pair.requests)
    }

    fn requests(&self) -> usize {
        self.requests + self.requests_of_pair()
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
    let (strategy, mut servers, mut number) = (sequence(), Servers::new(&[]), 0);
    while servers.requests() < wanted {
        let mut tree = strategy.new_tree(&mut runner(seed, number)).expect("no filter rejects");
        if number % SEQUENCES_UP == SEQUENCES_UP - 1
            && let Err(mismatch) = servers.run(&[Step::Restart])
        {
            panic!("seed {seed}, before sequence {number}: {mismatch}\n{}", step::write(&servers.history));
        }
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

/// Runs sequences on a detcd with these flags, which must soon be answered differently, with these words.
pub fn find_out(flags: &'static [&'static str], words: &str) {
    let (strategy, mut servers) = (sequence(), Servers::new(flags));
    for number in 0.. {
        let tree = strategy.new_tree(&mut runner(0, number)).expect("no filter rejects");
        if let Err(mismatch) = servers.run(&tree.current()) {
            let mismatch = mismatch.to_string();
            assert!(mismatch.contains(words), "{mismatch}");
            return servers.stop();
        }
        assert!(servers.requests() < REQUESTS, "nobody noticed {flags:?}");
    }
}

/// The smallest sequence found whose last request is of the same method and still answered differently on
/// new servers. If the sequence alone is not, it is looked for in all that was asked before it.
fn shrink(
    servers: &mut Servers,
    tree: &mut dyn ValueTree<Value = Vec<Step>>,
    mismatch: Mismatch,
) -> (Vec<Step>, Mismatch) {
    let history = servers.history.clone();
    let mut shrinking = Shrinking { servers, attempts: 0, smallest: (tree.current(), mismatch) };
    if shrinking.still_differs(&tree.current()) {
        let mut is_smaller = tree.simplify();
        while is_smaller && shrinking.attempts < SHRINK_ATTEMPTS {
            let differs = shrinking.still_differs(&tree.current());
            is_smaller = if differs { tree.simplify() } else { tree.complicate() };
        }
    } else if shrinking.still_differs(&history) {
        shrinking.leave_out_steps();
    } else {
        println!("differential: asked again, it is answered alike");
    }
    shrinking.smallest
}

/// A sequence that is answered differently, on its way to a smaller one.
struct Shrinking<'a> {
    servers: &'a mut Servers,
    attempts: usize,
    smallest: (Vec<Step>, Mismatch),
}

impl Shrinking<'_> {
    /// Whether a sequence is answered differently too; if so, it is the smallest now.
    fn still_differs(&mut self, steps: &[Step]) -> bool {
        self.attempts += 1;
        match self.servers.run_anew(steps) {
            Err(mismatch) if mismatch.method == self.smallest.1.method => {
                self.smallest = (steps.to_vec(), mismatch);
                true
            }
            _ => false,
        }
    }

    /// Leaves out ever smaller parts.
    fn leave_out_steps(&mut self) {
        let mut size = self.smallest.0.len().next_power_of_two() / 2;
        while size > 0 && self.attempts < SHRINK_ATTEMPTS {
            // From the end, so that a part that is left out does not move the next one.
            let mut end = self.smallest.0.len();
            while end > 0 && self.attempts < SHRINK_ATTEMPTS {
                let begin = end.saturating_sub(size);
                let mut steps = self.smallest.0.clone();
                steps.drain(begin..end);
                self.still_differs(&steps);
                end = begin;
            }
            size /= 2;
        }
    }
}
