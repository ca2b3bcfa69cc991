//! Reads: stale, of the future, torn, wrongly refused.

use detcd::proto::EncodedKeyValue;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::alarm_request::AlarmAction;
use detcd::proto::etcdserverpb::request_op::Request as Op;

use crate::checkers::testing::*;
use crate::checkers::{compaction, headers, linearizable, quota, serializable, unique_revision};
use crate::history::{Answer, Outcome, Request};
use crate::model::Refusal;

fn serializable_get(key: &str) -> Request {
    Request::Range(pb::RangeRequest { serializable: true, ..range(key, "") })
}

fn get_at(revision: i64) -> Request {
    Request::Range(pb::RangeRequest { revision, ..range("k", "") })
}

fn three_puts() -> Recorder {
    let mut recorder = Recorder::new();
    for value in ["1", "2", "3"] {
        recorder.put("k", value);
    }
    recorder
}

/// The answer to a range, to bend it.
fn answer(recorder: &mut Recorder, number: usize) -> &mut pb::RangeResponse {
    match &mut recorder.evidence.operations[number].outcome {
        Outcome::Answered(Answer::Range(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_sees_all_that_was_acknowledged_before_it_began() {
    let mut recorder = three_puts();
    recorder.read(get("k"));
    recorder.expect_good();
    recorder.read_at(3, serializable_get("k"));
    recorder.evidence.starts.push((recorder.now, 2));
    recorder.expect_good();
    recorder.read_at(3, get("k"));
    recorder.expect_bad(linearizable::check, "is stale");
}

#[test]
fn a_read_beside_a_write_sees_it_or_not_but_not_both_in_turn() {
    let overlapped = |indexes: [u64; 2]| {
        let mut recorder = three_puts();
        let write = recorder.call(5, 1, put("k", "4"));
        let applied = recorder.log(command(&put("k", "4")));
        for index in indexes {
            recorder.read_at(index, get("k"));
        }
        recorder.end_applied(write, applied);
        recorder
    };
    for indexes in [[4, 4], [4, 5], [5, 5]] {
        // The member that is asked does not go back, so it is another one.
        overlapped(indexes).expect_good();
    }
    overlapped([5, 4]).expect_bad(linearizable::check, "is stale");
}

#[test]
fn a_read_of_what_was_not_committed_is_seen() {
    let too_early = |request: Request| {
        let mut recorder = three_puts();
        let number = recorder.read(request.clone());
        recorder.put("k", "4");
        let later = recorder.read(request);
        let outcome = recorder.evidence.operations[later].outcome.clone();
        recorder.evidence.operations[number].outcome = outcome;
        recorder.expect_bad(headers::check, "no more than 4 was known");
        recorder
    };
    too_early(get("k")).expect_bad(linearizable::check, "not more than entry 4 was known");
    too_early(serializable_get("k")).expect_bad(serializable::check, "is of the future");
}

#[test]
fn an_answer_must_be_the_models_in_every_field() {
    let bends: [fn(&mut pb::RangeResponse); 4] = [
        |answer| answer.count += 1,
        |answer| answer.more = true,
        |answer| answer.kvs.clear(),
        |answer| {
            let mut record = answer.kvs[0].decode().unwrap();
            record.version += 1;
            answer.kvs[0] = EncodedKeyValue::from(record);
        },
    ];
    for (place, bend) in bends.into_iter().enumerate() {
        let mut recorder = three_puts();
        let number = recorder.read(get("k"));
        bend(answer(&mut recorder, number));
        recorder.expect_bad(linearizable::check, "which no state gives");

        let mut recorder = three_puts();
        let number = recorder.read(serializable_get("k"));
        bend(answer(&mut recorder, number));
        recorder.expect_bad(serializable::check, "that state contradicts");
        if place == 3 {
            recorder.expect_bad(unique_revision::check, "but revision 4 made");
        }
    }
}

#[test]
fn a_transaction_that_reads_is_of_one_state() {
    let mut recorder = three_puts();
    recorder.put("l", "1");
    let op = |key| pb::RequestOp { request: Some(Op::RequestRange(range(key, ""))) };
    let txn = Request::Txn(pb::TxnRequest { success: vec![op("k"), op("l")], ..Default::default() });
    let number = recorder.read(txn.clone());
    recorder.put("k", "4");
    recorder.expect_good();
    // One half of another moment.
    let later = recorder.read(txn);
    let half = |recorder: &Recorder, number: usize| match &recorder.evidence.operations[number].outcome {
        Outcome::Answered(Answer::Txn(answer)) => answer.responses[0].clone(),
        other => panic!("{other:?}"),
    };
    let torn = half(&recorder, number);
    let Outcome::Answered(Answer::Txn(answer)) = &mut recorder.evidence.operations[later].outcome else {
        panic!()
    };
    answer.responses[0] = torn;
    recorder.expect_bad(linearizable::check, "which no state gives");
}

#[test]
fn a_past_read_is_refused_from_the_compaction_on_and_not_before() {
    let mut recorder = three_puts();
    recorder.read(get_at(2));
    recorder.read(get_at(9));
    recorder.write(compact(3));
    for revision in [2, 3, 4] {
        recorder.read(get_at(revision));
    }
    recorder.expect_good();
    let refused_at = recorder.read(get_at(3));
    recorder.evidence.operations[refused_at].outcome = refused(Refusal::Compacted);
    recorder.expect_bad(linearizable::check, "which no state gives");

    let mut recorder = three_puts();
    recorder.write(compact(3));
    recorder.read_at(4, get_at(2));
    recorder.expect_bad(linearizable::check, "is stale");
}

#[test]
fn what_a_member_has_compacted_it_does_not_read_again() {
    let past = Request::Range(pb::RangeRequest { revision: 2, serializable: true, ..range("k", "") });
    let mut recorder = three_puts();
    recorder.write_on(0, 2, compact(3));
    recorder.read_at(4, past.clone());
    recorder.expect_bad(compaction::check, "had been compacted up to 3");
    // Before it has caught up, a member that started anew may.
    recorder.evidence.starts.push((recorder.evidence.operations[4].called - 1, 2));
    recorder.expect_good();

    let mut recorder = three_puts();
    recorder.write(compact(3));
    let hash = Request::HashKv(pb::HashKvRequest { revision: 0 });
    recorder.read(hash.clone());
    recorder.read_at(4, hash);
    recorder.expect_bad(compaction::check, "tells of a compaction up to -1");
}

#[test]
fn a_run_of_a_member_does_not_go_back() {
    let mut recorder = three_puts();
    recorder.read_at(4, serializable_get("k"));
    recorder.read_at(3, serializable_get("k"));
    recorder.expect_bad(headers::check, "had told 4 to operation 3");
    recorder.evidence.starts.push((recorder.evidence.operations[4].called - 1, 2));
    recorder.expect_good();
}

#[test]
fn a_status_ties_the_applied_index_to_the_store() {
    let mut recorder = three_puts();
    recorder.write(alarm(AlarmAction::Activate, pb::AlarmType::Nospace));
    recorder.read(Request::Status);
    recorder.read_at(4, Request::Status);
    recorder.evidence.starts.push((recorder.evidence.operations[5].called - 1, 2));
    recorder.expect_good();
    let Outcome::Answered(Answer::Status(answer)) = &mut recorder.evidence.operations[4].outcome else {
        panic!()
    };
    let errors = std::mem::take(&mut answer.errors);
    recorder.expect_bad(serializable::check, "contradicts the log");
    let Outcome::Answered(Answer::Status(answer)) = &mut recorder.evidence.operations[4].outcome else {
        panic!()
    };
    (answer.errors, answer.raft_applied_index) = (errors, 3);
    recorder.expect_bad(serializable::check, "the store is at revision 3 when entry 3 is applied");
}

#[test]
fn an_alarm_refuses_puts_where_it_is_raised_and_nowhere_else() {
    let mut recorder = three_puts();
    recorder.write(alarm(AlarmAction::Activate, pb::AlarmType::Nospace));
    let number = recorder.put("k", "refused");
    recorder.write(delete("k", ""));
    recorder.write(alarm(AlarmAction::Deactivate, pb::AlarmType::Nospace));
    recorder.put("k", "4");
    assert_eq!(recorder.evidence.operations[number].outcome, refused(Refusal::NoSpace));
    recorder.expect_good();
    let number = recorder.call(0, 1, put("k", "5"));
    recorder.end(number, refused(Refusal::NoSpace));
    recorder.expect_bad(quota::check, "while no alarm was raised");
    recorder.options.small_quota = true;
    recorder.expect_good();
    let number = recorder.call(0, 1, delete("k", ""));
    recorder.end(number, refused(Refusal::NoSpace));
    recorder.expect_bad(quota::check, "which takes none");
}

#[test]
fn an_alarm_that_no_quota_explains_is_seen() {
    let mut recorder = three_puts();
    recorder.log(command(&alarm(AlarmAction::Activate, pb::AlarmType::Nospace)));
    recorder.expect_bad(quota::check, "no quota can be reached");
    recorder.options.small_quota = true;
    recorder.expect_good();
    recorder.log(command(&alarm(AlarmAction::Activate, pb::AlarmType::Corrupt)));
    recorder.expect_bad(quota::check, "raises CORRUPT of 1, and no client asked for that");
}

#[test]
fn a_client_may_have_two_calls_at_once() {
    let mut recorder = Recorder::new();
    recorder.put("k", "1");
    let slow = recorder.call(READER, 2, get("k"));
    // It ends before the slow one does, and may see less.
    recorder.read(get("k"));
    recorder.put("k", "2");
    let last = recorder.read(get("k"));
    let seen = recorder.evidence.operations[last].outcome.clone();
    recorder.end(slow, seen);
    recorder.expect_good();
    // What begins behind its end may not.
    recorder.read_at(1, get("k"));
    recorder.expect_bad(linearizable::check, "is stale");
}
