//! Changes of the members, as they stand in the log.
//!
//! One entry changes one member (no joint consensus, as in etcd). A change takes effect when it is
//! applied, not when it is appended.

use ::raft::eraftpb::{ConfChange as WireConfChange, ConfChangeType};
use bytes::Bytes;
use protobuf::Message as _;

use crate::types::log::{EntryKind, LogEntry};
use crate::types::{LocalFault, MemberId};

/// What happens to the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfChangeKind {
    /// It becomes a voter, new or promoted from learner.
    AddVoter,
    /// It becomes a learner.
    AddLearner,
    /// It leaves.
    Remove,
    /// Raft counts it as before; only what the context says of it changes.
    Update,
}

/// A change of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// What happens.
    pub kind: ConfChangeKind,
    /// To whom.
    pub member: MemberId,
    /// Opaque to raft.
    pub context: Bytes,
}

impl ConfChange {
    /// The payload of the entry. Raft has no kind for an update; it is an addition of member 0, which raft
    /// skips, with the member in `id`.
    pub(super) fn encode(&self) -> Bytes {
        let mut wire = WireConfChange::default();
        wire.set_context(self.context.clone());
        match self.kind {
            ConfChangeKind::AddVoter => wire.set_change_type(ConfChangeType::AddNode),
            ConfChangeKind::AddLearner => wire.set_change_type(ConfChangeType::AddLearnerNode),
            ConfChangeKind::Remove => wire.set_change_type(ConfChangeType::RemoveNode),
            ConfChangeKind::Update => wire.set_id(self.member.0),
        }
        wire.set_node_id(self.raft_node());
        super::message::marshal(&wire)
    }

    /// Reads the change out of a committed entry. Fails on an entry that no driver writes: then this
    /// member must not go on, since it would not know its peers.
    pub fn decode(entry: &LogEntry) -> Result<Self, LocalFault> {
        let fault = |what: &str| LocalFault::new(format!("entry {} of the log {what}", entry.index));
        if entry.kind != EntryKind::ConfChange {
            return Err(fault("is not a change of one member"));
        }
        let wire = WireConfChange::parse_from_carllerche_bytes(&entry.data)
            .map_err(|error| fault(&format!("is not a readable change of members: {error}")))?;
        let (kind, member) = match (wire.get_change_type(), wire.get_node_id()) {
            (ConfChangeType::AddNode, 0) => (ConfChangeKind::Update, wire.get_id()),
            (ConfChangeType::AddNode, member) => (ConfChangeKind::AddVoter, member),
            (ConfChangeType::AddLearnerNode, member) => (ConfChangeKind::AddLearner, member),
            (ConfChangeType::RemoveNode, member) => (ConfChangeKind::Remove, member),
        };
        if member == 0 {
            return Err(fault("changes no member"));
        }
        Ok(Self { kind, member: MemberId(member), context: wire.context })
    }

    /// The change as raft carries it out.
    pub(super) fn to_raft(&self) -> WireConfChange {
        let mut wire = WireConfChange::default();
        wire.set_change_type(match self.kind {
            ConfChangeKind::AddVoter | ConfChangeKind::Update => ConfChangeType::AddNode,
            ConfChangeKind::AddLearner => ConfChangeType::AddLearnerNode,
            ConfChangeKind::Remove => ConfChangeType::RemoveNode,
        });
        wire.set_node_id(self.raft_node());
        wire
    }

    fn raft_node(&self) -> u64 {
        match self.kind {
            ConfChangeKind::Update => 0,
            _ => self.member.0,
        }
    }
}
