//! Recovery on a disk that dies, and on folders that were mixed up.

use std::path::Path;

use super::*;
use crate::disk::memory::MemoryDisk;
use crate::storage::StorageConfig;
use crate::types::log::EntryKind;

const MEMBERS: &str = "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380";

fn cluster(token: &str) -> InitialCluster {
    InitialCluster::parse(MEMBERS, token).unwrap()
}

/// A home in a folder of its own, which is made.
fn home(disk: &MemoryDisk, folder: &str) -> Home {
    let folder = Path::new(folder);
    disk.create_dir(folder).unwrap();
    Home {
        database: DatabaseHome {
            disk: Arc::new(disk.clone()),
            path: folder.join("db"),
            config: StorageConfig { cache_bytes: 1 << 20, verify_on_open: true },
        },
        wal_dir: folder.join("wal"),
        wal: WalConfig { segment_bytes: 4096, spare_segments: 1 },
    }
}

/// What a start does: goes on from what is there, or makes a member.
fn start_of(home: &Home, token: &str) -> Result<Opened, LocalFault> {
    let cluster = cluster(token);
    let member_id = cluster.local("a")?.id;
    reopen(home)?.map_or_else(|| bootstrap(home, &cluster, member_id), Ok)
}

fn start(home: &Home) -> Result<Opened, LocalFault> {
    start_of(home, "token")
}

