//! Keys, ranges, transactions and compaction.

use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use detcd::proto::etcdserverpb::range_request::SortTarget;
use detcd::proto::etcdserverpb::request_op::Request;
use detcd::proto::etcdserverpb::response_op::Response;

use super::{
    COMPACTED, Client, FUTURE, ask_both, bytes, delete_op, interval, keys, put_op, range_op, records,
    refused, revision, then,
};

const DUPLICATE: &str = "InvalidArgument: etcdserver: duplicate key given in txn request";

#[test]
fn probe_01_every_put_is_a_revision() {
    ask_both(async |client| {
        assert_eq!(client.put("a", "x").await, 2);
        assert_eq!(client.put("a", "x").await, 3);
        let record = client.get("a").await.expect("a record");
        assert_eq!((record.create_revision, record.mod_revision, record.version), (2, 3, 2));
    });
}

#[test]
fn probe_02_a_delete_of_nothing_is_no_revision() {
    ask_both(async |client| {
        client.put("a", "x").await;
        assert_eq!(client.delete("b", "").await, (2, 0));
        assert_eq!(client.delete("a", "").await, (3, 1));
    });
}

/// Five keys, whose order by revision is not that of the keys.
async fn five_keys(client: &mut Client) {
    for key in ["e", "a", "d", "b", "c", "c", "b"] {
        client.put(key, key).await;
    }
}

#[test]
fn probe_03_a_limit_cuts_and_a_count_does_not() {
    ask_both(async |client| {
        five_keys(client).await;
        let all = interval("a", "f");
        let cut = client.range(pb::RangeRequest { limit: 2, ..all.clone() }).await.expect("a range");
        assert_eq!((keys(&cut).as_str(), cut.more, cut.count), ("a b", true, 5));
        let filtered = pb::RangeRequest { limit: 2, min_mod_revision: 7, ..all };
        let filtered = client.range(filtered).await.expect("a range");
        assert_eq!((keys(&filtered).as_str(), filtered.more, filtered.count), ("b c", false, 5));
    });
}

/// The reference says that the limit comes before the sort. It does, with one key more, which tells whether
/// there are more; that one is sorted with the others, and one of them is cut off again.
#[test]
fn probe_04_no_order_is_by_the_target_after_the_limit() {
    ask_both(async |client| {
        five_keys(client).await;
        let check = async |client: &mut Client, target: SortTarget, limit, expected: &str| {
            let range = pb::RangeRequest { sort_target: target as i32, limit, ..interval("a", "f") };
            assert_eq!(keys(&client.range(range).await.expect("a range")), expected, "{target:?}");
        };
        check(client, SortTarget::Mod, 0, "e a d c b").await;
        check(client, SortTarget::Mod, 3, "a d c").await;
        check(client, SortTarget::Create, 4, "e a d b").await;
        check(client, SortTarget::Version, 3, "a d b").await;
        check(client, SortTarget::Version, 0, "a d e b c").await;
    });
}

#[test]
fn probe_05_an_interval_that_ends_before_it_begins_is_empty() {
    ask_both(async |client| {
        five_keys(client).await;
        let found = client.range(interval("c", "b")).await.expect("no error");
        assert_eq!((found.kvs.len(), found.count, found.more), (0, 0, false));
    });
}

#[test]
fn probe_06_what_is_to_come_and_what_is_gone() {
    ask_both(async |client| {
        five_keys(client).await;
        let at = |revision| pb::RangeRequest { revision, ..interval("a", "f") };
        refused(client.range(at(9)).await, FUTURE);
        refused(client.compact(9).await, FUTURE);
        client.compact(5).await.expect("a compaction");
        assert_eq!(keys(&client.range(at(5)).await.expect("a range")), "a b d e");
        refused(client.range(at(4)).await, COMPACTED);
        refused(client.compact(5).await, COMPACTED);
    });
}

