//! The watch hub: every watch stream of this member and every watcher on it (etcd's Watch service).
//!
//! A watcher is fed in one of three ways:
//!
//! ```text
//!                     create
//!       at the head  /      \  behind it
//!                   v        v
//!          [ synced ] <---- [ unsynced ] ----> cancelled, when compaction
//!              |   caught up   |     ^         has removed what it needs
//!              |               v     |
//!              +---------> [ stalled ]
//!           its stream is over budget ... and has drained
//! ```
//!
//! - *Synced*: [`Hub::notify`] hands over each transaction as it is applied. The keys of its changes are
//!   looked up in an index of the watchers (an exact map and an interval tree, never a scan), each event
//!   is encoded once, and every watcher gets a reference to the same bytes.
//! - *Unsynced*: the watcher needs history. [`Hub::catch_up`] does one bounded step: it reads one stretch
//!   of history and delivers it to every unsynced watcher whose next revision lies in the stretch, so
//!   that a thousand watchers that resume together cost one read. Such groups take turns: a watcher a
//!   million revisions behind does not hold up one that is ten behind. Unsynced watchers have an index of
//!   their own, so they do not slow down the live path, nor the synced ones the reading of history.
//! - *Stalled*: the client does not read what it was sent. Each stream has a budget of bytes sent and not
//!   drained; beyond it, none of its watchers gets anything, and what they miss stays in history alone.
//!   When half of the queue is drained they go on, from history, at the revision that they expect.
//!
//! Dropping back to history is the only answer to slowness: no event is kept for one client, none is
//! dropped. Only when compaction has removed the next revision of a watcher is it cancelled, with
//! `compact_revision`, so that the client knows.
//!
//! The hub does not know where revisions come from. Whoever owns it calls `notify` after each apply, lends
//! it a [`History`], moves its output to the clients, and tells it what they took.
//!
//! Invariants:
//! - a watcher sees each event once, in order, nothing below its start, and a revision is never split
//!   between two responses, save by fragments;
//! - a synced watcher has been sent everything up to the hub's revision, so a progress notification, which
//!   goes through the same queue as the events, is true when it is sent;
//! - the created response of a watcher comes before its events, creates are answered in order;
//! - between two calls no watcher has a batch that is not in its stream's queue;
//! - the same calls give the same output: nothing here is unordered.

mod deliver;
mod index;
mod interval;
mod response;
mod stream;
mod watcher;

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use self::index::WatcherIndex;
use self::stream::{Stream, Streams};
use self::watcher::{Pace, Slot, Watcher};
use crate::planted::{self, Bug};
use crate::proto::EncodedKeyValue;
use crate::proto::etcdserverpb::WatchCreateRequest;
use crate::types::change::{Change, RevisionChanges};
use crate::types::{Error, KeyRange, Now, RequestError, StreamId};

pub use self::response::{NO_WATCHER, response_weight};
pub use self::stream::StreamOutput;

/// Most revisions in one response (etcd reads as many at once).
pub const BATCH_REVISIONS: usize = 1000;

/// A batch takes no further revision once it holds this many bytes of events. Well below the 4 MiB that
/// many gRPC clients accept: only a single large revision can make a response larger.
pub const BATCH_BYTES: usize = 512 * 1024;

/// A delivery takes no further revision once it made this many references to events, over all watchers.
/// Bounds the time of one step when many watchers want the same events.
pub const BATCH_EVENTS: usize = 50_000;

/// Settings of the hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// A response of a watcher with `fragment` is split above this many bytes: `max-request-bytes` and
    /// 512 KiB, as etcd does.
    pub max_response_bytes: usize,
    /// Bytes of responses that a stream may have sent and not drained before its watchers are stalled. May
    /// be exceeded by one batch for each watcher of the stream.
    pub stream_budget_bytes: usize,
    /// Nanoseconds between periodic progress notifications, jitter included.
    pub progress_interval: u64,
    /// Bounds of one batch.
    pub batch: BatchLimits,
}

