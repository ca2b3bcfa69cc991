#![expect(clippy::disallowed_methods, reason = "looks at what the real disk did")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::memory::MemoryDisk;
use super::real::RealDisk;
use super::*;

/// What both implementations must do alike, in a folder that does not exist yet.
fn check_contract(disk: &dyn Disk, dir: PathBuf) {
    let path = |name: &str| dir.join(name);
    disk.create_dir(&dir).unwrap();
    disk.create_dir(&dir).unwrap();
    assert!(disk.open(&path("a"), OpenMode::ReadWrite).is_err());

    let file = disk.open(&path("a"), OpenMode::CreateNew).unwrap();
    let again = disk.open(&path("a"), OpenMode::CreateNew).err().unwrap();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    file.write_at(3, b"xyz").unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.len().unwrap(), 6);
    let mut all = [1; 6];
    file.read_at(0, &mut all).unwrap();
    assert_eq!(&all, b"\0\0\0xyz");
    assert_eq!(file.read_at(1, &mut all).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    file.set_len(4).unwrap();

    disk.open(&path("b"), OpenMode::OpenOrCreate).unwrap().write_at(0, b"b").unwrap();
    assert_eq!(disk.list(&dir).unwrap(), ["a", "b"]);
    disk.rename(&path("a"), &path("b")).unwrap();
    disk.sync_dir(&dir).unwrap();
    assert_eq!(disk.list(&dir).unwrap(), ["b"]);
    let read_only = disk.open(&path("b"), OpenMode::Read).unwrap();
    assert_eq!(read_only.len().unwrap(), 4);
    assert!(read_only.write_at(0, b"x").is_err());
    file.write_at(0, b"still the same file").unwrap();
    assert_eq!(read_only.len().unwrap(), 19);

    disk.remove(&path("b")).unwrap();
    assert!(!disk.exists(&path("b")).unwrap());
    assert!(disk.exists(&dir).unwrap());
    assert!(disk.list(&path("none")).is_err());

    let lock = disk.lock(&path("lock")).unwrap();
    let refused = disk.lock(&path("lock")).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    assert!(refused.to_string().contains("in use"), "{refused}");
    drop(lock);
    disk.lock(&path("lock")).unwrap();
}

#[test]
fn real_disk_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    check_contract(&RealDisk, folder.path().join("data/member"));
}

#[test]
fn real_disk_is_for_its_owner_only() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data/member");
    RealDisk.create_dir(&dir).unwrap();
    RealDisk.open(&dir.join("f"), OpenMode::CreateNew).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&folder.path().join("data")), mode(&dir), mode(&dir.join("f"))), (0o700, 0o700, 0o600));
}

#[test]
fn memory_disk_keeps_the_contract() {
    check_contract(&MemoryDisk::new(), PathBuf::from("/data/member"));
}

/// A memory disk with one synced file `/d/f` of 2 KiB of ones.
fn disk_with_file() -> (MemoryDisk, Arc<dyn File>) {
    let disk = MemoryDisk::new();
    disk.create_dir(Path::new("/d")).unwrap();
    let file = disk.open(Path::new("/d/f"), OpenMode::CreateNew).unwrap();
    file.write_at(0, &[1; 2048]).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

fn contents(disk: &MemoryDisk, path: &str) -> Vec<u8> {
    let file = disk.open(Path::new(path), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn power_cut_tears_unsynced_writes_at_sectors() {
    let (disk, file) = disk_with_file();
    file.write_at(100, &[2; 1000]).unwrap();
    let mut survives = [true, false, true].into_iter();
    disk.power_cut(|| survives.next().unwrap());

    let mut expected = vec![1; 2048];
    expected[100..512].fill(2);
    expected[1024..1100].fill(2);
    assert_eq!(contents(&disk, "/d/f"), expected);
    assert!(file.write_at(0, b"ghost").is_err());
}

#[test]
fn names_need_a_sync_of_their_folder() {
    let (disk, _) = disk_with_file();
    let change = || {
        disk.open(Path::new("/d/new"), OpenMode::CreateNew).unwrap();
        disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
    };
    change();
    disk.power_cut(|| false);
    assert_eq!(disk.list(Path::new("/d")).unwrap(), ["f"]);
    change();
    disk.kill();
    assert_eq!(disk.list(Path::new("/d")).unwrap(), ["g", "new"]);
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.power_cut(|| false);
    assert_eq!(disk.list(Path::new("/d")).unwrap(), ["g", "new"]);
}

#[test]
fn device_dies_at_the_chosen_change() {
    let (disk, file) = disk_with_file();
    disk.die_after(2);
    file.write_at(0, &[2; 512]).unwrap();
    assert!(file.write_at(512, &[3; 512]).is_err());
    assert!(file.sync_data().is_err());
    assert!(disk.list(Path::new("/d")).is_err());
    disk.power_cut(|| true);
    assert_eq!(
        contents(&disk, "/d/f")[..1025],
        [[2; 512], [3; 512]].concat().into_iter().chain([1]).collect::<Vec<_>>()
    );
}
