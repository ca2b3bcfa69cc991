//! What is in memory and what in the database, and what a database can do wrong.

use bytes::Bytes;

use super::{TINY, check, delete, empty_store, flush, put_each, restore, write};
use crate::mvcc::live::resident_cost;
use crate::mvcc::testing::MemoryBackend;
use crate::mvcc::{Store, StoreConfig};
use crate::proto::{EncodedKeyValue, KeyValue};
use crate::types::backend::{StoredRecord, Table};
use crate::types::{Error, LeaseId, Revision};

fn put_large(store: &mut Store, key: String) {
    write(store, |txn| drop(txn.put(key.into(), vec![1; 1000].into(), 0)));
}

#[test]
fn values_stay_in_memory_until_the_database_has_them() {
    let mut backend = MemoryBackend::default();
    let mut store = restore(
        &backend,
        StoreConfig { value_cache_bytes: 5_000, recent_bytes: 0, ..StoreConfig::default() },
    );
    for number in 0..50 {
        put_large(&mut store, format!("k{number:02}"));
    }
    assert!(store.cache.bytes() > 50_000);
    flush(&mut store, &mut backend);
    assert!(store.view().recent.is_empty());
    assert!(store.cache.bytes() <= 5_000, "{} bytes", store.cache.bytes());
    assert_eq!(store.view().live_record(store.view().get(b"k07").unwrap()).unwrap().as_bytes().len(), 1014);
}

#[test]
fn a_value_that_is_read_is_spared_once() {
    let mut backend = MemoryBackend::default();
    let mut store = restore(
        &backend,
        StoreConfig { value_cache_bytes: 5_000, recent_bytes: 0, ..StoreConfig::default() },
    );
    let resident = |store: &Store, key: &str| store.view().get(key.as_bytes()).unwrap().resident.is_some();
    for number in 0..9 {
        put_large(&mut store, format!("k{number}"));
    }
    flush(&mut store, &mut backend);
    let mut stayed: Vec<_> = (0..9).map(|n| format!("k{n}")).filter(|key| resident(&store, key)).collect();
    assert_eq!(stayed.len(), 4);
    let unused = stayed.remove(1);
    for key in &stayed {
        store.view().live_record(store.view().get(key.as_bytes()).unwrap()).unwrap();
    }
    put_large(&mut store, "k9".to_owned());
    stayed.push("k9".to_owned());
    assert!(stayed.iter().all(|key| resident(&store, key)) && !resident(&store, &unused));
}

#[test]
fn deleted_and_overwritten_values_leave_the_cache() {
    let mut store = empty_store();
    put_each(&mut store, &["a", "b", "a"]);
    let cost = |key: &[u8]| resident_cost(store.view().get(key).unwrap().encoded_len as usize);
    assert_eq!(store.cache.bytes(), cost(b"a") + cost(b"b"));
    write(&mut store, |txn| delete(txn, "a"));
    write(&mut store, |txn| delete(txn, "b"));
    assert_eq!(store.cache.bytes(), 0);
}

#[test]
fn a_view_outlives_what_the_store_goes_on_to_do() {
    let mut backend = MemoryBackend::default();
    let mut store = restore(&backend, TINY);
    put_each(&mut store, &["a", "b"]);
    let view = store.view();
    flush(&mut store, &mut backend);
    write(&mut store, |txn| delete(txn, "a"));
    store.compact(4).unwrap();
    store.compaction_step(99);
    flush(&mut store, &mut backend);
    assert_eq!(super::dump(&view, 2), "a=v 2/2/1");
    assert_eq!(super::dump(&view, 3), "a=v 2/2/1, b=v 3/3/1");
    assert_eq!(view.changes(2, 9, 9999).unwrap().len(), 2);
    check(&store, 4, "b=v 3/3/1");
}

#[test]
fn a_restore_tells_which_keys_have_a_lease() {
    let (mut store, mut backend) = (empty_store(), MemoryBackend::default());
    for (key, lease) in [("c", 5), ("a", -7), ("b", 5), ("b", 0), ("d", 9)] {
        write(&mut store, |txn| drop(txn.put(key.into(), Bytes::new(), lease)));
    }
    write(&mut store, |txn| delete(txn, "d"));
    flush(&mut store, &mut backend);
    let (_, attached) = Store::restore(backend.snapshot(), TINY).unwrap();
    assert_eq!(attached, [("a".into(), LeaseId(-7)), ("c".into(), LeaseId(5))]);
}

