//! Building the store from the database.
//!
//! The records are read once, in order, and each is replayed on the index: what it supersedes becomes
//! history. The revision is the newest of the records and of the compaction rows, as the newest record
//! may have been a tombstone that compaction removed. A compaction that was recorded is in force; if its
//! removal was cut short it is done again.

use std::sync::Arc;

use bytes::Bytes;

use super::cache::ValueCache;
use super::catch_up::decode;
use super::compaction::{FINISHED_ROW, Pass, SCHEDULED_ROW, decode_revision};
use super::history::{History, Past, PastKey};
use super::key::Key;
use super::live::LiveKey;
use super::store::{Store, StoreConfig};
use super::tree::Tree;
use super::view::View;
use crate::planted::{self, Bug};
use crate::types::backend::{BackendBatch, BackendSnapshot, StoredRecord, Table};
use crate::types::{LeaseId, LocalFault, Revision};

/// The revision of a store that nothing was ever written to.
const FIRST_REVISION: i64 = 1;
/// The compaction revision of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;

/// The index under construction.
struct Replay {
    live: Tree<Key, LiveKey>,
    history: History,
    cache: ValueCache,
    newest: i64,
}

impl Store {
    /// Builds the store that `snapshot` holds. Comes with the keys that are attached to a lease, in key
    /// order.
    ///
    /// # Errors
    /// When the database cannot be read or holds what no store has written.
    pub fn restore(
        snapshot: Arc<dyn BackendSnapshot>,
        config: StoreConfig,
    ) -> Result<(Self, Vec<(Bytes, LeaseId)>), LocalFault> {
        let (mut scheduled, mut finished) = (NEVER_COMPACTED, NEVER_COMPACTED);
        for (row, value) in snapshot.rows(Table::Meta)? {
            match &row[..] {
                SCHEDULED_ROW => scheduled = decode_revision(&row, &value)?,
                FINISHED_ROW => finished = decode_revision(&row, &value)?,
                _ => {}
            }
        }
        let mut compact_revision = scheduled.max(finished);
        let Replay { live, history, cache, newest } = Replay::run(&*snapshot, config)?;
        let revision = newest.max(compact_revision).max(FIRST_REVISION);
        if planted::is(Bug::CompactionForgotten) {
            compact_revision = NEVER_COMPACTED;
        }

        let attached = live
            .iter()
            .filter(|(_, live)| live.lease != 0)
            .map(|(key, live)| (key.to_bytes(), LeaseId(live.lease)))
            .collect();
        let state = View {
            revision,
            compact_revision,
            flushed: revision,
            live,
            history,
            recent: Tree::new(),
            backend: snapshot,
            page_records: config.page_records,
        };
        let store = Self {
            state,
            open: Vec::new(),
            pending: BackendBatch::default(),
            cache,
            recent_bytes: config.recent_bytes,
            compaction: (scheduled > finished && !planted::is(Bug::CompactionNotResumed))
                .then(|| Pass::new(scheduled)),
        };
        Ok((store, attached))
    }
}

impl Replay {
    /// Replays all records of the database.
    fn run(snapshot: &dyn BackendSnapshot, config: StoreConfig) -> Result<Self, LocalFault> {
        let mut replay = Self {
            live: Tree::new(),
            history: Tree::new(),
            cache: ValueCache::new(config.value_cache_bytes),
            newest: FIRST_REVISION,
        };
        let mut from = Revision::default();
        loop {
            let records = snapshot.records(from, config.page_records)?;
            let Some(&(last, _)) = records.last() else { return Ok(replay) };
            for (revision, stored) in records {
                replay.record(revision, stored)?;
            }
            replay.newest = last.main;
            from = if planted::is(Bug::RestoreSplitsRevision) {
                Revision::new(last.main + 1, 0)
            } else {
                Revision::new(last.main, last.sub + 1)
            };
        }
    }

    fn record(&mut self, revision: Revision, stored: StoredRecord) -> Result<(), LocalFault> {
        let kv = decode(revision, &stored.record)?;
        if kv.key.is_empty() {
            // An etcd restore leaves such a record behind to raise the revision; it is no key.
            return Ok(());
        }
        let key =
            self.live.get_key_value(&kv.key[..]).map_or_else(|| kv.key[..].into(), |(key, _)| key.clone());
        if stored.tombstone {
            let previous = self.live.remove(&key[..]);
            self.supersede(&key, previous, 0);
            self.history.insert(PastKey { key, revision }, Past::Tombstone);
            return Ok(());
        }
        if kv.mod_revision != revision.main {
            return Err(LocalFault::new(format!(
                "the record of revision {revision} in the database says that it is of revision {}",
                kv.mod_revision
            )));
        }
        let mut live = LiveKey::new(&kv, revision, &stored.record);
        if self.cache.has_room_for(stored.record.as_bytes().len()) {
            live = live.with_resident(stored.record);
        }
        let resident = live.resident_cost();
        let previous = self.live.insert(key.clone(), live);
        self.supersede(&key, previous, resident);
        Ok(())
    }

    /// Notes that `key` is no longer as `before` says and has `resident` bytes in memory now.
    fn supersede(&mut self, key: &Key, before: Option<LiveKey>, resident: usize) {
        self.cache.changed(key, before.as_ref().map_or(0, LiveKey::resident_cost), resident);
        if let Some(before) = before {
            let past = Past::Put { create_revision: before.create_revision, version: before.version };
            self.history.insert(PastKey { key: key.clone(), revision: before.modified }, past);
        }
    }
}
