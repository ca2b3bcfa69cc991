//! One connection: its two ends and the pipes between them; and where its chances come from.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;

use rand::Rng;

use super::faults::Path;
use super::pipe::Pipe;
use crate::random::{self, Random};

/// A connection by its number.
pub(super) type LinkId = u64;

/// Randomness, a stream for each path, so that one connection more leaves the others' draws alone.
pub(super) struct Draws {
    seed: u64,
    streams: BTreeMap<Path, Random>,
}

pub(super) struct Link {
    pub(super) ends: [End; 2],
    /// By the end that writes.
    pub(super) pipes: [Pipe; 2],
}

pub(super) struct End {
    pub(super) address: SocketAddr,
    /// A socket or the queue of a port refers to it.
    pub(super) is_held: bool,
    /// Its process has it open.
    pub(super) is_open: bool,
    /// Its host lost power while it was open, and is still without.
    pub(super) is_dark: bool,
    /// It was told of a reset.
    pub(super) is_reset: bool,
}

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, streams: BTreeMap::new() }
    }

    /// The stream of a path.
    pub(super) fn on(&mut self, path @ (from, to): Path) -> &mut Random {
        self.streams
            .entry(path)
            .or_insert_with(|| random::stream(self.seed, &format!("connections {from} {to}")))
    }

    /// One to this many.
    pub(super) fn piece(&mut self, path: Path, most: usize) -> usize {
        self.on(path).random_range(1..=most.max(1))
    }
}

impl Link {
    /// A connection between two addresses, of which the first asked for it.
    pub(super) fn new(near: SocketAddr, far: SocketAddr) -> Self {
        let end = |address| End { address, is_held: true, is_open: true, is_dark: false, is_reset: false };
        Self { ends: [end(near), end(far)], pipes: Default::default() }
    }

    /// The path of what end `end` writes.
    pub(super) fn path(&self, end: usize) -> Path {
        (self.ends[end].address.ip(), self.ends[1 - end].address.ip())
    }

    pub(super) fn is_between(&self, one: IpAddr, other: IpAddr) -> bool {
        let (from, to) = self.path(0);
        (from, to) == (one, other) || (from, to) == (other, one)
    }

    /// Tells an end that the connection was reset. Gives who waits there.
    pub(super) fn reset_end(&mut self, end: usize) -> [Option<Waker>; 2] {
        self.ends[end].is_reset = true;
        self.pipes[1 - end].clear();
        [self.pipes[1 - end].reader.take(), self.pipes[end].writer.take()]
    }
}
