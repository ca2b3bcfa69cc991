//! Tests of the whole room against a model: maps in memory.

mod crash;
mod damage;
mod transfer;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::disk::OpenMode;
use crate::disk::memory::MemoryDisk;
use crate::disk::real::RealDisk;
use crate::proto::EncodedKeyValue;
use crate::types::Revision;
use crate::types::backend::{BackendSnapshot, StoredRecord, Table};

/// What a database should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    records: BTreeMap<Revision, StoredRecord>,
    rows: BTreeMap<(Table, Bytes), Bytes>,
    applied: Option<AppliedPoint>,
}

impl Model {
    fn commit(&mut self, batch: &BackendBatch) {
        self.records.extend(batch.records.iter().cloned());
        self.records.retain(|revision, _| !batch.removed_records.contains(revision));
        for (table, key, value) in &batch.rows {
            let row = (*table, key.clone());
            match value {
                Some(value) => drop(self.rows.insert(row, value.clone())),
                None => drop(self.rows.remove(&row)),
            }
        }
        self.applied = batch.applied.clone().or(self.applied.take());
    }

    /// Everything in a snapshot.
    fn read(snapshot: &dyn BackendSnapshot) -> Result<Model, LocalFault> {
        let mut rows = BTreeMap::new();
        for table in Table::ALL {
            rows.extend(snapshot.rows(table)?.into_iter().map(|(key, value)| ((table, key), value)));
        }
        let records = snapshot.records(Revision::default(), usize::MAX)?.into_iter().collect();
        Ok(Model { records, rows, applied: snapshot.applied()? })
    }
}

const PATH: &str = "/d/db";
const CONFIG: StorageConfig = StorageConfig { cache_bytes: 1 << 20, verify_on_open: true };

fn empty_disk() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir(Path::new("/d")).unwrap();
    disk
}

fn open(disk: &MemoryDisk) -> Result<Storage, LocalFault> {
    Storage::open(disk, Path::new(PATH), CONFIG)
}

fn put(main: i64, sub: i64, len: usize) -> (Revision, StoredRecord) {
    let bytes = vec![main as u8; len];
    let record = StoredRecord { tombstone: len == 0, record: EncodedKeyValue::from_bytes(bytes.into()) };
    (Revision::new(main, sub), record)
}

fn applied(index: u64) -> Option<AppliedPoint> {
    Some(AppliedPoint { index, term: 1 + index / 3, voters: vec![1, 2, index], learners: vec![9] })
}

fn row(table: Table, key: &str, value: Option<&str>) -> (Table, Bytes, Option<Bytes>) {
    (
        table,
        Bytes::copy_from_slice(key.as_bytes()),
        value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    )
}

/// Batches of a small key space with everything in them: large values, overwrites, removals.
fn batches(count: usize) -> impl Strategy<Value = Vec<BackendBatch>> {
    let length = prop_oneof![Just(0), 1..300usize, 1..300usize, 5000..20_000usize];
    let records = prop::collection::btree_map((1..40i64, 0..3i64), length, 0..8);
    let removed = prop::collection::vec((1..40i64, 0..3i64), 0..6);
    let rows = prop::collection::vec((0..Table::ALL.len(), 0..4u8, prop::option::of(0..9u8)), 0..6);
    let batch = (records, removed, rows, any::<bool>());
    prop::collection::vec(batch, 1..count).prop_map(|batches| {
        let batch = |(number, (records, removed, rows, is_applied))| BackendBatch {
            records: records_of(records),
            removed_records: removed_of(removed),
            rows: rows_of(rows),
            applied: if is_applied { applied(number as u64) } else { None },
        };
        batches.into_iter().enumerate().map(batch).collect()
    })
}

fn records_of(records: BTreeMap<(i64, i64), usize>) -> Vec<(Revision, StoredRecord)> {
    records.into_iter().map(|((main, sub), length)| put(main, sub, length)).collect()
}