#[test]
fn probe_07_operations_see_those_before_them() {
    ask_both(async |client| {
        for key in ["b", "x", "y"] {
            client.put(key, "0").await;
        }
        let txn = then(vec![put_op("a", "1"), range_op("a", ""), delete_op("x", "z"), range_op("a", "z")]);
        let answer = client.txn(txn).await.expect("a transaction");
        assert_eq!((revision(&answer.header), answer.succeeded), (5, true));
        let told = |operation: &pb::ResponseOp| match operation.response.as_ref().expect("an answer") {
            Response::ResponseRange(range) => (records(range), revision(&range.header)),
            Response::ResponsePut(put) => ("put".to_owned(), revision(&put.header)),
            Response::ResponseDeleteRange(delete) => {
                (format!("deleted {}", delete.deleted), revision(&delete.header))
            }
            Response::ResponseTxn(_) => panic!("nothing is nested"),
        };
        let told: Vec<(String, i64)> = answer.responses.iter().map(told).collect();
        let expected = ["put", "a=1", "deleted 2", "a=1 b=0"].map(|word| (word.to_owned(), 5));
        assert_eq!(told, expected);

        refused(client.txn(then(vec![put_op("a", "1"), put_op("a", "2")])).await, DUPLICATE);
        refused(client.txn(then(vec![put_op("a", "1"), delete_op("a", "")])).await, DUPLICATE);
        refused(client.txn(then(vec![delete_op("a", "c"), put_op("b", "1")])).await, DUPLICATE);
        // An open range is not seen to hold the key.
        client.txn(then(vec![delete_op("a", "\0"), put_op("b", "2")])).await.expect("a transaction");
        assert_eq!(records(&client.range(interval("\0", "\0")).await.expect("a range")), "b=2");
    });
}

fn compare(key: &str, target: CompareTarget, result: CompareResult, union: TargetUnion) -> pb::Compare {
    pb::Compare {
        key: bytes(key),
        target: target as i32,
        result: result as i32,
        target_union: Some(union),
        ..Default::default()
    }
}

#[test]
fn probe_08_a_value_that_is_not_there_is_not_unequal() {
    ask_both(async |client| {
        let unequal =
            compare("a", CompareTarget::Value, CompareResult::NotEqual, TargetUnion::Value(bytes("x")));
        let txn = pb::TxnRequest {
            compare: vec![unequal],
            success: vec![put_op("then", "")],
            failure: vec![put_op("else", "")],
        };
        assert!(!client.txn(txn).await.expect("a transaction").succeeded);
        assert_eq!(keys(&client.range(interval("\0", "\0")).await.expect("a range")), "else");
    });
}

#[test]
fn probe_09_nested_compares_see_what_was_before() {
    ask_both(async |client| {
        let absent = compare("a", CompareTarget::Version, CompareResult::Equal, TargetUnion::Version(0));
        let nested = pb::TxnRequest {
            compare: vec![absent],
            success: vec![put_op("then", "")],
            failure: vec![put_op("else", "")],
        };
        let nested = pb::RequestOp { request: Some(Request::RequestTxn(nested)) };
        client.txn(then(vec![put_op("a", "x"), nested])).await.expect("a transaction");
        assert_eq!(keys(&client.range(interval("\0", "\0")).await.expect("a range")), "a then");
    });
}

#[test]
fn probe_10_a_transaction_has_at_most_128_operations() {
    ask_both(async |client| {
        let puts = |count: usize| (0..count).map(|number| put_op(&format!("{number}"), "")).collect();
        let too_many = "InvalidArgument: etcdserver: too many operations in txn request";
        refused(client.txn(then(puts(129))).await, too_many);
        client.txn(then(puts(128))).await.expect("a transaction");
        let compares = vec![pb::Compare { key: bytes("a"), ..Default::default() }; 129];
        refused(client.txn(pb::TxnRequest { compare: compares, ..Default::default() }).await, too_many);
    });
}
