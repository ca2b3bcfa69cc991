use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use detcd::disk::{File, OpenMode, SECTOR_BYTES};
use detcd::rt::{Clock, SystemClock};
use detcd::types::Now;

use super::*;
use crate::random::stream;

const SECTOR: usize = SECTOR_BYTES as usize;

fn path(name: &str) -> PathBuf {
    Path::new("/d").join(name)
}

/// A disk with one folder.
fn disk() -> SimDisk {
    let disk = SimDisk::new(stream(1, "disk"));
    disk.mount().create_dir(Path::new("/d")).unwrap();
    disk
}

fn sync_names(disk: &SimDisk) {
    disk.mount().sync_dir(Path::new("/d")).unwrap();
}

fn open(disk: &SimDisk, name: &str) -> Arc<dyn File> {
    disk.mount().open(&path(name), OpenMode::OpenOrCreate).unwrap()
}

/// A file with a durable name and durable bytes.
fn durable_file(disk: &SimDisk, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = open(disk, name);
    file.write_at(0, bytes).unwrap();
    file.sync_data().unwrap();
    sync_names(disk);
    file
}

/// What a file holds, none when there is none.
fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    read_with(disk, name, OpenMode::ReadWrite)
}

fn read_with(disk: &SimDisk, name: &str, mode: OpenMode) -> Option<Vec<u8>> {
    let file = disk.mount().open(&path(name), mode).ok()?;
    let mut bytes = vec![0xEE; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    Some(bytes)
}

fn cut(disk: &SimDisk, cut: &Cut) {
    disk.power_cut_as(cut, &mut stream(2, "cut"));
}

/// Which bytes stand in each sector of a file.
fn sectors(disk: &SimDisk, name: &str) -> Vec<u8> {
    let bytes = content(disk, name).unwrap();
    let whole = |sector: &[u8]| sector.iter().all(|byte| *byte == sector[0]);
    assert!(bytes.chunks(SECTOR).all(whole), "a sector is mixed");
    bytes.chunks(SECTOR).map(|sector| sector[0]).collect()
}

#[test]
fn synced_bytes_survive_a_cut_and_others_need_not() {
    let disk = disk();
    let file = durable_file(&disk, "a", b"hello");
    file.write_at(1, b"uu").unwrap();
    file.write_at(3, b"later").unwrap();
    assert_eq!(content(&disk, "a").unwrap(), b"huulater");
    cut(&disk, &Cut::NOTHING);
    assert_eq!(content(&disk, "a").unwrap(), b"hello");
    let file = open(&disk, "a");
    file.write_at(3, b"later").unwrap();
    cut(&disk, &Cut::EVERYTHING);
    assert_eq!(content(&disk, "a").unwrap(), b"hellater");
}

#[test]
fn a_kill_keeps_what_was_written_and_a_later_cut_takes_it() {
    let disk = disk();
    durable_file(&disk, "a", b"old").write_at(0, b"new").unwrap();
    disk.kill();
    assert_eq!(content(&disk, "a").unwrap(), b"new");
    cut(&disk, &Cut::NOTHING);
    assert_eq!(content(&disk, "a").unwrap(), b"old");
}

#[test]
fn lengths_need_a_sync_like_bytes() {
    let disk = disk();
    let file = durable_file(&disk, "a", &[7; 10_000]);
    file.set_len(100).unwrap();
    file.set_len(9000).unwrap();
    let grown = [vec![7; 100], vec![0; 8900]].concat();
    assert_eq!(content(&disk, "a").unwrap(), grown);
    cut(&disk, &Cut::NOTHING);
    assert_eq!(content(&disk, "a").unwrap(), [7; 10_000]);

    let file = open(&disk, "a");
    file.set_len(100).unwrap();
    file.set_len(9000).unwrap();
    file.sync_data().unwrap();
    cut(&disk, &Cut::NOTHING);
    assert_eq!(content(&disk, "a").unwrap(), grown, "what was cut off does not come back");
}

#[test]
fn a_length_may_survive_without_the_bytes_and_bytes_without_the_length() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = disk();
        durable_file(&disk, "a", b"").write_at(0, &[1; 1024]).unwrap();
        let some = Cut { survival_percent: 50, unit_bytes: SECTOR_BYTES, in_order: true };
        disk.power_cut_as(&some, &mut stream(seed, "cut"));
        seen.insert(sectors(&disk, "a"));
    }
    let expected = [vec![], vec![0, 0], vec![0, 1], vec![1], vec![1, 0], vec![1, 1]];
    assert_eq!(seen, expected.into_iter().collect());
}