fn removed_of(removed: Vec<(i64, i64)>) -> Vec<Revision> {
    removed.into_iter().map(|(main, sub)| Revision::new(main, sub)).collect()
}

fn rows_of(rows: Vec<(usize, u8, Option<u8>)>) -> Vec<(Table, Bytes, Option<Bytes>)> {
    let bytes = |byte: u8| Bytes::from(vec![byte; usize::from(byte)]);
    rows.into_iter().map(|(table, key, value)| (Table::ALL[table], bytes(key), value.map(bytes))).collect()
}

/// Commits batches, each followed by a look at the whole content, and reopens.
fn check_round_trip(disk: &dyn Disk, path: &Path, batches: &[BackendBatch]) {
    let mut storage = Storage::open(disk, path, CONFIG).unwrap();
    let mut model = Model::default();
    assert_eq!(Model::read(&*storage.snapshot()).unwrap(), model);
    for batch in batches {
        let committed = storage.commit(batch.clone()).unwrap();
        model.commit(batch);
        assert_eq!(Model::read(&*committed.snapshot).unwrap(), model);
        let length = disk.open(path, OpenMode::Read).unwrap().len().unwrap();
        assert!(committed.size_in_use <= committed.size && committed.size <= length);
        assert_eq!(committed.size_in_use, in_use(&model));
    }
    drop(storage);
    let storage = Storage::open(disk, path, CONFIG).unwrap();
    assert_eq!(Model::read(&*storage.snapshot()).unwrap(), model);
    assert_eq!(storage.size_in_use(), in_use(&model));
}

/// Bytes in use, counted anew: key, value with its head, and the overhead of the pair.
fn in_use(model: &Model) -> u64 {
    let records = model.records.values().map(|record| 16 + 5 + record.record.as_bytes().len() + 8);
    let rows = model.rows.iter().map(|((_, key), value)| 1 + key.len() + 4 + value.len() + 8);
    (records.sum::<usize>() + rows.sum::<usize>()) as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_database_holds_what_was_committed(batches in batches(8)) {
        check_round_trip(&empty_disk(), Path::new(PATH), &batches);
    }
}

#[test]
fn a_real_file_holds_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let first = BackendBatch {
        records: vec![put(2, 0, 10), put(2, 1, 100_000), put(300, 0, 0)],
        rows: vec![row(Table::Meta, "", Some("")), row(Table::Auth, "user", Some("root"))],
        applied: applied(7),
        ..Default::default()
    };
    let second = BackendBatch {
        removed_records: vec![Revision::new(2, 1), Revision::new(5, 5)],
        rows: vec![row(Table::Auth, "user", None)],
        ..Default::default()
    };
    check_round_trip(&RealDisk, &folder.path().join("db"), &[first, second, BackendBatch::default()]);
}

#[test]
fn reads_find_one_record_or_a_part_of_them() {
    let mut storage = open(&empty_disk()).unwrap();
    let records: Vec<_> = (1..=10).flat_map(|main| [put(main, 0, 5), put(main, 1, 0)]).collect();
    let batch = BackendBatch { records: records.clone(), ..Default::default() };
    let snapshot = storage.commit(batch.clone()).unwrap().snapshot;
    assert_eq!(snapshot.record(Revision::new(4, 1)).unwrap(), Some(records[7].1.clone()));
    assert_eq!(snapshot.record(Revision::new(4, 2)).unwrap(), None);
    assert_eq!(snapshot.records(Revision::new(4, 1), 3).unwrap(), records[7..10]);
    assert_eq!(snapshot.records(Revision::new(10, 1), 9).unwrap(), records[19..]);
    assert_eq!(snapshot.records(Revision::new(11, 0), 9).unwrap(), []);
    assert_eq!(snapshot.records(Revision::default(), 0).unwrap(), []);
    assert!(snapshot.record(Revision::new(-1, 0)).is_err());
}

