//! The database: gathers what was applied, commits it in the background, lets the log go.
//!
//! One commit is in flight at a time, so the next batch gathers while it runs. What is in flight or
//! gathered is in memory and in the log: a crash loses none of it.

use std::sync::Arc;

use super::Member;
use super::message::{Committed, Output, ReplyTo};
use super::watches::StoreHistory;
use crate::apply::{self, StateMachine};
use crate::limits;
use crate::planted::{self, Bug};
use crate::types::backend::BackendSnapshot;
use crate::types::log::SnapshotPoint;
use crate::types::{LocalFault, Now};

/// Where the database stands.
pub(super) struct Backend {
    size: u64,
    size_in_use: u64,
    /// Operations applied since the last batch was handed out.
    gathered: usize,
    /// Bytes of their entries.
    gathered_bytes: usize,
    /// When the oldest of them was applied.
    gathering_since: u64,
    commit_soon: bool,
    in_flight: Option<InFlight>,
    /// The log is released up to here.
    released: u64,
    /// The database as the last commit left it.
    snapshot: Arc<dyn BackendSnapshot>,
}

/// A batch on its way to the disk.
struct InFlight {
    through_main: i64,
    point: SnapshotPoint,
    replies: Vec<(ReplyTo, apply::Reply)>,
}

impl Backend {
    /// The database as it was found.
    pub fn new(found: Committed, now: Now) -> Self {
        Self {
            size: found.size,
            size_in_use: found.size_in_use,
            gathered: 0,
            gathered_bytes: 0,
            gathering_since: now.mono,
            commit_soon: false,
            in_flight: None,
            released: 0,
            snapshot: found.snapshot,
        }
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of it that hold data.
    pub fn size_in_use(&self) -> u64 {
        self.size_in_use
    }

    /// Notes that there is more to commit.
    pub fn note_applied(&mut self, operations: usize, bytes: usize, now: Now) {
        if self.gathered == 0 {
            self.gathering_since = now.mono;
        }
        self.gathered += operations;
        self.gathered_bytes += bytes;
    }

    /// Somebody waits for the next commit.
    pub fn commit_soon(&mut self) {
        self.commit_soon = true;
    }

    fn found(&mut self, committed: Committed) {
        self.size = committed.size;
        self.size_in_use = committed.size_in_use;
        self.snapshot = committed.snapshot;
    }
}

impl Member {
    /// Hands out what has gathered, when it is time and no commit is in flight.
    pub(super) fn commit_backend_when_due(&mut self, now: Now) {
        let backend = &self.backend;
        if backend.gathered == 0 || backend.in_flight.is_some() || self.installing.is_some() {
            return;
        }
        let due = backend.commit_soon
            || backend.gathered >= self.config.backend_batch_operations
            || backend.gathered_bytes >= limits::BACKEND_BATCH_BYTES
            || now.mono.saturating_sub(backend.gathering_since) >= self.config.backend_interval;
        if !due {
            return;
        }
        let batch = self.machine.take_batch();
        self.statistics.compaction_keys += batch.removed_records.len() as u64;
        let replies = self.take_removed_replies();
        self.backend.in_flight = Some(InFlight {
            through_main: self.machine.store().revision(),
            point: standing(&self.machine),
            replies,
        });
        if planted::is(Bug::LogReleasedTooEarly) {
            self.release_log(&standing(&self.machine));
        }
        self.backend.gathered = 0;
        self.backend.gathered_bytes = 0;
        self.backend.commit_soon = false;
        self.outputs.push(Output::Commit(batch));
    }

    pub(super) fn on_backend_committed(&mut self, committed: Committed, now: Now) {
        let Some(in_flight) = self.backend.in_flight.take() else { return };
        // While a snapshot takes the place of this database, only the replies matter.
        if self.installing.is_none() {
            let store = self.machine.store_mut();
            store.batch_committed(committed.snapshot.clone(), in_flight.through_main);
            self.backend.found(committed);
            let point = in_flight.point.clone();
            self.release_log(&point);
        }
        self.answer_finished_compactions(in_flight.replies);
        self.view_is_old = true;
        self.commit_backend_when_due(now);
    }

    /// Lets go of entries that the database holds, but for some that lagging followers may need.
    fn release_log(&mut self, point: &SnapshotPoint) {
        self.driver.compact_log(point.clone(), self.config.catchup_entries);
        let release = self.driver.first_index().saturating_sub(1).min(point.index);
        if release > self.backend.released {
            self.backend.released = release;
            self.outputs.push(Output::ReleaseLog { standing: point.clone(), through: release });
        }
    }

    /// The received database took the place of the own one: everything starts from it. Every commit that
    /// was under way is answered by now.
    pub(super) fn on_installed(&mut self, committed: Committed, now: Now) -> Result<(), LocalFault> {
        let snapshot = committed.snapshot.clone();
        let restored = StateMachine::restore(snapshot, self.config.machine.clone())?;
        let mut before = std::mem::replace(&mut self.machine, restored);
        if planted::is(Bug::SnapshotKeepsOldIndex) {
            std::mem::swap(self.machine.store_mut(), before.store_mut());
        }
        let point = standing(&self.machine);
        let announced = self.installing.take().map_or((0, 0), |point| (point.index, point.term));
        if (point.index, point.term) != announced {
            return Err(LocalFault::new(format!(
                "the installed database stands at entry {} of term {}, but entry {} of term {} was announced",
                point.index, point.term, announced.0, announced.1
            )));
        }
        self.backend = Backend::new(committed, now);
        self.backend.released = point.index;
        self.driver.set_snapshot_point(point.clone());
        self.driver.installed_snapshot(&point);
        // The leader may have sent its database in the middle of a compaction.
        self.compaction.scheduled(now);
        if !planted::is(Bug::AlarmsOfOldDatabase) {
            self.upkeep.note_lists_changed();
        }
        self.view_is_old = true;
        let view = self.machine.store().view();
        self.hub.restored(&StoreHistory(&view));
        self.upkeep.watchers_to_catch_up();
        self.serve_confirmed_reads(now);
        Ok(())
    }
}

/// How far the state machine is, as a place in the log.
pub(super) fn standing(machine: &StateMachine) -> SnapshotPoint {
    let applied = machine.applied();
    SnapshotPoint {
        index: applied.index,
        term: applied.term,
        voters: applied.voters.clone(),
        learners: applied.learners.clone(),
    }
}
