//! Watch streams: every way in which one can be wrong that a client would see.

use detcd::proto::EncodedEvent;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::watch_create_request::FilterType;
use detcd::proto::etcdserverpb::watch_request::RequestUnion;

use crate::checkers::testing::*;
use crate::checkers::{headers, unique_revision, watch};
use crate::history::Word;

fn create(key: &str, range_end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        prev_kv: true,
        ..Default::default()
    }
}

fn from(start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { start_revision, ..create("a", "z") }
}

fn progress(id: i64, revision: i64) -> pb::WatchResponse {
    pb::WatchResponse { header: header(revision), watch_id: id, ..Default::default() }
}

fn canceled(id: i64) -> pb::WatchResponse {
    pb::WatchResponse { watch_id: id, canceled: true, ..Default::default() }
}

/// Revisions 2 to 7: puts of a, b, x; both a and b deleted; puts of a and of Z, which is outside.
fn busy() -> Recorder {
    let mut recorder = Recorder::new();
    recorder.put("a", "1");
    recorder.put("b", "1");
    recorder.put("x", "1");
    recorder.write(delete("a", "c"));
    recorder.put("a", "2");
    recorder.put("Z", "1");
    recorder
}

/// A watcher of everything from `a` to `z` that was told of all in two responses.
fn told(create: pb::WatchCreateRequest) -> Recorder {
    let mut recorder = busy();
    let stream = recorder.stream();
    recorder.watch(stream, create, 0);
    let responses = [recorder.events(0, "a", "z", 2, 4), recorder.events(0, "a", "z", 5, 6)];
    for response in responses {
        recorder.hear(stream, response);
    }
    recorder
}

/// The response at this place of the first stream.
fn response(recorder: &mut Recorder, place: usize) -> &mut pb::WatchResponse {
    match &mut recorder.evidence.streams[0].words[place].1 {
        Word::Heard(response) => response,
        other => panic!("{other:?}"),
    }
}

fn bend(event: &mut EncodedEvent, bend: impl FnOnce(&mut detcd::proto::Event)) {
    let mut plain = event.decode().unwrap();
    bend(&mut plain);
    *event = plain.into();
}

#[track_caller]
fn check_bent(bend: impl FnOnce(&mut Recorder), text: &str) {
    let mut recorder = told(from(2));
    recorder.expect_good();
    bend(&mut recorder);
    recorder.expect_bad(watch::check, text);
}

#[test]
fn events_left_out_repeated_or_out_of_order_are_seen() {
    check_bent(
        |recorder| drop(response(recorder, 2).events.remove(1)),
        "the put of x at revision 4 where the put of b at revision 3 was to come",
    );
    check_bent(
        |recorder| response(recorder, 2).events.swap(0, 1),
        "where the put of a at revision 2 was to come",
    );
    check_bent(
        |recorder| {
            let again = response(recorder, 2).events[2].clone();
            response(recorder, 3).events.insert(0, again);
        },
        "when it had been told of everything below 5",
    );
    check_bent(
        |recorder| drop(response(recorder, 3).events.remove(0)),
        "the delete of b at revision 5 where the delete of a at revision 5 was to come",
    );
}

#[test]
fn a_revision_is_in_one_response() {
    check_bent(
        |recorder| {
            let moved = response(recorder, 3).events.remove(0);
            response(recorder, 2).events.push(moved);
        },
        "a revision split between two responses: the delete of b at revision 5 is missing",
    );
}

#[test]
fn records_in_events_are_exact() {
    check_bent(
        |recorder| {
            bend(&mut response(recorder, 3).events[0], |event| event.prev_kv = None);
        },
        "with the previous record None",
    );
    check_bent(
        |recorder| {
            bend(&mut response(recorder, 2).events[0], |event| {
                let mut kv = event.kv.as_ref().unwrap().decode().unwrap();
                kv.value = "other".into();
                event.kv = Some(kv.into());
            });
        },
        "where the log made",
    );
    // The very same record, told as the one before another put, is still no lie about its revision.
    let mut recorder = told(from(2));
    bend(&mut response(&mut recorder, 2).events[0], |event| {
        let mut kv = event.kv.as_ref().unwrap().decode().unwrap();
        kv.mod_revision = 6;
        event.kv = Some(kv.into());
    });
    recorder.expect_bad(unique_revision::check, "but revision 6 made");
}

#[test]
fn a_previous_record_may_be_missing_only_when_it_is_compacted() {
    for (compacted, good) in [(5, true), (4, false)] {
        let mut recorder = busy();
        recorder.write(compact(compacted));
        let stream = recorder.stream();
        recorder.watch(stream, from(5), 0);
        let mut events = recorder.events(0, "a", "z", 5, 6);
        bend(&mut events.events[0], |event| event.prev_kv = None);
        recorder.hear(stream, events);
        if good { recorder.expect_good() } else { recorder.expect_bad(watch::check, "previous record None") }
    }
}

