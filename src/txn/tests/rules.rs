//! Every rule of transactions, one by one.

use super::*;

const MAX_OPS: usize = 128;

fn check_refused(request: &TxnRequest, error: Option<RequestError>) {
    assert_eq!(check_txn(request, MAX_OPS).err(), error, "{request:?}");
}

fn refused(success: Vec<RequestOp>) {
    // Both branches are checked alike.
    check_refused(&both(vec![], success.clone()), Some(RequestError::DuplicateKey));
    check_refused(&then(success), Some(RequestError::DuplicateKey));
}

fn accepted(success: Vec<RequestOp>) {
    check_refused(&both(success.clone(), success), None);
}

fn gets(count: usize) -> Vec<RequestOp> {
    vec![get_op("a", ""); count]
}

#[test]
fn operations_are_counted_by_the_longest_list() {
    let too_many = Some(RequestError::TooManyOps);
    check_refused(&then(gets(128)), None);
    check_refused(&both(gets(128), gets(128)), None);
    check_refused(&then(gets(129)), too_many);
    check_refused(&both(vec![], gets(129)), too_many);
    let compares = |count| TxnRequest { compare: vec![version_is("a", 1); count], ..TxnRequest::default() };
    check_refused(&compares(128), None);
    check_refused(&compares(129), too_many);
    // What the list around it leaves is what a nested transaction may have.
    let nested = |outer: usize, inner: usize| {
        let mut ops = gets(outer - 1);
        ops.push(txn_op(then(gets(inner))));
        then(ops)
    };
    check_refused(&nested(28, 100), None);
    check_refused(&nested(28, 101), too_many);
    check_refused(&nested(128, 0), None);
}

#[test]
fn depth_is_bounded_by_the_operation_count() {
    let nest = |levels| (0..levels).fold(then(vec![]), |inner, _| then(vec![txn_op(inner)]));
    check_refused(&nest(128), None);
    check_refused(&nest(129), Some(RequestError::TooManyOps));
}

#[test]
fn checks_come_in_order() {
    let bad_compare = TxnRequest { compare: vec![version_is("", 1)], ..then(vec![RequestOp::default()]) };
    check_refused(&bad_compare, Some(RequestError::EmptyKey));
    let bad_op = both(vec![put_op("a", "1"), put_op("a", "2")], vec![RequestOp::default()]);
    check_refused(&bad_op, Some(RequestError::KeyNotFound));
    let many = TxnRequest { compare: vec![version_is("", 1); 129], ..TxnRequest::default() };
    check_refused(&many, Some(RequestError::TooManyOps));
}

#[test]
fn operations_are_checked_as_bare_ones() {
    let check = |request: Request, error| {
        check_refused(&then(vec![op(request.clone())]), Some(error));
        check_refused(&both(vec![], vec![txn_op(both(vec![], vec![op(request)]))]), Some(error));
    };
    check(Request::RequestPut(put_request("", "")), RequestError::EmptyKey);
    let keep_value = PutRequest { ignore_value: true, ..put_request("a", "1") };
    check(Request::RequestPut(keep_value), RequestError::ValueProvided);
    let keep_lease = PutRequest { ignore_lease: true, lease: 1, ..put_request("a", "1") };
    check(Request::RequestPut(keep_lease), RequestError::LeaseProvided);
    check(Request::RequestRange(RangeRequest::default()), RequestError::EmptyKey);
    let sort = RangeRequest { key: "a".into(), sort_target: 5, ..RangeRequest::default() };
    check(Request::RequestRange(sort), RequestError::InvalidSortOption);
    check(Request::RequestDeleteRange(DeleteRangeRequest::default()), RequestError::EmptyKey);
}

#[test]
fn rule_1_two_puts_of_a_key() {
    refused(vec![put_op("a", "1"), put_op("a", "2")]);
    refused(vec![put_op("a", "1"), txn_op(then(vec![put_op("a", "2")]))]);
    refused(vec![txn_op(both(vec![], vec![put_op("a", "2")])), put_op("a", "1")]);
    let deep = txn_op(then(vec![txn_op(then(vec![put_op("a", "2")]))]));
    refused(vec![put_op("a", "1"), deep]);
    accepted(vec![put_op("a", "1"), put_op("b", "2")]);
}