/// `etcdutl snapshot restore --bump-revision` leaves a record without bytes.
#[test]
fn a_record_without_a_key_only_moves_the_revision() {
    let (mut store, mut backend) = (empty_store(), MemoryBackend::default());
    put_each(&mut store, &["a"]);
    flush(&mut store, &mut backend);
    let nothing = StoredRecord { tombstone: false, record: EncodedKeyValue::default() };
    backend.records.insert(Revision::new(100, 0), nothing);
    let mut store = restore(&backend, TINY);
    assert_eq!(store.revision(), 100);
    put_each(&mut store, &["b"]);
    check(&store, 101, "a=v 2/2/1, b=v 101/101/1");
    let mains: Vec<_> =
        store.view().changes(0, 9, 9999).unwrap().iter().map(|changes| changes.main).collect();
    assert_eq!(mains, [2, 101]);
    store.compact(101).unwrap();
    assert!(store.view().hash(0).unwrap().step(9).unwrap().is_some());
}

#[test]
fn changes_come_in_pages_of_whole_revisions() {
    let (mut store, mut backend) = (empty_store(), MemoryBackend::default());
    put_each(&mut store, &["a", "a", "b"]);
    flush(&mut store, &mut backend);
    let mut store = restore(&backend, TINY);
    put_each(&mut store, &["c", "a"]);
    let view = store.view();
    let mains = |from, revisions, bytes| {
        let page = view.changes(from, revisions, bytes).unwrap();
        page.iter().map(|changes| changes.main).collect::<Vec<_>>()
    };
    assert_eq!(mains(0, 99, 99_999), [2, 3, 4, 5, 6]);
    assert_eq!(mains(3, 2, 99_999), [3, 4]);
    assert_eq!(mains(4, 2, 99_999), [4, 5]);
    assert_eq!(mains(3, 99, 1), [3]);
    assert_eq!(mains(3, 0, 0), [3]);
    assert_eq!(mains(6, 99, 99_999), [6]);
    assert_eq!(mains(7, 99, 99_999), [0; 0]);
}

#[test]
fn a_revision_of_many_pages_is_given_whole() {
    let (mut store, mut backend) = (empty_store(), MemoryBackend::default());
    write(&mut store, |txn| {
        for number in 0..300 {
            txn.put(format!("k{number:03}").into(), Bytes::new(), 0);
        }
    });
    put_each(&mut store, &["k007"]);
    let hash = |store: &Store, records| {
        let mut job = store.view().hash(0).unwrap();
        let mut steps = 1;
        while steps < 1000 {
            if let Some(hash) = job.step(records).unwrap() {
                return (hash, steps);
            }
            steps += 1;
        }
        panic!("a hash without an end");
    };
    let (expected, _) = hash(&store, 1000);
    assert_eq!(hash(&store, 7), (expected, 44), "from memory");
    flush(&mut store, &mut backend);
    let restarted = restore(&backend, TINY);
    assert_eq!(hash(&restarted, 7), (expected, 44), "from the database");

    let changes = restarted.view().changes(2, 1, 1).unwrap();
    let keys: Vec<_> =
        changes.iter().flat_map(|revision| &revision.changes).map(|change| change.key.clone()).collect();
    assert_eq!(keys, restarted.view().live().iter().map(|(key, _)| key.to_bytes()).collect::<Vec<_>>());
}

fn check_fault(backend: &MemoryBackend, expected: &str) {
    let fault = Store::restore(backend.snapshot(), TINY).err().expect("a fault").to_string();
    assert!(fault.contains(expected), "{fault}");
}

#[test]
fn a_damaged_database_is_a_fault() {
    let mut backend = MemoryBackend::default();
    let record = EncodedKeyValue::from_bytes(Bytes::from_static(&[0x0a, 99, 1]));
    backend.records.insert(Revision::new(2, 0), StoredRecord { tombstone: false, record });
    check_fault(&backend, "the record of revision 2/0 in the database is no key-value");

    let kv = KeyValue { key: "a".into(), mod_revision: 3, ..KeyValue::default() };
    backend.records.insert(Revision::new(2, 0), StoredRecord { tombstone: false, record: kv.into() });
    check_fault(&backend, "the record of revision 2/0 in the database says that it is of revision 3");

    backend.records.clear();
    backend.rows.insert((Table::Meta, "finishedCompactRev".into()), "7".into());
    check_fault(&backend, "row finishedCompactRev of the database is no revision: [37]");
}

#[test]
fn a_lost_record_is_a_fault_and_no_answer() {
    let (mut store, mut backend) = (empty_store(), MemoryBackend::default());
    put_each(&mut store, &["a"]);
    flush(&mut store, &mut backend);
    let mut store = restore(&backend, TINY);
    backend.records.clear();
    store.batch_committed(backend.snapshot(), 2);
    let view = store.view();
    let fault = view.live_record(view.get(b"a").unwrap()).unwrap_err();
    assert!(fault.to_string().contains("lost the record of revision 2/0"), "{fault}");
    assert!(matches!(Error::from(fault), Error::Local(_)));
}
