//! Tests of the store: rules one by one here, everything against a model in `property`.

mod compaction;
mod model;
mod property;
mod storage;

use bytes::Bytes;

use super::testing::MemoryBackend;
use super::{Store, StoreConfig, View, WriteTxn};
use crate::proto::KeyValue;
use crate::types::change::Previous;
use crate::types::{KeyRange, RequestError, Revision};

/// Budgets that keep nothing in memory that need not be.
const TINY: StoreConfig = StoreConfig { value_cache_bytes: 0, recent_bytes: 0, page_records: 2 };

fn empty_store() -> Store {
    restore(&MemoryBackend::default(), StoreConfig::default())
}

fn restore(backend: &MemoryBackend, config: StoreConfig) -> Store {
    Store::restore(backend.snapshot(), config).unwrap().0
}

/// Gives the database all that it does not have yet.
fn flush(store: &mut Store, backend: &mut MemoryBackend) {
    backend.commit(store.take_batch());
    store.batch_committed(backend.snapshot(), store.revision());
}

/// Runs one transaction and gives the revision after it.
fn write(store: &mut Store, change: impl FnOnce(&mut WriteTxn<'_>)) -> i64 {
    let mut txn = store.write();
    change(&mut txn);
    txn.finish();
    store.revision()
}

fn put(txn: &mut WriteTxn<'_>, key: &'static str, value: &'static str) {
    txn.put(key.into(), value.into(), 0);
}

fn delete(txn: &mut WriteTxn<'_>, key: &'static str) {
    txn.delete_range(&KeyRange::single(key));
}

/// Puts each of `keys` in a transaction of its own.
fn put_each(store: &mut Store, keys: &[&'static str]) {
    for key in keys {
        write(store, |txn| put(txn, key, "v"));
    }
}

/// All keys at `revision`, each as `key=value create/mod/version`.
fn dump(view: &View, revision: i64) -> String {
    let lines = view.keys_at(&KeyRange::all(), revision).map(|at| {
        let kv = view.record_at(&at).unwrap().decode().unwrap();
        assert_eq!(
            (&kv.key[..], kv.create_revision, kv.version),
            (&at.key[..], at.create_revision, at.version)
        );
        assert_eq!(kv.mod_revision, at.modified.main);
        format!(
            "{}={} {}/{}/{}",
            String::from_utf8_lossy(&kv.key),
            String::from_utf8_lossy(&kv.value),
            kv.create_revision,
            kv.mod_revision,
            kv.version
        )
    });
    lines.collect::<Vec<_>>().join(", ")
}

fn check(store: &Store, revision: i64, expected: &str) {
    assert_eq!(dump(&store.view(), revision), expected, "at revision {revision}");
}

#[test]
fn an_empty_store_is_at_revision_one() {
    let store = empty_store();
    assert_eq!((store.revision(), store.compact_revision()), (1, -1));
    check(&store, 1, "");
}

#[test]
fn the_revision_moves_once_for_a_transaction_that_changes_something() {
    let mut store = empty_store();
    assert_eq!(write(&mut store, |txn| put(txn, "a", "1")), 2);
    assert_eq!(write(&mut store, |txn| put(txn, "a", "1")), 3, "the same value again");
    assert_eq!(write(&mut store, |txn| delete(txn, "none")), 3);
    assert_eq!(write(&mut store, |_| {}), 3);
    let two_puts = write(&mut store, |txn| {
        assert!(!txn.has_changes() && txn.view().revision() == 3);
        put(txn, "b", "2");
        put(txn, "c", "3");
        assert!(txn.has_changes() && txn.view().revision() == 4 && txn.begin_revision() == 3);
    });
    assert_eq!(two_puts, 4);
    check(&store, 4, "a=1 2/3/2, b=2 4/4/1, c=3 4/4/1");

    let mut txn = store.write();
    let deleted = txn.delete_range(&KeyRange::prefix(""));
    assert_eq!(deleted.iter().map(|deleted| &deleted.key[..]).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    let changes = txn.finish().unwrap();
    let revisions: Vec<_> = changes.changes.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, [Revision::new(5, 0), Revision::new(5, 1), Revision::new(5, 2)]);
    assert!(store.write().finish().is_none());
}

#[test]
fn a_put_after_a_delete_begins_a_generation() {
    let mut store = empty_store();
    put_each(&mut store, &["a", "a"]);
    write(&mut store, |txn| delete(txn, "a"));
    put_each(&mut store, &["b", "a"]);
    check(&store, 2, "a=v 2/2/1");
    check(&store, 3, "a=v 2/3/2");
    check(&store, 4, "");
    check(&store, 5, "b=v 5/5/1");
    check(&store, 6, "a=v 6/6/1, b=v 5/5/1");
}

#[test]
fn reads_are_refused_above_the_current_revision_and_below_the_compacted_one() {
    let mut store = empty_store();
    put_each(&mut store, &["a", "a", "a", "a"]);
    store.compact(3).unwrap();
    let view = store.view();
    for (requested, expected) in [
        (-1, Ok(5)),
        (0, Ok(5)),
        (2, Err(RequestError::Compacted)),
        (3, Ok(3)),
        (5, Ok(5)),
        (6, Err(RequestError::FutureRevision)),
    ] {
        assert_eq!(view.check_revision(requested), expected, "revision {requested}");
    }
}

#[test]
fn a_put_tells_what_it_replaced() {
    let mut store = empty_store();
    let mut txn = store.write();
    assert_eq!(txn.put("a".into(), "1".into(), 7).previous, None);
    let outcome = txn.put("a".into(), "2".into(), 0);
    let previous = outcome.previous.unwrap();
    assert_eq!((previous.version, previous.lease), (1, 7));
    assert_eq!(txn.record(&previous).unwrap().decode().unwrap().value, "1");
    assert_eq!(txn.view().get(b"a").unwrap().version, 2);
    let deleted = txn.delete_range(&KeyRange::single("a"));
    assert_eq!(txn.record(&deleted[0].previous).unwrap(), outcome.record);
}

/// What watchers see of a key that changes twice in one revision is what etcd looks up: the state before
/// the whole transaction, and for a generation that began in it nothing.
#[test]
fn changes_of_one_revision_all_replace_the_state_before_it() {
    let mut store = empty_store();
    put_each(&mut store, &["a"]);
    let before = store.view().live_record(store.view().get(b"a").unwrap()).unwrap();
    let mut txn = store.write();
    put(&mut txn, "a", "1");
    put(&mut txn, "a", "2");
    delete(&mut txn, "a");
    put(&mut txn, "a", "3");
    put(&mut txn, "b", "1");
    delete(&mut txn, "b");
    let changes = txn.finish().unwrap();
    let known = Previous::Known(before.clone());
    let at = Previous::At(Revision::new(2, 0));
    let expected = [known, at.clone(), at, Previous::None, Previous::None, Previous::None];
    let previous: Vec<_> = changes.changes.iter().map(|change| change.previous.clone()).collect();
    assert_eq!(previous, expected);
    let view = store.view();
    for change in &changes.changes[..3] {
        assert_eq!(view.previous_record(change).unwrap(), Some(before.clone()), "{change:?}");
    }
    check(&store, 3, "a=3 3/3/1");
    check(&store, 2, "a=v 2/2/1");
}

#[test]
fn a_past_read_of_keys_with_long_histories_finds_each_once() {
    let mut store = empty_store();
    for _ in 0..40 {
        put_each(&mut store, &["a", "b", "d"]);
    }
    write(&mut store, |txn| delete(txn, "b"));
    put_each(&mut store, &["c"]);
    check(&store, 4, "a=v 2/2/1, b=v 3/3/1, d=v 4/4/1");
    check(&store, 119, "a=v 2/119/40, b=v 3/117/39, d=v 4/118/39");
    let view = store.view();
    let range = KeyRange::from_wire("b".into(), "d".into());
    assert_eq!(view.keys_at(&range, 119).map(|at| at.modified.main).collect::<Vec<_>>(), [117]);
    assert_eq!(view.keys_at(&KeyRange::single("b"), 119).count(), 1);
    assert_eq!(view.keys_at(&KeyRange::from_wire("d".into(), "b".into()), 119).count(), 0);
    assert_eq!(view.key_at(b"c", 119).map(|at| at.modified), None);
}

#[test]
fn the_index_weighs_what_a_response_will_hold() {
    use prost::Message;
    let mut store = empty_store();
    write(&mut store, |txn| {
        txn.put("a".into(), vec![0; 300].into(), -1);
        txn.put("b".into(), Bytes::new(), 0);
    });
    let view = store.view();
    let kvs = view.live().iter().map(|(_, live)| view.live_record(live).unwrap()).collect();
    let response = crate::proto::etcdserverpb::RangeResponse { kvs, ..Default::default() };
    assert_eq!(view.live().total_weight(), response.encoded_len() as u64);
    let first: KeyValue = response.kvs[0].decode().unwrap();
    assert_eq!((first.lease, first.value.len()), (-1, 300));
}

#[test]
#[should_panic(expected = "never finished")]
fn a_transaction_that_was_dropped_half_way_is_noticed() {
    let mut store = empty_store();
    put(&mut store.write(), "a", "1");
    store.write();
}
