//! One direction of a connection: what was written at one end and not yet read at the other.
//!
//! ```text
//!   write ──> [ segment: arrives at 7 ms ][ at 9 ms ][ held since 4 ms ] ──> read, what has arrived
//!              └──────────────── waiting bytes, at most the capacity ───┘
//! ```
//!
//! A pipe knows times and bytes only. How long a segment takes, and whether it is held back by a cut, its
//! owner decides; and its owner wakes who waits.
//!
//! Invariants:
//! - bytes are read in the order they were written, each once, never before they arrived;
//! - nothing arrives before what was written before it: behind a held segment all are held;
//! - a reset that has arrived ends everything: what was not read is lost.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Buf, Bytes};
use detcd::rt::ReadBuf;

use crate::history::Time;

/// When a segment can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    At(Time),
    /// Not before the path is mended. Since when tells when it is next sent again.
    Held(Time),
}

struct Segment {
    /// None is the end: the writer has said that it is done.
    bytes: Option<Bytes>,
    arrives: Arrival,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// So many bytes were put into its buffer.
    Bytes(usize),
    /// The writer is done.
    End,
    /// The connection was reset.
    Reset,
    /// Nothing yet; something will have arrived at this time, if it is known.
    Nothing(Option<Time>),
}

#[derive(Default)]
pub(super) struct Pipe {
    queue: VecDeque<Segment>,
    /// Bytes in the queue.
    waiting: usize,
    /// Bytes that were read, but the writer cannot know: the way back is cut.
    unacknowledged: usize,
    /// The writer is done, and the end is in the queue or was read.
    ended: bool,
    /// When the reset by the writer's side arrives.
    reset: Option<Time>,
    /// Nobody reads any more, and the reader's side says so to who still writes.
    pub(super) deaf: bool,
    /// Nothing gets through for ever, and nobody is told.
    pub(super) void: bool,
    /// A slow reader reads no earlier.
    pub(super) paced_until: Time,
    /// Who waits for bytes.
    pub(super) reader: Option<Waker>,
    /// Who waits for room.
    pub(super) writer: Option<Waker>,
    /// A timer will wake the reader at this time.
    pub(super) armed: Time,
}

impl Pipe {
    /// Bytes for which there is room.
    pub(super) fn room(&self, capacity: usize) -> usize {
        capacity.saturating_sub(self.waiting + self.unacknowledged)
    }

    /// The earliest time for what comes next: not before what is on its way.
    pub(super) fn after_the_last(&self, arrival: Arrival) -> Arrival {
        match (self.queue.back().map(|segment| segment.arrives), arrival) {
            (Some(Arrival::Held(since)), _) => Arrival::Held(since),
            (Some(Arrival::At(last)), Arrival::At(next)) => Arrival::At(next.max(last)),
            (_, arrival) => arrival,
        }
    }

    /// Appends bytes; see [`Pipe::after_the_last`].
    pub(super) fn push(&mut self, bytes: Bytes, arrives: Arrival) {
        self.waiting += bytes.len();
        self.queue.push_back(Segment { bytes: Some(bytes), arrives });
    }

    /// Appends the end, unless it was said before.
    pub(super) fn end(&mut self, arrives: Arrival) {
        if !self.ended {
            self.ended = true;
            self.queue.push_back(Segment { bytes: None, arrives });
        }
    }

    /// Whether the writer is done.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// A reset arrives at this time, or at an earlier one that is known already.
    pub(super) fn reset_at(&mut self, at: Time) {
        self.reset = Some(self.reset.map_or(at, |known| known.min(at)));
    }

    /// When the reset arrives, if there is one.
    pub(super) fn resets_at(&self) -> Option<Time> {
        self.reset
    }

    /// Whether a reset has arrived.
    pub(super) fn is_reset(&self, now: Time) -> bool {
        self.reset.is_some_and(|at| at <= now)
    }