#[test]
fn a_watcher_gets_what_it_asked_for_and_nothing_else() {
    let mut recorder = busy();
    let stream = recorder.stream();
    let no_deletes = pb::WatchCreateRequest { filters: vec![FilterType::Nodelete as i32], ..from(2) };
    recorder.watch(stream, no_deletes, 0);
    let mut events = recorder.events(0, "a", "z", 2, 6);
    let all = events.events.clone();
    events.events.retain(|event| event.decode().unwrap().r#type == 0);
    recorder.hear(stream, events);
    recorder.expect_good();
    response(&mut recorder, 2).events = all;
    recorder.expect_bad(watch::check, "the delete of a at revision 5 where the put of a at revision 6");

    let mut recorder = busy();
    let stream = recorder.stream();
    recorder.watch(stream, from(3), 0);
    let events = recorder.events(0, "a", "z", 2, 6);
    recorder.hear(stream, events);
    recorder.expect_bad(watch::check, "below its start at 3");

    let mut recorder = busy();
    let stream = recorder.stream();
    recorder.watch(stream, from(2), 0);
    let events = recorder.events(0, "Z", "z", 2, 7);
    recorder.hear(stream, events);
    recorder.expect_bad(watch::check, "the put of Z at revision 7, which is none of its keys");
}

#[test]
fn without_a_start_a_watcher_begins_behind_its_created_response() {
    let mut recorder = busy();
    let stream = recorder.stream();
    recorder.watch(stream, from(0), 0);
    recorder.put("c", "1");
    recorder.put("c", "2");
    let events = recorder.events(0, "a", "z", 9, 9);
    recorder.hear(stream, events);
    recorder.expect_bad(watch::check, "where the put of c at revision 8 was to come");
}

#[test]
fn nothing_is_told_before_it_is_committed() {
    let mut recorder = told(from(2));
    let committed = recorder.evidence.committed.len();
    recorder.evidence.committed[committed - 2].at = recorder.now + STEP;
    recorder.evidence.committed[committed - 1].at = recorder.now + STEP;
    let found = recorder.check(watch::check);
    assert!(found.iter().any(|found| found.text.contains("not known to be committed")), "{found:?}");
}

#[test]
fn a_header_is_not_below_its_events_and_does_not_go_back() {
    check_bent(
        |recorder| response(recorder, 3).header.as_mut().unwrap().revision = 5,
        "a header of revision 5 for events up to 6",
    );
    check_bent(
        |recorder| response(recorder, 2).header.as_mut().unwrap().revision = 6,
        "a header of revision 6 after one of 7",
    );
}

#[test]
fn pieces_come_one_after_the_other_and_only_when_asked_for() {
    let in_pieces = |fragment| {
        let mut recorder = busy();
        let stream = recorder.stream();
        recorder.watch(stream, pb::WatchCreateRequest { fragment, ..from(2) }, 0);
        let whole = recorder.events(0, "a", "z", 2, 6);
        // The third piece begins in the middle of revision 5.
        for (from, to) in [(0, 2), (2, 4), (4, 6)] {
            let events = whole.events[from..to].to_vec();
            recorder.hear(stream, pb::WatchResponse { events, fragment: to < 6, ..whole.clone() });
        }
        recorder
    };
    in_pieces(true).expect_good();
    in_pieces(false).expect_bad(watch::check, "though it did not ask for pieces");
    let mut recorder = in_pieces(true);
    response(&mut recorder, 3).fragment = false;
    recorder.expect_bad(watch::check, "a revision split between two responses");
    let mut recorder = in_pieces(true);
    let between = (recorder.now, Word::Heard(progress(-1, 6)));
    recorder.evidence.streams[0].words.insert(4, between);
    recorder.expect_bad(watch::check, "something else between two pieces");
}

#[test]
fn progress_promises_that_nothing_is_still_to_come() {
    let with_progress = |id: i64, revision: i64, asked: bool| {
        let mut recorder = told(pb::WatchCreateRequest { progress_notify: asked, ..from(2) });
        if asked {
            recorder.say(0, RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
        }
        recorder.hear(0, progress(id, revision));
        recorder
    };
    for id in [0, -1] {
        with_progress(id, 7, true).expect_good();
        with_progress(id, 7, false).expect_bad(watch::check, "progress");
        // One more event is due.
        let mut recorder = told(pb::WatchCreateRequest { progress_notify: true, ..from(2) });
        recorder.put("a", "3");
        recorder.say(0, RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
        recorder.hear(0, progress(id, 8));
        let late = recorder.events(0, "a", "z", 8, 8);
        recorder.expect_bad(watch::check, "progress at 8 without the put of a at revision 8");
        recorder.hear(0, late);
        assert_eq!(recorder.check(watch::check).len(), 1);
    }
    with_progress(4, 7, true).expect_bad(watch::check, "there is no such watcher");
    with_progress(0, 8, true).expect_bad(headers::check, "no more than 7 was known");

    let mut recorder = busy();
    let stream = recorder.stream();
    recorder.watch(stream, pb::WatchCreateRequest { progress_notify: true, ..from(20) }, 0);
    recorder.hear(stream, progress(0, 7));
    recorder.expect_bad(watch::check, "progress at 7, below its start at 20");
}

#[test]
fn creates_are_answered_in_order_with_the_right_ids_and_refusals() {
    let mut recorder = busy();
    let stream = recorder.stream();
    let with_id = |watch_id| pb::WatchCreateRequest { watch_id, ..from(0) };
    recorder.watch(stream, with_id(0), 0);
    recorder.watch(stream, with_id(1), 1);
    recorder.watch(stream, with_id(-7), -7);
    recorder.watch(stream, with_id(0), 2);
    for (request, reason) in [
        (with_id(1), "mvcc: duplicate watch ID provided on the WatchStream"),
        (create("b", "a"), "mvcc: watcher range is empty"),
        (from(-1), "etcdserver: mvcc: required revision has been compacted"),
    ] {
        recorder.say(stream, RequestUnion::CreateRequest(request));
        let cancel_reason = reason.to_owned();
        recorder.hear(stream, pb::WatchResponse { created: true, cancel_reason, ..canceled(-1) });
    }
    recorder.say(stream, RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 1 }));
    recorder.hear(stream, canceled(1));
    recorder.watch(stream, with_id(1), 1);
    recorder.expect_good();

    let mut wrong = |place: usize, bend: fn(&mut pb::WatchResponse), text: &str| {
        let before = response(&mut recorder, place).clone();
        bend(response(&mut recorder, place));
        let found = recorder.check(watch::check);
        assert!(found.iter().any(|found| found.text.contains(text)), "{text:?}: {found:?}");
        *response(&mut recorder, place) = before;
    };
    wrong(7, |response| response.watch_id = 3, "watcher 2 was due");
    wrong(9, |response| response.canceled = false, "was due");
    wrong(11, |response| response.cancel_reason = "no".into(), "was due");
    wrong(15, |response| response.watch_id = 2, "which nobody asked for");
    wrong(15, |response| response.cancel_reason = "tired".into(), "for no reason that there can be");
    wrong(1, |response| response.canceled = true, "refused, without cause");
    let last = progress(5, 7);
    recorder.hear(stream, pb::WatchResponse { created: true, ..last });
    recorder.expect_bad(watch::check, "that nobody asked for");
}

#[test]
fn the_end_of_a_watcher_is_final_and_has_its_reason() {
    let mut recorder = told(from(2));
    recorder.hear(0, canceled(0));
    recorder.expect_bad(watch::check, "its end, which nobody asked for");

    let mut recorder = told(from(2));
    recorder.say(0, RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 0 }));
    recorder.hear(0, canceled(0));
    recorder.expect_good();
    recorder.put("c", "1");
    let late = recorder.events(0, "a", "z", 8, 8);
    recorder.hear(0, late);
    recorder.expect_bad(watch::check, "events, though there is no such watcher");
}

