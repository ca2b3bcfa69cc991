use super::*;
use crate::disk::OpenMode;
use crate::disk::memory::MemoryDisk;
use crate::types::log::EntryKind;

const DIR: &str = "/data/wal";
/// Small, so that a few batches fill it.
const CONFIG: WalConfig = WalConfig { segment_bytes: 4096, spare_segments: 2 };

pub(super) fn create(disk: &MemoryDisk) -> Result<Wal, LocalFault> {
    Wal::create(Arc::new(disk.clone()), Path::new(DIR), CONFIG, Bytes::from_static(b"member 1"))
}

pub(super) fn open(disk: &MemoryDisk) -> Result<(Wal, Recovered), LocalFault> {
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), CONFIG)
}

pub(super) fn files(disk: &MemoryDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap()
}

pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

pub(super) fn entry(index: u64, term: u64, bytes: usize) -> LogEntry {
    let data = vec![(index % 251) as u8 + 1; bytes].into();
    LogEntry { index, term, kind: EntryKind::Normal, data }
}

pub(super) fn point(index: u64, term: u64) -> SnapshotPoint {
    SnapshotPoint { index, term, voters: vec![1, 2, 3], learners: vec![4] }
}

fn entries(range: std::ops::Range<u64>, term: u64) -> WalBatch {
    WalBatch { entries: range.map(|index| entry(index, term, 100)).collect(), ..Default::default() }
}

fn snapshot(index: u64, term: u64) -> WalBatch {
    WalBatch { snapshot: Some(point(index, term)), ..Default::default() }
}

/// A disk with a log to which these batches were appended, each flushed.
fn log_of(batches: &[WalBatch]) -> (MemoryDisk, Wal) {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk).unwrap();
    for batch in batches {
        wal.append(batch);
        wal.flush().unwrap();
    }
    (disk, wal)
}

/// Opens the log after a power cut and compares the snapshot point, and index and term of its entries.
#[track_caller]
fn check(disk: &MemoryDisk, snapshot: u64, expected: &[(u64, u64)]) -> Recovered {
    disk.power_cut(|| false);
    let (_, recovered) = open(disk).unwrap();
    let found: Vec<_> = recovered.entries.iter().map(|entry| (entry.index, entry.term)).collect();
    assert_eq!((recovered.snapshot.index, &found[..]), (snapshot, expected));
    recovered
}

