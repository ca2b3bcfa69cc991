//! Files that are not what was written.

use super::*;

fn length(disk: &MemoryDisk) -> u64 {
    disk.open(Path::new(PATH), OpenMode::Read).unwrap().len().unwrap()
}

/// A closed database of some pages and its content.
fn filled() -> (MemoryDisk, Model) {
    let disk = empty_disk();
    let mut storage = open(&disk).unwrap();
    let mut model = Model::default();
    for index in 1..4 {
        let batch = BackendBatch {
            records: (0..40).map(|sub| put(index, sub, 150 + 200 * (sub as usize % 3))).collect(),
            removed_records: vec![Revision::new(index - 1, 7)],
            rows: (0..40).map(|key| row(Table::Lease, &key.to_string(), Some("value of a lease"))).collect(),
            applied: applied(index as u64),
        };
        storage.commit(batch.clone()).unwrap();
        model.commit(&batch);
    }
    drop(storage);
    (disk, model)
}

/// Bytes of the file to damage: spread over all of it, dense where the headers and trees are.
fn offsets(disk: &MemoryDisk) -> impl Iterator<Item = u64> + use<> {
    let length = length(disk);
    (0..320).step_by(9).chain((4096..length.min(400_000)).step_by(3001))
}

/// Nothing that is read may differ from what was written or be missing.
fn check_content(snapshot: &Snapshot, model: &Model, offset: u64) {
    if let Ok(content) = Model::read(snapshot) {
        assert_eq!(content.rows, model.rows, "byte {offset}");
        assert_eq!(content.applied, model.applied, "byte {offset}");
        assert_eq!(content.records, model.records, "byte {offset}");
    }
    for (revision, record) in &model.records {
        if let Ok(read) = snapshot.record(*revision) {
            assert_eq!(read.as_ref(), Some(record), "byte {offset}");
        }
    }
}

#[test]
fn a_flipped_byte_is_found_when_the_file_is_opened() {
    let (disk, model) = filled();
    let mut refused = 0;
    for offset in offsets(&disk) {
        let (disk, _) = filled();
        disk.flip(Path::new(PATH), offset, 1 << (offset % 8));
        match open(&disk) {
            Ok(storage) => check_content(&storage.snapshot(), &model, offset),
            Err(fault) => {
                refused += 1;
                assert!(fault.to_string().contains(PATH), "{fault}");
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn a_byte_flipped_under_an_open_database_changes_no_value() {
    // Without a cache every read goes to the disk.
    let config = StorageConfig { cache_bytes: 0, verify_on_open: true };
    let mut found = 0;
    for offset in offsets(&filled().0) {
        let (disk, model) = filled();
        let storage = Storage::open(&disk, Path::new(PATH), config).unwrap();
        disk.flip(Path::new(PATH), offset, 1 << (offset % 8));
        check_content(&storage.snapshot(), &model, offset);
        found += usize::from(Model::read(&*storage.snapshot()).is_err());
    }
    assert!(found > 10, "{found}");
}

fn check_refused_to_open(disk: &MemoryDisk, expected: &str) {
    let fault = open(disk).err().unwrap().to_string();
    assert!(fault.contains(expected) && fault.contains(PATH), "{fault}");
}

#[test]
fn what_is_no_database_is_never_an_empty_one() {
    let file = |bytes: &[u8]| {
        let disk = empty_disk();
        disk.open(Path::new(PATH), OpenMode::CreateNew).unwrap().write_at(0, bytes).unwrap();
        disk
    };
    check_refused_to_open(&file(b""), "empty");
    check_refused_to_open(&file(b"red"), "magic number");
    check_refused_to_open(&file(&[0; 10_000]), "magic number");

    let (cut, _) = filled();
    cut.open(Path::new(PATH), OpenMode::ReadWrite).unwrap().set_len(length(&cut) / 2).unwrap();
    check_refused_to_open(&cut, "opening the database failed");

    let foreign = empty_disk();
    drop(OpenDatabase::create(&foreign, Path::new(PATH), CONFIG).unwrap());
    check_refused_to_open(&foreign, "does not exist");
}

#[test]
fn a_newer_format_is_refused() {
    let (disk, _) = filled();
    let database = OpenDatabase::open(&disk, Path::new(PATH), Path::new(PATH), CONFIG).unwrap();
    let write = database.begin_write().unwrap();
    let version = format::encode_meta(META_FORMAT, &(format::FORMAT_VERSION + 1).to_le_bytes());
    write.open_table(META).unwrap().insert(META_FORMAT, version.as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    check_refused_to_open(&disk, "the file has format 2");
}

/// The last owner of a database may be any reader: what its end meets in the file must not reach it.
#[test]
fn a_database_that_is_damaged_while_it_is_open_closes_without_a_panic() {
    let config = StorageConfig { cache_bytes: 0, verify_on_open: false };
    let mut damaged = 0;
    for mask in [0x01, 0x80, 0xff] {
        let (disk, _) = filled();
        let length = length(&disk);
        let storage = Storage::open(&disk, Path::new(PATH), config).unwrap();
        // The heads of all pages but the first, which holds the header.
        for offset in (4096..length).step_by(4096).flat_map(|page| page..page + 8) {
            disk.flip(Path::new(PATH), offset, mask);
            damaged += 1;
        }
        drop(storage);
    }
    assert!(damaged > 100, "{damaged}");
}