#[test]
fn a_watcher_that_compaction_overtook_is_told_so_and_no_other() {
    let by_compaction =
        |compact_revision| pb::WatchResponse { header: header(0), compact_revision, ..canceled(0) };
    let overtaken = |start, told_of| {
        let mut recorder = busy();
        recorder.write(compact(5));
        let stream = recorder.stream();
        recorder.watch(stream, from(start), 0);
        recorder.hear(stream, by_compaction(told_of));
        recorder
    };
    overtaken(4, 5).expect_good();
    overtaken(5, 5).expect_bad(watch::check, "though it needs nothing below 5");
    overtaken(3, 4).expect_bad(watch::check, "a compaction at 4 that nobody made");
    // Going on where history is gone leaves a hole.
    let mut recorder = busy();
    recorder.write(compact(5));
    let stream = recorder.stream();
    recorder.watch(stream, from(3), 0);
    let rest = recorder.events(0, "a", "z", 5, 6);
    recorder.hear(stream, rest);
    recorder.expect_bad(watch::check, "where the put of b at revision 3 was to come");
}

#[test]
fn in_the_end_every_watcher_on_an_open_stream_has_heard_of_everything() {
    let mut recorder = told(from(2));
    recorder.options.open_streams = vec![0];
    recorder.expect_good();
    recorder.put("c", "1");
    recorder.expect_bad(watch::caught_up::check, "never told of c at revision 8");
    recorder.evidence.streams[0].words.push((recorder.now, Word::Left));
    recorder.expect_good();

    let mut recorder = told(from(2));
    recorder.options.open_streams = vec![0];
    recorder.say(0, RequestUnion::CreateRequest(from(9)));
    recorder.expect_bad(watch::caught_up::check, "1 watchers were asked for and never opened");
    recorder.hear(0, pb::WatchResponse { created: true, watch_id: 1, ..Default::default() });
    recorder.say(0, RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 1 }));
    recorder.expect_bad(watch::caught_up::check, "the end of watcher 1 was asked for and never told");
}