/// Bounds of what is delivered in one go. At least one revision is.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// See [`BATCH_REVISIONS`].
    pub revisions: usize,
    /// See [`BATCH_BYTES`].
    pub bytes: usize,
    /// See [`BATCH_EVENTS`].
    pub events: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { revisions: BATCH_REVISIONS, bytes: BATCH_BYTES, events: BATCH_EVENTS }
    }
}

/// The history of the store, as the hub reads it. Never older than the last revision notified.
pub trait History {
    /// The store's revision.
    fn revision(&self) -> i64;

    /// Changes from this revision on are complete; earlier ones may be missing.
    fn compact_revision(&self) -> i64;

    /// Changes from revision `from` on, ascending, none left out: at most `max_revisions` and about
    /// `max_bytes`, but one revision at least. Empty when there are none.
    ///
    /// # Errors
    /// [`RequestError::Compacted`] when `from` is below the compact revision; a local fault when the disk
    /// fails.
    fn changes(
        &self,
        from: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<Vec<Arc<RevisionChanges>>, Error>;

    /// The key-value that a change replaced, none when there was none or it was compacted. Asked only
    /// where the change itself does not hold it.
    ///
    /// # Errors
    /// A local fault when the disk fails. An error for the requester counts as compacted.
    fn previous_record(&self, change: &Change) -> Result<Option<EncodedKeyValue>, Error>;
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Open streams.
    pub streams: usize,
    /// Watchers on them.
    pub watchers: usize,
    /// Watchers that are not synced: they catch up or wait for their stream to drain.
    pub slow_watchers: usize,
    /// Bytes sent to streams and not drained.
    pub queued_bytes: usize,
    /// Events sent since the start, counted once for each watcher.
    pub events_total: u64,
}

/// All watch streams of this member.
pub struct Hub {
    config: HubConfig,
    /// Everything up to here was notified.
    revision: i64,
    streams: Streams,
    watchers: Slab<Watcher>,
    synced: WatcherIndex,
    unsynced: WatcherIndex,
    /// The unsynced watchers by the revision that they need next.
    behind: BTreeMap<i64, BTreeSet<Slot>>,
    /// The step after this one begins with the first group from here on.
    turn: i64,
    /// Watchers with `progress_notify`.
    progress_notify: BTreeSet<Slot>,
    /// When the next periodic round is due, in nanoseconds of [`Now::mono`].
    progress_due: Option<u64>,
    events_total: u64,
    /// Watchers with a batch to send, in the order in which they got it.
    gathered: Vec<Slot>,
    /// Room for hits, kept between look-ups.
    hits: Vec<Slot>,
}

impl Hub {
    /// A hub without streams on a store that stands at `revision`.
    pub fn new(config: HubConfig, revision: i64) -> Self {
        Self {
            revision,
            streams: Streams::new(config.stream_budget_bytes),
            config,
            watchers: Slab::new(),
            synced: WatcherIndex::default(),
            unsynced: WatcherIndex::default(),
            behind: BTreeMap::new(),
            turn: 0,
            progress_notify: BTreeSet::new(),
            progress_due: None,
            events_total: 0,
            gathered: Vec::new(),
            hits: Vec::new(),
        }
    }

    /// Adds a stream without watchers. Its id must not be open.
    pub fn open_stream(&mut self, stream: StreamId) {
        self.streams.open(stream);
    }

    /// Removes a stream with its watchers and all that it has not sent.
    pub fn close_stream(&mut self, stream: StreamId) {
        let Some(slot) = self.streams.slot(stream) else { return };
        for watcher in Vec::from_iter(self.streams.get(slot).watchers.values().copied()) {
            self.remove_watcher(watcher);
        }
        self.streams.close(stream);
    }

