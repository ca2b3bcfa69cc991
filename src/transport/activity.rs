//! What went to and came from each peer, for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::{MemberId, Now};

/// Upper bound of the first bucket of round trips, in nanoseconds. Each further bound is twice the last.
const FIRST_ROUND_TRIP_BOUND: u64 = 100_000;

/// How many buckets of round trips have a bound (etcd): the last one is 3.2768 s.
const ROUND_TRIP_BOUNDS: usize = 16;

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
    /// How often a stream of messages to it ended.
    pub disconnects: u64,
    /// The times between a ping and its answer.
    pub round_trips: RoundTrips,
}

/// How long answered pings took, in buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// How many fell into each bucket and into no lower one; in the last one are those above all bounds.
    pub buckets: [u64; ROUND_TRIP_BOUNDS + 1],
    /// The sum of all, in nanoseconds.
    pub nanoseconds: u64,
}

impl RoundTrips {
    /// The upper bounds of the buckets but the last, in nanoseconds, ascending. A bound belongs to its
    /// bucket.
    pub fn bounds() -> [u64; ROUND_TRIP_BOUNDS] {
        std::array::from_fn(|power| FIRST_ROUND_TRIP_BOUND << power)
    }

    /// How many pings were answered.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The counters behind a [`PeerActivity`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) lost_messages: AtomicU64,
    disconnects: AtomicU64,
    /// As in [`RoundTrips`].
    round_trip_buckets: [AtomicU64; ROUND_TRIP_BOUNDS + 1],
    round_trip_nanoseconds: AtomicU64,
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
            disconnects: read(&self.disconnects),
            round_trips: RoundTrips {
                buckets: self.round_trip_buckets.each_ref().map(read),
                nanoseconds: read(&self.round_trip_nanoseconds),
            },
        }
    }

    /// The peer is connected until the value that this returns is dropped.
    pub(super) fn connected(&self, now: Now) -> impl Drop + '_ {
        let since = now.mono.saturating_add(1);
        self.connected_since.store(since, Ordering::Relaxed);
        Connected { counters: self, since }
    }

    /// Counts an answered ping and how long it took.
    pub(super) fn round_trip(&self, nanoseconds: u64) {
        let bucket = RoundTrips::bounds().partition_point(|&bound| bound < nanoseconds);
        self.round_trip_buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.round_trip_nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

struct Connected<'a> {
    counters: &'a Counters,
    since: u64,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.counters.disconnects.fetch_add(1, Ordering::Relaxed);
        // A peer that moved may be connected at its new address already.
        let cell = &self.counters.connected_since;
        let _ = cell.compare_exchange(self.since, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_in_the_first_bucket_that_holds_it() {
        let check = |nanoseconds: u64, bucket: usize| {
            let counters = Counters::default();
            counters.round_trip(nanoseconds);
            let mut expected = RoundTrips { nanoseconds, ..RoundTrips::default() };
            expected.buckets[bucket] = 1;
            assert_eq!(counters.read(MemberId(1)).round_trips, expected, "{nanoseconds} ns");
        };
        check(0, 0);
        check(100_000, 0);
        check(100_001, 1);
        check(1_000_000, 4);
        check(3_276_800_000, 15);
        check(3_276_800_001, 16);
    }

    #[test]
    fn round_trips_add_up() {
        let counters = Counters::default();
        for took in [50_000, 150_000, 150_000, 9_000_000_000] {
            counters.round_trip(took);
        }
        let round_trips = counters.read(MemberId(1)).round_trips;
        assert_eq!((round_trips.count(), round_trips.nanoseconds), (4, 9_000_350_000));
        assert_eq!(round_trips.buckets[..2], [1, 2]);
    }

    #[test]
    fn a_peer_is_connected_until_its_stream_ends() {
        let counters = Counters::default();
        let figures = || {
            let activity = counters.read(MemberId(1));
            (activity.connected_since, activity.disconnects)
        };
        assert_eq!(figures(), (None, 0));
        let old = counters.connected(Now { mono: 5, wall: 0 });
        assert_eq!(figures(), (Some(5), 0));
        // The peer moved: its new stream begins before the old one ends.
        let new = counters.connected(Now { mono: 7, wall: 0 });
        drop(old);
        assert_eq!(figures(), (Some(7), 1));
        drop(new);
        assert_eq!(figures(), (None, 2));
    }
}
