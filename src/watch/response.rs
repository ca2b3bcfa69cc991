//! The responses that a watch stream can carry, one function for each kind (etcd's texts and fields).
//!
//! Headers hold the revision alone; whoever sends them adds cluster, member and term.

use super::watcher::Batch;
use crate::planted::{self, Bug};
use crate::proto::EncodedEvent;
use crate::proto::etcdserverpb::{ResponseHeader, WatchResponse};

/// The id of a response that is about no watcher: a refused create, or progress of the whole stream.
pub const NO_WATCHER: i64 = -1;

/// Refusal of an id that is in use on the stream.
pub(super) const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// Refusal of a range that holds no key.
pub(super) const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

/// Bytes charged for a response besides its events: header, ids and flags, generously.
const RESPONSE_OVERHEAD: usize = 64;
/// Bytes charged for an event besides its encoding: its field number and length.
const EVENT_OVERHEAD: usize = 6;

/// Bytes that a response counts for in its stream's budget, about its size on the wire.
///
/// Does not depend on the header, so it is the same before and after the header is completed.
pub fn response_weight(response: &WatchResponse) -> usize {
    RESPONSE_OVERHEAD + response.events.iter().map(event_weight).sum::<usize>()
}

/// Bytes that an event counts for.
pub(super) fn event_weight(event: &EncodedEvent) -> usize {
    EVENT_OVERHEAD + event.as_bytes().len()
}

fn response(revision: i64, watch_id: i64) -> WatchResponse {
    let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
    WatchResponse { header, watch_id, ..WatchResponse::default() }
}

/// The first response of a watcher.
pub(super) fn created(revision: i64, watch_id: i64) -> WatchResponse {
    WatchResponse { created: true, ..response(revision, watch_id) }
}

/// The answer to a create request that makes no watcher.
pub(super) fn refused(revision: i64, reason: String) -> WatchResponse {
    WatchResponse { canceled: true, cancel_reason: reason, ..created(revision, NO_WATCHER) }
}

/// The last response of a watcher that the client cancelled.
pub(super) fn canceled(revision: i64, watch_id: i64) -> WatchResponse {
    WatchResponse { canceled: true, ..response(revision, watch_id) }
}

/// The last response of a watcher whose next revision is no longer in history. Has revision 0, as etcd's.
pub(super) fn compacted(compact_revision: i64, watch_id: i64) -> WatchResponse {
    WatchResponse { compact_revision, ..canceled(0, watch_id) }
}

/// The promise that no event up to `revision` is still to come.
pub(super) fn progress(revision: i64, watch_id: i64) -> WatchResponse {
    response(revision, watch_id)
}

/// A batch as one response or, above `fragment_above` bytes, as pieces of about that size at most. Every
/// piece but the last is marked; an event is never cut.
pub(super) fn events(
    revision: i64,
    watch_id: i64,
    mut batch: Batch,
    fragment_above: Option<usize>,
    mut send: impl FnMut(WatchResponse),
) {
    let mut piece = response(revision, watch_id);
    if planted::is(Bug::RevisionSplit) && batch.events.len() > 1 {
        let half = batch.events.len() / 2;
        send(WatchResponse { events: batch.events.drain(..half).collect(), ..piece.clone() });
    }
    let Some(limit) = fragment_above else {
        piece.events = batch.events;
        return send(piece);
    };
    let mut weight = RESPONSE_OVERHEAD;
    for event in batch.events {
        weight += event_weight(&event);
        if weight > limit && !piece.events.is_empty() {
            weight = RESPONSE_OVERHEAD + event_weight(&event);
            piece.fragment = !planted::is(Bug::FragmentFlagMissing);
            send(std::mem::replace(&mut piece, response(revision, watch_id)));
            if planted::is(Bug::FragmentLosesEvent) {
                continue;
            }
        }
        piece.events.push(event);
    }
    send(piece);
}
