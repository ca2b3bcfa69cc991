//! The writer's side of the store: its state, and the exchange with the database.

use std::sync::Arc;

use super::cache::ValueCache;
use super::compaction::Pass;
use super::view::View;
use super::write::WriteTxn;
use super::{PAGE_RECORDS, RECENT_BYTES, VALUE_CACHE_BYTES};
use crate::planted::{self, Bug};
use crate::types::backend::{BackendBatch, BackendSnapshot};
use crate::types::change::Change;

/// Values that one transaction may evict, or spare, to pay for those it brought into memory.
const EVICTION_STEPS: usize = 32;
/// The same for one commit of the database, after which many more can go.
const EVICTION_STEPS_AT_COMMIT: usize = 1024;

/// How much memory the store may use beyond its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of newest values in memory, about.
    pub value_cache_bytes: usize,
    /// Bytes of recent changes in memory, beyond those that are not in the database yet.
    pub recent_bytes: usize,
    /// Records that one read of the database asks for.
    pub page_records: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { value_cache_bytes: VALUE_CACHE_BYTES, recent_bytes: RECENT_BYTES, page_records: PAGE_RECORDS }
    }
}

/// The multi-version store of one member. It has one owner, who writes.
pub struct Store {
    /// The present, which a view is a copy of.
    pub(super) state: View,
    /// Changes of the transaction that is being written.
    pub(super) open: Vec<Change>,
    /// What the database has not been given yet.
    pub(super) pending: BackendBatch,
    pub(super) cache: ValueCache,
    pub(super) recent_bytes: usize,
    /// The compaction whose revisions are being removed.
    pub(super) compaction: Option<Pass>,
}

impl Store {
    /// The current revision, 1 in an empty store.
    pub fn revision(&self) -> i64 {
        self.state.revision
    }

    /// The compaction revision, -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.state.compact_revision
    }

    /// The store as it is now, for readers.
    pub fn view(&self) -> View {
        self.state.clone()
    }

    /// Begins a transaction: at most one main revision.
    pub fn write(&mut self) -> WriteTxn<'_> {
        assert!(
            self.open.is_empty(),
            "revision {} was begun, has {} changes and was never finished",
            self.state.revision,
            self.open.len()
        );
        WriteTxn::new(self)
    }

    /// What happened since the last call and must go to the database. Batches are to be committed in the
    /// order in which they were taken.
    pub fn take_batch(&mut self) -> BackendBatch {
        std::mem::take(&mut self.pending)
    }

    /// Tells that the database has committed. `snapshot` shows it, and `through_main` is the newest main
    /// revision in the batches committed so far.
    pub fn batch_committed(&mut self, snapshot: Arc<dyn BackendSnapshot>, through_main: i64) {
        let state = &mut self.state;
        assert!(
            state.flushed <= through_main && through_main <= state.revision,
            "committed up to revision {through_main}, after {}, with the store at {}",
            state.flushed,
            state.revision
        );
        state.backend = snapshot;
        state.flushed = through_main;
        self.shrink(EVICTION_STEPS_AT_COMMIT);
    }

    /// Ends a transaction's bookkeeping.
    pub(super) fn shrink_after_write(&mut self) {
        self.shrink(EVICTION_STEPS);
    }

    /// Lets go of what exceeds the budgets and is in the database.
    fn shrink(&mut self, eviction_steps: usize) {
        let state = &mut self.state;
        while state.recent.total_weight() > self.recent_bytes as u64
            && let Some((&oldest, _)) = state.recent.first()
            && (oldest <= state.flushed || planted::is(Bug::RecentLostBeforeFlush))
        {
            state.recent.remove(&oldest);
        }
        self.cache.evict(&mut state.live, state.flushed, eviction_steps);
    }
}
