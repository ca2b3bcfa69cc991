use std::cmp::Ordering;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::mvcc::testing::MemoryBackend;
use crate::mvcc::{Store, StoreConfig};
use crate::proto::etcdserverpb::RangeResponse;

/// A store, what its keys were at every revision, and its database.
struct Fixture {
    store: Store,
    backend: MemoryBackend,
    past: Vec<BTreeMap<Bytes, KeyValue>>,
}

impl Fixture {
    fn new() -> Self {
        let backend = MemoryBackend::default();
        // Hardly any memory, so that most values are read from the database once they are there.
        let config = StoreConfig { value_cache_bytes: 40, recent_bytes: 1, page_records: 3 };
        let (store, _) = Store::restore(backend.snapshot(), config).unwrap();
        Self { store, backend, past: vec![BTreeMap::new(); 2] }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: i64) {
        let mut write = self.store.write();
        write.put(key.clone(), value.clone(), lease);
        write.finish();
        let mut now = self.past.last().unwrap().clone();
        let revision = self.past.len() as i64;
        let (create_revision, version) =
            now.get(key).map_or((revision, 1), |kv| (kv.create_revision, kv.version + 1));
        let kv = KeyValue {
            key: key.clone(),
            create_revision,
            mod_revision: revision,
            version,
            value: value.clone(),
            lease,
        };
        now.insert(key.clone(), kv);
        self.past.push(now);
    }

    fn delete(&mut self, range: &KeyRange) {
        let mut write = self.store.write();
        write.delete_range(range);
        if write.finish().is_some() {
            let mut now = self.past.last().unwrap().clone();
            now.retain(|key, _| !range.contains(key));
            self.past.push(now);
        }
    }

    fn flush(&mut self) {
        self.backend.commit(self.store.take_batch());
        self.store.batch_committed(self.backend.snapshot(), self.store.revision());
    }

    /// Keys `a` to `e`, put in the order c a e b d at revisions 2 to 6, then `a` again at 7.
    fn five_keys() -> Self {
        let mut fixture = Self::new();
        for key in ["c", "a", "e", "b", "d", "a"] {
            let value = format!("value {}", fixture.past.len());
            fixture.put(&key.into(), &value.into(), 0);
        }
        fixture
    }
}

/// The answer as the specification words it, from the keys that were alive.
fn expected(alive: &BTreeMap<Bytes, KeyValue>, query: &RangeQuery) -> RangeResult {
    let mut kvs: Vec<&KeyValue> = alive.values().filter(|kv| query.range.contains(&kv.key)).collect();
    let count = kvs.len() as i64;
    if query.count_only {
        return RangeResult { count, ..RangeResult::default() };
    }
    let limit = if query.limit > 0 { query.limit as usize } else { usize::MAX - 1 };
    let filters = [
        query.min_mod_revision,
        query.max_mod_revision,
        query.min_create_revision,
        query.max_create_revision,
    ];
    if query.sort_order == SortOrder::None && filters == [0; 4] {
        kvs.truncate(limit + 1);
    }
    kvs.retain(|kv| {
        (query.min_mod_revision == 0 || kv.mod_revision >= query.min_mod_revision)
            && (query.max_mod_revision == 0 || kv.mod_revision <= query.max_mod_revision)
            && (query.min_create_revision == 0 || kv.create_revision >= query.min_create_revision)
            && (query.max_create_revision == 0 || kv.create_revision <= query.max_create_revision)
    });
    let order = |a: &KeyValue, b: &KeyValue| -> Ordering {
        match query.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    };
    match query.sort_order {
        SortOrder::Descend => kvs.sort_by(|a, b| order(b, a)),
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(|a, b| order(a, b)),
    }
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    let kvs = kvs.into_iter().map(|kv| {
        let mut kv = kv.clone();
        if query.keys_only {
            kv.value = Bytes::new();
            if query.sort_target != SortTarget::Value {
                kv.lease = 0;
            }
        }
        kv.into()
    });
    RangeResult { kvs: kvs.collect(), more, count }
}

