//! The reference model: what the store must be and answer, entry by entry of the committed log.
//!
//! ```text
//!   committed entry --> Model::apply --> Applied { revision, answer, changes }
//!                            |
//!                            v
//!      positions: what stood after each entry      store: every version that any key ever had
//!         revision, compacted, leases, alarms  -->    range, txn, hash: asked at any past moment
//! ```
//!
//! It is small, slow and obvious, and written from the behaviour of etcd alone: it shares no code with
//! the key space, transactions, leases or alarms of the server, only the messages of the wire and the
//! reading of an entry. Where the server keeps an index, counts and trees, the model keeps for each key
//! the list of its versions, and walks.
//!
//! It never forgets. A compaction is only noted; so the model can say what a read was to answer at any
//! position of the log, also when that was long ago.
//!
//! Invariants:
//! - what an entry does follows from the entries before it and from [`Settings`], from nothing else;
//! - an entry has its effect each time that it stands in the log: that no request stands there twice is a
//!   claim of its own (`checkers/once.rs`), not something that the model repairs;
//! - headers in its answers hold the revision alone: cluster, member and term are the member's to tell.

mod hash;
mod range;
mod refusal;
mod request;
mod store;
#[cfg(test)]
mod tests;
mod txn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use detcd::apply::{self, Command};
use detcd::proto::etcdserverpb as pb;
use detcd::proto::{EncodedEvent, Event, EventType, KeyValue};

use crate::history::Answer;

pub use range::{Interval, Moment};
pub use refusal::Refusal;
pub use request::{
    check_delete, check_lease_grant, check_put, check_range, check_range_stream, check_txn, costs_space,
};
pub use store::Store;
pub use txn::{is_read_only, is_serializable};

/// What decides about answers beside the log: settings that are the same on all members.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Shorter times to live are raised to this, in seconds (etcd: from the election timeout).
    pub min_lease_ttl: i64,
    /// Most operations of a transaction.
    pub max_txn_ops: usize,
}

impl Default for Settings {
    /// etcd's: an election timeout of one second, 128 operations.
    fn default() -> Self {
        Self { min_lease_ttl: 2, max_txn_ops: 128 }
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The main revision.
    pub revision: i64,
    /// The key.
    pub key: Bytes,
    /// Its record after the change, none when it was deleted.
    pub record: Option<KeyValue>,
    /// Its record before the whole revision, which is what a watcher hears as `prev_kv`: none when it did
    /// not exist then, or when this change is a creation.
    pub before: Option<KeyValue>,
}

impl Change {
    /// The event that tells a watcher of the change.
    pub fn event(&self, with_previous: bool) -> Event {
        let (kind, kv) = match &self.record {
            Some(record) => (EventType::Put, record.clone()),
            None => {
                let (key, mod_revision) = (self.key.clone(), self.revision);
                (EventType::Delete, KeyValue { key, mod_revision, ..KeyValue::default() })
            }
        };
        let prev_kv = self.before.as_ref().filter(|_| with_previous).map(Into::into);
        Event { r#type: kind as i32, kv: Some(kv.into()), prev_kv }
    }

    /// The same as it travels.
    pub fn encoded(&self, with_previous: bool) -> EncodedEvent {
        self.event(with_previous).into()
    }
}

/// What one entry did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The store's revision after it.
    pub revision: i64,
    /// What its client must hear. `Ok(None)` for what only the cluster itself asks.
    pub answer: Result<Option<Answer>, Refusal>,
    /// What changed in the store, all at `revision`; empty when nothing did.
    pub changes: Vec<Change>,
}

/// A request as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// Its id, meant to be unique.
    pub id: u64,
    /// What it asks.
    pub command: Command,
}

/// What stands after one entry of the log.
#[derive(Clone, Debug)]
pub struct Position {
    /// The entry.
    pub index: u64,
    /// The store's revision.
    pub revision: i64,
    /// The revision up to which the store is compacted, -1 before any compaction.
    pub compacted: i64,
    /// The leases that exist, each with its granted time to live in seconds.
    pub leases: Arc<BTreeMap<i64, i64>>,
    /// The alarms that are raised: kind, member.
    pub alarms: Arc<BTreeSet<(i32, u64)>>,
    /// The request in the entry, none at the start of a term and in a change of members.
    pub request: Option<Logged>,
    /// What the entry did.
    pub applied: Applied,
}

impl Position {
    /// The moment at which a read at this position reads.
    pub fn moment(&self) -> Moment {
        Moment { revision: self.revision, compacted: self.compacted }
    }

    /// Whether an alarm of this kind is raised for any member.
    pub fn has_alarm(&self, kind: pb::AlarmType) -> bool {
        self.alarms.iter().any(|(raised, _)| *raised == kind as i32)
    }
}

/// The model. See the head of the module.
pub struct Model {
    store: Store,
    positions: Vec<Position>,
    /// All changes by revision.
    changes: BTreeMap<i64, Vec<Change>>,
}

impl Model {
    /// The state with which every member begins: as if entry 1 had made the members.
    pub fn new(settings: Settings) -> Self {
        let store = Store::new(settings);
        let applied = Applied { revision: store.revision, answer: Ok(None), changes: Vec::new() };
        let first = position(1, &store, None, applied);
        Self { store, positions: vec![first], changes: BTreeMap::new() }
    }