/// Opening fails, with a message that has these words.
#[track_caller]
fn check_refused(disk: &MemoryDisk, words: &[&str]) {
    let text = open(disk).err().expect("the log opened").to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

fn flip(disk: &MemoryDisk, offset: u64) {
    let name = files(disk).into_iter().rfind(|name| name.ends_with(".wal")).unwrap();
    disk.flip(&path(&name), offset, 1);
}

fn spare_count(disk: &MemoryDisk) -> usize {
    files(disk).iter().filter(|name| name.starts_with("spare")).count()
}

#[test]
fn an_empty_log_opens_empty() {
    let (disk, wal) = log_of(&[]);
    assert!(Wal::exists(&disk, Path::new(DIR)).unwrap());
    assert!(create(&disk).is_err());
    drop(wal);
    let recovered = check(&disk, 0, &[]);
    assert_eq!(recovered.metadata, "member 1");
    assert_eq!((recovered.hard_state, recovered.repaired), (HardState::default(), None));
}

#[test]
fn a_missing_log_is_an_error() {
    let disk = MemoryDisk::new();
    assert!(!Wal::exists(&disk, Path::new(DIR)).unwrap());
    disk.create_dir(Path::new(DIR)).unwrap();
    assert!(!Wal::exists(&disk, Path::new(DIR)).unwrap());
    check_refused(&disk, &["no segment", DIR]);
}

#[test]
fn everything_flushed_comes_back_as_it_was() {
    let mut batch = entries(1..3, 1);
    batch.entries[0].kind = EntryKind::ConfChangeV2;
    batch.entries[1].data = Bytes::new();
    batch.hard_state = Some(HardState { term: 1, vote: 2, commit: 1 });
    let (disk, mut wal) = log_of(std::slice::from_ref(&batch));
    wal.append(&entries(3..9, 1));
    let recovered = check(&disk, 0, &[(1, 1), (2, 1)]);
    assert_eq!(Some(recovered.hard_state), batch.hard_state);
    assert_eq!(recovered.entries, batch.entries);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let (disk, _) = log_of(&[entries(1..6, 1), entries(3..5, 2)]);
    check(&disk, 0, &[(1, 1), (2, 1), (3, 2), (4, 2)]);
}

#[test]
fn a_snapshot_point_in_the_log_keeps_what_follows() {
    let (disk, _) = log_of(&[entries(1..4, 1), entries(4..7, 2), snapshot(4, 2)]);
    check(&disk, 4, &[(5, 2), (6, 2)]);
}

#[test]
fn a_snapshot_point_outside_the_log_restarts_it() {
    let (disk, _) = log_of(&[entries(1..6, 1), snapshot(4, 2)]);
    check(&disk, 4, &[]);
    let mut ahead = snapshot(40, 3);
    ahead.entries = entries(41..43, 3).entries;
    let (disk, mut wal) = log_of(&[entries(1..6, 1), ahead]);
    assert_eq!(wal.last_index(), 42);
    wal.append(&entries(42..44, 4));
    wal.flush().unwrap();
    check(&disk, 40, &[(41, 3), (42, 4), (43, 4)]);
}

#[test]
#[should_panic(expected = "entry 3 after point 0, last 1")]
fn a_gap_is_refused_at_once() {
    let (_, mut wal) = log_of(&[entries(1..2, 1)]);
    wal.append(&entries(3..4, 1));
}

#[test]
fn segments_roll_are_released_and_used_again() {
    let (disk, mut wal) = log_of(&[]);
    let (mut rolls, mut spares) = (0, 0);
    for index in 1..100 {
        wal.append(&entries(index..index + 1, 7));
        wal.append(&WalBatch {
            hard_state: Some(HardState { term: 7, vote: 1, commit: index }),
            ..Default::default()
        });
        rolls += u64::from(wal.flush().unwrap().rolled);
        if index % 10 == 0 {
            wal.append(&snapshot(index - 5, 7));
            wal.release(index).unwrap();
            spares = spares.max(spare_count(&disk));
        }
    }
    assert!(rolls > 10, "{rolls}");
    assert_eq!(spares, CONFIG.spare_segments);
    assert!(files(&disk).len() < 8, "{:?}", files(&disk));
    let expected: Vec<_> = (86..100).map(|index| (index, 7)).collect();
    let recovered = check(&disk, 85, &expected);
    assert_eq!(recovered.hard_state.commit, 99);
    assert_eq!((recovered.metadata, recovered.repaired), (Bytes::from_static(b"member 1"), None));
}

#[test]
fn nothing_is_released_beyond_the_flushed_snapshot_point() {
    let (disk, mut wal) = log_of(&(1..30).map(|index| entries(index..index + 1, 1)).collect::<Vec<_>>());
    let before = files(&disk);
    wal.append(&snapshot(29, 1));
    wal.release(29).unwrap();
    assert_eq!(files(&disk), before);
    wal.flush().unwrap();
    wal.release(u64::MAX).unwrap();
    check(&disk, 29, &[]);
    assert!(files(&disk).len() < before.len());
}

#[test]
fn a_batch_larger_than_a_segment_gets_its_own() {
    let big = WalBatch { entries: vec![entry(2, 1, 20_000)], ..Default::default() };
    let (disk, _) = log_of(&[entries(1..2, 1), big.clone(), entries(3..4, 1)]);
    let recovered = check(&disk, 0, &[(1, 1), (2, 1), (3, 1)]);
    assert_eq!(recovered.entries[1], big.entries[0]);
}

#[test]
fn a_prepared_file_is_taken_by_the_next_roll() {
    let large = |index| WalBatch { entries: vec![entry(index, 1, 2000)], ..Default::default() };
    let (disk, mut wal) = log_of(&[large(1)]);
    while wal.prepare().unwrap() {}
    assert!(files(&disk).contains(&"spare-0".to_owned()));
    wal.append(&large(2));
    assert!(wal.flush().unwrap().rolled);
    assert!(files(&disk).iter().all(|name| name.ends_with(".wal")));
    check(&disk, 0, &[(1, 1), (2, 1)]);
}

#[test]
fn an_unfinished_prepared_file_is_removed() {
    let (disk, _) = log_of(&[]);
    disk.open(&path("prepare.tmp"), OpenMode::CreateNew).unwrap();
    check(&disk, 0, &[]);
    disk.open(&path("prepare.tmp"), OpenMode::CreateNew).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    check(&disk, 0, &[]);
    assert!(!disk.exists(&path("prepare.tmp")).unwrap());
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let (disk, mut wal) = log_of(&[entries(1..2, 1)]);
    wal.append(&entries(2..3, 1));
    disk.fail_next_sync();
    let fault = wal.flush().unwrap_err();
    assert!(fault.to_string().contains("sync"), "{fault}");
    let changes = disk.changes();
    assert_eq!(wal.flush().unwrap_err(), fault);
    assert_eq!(wal.seal().unwrap_err(), fault);
    assert_eq!(wal.release(1).unwrap_err(), fault);
    assert_eq!(wal.prepare().unwrap_err(), fault);
    assert_eq!(disk.changes(), changes);
}

#[test]
fn what_a_killed_process_wrote_is_durable_once_it_was_read() {
    let (disk, mut wal) = log_of(&[entries(1..2, 1)]);
    wal.append(&entries(2..3, 1));
    disk.die_after(2);
    wal.flush().unwrap_err();
    disk.kill();
    assert_eq!(open(&disk).unwrap().1.entries.len(), 2);
    check(&disk, 0, &[(1, 1), (2, 1)]);
}

/// Offsets of the first batches after the carried one in a log of single-sector batches.
const BATCH_1: u64 = 1024;
const BATCH_2: u64 = 1536;

#[test]
fn damage_before_a_later_batch_is_refused() {
    for offset in [BATCH_1, BATCH_1 + 12, BATCH_1 + 43, BATCH_1 + 60] {
        let (disk, _) = log_of(&[entries(1..2, 1), entries(2..3, 1)]);
        flip(&disk, offset);
        check_refused(&disk, &["/data/wal/0000000000000001-0000000000000001.wal", "offset 1024", "1536"]);
    }
}

#[test]
fn damage_in_the_last_batch_is_cut_off_and_reported_unless_sealed() {
    let file = path("0000000000000001-0000000000000001.wal");
    let repair = Repair { file, offset: BATCH_2, bytes: 4096 - BATCH_2 };
    let cut_off = |offset| {
        let (disk, _) = log_of(&[entries(1..2, 1), entries(2..3, 1)]);
        flip(&disk, offset);
        assert_eq!(check(&disk, 0, &[(1, 1)]).repaired.as_ref(), Some(&repair));
        assert_eq!(check(&disk, 0, &[(1, 1)]).repaired, None);
        disk
    };
    cut_off(BATCH_2 + 4);
    let disk = cut_off(BATCH_2 + 60);

    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&entries(2..3, 1));
    wal.seal().unwrap();
    flip(&disk, BATCH_2 + 60);
    check_refused(&disk, &["offset 1536", "checksum"]);
}