    /// When there is something new to be seen by a reader; none while that is not known.
    pub(super) fn next_event(&self) -> Option<Time> {
        let arrival = match self.queue.front() {
            Some(Segment { arrives: Arrival::At(at), .. }) => Some(*at),
            _ => None,
        };
        match (arrival, self.reset) {
            (Some(arrival), Some(reset)) => Some(arrival.min(reset)),
            (arrival, reset) => arrival.or(reset),
        }
    }

    /// Whether bytes have arrived that nobody read.
    pub(super) fn has_unread(&self, now: Time) -> bool {
        self.queue.front().is_some_and(|segment| {
            segment.bytes.is_some() && matches!(segment.arrives, Arrival::At(at) if at <= now)
        })
    }

    /// When the first bytes that are on their way arrive; none when there are none, or none will.
    pub(super) fn first_arrival(&self) -> Option<Time> {
        match self.queue.front() {
            Some(Segment { bytes: Some(_), arrives: Arrival::At(at) }) => Some(*at),
            _ => None,
        }
    }

    /// Reads what has arrived, `limit` bytes at most.
    pub(super) fn take(&mut self, now: Time, limit: usize, into: &mut ReadBuf<'_>) -> Taken {
        if self.is_reset(now) {
            self.clear();
            return Taken::Reset;
        }
        let limit = limit.min(into.remaining());
        let mut taken = 0;
        while taken < limit
            && let Some(segment) = self.queue.front_mut()
            && matches!(segment.arrives, Arrival::At(at) if at <= now)
        {
            let Some(bytes) = &mut segment.bytes else {
                if taken == 0 {
                    // It stays: every further read ends as well.
                    return Taken::End;
                }
                break;
            };
            let size = bytes.len().min(limit - taken);
            into.put_slice(&bytes[..size]);
            bytes.advance(size);
            taken += size;
            if bytes.is_empty() {
                self.queue.pop_front();
            }
        }
        self.waiting -= taken;
        match taken {
            0 => Taken::Nothing(self.next_event()),
            taken => Taken::Bytes(taken),
        }
    }

    /// The writer does not hear that these bytes were read, until [`Pipe::acknowledge`].
    pub(super) fn read_unheard(&mut self, bytes: usize) {
        self.unacknowledged += bytes;
    }

    /// The writer hears what was read.
    pub(super) fn acknowledge(&mut self) {
        self.unacknowledged = 0;
    }

    /// Drops what is in the queue.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.waiting = 0;
        self.unacknowledged = 0;
    }

    /// Since when the first segment is held back, if one is.
    pub(super) fn held_since(&self) -> Option<Time> {
        self.queue.iter().find_map(|segment| match segment.arrives {
            Arrival::Held(since) => Some(since),
            Arrival::At(_) => None,
        })
    }

    /// What was held back arrives at this time.
    pub(super) fn release(&mut self, at: Time) {
        for segment in &mut self.queue {
            if matches!(segment.arrives, Arrival::Held(_)) {
                segment.arrives = Arrival::At(at);
            }
        }
    }

    /// Segments on their way.
    pub(super) fn on_the_way(&self, now: Time) -> usize {
        self.queue.iter().filter(|segment| matches!(segment.arrives, Arrival::At(at) if at > now)).count()
    }

    /// The writer's host is gone at `now`: of what is on the way, `survivors` segments arrive; nothing that
    /// was held back does, and no end.
    pub(super) fn lose_tail(&mut self, now: Time, survivors: usize) {
        let arrived =
            self.queue.iter().take_while(|segment| matches!(segment.arrives, Arrival::At(at) if at <= now));
        let kept = arrived.count() + survivors;
        let lost: usize = self
            .queue
            .drain(kept.min(self.queue.len())..)
            .filter_map(|segment| segment.bytes)
            .map(|bytes| bytes.len())
            .sum();
        self.waiting -= lost;
    }

    /// The reader's host is gone at `now`: what is in the queue was never acknowledged, and is sent again
    /// and again.
    pub(super) fn hold_all(&mut self, now: Time) {
        for segment in &mut self.queue {
            if let Arrival::At(_) = segment.arrives {
                segment.arrives = Arrival::Held(now);
            }
        }
    }
}
