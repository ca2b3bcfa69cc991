//! Export, import and installation.

use super::*;

const ASIDE: &str = "/d/db.import";

fn export(snapshot: Arc<Snapshot>, max_bytes: usize) -> Vec<Bytes> {
    let mut export = Export::new(snapshot);
    std::iter::from_fn(|| export.next_chunk(max_bytes).unwrap()).collect()
}

fn import(disk: &MemoryDisk, chunks: &[Bytes]) -> Result<ImportedDatabase, ImportError> {
    let mut import = Import::begin(disk, Path::new(ASIDE), CONFIG).unwrap();
    chunks.iter().try_for_each(|chunk| import.write(chunk))?;
    import.finish()
}

/// A database after some commits, and what it holds.
fn source() -> (Storage, Model) {
    let mut storage = open(&empty_disk()).unwrap();
    let mut model = Model::default();
    for index in 1..6 {
        let batch = BackendBatch {
            records: (0..20).map(|sub| put(index, sub, 100 * sub as usize)).collect(),
            rows: vec![
                row(Table::Members, &index.to_string(), Some("a member")),
                row(Table::Meta, "compacted", Some(&index.to_string())),
            ],
            applied: applied(index as u64),
            ..Default::default()
        };
        storage.commit(batch.clone()).unwrap();
        model.commit(&batch);
    }
    (storage, model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn an_import_holds_what_was_exported(batches in batches(6), max_bytes in 1..30_000usize) {
        let mut storage = open(&empty_disk()).unwrap();
        let mut model = Model::default();
        for batch in &batches {
            storage.commit(batch.clone()).unwrap();
            model.commit(batch);
        }
        let disk = empty_disk();
        let imported = import(&disk, &export(storage.snapshot(), max_bytes)).unwrap();
        prop_assert_eq!(imported.applied(), model.applied.as_ref());
        prop_assert_eq!(imported.totals().records, model.records.len() as u64);
        prop_assert_eq!(imported.totals().rows, model.rows.len() as u64);
        let installed = Storage::install(&disk, imported.path(), Path::new(PATH), CONFIG).unwrap();
        prop_assert_eq!(Model::read(&*installed.snapshot()).unwrap(), model);
        prop_assert_eq!(installed.size_in_use(), storage.size_in_use());
    }
}

#[test]
fn chunks_keep_to_their_size_and_the_export_to_its_snapshot() {
    let (mut storage, model) = source();
    let mut running = Export::new(storage.snapshot());
    let mut chunks = vec![running.next_chunk(4096).unwrap().unwrap()];
    let removed_records = model.records.keys().copied().collect();
    storage.commit(BackendBatch { removed_records, ..Default::default() }).unwrap();
    while let Some(chunk) = running.next_chunk(4096).unwrap() {
        chunks.push(chunk);
    }
    assert!(running.next_chunk(4096).unwrap().is_none());
    assert!(chunks.len() > 10 && chunks.iter().all(|chunk| chunk.len() <= 4096), "{}", chunks.len());

    let disk = empty_disk();
    let imported = import(&disk, &chunks).unwrap();
    let installed = Storage::install(&disk, imported.path(), Path::new(PATH), CONFIG).unwrap();
    assert_eq!(Model::read(&*installed.snapshot()).unwrap(), model);
}

#[test]
fn an_installed_database_replaces_the_old_one_and_survives() {
    let (source, model) = source();
    let disk = empty_disk();
    let mut old = open(&disk).unwrap();
    let batch = BackendBatch { records: vec![put(1, 0, 9)], ..Default::default() };
    let old_snapshot = old.commit(batch.clone()).unwrap().snapshot;
    let imported = import(&disk, &export(source.snapshot(), 50_000)).unwrap();
    let mut new = Storage::install(&disk, imported.path(), Path::new(PATH), CONFIG).unwrap();
    drop(old);
    assert_eq!(old_snapshot.record(Revision::new(1, 0)).unwrap(), Some(put(1, 0, 9).1));
    drop(old_snapshot);
    new.commit(BackendBatch { applied: applied(9), ..Default::default() }).unwrap();
    disk.power_cut(|| false);
    let recovered = Model::read(&*open(&disk).unwrap().snapshot()).unwrap();
    assert_eq!(recovered, Model { applied: applied(9), ..model });
}

#[test]
fn half_an_import_is_removed_when_the_database_is_opened() {
    let (source, _) = source();
    let disk = empty_disk();
    open(&disk).unwrap();
    let mut import = Import::begin(&disk, Path::new(ASIDE), CONFIG).unwrap();
    import.write(&export(source.snapshot(), 10_000)[0]).unwrap();
    disk.kill();
    assert!(disk.exists(Path::new(ASIDE)).unwrap());
    assert_eq!(import_path(Path::new(PATH)), Path::new(ASIDE));
    let storage = open(&disk).unwrap();
    assert_eq!(disk.list(Path::new("/d")).unwrap(), ["db"]);
    assert_eq!(Model::read(&*storage.snapshot()).unwrap(), Model::default());
}

fn check_refused(chunks: &[Bytes], expected: &str) {
    match import(&empty_disk(), chunks) {
        Err(ImportError::Refused(why)) => assert!(why.contains(expected), "{why}"),
        other => panic!("{other:?} where {expected:?} was expected"),
    }
}

#[test]
fn what_was_not_sent_like_this_is_refused() {
    let (source, _) = source();
    let chunks = export(source.snapshot(), 20_000);
    assert!(chunks.len() > 4);

    check_refused(&chunks[1..], "chunk 1 came where chunk 0 was due");
    check_refused(&chunks[..chunks.len() - 1], "not complete");
    check_refused(&[], "not complete");
    let edited = |edit: &dyn Fn(&mut Vec<Bytes>)| {
        let mut chunks = chunks.clone();
        edit(&mut chunks);
        chunks
    };
    check_refused(&edited(&|chunks| chunks.swap(2, 3)), "chunk 3 came where chunk 2 was due");
    check_refused(&edited(&|chunks| chunks.insert(2, chunks[1].clone())), "chunk 1 came where");
    check_refused(&edited(&|chunks| chunks.push(Bytes::new())), "0 bytes");
    check_refused(&edited(&|chunks| chunks[1].truncate(5000)), "checksum");
    check_refused(&edited(&|chunks| chunks[1].truncate(5)), "5 bytes");
    // A chunk of the same number, but of another stream.
    let other = export(open(&empty_disk()).unwrap().snapshot(), 15);
    check_refused(&edited(&|chunks| chunks[1] = other[1].clone()), "checksum");
}

#[test]
fn no_flipped_bit_is_imported() {
    let mut storage = open(&empty_disk()).unwrap();
    let batch = BackendBatch {
        records: vec![put(1, 0, 3)],
        rows: vec![row(Table::Meta, "k", Some("v"))],
        applied: applied(1),
        ..Default::default()
    };
    storage.commit(batch.clone()).unwrap();
    let [chunk] = &export(storage.snapshot(), 10_000)[..] else { panic!("more than a chunk") };
    for at in 0..chunk.len() {
        let mut damaged = chunk.to_vec();
        damaged[at] ^= 1 << (at % 8);
        let refused = import(&empty_disk(), &[damaged.clone().into()]);
        assert!(matches!(refused, Err(ImportError::Refused(_))), "byte {at}: {refused:?}");
        // Also when the chunk's own checksum is right: what is stored has one of its own, the rest
        // must make sense. Members of the applied point are told apart by the sender alone.
        let tail = damaged.len() - 4;
        let checksum = crc32c::crc32c(&damaged[..tail]);
        damaged[tail..].copy_from_slice(&checksum.to_le_bytes());
        let disk = empty_disk();
        if let Ok(imported) = import(&disk, &[damaged.into()]) {
            let installed = Storage::install(&disk, imported.path(), Path::new(PATH), CONFIG).unwrap();
            let content = Model::read(&*installed.snapshot()).unwrap();
            let mut model = Model::default();
            model.commit(&batch);
            assert_eq!(Model { applied: model.applied.clone(), ..content }, model, "byte {at}");
        }
    }
}

#[test]
fn after_a_refusal_nothing_is_taken() {
    let (source, _) = source();
    let chunks = export(source.snapshot(), 20_000);
    let mut import = Import::begin(&empty_disk(), Path::new(ASIDE), CONFIG).unwrap();
    assert!(import.write(&chunks[1]).is_err());
    assert_eq!(
        import.write(&chunks[0]).unwrap_err(),
        ImportError::Refused("an earlier chunk was refused".into())
    );
    assert!(matches!(import.finish(), Err(ImportError::Refused(_))));
}

#[test]
fn an_unfinished_import_replaces_nothing() {
    let (source, _) = source();
    let disk = empty_disk();
    drop(open(&disk).unwrap());
    let mut import = Import::begin(&disk, Path::new(ASIDE), CONFIG).unwrap();
    import.write(&export(source.snapshot(), 10_000)[0]).unwrap();
    drop(import);
    assert!(Storage::install(&disk, Path::new(ASIDE), Path::new(PATH), CONFIG).is_err());
    assert_eq!(Model::read(&*open(&disk).unwrap().snapshot()).unwrap(), Model::default());
}
