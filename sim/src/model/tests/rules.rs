//! Rules that are easy to get wrong, each on its own, against words of the behaviour reference.

use super::*;

fn range(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(range_end), ..Default::default() }
}

fn keys(response: &pb::RangeResponse) -> Vec<String> {
    let key =
        |kv: &detcd::proto::EncodedKeyValue| String::from_utf8_lossy(&kv.decode().unwrap().key).into_owned();
    response.kvs.iter().map(key).collect()
}

#[test]
fn the_past_stays_readable_and_a_compaction_is_only_a_note() {
    let mut fed = Fed::new();
    for value in ["1", "2", "3"] {
        fed.apply(put("k", value));
    }
    fed.apply(Command::Compact(pb::CompactionRequest { revision: 3, physical: false }));
    let at = |revision| pb::RangeRequest { revision, ..range("k", "") };
    assert_eq!(fed.model.range(&at(2), 4, 3), Err(Refusal::Compacted));
    assert_eq!(fed.model.range(&at(5), 4, 3), Err(Refusal::Future));
    for (revision, value) in [(2, "1"), (3, "2"), (4, "3")] {
        let found = fed.model.range(&at(revision), 4, -1).unwrap();
        assert_eq!(found.kvs[0].decode().unwrap().value, value);
        assert_eq!(found.header.unwrap().revision, 4);
    }
    assert_eq!(
        (fed.model.compacted(), fed.model.revision_at(4), fed.model.revision_at(1)),
        (3, Some(4), Some(1))
    );
}

#[test]
fn without_an_order_the_limit_comes_before_the_sort() {
    let mut fed = Fed::new();
    for (key, value) in [("a", "9"), ("b", "8"), ("c", "7"), ("d", "6")] {
        fed.apply(put(key, value));
    }
    let by_value =
        |order: i32| pb::RangeRequest { limit: 2, sort_order: order, sort_target: 4, ..range("a", "z") };
    let found = fed.model.range(&by_value(0), 5, -1).unwrap();
    assert_eq!((keys(&found), found.more, found.count), (vec!["c".into(), "b".into()], true, 4));
    let found = fed.model.range(&by_value(1), 5, -1).unwrap();
    assert_eq!((keys(&found), found.more), (vec!["d".into(), "c".into()], true));
}

#[test]
fn compares_of_nested_transactions_are_about_the_state_before_all_of_it() {
    let mut fed = Fed::new();
    let nested = pb::TxnRequest {
        compare: vec![version_is("k", 0)],
        success: vec![op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: bytes("k"),
            prev_kv: true,
            ..Default::default()
        }))],
        failure: vec![],
    };
    let outer = pb::TxnRequest {
        success: vec![op(Request::RequestPut(put_request("k", "1"))), op(Request::RequestTxn(nested))],
        ..Default::default()
    };
    let applied = fed.apply(Command::Txn(outer));
    assert_eq!(applied.revision, 2);
    let kinds: Vec<bool> = applied.changes.iter().map(|change| change.record.is_some()).collect();
    assert_eq!(kinds, [true, false], "created and deleted at one revision");
    assert_eq!(applied.changes[1].before, None, "before the revision there was none");
    assert!(fed.model.everything(2).kvs.is_empty());
}

#[test]
fn a_lease_takes_its_keys_with_it_in_one_revision_in_key_order() {
    let mut fed = Fed::new();
    let grant = |id| Command::LeaseGrant(pb::LeaseGrantRequest { id, ttl: 1 });
    let Ok(Some(Answer::LeaseGrant(granted))) = fed.apply(grant(-7)).answer else { panic!("no grant") };
    assert_eq!(granted.ttl, 2, "raised to the minimum");
    assert_eq!(fed.apply(grant(-7)).answer, Err(Refusal::LeaseExists));
    for key in ["c", "a", "b"] {
        fed.apply(Command::Put(pb::PutRequest { lease: -7, ..put_request(key, "") }));
    }
    fed.apply(put("b", "detached"));
    assert_eq!(fed.model.keys_of_lease(-7, 5), [bytes("a"), bytes("c")]);
    let revoke = Command::LeaseRevoke(pb::LeaseRevokeRequest { id: -7 });
    let applied = fed.apply(revoke.clone());
    let deleted: Vec<_> =
        applied.changes.iter().map(|change| (change.key.clone(), change.revision)).collect();
    assert_eq!(deleted, [(bytes("a"), 6), (bytes("c"), 6)]);
    assert_eq!(fed.apply(revoke).answer, Err(Refusal::LeaseNotFound));
}

#[test]
fn an_entry_out_of_turn_is_refused() {
    let mut fed = Fed::new();
    fed.apply(put("k", "1"));
    assert!(fed.model.apply(4, &Bytes::new()).is_err());
    assert!(fed.model.apply(2, &Bytes::new()).is_err());
    assert!(fed.model.apply(3, &Bytes::from_static(b"\xff\xff")).is_err());
}
