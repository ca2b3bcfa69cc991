//! The two tasks that touch the disk for a member: one owns the write-ahead log, one the database.
//!
//! The event loop hands them jobs and never waits: what is done comes back as a [`DiskEvent`]. The log
//! task gathers every job that came while the last sync ran into one write and one sync (group commit).
//!
//! Invariants:
//! - jobs of one kind are done in the order in which they were handed over;
//! - the first fault ends both: no job is tried twice, nothing is acknowledged behind a failed sync.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::rt::sync::mpsc;

use crate::disk::Disk;
use crate::member::{Committed, Persist};
use crate::rt::{self, Clock};
use crate::storage::{Snapshot, Storage, StorageConfig};
use crate::types::backend::BackendBatch;
use crate::types::log::SnapshotPoint;
use crate::types::{LocalFault, Now};
use crate::wal::{FlushStats, Wal, WalBatch};

/// What the log task is asked.
pub enum LogJob {
    /// Append and sync.
    Persist(Persist),
    /// The database holds everything up to `standing`; segments whose entries are all at or below
    /// `through` may go.
    Release {
        /// How far the database is.
        standing: SnapshotPoint,
        /// The last index that nobody needs in the log.
        through: u64,
    },
}

impl LogJob {
    /// Whether nobody waits: it is written together with whatever comes next.
    fn can_wait(&self) -> bool {
        matches!(self, LogJob::Persist(persist) if persist.number.is_none() && persist.send_after.is_empty())
    }
}

/// What the database task is asked.
pub enum DatabaseJob {
    /// Commit a batch.
    Commit(BackendBatch),
    /// Put a received database in place of the own one.
    Install(PathBuf),
}

/// What the disk did.
pub enum DiskEvent {
    /// These are on stable storage.
    Persisted(Vec<Persist>),
    /// A batch is in the database.
    Committed(Committed, Arc<Snapshot>),
    /// A received database is in place.
    Installed(Committed, Arc<Snapshot>),
    /// The disk failed: the member must stop.
    Failed(LocalFault),
}

/// How long the disk took, for the metrics page.
pub trait DiskTimes: Send + Sync {
    /// A write to the log: bytes, time of the write and the sync together.
    fn log_synced(&self, bytes: u64, took: Duration);
    /// A commit of the database.
    fn committed(&self, took: Duration);
}

/// Where and how the database is kept.
#[derive(Clone)]
pub struct DatabaseHome {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The database file.
    pub path: PathBuf,
    /// Its settings.
    pub config: StorageConfig,
}

/// Time between two steps of preparing a segment: each step writes a mebibyte, which must not stand in
/// the way of requests, and must be done before the current segment is full.
const PREPARE_PAUSE: Duration = Duration::from_millis(20);

/// A sync that takes longer than this is never waited for on the network's thread.
const QUICK_SYNC: Duration = Duration::from_millis(1);

/// Writes of a single entry in a row, all quick, after which a client is taken to be alone.
const LONE_WRITES: u32 = 16;

/// Whether a write may run on the network's own thread.
///
/// Handing a write to another thread and back wakes a sleeping core twice, which takes as long as the
/// sync itself. With many clients that is nothing: the network's thread fills the next batch meanwhile.
/// A client that is alone only waits for it. So a write runs where it is while one entry at a time
/// comes, nothing else waits, and the disk is quick; the first sign of anything else ends that.
#[derive(Default)]
struct Pace {
    lone_writes: u32,
}

impl Pace {
    fn is_lone(&self, gathered: &[LogJob]) -> bool {
        self.lone_writes >= LONE_WRITES && is_single_entry(gathered)
    }

    fn note(&mut self, single_entry: bool, took: Duration) {
        let lone = single_entry && took < QUICK_SYNC;
        self.lone_writes = if lone { self.lone_writes.saturating_add(1) } else { 0 };
    }
}

fn is_single_entry(gathered: &[LogJob]) -> bool {
    matches!(gathered, [LogJob::Persist(persist)] if persist.entries.len() <= 1)
}

/// Tells the loop when the task that holds it ends. The loop outlives both tasks, so an end that it hears
/// of behind no other fault is a panic; without this it would learn of it from its next job, and who waits
/// for the last one never.
struct TellOfEnd {
    events: mpsc::UnboundedSender<DiskEvent>,
    task: &'static str,
}

impl Drop for TellOfEnd {
    fn drop(&mut self) {
        let fault = LocalFault::new(format!("the {} task ended unexpectedly", self.task));
        // The loop may be gone already; then nobody needs to hear of it.
        let _ = self.events.send(DiskEvent::Failed(fault));
    }
}