    /// Answers a create request, with a new watcher or a refusal. A request on a stream that is closed is
    /// ignored.
    ///
    /// `denied` is the cancel reason when the client may not watch the range; deciding that is not the
    /// hub's business.
    pub fn create(
        &mut self,
        stream: StreamId,
        request: WatchCreateRequest,
        denied: Option<String>,
        history: &dyn History,
    ) {
        let Some(slot) = self.streams.slot(stream) else { return };
        let revision = history.revision();
        let response = match self.admit(slot, &request, denied, revision) {
            Ok(watcher) => response::created(revision, self.watchers[watcher].id),
            Err(reason) => response::refused(revision, reason),
        };
        self.streams.send(slot, response);
        self.stall_over_budget();
    }

    /// Makes the watcher that a request asks for, or tells why not. The checks come in etcd's order.
    fn admit(
        &mut self,
        stream: Slot,
        request: &WatchCreateRequest,
        denied: Option<String>,
        revision: i64,
    ) -> Result<Slot, String> {
        if let Some(reason) = denied {
            return Err(reason);
        }
        if request.start_revision < 0 {
            return Err(RequestError::Compacted.text().into());
        }
        let first_key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key.clone() };
        let range = KeyRange::from_wire(first_key, request.range_end.clone());
        if range.is_empty() {
            return Err(response::EMPTY_RANGE.into());
        }
        let Some(id) = self.streams.get_mut(stream).allot_watch_id(request.watch_id) else {
            return Err(response::DUPLICATE_ID.into());
        };
        let slot = self.watchers.insert(Watcher::new(stream, id, &range, request, revision));
        self.streams.get_mut(stream).watchers.insert(id, slot);
        if request.progress_notify {
            self.progress_notify.insert(slot);
        }
        self.place(slot);
        Ok(slot)
    }

