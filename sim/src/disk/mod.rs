//! placeholder until the disk lands
use std::path::Path;
use std::sync::{Arc, Mutex};
use detcd::disk::memory::MemoryDisk;
use detcd::disk::{Disk, File, OpenMode};
use rand::Rng;
use crate::history::MemberNumber;
use crate::random::Random;
use crate::trace::Trace;

#[derive(Clone)]
pub struct SimDisk { inner: MemoryDisk, random: Arc<Mutex<Random>> }
impl SimDisk {
    pub fn new(_member: MemberNumber, random: Random, _trace: Trace) -> Self { Self { inner: MemoryDisk::new(), random: Arc::new(Mutex::new(random)) } }
    pub fn kill(&self) { self.inner.kill() }
    pub fn power_cut(&self) { let mut r = self.random.lock().unwrap(); self.inner.power_cut(|| r.random_range(0..2) == 0) }
    pub fn die_after(&self, n: u64) { self.inner.die_after(n) }
    pub fn fail_next_sync(&self) { self.inner.fail_next_sync() }
}
impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<Arc<dyn File>> { self.inner.open(path, mode) }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> { self.inner.rename(from, to) }
    fn remove(&self, path: &Path) -> std::io::Result<()> { self.inner.remove(path) }
    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> { self.inner.sync_dir(dir) }
    fn create_dir(&self, dir: &Path) -> std::io::Result<()> { self.inner.create_dir(dir) }
    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> { self.inner.list(dir) }
    fn exists(&self, path: &Path) -> std::io::Result<bool> { self.inner.exists(path) }
    fn lock(&self, path: &Path) -> std::io::Result<Arc<dyn File>> { self.inner.lock(path) }
}
impl SimDisk {
    pub fn is_dead(&self) -> bool { self.inner.exists(Path::new("/")).is_err() }
    pub fn strike(&self, fault: crate::nemesis::DiskFault) {
        use crate::nemesis::DiskFault;
        match fault { DiskFault::DiesAt(n) => self.die_after(n), DiskFault::SyncFails => self.fail_next_sync(), _ => {} }
    }
    pub fn mend(&self) {}
}