#[test]
fn damage_in_the_carried_state_or_header_is_refused() {
    let refused = |offset: u64, words: &[&str]| {
        let (disk, _) = log_of(&[]);
        flip(&disk, offset);
        check_refused(&disk, words);
    };
    refused(0, &["magic", "offset 0"]);
    refused(9, &["version", "newer than 1"]);
    refused(20, &["checksum", "offset 0"]);
    refused(512, &["batch header", "offset 512"]);
    refused(570, &["checksum", "offset 512"]);
}

#[test]
fn missing_segments_are_refused() {
    let batches: Vec<_> = (1..30).map(|index| entries(index..index + 1, 1)).collect();
    let without = |at: usize, words: &[&str]| {
        let (disk, _) = log_of(&batches);
        disk.remove(&path(&files(&disk)[at])).unwrap();
        check_refused(&disk, words);
    };
    without(0, &["entries 1 to", "are missing"]);
    without(1, &["segment 0000000000000002", "is gone"]);
}

/// Fills a log with zeros from every offset on, as if nothing behind had reached the medium.
#[test]
fn a_log_cut_at_any_byte_gives_the_batches_before() {
    let (disk, _) = log_of(&[entries(1..2, 1), entries(2..7, 1), entries(7..8, 1)]);
    let file = path(&files(&disk)[0]);
    let open_file = || disk.open(&file, OpenMode::ReadWrite).unwrap();
    let mut whole = vec![0; 4096];
    open_file().read_at(0, &mut whole).unwrap();
    // Bytes of header and payload of each batch, and the last index after it.
    let record = 5 + 17 + 100;
    let ends = [(1024 + 44 + record, 1), (1536 + 44 + 5 * record, 6), (2560 + 44 + record, 7)];
    for cut in 1024..4096 {
        let mut image = whole.clone();
        image[cut..].fill(0);
        open_file().write_at(0, &image).unwrap();
        let (_, recovered) = open(&disk).unwrap();
        let last = recovered.entries.last().map_or(0, |entry| entry.index);
        let expected = ends.iter().rfind(|(end, _)| *end <= cut).map_or(0, |(_, last)| *last);
        assert_eq!(last, expected, "cut at {cut}");
    }
    for cut in 0..600 {
        let mut image = whole.clone();
        image[cut..].fill(0);
        open_file().write_at(0, &image).unwrap();
        assert!(open(&disk).is_err(), "cut at {cut}");
    }
}

