//! The search for an order, on histories of which it is known whether there is one.

use crate::checkers::black_box::{Verdict, decide};
use crate::checkers::testing::*;
use crate::history::{Operation, Outcome, Request};
use crate::model::Settings;

const STEPS: u64 = 200_000;

fn verdict(recorder: &Recorder) -> Verdict {
    decide(&recorder.evidence.operations, Settings::default(), STEPS)
}

#[track_caller]
fn explained(recorder: &Recorder) -> u64 {
    match verdict(recorder) {
        Verdict::Explained { steps } => steps,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn inexplicable(recorder: &Recorder) -> Vec<usize> {
    match verdict(recorder) {
        Verdict::Inexplicable { stuck_at, .. } => stuck_at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sequence_takes_a_step_for_each_operation() {
    let mut recorder = Recorder::new();
    for number in 0..50 {
        recorder.put("k", &number.to_string());
        recorder.read(get("k"));
    }
    assert_eq!(explained(&recorder), 100);
    assert_eq!(decide(&recorder.evidence.operations, Settings::default(), 99), Verdict::Undecided);
    assert_eq!(decide(&[], Settings::default(), 0), Verdict::Explained { steps: 0 });
}

#[test]
fn a_stale_read_is_inexplicable() {
    let mut recorder = Recorder::new();
    recorder.put("k", "1");
    recorder.put("k", "2");
    recorder.read_at(2, get("k"));
    recorder.put("k", "3");
    assert_eq!(inexplicable(&recorder), [1, 2], "the read of 1 and the write of 2 exclude one another");
    // Beside the write it is none.
    recorder.evidence.operations[1].returned = Some(recorder.now);
    explained(&recorder);
}

#[test]
fn two_reads_beside_a_write_do_not_see_it_in_turn() {
    let beside = |indexes: [u64; 2]| {
        let mut recorder = Recorder::new();
        recorder.put("k", "1");
        let write = recorder.call(5, 1, put("k", "2"));
        let applied = recorder.log(command(&put("k", "2")));
        for index in indexes {
            recorder.read_at(index, get("k"));
        }
        recorder.end_applied(write, applied);
        recorder
    };
    explained(&beside([2, 3]));
    inexplicable(&beside([3, 2]));
}

#[test]
fn an_unknown_write_may_happen_at_any_later_time_but_not_twice() {
    for happens in [true, false] {
        let mut recorder = Recorder::new();
        recorder.put("k", "1");
        recorder.write_unknown(put("k", "2"), happens);
        recorder.read(get("k"));
        recorder.put("k", "3");
        explained(&recorder);
    }
    // It shows only after a read that does not see it.
    let mut recorder = Recorder::new();
    recorder.write_unknown(put("k", "1"), false);
    recorder.read(get("k"));
    recorder.log(command(&put("k", "1")));
    recorder.read(get("k"));
    explained(&recorder);
    // Twice, with another write between.
    let mut recorder = Recorder::new();
    recorder.write_unknown(put("k", "1"), true);
    recorder.put("k", "2");
    recorder.log(command(&put("k", "1")));
    recorder.read(get("k"));
    inexplicable(&recorder);
}

#[test]
fn many_unknown_writes_do_not_drown_the_search() {
    let mut recorder = Recorder::new();
    for number in 0..40 {
        recorder.write_unknown(put(&format!("u{number}"), "?"), number % 3 == 0);
        recorder.put("k", &number.to_string());
        if number % 5 == 4 {
            recorder.read(Request::Range(range("a", "z")));
        }
    }
    let steps = explained(&recorder);
    assert!(steps < 300, "{steps} steps");
}

#[test]
fn a_failed_write_that_shows_is_inexplicable() {
    let mut recorder = Recorder::new();
    recorder.put("k", "1");
    recorder.put("k", "2");
    recorder.read(get("k"));
    let failure = crate::history::Failure { code: 2, message: "etcdserver: too many requests".into() };
    recorder.evidence.operations[1].outcome = Outcome::Failed(failure);
    inexplicable(&recorder);
}

#[test]
fn a_lease_may_run_out_by_itself() {
    let mut recorder = Recorder::new();
    recorder.write(grant(4, 10));
    recorder.write(put_with("k", "1", 4));
    recorder.log(command(&revoke(4)));
    recorder.read(get("k"));
    recorder.write(put_with("k", "1", 4));
    explained(&recorder);
    // Its key alone does not go.
    let mut recorder = Recorder::new();
    recorder.write(grant(4, 10));
    recorder.write(put_with("k", "1", 4));
    recorder.write(put_with("l", "1", 4));
    recorder.log(command(&delete("k", "")));
    recorder.read(Request::Range(range("k", "z")));
    inexplicable(&recorder);
}

#[test]
fn the_past_and_its_compaction_are_part_of_the_state() {
    let past = || Request::Range(detcd::proto::etcdserverpb::RangeRequest { revision: 2, ..range("k", "") });
    let mut recorder = Recorder::new();
    recorder.put("k", "1");
    recorder.put("k", "2");
    recorder.read(past());
    recorder.write(compact(3));
    recorder.read(past());
    explained(&recorder);
    let operations: &mut Vec<Operation> = &mut recorder.evidence.operations;
    operations[4].outcome = operations[2].outcome.clone();
    inexplicable(&recorder);
}