#[test]
fn rule_2_a_put_and_a_delete_of_one_level() {
    for delete in [delete_op("a", ""), delete_op("A", "b"), delete_op("a", "b"), delete_op("a", "a\0")] {
        refused(vec![put_op("a", "1"), delete.clone()]);
        refused(vec![delete, put_op("a", "1")]);
    }
    accepted(vec![put_op("a", "1"), delete_op("b", "c"), delete_op("A", "a"), delete_op("b", "a")]);
}

#[test]
fn rule_3_nested_puts_against_what_came_before() {
    let nested_put = || txn_op(then(vec![put_op("a", "1")]));
    refused(vec![nested_put(), nested_put()]);
    refused(vec![nested_put(), txn_op(both(vec![], vec![put_op("a", "1")]))]);
    refused(vec![nested_put(), delete_op("a", "")]);
    // The two branches of one transaction never both run.
    accepted(vec![txn_op(both(vec![put_op("a", "1")], vec![put_op("a", "2")]))]);
    accepted(vec![txn_op(both(vec![put_op("a", "1")], vec![delete_op("a", "")]))]);
}

#[test]
fn rule_4_nested_deletes_depend_on_the_order() {
    let nested_put = || txn_op(then(vec![put_op("a", "1")]));
    let nested_delete = || txn_op(both(vec![], vec![delete_op("a", "b")]));
    accepted(vec![nested_put(), nested_delete()]);
    refused(vec![nested_delete(), nested_put()]);
    refused(vec![put_op("a", "1"), nested_delete()]);
    refused(vec![nested_delete(), put_op("a", "1")]);
}

#[test]
fn rule_5_deletes_and_reads_may_overlap() {
    accepted(vec![delete_op("a", "c"), delete_op("b", "d"), delete_op("b", "")]);
    accepted(vec![get_op("a", ""), put_op("a", "1"), get_op("a", "\0"), txn_op(then(gets(1)))]);
}

#[test]
fn rule_6_a_delete_without_end_is_not_seen() {
    accepted(vec![delete_op("b", "\0"), put_op("c", "9")]);
    let deleted_first = then(vec![delete_op("b", "\0"), put_op("c", "9"), get_op("a", "\0")]);
    check_txn_trace(deleted_first, "5: del@5[]2 put@5[] get@5[a=1,c=9]");
    let put_first = then(vec![put_op("c", "9"), delete_op("b", "\0"), get_op("a", "\0")]);
    check_txn_trace(put_first, "5: put@5[] del@5[]2 get@5[a=1]");
    // What it deletes cannot be kept by a later put, on any level.
    check_txn_error(then(vec![delete_op("b", "\0"), touch_op("c")]), RequestError::KeyNotFound);
    let nested = then(vec![put_op("x", ""), delete_op("b", "\0"), txn_op(then(vec![touch_op("c")]))]);
    check_txn_error(nested, RequestError::KeyNotFound);
    check_txn_trace(then(vec![touch_op("c"), delete_op("b", "\0")]), "5: put@5[] del@5[]2");
    check_txn_trace(then(vec![delete_op("b", "\0"), touch_op("a")]), "5: del@5[]2 put@5[]");
}

/// Runs a transaction on [`three_keys`], whose revision is 4, and checks its answer.
fn check_txn_trace(request: TxnRequest, expected: &str) {
    check_txn(&request, MAX_OPS).unwrap();
    let mut store = three_keys();
    let view = store.view();
    let applied = txn(&mut store, &request, &lease_exists).unwrap();
    assert_eq!(trace(&applied.response), expected, "{request:?}");
    assert_eq!(applied.changes.is_some(), expected.starts_with("5:"));
    if is_read_only(&request) {
        assert_eq!(read_txn(&view, &request).unwrap(), applied.response);
    }
}

