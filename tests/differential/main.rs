//! detcd beside a real etcd: both are asked the same, and every answer must be the same.
//!
//! ```text
//!   seed ── generate ──> sequence of steps ──> pair ──┬── call ──> detcd ──> answer ──┐
//!                            ^                        │                               ├── equal?
//!        regressions/ ───────┘                        └── call ──> etcd ───> answer ──┘
//!                                                         over gRPC, or over HTTP
//! ```
//!
//! A *sequence* begins with an empty key space on both servers and goes through its steps in lockstep: a
//! step is sent to both, both answers are waited for, what may differ is taken out of them (`normal`), and
//! the rest must be equal, field by field, errors by code and text. Both servers get every request since
//! they were started, so even revisions are compared. Now and then both are killed and start again on what
//! they have, or anew on empty folders.
//!
//! A sequence that is answered differently is made smaller, as long as it stays so, and printed as lines
//! for a file in `regressions/`; those files run first. What is meant to differ stands in `differences`,
//! with the reasons in `docs/differences.md`. `probes` are the answers that the reference of etcd's
//! behaviour gives, asserted on both servers.
//!
//! Set by the environment:
//! - `DETCD_BIN` and `ETCD_BIN`: the two programs, both needed;
//! - `DIFFERENTIAL_SEED`: runs the sequences of that seed, where a fresh one is drawn otherwise;
//! - `DIFFERENTIAL_REQUESTS`: how many requests at least, 20,000 if not set.
#![cfg(not(madsim))]
#![expect(clippy::disallowed_methods, reason = "a test of real processes waits and reads their files")]

mod call;
mod differences;
mod generate;
mod http;
mod normal;
mod pair;
mod probes;
mod process;
mod random;
mod step;
mod text;
mod waiting;
mod watch;

use std::future::Future;

use pair::Pair;

/// Runs something to its end on a runtime of its own.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// The regression whose steps mean what they say on servers only that were asked nothing before.
const ON_NEW_SERVERS: &str = "new_store.jsonl";

/// What was answered differently once, and is not any more.
#[test]
fn regressions_are_answered_alike() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/regressions");
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no regressions in {folder}");
    run(async {
        let mut pair = Pair::start(&[]).await;
        for path in paths {
            let text = std::fs::read_to_string(&path).expect("a text");
            let steps = step::read(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if path.ends_with(ON_NEW_SERVERS) {
                pair = Pair::start(&[]).await;
            }
            if let Err(mismatch) = pair.run(&steps).await {
                panic!("{}: {mismatch}", path.display());
            }
        }
    });
}

/// Random sequences, from a seed that is printed.
#[test]
fn random_sequences_are_answered_alike() {
    random::run();
}

/// The test can fail: a server that takes fewer operations than it should is found out.
#[test]
fn a_server_with_another_limit_is_found_out() {
    random::find_out(&["--max-txn-ops", "3"], "too many operations");
}
