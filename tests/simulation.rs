//! The simulator as part of `cargo test`: whole clusters under faults, from a fixed batch of seeds.
//!
//! The simulator needs its own build, with the flag that swaps the runtime, so it runs by `cargo sim` in a
//! target folder of its own; the first build takes a few minutes. `.ci/run` runs more: fresh seeds, every
//! scenario, repeated seeds, planted bugs.
#![cfg(not(madsim))]

use std::path::Path;
use std::process::Command;

/// Runs `cargo sim` with these arguments; what it printed, when it ended well.
fn sim(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .arg("sim")
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        // What cargo sets for this test must not change what it builds for the simulator.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET_DIR")
        .output()
        .expect("cargo runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "cargo sim {} failed:\n{printed}\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

/// Runs a batch that must reach its rare paths, and makes sure that it was one.
fn swarm(profile: &str, seeds: u64) {
    let range = format!("0..{seeds}");
    let printed =
        sim(&["swarm", "--profile", profile, "--seeds", &range, "--keep-going", "--require-markers"]);
    let expected = format!("{seeds} {profile} seeds, 0 failed");
    assert!(printed.contains(&expected), "no {expected:?} in:\n{printed}");
}

/// One test, so that batches do not share the cores with each other.
#[test]
fn clusters_keep_their_promises_under_every_fault() {
    swarm("lite", 200);
    swarm("full", 20);
    swarm("storage", 100);
}
