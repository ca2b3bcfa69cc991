//! What the tests of the room share: a small store that keeps its whole history in a list.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::History;
use crate::proto::{EncodedKeyValue, KeyValue};
use crate::types::change::{Change, ChangeKind, Previous, RevisionChanges};
use crate::types::{Error, LocalFault, RequestError, Revision};

/// A key and its new value, or none to delete it.
pub(super) type Op = (String, Option<String>);

/// A store with revisions 2, 3, ... in a list, and a compact revision that hides the first of them.
#[derive(Default)]
pub(super) struct Store {
    pub(super) revisions: Vec<Arc<RevisionChanges>>,
    pub(super) compacted: i64,
    current: BTreeMap<String, KeyValue>,
    /// How often history was read, and a previous record looked up.
    pub(super) reads: Cell<usize>,
    pub(super) previous_reads: Cell<usize>,
    /// Set to make a read overtaken by a compaction at this revision.
    pub(super) compacts_during_read: Cell<Option<i64>>,
    pub(super) broken_disk: bool,
}

impl Store {
    /// Applies a transaction; deletes of absent keys do nothing. None when nothing changed.
    pub(super) fn apply(&mut self, ops: &[Op]) -> Option<Arc<RevisionChanges>> {
        let main = self.revision() + 1;
        let mut changes = Vec::new();
        for (key, value) in ops {
            let before = self.current.remove(key);
            let kind = match value {
                None if before.is_none() => continue,
                None => ChangeKind::Delete,
                Some(value) => {
                    let record = KeyValue {
                        key: key.clone().into(),
                        create_revision: before.as_ref().map_or(main, |kv| kv.create_revision),
                        mod_revision: main,
                        version: before.as_ref().map_or(1, |kv| kv.version + 1),
                        value: value.clone().into(),
                        lease: 0,
                    };
                    self.current.insert(key.clone(), record.clone());
                    ChangeKind::Put { record: record.into(), created: before.is_none() }
                }
            };
            let previous = match before {
                None => Previous::None,
                Some(kv) if main % 2 == 0 => Previous::Known(kv.into()),
                Some(kv) => Previous::At(Revision::new(kv.mod_revision, 0)),
            };
            let revision = Revision::new(main, changes.len() as i64);
            changes.push(Change { revision, key: Bytes::from(key.clone()), kind, previous });
        }
        if changes.is_empty() {
            return None;
        }
        self.revisions.push(Arc::new(RevisionChanges { main, changes }));
        self.revisions.last().cloned()
    }
}

impl History for Store {
    fn revision(&self) -> i64 {
        self.revisions.len() as i64 + 1
    }

    fn compact_revision(&self) -> i64 {
        let overtaken = self.compacts_during_read.get().filter(|_| self.reads.get() > 0);
        overtaken.unwrap_or(self.compacted)
    }

    fn changes(
        &self,
        from: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<Vec<Arc<RevisionChanges>>, Error> {
        self.reads.set(self.reads.get() + 1);
        if self.broken_disk {
            return Err(LocalFault::new("read failed").into());
        }
        if from < self.compacted {
            return Err(RequestError::Compacted.into());
        }
        let mut bytes = 0;
        let within = |revision: &&Arc<RevisionChanges>| {
            let before = bytes;
            bytes += revision.weight();
            before == 0 || before < max_bytes
        };
        let later = self.revisions.iter().skip_while(|revision| revision.main < from);
        Ok(later.take(max_revisions).take_while(within).cloned().collect())
    }

    fn previous_record(&self, change: &Change) -> Result<Option<EncodedKeyValue>, Error> {
        self.previous_reads.set(self.previous_reads.get() + 1);
        if self.broken_disk {
            return Err(LocalFault::new("read failed").into());
        }
        let Previous::At(revision) = change.previous else { panic!("asked for what the change knows") };
        if change.revision.main - 1 < self.compacted {
            return Err(RequestError::Compacted.into());
        }
        let then = &self.revisions[revision.main as usize - 2].changes;
        Ok(then.iter().rev().find(|earlier| earlier.key == change.key).and_then(|earlier| {
            match &earlier.kind {
                ChangeKind::Put { record, .. } => Some(record.clone()),
                ChangeKind::Delete => None,
            }
        }))
    }
}
