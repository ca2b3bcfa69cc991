//! Claim: a watcher hears what happened to its keys: filtered, ordered, each event once, a revision in one
//! response, without a gap from its start on, with the exact records; what is announced as progress is
//! complete; and the end of a watcher is told with its reason, and final.
//!
//! Source: invariant 10 of the simulation's list; etcd 3.1 to 3.7.
//!
//! How it decides: the words of a stream are replayed in their order ([`stream`]). The hub answers in the
//! order in which it acts, so the stream itself tells which watchers there are at each response: which id
//! the next one gets and whether one is refused follows. For each watcher ([`watcher`]) the events that the
//! model says are due are known; what comes must be the next of them, nothing else, up to the end of a
//! revision. The replay stops for a watcher at its first violation, as all that follows would be one.
//!
//! What it cannot see: a watcher that was cut off as compacted though the server knew that it was ahead of
//! the compaction, while no event or progress had told its client so. A client could not tell either.
//!
//! That every watcher hears of everything in the end, is said in [`caught_up`].

pub mod caught_up;
mod stream;
mod watcher;

use super::Case;
use crate::evidence::Violation;

const CLAIM: &str = "watch";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    case.evidence.streams.iter().flat_map(|stream| stream::replay(case, stream).found).collect()
}
