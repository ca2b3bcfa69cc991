//! What a transaction changed, as the watch hub, the backend and history readers see it.

use bytes::Bytes;

use super::Revision;
use crate::proto::{EncodedEvent, EncodedKeyValue, Event, EventType, KeyValue};

/// One change of one key, at one revision. Cheap to clone: all bytes are shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Where in history the change stands.
    pub revision: Revision,
    /// The key that changed.
    pub key: Bytes,
    /// Put or delete.
    pub kind: ChangeKind,
    /// The key-value before the change: what is known of it without a look at the backend.
    pub previous: Previous,
}

/// What happened to the key.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    /// The key now has this record; `created` when it did not exist just before.
    Put {
        /// The whole key-value, encoded.
        record: EncodedKeyValue,
        /// Whether this put began a generation.
        created: bool,
    },
    /// The key was deleted.
    Delete,
}

/// What a change knows of the key-value that it replaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Previous {
    /// There was none.
    None,
    /// It was in memory.
    Known(EncodedKeyValue),
    /// It is in the backend at this revision, unless compaction has removed it.
    At(Revision),
}

impl Change {
    /// The event that tells a watcher of this change.
    pub fn event(&self, prev_kv: Option<EncodedKeyValue>) -> EncodedEvent {
        let (kind, kv) = match &self.kind {
            ChangeKind::Put { record, .. } => (EventType::Put, record.clone()),
            ChangeKind::Delete => {
                let kv = KeyValue {
                    key: self.key.clone(),
                    mod_revision: self.revision.main,
                    ..KeyValue::default()
                };
                (EventType::Delete, kv.into())
            }
        };
        Event { r#type: kind as i32, kv: Some(kv), prev_kv }.into()
    }

    /// Whether the key was deleted.
    pub fn is_delete(&self) -> bool {
        self.kind == ChangeKind::Delete
    }

    /// Bytes of memory that the change keeps alive, about.
    pub fn weight(&self) -> usize {
        let record = match &self.kind {
            ChangeKind::Put { record, .. } => record.as_bytes().len(),
            ChangeKind::Delete => 0,
        };
        let previous = match &self.previous {
            Previous::Known(record) => record.as_bytes().len(),
            Previous::None | Previous::At(_) => 0,
        };
        size_of::<Self>() + self.key.len() + record + previous
    }
}

/// Every change of one main revision, in the order in which they were made.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionChanges {
    /// The main revision.
    pub main: i64,
    /// Its changes, by ascending sub revision, never empty.
    pub changes: Vec<Change>,
}

impl RevisionChanges {
    /// Bytes of memory that the changes keep alive, about.
    pub fn weight(&self) -> usize {
        self.changes.iter().map(Change::weight).sum()
    }
}
