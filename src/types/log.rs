//! The replicated log, as the disk and the network carry it: no room below raft knows what an entry
//! means.

use bytes::Bytes;

/// What kind of entry it is, by its number in `raftpb.EntryType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A request, or nothing at the start of a term.
    Normal = 0,
    /// A change of one member.
    ConfChange = 1,
    /// A change of several members.
    ConfChangeV2 = 2,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Position in the log, from 1.
    pub index: u64,
    /// Term of the leader that appended it.
    pub term: u64,
    /// How `data` is to be read.
    pub kind: EntryKind,
    /// The payload.
    pub data: Bytes,
}

/// What a member promised and must remember across a crash (Raft, figure 2: persistent state).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term seen.
    pub term: u64,
    /// Whom this member voted for in that term, 0 for nobody.
    pub vote: u64,
    /// Highest index known to be committed. Only a hint: it may lag behind.
    pub commit: u64,
}

/// Where a snapshot of the state machine stands in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPoint {
    /// Index of the last entry it holds the effect of.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Voters at that index, ascending.
    pub voters: Vec<u64>,
    /// Learners at that index, ascending.
    pub learners: Vec<u64>,
}

/// A raft message on its way to a peer, marshalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// Member that it is for.
    pub to: u64,
    /// The marshalled `eraftpb.Message`.
    pub bytes: Bytes,
    /// Set on a snapshot message: the state machine's data follows in chunks.
    pub snapshot: Option<SnapshotPoint>,
}
