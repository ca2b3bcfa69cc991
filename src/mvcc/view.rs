//! A moment of the store that never changes.

use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use super::history::{self, History, Past, PastKey};
use super::key::Key;
use super::live::LiveKey;
use super::tree::{Range, Tree, Weigh};
use crate::planted::{self, Bug};
use crate::proto::EncodedKeyValue;
use crate::types::backend::BackendSnapshot;
use crate::types::change::{ChangeKind, RevisionChanges};
use crate::types::{KeyRange, LocalFault, RangeEnd, RequestError, Revision};

/// Past revisions of one key that a walk passes one by one before it looks for the next key instead.
const LINEAR_STEPS: usize = 16;

/// The store at one moment, for reading. Clones are cheap and may go to any thread.
#[derive(Clone)]
pub struct View {
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    /// Newest main revision that is in `backend`; all younger ones are in `recent`.
    pub(super) flushed: i64,
    pub(super) live: Tree<Key, LiveKey>,
    pub(super) history: History,
    pub(super) recent: Tree<i64, Recent>,
    pub(super) backend: Arc<dyn BackendSnapshot>,
    /// Records that one read of the database asks for.
    pub(super) page_records: usize,
}

/// The changes of one recent revision. They weigh the memory that they keep alive.
#[derive(Clone)]
pub(super) struct Recent {
    pub(super) changes: Arc<RevisionChanges>,
    weight: u64,
}

impl Recent {
    pub(super) fn new(changes: Arc<RevisionChanges>) -> Self {
        // Summed once: the tree asks for it often, and a transaction may have a great many changes.
        let weight = changes.weight() as u64;
        Self { changes, weight }
    }
}

impl Weigh for Recent {
    fn weight(&self) -> u64 {
        self.weight
    }
}

/// A key as it was at some revision, without its value.
#[derive(Clone, Copy, Debug)]
pub struct KeyAt<'a> {
    /// The key.
    pub key: &'a Key,
    /// Main revision of the first put of its generation.
    pub create_revision: i64,
    /// Revision of its last put then.
    pub modified: Revision,
    /// Puts in its generation up to then.
    pub version: i64,
    /// Its lease (0 for none) when that is known without its record: only if it is unchanged since.
    pub lease: Option<i64>,
    /// Its state now, when that is still the same.
    live: Option<&'a LiveKey>,
}

impl<'a> KeyAt<'a> {
    pub(super) fn from_live(key: &'a Key, live: &'a LiveKey) -> Self {
        Self {
            key,
            create_revision: live.create_revision,
            modified: live.modified,
            version: live.version,
            lease: Some(live.lease),
            live: Some(live),
        }
    }

    /// None for a tombstone.
    fn from_past(found: &'a PastKey, past: &Past) -> Option<Self> {
        match *past {
            Past::Tombstone => None,
            Past::Put { create_revision, version } => Some(Self {
                key: &found.key,
                create_revision,
                modified: found.revision,
                version,
                lease: None,
                live: None,
            }),
        }
    }
}

impl View {
    /// The current revision, 1 in an empty store.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The compaction revision, -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Every live key at the current revision. It weighs the bytes of the keys' records in a response.
    pub fn live(&self) -> &Tree<Key, LiveKey> {
        &self.live
    }

    /// The revision that a read which asks for `requested` reads at: the current one for 0 or less.
    ///
    /// # Errors
    /// `FutureRevision` above the current revision, `Compacted` below the compaction revision.
    pub fn check_revision(&self, requested: i64) -> Result<i64, RequestError> {
        if requested <= 0 {
            Ok(self.revision)
        } else if requested > self.revision {
            if planted::is(Bug::FutureRevisionAnswered) {
                return Ok(self.revision);
            }
            Err(RequestError::FutureRevision)
        } else if requested < self.compact_revision + i64::from(planted::is(Bug::CompactedRevisionRefused)) {
            Err(RequestError::Compacted)
        } else {
            Ok(requested)
        }
    }