/// A crash never makes a segment shorter: its length was durable before it got its name.
#[test]
fn a_segment_that_was_cut_short_is_refused() {
    let (disk, _) = log_of(&[entries(1..2, 1), entries(2..7, 1), entries(7..8, 1)]);
    let file = path(&files(&disk)[0]);
    // The last batch ends at 3072, and the end mark behind it.
    for length in (0..3584).rev().step_by(53).chain([3072, 2560, 1536, 1024, 512]) {
        disk.open(&file, OpenMode::ReadWrite).unwrap().set_len(length).unwrap();
        check_refused(&disk, &["0000000000000001.wal at offset"]);
    }
}

/// A spare may hold the beginning of the very segment that it becomes, from an attempt that failed, after
/// which the one before went on. Should the write of the true beginning be lost, the old one fits.
#[test]
fn the_beginning_of_a_segment_from_an_earlier_attempt_is_refused() {
    let single = |index: u64| entries(index..index + 1, 1);
    let (big, promise) = (entries(4..14, 1), HardState { term: 2, vote: 3, commit: 3 });
    let vote = WalBatch { hard_state: Some(promise), ..Default::default() };
    let (attempt, _) = log_of(&[single(1), single(2), single(3), big.clone()]);
    let (disk, _) = log_of(&[single(1), single(2), single(3), vote, big]);
    assert_eq!(files(&attempt), files(&disk), "both begin a second segment at entry 4");
    let second = path(&files(&disk)[1]);
    let mut beginning = vec![0; 1024];
    attempt.open(&second, OpenMode::Read).unwrap().read_at(0, &mut beginning).unwrap();
    disk.open(&second, OpenMode::ReadWrite).unwrap().write_at(0, &beginning).unwrap();
    check_refused(&disk, &["0000000000000001.wal at offset 2560", "a batch follows"]);
}

#[test]
fn stale_batches_of_a_recycled_file_are_not_read() {
    // Fill segments, release them, and roll into a recycled one.
    let (disk, mut wal) = log_of(&(1..20).map(|index| entries(index..index + 1, 1)).collect::<Vec<_>>());
    wal.append(&snapshot(19, 1));
    wal.flush().unwrap();
    wal.release(19).unwrap();
    assert_eq!(spare_count(&disk), 2);
    let mut index = 20;
    while spare_count(&disk) == 2 {
        wal.append(&entries(index..index + 1, 2));
        wal.flush().unwrap();
        index += 1;
    }
    // The file still holds batches of its first life behind the end mark.
    let file = disk.open(&wal.folder.path(&wal.current().file_name()), OpenMode::Read).unwrap();
    let mut stale = [0; 4];
    file.read_at(wal.position.offset + 512, &mut stale).unwrap();
    assert_eq!(&stale, b"BTCH");

    let expected: Vec<_> = (20..index).map(|index| (index, 2)).collect();
    assert_eq!(check(&disk, 19, &expected).repaired, None);
}

#[test]
fn works_on_real_files() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("member/wal");
    let disk: Arc<dyn Disk> = Arc::new(crate::disk::real::RealDisk);
    let mut wal = Wal::create(disk.clone(), &dir, CONFIG, Bytes::from_static(b"m")).unwrap();
    for index in 1..50 {
        wal.append(&entries(index..index + 1, 1));
        wal.flush().unwrap();
    }
    wal.append(&snapshot(40, 1));
    wal.flush().unwrap();
    wal.release(40).unwrap();
    drop(wal);
    let (_, recovered) = Wal::open(disk, &dir, CONFIG).unwrap();
    assert_eq!((recovered.snapshot.index, recovered.entries.len()), (40, 9));
}