/// Runs the log task until the job queue closes or the disk fails. On the side it prepares the next
/// segments, so that none has to be made while somebody waits.
pub async fn log_task(
    mut wal: Wal,
    mut jobs: mpsc::UnboundedReceiver<LogJob>,
    events: mpsc::UnboundedSender<DiskEvent>,
    clock: Arc<dyn Clock>,
    times: Arc<dyn DiskTimes>,
) {
    let _tell = TellOfEnd { events: events.clone(), task: "log" };
    let mut preparing = !rt::buggify("log: prepares no segment");
    let mut prepared = clock.now();
    let mut pace = Pace::default();
    loop {
        let mut gathered = Vec::new();
        let pause = PREPARE_PAUSE.saturating_sub(elapsed(&*clock, prepared));
        rt::select! {
            job = jobs.recv() => match job {
                Some(first) => gathered.push(first),
                None => break,
            },
            () = rt::sleep(pause), if preparing => {}
        }
        while !rt::buggify("log: writes job by job")
            && let Ok(job) = jobs.try_recv()
        {
            gathered.push(job);
        }
        if !gathered.is_empty() && gathered.iter().all(LogJob::can_wait) {
            append(&mut wal, gathered);
            continue;
        }
        rt::dawdle("log: writes late").await;
        let prepare = preparing && elapsed(&*clock, prepared) >= PREPARE_PAUSE;
        let single_entry = is_single_entry(&gathered);
        let lone = !prepare && pace.is_lone(&gathered);
        let turn = LogTurn { wal, gathered, prepare, clock: clock.clone() };
        let done = if lone { turn.run() } else { rt::blocking(move || turn.run()).await };
        let done = match done {
            Ok(done) => done,
            Err(fault) => {
                // The loop may be gone already; then nobody needs to hear of it.
                let _ = events.send(DiskEvent::Failed(fault));
                return;
            }
        };
        wal = done.wal;
        preparing = done.more_to_prepare.unwrap_or(preparing || done.rolled);
        if prepare {
            prepared = clock.now();
        }
        if done.persisted.is_empty() {
            continue;
        }
        pace.note(single_entry, done.took);
        times.log_synced(done.bytes, done.took);
        rt::dawdle("log: answers late").await;
        if events.send(DiskEvent::Persisted(done.persisted)).is_err() {
            return;
        }
    }
    if let Err(fault) = rt::blocking(move || wal.seal()).await {
        // Nobody waits any more. Everything acknowledged is durable; only the mark of a clean end is not.
        tracing::warn!(error = %fault, "could not mark the end of the log");
    }
}

fn elapsed(clock: &dyn Clock, since: Now) -> Duration {
    Duration::from_nanos(clock.now().since(since))
}

/// One turn of the log task, off the network's thread.
struct LogTurn {
    wal: Wal,
    gathered: Vec<LogJob>,
    prepare: bool,
    clock: Arc<dyn Clock>,
}

/// What a turn of the log task did.
struct LogTurnDone {
    wal: Wal,
    persisted: Vec<Persist>,
    bytes: u64,
    took: Duration,
    rolled: bool,
    /// Whether there is more to prepare; none when nothing was prepared.
    more_to_prepare: Option<bool>,
}

impl LogTurn {
    fn run(mut self) -> Result<LogTurnDone, LocalFault> {
        let mut done = LogTurnDone {
            persisted: Vec::new(),
            bytes: 0,
            took: Duration::ZERO,
            rolled: false,
            more_to_prepare: None,
            wal: self.wal,
        };
        if !self.gathered.is_empty() {
            let started = self.clock.now();
            let (persisted, stats) = write_log(&mut done.wal, std::mem::take(&mut self.gathered))?;
            done.took = elapsed(&*self.clock, started);
            done.persisted = persisted;
            done.bytes = stats.bytes;
            done.rolled = stats.rolled;
        }
        if self.prepare {
            done.more_to_prepare = Some(done.wal.prepare()?);
        }
        Ok(done)
    }
}

/// Does the jobs with one sync. Returns what became durable and how many bytes were written.
fn write_log(wal: &mut Wal, jobs: Vec<LogJob>) -> Result<(Vec<Persist>, FlushStats), LocalFault> {
    let (persisted, release) = append(wal, jobs);
    let stats = wal.flush()?;
    if let Some(through) = release {
        wal.release(through)?;
    }
    Ok((persisted, stats))
}