    /// The current state of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&LiveKey> {
        self.live.get(key)
    }

    /// The live keys of `range`, in key order.
    pub fn live_range(&self, range: &KeyRange) -> Range<'_, Key, LiveKey> {
        let lower: Bound<&[u8]> = Bound::Included(&range.start);
        let upper = match &range.end {
            RangeEnd::Single => Bound::Included(&range.start[..]),
            RangeEnd::Before(end) => Bound::Excluded(&end[..]),
            RangeEnd::Open => Bound::Unbounded,
        };
        self.live.range(lower, upper)
    }

    /// `key` as it was at `revision`, which [`View::check_revision`] has passed.
    pub fn key_at(&self, key: &[u8], revision: i64) -> Option<KeyAt<'_>> {
        if let Some((key, live)) = self.live.get_key_value(key)
            && live.modified.main <= revision
        {
            return Some(KeyAt::from_live(key, live));
        }
        let (found, past) = history::newest_past(&self.history, key, end_of(revision))?;
        KeyAt::from_past(found, past)
    }

    /// The keys of `range` as they were at `revision`, which [`View::check_revision`] has passed, in key
    /// order.
    pub fn keys_at(&self, range: &KeyRange, revision: i64) -> KeysAt<'_> {
        // Whatever has a past is either alive now or deleted: it takes no walk to read the present.
        let past = (revision < self.revision).then(|| history::past_of(&self.history, range).peekable());
        KeysAt { view: self, range: range.clone(), revision, live: self.live_range(range).peekable(), past }
    }

    /// Whether history knows a past of `key`. Only a planted bug asks.
    pub(super) fn had_before(&self, key: &[u8]) -> bool {
        history::newest_past(&self.history, key, end_of(i64::MAX)).is_some()
    }

    /// The record of a live key of this view.
    ///
    /// # Errors
    /// When it is not in memory and the database cannot read it.
    pub fn live_record(&self, live: &LiveKey) -> Result<EncodedKeyValue, LocalFault> {
        match &live.resident {
            Some(resident) => Ok(resident.record().clone()),
            None => self.present_record(live.modified),
        }
    }

    /// The record of a key that this view gave.
    ///
    /// # Errors
    /// As [`View::live_record`].
    pub fn record_at(&self, key: &KeyAt<'_>) -> Result<EncodedKeyValue, LocalFault> {
        match key.live {
            Some(live) => self.live_record(live),
            None => self.present_record(key.modified),
        }
    }

    /// The record of a put that must be there.
    fn present_record(&self, revision: Revision) -> Result<EncodedKeyValue, LocalFault> {
        self.put_record(revision)?.ok_or_else(|| {
            LocalFault::new(format!(
                "the database has lost the record of revision {revision} (compacted at {}, flushed up to {})",
                self.compact_revision, self.flushed
            ))
        })
    }

    /// The record of the put at `revision`, unless compaction has removed it.
    pub(super) fn put_record(&self, revision: Revision) -> Result<Option<EncodedKeyValue>, LocalFault> {
        if let Some(recent) = self.recent.get(&revision.main) {
            let change = usize::try_from(revision.sub).ok().and_then(|sub| recent.changes.changes.get(sub));
            return Ok(change.and_then(|change| match &change.kind {
                ChangeKind::Put { record, .. } => Some(record.clone()),
                ChangeKind::Delete => None,
            }));
        }
        let stored = self.backend.record(revision)?;
        Ok(stored.filter(|stored| !stored.tombstone).map(|stored| stored.record))
    }
}

/// The last place in the history that belongs to main revision `main`.
fn end_of(main: i64) -> Revision {
    Revision::new(main, i64::MAX)
}

/// Walks the keys of a range as they were at a revision, by merging the present with the past.
pub struct KeysAt<'a> {
    view: &'a View,
    range: KeyRange,
    revision: i64,
    live: Peekable<Range<'a, Key, LiveKey>>,
    /// None when the present has it all.
    past: Option<Peekable<Range<'a, PastKey, Past>>>,
}

impl<'a> KeysAt<'a> {
    /// Takes the past of the next key that has one, and gives its newest revision at the walk's.
    fn next_past(&mut self) -> Option<(&'a PastKey, &'a Past)> {
        let past = self.past.as_mut()?;
        let key = &past.peek()?.0.key;
        let mut newest = None;
        for _ in 0..LINEAR_STEPS {
            match past.next_if(|(next, _)| next.key == *key) {
                Some(entry) if entry.0.revision.main <= self.revision => newest = Some(entry),
                Some(_) => {}
                None => return newest,
            }
        }
        let history = &self.view.history;
        self.past = Some(history::past_after(history, key, &self.range).peekable());
        let one_too_much = i64::from(planted::is(Bug::LongHistoryMisread));
        history::newest_past(history, key, end_of(self.revision + one_too_much))
    }
}

impl<'a> Iterator for KeysAt<'a> {
    type Item = KeyAt<'a>;

    fn next(&mut self) -> Option<KeyAt<'a>> {
        loop {
            let live_key = self.live.peek().map(|&(key, _)| key);
            let past_key = self.past.as_mut().and_then(Peekable::peek).map(|&(past, _)| &past.key);
            let (take_live, take_past) = match (live_key, past_key) {
                (None, None) => return None,
                (Some(_), None) => (true, false),
                (None, Some(_)) => (false, true),
                (Some(live), Some(past)) => (live <= past, past <= live),
            };
            let past = if take_past { self.next_past() } else { None };
            let live = if take_live { self.live.next() } else { None };
            let found = match live {
                Some((key, live)) if live.modified.main <= self.revision => Some(KeyAt::from_live(key, live)),
                _ => past.and_then(|(key, past)| KeyAt::from_past(key, past)),
            };
            if found.is_some() {
                return found;
            }
        }
    }
}
