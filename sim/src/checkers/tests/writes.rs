//! Writes: lost, invented, repeated, answered wrongly or too soon.

use detcd::apply;
use detcd::types::RequestId;

use crate::checkers::testing::*;
use crate::checkers::{headers, linearizable, once, unique_revision};
use crate::history::{Answer, Outcome};
use crate::model::Refusal;

/// Three puts of one client.
fn three_puts() -> Recorder {
    let mut recorder = Recorder::new();
    for value in ["1", "2", "3"] {
        recorder.put("k", value);
    }
    recorder
}

#[test]
fn an_acknowledged_write_without_an_entry_is_lost() {
    let mut recorder = three_puts();
    let number = recorder.call(5, 1, put("k", "4"));
    let revision = 5;
    let answer = detcd::proto::etcdserverpb::PutResponse { header: header(revision), prev_kv: None };
    recorder.end(number, Outcome::Answered(Answer::Put(answer)));
    recorder.expect_bad(once::check, "it is lost");
}

#[test]
fn a_failed_write_with_an_entry_has_happened() {
    let mut recorder = three_puts();
    recorder.evidence.operations[1].outcome =
        Outcome::Failed(crate::history::Failure { code: 2, message: "etcdserver: too many requests".into() });
    recorder.expect_bad(once::check, "it has happened");
}

#[test]
fn a_write_of_unknown_outcome_happens_once_or_never() {
    for happens in [false, true] {
        let mut recorder = three_puts();
        recorder.write_unknown(put("k", "4"), happens);
        recorder.expect_good();
        if happens {
            recorder.log(command(&put("k", "4")));
            recorder.expect_bad(once::check, "happened twice");
        }
    }
}

#[test]
fn an_answered_write_with_two_entries_happened_twice() {
    let mut recorder = three_puts();
    recorder.log(command(&put("k", "3")));
    recorder.expect_bad(once::check, "happened twice");
}

#[test]
fn one_entry_does_not_serve_two_operations() {
    let mut recorder = three_puts();
    let mut twin = recorder.evidence.operations[2].clone();
    (twin.number, twin.client) = (3, 9);
    recorder.evidence.operations.push(twin);
    recorder.expect_bad(once::check, "is another's");
    recorder.expect_bad(unique_revision::check, "both changed the store at revision 4");
}

#[test]
fn equal_requests_share_their_entries_by_time() {
    let mut recorder = Recorder::new();
    // Three deletes of nothing, which overlap and all hear the same.
    let calls: Vec<usize> = (0..3).map(|client| recorder.call(client, 1, delete("k", ""))).collect();
    let applied: Vec<_> = (0..3).map(|_| recorder.log(command(&delete("k", "")))).collect();
    for (call, applied) in calls.into_iter().rev().zip(applied) {
        recorder.end_applied(call, applied);
    }
    recorder.expect_good();
    recorder.evidence.committed.pop();
    recorder.expect_bad(once::check, "is another's");
}

#[test]
fn an_entry_that_nobody_asked_for_is_seen() {
    let mut recorder = three_puts();
    recorder.log(command(&put("k", "from nowhere")));
    recorder.expect_bad(once::check, "nobody made");
    recorder.options.unrecorded_clients = true;
    recorder.expect_good();
}

#[test]
fn two_entries_with_one_id_are_seen() {
    let mut recorder = three_puts();
    let number = recorder.call(0, 1, put("k", "4"));
    let applied = recorder.commit(apply::encode(RequestId(3), command(&put("k", "4"))));
    recorder.end_applied(number, applied);
    recorder.expect_bad(once::check, "requests of one id, 3");
}

#[test]
fn a_wrong_request_must_be_refused_and_not_logged() {
    let mut recorder = three_puts();
    recorder.put("", "4");
    recorder.expect_bad(once::check, "had to be refused: etcdserver: key is not provided");
    recorder.expect_bad(linearizable::check, "had to be refused: etcdserver: key is not provided");

    let mut recorder = three_puts();
    let number = recorder.call(0, 1, put("k", "4"));
    recorder.end(number, refused(Refusal::ValueProvided));
    recorder.expect_bad(linearizable::check, "refused for what is not wrong with it");
}

#[test]
fn an_answer_must_be_that_of_its_entry() {
    let bend: [fn(&mut Answer); 2] = [
        |answer| {
            let Answer::Put(answer) = answer else { panic!() };
            answer.prev_kv = None;
        },
        |answer| {
            let Answer::Put(answer) = answer else { panic!() };
            answer.header.as_mut().unwrap().revision -= 1;
        },
    ];
    for bend in bend {
        let mut recorder = three_puts();
        let Outcome::Answered(answer) = &mut recorder.evidence.operations[2].outcome else { panic!() };
        bend(answer);
        recorder.expect_bad(linearizable::check, "but its entry 4 gives");
    }
}

#[test]
fn an_error_must_be_right_where_the_entry_stands() {
    let mut recorder = Recorder::new();
    recorder.write(put_with("k", "1", 77));
    recorder.write(compact(9));
    recorder.write(compact(1));
    recorder.write(compact(1));
    recorder.write(revoke(5));
    recorder.expect_good();
    recorder.evidence.operations[0].outcome = refused(Refusal::KeyNotFound);
    recorder.expect_bad(linearizable::check, "its entry 2 gives etcdserver: requested lease not found");
}

#[test]
fn nothing_is_answered_before_it_is_committed() {
    let mut recorder = three_puts();
    let operation = &mut recorder.evidence.operations[2];
    operation.returned = Some(operation.called);
    recorder.expect_bad(linearizable::check, "before its entry 4 was known to be committed");
}

#[test]
fn a_revision_is_not_used_twice_and_terms_only_grow() {
    let mut recorder = three_puts();
    header_of(&mut recorder.evidence, 2).revision = 2;
    let found = recorder.check(unique_revision::check);
    assert!(found.iter().any(|found| found.text.contains("both changed the store at revision 2")));
    assert!(found.iter().any(|found| found.text.contains("has a lower revision than")), "{found:?}");

    let mut recorder = three_puts();
    recorder.evidence.committed[1].term = 1;
    recorder.expect_bad(unique_revision::check, "entry 2 before it of term 2");
}

#[test]
fn headers_name_one_cluster_and_each_member_once() {
    let check = |bend: fn(&mut Recorder), text| {
        let mut recorder = three_puts();
        recorder.write_on(4, 2, put("k", "4"));
        bend(&mut recorder);
        recorder.expect_bad(headers::check, text);
    };
    check(|recorder| header_of(&mut recorder.evidence, 1).cluster_id = 9, "cluster 9 and cluster 1");
    check(|recorder| header_of(&mut recorder.evidence, 3).member_id = 1, "the id 1 of m1 in a header of m2");
    check(|recorder| header_of(&mut recorder.evidence, 2).revision = 77, "no more than 4 was known");
    check(|recorder| header_of(&mut recorder.evidence, 3).raft_term = 1, "though its entry 5 is of term 2");
    check(|recorder| header_of(&mut recorder.evidence, 1).raft_term = 3, "had told 3 to operation 1");
    check(
        |recorder| {
            let Outcome::Answered(Answer::Put(answer)) = &mut recorder.evidence.operations[0].outcome else {
                panic!()
            };
            answer.header = None;
        },
        "an answer without a header",
    );
}