#[test]
fn writes_are_torn_at_the_cuts_unit_and_reordered_when_it_says_so() {
    let outcomes = |unit_bytes, in_order| {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let disk = disk();
            let file = durable_file(&disk, "a", &[0; 2 * 4096]);
            file.write_at(0, &[1; 2 * 4096]).unwrap();
            file.write_at(0, &[2; SECTOR]).unwrap();
            disk.power_cut_as(&Cut { survival_percent: 60, unit_bytes, in_order }, &mut stream(seed, "c"));
            let bytes = sectors(&disk, "a");
            seen.insert((bytes[0], bytes[1], bytes[8]));
        }
        seen
    };
    let pages = outcomes(4096, true);
    assert!(pages.contains(&(2, 1, 0)) && pages.contains(&(2, 0, 1)) && pages.contains(&(1, 1, 0)));
    assert!(!pages.iter().any(|(first, second, _)| *first == 1 && *second == 0), "torn within a page");
    let torn = outcomes(SECTOR_BYTES, true);
    assert!(torn.contains(&(1, 0, 0)) && torn.contains(&(0, 1, 1)));
    let whole = outcomes(u64::MAX, true);
    assert!(whole.iter().all(|(_, second, last)| second == last), "an operation was torn: {whole:?}");

    // All pieces survive: only the order decides.
    let last_byte = |in_order| -> std::collections::BTreeSet<u8> {
        let outcome = |seed| {
            let disk = disk();
            let file = durable_file(&disk, "a", &[0; SECTOR]);
            file.write_at(0, &[1; SECTOR]).unwrap();
            file.write_at(0, &[2; SECTOR]).unwrap();
            let all = Cut { survival_percent: 100, unit_bytes: SECTOR_BYTES, in_order };
            disk.power_cut_as(&all, &mut stream(seed, "c"));
            sectors(&disk, "a")[0]
        };
        (0..50).map(outcome).collect()
    };
    assert_eq!(last_byte(true), [2].into());
    assert_eq!(last_byte(false), [1, 2].into());
}

#[test]
fn names_need_a_sync_of_their_folder() {
    let disk = disk();
    let mount = disk.mount();
    let file = open(&disk, "new");
    file.write_at(0, b"n").unwrap();
    file.sync_data().unwrap();
    cut(&disk, &Cut::NOTHING);
    assert_eq!(content(&disk, "new"), None, "the file is whole, but nobody finds it");
    assert_eq!(mount.exists(&path("new")).unwrap_err().kind(), ErrorKind::Other, "a dead mount");

    durable_file(&disk, "a", b"a");
    durable_file(&disk, "b", b"b");
    let mount = disk.mount();
    mount.rename(&path("a"), &path("b")).unwrap();
    assert_eq!((content(&disk, "a"), content(&disk, "b")), (None, Some(b"a".into())));
    cut(&disk, &Cut::NOTHING);
    assert_eq!((content(&disk, "a"), content(&disk, "b")), (Some(b"a".into()), Some(b"b".into())));

    disk.mount().rename(&path("a"), &path("b")).unwrap();
    sync_names(&disk);
    disk.mount().remove(&path("b")).unwrap();
    cut(&disk, &Cut::NOTHING);
    assert_eq!((content(&disk, "a"), content(&disk, "b")), (None, Some(b"a".into())));
    disk.mount().remove(&path("b")).unwrap();
    sync_names(&disk);
    cut(&disk, &Cut::EVERYTHING);
    assert!(disk.files().is_empty());
}

