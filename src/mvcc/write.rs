//! Transactions: puts and deletes that share one main revision.

use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::encoded_len_varint;

use super::history::{Past, PastKey};
use super::key::Key;
use super::live::LiveKey;
use super::store::Store;
use super::view::{Recent, View};
use crate::planted::{self, Bug};
use crate::proto::{EncodedKeyValue, KeyValue};
use crate::types::backend::StoredRecord;
use crate::types::change::{Change, ChangeKind, Previous, RevisionChanges};
use crate::types::{KeyRange, LocalFault, Revision};

/// A transaction in the making. Its changes show in the store's state as they are made; there is no way
/// back, so whatever could refuse the transaction is to be checked before its first change.
///
/// It ends with [`WriteTxn::finish`]. One that is dropped with changes breaks the store, and the next
/// transaction says so.
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    begin: i64,
}

/// What a put did.
#[derive(Clone, Debug)]
pub struct PutOutcome {
    /// The new record.
    pub record: EncodedKeyValue,
    /// The key's state just before, as earlier changes of the transaction left it.
    pub previous: Option<LiveKey>,
}

/// A key that a delete removed.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The key.
    pub key: Key,
    /// Its state just before, as earlier changes of the transaction left it.
    pub previous: LiveKey,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(store: &'a mut Store) -> Self {
        let begin = store.state.revision;
        Self { store, begin }
    }

    /// The revision before the transaction.
    pub fn begin_revision(&self) -> i64 {
        self.begin
    }

    /// Whether the transaction has changed anything.
    pub fn has_changes(&self) -> bool {
        !self.store.open.is_empty()
    }

    /// The working state, with the changes so far; its revision is the transaction's once there is one.
    /// Records of keys that the transaction changed more than once can be read in their last state only.
    pub fn view(&self) -> &View {
        &self.store.state
    }

    /// The record of a previous state that this transaction gave.
    ///
    /// # Errors
    /// When it is not in memory and the database cannot read it.
    pub fn record(&self, live: &LiveKey) -> Result<EncodedKeyValue, LocalFault> {
        self.store.state.live_record(live)
    }

    /// Sets `key`, which is not empty, to `value`, attached to `lease` (0 for none).
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: i64) -> PutOutcome {
        let revision = self.next_revision();
        let state = &mut self.store.state;
        let (index_key, create_revision, version) = match state.live.get_key_value(&key[..]) {
            Some((key, live)) => (key.clone(), live.create_revision, live.version + 1),
            None if planted::is(Bug::VersionSurvivesDeletion) && state.had_before(&key) => {
                (key[..].into(), revision.main, 2)
            }
            None => (key[..].into(), revision.main, 1),
        };
        let kv = KeyValue { key, create_revision, mod_revision: revision.main, version, value, lease };
        let record = EncodedKeyValue::from_bytes(kv.encode_to_bytes());
        let live = LiveKey::new(&kv, revision, &record).with_resident(record.clone());
        let resident = live.resident_cost();
        let previous = state.live.insert(index_key.clone(), live);
        self.store.cache.changed(&index_key, previous.as_ref().map_or(0, LiveKey::resident_cost), resident);
        if let Some(previous) = &previous {
            state.history.insert(past_key(&index_key, previous.modified), past_put(previous));
        }

        let created = create_revision == revision.main;
        let before = match &previous {
            Some(previous) if !created => self.before_transaction(&index_key, previous),
            _ => Previous::None,
        };
        let key = key_in(&record, &index_key);
        let kind = ChangeKind::Put { record: record.clone(), created };
        self.store.open.push(Change { revision, key, kind, previous: before });
        PutOutcome { record, previous }
    }

    /// Deletes the keys of `range` that exist, in key order.
    pub fn delete_range(&mut self, range: &KeyRange) -> Vec<Deleted> {
        let keys: Vec<Key> = self.store.state.live_range(range).map(|(key, _)| key.clone()).collect();
        keys.into_iter().filter_map(|key| self.delete(key)).collect()
    }

    /// Deletes `key`, as the index holds it.
    fn delete(&mut self, key: Key) -> Option<Deleted> {
        let previous = self.store.state.live.remove(&key[..])?;
        let revision = self.next_revision();
        let Store { state, cache, .. } = &mut *self.store;
        cache.changed(&key, previous.resident_cost(), 0);
        state.history.insert(past_key(&key, previous.modified), past_put(&previous));
        state.history.insert(past_key(&key, revision), Past::Tombstone);

        let before = self.before_transaction(&key, &previous);
        let change = Change { revision, key: key.to_bytes(), kind: ChangeKind::Delete, previous: before };
        self.store.open.push(change);
        Some(Deleted { key, previous })
    }

    /// Ends the transaction: its changes, or none when there was nothing to change and the revision
    /// stays.
    pub fn finish(self) -> Option<Arc<RevisionChanges>> {
        let store = self.store;
        if store.open.is_empty() {
            return None;
        }
        let changes = std::mem::take(&mut store.open);
        store.pending.records.extend(changes.iter().map(|change| (change.revision, stored(change))));
        let main = store.state.revision;
        let changes = Arc::new(RevisionChanges { main, changes });
        store.state.recent.insert(main, Recent::new(changes.clone()));
        store.shrink_after_write();
        Some(changes)
    }

    /// Where the next change stands. The store's revision moves with the first.
    fn next_revision(&mut self) -> Revision {
        self.store.state.revision = self.begin + 1;
        Revision::new(self.begin + 1, self.store.open.len() as i64)
    }

    /// What a watcher is to see as the key-value before: the state before the whole transaction, which
    /// is what etcd looks up, at the revision before the event's.
    fn before_transaction(&self, key: &Key, previous: &LiveKey) -> Previous {
        if planted::is(Bug::PreviousTooOld) {
            return self.store.state.previous_at(key, previous.modified.main);
        }
        if previous.modified.main <= self.begin || planted::is(Bug::PreviousInsideTransaction) {
            return match &previous.resident {
                Some(resident) => Previous::Known(resident.record().clone()),
                None => Previous::At(previous.modified),
            };
        }
        self.store.state.previous_at(key, self.begin + 1)
    }
}

fn past_key(key: &Key, revision: Revision) -> PastKey {
    PastKey { key: key.clone(), revision }
}

/// The bytes of `key` where they stand in the record of it: a change needs no copy of its own.
fn key_in(record: &EncodedKeyValue, key: &Key) -> Bytes {
    let start = 1 + encoded_len_varint(key.len() as u64);
    let bytes = record.as_bytes().slice(start..start + key.len());
    assert_eq!(bytes, **key, "the key is not the first field of its record");
    bytes
}

fn past_put(live: &LiveKey) -> Past {
    Past::Put { create_revision: live.create_revision, version: live.version }
}

/// A change as the database keeps it.
pub(super) fn stored(change: &Change) -> StoredRecord {
    match &change.kind {
        ChangeKind::Put { record, .. } => StoredRecord { tombstone: false, record: record.clone() },
        ChangeKind::Delete => {
            let record = KeyValue { key: change.key.clone(), ..KeyValue::default() }.into();
            StoredRecord { tombstone: true, record }
        }
    }
}
