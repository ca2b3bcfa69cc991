//! Watches.

use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::watch_request::RequestUnion;

use super::{ask_both, ask_both_with, bytes, put_op, revision, then, told};

fn create(key: &str, range_end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: bytes(key), range_end: bytes(range_end), ..Default::default() }
}

fn progress() -> RequestUnion {
    RequestUnion::ProgressRequest(pb::WatchProgressRequest {})
}

/// Id, whether it is an end as well, and the reason in the answer to a request for a watcher.
fn created(response: &pb::WatchResponse) -> (i64, bool, &str) {
    assert!(response.created && response.events.is_empty(), "{response:?}");
    (response.watch_id, response.canceled, &response.cancel_reason)
}

#[test]
fn probe_13_how_watchers_begin() {
    ask_both(async |client| {
        for value in ["1", "2", "3"] {
            client.put("a", value).await;
        }
        let mut watching = client.watch([RequestUnion::CreateRequest(create("a", ""))]).await;
        let first = watching.next().await;
        assert_eq!((created(&first), revision(&first.header)), ((0, false, ""), 4));
        assert_eq!(created(&watching.create(create("b", "")).await), (1, false, ""));

        let given = pb::WatchCreateRequest { watch_id: 7, ..create("b", "") };
        assert_eq!(created(&watching.create(given.clone()).await), (7, false, ""));
        let duplicate = "mvcc: duplicate watch ID provided on the WatchStream";
        assert_eq!(created(&watching.create(given).await), (-1, true, duplicate));
        let empty = "mvcc: watcher range is empty";
        assert_eq!(created(&watching.create(create("b", "a")).await), (-1, true, empty));
        let negative = pb::WatchCreateRequest { start_revision: -1, ..create("b", "") };
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(created(&watching.create(negative).await), (-1, true, compacted));

        client.compact(3).await.expect("a compaction");
        let gone = pb::WatchCreateRequest { start_revision: 2, watch_id: 8, ..create("b", "") };
        assert_eq!(created(&watching.create(gone).await), (8, false, ""));
        let end = watching.next().await;
        assert!(end.canceled && !end.created, "{end:?}");
        assert_eq!((end.watch_id, end.compact_revision, end.cancel_reason.as_str()), (8, 3, ""));
        assert_eq!(revision(&end.header), 0);

        let to_come = pb::WatchCreateRequest { start_revision: 6, watch_id: 9, ..create("c", "") };
        assert_eq!(created(&watching.create(to_come).await), (9, false, ""));
        client.put("c", "too early").await;
        client.put("c", "in time").await;
        assert_eq!(watching.events(1).await, ["put c=in time@6"]);
    });
}

#[test]
fn probe_14_who_is_told_of_progress() {
    ask_both(async |client| {
        client.put("a", "1").await;
        // Nobody is told while there are no watchers: the first answer is the next request's.
        let refused = RequestUnion::CreateRequest(create("b", "a"));
        let mut watching = client.watch([progress(), refused]).await;
        assert_eq!(created(&watching.next().await).0, -1);
        assert_eq!(created(&watching.create(create("a", "")).await), (0, false, ""));
        watching.say(progress());
        let told = watching.next().await;
        assert_eq!((told.watch_id, revision(&told.header), told.events.len()), (-1, 2, 0));
        assert!(!told.created && !told.canceled, "{told:?}");

        // One that waits for what is to come keeps the others from being told.
        let ahead = pb::WatchCreateRequest { start_revision: 4, ..create("b", "") };
        assert_eq!(created(&watching.create(ahead).await), (1, false, ""));
        watching.say(progress());
        assert_eq!(created(&watching.create(create("b", "a")).await).0, -1);
    });
}

#[test]
fn probe_15_a_transaction_is_told_at_once() {
    ask_both(async |client| {
        let mut watching = client.watch([RequestUnion::CreateRequest(create("k", "l"))]).await;
        assert!(watching.next().await.created);
        let txn = then(vec![put_op("k3", "c"), put_op("k1", "a"), put_op("k2", "b"), put_op("x", "")]);
        client.txn(txn).await.expect("a transaction");
        let response = watching.next().await;
        assert_eq!(told(&response), ["put k3=c@2", "put k1=a@2", "put k2=b@2"]);
        assert_eq!(revision(&response.header), 2);
    });
}

/// The appendix asks this of the gateway; it is true of every stream.
#[test]
fn probe_16_a_stream_that_asks_no_more_is_told_on() {
    ask_both(async |client| {
        let mut watching = client.watch([RequestUnion::CreateRequest(create("a", ""))]).await;
        assert!(watching.next().await.created);
        watching.requests.close_channel();
        client.put("a", "1").await;
        client.put("a", "2").await;
        assert_eq!(watching.events(2).await, ["put a=1@2", "put a=2@3"]);
    });
}

/// Beside the appendix: large answers come in pieces to those who can take them. A piece is as large as the
/// largest request and 512 KiB; what the keys were before makes a small transaction larger than that.
#[test]
fn large_answers_come_in_pieces() {
    ask_both_with(&["--max-request-bytes", "400000"], async |client| {
        let keys = ["a", "b", "c", "d", "e"];
        for key in keys {
            client.put(key, &"v".repeat(390_000)).await;
        }
        let whole = pb::WatchCreateRequest { prev_kv: true, ..create("a", "\0") };
        let mut whole_watching = client.watch([RequestUnion::CreateRequest(whole.clone())]).await;
        assert!(whole_watching.next().await.created);
        let pieces = pb::WatchCreateRequest { fragment: true, ..whole };
        let mut pieces_watching = client.watch([RequestUnion::CreateRequest(pieces)]).await;
        assert!(pieces_watching.next().await.created);

        client.txn(then(keys.map(|key| put_op(key, "")).to_vec())).await.expect("a transaction");
        let whole = whole_watching.next().await;
        assert_eq!((whole.events.len(), whole.fragment), (5, false));
        for expected in [(2, true), (2, true), (1, false)] {
            let piece = pieces_watching.next().await;
            assert_eq!(
                (piece.events.len(), piece.fragment, revision(&piece.header)),
                (expected.0, expected.1, 7)
            );
        }
    });
}