/// Runs a transaction on [`three_keys`] and checks that it fails and changes nothing.
fn check_txn_error(request: TxnRequest, error: RequestError) {
    check_txn(&request, MAX_OPS).unwrap();
    let mut store = three_keys();
    let before: Vec<_> = store.view().live().iter().map(|(key, live)| (key.clone(), live.clone())).collect();
    assert_eq!(txn(&mut store, &request, &lease_exists).unwrap_err(), Error::Request(error), "{request:?}");
    assert_eq!(store.revision(), 4);
    let view = store.view();
    assert!(view.live().iter().eq(before.iter().map(|(key, live)| (key, live))));
}

/// Checks whether a compare holds on [`three_keys`].
fn check_compare(compare: Compare, holds: bool) {
    let request = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
    let response = read_txn(&three_keys().view(), &request).unwrap();
    assert_eq!(response.succeeded, holds, "{request:?}");
}

#[test]
fn compares_of_a_key_that_exists() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let orders = [(Equal, [false, true, false]), (NotEqual, [true, false, true])];
    let strict = [(Greater, [true, false, false]), (Less, [false, false, true])];
    for (result, holds) in orders.into_iter().chain(strict) {
        // The key's field against a constant one below, the same and one above.
        for (difference, holds) in (-1..=1).zip(holds) {
            let check = |target, union| check_compare(compare("b", result, target, union), holds);
            check(Version, TargetUnion::Version(1 + difference));
            check(Create, TargetUnion::CreateRevision(3 + difference));
            check(Mod, TargetUnion::ModRevision(3 + difference));
            check(Lease, TargetUnion::Lease(1 + difference));
            check(Value, TargetUnion::Value(["0", "1", "1\0"][(difference + 1) as usize].into()));
        }
    }
}

#[test]
fn compares_of_a_key_that_does_not_exist() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    check_compare(compare("x", Equal, Version, TargetUnion::Version(0)), true);
    check_compare(compare("x", Less, Create, TargetUnion::CreateRevision(1)), true);
    check_compare(compare("x", Greater, Mod, TargetUnion::ModRevision(0)), false);
    check_compare(compare("x", NotEqual, Lease, TargetUnion::Lease(1)), true);
    for result in [Equal, NotEqual, Greater, Less] {
        for value in ["", "1"] {
            check_compare(compare("x", result, Value, TargetUnion::Value(value.into())), false);
        }
    }
}

#[test]
fn compares_of_an_interval() {
    use CompareResult::{Equal, NotEqual};
    let over = |range_end: &'static str, compare| Compare { range_end: range_end.into(), ..compare };
    let value = |key, result| compare(key, result, CompareTarget::Value, TargetUnion::Value("1".into()));
    let lease = |key, result| compare(key, result, CompareTarget::Lease, TargetUnion::Lease(0));
    check_compare(over("\0", value("a", Equal)), true);
    check_compare(over("\0", lease("a", Equal)), false);
    check_compare(over("b", lease("a", Equal)), true);
    check_compare(over("d", lease("c", Equal)), true);
    check_compare(over("z", value("d", NotEqual)), false);
    check_compare(over("z", lease("d", Equal)), true);
    // An interval that ends before it starts has no keys either.
    check_compare(over("a", value("b", Equal)), false);
    check_compare(over("a", lease("b", Equal)), true);
}

#[test]
fn compares_with_an_odd_constant_or_operator() {
    use CompareResult::{Equal, Greater, NotEqual};
    use CompareTarget::{Value, Version};
    let without = |compare| Compare { target_union: None, ..compare };
    check_compare(without(version_is("a", 1)), false);
    check_compare(without(version_is("x", 1)), true);
    check_compare(without(compare("a", Greater, Value, TargetUnion::Version(0))), true);
    // A constant of another field counts as zero.
    check_compare(compare("a", Equal, Version, TargetUnion::ModRevision(1)), false);
    check_compare(compare("a", Greater, Version, TargetUnion::ModRevision(1)), true);
    check_compare(compare("a", Greater, Value, TargetUnion::Version(7)), true);
    let unknown_result = |key| Compare { result: 9, ..version_is(key, 77) };
    check_compare(unknown_result("a"), true);
    check_compare(unknown_result("x"), true);
    let unknown_target =
        |key, result| Compare { target: 9, ..compare(key, result, Version, TargetUnion::Version(7)) };
    check_compare(unknown_target("a", Equal), true);
    check_compare(unknown_target("x", Equal), true);
    check_compare(unknown_target("a", NotEqual), false);
}

