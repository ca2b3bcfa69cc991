//! Replication: a pure driver over the raft crate's `RawNode`.
//!
//! The driver takes ticks, messages, proposals and reports of what was done, and gives out a [`Ready`]:
//! what to send, to write, to apply. It does none of that itself and never asks what time it is.
//!
//! ```text
//!   tick step propose read_index            persisted(n)        applied(i)
//!            |                                   ^                   ^
//!            v                                   |                   |
//!        +--------+  Ready n: persist --> log, one sync for many     |
//!        | Driver |           send_now --> network at once           |
//!        +--------+           send_after_persist --> network, later  |
//!            |                committed ------------------> state machine
//!            `--- the log's tail in memory (LogStorage)
//! ```
//!
//! Several [`Ready`]s may be under way: the next one fills while an earlier one is being synced.
//!
//! # Invariants
//!
//! - **Nothing is promised before it is durable.** Votes, vote requests and append acknowledgements are in
//!   `send_after_persist`. A leader's appends and heartbeats leave at once (Raft thesis, 10.2.1), except
//!   while its own term or vote is not durable: a single voter elects itself without asking anybody, and a
//!   learner must not hear of a term that a crash would make it use a second time.
//! - **Nothing is applied before it is durable here and on a quorum.** A leader counts itself only after
//!   its own sync, so a single voter acknowledges nothing earlier (etcd's bug 14370). Raft may hear from
//!   a quorum before the own disk has answered; `committed` waits for both.
//! - **No election without a whole log.** A member whose log is not durable to its end, or whose received
//!   snapshot is not installed yet, lets the election pass until it is.
//! - **A leader that is no longer a voter steps down** as it applies the change that says so.
//! - **Same inputs, same outputs.** Raft draws election timeouts from a thread's generator; the driver
//!   overwrites them with a function of (seed, member, term) before each tick, the only reader. A timeout
//!   is thus the same for a whole term and another one in the next, so that split votes resolve.
//!
//! # Read index
//!
//! A read index request asks for the leader's commit index, confirmed by a round of heartbeats. Answers
//! come as [`ReadState`]s, in any order; requests and answers may be lost with a message or a leader, and
//! an answer may come twice if the request was made twice. So contexts are unique ids made by the caller,
//! who asks again after a while and drops answers that it does not wait for. A leader that has not
//! committed an entry of its own term yet keeps requests until it has (raft itself would drop them).
//!
//! # Members
//!
//! All members of a new cluster start from the same [`RecoveredLog::bootstrap`]. One that joins later
//! starts from [`RecoveredLog::joining`] and is brought up by a snapshot: raft sends the metadata, a
//! [`PeerMessage`](crate::types::log::PeerMessage) with its `snapshot` set, and the transport streams the
//! state beside it and gives the message to [`Driver::step`] only when all of it has arrived.

mod conf_change;
mod convert;
mod driver;
mod log_storage;
mod message;
mod ready;
mod status;

#[cfg(test)]
mod tests;

pub use conf_change::{ConfChange, ConfChangeKind};
pub use driver::{Driver, scramble};
pub use message::{MessageHead, MessageKind, StepError, peek, snapshot_point, with_snapshot_point};
pub use ready::{DriverConfig, Persist, ProposeRefused, ReadState, Ready, RecoveredLog};
pub use status::{Configuration, PeerProgress, PeerState, RaftStatus, Role, RoleChange};

/// Bound of one [`Ready::committed`] in bytes, so that applying a long backlog does not hold up heartbeats.
pub const MAX_COMMITTED_BYTES_PER_READY: u64 = 4 * 1024 * 1024;

/// Read index requests that a young leader keeps. Each stands for all reads that a member gathered, so a
/// few per member are under way; more are dropped and asked again.
pub const MAX_POSTPONED_READS: usize = 1024;
