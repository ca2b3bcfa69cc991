//! Changes from the past, for watchers that are behind.
//!
//! What is in `recent` is handed out as it is. What is older is built again from the database: the
//! records of a revision are its changes, and the history says what each of them replaced.

use std::ops::Bound;
use std::sync::Arc;

use super::history::{self, Past};
use super::view::View;
use crate::planted::{self, Bug};
use crate::proto::{EncodedKeyValue, KeyValue};
use crate::types::backend::StoredRecord;
use crate::types::change::{Change, ChangeKind, Previous, RevisionChanges};
use crate::types::{Error, LocalFault, RequestError, Revision};

/// Whole revisions, up to a limit.
struct Page {
    revisions: Vec<Arc<RevisionChanges>>,
    bytes: usize,
    max_revisions: usize,
    max_bytes: usize,
}

impl Page {
    fn is_full(&self) -> bool {
        !self.revisions.is_empty()
            && (self.revisions.len() >= self.max_revisions || self.bytes >= self.max_bytes)
    }

    fn push(&mut self, changes: Arc<RevisionChanges>) {
        self.bytes += changes.weight();
        self.revisions.push(changes);
    }
}

impl View {
    /// All changes from main revision `from_main` (inclusive) on, ascending: whole revisions, without a
    /// gap from `from_main` to the last one given. The page ends with the revision that reaches
    /// `max_revisions` or `max_bytes`, so it has at least one if there is one; it is empty only when
    /// nothing changed from `from_main` up to the current revision.
    ///
    /// # Errors
    /// `Compacted` when `from_main` is below the compaction revision; a fault when the database cannot
    /// read.
    pub fn changes(
        &self,
        from_main: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<Vec<Arc<RevisionChanges>>, Error> {
        if from_main < self.compact_revision {
            return Err(RequestError::Compacted.into());
        }
        let from_main = from_main.max(0);
        let recent_from = self.recent.first().map_or(self.revision + 1, |(&main, _)| main);
        let mut page = Page { revisions: Vec::new(), bytes: 0, max_revisions, max_bytes };
        if from_main < recent_from {
            self.read_changes(from_main, recent_from, &mut page)?;
        }
        let recent = self.recent.range(Bound::Included(&from_main), Bound::Unbounded);
        for (_, recent) in recent {
            if page.is_full() {
                break;
            }
            page.push(recent.changes.clone());
        }
        Ok(page.revisions)
    }

    /// Builds the changes of the main revisions from `from_main` up to but without `until_main` from the
    /// database.
    fn read_changes(&self, from_main: i64, until_main: i64, page: &mut Page) -> Result<(), LocalFault> {
        let mut from = Revision::new(from_main, 0);
        let mut building: Vec<Change> = Vec::new();
        loop {
            let records = self.backend.records(from, self.page_records)?;
            let at_end = records.len() < self.page_records;
            for (revision, stored) in records {
                if building.first().is_some_and(|first| first.revision.main != revision.main) {
                    page.push(together(std::mem::take(&mut building)));
                }
                if page.is_full() || revision.main >= until_main {
                    return Ok(());
                }
                building.extend(self.rebuild(revision, stored)?);
                from = if planted::is(Bug::PageSplitsRevision) {
                    Revision::new(revision.main + 1, 0)
                } else {
                    Revision::new(revision.main, revision.sub + 1)
                };
            }
            if at_end {
                break;
            }
        }
        if !building.is_empty() {
            page.push(together(building));
        }
        Ok(())
    }

    /// The change that a record tells of; none for a record without a key, which an etcd restore leaves
    /// behind to raise the revision.
    fn rebuild(&self, revision: Revision, stored: StoredRecord) -> Result<Option<Change>, LocalFault> {
        let kv = decode(revision, &stored.record)?;
        if kv.key.is_empty() {
            return Ok(None);
        }
        let created = !stored.tombstone && kv.create_revision == revision.main;
        let previous = if created { Previous::None } else { self.previous_at(&kv.key, revision.main) };
        let kind = if stored.tombstone {
            ChangeKind::Delete
        } else {
            ChangeKind::Put { record: stored.record, created }
        };
        Ok(Some(Change { revision, key: kv.key, kind, previous }))
    }

    /// What the history knows of `key` right before main revision `main`.
    pub(super) fn previous_at(&self, key: &[u8], main: i64) -> Previous {
        match history::newest_past(&self.history, key, Revision::new(main - 1, i64::MAX)) {
            Some((found, Past::Put { .. })) => Previous::At(found.revision),
            Some((_, Past::Tombstone)) | None => Previous::None,
        }
    }

    /// The key-value that `change` replaced, for `prev_kv`: none when there was none or when compaction
    /// has removed it.
    ///
    /// # Errors
    /// When the database cannot read it.
    pub fn previous_record(&self, change: &Change) -> Result<Option<EncodedKeyValue>, LocalFault> {
        match &change.previous {
            Previous::None => Ok(None),
            Previous::Known(record) => Ok(Some(record.clone())),
            Previous::At(revision) => self.put_record(*revision),
        }
    }
}

/// The changes of one main revision; there is at least one.
fn together(changes: Vec<Change>) -> Arc<RevisionChanges> {
    Arc::new(RevisionChanges { main: changes[0].revision.main, changes })
}

/// Decodes the record of `revision`. A record without any bytes is one without a key.
pub(super) fn decode(revision: Revision, record: &EncodedKeyValue) -> Result<KeyValue, LocalFault> {
    record.decode().map_err(|error| {
        LocalFault::new(format!("the record of revision {revision} in the database is no key-value: {error}"))
    })
}
