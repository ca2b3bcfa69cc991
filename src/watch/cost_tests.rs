//! What must be done once must be done once: encoding, look-ups of previous records, reads of history.
//! And what goes wrong below must come up as a fault.

use super::testing::Store;
use super::*;
use crate::types::LocalFault;

/// A hub with one stream for each request, on a store with these puts applied and not notified.
fn hub(store: &mut Store, puts: &[&str], requests: Vec<WatchCreateRequest>) -> Hub {
    let config = HubConfig {
        max_response_bytes: 1 << 21,
        stream_budget_bytes: 1 << 20,
        progress_interval: Now::SECOND,
        batch: BatchLimits::default(),
    };
    let mut hub = Hub::new(config, store.revision());
    for (stream, request) in (0..).map(StreamId).zip(requests) {
        hub.open_stream(stream);
        hub.create(stream, request, None, store);
    }
    hub.take_output();
    for key in puts {
        store.apply(&[(key.to_string(), Some("v".into()))]);
    }
    hub
}

fn request(start_revision: i64, prev_kv: bool) -> WatchCreateRequest {
    WatchCreateRequest { key: "k".into(), start_revision, prev_kv, ..Default::default() }
}

#[test]
fn an_event_is_encoded_once_and_its_previous_record_read_once() {
    let mut store = Store::default();
    hub(&mut store, &["k"], vec![]);
    let requests = (0..100).map(|watcher| request(0, watcher % 2 == 0)).collect();
    // Revision 3 is odd: its change does not hold the previous record.
    let mut hub = hub(&mut store, &["k"], requests);
    hub.notify(&store.revisions[1..], &store).unwrap();
    let output = hub.take_output();
    assert_eq!(output.len(), 100);
    let memory = |place: usize| output[place].responses[0].events[0].as_bytes().as_ptr();
    assert!((0..100).all(|place| memory(place) == memory(place % 2)), "an event was encoded twice");
    assert_ne!(memory(0), memory(1));
    assert_eq!(store.previous_reads.get(), 1);
    assert_eq!(hub.statistics().events_total, 100);
}

#[test]
fn watchers_that_resume_close_to_each_other_share_a_read() {
    let mut store = Store::default();
    hub(&mut store, &["k"; 200], vec![]);
    let mut hub = hub(&mut store, &[], (0..100).map(|watcher| request(2 + watcher, false)).collect());
    assert!(!hub.catch_up(&store).unwrap());
    assert_eq!(store.reads.get(), 1);
    let output = hub.take_output();
    let events = Vec::from_iter(output.iter().map(|output| output.responses[0].events.len()));
    assert_eq!(events, Vec::from_iter((0..100).map(|watcher| 200 - watcher)));
}

#[test]
fn a_watcher_far_behind_does_not_hold_up_one_that_is_nearly_there() {
    let mut store = Store::default();
    hub(&mut store, &["k"; 5000], vec![]);
    let mut hub = hub(&mut store, &[], vec![request(2, false), request(4990, false)]);
    assert!(hub.catch_up(&store).unwrap());
    assert!(hub.catch_up(&store).unwrap());
    assert_eq!(hub.statistics().slow_watchers, 1);
}

#[test]
fn a_compaction_that_overtakes_a_read_cancels() {
    let mut store = Store::default();
    hub(&mut store, &["k"; 9], vec![]);
    let mut hub = hub(&mut store, &[], vec![request(3, false), request(7, false)]);
    store.compacts_during_read.set(Some(6));
    assert!(hub.catch_up(&store).unwrap());
    let output = hub.take_output();
    let [StreamOutput { stream: StreamId(0), responses }] = &output[..] else { panic!("{output:?}") };
    assert!(responses[0].canceled && responses[0].compact_revision == 6);
    assert!(!hub.catch_up(&store).unwrap());
    assert_eq!(hub.take_output()[0].responses[0].events.len(), 4);
}

#[test]
fn a_failing_disk_is_a_fault() {
    let fault = Err(LocalFault::new("read failed"));
    let mut store = Store::default();
    hub(&mut store, &["k"], vec![]);
    let mut hub = hub(&mut store, &["k"], vec![request(2, false), request(0, true)]);
    store.broken_disk = true;
    assert_eq!(hub.notify(&store.revisions[1..], &store), fault);
    assert_eq!(hub.catch_up(&store).map(|_| ()), fault);
}

#[test]
#[should_panic(expected = "a revision was left out")]
fn a_gap_between_notifications_is_a_bug_of_the_owner() {
    let mut store = Store::default();
    let mut hub = hub(&mut store, &["k", "k"], vec![request(0, false)]);
    let _ = hub.notify(&store.revisions[1..], &store);
}