#[test]
fn a_snapshot_never_changes() {
    let mut storage = open(&empty_disk()).unwrap();
    let mut model = Model::default();
    let mut history = vec![(storage.snapshot(), model.clone())];
    for index in 1..20 {
        let batch = BackendBatch {
            records: (0..20).map(|sub| put(index, sub, 700)).collect(),
            removed_records: (0..20).map(|sub| Revision::new((index - 2).max(0), sub)).collect(),
            rows: vec![row(Table::Lease, "lease", Some(&index.to_string()))],
            applied: applied(index as u64),
        };
        model.commit(&batch);
        history.push((storage.commit(batch.clone()).unwrap().snapshot, model.clone()));
    }
    // Readers may outlive the storage, as when it is replaced.
    drop(storage);
    for (snapshot, model) in history {
        assert_eq!(Model::read(&*snapshot).unwrap(), model);
    }
}

/// A batch that is refused leaves everything as it was, and the database usable.
fn check_refused(batch: BackendBatch, expected: &str) {
    let mut storage = open(&empty_disk()).unwrap();
    let before = BackendBatch { records: vec![put(1, 0, 3)], applied: applied(5), ..Default::default() };
    storage.commit(before.clone()).unwrap();
    let fault = storage.commit(batch.clone()).err().unwrap().to_string();
    assert!(fault.contains(expected) && fault.contains(PATH), "{fault}");
    let mut model = Model::default();
    model.commit(&before);
    assert_eq!(Model::read(&*storage.snapshot()).unwrap(), model);
    assert_eq!(Model::read(&*storage.commit(before.clone()).unwrap().snapshot).unwrap(), model);
}

#[test]
fn batches_out_of_order_are_refused() {
    let records = |records| BackendBatch { records, ..Default::default() };
    check_refused(records(vec![put(3, 0, 1), put(2, 9, 1)]), "revision 2/9");
    check_refused(records(vec![put(3, 1, 1), put(3, 1, 1)]), "revision 3/1");
    check_refused(records(vec![put(3, 0, 1), put(3, -1, 1)]), "negative");
    let applied = BackendBatch { applied: applied(4), ..records(vec![put(3, 0, 1)]) };
    check_refused(applied, "index 4 of term 2");
    let term = AppliedPoint { index: 6, term: 1, ..Default::default() };
    check_refused(BackendBatch { applied: Some(term), ..Default::default() }, "index 6 of term 1");
}

#[test]
fn freed_space_is_used_again() {
    let mut storage = open(&empty_disk()).unwrap();
    let mut cycle = |cycle: i64| {
        let batch = BackendBatch {
            records: (0..100).map(|sub| put(cycle, sub, 1000)).collect(),
            removed_records: (0..100).map(|sub| Revision::new(cycle - 1, sub)).collect(),
            rows: (0..50).map(|key| row(Table::Lease, &key.to_string(), Some(&cycle.to_string()))).collect(),
            applied: applied(cycle as u64),
        };
        storage.commit(batch.clone()).unwrap().size
    };
    let settled = (1..6).map(&mut cycle).max().unwrap();
    let later = (6..60).map(&mut cycle).max().unwrap();
    assert!(later <= settled, "{settled} bytes grew to {later}");
}

#[test]
fn the_size_follows_the_content_not_the_length_of_the_file() {
    let disk = empty_disk();
    let mut storage = open(&disk).unwrap();
    let mut bytes = 0;
    for main in 1..60 {
        let records = (0..100).map(|sub| put(main, sub, 1000)).collect();
        let committed = storage.commit(BackendBatch { records, ..Default::default() }).unwrap();
        bytes += 100 * 1000;
        assert!(committed.size < 2 * bytes + (1 << 20), "{} for {bytes}", committed.size);
    }
    let before = storage.size();
    drop(storage);
    let after = open(&disk).unwrap().size();
    assert!(after <= before && after >= bytes, "{before} became {after} for {bytes}");
}

#[test]
fn everything_may_move_to_another_thread() {
    fn check<T: Send>() {}
    check::<Storage>();
    check::<Export>();
    check::<Import>();
    check::<Arc<Snapshot>>();
}
