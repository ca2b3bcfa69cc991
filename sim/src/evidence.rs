//! All that is known of a run when it has ended, for the checkers; and how they say what is wrong.

use bytes::Bytes;

use crate::history::{Contents, MemberNumber, Observation, Operation, Stream, Time};

/// What a run left behind.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Every call, by number.
    pub operations: Vec<Operation>,
    /// Every watch stream, by number.
    pub streams: Vec<Stream>,
    /// Every observer of an election, by number.
    pub observations: Vec<Observation>,
    /// The entries of the replicated log that are known to be committed: ascending and without a gap, as
    /// all members hold them. The first one stands behind the entry 1 that every member begins with.
    pub committed: Vec<Committed>,
    /// When each member started, every time, the first included. Empty when that was not written down: then
    /// nothing is claimed of what one run of a member tells.
    pub starts: Vec<(Time, MemberNumber)>,
    /// When the members' clocks were how far off, for claims about leases.
    pub clocks: ClockBounds,
    /// What each member that serves at the end holds, when all are at rest.
    pub contents: Vec<Contents>,
}

impl Evidence {
    /// Whether a member was read when all had come to rest.
    pub fn serves_at_the_end(&self, member: MemberNumber) -> bool {
        self.contents.iter().any(|contents| contents.member == member)
    }
}

/// One committed entry.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// A marshalled `InternalRaftRequest` (`detcd::apply`), a marshalled change of members, or nothing.
    pub data: Bytes,
    /// Whether `data` is a change of members.
    pub is_conf_change: bool,
    /// When the first member is known to have held it as committed.
    pub at: Time,
    /// The member that was the first.
    pub first: MemberNumber,
}

/// How fast the members' clocks ran at most and at least, in parts per million of true time.
#[derive(Clone, Copy, Debug)]
pub struct ClockBounds {
    /// A slow clock: 1,000,000 is exact.
    pub slowest_ppm: u64,
    /// A fast clock.
    pub fastest_ppm: u64,
}

impl Default for ClockBounds {
    fn default() -> Self {
        Self { slowest_ppm: 1_000_000, fastest_ppm: 1_000_000 }
    }
}

/// A claim that does not hold, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The claim, by its name: the file of its checker with dashes.
    pub claim: &'static str,
    /// What was seen, and what contradicts it.
    pub text: String,
    /// The operations or streams that show it, by number.
    pub operations: Vec<usize>,
}

impl Violation {
    /// A violation that no operation shows by itself.
    pub fn new(claim: &'static str, text: impl Into<String>) -> Self {
        Self { claim, text: text.into(), operations: Vec::new() }
    }

    /// The same, shown by these operations.
    pub fn shown_by(mut self, operations: impl IntoIterator<Item = usize>) -> Self {
        self.operations.extend(operations);
        self
    }
}
