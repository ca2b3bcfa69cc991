//! How often a client may probe: etcd's and gRPC's defence against clients that keep a server busy with
//! nothing but pings.
//!
//! A ping is allowed once in `--grpc-keepalive-min-time` while a request is in progress, and once in two
//! hours without one. A ping that comes too early is a strike, and the third strike ends the connection with
//! `ENHANCE_YOUR_CALM` and `too_many_pings`, by which gRPC's clients know to probe less often. Whenever the
//! server has sent headers or data, the next ping is free and the strikes are forgotten: clients measure the
//! bandwidth with pings of that kind.
//!
//! Invariants:
//! - a ping costs a comparison, any other frame nothing but the reading of its head;
//! - a client that probes no more often than it may is never told off, whatever the network does to the
//!   distance of its pings: fewer than three in a row come early.

use std::time::Duration;

use super::frames::{FrameHead, Frames, kind};
use crate::rt::{Clock, SystemClock};
use crate::types::Now;

/// Distance of pings while no request is in progress (gRPC for Go).
const IDLE_DISTANCE: Duration = Duration::from_secs(2 * 60 * 60);

/// Strikes that are borne (gRPC for Go).
const MAX_STRIKES: u32 = 2;

/// The pings of one connection.
#[derive(Debug)]
pub(super) struct Pings {
    min_distance: Duration,
    clock: SystemClock,
    outbound: Frames,
    /// Pings that came and were not judged yet.
    waiting: u32,
    /// Whether headers or data have left since the last ping.
    has_answered: bool,
    last: Option<Now>,
    strikes: u32,
    last_stream: u32,
}

impl Pings {
    /// None yet. Two of them should be `min_distance` apart.
    pub(super) fn new(min_distance: Duration) -> Self {
        Self {
            min_distance,
            clock: SystemClock::new(),
            outbound: Frames::default(),
            waiting: 0,
            has_answered: false,
            last: None,
            strikes: 0,
            last_stream: 0,
        }
    }

    /// Takes note of a frame that came.
    pub(super) fn received(&mut self, head: FrameHead) {
        self.waiting = self.waiting.saturating_add(u32::from(head.is_ping()));
        if head.kind == kind::HEADERS {
            self.last_stream = self.last_stream.max(head.stream);
        }
    }

    /// Looks at bytes that leave.
    pub(super) fn sent(&mut self, data: &[u8]) {
        let has_answered = &mut self.has_answered;
        self.outbound.pass(data, |FrameHead { kind, .. }| {
            *has_answered |= matches!(kind, kind::DATA | kind::HEADERS);
        });
    }

    /// Whether the pings that came since the last time are too many, while so many requests are in progress.
    pub(super) fn are_too_many(&mut self, requests: usize) -> bool {
        if self.waiting == 0 {
            return false;
        }
        let now = self.clock.now();
        self.judge(requests, now)
    }

    fn judge(&mut self, requests: usize, now: Now) -> bool {
        let distance = if requests == 0 { IDLE_DISTANCE } else { self.min_distance };
        for _ in 0..std::mem::take(&mut self.waiting) {
            let last = self.last.replace(now);
            if std::mem::take(&mut self.has_answered) {
                self.strikes = 0;
            } else if last.is_some_and(|last| u128::from(now.since(last)) < distance.as_nanos()) {
                self.strikes += 1;
            }
        }
        self.strikes > MAX_STRIKES
    }

    /// The last stream that the client opened, for its information, if a frame may be put behind what has
    /// left.
    pub(super) fn last_stream(&self) -> Option<u32> {
        self.outbound.is_between().then_some(self.last_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: FrameHead = FrameHead { kind: kind::PING, flags: 0, stream: 0, length: 8 };
    const HEADERS: [u8; 9] = [0, 0, 0, 1, 4, 0, 0, 0, 7];
    const MIN: Duration = Duration::from_secs(5);

    /// Whether a client that pings at these seconds is told off, and at which of them.
    fn told_off(requests: usize, seconds: &[u64]) -> Option<u64> {
        let mut pings = Pings::new(MIN);
        seconds.iter().copied().find(|second| {
            pings.received(PING);
            pings.judge(requests, Now { mono: second * Now::SECOND, wall: 0 })
        })
    }

    #[test]
    fn the_third_early_ping_is_too_many() {
        assert_eq!(told_off(1, &[0, 5, 10, 15, 20, 25, 30]), None);
        assert_eq!(told_off(1, &[0, 1, 2, 3, 4]), Some(3));
        assert_eq!(told_off(1, &[0, 4, 9, 13, 18, 22]), Some(22));
        assert_eq!(told_off(0, &[0, 10, 20, 30]), Some(30));
        assert_eq!(told_off(0, &[0, 7200, 14400, 21600]), None);
    }

    #[test]
    fn an_answer_makes_the_next_ping_free() {
        let mut pings = Pings::new(MIN);
        for _ in 0..10 {
            pings.sent(&HEADERS);
            for _ in 0..3 {
                pings.received(PING);
            }
            assert!(!pings.judge(0, Now::default()));
        }
        pings.received(PING);
        assert!(pings.judge(0, Now::default()));
    }

    #[test]
    fn pings_count_that_come_at_once() {
        let mut pings = Pings::new(MIN);
        let headers = FrameHead::of(&HEADERS).unwrap();
        for head in [headers, PING, PING, PING] {
            pings.received(head);
        }
        assert!(!pings.judge(1, Now::default()));
        pings.received(PING);
        assert!(pings.judge(1, Now::default()));
        assert_eq!(pings.last_stream(), Some(7));
        pings.sent(&HEADERS[..4]);
        assert_eq!(pings.last_stream(), None);
    }
}
