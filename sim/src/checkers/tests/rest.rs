//! What members hold at rest, and hashes.

use detcd::proto::etcdserverpb as pb;

use crate::checkers::testing::*;
use crate::checkers::{all, convergence, serializable};
use crate::history::{Answer, Contents, Outcome, Request};

fn at_rest() -> Recorder {
    let mut recorder = Recorder::new();
    recorder.put("a", "1");
    recorder.put("b", "1");
    recorder.put("a", "2");
    recorder.write(compact(3));
    recorder.evidence.contents = (1..=3).map(|member| recorder.contents(member)).collect();
    recorder
}

#[test]
fn all_members_hold_what_the_log_says() {
    at_rest().expect_good();
    let check = |bend: fn(&mut Contents), text| {
        let mut recorder = at_rest();
        bend(&mut recorder.evidence.contents[1]);
        recorder.expect_bad(convergence::check, text);
    };
    check(|contents| contents.revision = 3, "m2 is at revision 3, the log at 4");
    check(|contents| contents.compacted = -1, "m2 is compacted up to -1, the log up to 3");
    check(|contents| drop(contents.everything.kvs.pop()), "b is KeyValue");
    check(
        |contents| {
            let mut record = contents.everything.kvs[0].decode().unwrap();
            record.lease = 9;
            contents.everything.kvs[0] = record.into();
        },
        "it has KeyValue",
    );
}

#[test]
fn hashes_are_right_and_equal() {
    let hash = |revision| Request::HashKv(pb::HashKvRequest { revision });
    let mut recorder = at_rest();
    for revision in [0, 3, 4] {
        recorder.read(hash(revision));
    }
    recorder.expect_good();
    let last = recorder.evidence.operations.len() - 1;
    let Outcome::Answered(Answer::HashKv(answer)) = &mut recorder.evidence.operations[last].outcome else {
        panic!()
    };
    answer.hash ^= 1;
    recorder.expect_bad(convergence::check, "for revision 4, compacted up to 3");
    recorder.expect_bad(serializable::check, "that state contradicts");
}

#[test]
fn a_log_with_a_hole_is_no_log() {
    let mut recorder = at_rest();
    recorder.evidence.committed.remove(1);
    let found = all(&recorder.evidence, &recorder.options);
    assert!(found.len() == 1 && found[0].text.contains("entry 4 comes where 3 should"), "{found:?}");
}
