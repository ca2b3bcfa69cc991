//! One watcher: what it wants, how far it has got, and the events gathered for its next response.
//!
//! Invariants, asserted:
//! - `next` only grows;
//! - events leave in ascending revisions, and a revision leaves in one batch.

use bytes::Bytes;

use crate::planted::{self, Bug};
use crate::proto::EncodedEvent;
use crate::proto::etcdserverpb::WatchCreateRequest;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::types::KeyRange;
use crate::types::change::Change;

/// Where the hub keeps a watcher. Reused after the watcher is gone.
pub(super) type Slot = usize;

/// How a watcher gets its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// From each transaction as it is applied.
    Synced,
    /// From history, step by step.
    Unsynced,
    /// Not at all, until its stream has drained. Also the state of a watcher that is being moved.
    Stalled,
}

/// A watcher of a stream.
pub(super) struct Watcher {
    /// Slot of its stream.
    pub(super) stream: Slot,
    /// Its id on that stream.
    pub(super) id: i64,
    /// The keys that it watches, never an empty range.
    pub(super) range: KeyRange,
    /// How it is fed. Changed by the hub only, together with its indexes.
    pub(super) pace: Pace,
    /// Whether its events carry the key-value that they replaced.
    pub(super) prev_kv: bool,
    /// Whether one response may be sent in several pieces.
    pub(super) fragment: bool,
    /// No progress notification of a revision below this: what the client asked to start at, or the
    /// revision of the created response when it asked for none.
    pub(super) progress_from: i64,
    /// Whether no event was sent since the last periodic round.
    pub(super) quiet: bool,
    /// Events gathered for the next response. Empty whenever the hub is at rest.
    pub(super) batch: Batch,
    no_put: bool,
    no_delete: bool,
    next: i64,
    sent: i64,
}

/// Events on their way into one response.
#[derive(Default)]
pub(super) struct Batch {
    /// The events, whole revisions in order.
    pub(super) events: Vec<EncodedEvent>,
    /// Revision of the last one.
    pub(super) last: i64,
}

impl Watcher {
    /// The watcher that a request asks for, while the store is at revision `created_at`. `range` is what
    /// the request's key and end mean.
    pub(super) fn new(
        stream: Slot,
        id: i64,
        range: &KeyRange,
        request: &WatchCreateRequest,
        created_at: i64,
    ) -> Self {
        let (progress_from, next) = match request.start_revision {
            0 => (created_at, created_at + 1),
            start if planted::is(Bug::WatchStartsTooLate) => (start, start + 1),
            start => (start, start),
        };
        let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        Self {
            stream,
            id,
            range: detached(range),
            pace: Pace::Stalled,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_from,
            quiet: true,
            batch: Batch::default(),
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
            next,
            sent: 0,
        }
    }

    /// Every event of a lower revision was sent or is not for this watcher. Of a synced watcher it only
    /// is a lower bound: the hub's revision counts for it as well.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Moves the watcher on.
    pub(super) fn advance(&mut self, next: i64) {
        assert!(next >= self.next, "watcher {} would go back from {} to {next}", self.id, self.next);
        self.next = next;
    }

    /// Whether the watcher's filters let the change through.
    pub(super) fn wants(&self, change: &Change) -> bool {
        let no_delete = self.no_delete || (planted::is(Bug::FilterSwallowsDeletions) && self.no_put);
        if change.is_delete() { !no_delete } else { !self.no_put }
    }

    /// Adds an event to the batch.
    pub(super) fn gather(&mut self, revision: i64, event: EncodedEvent) {
        let (id, sent) = (self.id, self.sent);
        assert!(revision > sent, "watcher {id} was sent {sent}, now comes {revision}");
        assert!(revision >= self.batch.last, "watcher {id}: {revision} after {}", self.batch.last);
        if self.batch.events.is_empty() {
            // Nearly every live batch is one event; growth by itself would reserve room for four.
            self.batch.events.reserve_exact(1);
        }
        self.batch.events.push(event);
        self.batch.last = revision;
    }

    /// Takes the batch, to be sent.
    pub(super) fn take_batch(&mut self) -> Batch {
        self.sent = self.batch.last;
        self.quiet = false;
        std::mem::take(&mut self.batch)
    }
}

/// A copy that does not keep the memory of the client's whole message alive.
fn detached(range: &KeyRange) -> KeyRange {
    KeyRange::from_wire(Bytes::copy_from_slice(&range.start), Bytes::copy_from_slice(&range.wire_end()))
}