#[test]
fn probe_7_operations_see_those_before_them() {
    let ops = vec![put_op("a", "2"), get_op("a", ""), delete_op("b", "z"), get_op("a", "z")];
    check_txn_trace(then(ops), "5: put@5[] get@5[a=2] del@5[]2 get@5[a=2]");
}

#[test]
fn probe_8_a_missing_value_is_not_even_unequal() {
    let unequal = TargetUnion::Value("1".into());
    let compare = compare("x", CompareResult::NotEqual, CompareTarget::Value, unequal);
    let request = TxnRequest { compare: vec![compare], ..both(gets(1), gets(2)) };
    check_txn_trace(request, "4: get@4[a=1] get@4[a=1]");
}

#[test]
fn probe_9_nested_compares_see_the_state_before() {
    let missing = TxnRequest { compare: vec![version_is("x", 0)], ..both(vec![get_op("x", "")], vec![]) };
    let deep = then(vec![txn_op(missing)]);
    check_txn_trace(then(vec![put_op("x", "7"), txn_op(deep)]), "5: put@5[] then(then(get@5[x=7]))");
}

#[test]
fn header_revisions_follow_the_first_change() {
    let ops =
        vec![get_op("a", ""), delete_op("x", ""), delete_op("a", ""), delete_op("x", ""), get_op("a", "")];
    check_txn_trace(then(ops), "5: get@4[a=1] del@4[]0 del@5[]1 del@5[]0 get@5[]");
    check_txn_trace(then(vec![delete_op("x", "")]), "4: del@4[]0");
    check_txn_trace(then(vec![]), "4: ");
}

#[test]
fn ranges_name_revisions_before_the_transaction() {
    let ops = |revision| then(vec![put_op("a", "2"), get_at_op("a", "\0", revision)]);
    check_txn_trace(ops(0), "5: put@5[] get@5[a=2,b=1,c=1]");
    check_txn_trace(ops(4), "5: put@5[] get@5[a=1,b=1,c=1]");
    check_txn_trace(ops(2), "5: put@5[] get@5[a=1]");
    check_txn_error(ops(5), RequestError::FutureRevision);
    check_txn_trace(ops(-1), "5: put@5[] get@5[a=2,b=1,c=1]");
    check_txn_error(ops(-2), RequestError::Compacted);
    check_txn_trace(then(vec![get_at_op("a", "\0", 3)]), "4: get@4[a=1,b=1]");
    // The branch that is not taken is not checked.
    check_txn_trace(both(gets(1), vec![get_at_op("a", "", 9)]), "4: get@4[a=1]");
}

#[test]
fn compacted_revisions_are_refused_before_any_change() {
    let mut store = three_keys();
    store.compact(3).unwrap();
    let mut at = |revision| {
        let request = then(vec![put_op("a", "2"), get_at_op("a", "\0", revision)]);
        txn(&mut store, &request, &lease_exists).map(|applied| trace(&applied.response))
    };
    assert_eq!(at(2), Err(RequestError::Compacted.into()));
    assert_eq!(at(3).unwrap(), "5: put@5[] get@5[a=1,b=1]");
}

