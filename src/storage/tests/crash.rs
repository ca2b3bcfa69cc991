//! The disk dies at any operation and loses any part of what was not synced.

use super::*;

/// Decides which unsynced sectors survive: a generator of bits with a chosen share of ones.
struct Survival {
    state: u64,
    per_mille: u64,
}

impl Survival {
    fn draw(&mut self) -> bool {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % 1000 < self.per_mille
    }
}

/// Commits until the disk dies; gives the states after each commit that was tried, the first being
/// empty, and how many commits returned.
fn run_until_death(disk: &MemoryDisk, batches: &[BackendBatch]) -> (Vec<Model>, usize) {
    let mut states = vec![Model::default()];
    let mut returned = 0;
    let Ok(mut storage) = open(disk) else { return (states, returned) };
    for batch in batches {
        let mut next = states.last().unwrap().clone();
        next.commit(batch);
        states.push(next);
        if storage.commit(batch.clone()).is_err() {
            break;
        }
        returned += 1;
    }
    (states, returned)
}

/// After a crash the content is one of the states from the last commit that returned on. What was
/// read once stays, also through another crash.
fn check_recovered(disk: &MemoryDisk, states: &[Model], returned: usize) {
    let storage = open(disk).unwrap();
    let content = Model::read(&*storage.snapshot()).unwrap();
    let allowed = &states[returned..];
    assert!(allowed.contains(&content), "{returned} commits returned; found {:?}", content.applied);
    assert_eq!(storage.size_in_use(), in_use(&content));

    disk.power_cut(|| false);
    drop(storage);
    assert_eq!(Model::read(&*open(disk).unwrap().snapshot()).unwrap(), content);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_crash_loses_no_commit_and_splits_none(
        batches in batches(6),
        dies_after in 1..160u64,
        cut in prop::option::of((any::<u64>(), prop_oneof![Just(0u64), 1..1000u64, Just(1000)])),
    ) {
        let disk = empty_disk();
        disk.die_after(dies_after);
        let (states, returned) = run_until_death(&disk, &batches);
        match cut {
            Some((state, per_mille)) => {
                let mut survival = Survival { state, per_mille };
                disk.power_cut(|| survival.draw());
            }
            None => disk.kill(),
        }
        check_recovered(&disk, &states, returned);
    }
}

/// Dies at each change in turn, so that none is left out by chance.
#[test]
fn every_operation_of_a_commit_may_be_the_last() {
    let batch = |index: u64| BackendBatch {
        records: vec![put(index as i64, 0, 100), put(index as i64, 1, 6000)],
        removed_records: vec![Revision::new(index as i64 - 1, 1)],
        rows: vec![row(Table::Cluster, "key", Some(&index.to_string()))],
        applied: applied(index),
    };
    let batches: Vec<_> = (1..4).map(batch).collect();
    let whole = empty_disk();
    run_until_death(&whole, &batches);
    assert!(whole.changes() > 20, "{}", whole.changes());
    for dies_after in 1..=whole.changes() {
        let disk = empty_disk();
        disk.die_after(dies_after);
        let (states, returned) = run_until_death(&disk, &batches);
        let mut survival = Survival { state: dies_after, per_mille: 500 };
        disk.power_cut(|| survival.draw());
        check_recovered(&disk, &states, returned);
    }
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let disk = empty_disk();
    let mut storage = open(&disk).unwrap();
    disk.fail_next_sync();
    let batch = BackendBatch { applied: applied(1), ..Default::default() };
    let fault = storage.commit(batch.clone()).err().unwrap().to_string();
    assert!(fault.contains("could not write"), "{fault}");
    assert!(storage.commit(batch.clone()).is_err());
}

#[test]
fn what_a_failed_sync_left_in_memory_is_not_taken_for_durable() {
    let disk = empty_disk();
    let mut storage = open(&disk).unwrap();
    let mut model = Model::default();
    for index in 1..5 {
        let records = vec![put(index, 0, 3000)];
        let batch = BackendBatch { records, applied: applied(index as u64), ..Default::default() };
        storage.commit(batch.clone()).unwrap();
        model.commit(&batch);
        disk.fail_next_sync();
        // Closing swallows the failure.
        drop(storage);
        storage = open(&disk).unwrap();
        assert_eq!(Model::read(&*storage.snapshot()).unwrap(), model);
    }
    disk.power_cut(|| false);
    drop(storage);
    assert_eq!(Model::read(&*open(&disk).unwrap().snapshot()).unwrap(), model);
}

#[test]
fn a_database_that_a_killed_process_put_in_place_stays_in_place() {
    let disk = empty_disk();
    open(&disk).unwrap().commit(BackendBatch { applied: applied(1), ..Default::default() }).unwrap();
    let aside = import_path(Path::new(PATH));
    let mut import = Import::begin(&disk, &aside, CONFIG).unwrap();
    let mut source = open(&empty_disk()).unwrap();
    let batch = BackendBatch { applied: applied(2), ..Default::default() };
    let mut export = Export::new(source.commit(batch).unwrap().snapshot);
    while let Some(chunk) = export.next_chunk(1000).unwrap() {
        import.write(&chunk).unwrap();
    }
    import.finish().unwrap();
    disk.rename(&aside, Path::new(PATH)).unwrap();
    disk.kill();

    let found = open(&disk).unwrap().snapshot().applied().unwrap();
    assert_eq!(found, applied(2));
    disk.power_cut(|| false);
    assert_eq!(open(&disk).unwrap().snapshot().applied().unwrap(), found);
}

/// Imports and installs until the disk dies; whether that was told to have worked.
fn replace(disk: &MemoryDisk, chunks: &[Bytes]) -> Result<(), ImportError> {
    let mut import = Import::begin(disk, &import_path(Path::new(PATH)), CONFIG)?;
    chunks.iter().try_for_each(|chunk| import.write(chunk))?;
    let imported = import.finish()?;
    Storage::install(disk, imported.path(), Path::new(PATH), CONFIG)?;
    Ok(())
}

#[test]
fn every_operation_of_an_installation_may_be_the_last() {
    let batch = |main: i64| BackendBatch { records: vec![put(main, 0, 900)], ..Default::default() };
    let state = |main: i64| Model { records: batch(main).records.into_iter().collect(), ..Model::default() };
    let mut source = open(&empty_disk()).unwrap();
    let mut export = Export::new(source.commit(batch(2)).unwrap().snapshot);
    let chunks: Vec<_> = std::iter::from_fn(|| export.next_chunk(500).unwrap()).collect();
    let old = || {
        let disk = empty_disk();
        open(&disk).unwrap().commit(batch(1)).unwrap();
        disk
    };
    let whole = old();
    let before = whole.changes();
    replace(&whole, &chunks).unwrap();
    for dies_after in 1..=whole.changes() - before {
        let disk = old();
        disk.die_after(dies_after);
        let returned = usize::from(replace(&disk, &chunks).is_ok());
        let mut survival = Survival { state: dies_after, per_mille: 500 };
        disk.power_cut(|| survival.draw());
        check_recovered(&disk, &[state(1), state(2)], returned);
    }
}