fn check_query(fixture: &Fixture, query: &RangeQuery) {
    let view = fixture.store.view();
    let revision = match view.check_revision(query.revision) {
        Ok(revision) => revision,
        Err(error) => {
            assert_eq!(range(&view, query), Err(error.into()));
            return;
        }
    };
    let expected = expected(&fixture.past[revision as usize], query);
    assert_eq!(range(&view, query).unwrap(), expected, "{query:?}");
    if let Some(scan) = RangeScan::new(view, query).unwrap() {
        check_scan(scan, &expected);
    }
}

/// Checks that a scan, run twice in different ways, gives `expected`.
fn check_scan(mut scan: RangeScan, expected: &RangeResult) {
    assert_eq!((scan.count(), scan.more()), (expected.count, expected.more));
    let whole = RangeResponse { kvs: expected.kvs.clone(), ..RangeResponse::default() }.encode_to_vec();
    assert_eq!(scan.total_len(), whole.len() as u64);
    let (from, view) = (scan.next, scan.view().clone());

    let mut out = BytesMut::new();
    loop {
        let before = out.len();
        let going_on = scan.next_chunk(30, &mut out).unwrap();
        assert_eq!(going_on, scan.remaining() > 0);
        assert!(out.len() > before || whole.is_empty(), "a chunk without an entry");
        if !going_on {
            break;
        }
    }
    assert_eq!(out, whole);

    let mut again = RangeScan { next: from, emitted: 0, view, ..scan };
    let mut kvs = Vec::new();
    while again.remaining() > 0 {
        let records = again.next_records(2).unwrap();
        assert!((1..=2).contains(&records.len()));
        kvs.extend(records);
    }
    assert_eq!(kvs, expected.kvs);
    assert!(again.next_records(2).unwrap().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Put(Bytes, Bytes, i64),
    Delete(KeyRange),
    Flush,
}

fn key() -> impl Strategy<Value = Bytes> {
    vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'c'), Just(0)], 1..3).prop_map(Bytes::from)
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    let end = prop_oneof![
        2 => Just(Bytes::new()),
        2 => Just(Bytes::from_static(b"\0")),
        3 => key(),
        2 => Just(Bytes::from_static(b"zz")),
    ];
    (key(), end).prop_map(|(key, end)| KeyRange::from_wire(key, end))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (key(), vec(b'x'..b'z', 0..12), 0..3i64)
            .prop_map(|(key, value, lease)| Step::Put(key, value.into(), lease)),
        1 => key_range().prop_map(Step::Delete),
        1 => Just(Step::Flush),
    ]
}

fn filter() -> impl Strategy<Value = i64> {
    prop_oneof![9 => Just(0), 1 => 1..40i64]
}

