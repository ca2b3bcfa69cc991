//! What went to and came from each peer, for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::types::{MemberId, Now};

/// How the connection with one peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerActivity {
    /// The peer.
    pub member: MemberId,
    /// Since when the stream of messages to it has stood, on this member's monotonic clock (see
    /// [`Now::mono`]); nothing while it does not.
    pub connected_since: Option<u64>,
    /// Bytes written to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
    /// Messages that were dropped, or lost with a connection.
    pub lost_messages: u64,
    /// The last time between a ping and its answer.
    pub round_trip: Option<Duration>,
}

/// The counters behind a [`PeerActivity`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) lost_messages: AtomicU64,
    /// One more than the nanoseconds, so that 0 says never.
    round_trip: AtomicU64,
    /// One more than the time, so that 0 says not connected.
    connected_since: AtomicU64,
}

impl Counters {
    /// The figures at this moment.
    pub(super) fn read(&self, member: MemberId) -> PeerActivity {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PeerActivity {
            member,
            connected_since: read(&self.connected_since).checked_sub(1),
            sent_bytes: read(&self.sent_bytes),
            received_bytes: read(&self.received_bytes),
            lost_messages: read(&self.lost_messages),
            round_trip: read(&self.round_trip).checked_sub(1).map(Duration::from_nanos),
        }
    }

    /// The peer is connected until the value that this returns is dropped.
    pub(super) fn connected(&self, now: Now) -> impl Drop + '_ {
        let since = now.mono.saturating_add(1);
        self.connected_since.store(since, Ordering::Relaxed);
        Connected { counters: self, since }
    }

    /// Notes how long a ping took.
    pub(super) fn round_trip(&self, nanoseconds: u64) {
        self.round_trip.store(nanoseconds.saturating_add(1), Ordering::Relaxed);
    }
}

struct Connected<'a> {
    counters: &'a Counters,
    since: u64,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        // A peer that moved may be connected at its new address already.
        let cell = &self.counters.connected_since;
        let _ = cell.compare_exchange(self.since, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}
