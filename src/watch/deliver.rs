//! How events get to watchers: live from each transaction, or in steps from history. Both are one
//! procedure over one index, with a bound on which watchers take part.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::response::{self, event_weight};
use super::watcher::Pace;
use super::{History, Hub};
use crate::planted::{self, Bug};
use crate::proto::{EncodedEvent, EncodedKeyValue};
use crate::types::change::{Change, Previous, RevisionChanges};
use crate::types::{Error, LocalFault};

/// Who takes part in a delivery.
#[derive(Clone, Copy)]
enum Audience {
    /// Every synced watcher.
    Synced,
    /// The unsynced watchers whose next revision is this one or a later one.
    UnsyncedFrom(i64),
}

impl Hub {
    /// Tells the synced watchers what was applied: the revisions that follow the hub's, none left out.
    ///
    /// Each watcher gets one response for as many whole revisions as fit into a batch.
    ///
    /// # Errors
    /// When a previous key-value cannot be read from the disk. The hub must not be used any more then.
    pub fn notify(
        &mut self,
        changes: &[Arc<RevisionChanges>],
        history: &dyn History,
    ) -> Result<(), LocalFault> {
        for (revision, expected) in changes.iter().zip(self.revision + 1..) {
            assert_eq!(revision.main, expected, "a revision was left out or repeated");
        }
        let mut rest = changes;
        while !rest.is_empty() {
            let count = self.deliver(Audience::Synced, rest, history)?;
            self.revision += count as i64;
            self.send_batches(None);
            self.stall_over_budget();
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Does one bounded step for the unsynced watchers; true when more is to be done.
    ///
    /// # Errors
    /// When history cannot be read. The hub must not be used any more then.
    pub fn catch_up(&mut self, history: &dyn History) -> Result<bool, LocalFault> {
        self.cancel_compacted(history.compact_revision());
        let Some(from) = self.next_group() else { return Ok(false) };
        let store = history.revision();
        assert!(store >= self.revision, "history ends at {store}, behind the hub's {}", self.revision);

        let limits = self.config.batch;
        let read = match history.changes(from, limits.revisions, limits.bytes) {
            Err(Error::Local(fault)) => return Err(fault),
            read => read,
        };
        // Compaction may have overtaken the read and left holes in it: look again before trusting it.
        let compact_revision = history.compact_revision();
        if compact_revision > from {
            self.cancel_compacted(compact_revision);
            return Ok(!self.behind.is_empty());
        }
        let changes = read.map_err(|error| {
            LocalFault::new(format!(
                "history is compacted at revision {compact_revision} and refuses revision {from}: {error}"
            ))
        })?;

        let count = self.deliver(Audience::UnsyncedFrom(from), &changes, history)?;
        self.send_batches(Some(store));
        let covered = count.checked_sub(1).map_or(store, |last| changes[last].main);
        self.advance_group(from, covered);
        self.stall_over_budget();
        Ok(!self.behind.is_empty())
    }

    /// The revision at which the next step reads. Groups take turns in ascending order.
    fn next_group(&self) -> Option<i64> {
        let mut from_turn = self.behind.range(self.turn..);
        from_turn.next().or_else(|| self.behind.first_key_value()).map(|(&next, _)| next)
    }

    /// Cancels the unsynced watchers whose next revision is no longer in history.
    fn cancel_compacted(&mut self, compact_revision: i64) {
        while let Some(group) = self.behind.first_entry().filter(|group| *group.key() < compact_revision) {
            for slot in group.get().clone() {
                if planted::is(Bug::CompactedWatcherSkipsAhead) {
                    self.displace(slot);
                    self.watchers[slot].advance(compact_revision);
                    self.place(slot);
                    continue;
                }
                let (stream, id) = (self.watchers[slot].stream, self.watchers[slot].id);
                self.remove_watcher(slot);
                self.streams.get_mut(stream).ended.insert(id);
                self.streams.send(stream, response::compacted(compact_revision, id));
            }
        }
        self.stall_over_budget();
    }

    /// Gathers the events of the first few `revisions` at their watchers; returns how many revisions, at
    /// least one if there are any.
    fn deliver(
        &mut self,
        audience: Audience,
        revisions: &[Arc<RevisionChanges>],
        history: &dyn History,
    ) -> Result<usize, LocalFault> {
        let limits = self.config.batch;
        // History tells what was before a change only as far back as the compaction reaches (etcd).
        let (index, first_next, compacted) = match audience {
            Audience::Synced => (&self.synced, i64::MIN, i64::MIN),
            Audience::UnsyncedFrom(from) => (&self.unsynced, from, history.compact_revision()),
        };
        let (mut bytes, mut events) = (0, 0);
        for (count, revision) in revisions.iter().enumerate() {
            let full = count >= limits.revisions || bytes >= limits.bytes || events >= limits.events;
            if count > 0 && full {
                return Ok(count);
            }
            for change in &revision.changes {
                index.matching(&change.key, &mut self.hits);
                let mut event = SharedEvent::new(change, revision.main > compacted);
                for &slot in &self.hits {
                    let watcher = &mut self.watchers[slot];
                    let early = planted::is(Bug::FutureWatcherHearsAtOnce) && first_next == i64::MIN;
                    let takes_part = early || (first_next..=revision.main).contains(&watcher.next());
                    if !takes_part || !watcher.wants(change) {
                        continue;
                    }
                    if watcher.batch.events.is_empty() {
                        self.gathered.push(slot);
                    }
                    watcher.gather(revision.main, event.encoded(watcher.prev_kv, history)?);
                    events += 1;
                }
                bytes += event.weight();
            }
        }
        Ok(revisions.len())
    }

    /// Sends the gathered batches. Without a revision for the header, each carries that of its last event.
    fn send_batches(&mut self, header: Option<i64>) {
        for slot in self.gathered.drain(..) {
            let watcher = &mut self.watchers[slot];
            let batch = watcher.take_batch();
            self.events_total += batch.events.len() as u64;
            let revision = header.unwrap_or(batch.last);
            let fragment_above = watcher.fragment.then_some(self.config.max_response_bytes);
            let (stream, id) = (watcher.stream, watcher.id);
            response::events(revision, id, batch, fragment_above, |response| {
                self.streams.send(stream, response);
            });
        }
    }

    /// Everything up to `covered` was sent to the unsynced watchers from `from` on: those that needed some
    /// of it now need what follows.
    fn advance_group(&mut self, from: i64, covered: i64) {
        let mut group = BTreeSet::new();
        while let Some((&next, _)) = self.behind.range(from..=covered).next() {
            group.append(&mut self.behind.remove(&next).unwrap_or_default());
        }
        for &slot in &group {
            self.watchers[slot].advance(covered + 1);
        }
        if covered < self.revision {
            self.behind.entry(covered + 1).or_default().append(&mut group);
        }
        // What is left of the group has caught up.
        for slot in group {
            let watcher = &mut self.watchers[slot];
            watcher.pace = Pace::Stalled;
            self.unsynced.remove(&watcher.range, slot);
            if planted::is(Bug::WatcherLost) {
                continue;
            }
            self.place(slot);
        }
        // Not the group that was just served, unless it is the only one.
        self.turn = covered + 2;
    }
}

/// The event of one change, encoded at most once in each of its two forms.
struct SharedEvent<'a> {
    change: &'a Change,
    tells_previous: bool,
    plain: Option<EncodedEvent>,
    with_previous: Option<EncodedEvent>,
}

impl<'a> SharedEvent<'a> {
    fn new(change: &'a Change, tells_previous: bool) -> Self {
        let tells_previous = tells_previous && change.previous != Previous::None;
        Self { change, tells_previous, plain: None, with_previous: None }
    }

    fn encoded(&mut self, prev_kv: bool, history: &dyn History) -> Result<EncodedEvent, LocalFault> {
        if prev_kv && self.tells_previous {
            if self.with_previous.is_none() {
                let previous = previous_record(self.change, history)?;
                self.with_previous = Some(self.change.event(previous));
            }
            Ok(self.with_previous.clone().unwrap_or_default())
        } else {
            Ok(self.plain.get_or_insert_with(|| self.change.event(None)).clone())
        }
    }

    /// Bytes of the larger form that was made.
    fn weight(&self) -> usize {
        self.with_previous.as_ref().or(self.plain.as_ref()).map_or(0, event_weight)
    }
}

/// The key-value that a change replaced, none when compaction has removed it.
fn previous_record(change: &Change, history: &dyn History) -> Result<Option<EncodedKeyValue>, LocalFault> {
    match &change.previous {
        Previous::None => Ok(None),
        Previous::Known(record) => Ok(Some(record.clone())),
        Previous::At(_) => match history.previous_record(change) {
            Ok(record) => Ok(record),
            Err(Error::Request(_)) => Ok(None),
            Err(Error::Local(fault)) => Err(fault),
        },
    }
}
