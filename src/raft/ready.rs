//! What goes into the driver at start and what comes out of it: plain values.

use bytes::Bytes;

use super::status::RoleChange;
use crate::types::MemberId;
use crate::types::log::{HardState, LogEntry, PeerMessage, SnapshotPoint};

/// How a member takes part in its cluster. Fixed for one run of the process.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// This member.
    pub id: MemberId,
    /// Ticks without a leader's word before an election; each wait is 1 to 2 times as long.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats; less than `election_ticks`.
    pub heartbeat_ticks: usize,
    /// Election waits follow from it, the member and the term.
    pub seed: u64,
    /// Bound of the entries in one append message, in bytes. One larger entry still goes alone.
    pub max_message_bytes: u64,
    /// Append messages on their way to one follower before the leader waits for an answer.
    pub max_inflight: usize,
    /// Payload bytes that a leader appends beyond what is committed before it refuses proposals.
    /// At least `max_message_bytes`.
    pub max_uncommitted_bytes: u64,
    /// Bound of the log in memory, in bytes. Entries that no snapshot covers stay beyond it.
    pub log_memory_bytes: u64,
    /// Ask whether an election could be won before raising the term (Raft thesis, 9.6).
    pub pre_vote: bool,
    /// A leader that hears from no quorum for an election timeout steps down.
    pub check_quorum: bool,
}

impl DriverConfig {
    /// etcd's timing (a tick of 100 ms, elections after 1 s) and bounds.
    pub fn new(id: MemberId, seed: u64) -> Self {
        Self {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            seed,
            max_message_bytes: 1024 * 1024,
            max_inflight: 512,
            max_uncommitted_bytes: 64 * 1024 * 1024,
            log_memory_bytes: 64 * 1024 * 1024,
            pre_vote: true,
            check_quorum: true,
        }
    }
}

/// What a member knows at start, put together from its log and its backend.
///
/// Rules:
/// - `snapshot` is where the state machine stands: all up to `snapshot.index` is applied, and its voters
///   and learners are those at that index. Later entries are handed out again once committed;
/// - `entries` has no gaps. It may begin before the snapshot (the more, the fewer snapshots for
///   followers) and not after `snapshot.index + 1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredLog {
    /// The newest hard state on disk.
    pub hard_state: HardState,
    /// Where the state machine stands.
    pub snapshot: SnapshotPoint,
    /// The log on disk.
    pub entries: Vec<LogEntry>,
}

impl RecoveredLog {
    /// A new cluster: every initial member starts from this same value, made durable beforehand.
    ///
    /// The state "nothing but these voters" counts as the effect of an entry 1 of term 1 that no log
    /// holds. So no log reaches back to the time before the voters were known, and a member that joins
    /// later learns of them from a snapshot.
    pub fn bootstrap(mut voters: Vec<u64>) -> Self {
        voters.sort_unstable();
        Self {
            hard_state: HardState { term: 1, vote: 0, commit: 1 },
            snapshot: SnapshotPoint { index: 1, term: 1, voters, learners: Vec::new() },
            entries: Vec::new(),
        }
    }

    /// A member that joins a running cluster: it knows nobody until a leader sends it a snapshot.
    pub fn joining() -> Self {
        Self::default()
    }
}

/// Everything that has become due. Each part says when it may be acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Counts up from 1, one per [`Ready`].
    pub number: u64,
    /// May leave at once.
    pub send_now: Vec<PeerMessage>,
    /// To be written to the log, in the order of the numbers. [`Persist::must_sync`] says whether
    /// anybody waits for it.
    pub persist: Option<Persist>,
    /// Promises (votes, acknowledgements): may leave only after
    /// [`Driver::persisted`](super::Driver::persisted) was called with `send_after` or more.
    pub send_after_persist: Vec<PeerMessage>,
    /// The [`Ready`] that `send_after_persist` waits for: this one or an earlier one. 0 when there is
    /// nothing to wait for; then `send_after_persist` is empty.
    pub send_after: u64,
    /// A snapshot came from the leader: the state machine is to be replaced by it before anything of
    /// `committed`, here or later, is applied.
    /// [`Driver::installed_snapshot`](super::Driver::installed_snapshot) ends it.
    pub install_snapshot: Option<SnapshotPoint>,
    /// To be applied, in order. Durable here and on a quorum.
    pub committed: Vec<LogEntry>,
    /// Answered read indexes.
    pub read_states: Vec<ReadState>,
    /// Set when this member's role, its leader or the term changed.
    pub role_change: Option<RoleChange>,
}

/// One write to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// To be appended. The first replaces whatever the log holds from its index on.
    pub entries: Vec<LogEntry>,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// A received snapshot: the log restarts after it. The write counts as durable only when the
    /// snapshot's data is safe on disk as well. Comes before `entries`.
    pub snapshot: Option<SnapshotPoint>,
    /// Somebody waits: sync, then report with [`Driver::persisted`](super::Driver::persisted). When false,
    /// only the commit index moved; write it with the next batch, nobody is to be told.
    pub must_sync: bool,
}

/// The answer to a read index request: a read that began before the request is linearizable once the
/// applied index has reached `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// Commit index of a leader that a quorum confirmed after the request was made.
    pub index: u64,
    /// What the request carried.
    pub context: Bytes,
}

/// Why a proposal was not taken. Nothing was appended or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeRefused {
    /// No leader is known.
    NoLeader,
    /// This leader is handing over to another.
    Transferring,
    /// Too much waits to be committed.
    TooMuchUncommitted,
    /// An earlier configuration change is not applied yet, or a new leader does not know so yet.
    ConfChangePending,
}
