//! Leases: too early, too late, promised and not kept.

use detcd::apply::Command;
use detcd::proto::etcdserverpb as pb;

use crate::checkers::testing::*;
use crate::checkers::{lease, linearizable};
use crate::history::{Answer, Outcome, Request, Time};

const SECOND: Time = 1_000_000_000;

fn time_to_live(id: i64) -> Request {
    Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id, keys: true })
}

/// What an operation was told of a lease, to bend it.
fn description(recorder: &mut Recorder, number: usize) -> &mut pb::LeaseTimeToLiveResponse {
    match &mut recorder.evidence.operations[number].outcome {
        Outcome::Answered(Answer::LeaseTimeToLive(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

/// A lease of ten seconds with two keys, kept alive after four, run out after `ends`.
fn lease_that_ends(ends: Time) -> Recorder {
    let mut recorder = Recorder::new();
    recorder.write(grant(-5, 10));
    recorder.write(put_with("a", "1", -5));
    recorder.write(put_with("b", "1", -5));
    recorder.now = 4 * SECOND;
    recorder.read(Request::LeaseKeepAlive(-5));
    recorder.now = ends;
    recorder.log(command(&revoke(-5)));
    recorder
}

#[test]
fn a_lease_lives_for_its_time_from_the_call_that_renewed_it() {
    lease_that_ends(14 * SECOND + STEP).expect_good();
    lease_that_ends(13 * SECOND)
        .expect_bad(lease::check, "operation 3, called at 4001000000 ns, was promised 10 s");
    // Not renewed, it may go earlier.
    let mut recorder = lease_that_ends(13 * SECOND);
    recorder.evidence.operations.pop();
    recorder.expect_good();
    let mut recorder = lease_that_ends(9 * SECOND);
    recorder.evidence.operations.pop();
    recorder.expect_bad(lease::check, "it was granted at 3000000 ns for 10 s");
}

#[test]
fn a_fast_clock_makes_the_promise_shorter() {
    let mut recorder = lease_that_ends(13 * SECOND + SECOND / 2);
    recorder.evidence.clocks.fastest_ppm = 1_100_000;
    recorder.expect_good();
    recorder.evidence.clocks.fastest_ppm = 1_010_000;
    recorder.expect_bad(lease::check, "ran out by entry 5");
}

#[test]
fn a_client_may_revoke_at_any_time() {
    let mut recorder = Recorder::new();
    recorder.write(grant(1, 10));
    recorder.write(revoke(1));
    recorder.write(grant(1, 10));
    recorder.write_unknown(revoke(1), true);
    recorder.expect_good();
    recorder.write(grant(1, 10));
    recorder.log(command(&revoke(1)));
    recorder.expect_bad(lease::check, "ran out by entry 7");
}

#[test]
fn a_keep_alive_and_a_description_are_right_about_what_exists() {
    let mut recorder = lease_that_ends(20 * SECOND);
    recorder.read(Request::LeaseKeepAlive(-5));
    recorder.read(time_to_live(-5));
    recorder.expect_good();
    // A promise after the end.
    let Outcome::Answered(Answer::LeaseKeepAlive(answer)) = &mut recorder.evidence.operations[4].outcome
    else {
        panic!()
    };
    answer.ttl = 10;
    recorder.expect_bad(lease::check, "had run out by entry 5");

    let mut recorder = lease_that_ends(20 * SECOND);
    let number = recorder.read_at(4, time_to_live(-5));
    recorder.evidence.operations[number].called = 10 * SECOND;
    recorder.evidence.operations[number].returned = Some(10 * SECOND + STEP);
    let keys = description(&mut recorder, number).keys.split_off(1);
    description(&mut recorder, number).ttl = 3;
    recorder.expect_bad(linearizable::check, "is stale");
    description(&mut recorder, number).keys = keys.clone();
    recorder.expect_bad(linearizable::check, "which no state gives");
    description(&mut recorder, number).keys.push("a".into());
    recorder.expect_bad(lease::check, "4 s are left at least");
    description(&mut recorder, number).ttl = 4;
    recorder.expect_good();
    description(&mut recorder, number).ttl = 13;
    recorder.expect_bad(lease::check, "13 s of a lease granted for 10 s");
}

#[test]
fn a_lease_that_nobody_renews_goes_in_time_once_the_cluster_is_healed() {
    let mut recorder = lease_that_ends(40 * SECOND);
    recorder.options.healed = Some(5 * SECOND);
    recorder.expect_bad(lease::check, "it was still there at 40001000000 ns");
    recorder.options.healed = Some(20 * SECOND);
    recorder.expect_good();
    recorder.options.healed = Some(5 * SECOND);
    recorder.evidence.clocks.slowest_ppm = 400_000;
    recorder.expect_good();

    let mut recorder = Recorder::new();
    recorder.write(grant(1, 10));
    (recorder.options.healed, recorder.options.ended) = (Some(0), 60 * SECOND);
    recorder.expect_bad(lease::check, "it was still there at 60000000000 ns");
    let number = recorder.call(0, 1, Request::LeaseKeepAlive(1));
    recorder.evidence.operations[number].called = 45 * SECOND;
    recorder.expect_good();
}

#[test]
fn a_rest_that_the_log_tells_is_not_forgotten() {
    let checkpoint = |remaining_ttl| {
        let checkpoints = vec![pb::LeaseCheckpoint { id: 1, remaining_ttl }];
        Command::LeaseCheckpoint(pb::LeaseCheckpointRequest { checkpoints })
    };
    let told = |recorder: &mut Recorder, ttl| {
        let number = recorder.read(time_to_live(1));
        description(recorder, number).ttl = ttl;
    };
    let mut recorder = Recorder::new();
    recorder.write(grant(1, 100));
    recorder.now += 60 * SECOND;
    recorder.log(checkpoint(40));
    // A new leader may add to it.
    told(&mut recorder, 42);
    recorder.expect_good();
    told(&mut recorder, 43);
    recorder.expect_bad(lease::check, "entry 3 of the log left 40 s");
    // Unless it was renewed.
    let mut recorder = Recorder::new();
    recorder.write(grant(1, 100));
    recorder.now += 60 * SECOND;
    recorder.log(checkpoint(40));
    recorder.read(Request::LeaseKeepAlive(1));
    recorder.log(checkpoint(0));
    told(&mut recorder, 100);
    recorder.expect_good();
    recorder.log(checkpoint(40));
    recorder.now += SECOND;
    recorder.log(checkpoint(42));
    recorder.expect_good();
    recorder.log(checkpoint(0));
    recorder.expect_bad(lease::check, "leaves 100 s of lease 1, entry 6 before it left 42 s");
    // Unless the network delivers the renewal once more, for as long as it has messages.
    recorder.options.repeated_messages = true;
    recorder.expect_good();
    recorder.now += 20 * SECOND;
    recorder.log(checkpoint(40));
    recorder.log(checkpoint(0));
    recorder.expect_bad(lease::check, "leaves 100 s of lease 1, entry 8 before it left 40 s");
}