/// The point that a database stands at, with the voters of the cluster.
fn applied(index: u64, term: u64) -> AppliedPoint {
    let mut voters: Vec<u64> = cluster("token").members().map(|member| member.id.0).collect();
    voters.sort_unstable();
    AppliedPoint { index, term, voters, learners: Vec::new() }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

/// A new member whose log then took entries 2 to 5 of term 2, and whose database was then committed at
/// each of these points.
fn member(home: &Home, token: &str, hard_state: HardState, points: &[(u64, u64)]) {
    let mut opened = start_of(home, token).unwrap();
    let entry = |index| LogEntry { index, term: 2, kind: EntryKind::Normal, data: Default::default() };
    let entries = (2..=5).map(entry).collect();
    opened.wal.append(&WalBatch { entries, hard_state: Some(hard_state), snapshot: None });
    opened.wal.flush().unwrap();
    for &(index, term) in points {
        let applied = Some(applied(index, term));
        opened.storage.commit(BackendBatch { applied, ..BackendBatch::default() }).unwrap();
    }
}

/// Starts twice, with a power cut before each: both times the member must be this.
#[track_caller]
fn check(disk: &MemoryDisk, home: &Home, point: (u64, u64), state: HardState, entries: &[(u64, u64)]) {
    for start_number in 1..=2 {
        disk.power_cut(|| false);
        let opened = start(home).unwrap();
        let found: Vec<_> = opened.recovered.entries.iter().map(|entry| (entry.index, entry.term)).collect();
        // A start says in the log where the database stands, and the next one gives back what is behind.
        let expected: Vec<_> =
            entries.iter().copied().filter(|&(index, _)| start_number == 1 || index > point.0).collect();
        assert_eq!(found, expected, "start {start_number}");
        assert_eq!(opened.recovered.hard_state, state, "start {start_number}");
        let stands = opened.recovered.backend.snapshot.applied().unwrap();
        assert_eq!(stands, Some(applied(point.0, point.1)), "start {start_number}");
        let last = entries.last().map_or(point.0, |&(index, _)| index);
        assert_eq!(opened.wal.last_index(), last, "start {start_number}");
        assert_eq!(opened.cluster_id, cluster("token").cluster_id());
        assert_eq!(opened.member_id, cluster("token").local("a").unwrap().id);
        assert_eq!(opened.recovered.backend.snapshot.rows(Table::Members).unwrap().len(), 2);
    }
}

#[test]
fn a_crash_at_any_moment_of_bootstrap_leaves_nothing_or_a_member() {
    let survivals: [fn(u32) -> bool; 3] = [|_| false, |_| true, |number| number % 2 == 0];
    for survives in survivals {
        let mut crashes = 0;
        loop {
            let disk = MemoryDisk::new();
            let home = home(&disk, "/d");
            disk.sync_dir(Path::new("/")).unwrap();
            disk.die_after(crashes + 1);
            let done = start(&home).is_ok();
            let mut number = 0;
            disk.power_cut(|| {
                number += 1;
                survives(number)
            });
            check(&disk, &home, (1, 1), hard_state(1, 0, 1), &[]);
            if done {
                break;
            }
            crashes += 1;
        }
        assert!(crashes > 10, "bootstrap took only {crashes} operations of the disk");
    }
}

#[test]
fn a_database_behind_the_log_is_caught_up_from_it() {
    let behind = |points: &[(u64, u64)], point| {
        let disk = MemoryDisk::new();
        let home = home(&disk, "/d");
        member(&home, "token", hard_state(2, 7, 4), points);
        check(&disk, &home, point, hard_state(2, 7, 4), &[(2, 2), (3, 2), (4, 2), (5, 2)]);
    };
    behind(&[], (1, 1));
    behind(&[(3, 2)], (3, 2));
    // The commit index is written lazily.
    let disk = MemoryDisk::new();
    let home = home(&disk, "/d");
    member(&home, "token", hard_state(2, 7, 2), &[(5, 2)]);
    check(&disk, &home, (5, 2), hard_state(2, 7, 5), &[(2, 2), (3, 2), (4, 2), (5, 2)]);
}

#[test]
fn a_database_ahead_of_the_log_was_installed() {
    let ahead = |written: HardState, point, state| {
        let disk = MemoryDisk::new();
        let home = home(&disk, "/d");
        member(&home, "token", written, &[point]);
        check(&disk, &home, point, state, &[]);
    };
    // Beyond the end of the log: a vote of a term that has passed binds nobody any more.
    ahead(hard_state(2, 7, 4), (9, 3), hard_state(3, 0, 9));
    ahead(hard_state(3, 7, 4), (9, 3), hard_state(3, 7, 9));
    ahead(hard_state(4, 7, 4), (9, 3), hard_state(4, 7, 9));
    // Within the log, whose entries from there on never were committed.
    ahead(hard_state(2, 7, 2), (4, 3), hard_state(3, 0, 4));
}

#[test]
fn what_no_crash_can_have_left_is_refused_and_kept() {
    let refused = |home: &Home, reason: &str| {
        let names_before = home.database.disk.list(home.database.path.parent().unwrap()).unwrap();
        let Err(fault) = start(home) else { panic!("not refused: {reason}") };
        let text = fault.to_string();
        for part in [reason, home.wal_dir.to_str().unwrap(), home.database.path.to_str().unwrap()] {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        let names = home.database.disk.list(home.database.path.parent().unwrap()).unwrap();
        assert_eq!(names, names_before);
    };
    let disk = MemoryDisk::new();
    let (new, old) = (home(&disk, "/new"), home(&disk, "/old"));
    let (other_term, other_cluster) = (home(&disk, "/term"), home(&disk, "/cluster"));
    member(&new, "token", hard_state(2, 0, 5), &[(5, 2)]);
    // Notes in the log where the database stands.
    drop(start(&new).unwrap());
    member(&old, "token", hard_state(2, 0, 4), &[(3, 2)]);
    member(&other_term, "token", hard_state(3, 0, 4), &[(4, 3)]);
    member(&other_cluster, "another", hard_state(2, 0, 4), &[(3, 2)]);
    let joined = |log: &Home, database: &Home| Home {
        wal_dir: log.wal_dir.clone(),
        database: database.database.clone(),
        wal: log.wal,
    };
    let nowhere = home(&disk, "/nowhere");
    refused(&joined(&nowhere, &new), "holds the effects up to entry 5, but there is no log");
    refused(&joined(&new, &nowhere), "the database is missing");
    refused(
        &joined(&new, &old),
        "begins behind entry 5, but the database only holds the effects up to entry 3",
    );
    refused(&joined(&old, &other_term), "the log has committed another entry 4");
    refused(&joined(&old, &other_cluster), "of cluster");
    // What was refused is whole.
    let Ok(opened) = start(&new) else { panic!("the member was damaged") };
    assert_eq!(opened.recovered.backend.snapshot.applied().unwrap(), Some(applied(5, 2)));
}
