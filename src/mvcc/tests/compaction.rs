//! What compaction keeps, and that a crash in its middle does not matter.

use bytes::Bytes;

use super::{TINY, check, delete, empty_store, flush, put, put_each, restore, write};
use crate::mvcc::testing::MemoryBackend;
use crate::mvcc::{CompactionProgress, Store, StoreConfig};
use crate::types::backend::Table;
use crate::types::{Error, RequestError, Revision};

/// Removes all that the compactions so far make unreadable.
fn compact_fully(store: &mut Store) {
    while store.compaction_step(2) != CompactionProgress::Idle {}
}

/// The history drawn in `compaction.rs`, with one key that fills the gaps.
fn drawn_history() -> Store {
    let mut store = empty_store();
    put_each(&mut store, &["k", "x", "x", "k", "x"]);
    write(&mut store, |txn| delete(txn, "k"));
    put_each(&mut store, &["x", "k", "x", "x", "k"]);
    store
}

/// The main revisions of `k` that are in the database after a compaction at `revision`.
fn check_kept(revision: i64, expected: &[i64]) {
    let (mut store, mut backend) = (drawn_history(), MemoryBackend::default());
    store.compact(revision).unwrap();
    compact_fully(&mut store);
    flush(&mut store, &mut backend);
    let of_key = |(revision, stored): (&Revision, &crate::types::backend::StoredRecord)| {
        (stored.record.decode().unwrap().key == "k").then_some(revision.main)
    };
    let kept: Vec<_> = backend.records.iter().filter_map(of_key).collect();
    assert_eq!(kept, expected, "compacted at {revision}");
}

#[test]
fn what_a_key_was_at_the_compaction_revision_is_kept() {
    check_kept(2, &[2, 5, 7, 9, 12]);
    check_kept(5, &[5, 7, 9, 12]);
    check_kept(6, &[5, 7, 9, 12]);
    check_kept(7, &[7, 9, 12]);
    check_kept(8, &[9, 12]);
    check_kept(9, &[9, 12]);
    check_kept(11, &[9, 12]);
    check_kept(12, &[12]);
}

#[test]
fn the_compaction_revision_itself_stays_whole() {
    let (mut store, mut backend) = (empty_store(), MemoryBackend::default());
    put_each(&mut store, &["a", "b"]);
    write(&mut store, |txn| {
        put(txn, "a", "1");
        delete(txn, "a");
        delete(txn, "b");
        put(txn, "b", "2");
    });
    let before = store.view().changes(4, 9, 9999).unwrap();
    store.compact(4).unwrap();
    compact_fully(&mut store);
    flush(&mut store, &mut backend);
    let after = restore(&backend, TINY).view().changes(4, 9, 9999).unwrap();
    let seen = |revisions: &[std::sync::Arc<crate::types::change::RevisionChanges>]| {
        let changes = revisions.iter().flat_map(|revision| &revision.changes);
        changes.map(|change| (change.revision, change.kind.clone())).collect::<Vec<_>>()
    };
    assert_eq!(seen(&before), seen(&after));
    assert_eq!(seen(&before).len(), 4);
}

#[test]
fn a_compaction_must_lie_between_the_last_one_and_the_present() {
    let mut store = empty_store();
    assert_eq!(store.compact(0), Err(RequestError::Compacted));
    assert_eq!(store.compact(-1), Err(RequestError::Compacted));
    put_each(&mut store, &["a", "a"]);
    assert_eq!(store.compact(4), Err(RequestError::FutureRevision));
    assert_eq!(store.compact(3), Ok(()));
    assert_eq!(store.compact(3), Err(RequestError::Compacted));
    assert_eq!(store.compact_revision(), 3);
    assert_eq!(store.view().changes(2, 1, 1), Err(Error::Request(RequestError::Compacted)));
}

#[test]
fn compactions_that_overlap_merge_into_one_more_pass() {
    let mut store = drawn_history();
    assert_eq!(store.compaction_step(1), CompactionProgress::Idle);
    store.compact(3).unwrap();
    assert_eq!(store.compaction_step(1), CompactionProgress::Working);
    store.compact(5).unwrap();
    store.compact(12).unwrap();
    assert_eq!(store.compaction_step(99), CompactionProgress::Finished { revision: 3 });
    assert_eq!(store.compaction_step(99), CompactionProgress::Finished { revision: 12 });
    assert_eq!(store.compaction_step(99), CompactionProgress::Idle);
    assert!(store.view().history.is_empty());
    check(&store, 12, "k=v 9/12/2, x=v 3/11/6");
}

#[test]
fn rows_of_compaction_are_those_of_etcd() {
    let (mut store, mut backend) = (drawn_history(), MemoryBackend::default());
    store.compact(0x0b).unwrap();
    flush(&mut store, &mut backend);
    let row = |name: &'static str, backend: &MemoryBackend| {
        backend.rows.get(&(Table::Meta, Bytes::from_static(name.as_bytes()))).cloned()
    };
    let eleven = Bytes::from_static(b"\0\0\0\0\0\0\0\x0b_\0\0\0\0\0\0\0\0");
    assert_eq!(row("scheduledCompactRev", &backend), Some(eleven.clone()));
    assert_eq!(row("finishedCompactRev", &backend), None);
    compact_fully(&mut store);
    flush(&mut store, &mut backend);
    assert_eq!(row("finishedCompactRev", &backend), Some(eleven));
}

#[test]
fn a_compaction_cut_short_is_in_force_and_goes_on_after_a_restart() {
    let (mut store, mut backend) = (drawn_history(), MemoryBackend::default());
    store.compact(11).unwrap();
    let mut whole = MemoryBackend::default();
    store.compaction_step(3);
    backend.commit(store.take_batch());
    whole.clone_from(&backend);
    compact_fully(&mut store);
    whole.commit(store.take_batch());

    let mut restarted = restore(&backend, TINY);
    assert_eq!(restarted.view().check_revision(10), Err(RequestError::Compacted));
    check(&restarted, 11, "k=v 9/9/1, x=v 3/11/6");
    assert_eq!(restarted.compaction_step(99), CompactionProgress::Finished { revision: 11 });
    flush(&mut restarted, &mut backend);
    assert_eq!(backend, whole);
    assert_eq!(restore(&backend, TINY).compaction_step(99), CompactionProgress::Idle);
}

/// etcd #17780: the newest record was a tombstone, and compaction removed it.
#[test]
fn the_revision_does_not_go_back_when_the_newest_record_is_compacted_away() {
    let (mut store, mut backend) = (empty_store(), MemoryBackend::default());
    put_each(&mut store, &["a"]);
    write(&mut store, |txn| delete(txn, "a"));
    store.compact(3).unwrap();
    compact_fully(&mut store);
    flush(&mut store, &mut backend);
    backend.records.clear();
    assert_eq!(restore(&backend, StoreConfig::default()).revision(), 3);
}