fn query() -> impl Strategy<Value = RangeQuery> {
    (
        key_range(),
        prop_oneof![Just(-1), Just(0), 1..6i64],
        prop_oneof![3 => Just(0), 3 => -1..40i64],
        (0..3i32, prop_oneof![Just(0), 0..5i32]),
        (prop::bool::weighted(0.2), prop::bool::weighted(0.1)),
        (filter(), filter(), filter(), filter()),
    )
        .prop_map(|(range, limit, revision, (order, target), (keys_only, count_only), filters)| {
            RangeQuery {
                limit,
                revision,
                sort_order: SortOrder::try_from(order).unwrap(),
                sort_target: SortTarget::try_from(target).unwrap(),
                keys_only,
                count_only,
                min_mod_revision: filters.0,
                max_mod_revision: filters.1,
                min_create_revision: filters.2,
                max_create_revision: filters.3,
                ..RangeQuery::new(range)
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_are_those_of_the_specification(
        steps in vec(step(), 0..40),
        compact in prop::option::of(0..40i64),
        queries in vec(query(), 30),
    ) {
        let mut fixture = Fixture::new();
        for step in steps {
            match step {
                Step::Put(key, value, lease) => fixture.put(&key, &value, lease),
                Step::Delete(range) => fixture.delete(&range),
                Step::Flush => fixture.flush(),
            }
        }
        if let Some(revision) = compact {
            let _ = fixture.store.compact(revision.min(fixture.store.revision()));
        }
        for query in queries {
            check_query(&fixture, &query);
        }
    }
}

/// Checks which of the five keys come, in which order; a final `+` stands for `more`.
fn check_keys(change: impl FnOnce(&mut RangeQuery), keys: &str) {
    let fixture = Fixture::five_keys();
    let mut query = RangeQuery::new(KeyRange::all());
    change(&mut query);
    let result = range(&fixture.store.view(), &query).unwrap();
    let mut found: Vec<u8> =
        result.kvs.iter().flat_map(|record| record.decode().unwrap().key.to_vec()).collect();
    if result.more {
        found.push(b'+');
    }
    assert_eq!(String::from_utf8(found).unwrap(), keys, "{query:?}");
    assert_eq!(result.count, 5, "{query:?}");
}

#[test]
fn limit_and_filters_leave_the_count_alone() {
    check_keys(|query| query.limit = 2, "ab+");
    check_keys(|query| query.limit = 5, "abcde");
    check_keys(|query| (query.limit, query.min_mod_revision) = (2, 4), "ab+");
    check_keys(|query| query.max_mod_revision = 4, "ce");
    check_keys(|query| query.count_only = true, "");
}

#[test]
fn an_explicit_order_is_cut_after_the_sort() {
    let sorted = |order, target, limit| {
        move |query: &mut RangeQuery| {
            (query.sort_order, query.sort_target, query.limit) = (order, target, limit);
        }
    };
    check_keys(sorted(SortOrder::Descend, SortTarget::Key, 2), "ed+");
    check_keys(sorted(SortOrder::Ascend, SortTarget::Mod, 0), "cebda");
    check_keys(sorted(SortOrder::Descend, SortTarget::Mod, 2), "ad+");
    check_keys(sorted(SortOrder::Descend, SortTarget::Version, 1), "a+");
    check_keys(sorted(SortOrder::Ascend, SortTarget::Create, 2), "ca+");
    check_keys(sorted(SortOrder::Ascend, SortTarget::Value, 2), "ce+");
}

#[test]
fn without_an_order_the_limit_comes_before_the_sort() {
    // a, b and the one further key c are sorted by modification (c 2, b 5, a 7), then cut.
    let limited = |query: &mut RangeQuery| (query.sort_target, query.limit) = (SortTarget::Mod, 2);
    check_keys(limited, "cb+");
    check_keys(|query| query.sort_target = SortTarget::Mod, "cebda");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let check = |request: RangeRequest, unary: Option<RequestError>, stream: Option<RequestError>| {
        assert_eq!(RangeQuery::from_request(&request).err(), unary, "{request:?}");
        assert_eq!(RangeQuery::from_stream_request(&request).err(), stream, "{request:?}");
    };
    let ok = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    check(ok.clone(), None, None);
    let empty = RangeRequest { key: "".into(), sort_order: 9, ..ok.clone() };
    check(empty, Some(RequestError::EmptyKey), Some(RequestError::EmptyKey));
    let invalid = Some(RequestError::InvalidSortOption);
    check(RangeRequest { sort_order: 3, ..ok.clone() }, invalid, invalid);
    check(RangeRequest { sort_target: -1, ..ok.clone() }, invalid, invalid);
    let sorted = RangeRequest { sort_order: 2, min_mod_revision: 1, ..ok.clone() };
    check(sorted, None, Some(RequestError::RangeStreamSort));
    let filtered = RangeRequest { max_create_revision: 1, sort_order: 1, ..ok.clone() };
    check(filtered, None, Some(RequestError::RangeStreamFilter));
    check(RangeRequest { sort_target: 3, ..ok }, None, None);
}

#[test]
fn a_scan_sees_one_moment() {
    let mut fixture = Fixture::five_keys();
    let query = RangeQuery { limit: 4, ..RangeQuery::new(KeyRange::all()) };
    let expected = expected(&fixture.past[7], &query);
    let scan = RangeScan::new(fixture.store.view(), &query).unwrap().unwrap();
    fixture.delete(&KeyRange::all());
    fixture.flush();
    fixture.store.compact(8).unwrap();
    check_scan(scan, &expected);
}