#[test]
fn a_file_never_has_two_names_and_a_journal_keeps_a_prefix() {
    let mut seen = std::collections::BTreeSet::new();
    for (seed, in_order) in (0..200).flat_map(|seed| [(seed, true), (seed, false)]) {
        let disk = disk();
        durable_file(&disk, "1", b"x");
        let mount = disk.mount();
        mount.rename(&path("1"), &path("2")).unwrap();
        mount.rename(&path("2"), &path("3")).unwrap();
        let some = Cut { survival_percent: 50, unit_bytes: SECTOR_BYTES, in_order };
        disk.power_cut_as(&some, &mut stream(seed, "cut"));
        let files = disk.files();
        assert_eq!(files.len(), 1, "{files:?}");
        seen.insert((in_order, files[0].0.file_name().unwrap().to_str().unwrap().to_owned()));
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn a_name_that_a_dying_device_kept_is_not_taken_back_by_an_older_one() {
    for seed in 0..200 {
        let disk = SimDisk::new(stream(seed, "disk"));
        disk.mount().create_dir(Path::new("/d")).unwrap();
        durable_file(&disk, "db", b"old");
        open(&disk, "aside").write_at(0, b"new").unwrap();
        disk.mount().rename(&path("aside"), &path("db")).unwrap();
        disk.arm(Fault::Death, 1);
        assert!(disk.mount().sync_dir(Path::new("/d")).is_err());
        disk.power_cut(&mut stream(seed, "cut"));
        assert!(content(&disk, "db").is_some(), "seed {seed}: one of both has the name");
    }
}

#[test]
fn an_open_file_lives_without_its_name() {
    let disk = disk();
    let file = durable_file(&disk, "a", b"kept");
    disk.mount().remove(&path("a")).unwrap();
    let mut bytes = [0; 4];
    file.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"kept");
}

#[test]
fn an_earlier_life_can_do_nothing() {
    for crash in [SimDisk::kill as fn(&SimDisk), |disk| cut(disk, &Cut::NOTHING), SimDisk::wipe] {
        let disk = disk();
        let mount = disk.mount();
        let file = durable_file(&disk, "a", b"abc");
        let lock = mount.lock(&path("lock")).unwrap();
        assert_eq!(disk.mount().lock(&path("lock")).err().unwrap().kind(), ErrorKind::WouldBlock);
        crash(&disk);
        assert!(file.read_at(0, &mut [0]).is_err() && file.len().is_err() && file.sync_data().is_err());
        assert!(file.write_at(0, b"x").is_err() && file.set_len(0).is_err());
        assert!(mount.open(&path("b"), OpenMode::OpenOrCreate).is_err());
        assert!(mount.remove(&path("a")).is_err() && mount.rename(&path("a"), &path("b")).is_err());
        assert!(mount.sync_dir(Path::new("/d")).is_err() && mount.list(Path::new("/d")).is_err());
        disk.mount().create_dir(Path::new("/d")).unwrap();
        disk.mount().lock(&path("lock")).unwrap();
        drop(lock);
    }
}

#[test]
fn a_file_opened_for_reading_is_not_written() {
    let disk = disk();
    durable_file(&disk, "a", b"abc");
    let file = disk.mount().open(&path("a"), OpenMode::Read).unwrap();
    assert_eq!(file.write_at(0, b"x").unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(disk.mount().open(&path("a"), OpenMode::CreateNew).is_err());
    assert!(disk.mount().open(&path("b"), OpenMode::ReadWrite).is_err());
    assert!(disk.mount().open(Path::new("/other/b"), OpenMode::CreateNew).is_err());
}

#[test]
fn an_error_strikes_the_operation_that_it_waits_for() {
    let disk = disk();
    let file = durable_file(&disk, "a", &[1; 4096]);
    disk.arm(Fault::ReadError, 2);
    let mut byte = [0];
    file.read_at(0, &mut byte).unwrap();
    assert_eq!(file.read_at(0, &mut byte).unwrap_err().raw_os_error(), Some(5));
    file.read_at(0, &mut byte).unwrap();

    disk.arm_below(&path("b"), Fault::WriteError, 1);
    file.write_at(0, &[2; 4096]).unwrap();
    let other = open(&disk, "b");
    assert!(other.write_at(0, &[1; 4096]).is_err());
    other.write_at(0, &[1; 4096]).unwrap();
    assert_eq!(disk.armed(), 0);

    disk.arm(Fault::WriteError, 1);
    disk.disarm();
    file.write_at(0, &[3; 4096]).unwrap();
    assert_eq!(disk.statistics().faults, 2);
}

#[test]
fn a_failed_sync_leaves_what_only_memory_holds() {
    let mut durable = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let disk = SimDisk::new(stream(seed, "disk"));
        disk.mount().create_dir(Path::new("/d")).unwrap();
        let file = durable_file(&disk, "a", &[0; SECTOR]);
        file.write_at(0, &[1; SECTOR]).unwrap();
        disk.arm(Fault::SyncError, 1);
        assert!(file.sync_data().is_err());
        // Tried again, it does nothing: the page is clean.
        file.sync_data().unwrap();
        disk.kill();
        assert_eq!(sectors(&disk, "a"), [1], "programs still see it");
        let truth = read_with(&disk, "a", OpenMode::Read).unwrap()[0];
        assert_eq!(sectors(&disk, "a"), [truth], "from now on everybody sees the medium");
        cut(&disk, &Cut::NOTHING);
        assert_eq!(sectors(&disk, "a"), [truth]);
        durable.insert(truth);
    }
    assert_eq!(durable, [0, 1].into(), "some of it is durable, some is not");
}

#[test]
fn a_page_written_again_after_a_failed_sync_is_synced_whole() {
    let disk = SimDisk::new(stream(4, "disk"));
    disk.mount().create_dir(Path::new("/d")).unwrap();
    let file = durable_file(&disk, "a", &[0; 4096]);
    file.write_at(0, &[1; SECTOR]).unwrap();
    disk.arm(Fault::SyncError, 1);
    assert!(file.sync_data().is_err());
    file.write_at(SECTOR_BYTES, &[2; SECTOR]).unwrap();
    file.sync_data().unwrap();
    cut(&disk, &Cut::NOTHING);
    assert_eq!(sectors(&disk, "a")[..3], [1, 2, 0]);
}

#[test]
fn a_lying_sync_owes_until_a_true_one() {
    let disk = disk();
    let file = durable_file(&disk, "a", b"old");
    disk.set_lying(true);
    file.sync_data().unwrap();
    assert!(!disk.owes(), "there was nothing to sync");
    file.write_at(0, b"new").unwrap();
    file.sync_data().unwrap();
    open(&disk, "b");
    sync_names(&disk);
    assert!(disk.owes());
    assert_eq!(content(&disk.durable(), "a").unwrap(), b"old");
    assert_eq!(content(&disk.durable(), "b"), None);
    disk.set_lying(false);
    file.sync_data().unwrap();
    assert!(disk.owes(), "the name is not durable");
    sync_names(&disk);
    assert!(!disk.owes());
    cut(&disk, &Cut::NOTHING);
    assert_eq!((content(&disk, "a").unwrap(), content(&disk, "b")), (b"new".to_vec(), Some(vec![])));

    disk.set_lying(true);
    let file = open(&disk, "a");
    file.write_at(0, b"xyz").unwrap();
    file.sync_data().unwrap();
    cut(&disk, &Cut::NOTHING);
    assert_eq!(content(&disk, "a").unwrap(), b"new");
    assert!(!disk.owes());
}

#[test]
fn a_full_disk_refuses_to_grow_until_there_is_room() {
    let disk = disk();
    let file = durable_file(&disk, "a", &[1; 1000]);
    durable_file(&disk, "b", &[1; 500]);
    assert_eq!(disk.used(), 1500);
    disk.set_capacity(Some(1600));
    file.write_at(1000, &[1; 100]).unwrap();
    assert_eq!(file.write_at(1100, &[1]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.set_len(2000).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(0, &[2; 1000]).unwrap();
    assert_eq!(file.len().unwrap(), 1100);
    disk.mount().remove(&path("b")).unwrap();
    file.set_len(1600).unwrap();
    assert!(file.set_len(1601).is_err());
    disk.set_capacity(None);
    file.set_len(5000).unwrap();
}

#[test]
fn the_device_dies_in_the_middle_of_an_operation() {
    let mut written = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let disk = SimDisk::new(stream(seed, "disk"));
        disk.mount().create_dir(Path::new("/d")).unwrap();
        let file = durable_file(&disk, "a", b"0000");
        let deaths = Arc::new(AtomicU64::new(0));
        let count = deaths.clone();
        disk.on_death(Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        disk.arm(Fault::Death, 2);
        file.sync_data().unwrap();
        assert!(file.write_at(0, b"1111").is_err());
        assert!(disk.is_dead() && deaths.load(Ordering::SeqCst) == 1);
        assert!(file.read_at(0, &mut [0]).is_err() && file.sync_data().is_err() && file.len().is_err());
        assert!(disk.mount().open(&path("a"), OpenMode::Read).is_err());
        disk.kill();
        assert!(!disk.is_dead() && disk.armed() == 0);
        written.insert(content(&disk, "a").unwrap().iter().filter(|byte| **byte == b'1').count());
        cut(&disk, &Cut::NOTHING);
        assert_eq!(content(&disk, "a").unwrap(), b"0000");
    }
    assert!(written.len() > 3, "{written:?}");
}

#[test]
fn a_misdirected_write_spares_its_place_and_destroys_another() {
    let disk = disk();
    let file = durable_file(&disk, "a", &[0; 8 * SECTOR]);
    disk.arm(Fault::MisdirectedWrite, 1);
    file.write_at(2 * SECTOR_BYTES, &[9; SECTOR]).unwrap();
    file.sync_data().unwrap();
    let after = sectors(&disk, "a");
    assert_eq!(after.iter().filter(|byte| **byte == 9).count(), 1);
    assert_eq!(after[2], 0);
    cut(&disk, &Cut::NOTHING);
    assert_eq!(sectors(&disk, "a"), after);
}

#[test]
fn a_stale_sector_is_acknowledged_and_missing() {
    let disk = disk();
    let file = durable_file(&disk, "a", &[1; 3 * SECTOR]);
    disk.arm(Fault::StaleSector, 1);
    file.write_at(0, &[2; 4 * SECTOR]).unwrap();
    file.sync_data().unwrap();
    let after = sectors(&disk, "a");
    assert_eq!(after.len(), 4);
    assert_eq!(after.iter().filter(|byte| **byte != 2).count(), 1, "{after:?}");
}

#[test]
fn bits_rot_in_both_images() {
    let disk = disk();
    durable_file(&disk, "a", &[0; 5000]);
    let offsets = disk.rot(&path("a"), 1, &mut stream(3, "rot"));
    let live = content(&disk, "a").unwrap();
    assert_eq!(live[offsets[0] as usize].count_ones(), 1);
    assert_eq!(live.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    cut(&disk, &Cut::NOTHING);
    assert_eq!(content(&disk, "a").unwrap(), live);
    assert!(disk.rot(&path("none"), 1, &mut stream(3, "rot")).is_empty());
}

#[test]
fn a_fork_goes_its_own_way() {
    let disk = disk();
    durable_file(&disk, "a", b"abc").write_at(0, b"x").unwrap();
    let fork = disk.fork();
    open(&fork, "a").write_at(1, b"y").unwrap();
    assert_eq!(content(&fork, "a").unwrap(), b"xyc");
    assert_eq!(content(&disk, "a").unwrap(), b"xbc");
    assert_eq!(content(&disk.durable(), "a").unwrap(), b"abc");
}

#[test]
fn operations_owe_their_time() {
    let disk = disk();
    let file = durable_file(&disk, "a", b"abc");
    assert_eq!(take_pending_delay().as_nanos(), 0);
    disk.set_latency(Latency { read: (5, 5), write: (0, 0), sync: (1000, 1000) });
    file.write_at(0, b"x").unwrap();
    file.sync_data().unwrap();
    assert_eq!(take_pending_delay().as_nanos(), 1000);
    disk.set_slowdown(300);
    file.read_at(0, &mut [0]).unwrap();
    assert_eq!(take_pending_delay().as_nanos(), 1500);
    assert_eq!(take_pending_delay().as_nanos(), 0);
}

#[test]
fn blocking_work_takes_the_disks_time() {
    charge_blocking_work();
    let disk = disk();
    let file = durable_file(&disk, "a", b"abc");
    disk.set_latency(Latency { sync: (7_000_000, 7_000_000), ..Latency::default() });
    madsim::runtime::Runtime::new().block_on(async move {
        file.sync_data().unwrap();
        let clock = SystemClock::new();
        detcd::rt::blocking(move || file.sync_data()).await.unwrap();
        let took = clock.now().mono / Now::MILLISECOND;
        assert!((7..9).contains(&took), "{took} ms, and what was owed before is nobody's");
    });
}

#[test]
fn a_trace_and_the_counts_say_what_happened() {
    let disk = disk();
    let trace = Trace::new(true, false);
    disk.record(trace.clone(), 3, Arc::new(|| 42));
    let file = durable_file(&disk, "a", b"abc");
    disk.mount().rename(&path("a"), &path("b")).unwrap();
    file.write_at(7, b"abc").unwrap();
    assert_eq!(
        disk.last_write(),
        Some(LastWrite { path: path("b"), offset: 7, length: 3 }),
        "under the name that it has now"
    );
    cut(&disk, &Cut::NOTHING);
    let events: Vec<String> = trace.events().iter().map(ToString::to_string).collect();
    let of = |text: &str| events.iter().filter(|event| event.contains(text)).count();
    assert!(events.iter().all(|event| event.contains("m3   disk")), "{events:?}");
    assert_eq!(
        (of("write /d/a"), of("sync /d/a"), of("sync folder /d"), of("rename"), of("cut ")),
        (2, 1, 1, 1, 1)
    );
    let counts = disk.statistics();
    assert_eq!((counts.writes, counts.written_bytes, counts.syncs, counts.power_cuts), (2, 6, 1, 1));
}

/// Random operations against images that are plain bytes.
#[test]
fn pages_are_an_image_like_any_other() {
    let mut random = stream(5, "images");
    for _ in 0..30 {
        let disk = disk();
        let file = durable_file(&disk, "a", b"");
        let (mut live, mut durable) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            match random.random_range(0..10) {
                0..6 => {
                    let (offset, length) =
                        (random.random_range(0..20_000usize), random.random_range(0..9_000));
                    let byte = random.random_range(0..2);
                    file.write_at(offset as u64, &vec![byte; length]).unwrap();
                    if length > 0 && live.len() < offset + length {
                        live.resize(offset + length, 0);
                    }
                    live.get_mut(offset..offset + length).into_iter().for_each(|part| part.fill(byte));
                }
                6 => {
                    let length = random.random_range(0..30_000);
                    file.set_len(length as u64).unwrap();
                    live.resize(length, 0);
                }
                7 => {
                    file.sync_data().unwrap();
                    durable = live.clone();
                }
                _ => {
                    assert_eq!(content(&disk, "a").unwrap(), live);
                    assert_eq!(content(&disk.durable(), "a").unwrap(), durable);
                }
            }
        }
        cut(&disk, &Cut::NOTHING);
        assert_eq!(content(&disk, "a").unwrap(), durable);
    }
}