    /// Removes a watcher that its client has cancelled and says so, even if compaction has ended it already.
    /// An unknown id is ignored, as etcd does.
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64) {
        let Some(slot) = self.streams.slot(stream) else { return };
        if let Some(&watcher) = self.streams.get(slot).watchers.get(&watch_id) {
            if !planted::is(Bug::CancelledWatcherGoesOn) {
                self.remove_watcher(watcher);
            }
        } else if !self.streams.get_mut(slot).ended.remove(&watch_id) {
            return;
        }
        self.streams.send(slot, response::canceled(self.revision, watch_id));
        self.stall_over_budget();
    }

    /// Answers a request for progress of the whole stream: only if it has watchers, all of them are synced
    /// and have reached their start, and none was ended by compaction and not cancelled since. Otherwise
    /// there is no answer, and clients ask again.
    pub fn request_progress(&mut self, stream: StreamId) {
        let Some(slot) = self.streams.slot(stream) else { return };
        let Stream { watchers, ended, .. } = self.streams.get(slot);
        let current = watchers.values().all(|&watcher| self.is_current(watcher));
        if current && !watchers.is_empty() && ended.is_empty() {
            self.streams.send(slot, response::progress(self.revision, NO_WATCHER));
            self.stall_over_budget();
        }
    }

    /// Sends the periodic progress notifications when they are due: to every watcher that asked for them,
    /// is synced, has reached its start, and was sent no event since the last time.
    pub fn tick(&mut self, now: Now) {
        let due = *self.progress_due.get_or_insert(now.mono.saturating_add(self.config.progress_interval));
        if now.mono < due {
            return;
        }
        self.progress_due = Some(now.mono.saturating_add(self.config.progress_interval));
        for &slot in &self.progress_notify {
            let was_quiet = std::mem::replace(&mut self.watchers[slot].quiet, true);
            if was_quiet && self.is_current(slot) {
                let watcher = &self.watchers[slot];
                self.streams.send(watcher.stream, response::progress(self.revision, watcher.id));
            }
        }
        self.stall_over_budget();
    }

    /// The store was replaced by a newer snapshot: what lies between was not notified, so synced watchers
    /// read it from the new history.
    pub fn restored(&mut self, history: &dyn History) {
        let (from, to) = (self.revision, history.revision());
        assert!(to >= from, "the store went back from revision {from} to {to}");
        if planted::is(Bug::SnapshotSkipsWatchers) {
            self.revision = to;
            return;
        }
        let synced = self.watchers.iter().filter(|(_, watcher)| watcher.pace == Pace::Synced);
        let slots = Vec::from_iter(synced.map(|(slot, _)| slot));
        for &slot in &slots {
            self.displace(slot);
        }
        self.revision = to;
        for &slot in &slots {
            self.place(slot);
        }
    }

    /// The stream's client took responses of this [`response_weight`] out of its queue.
    pub fn drained(&mut self, stream: StreamId, bytes: usize) {
        let Some(slot) = self.streams.slot(stream) else { return };
        if self.streams.drain(slot, bytes) {
            let forgotten = usize::from(planted::is(Bug::DrainedWatcherForgotten));
            for watcher in Vec::from_iter(self.streams.get(slot).watchers.values().copied().skip(forgotten)) {
                self.place(watcher);
            }
        }
    }

    /// Everything sent since the last call. Headers carry the revision only.
    pub fn take_output(&mut self) -> Vec<StreamOutput> {
        self.streams.take_output()
    }

    /// Numbers for metrics. Walks over the streams.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            slow_watchers: self.watchers.len() - self.synced.len(),
            queued_bytes: self.streams.queued_bytes(),
            events_total: self.events_total,
        }
    }

    /// Whether a watcher has been sent everything up to the hub's revision, and that is not below its
    /// start.
    fn is_current(&self, slot: Slot) -> bool {
        let watcher = &self.watchers[slot];
        let synced = watcher.pace == Pace::Synced || planted::is(Bug::ProgressOfTheStore);
        let begun = watcher.progress_from <= self.revision || planted::is(Bug::ProgressBelowStart);
        synced && begun
    }

    /// Decides how a watcher that is nowhere is fed, by its stream and its next revision.
    fn place(&mut self, slot: Slot) {
        let watcher = &mut self.watchers[slot];
        assert_eq!(watcher.pace, Pace::Stalled, "watcher {} is placed twice", watcher.id);
        if self.streams.get(watcher.stream).stalled {
            return;
        }
        let too_early = planted::is(Bug::WatcherSyncedTooEarly) && watcher.next() == self.revision;
        if watcher.next() > self.revision || too_early {
            watcher.pace = Pace::Synced;
            self.synced.insert(&watcher.range, slot);
        } else {
            watcher.pace = Pace::Unsynced;
            self.unsynced.insert(&watcher.range, slot);
            self.behind.entry(watcher.next()).or_default().insert(slot);
        }
    }

    /// Takes a watcher out of wherever it is fed; afterwards its next revision is exact.
    fn displace(&mut self, slot: Slot) {
        let watcher = &mut self.watchers[slot];
        match std::mem::replace(&mut watcher.pace, Pace::Stalled) {
            Pace::Stalled => {}
            Pace::Synced => {
                self.synced.remove(&watcher.range, slot);
                let skipped = i64::from(planted::is(Bug::FallBackSkipsRevision));
                watcher.advance(watcher.next().max(self.revision + 1 + skipped));
            }
            Pace::Unsynced => {
                self.unsynced.remove(&watcher.range, slot);
                if let Some(group) = self.behind.get_mut(&watcher.next()) {
                    group.remove(&slot);
                    if group.is_empty() {
                        self.behind.remove(&watcher.next());
                    }
                }
            }
        }
    }

    /// Forgets a watcher.
    fn remove_watcher(&mut self, slot: Slot) {
        self.displace(slot);
        let watcher = self.watchers.remove(slot);
        self.progress_notify.remove(&slot);
        self.streams.get_mut(watcher.stream).watchers.remove(&watcher.id);
    }

    /// Stops feeding the streams whose queue has outgrown its budget.
    fn stall_over_budget(&mut self) {
        while let Some(stream) = self.streams.stall_next() {
            for watcher in Vec::from_iter(self.streams.get(stream).watchers.values().copied()) {
                self.displace(watcher);
            }
        }
    }
}
