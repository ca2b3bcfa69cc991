//! The model: every state that the store ever had, and the rules applied to the letter.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::mvcc::{KvHash, View, WriteTxn};
use crate::proto::KeyValue;
use crate::types::change::ChangeKind;
use crate::types::{Error, KeyRange, RequestError, Revision};

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub enum Op {
    Put { key: Bytes, value: Bytes, lease: i64 },
    Delete(KeyRange),
}

type State = BTreeMap<Bytes, KeyValue>;

/// A key-value put, or a key deleted.
#[derive(Clone, Debug, PartialEq)]
enum Event {
    Put(KeyValue),
    Delete(Bytes),
}

/// The whole past of a store, by main revision.
#[derive(Clone)]
pub struct Model {
    states: Vec<State>,
    events: Vec<Vec<Event>>,
    pub compact_revision: i64,
}

impl Model {
    pub fn new() -> Self {
        Self { states: vec![State::new(); 2], events: vec![Vec::new(); 2], compact_revision: -1 }
    }

    pub fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub fn apply(&mut self, ops: &[Op]) {
        let main = self.revision() + 1;
        let mut state = self.states.last().unwrap().clone();
        let mut events = Vec::new();
        for op in ops {
            match op.clone() {
                Op::Put { key, value, lease } => {
                    let before = state.get(&key);
                    let create_revision = before.map_or(main, |before| before.create_revision);
                    let version = before.map_or(1, |before| before.version + 1);
                    let kv = KeyValue { key, create_revision, mod_revision: main, version, value, lease };
                    events.push(Event::Put(kv.clone()));
                    state.insert(kv.key.clone(), kv);
                }
                Op::Delete(range) => {
                    let keys: Vec<_> = state.keys().filter(|key| range.contains(key)).cloned().collect();
                    for key in keys {
                        state.remove(&key);
                        events.push(Event::Delete(key));
                    }
                }
            }
        }
        if !events.is_empty() {
            self.states.push(state);
            self.events.push(events);
        }
    }

    fn state(&self, revision: i64) -> &State {
        &self.states[revision as usize]
    }

    /// Checks all that `view` answers, which was taken when the compaction revision was as it is.
    pub fn check(&self, view: &View, ranges: &[KeyRange]) {
        assert_eq!(view.revision(), self.revision());
        assert_eq!(view.compact_revision(), self.compact_revision);
        for revision in self.compact_revision.max(1)..=self.revision() {
            for range in ranges {
                self.check_range(view, range, revision);
            }
            for key in self.states.iter().flat_map(State::keys) {
                let found = view.key_at(key, revision).map(|at| view.record_at(&at).unwrap());
                let found = found.map(|record| record.decode().unwrap());
                assert_eq!(found.as_ref(), self.state(revision).get(key), "{key:?} at {revision}");
            }
        }
        self.check_changes(view);
    }

    fn check_range(&self, view: &View, range: &KeyRange, revision: i64) {
        let found: Vec<_> = view
            .keys_at(range, revision)
            .map(|at| {
                let kv = view.record_at(&at).unwrap().decode().unwrap();
                assert_eq!(at.lease.unwrap_or(kv.lease), kv.lease);
                assert_eq!((at.create_revision, at.version), (kv.create_revision, kv.version));
                kv
            })
            .collect();
        let expected = self.state(revision).values().filter(|kv| range.contains(&kv.key));
        assert_eq!(found, expected.cloned().collect::<Vec<_>>(), "{range:?} at {revision}");
    }

    /// Reads all changes page by page, in pages of several sizes.
    fn check_changes(&self, view: &View) {
        let oldest = self.compact_revision.max(0);
        if self.compact_revision > 0 {
            let refused = view.changes(oldest - 1, 1, 1);
            assert_eq!(refused, Err(Error::Request(RequestError::Compacted)));
        }
        for (from, revisions, bytes) in [(oldest, 99, 100_000), (oldest, 2, 100_000), (oldest + 3, 99, 300)] {
            let mut next = from;
            loop {
                let page = view.changes(next, revisions, bytes).unwrap();
                let Some(last) = page.last() else { break };
                let mains: Vec<_> = page.iter().map(|changes| changes.main).collect();
                let expected = (next.max(2)..=last.main).collect::<Vec<_>>();
                assert_eq!(mains, expected, "a gap from {next} on");
                for changes in &page {
                    self.check_revision_changes(view, changes);
                }
                next = last.main + 1;
            }
            assert!(next > self.revision() || self.revision() == 1, "changes end before {next}");
        }
    }

    fn check_revision_changes(&self, view: &View, changes: &crate::types::change::RevisionChanges) {
        let before = self.state(changes.main - 1);
        let expected = &self.events[changes.main as usize];
        assert_eq!(changes.changes.len(), expected.len(), "changes of {}", changes.main);
        for (sub, (change, event)) in changes.changes.iter().zip(expected).enumerate() {
            assert_eq!(change.revision, Revision::new(changes.main, sub as i64));
            let began = match (event, &change.kind) {
                (Event::Put(kv), ChangeKind::Put { record, created }) => {
                    assert_eq!(&record.decode().unwrap(), kv);
                    assert_eq!(*created, kv.create_revision == kv.mod_revision);
                    *created
                }
                (Event::Delete(key), ChangeKind::Delete) => {
                    assert_eq!(&change.key, key);
                    false
                }
                _ => panic!("{event:?} came as {change:?}"),
            };
            let previous = view.previous_record(change).unwrap().map(|record| record.decode().unwrap());
            let expected = before.get(&change.key).filter(|_| !began);
            let compacted = changes.main - 1 < self.compact_revision;
            assert!(
                previous.as_ref() == expected || (compacted && previous.is_none()),
                "before {change:?}: {previous:?}, not {expected:?}"
            );
        }
    }

    /// HashKV by its definition, over all records that ever were.
    pub fn hash(&self, hash_revision: i64) -> KvHash {
        let keep = self.state(hash_revision);
        let newest = |kv: &KeyValue, sub: usize, state: &State| {
            let last = self.events[kv.mod_revision as usize]
                .iter()
                .rposition(|event| matches!(event, Event::Put(other) if other.key == kv.key));
            state.get(&kv.key) == Some(kv) && last == Some(sub)
        };
        let mut bytes = b"key".to_vec();
        for main in 2..=hash_revision {
            for (sub, event) in self.events[main as usize].iter().enumerate() {
                let counts = main > self.compact_revision
                    || match event {
                        Event::Delete(_) => false,
                        Event::Put(kv) if keep.is_empty() => {
                            newest(kv, sub, self.state(self.compact_revision))
                        }
                        Event::Put(kv) => newest(kv, sub, keep),
                    };
                if !counts {
                    continue;
                }
                bytes.extend(main.to_be_bytes());
                bytes.push(b'_');
                bytes.extend((sub as i64).to_be_bytes());
                match event {
                    Event::Put(kv) => bytes.extend(kv.encode_to_bytes()),
                    Event::Delete(key) => {
                        bytes.push(b't');
                        bytes.extend(KeyValue { key: key.clone(), ..KeyValue::default() }.encode_to_bytes());
                    }
                }
            }
        }
        KvHash { hash: crc32c::crc32c(&bytes), compact_revision: self.compact_revision, hash_revision }
    }
}

/// Runs operations as one transaction of the store.
pub fn run(mut txn: WriteTxn<'_>, ops: &[Op]) {
    for op in ops {
        match op.clone() {
            Op::Put { key, value, lease } => drop(txn.put(key, value, lease)),
            Op::Delete(range) => drop(txn.delete_range(&range)),
        }
    }
    txn.finish();
}