    /// Applies a normal entry of the log, which must follow the last one.
    ///
    /// # Errors
    /// A sentence when the entry is not the next one, or holds no request that the model knows.
    pub fn apply(&mut self, index: u64, data: &Bytes) -> Result<&Applied, String> {
        if data.is_empty() {
            return self.pass(index);
        }
        self.expect(index)?;
        let (id, command) = apply::decode(data)
            .map_err(|reason| format!("entry {index} of the log holds no request: {reason}"))?;
        let applied = self.store.execute(&command);
        if !applied.changes.is_empty() {
            self.changes.insert(applied.revision, applied.changes.clone());
        }
        Ok(self.push(index, Some(Logged { id: id.0, command }), applied))
    }

    /// Takes an entry that does nothing to the store: the start of a term, or a change of members.
    ///
    /// # Errors
    /// A sentence when the entry is not the next one.
    pub fn pass(&mut self, index: u64) -> Result<&Applied, String> {
        self.expect(index)?;
        let applied = Applied { revision: self.store.revision, answer: Ok(None), changes: Vec::new() };
        Ok(self.push(index, None, applied))
    }

    fn expect(&self, index: u64) -> Result<(), String> {
        let expected = self.last_index() + 1;
        if index == expected { Ok(()) } else { Err(format!("entry {index} comes where {expected} should")) }
    }

    fn push(&mut self, index: u64, request: Option<Logged>, applied: Applied) -> &Applied {
        self.positions.push(position(index, &self.store, request, applied));
        &self.positions[self.positions.len() - 1].applied
    }

    /// The last entry that was applied.
    pub fn last_index(&self) -> u64 {
        self.positions[self.positions.len() - 1].index
    }

    /// What stands after the entry of this index; none when it is below 1 or was not applied yet.
    pub fn position(&self, index: u64) -> Option<&Position> {
        self.positions.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    /// Every position, by index, from that of entry 1 on.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// The store's revision after the entry of this index.
    pub fn revision_at(&self, index: u64) -> Option<i64> {
        self.position(index).map(|position| position.revision)
    }

    /// The store's revision now.
    pub fn revision(&self) -> i64 {
        self.store.revision
    }

    /// The revision up to which the store is compacted now, -1 before any compaction.
    pub fn compacted(&self) -> i64 {
        self.store.compacted
    }

    /// The first position at which the store has this revision.
    pub fn first_with_revision(&self, revision: i64) -> Option<&Position> {
        let at = self.positions.partition_point(|position| position.revision < revision);
        self.positions.get(at).filter(|position| position.revision == revision)
    }

    /// What changed at this revision, in order; nothing for a revision that does not exist.
    pub fn events(&self, revision: i64) -> &[Change] {
        self.changes.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// What changed from this revision on, in order.
    pub fn events_from(&self, revision: i64) -> impl Iterator<Item = &Change> {
        self.changes.range(revision..).flat_map(|(_, changes)| changes)
    }

    /// What a Range must answer when the store is at `at_revision`, compacted up to `compacted`.
    ///
    /// # Errors
    /// The refusal that the client must hear.
    pub fn range(
        &self,
        request: &pb::RangeRequest,
        at_revision: i64,
        compacted: i64,
    ) -> Result<pb::RangeResponse, Refusal> {
        self.store.range(request, Moment { revision: at_revision, compacted })
    }

    /// What a transaction that only reads must answer at a moment.
    ///
    /// # Errors
    /// The refusal that the client must hear.
    pub fn read_txn(&self, request: &pb::TxnRequest, moment: Moment) -> Result<pb::TxnResponse, Refusal> {
        self.store.read_txn(request, moment)
    }

    /// Every key that is alive at a revision, in key order, as a Range of everything answers it.
    pub fn everything(&self, at: i64) -> pb::RangeResponse {
        let everything = pb::RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..Default::default()
        };
        // Nothing in it can be refused: the key is there and the latest revision is asked for.
        self.range(&everything, at, -1).unwrap_or_default()
    }

    /// The keys that are attached to a lease at a revision, in key order.
    pub fn keys_of_lease(&self, lease: i64, at: i64) -> Vec<Bytes> {
        self.store.keys_of_lease(lease, at)
    }

    /// The record that a key got at a revision, if it was put then (the last one, if more than once).
    pub fn record(&self, key: &Bytes, revision: i64) -> Option<&KeyValue> {
        self.events(revision).iter().rev().find(|change| change.key == *key)?.record.as_ref()
    }

    /// Everything that ever was in the store, to be asked at a [`Moment`].
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What HashKV must answer for a revision when the store is compacted up to `compacted`.
    pub fn hash(&self, revision: i64, compacted: i64) -> u32 {
        self.store.hash(revision, compacted)
    }
}

fn position(index: u64, store: &Store, request: Option<Logged>, applied: Applied) -> Position {
    Position {
        index,
        revision: store.revision,
        compacted: store.compacted,
        leases: store.leases.clone(),
        alarms: store.alarms.clone(),
        request,
        applied,
    }
}
