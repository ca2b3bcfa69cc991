//! The streams of this member's clients: their watchers by id, and their way out.
//!
//! ```text
//!   send -> outbox -> take_output -> the client's connection -> drained
//!           |<------------- queued bytes --------------->|
//! ```
//!
//! Invariants:
//! - responses leave a stream in the order in which they were sent;
//! - a stream whose queue has outgrown the budget is in `over_budget` until the hub has stalled it.

use std::collections::{BTreeMap, BTreeSet};

use slab::Slab;

use super::response::response_weight;
use super::watcher::Slot;
use crate::proto::etcdserverpb::WatchResponse;
use crate::types::StreamId;

/// Responses for one stream, in the order in which the client must see them.
#[derive(Debug)]
pub struct StreamOutput {
    /// The stream.
    pub stream: StreamId,
    /// Its responses, never none.
    pub responses: Vec<WatchResponse>,
}

/// One client's stream.
pub(super) struct Stream {
    /// The slots of its watchers, by watch id.
    pub(super) watchers: BTreeMap<i64, Slot>,
    /// Ids of watchers that compaction has ended. Until their client cancels them too, they are taken, and
    /// nothing can be said about the progress of the whole stream (etcd).
    pub(super) ended: BTreeSet<i64>,
    /// Whether it has too much queued, so that its watchers wait.
    pub(super) stalled: bool,
    id: StreamId,
    next_watch_id: i64,
    outbox: Vec<WatchResponse>,
    queued: usize,
}

impl Stream {
    /// The id for a new watcher: the one asked for, or the next free one when that is 0. None when the
    /// one asked for is taken.
    pub(super) fn allot_watch_id(&mut self, asked: i64) -> Option<i64> {
        if asked != 0 {
            return (!self.is_taken(asked)).then_some(asked);
        }
        while self.is_taken(self.next_watch_id) {
            self.next_watch_id += 1;
        }
        self.next_watch_id += 1;
        Some(self.next_watch_id - 1)
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.ended.contains(&id)
    }
}

/// All streams.
pub(super) struct Streams {
    budget: usize,
    by_id: BTreeMap<StreamId, Slot>,
    all: Slab<Stream>,
    /// Streams with something in the outbox, in the order of their first response.
    ready: Vec<Slot>,
    over_budget: Vec<Slot>,
}

impl Streams {
    /// No streams yet; each may have `budget` bytes queued.
    pub(super) fn new(budget: usize) -> Self {
        let (by_id, all) = (BTreeMap::new(), Slab::new());
        Self { budget, by_id, all, ready: Vec::new(), over_budget: Vec::new() }
    }

    /// Adds a stream.
    pub(super) fn open(&mut self, id: StreamId) {
        let stream = Stream {
            watchers: BTreeMap::new(),
            ended: BTreeSet::new(),
            stalled: false,
            id,
            next_watch_id: 0,
            outbox: Vec::new(),
            queued: 0,
        };
        let before = self.by_id.insert(id, self.all.insert(stream));
        assert!(before.is_none(), "stream {id} was opened twice");
    }

    /// Removes a stream that has no watchers any more, with what it has not sent.
    pub(super) fn close(&mut self, id: StreamId) {
        let Some(slot) = self.by_id.remove(&id) else { return };
        let stream = self.all.remove(slot);
        assert!(stream.watchers.is_empty(), "stream {id} left {} watchers behind", stream.watchers.len());
        // The slot may be reused before the output is taken.
        if !stream.outbox.is_empty() {
            self.ready.retain(|&ready| ready != slot);
        }
    }

    /// The slot of a stream, none when it is closed.
    pub(super) fn slot(&self, id: StreamId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    /// An open stream.
    pub(super) fn get(&self, slot: Slot) -> &Stream {
        &self.all[slot]
    }

    /// An open stream, to change.
    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Stream {
        &mut self.all[slot]
    }

    /// Number of open streams.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Bytes sent and not drained, of all streams.
    pub(super) fn queued_bytes(&self) -> usize {
        self.all.iter().map(|(_, stream)| stream.queued).sum()
    }

    /// Puts a response at the end of a stream's queue.
    pub(super) fn send(&mut self, slot: Slot, response: WatchResponse) {
        let stream = &mut self.all[slot];
        if stream.outbox.is_empty() {
            self.ready.push(slot);
            // Mostly there is one response; growth by itself would reserve room for four.
            stream.outbox.reserve_exact(1);
        }
        stream.queued += response_weight(&response);
        if stream.queued > self.budget && !stream.stalled {
            self.over_budget.push(slot);
        }
        stream.outbox.push(response);
    }

    /// The next stream that must be stalled, marked so.
    pub(super) fn stall_next(&mut self) -> Option<Slot> {
        while let Some(slot) = self.over_budget.pop() {
            if !std::mem::replace(&mut self.all[slot].stalled, true) {
                return Some(slot);
            }
        }
        None
    }

    /// Counts bytes as gone to the client. True when the stream was stalled and is not any more.
    pub(super) fn drain(&mut self, slot: Slot, bytes: usize) -> bool {
        let stream = &mut self.all[slot];
        stream.queued = stream.queued.saturating_sub(bytes);
        let resumes = stream.stalled && stream.queued <= self.budget / 2;
        if resumes {
            stream.stalled = false;
        }
        resumes
    }

    /// Empties the outboxes.
    pub(super) fn take_output(&mut self) -> Vec<StreamOutput> {
        let ready = std::mem::take(&mut self.ready);
        let take = |slot: Slot| {
            let stream = &mut self.all[slot];
            StreamOutput { stream: stream.id, responses: std::mem::take(&mut stream.outbox) }
        };
        ready.into_iter().map(take).collect()
    }
}