/// Puts the jobs into the log's buffer. Returns what the next flush makes durable, and up to where the
/// log may be released after it.
fn append(wal: &mut Wal, jobs: Vec<LogJob>) -> (Vec<Persist>, Option<u64>) {
    let mut persisted = Vec::with_capacity(jobs.len());
    let mut release = None;
    for job in jobs {
        match job {
            LogJob::Persist(mut persist) => {
                let batch = WalBatch {
                    entries: std::mem::take(&mut persist.entries),
                    hard_state: persist.hard_state,
                    snapshot: persist.snapshot.clone(),
                };
                wal.append(&batch);
                persisted.push(persist);
            }
            LogJob::Release { standing, through } => {
                // The log may only let go of what it knows the database to hold.
                wal.append(&WalBatch { snapshot: Some(standing), entries: Vec::new(), hard_state: None });
                release = Some(through);
            }
        }
    }
    (persisted, release)
}

/// Runs the database task until the job queue closes or the disk fails.
pub async fn database_task(
    mut storage: Storage,
    home: DatabaseHome,
    mut jobs: mpsc::UnboundedReceiver<DatabaseJob>,
    events: mpsc::UnboundedSender<DiskEvent>,
    clock: Arc<dyn Clock>,
    times: Arc<dyn DiskTimes>,
) {
    let _tell = TellOfEnd { events: events.clone(), task: "database" };
    while let Some(job) = jobs.recv().await {
        rt::dawdle("database: commits late").await;
        let home_of_job = home.clone();
        let clock_of_job = clock.clone();
        let install = matches!(job, DatabaseJob::Install(_));
        let done = rt::blocking(move || {
            let started = clock_of_job.now();
            let done = run_database_job(storage, &home_of_job, job);
            (done, Duration::from_nanos(clock_of_job.now().since(started)))
        })
        .await;
        let event = match done {
            (Ok((back, committed)), took) => {
                storage = back;
                let snapshot = storage.snapshot();
                if install {
                    DiskEvent::Installed(committed, snapshot)
                } else {
                    times.committed(took);
                    DiskEvent::Committed(committed, snapshot)
                }
            }
            (Err(fault), _) => {
                // The loop may be gone already; then nobody needs to hear of it.
                let _ = events.send(DiskEvent::Failed(fault));
                return;
            }
        };
        rt::dawdle("database: answers late").await;
        if events.send(event).is_err() {
            return;
        }
    }
}

fn run_database_job(
    mut storage: Storage,
    home: &DatabaseHome,
    job: DatabaseJob,
) -> Result<(Storage, Committed), LocalFault> {
    match job {
        DatabaseJob::Commit(batch) => {
            storage.commit(batch)?;
        }
        DatabaseJob::Install(aside) => {
            drop(storage);
            storage = Storage::install(&*home.disk, &aside, &home.path, home.config)?;
        }
    }
    let committed = database_as_it_is(&storage);
    Ok((storage, committed))
}

/// The newest state of a database.
pub fn database_as_it_is(storage: &Storage) -> Committed {
    Committed { snapshot: storage.snapshot(), size: storage.size(), size_in_use: storage.size_in_use() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log::{EntryKind, LogEntry};

    fn persist(entries: u64) -> LogJob {
        let entry = |index| LogEntry { index, term: 1, kind: EntryKind::Normal, data: Default::default() };
        LogJob::Persist(Persist { entries: (0..entries).map(entry).collect(), ..Persist::default() })
    }

    #[tokio::test]
    async fn the_loop_hears_of_a_task_that_panics() {
        let (events, mut heard) = mpsc::unbounded_channel();
        let guard = TellOfEnd { events, task: "log" };
        let task = rt::spawn(async move {
            let _tell = guard;
            rt::blocking(|| panic!("a broken invariant")).await
        });
        assert!(matches!(heard.recv().await, Some(DiskEvent::Failed(_))));
        assert!(task.await.is_err());
    }

    #[test]
    fn only_a_client_that_is_alone_on_a_quick_disk_is_written_for_in_place() {
        let mut pace = Pace::default();
        let quick = Duration::from_micros(150);
        for _ in 0..LONE_WRITES {
            assert!(!pace.is_lone(&[persist(1)]));
            pace.note(true, quick);
        }
        assert!(pace.is_lone(&[persist(1)]));
        assert!(!pace.is_lone(&[persist(2)]), "two clients");
        assert!(!pace.is_lone(&[persist(1), persist(1)]), "one waits behind another");
        pace.note(true, QUICK_SYNC);
        assert!(!pace.is_lone(&[persist(1)]), "the disk was slow");
    }
}