#[test]
fn puts_keep_what_they_are_told_to() {
    let mut store = three_keys();
    let mut run = |request: PutRequest| {
        let applied = put(&mut store, &PutRequest { prev_kv: true, ..request }, &lease_exists)?;
        let changes = applied.changes.unwrap();
        let header = ResponseHeader { revision: changes.main, ..ResponseHeader::default() };
        assert_eq!(applied.response.header, Some(header));
        Ok((applied.response.prev_kv.map(|kv| kv.decode().unwrap()), applied.lease_moves))
    };
    let moved = |from, to| vec![LeaseMove { key: "b".into(), from: LeaseId(from), to: LeaseId(to) }];
    let (before, moves) = run(PutRequest { ignore_lease: true, ..put_request("b", "2") }).unwrap();
    assert_eq!(before.map(|kv| (kv.value, kv.lease, kv.version)), Some(("1".into(), 1, 1)));
    assert_eq!(moves, vec![]);
    let (before, moves) = run(PutRequest { ignore_value: true, lease: 2, ..put_request("b", "") }).unwrap();
    assert_eq!(before.map(|kv| (kv.value, kv.lease, kv.version)), Some(("2".into(), 1, 2)));
    assert_eq!(moves, moved(1, 2));
    let (before, moves) = run(put_request("b", "3")).unwrap();
    assert_eq!(before.map(|kv| (kv.value, kv.lease, kv.version)), Some(("2".into(), 2, 3)));
    assert_eq!(moves, moved(2, 0));
    let missing = PutRequest { ignore_lease: true, ..put_request("x", "") };
    assert_eq!(run(missing), Err(Error::Request(RequestError::KeyNotFound)));
    // The lease is looked at first.
    let nothing_there = PutRequest { ignore_value: true, lease: 9, ..put_request("x", "") };
    assert_eq!(run(nothing_there), Err(Error::Request(RequestError::LeaseNotFound)));
}

#[test]
fn deletes_tell_what_they_deleted() {
    let mut store = three_keys();
    let request = DeleteRangeRequest { key: "a".into(), range_end: "c".into(), prev_kv: true };
    let applied = delete_range(&mut store, &request).unwrap();
    assert_eq!(applied.response.deleted, 2);
    assert_eq!(applied.response.header.unwrap().revision, 5);
    let before: Vec<_> = applied.response.prev_kvs.iter().map(|kv| kv.decode().unwrap().key).collect();
    assert_eq!(before, ["a", "b"]);
    let moved = LeaseMove { key: "b".into(), from: LeaseId(1), to: LeaseId(0) };
    assert_eq!(applied.lease_moves, vec![moved]);
    let again = delete_range(&mut store, &request).unwrap();
    assert_eq!((again.response.deleted, again.response.header.unwrap().revision), (0, 5));
    assert!(again.changes.is_none() && again.response.prev_kvs.is_empty());
}

#[test]
fn an_unknown_lease_stops_a_transaction_before_its_first_change() {
    let unknown = op(Request::RequestPut(PutRequest { lease: 9, ..put_request("b", "2") }));
    check_txn_error(then(vec![put_op("a", "2"), unknown]), RequestError::LeaseNotFound);
}

#[test]
fn what_counts_as_reading_only() {
    let serializable = |serializable| {
        let range = RangeRequest { key: "a".into(), serializable, ..RangeRequest::default() };
        op(Request::RequestRange(range))
    };
    let check = |request: TxnRequest, read_only, local| {
        assert_eq!((is_read_only(&request), is_serializable(&request)), (read_only, local), "{request:?}");
    };
    check(then(vec![]), true, true);
    check(both(vec![serializable(true)], vec![serializable(true)]), true, true);
    check(both(vec![serializable(true)], vec![serializable(false)]), true, false);
    check(then(vec![serializable(true), put_op("a", "")]), false, false);
    check(both(vec![], vec![txn_op(then(vec![serializable(true)]))]), false, false);
}

#[test]
fn a_range_without_keys_is_no_error() {
    let store = three_keys();
    let request = RangeRequest { key: "b".into(), range_end: "a".into(), ..RangeRequest::default() };
    let response = range(&store.view(), &request).unwrap();
    assert_eq!((response.count, response.kvs.len(), response.header.unwrap().revision), (0, 0, 4));
    let future = RangeRequest { revision: 5, ..request };
    assert_eq!(range(&store.view(), &future), Err(RequestError::FutureRevision.into()));
}
