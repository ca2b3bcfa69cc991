//! Messages between members: marshalled, unmarshalled, and looked at before raft sees them.
//!
//! Raft trusts what it is given and stops the process on a message that no correct peer sends. A peer may
//! be of another version or another cluster, so [`check`] refuses such messages first. What it lets pass
//! cannot make raft panic as long as this member's own log is whole.

use std::fmt;

pub use ::raft::eraftpb::MessageType as MessageKind;
use ::raft::eraftpb::{Entry, Message};
use bytes::Bytes;
use protobuf::{CodedInputStream, Message as _, ProtobufEnum as _, ProtobufResult};

use super::convert;
use crate::types::MemberId;
use crate::types::log::{PeerMessage, SnapshotPoint};

/// Indexes and terms stay below this for longer than any cluster lives; raft adds to them unchecked.
const LARGEST_NUMBER: u64 = u64::MAX / 2;

/// Why a peer's message was not taken. All but [`StepError::LogLost`] are to be logged and forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// Not a raft message.
    Undecodable,
    /// Meant for another member.
    Misaddressed {
        /// Whom it names as the receiver.
        to: u64,
    },
    /// No correct peer sends this; says what is wrong.
    Malformed(&'static str),
    /// An answer from somebody who is not a member (any more).
    UnknownPeer {
        /// The sender.
        from: u64,
    },
    /// A peer forwarded a proposal that this member, not leading or overloaded, refused.
    ProposalDropped,
    /// The leader knows entries to be durable here that this member does not have: its files were lost or
    /// rolled back after it had acknowledged them. It must stop, since its promises no longer hold.
    LogLost {
        /// What the leader knows to be committed and stored here.
        commit: u64,
        /// Where the log here ends.
        last: u64,
    },
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::Undecodable => write!(f, "not a raft message"),
            StepError::Misaddressed { to } => write!(f, "a raft message for member {}", MemberId(*to)),
            StepError::Malformed(what) => write!(f, "an impossible raft message: {what}"),
            StepError::UnknownPeer { from } => {
                write!(f, "an answer from {}, which is no member", MemberId(*from))
            }
            StepError::ProposalDropped => write!(f, "a forwarded proposal was dropped"),
            StepError::LogLost { commit, last } => {
                write!(f, "this member had acknowledged entry {commit} but its log ends at entry {last}")
            }
        }
    }
}

impl std::error::Error for StepError {}

/// The first fields of a message, for filters and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHead {
    /// What it is.
    pub kind: MessageKind,
    /// The sender; of a forwarded request, where it began.
    pub from: MemberId,
    /// The receiver.
    pub to: MemberId,
    /// The sender's term; 0 on forwarded requests, and one ahead on a pre-vote.
    pub term: u64,
}

/// Reads the head of a marshalled message without decoding its entries. `None` when it is no message.
pub fn peek(bytes: &[u8]) -> Option<MessageHead> {
    read_head(bytes).ok().flatten()
}

fn read_head(bytes: &[u8]) -> ProtobufResult<Option<MessageHead>> {
    const KIND: u32 = 1;
    const TO: u32 = 2;
    const FROM: u32 = 3;
    const TERM: u32 = 4;
    let (mut kind, mut to, mut from, mut term) = (0, 0, 0, 0);
    let mut input = CodedInputStream::from_bytes(bytes);
    while !input.eof()? {
        let (field, wire_type) = input.read_tag_unpack()?;
        match field {
            KIND => kind = input.read_int32()?,
            TO => to = input.read_uint64()?,
            FROM => from = input.read_uint64()?,
            TERM => term = input.read_uint64()?,
            // Fields are written in order.
            _ if field > TERM => break,
            _ => input.skip_field(wire_type)?,
        }
    }
    let head = |kind| MessageHead { kind, from: MemberId(from), to: MemberId(to), term };
    Ok(MessageKind::from_i32(kind).map(head))
}

/// The snapshot that a marshalled message announces; `None` when it announces none.
pub fn snapshot_point(bytes: &Bytes) -> Option<SnapshotPoint> {
    let message = unmarshal(bytes).ok()?;
    (message.get_msg_type() == MessageKind::MsgSnapshot)
        .then(|| convert::point_from_raft(message.get_snapshot().get_metadata()))
}

/// The same snapshot message announcing `point` instead, for a sender whose state has moved on before it
/// began to stream. `point` must be applied at the sender and not older than what was announced.
pub fn with_snapshot_point(message: &PeerMessage, point: &SnapshotPoint) -> Result<PeerMessage, StepError> {
    let mut wire = unmarshal(&message.bytes)?;
    if wire.get_msg_type() != MessageKind::MsgSnapshot {
        return Err(StepError::Malformed("not a snapshot message"));
    }
    if wire.get_snapshot().get_metadata().index > point.index {
        return Err(StepError::Malformed("a snapshot older than the announced one"));
    }
    wire.mut_snapshot().set_metadata(convert::point_to_raft(point));
    Ok(PeerMessage { to: message.to, bytes: marshal(&wire), snapshot: Some(point.clone()) })
}

/// The wire form of a protobuf message.
pub(super) fn marshal(message: &impl protobuf::Message) -> Bytes {
    match message.write_to_bytes() {
        Ok(bytes) => Bytes::from(bytes),
        // Only a missing required field or a failing writer can get here; there is neither.
        Err(error) => panic!("a message that cannot be marshalled: {error}"),
    }
}

/// The message in `bytes`. Its entries share them.
pub(super) fn unmarshal(bytes: &Bytes) -> Result<Message, StepError> {
    Message::parse_from_carllerche_bytes(bytes).map_err(|_| StepError::Undecodable)
}

/// A message as it goes to the network.
pub(super) fn outgoing(message: &Message) -> PeerMessage {
    let snapshot = (message.get_msg_type() == MessageKind::MsgSnapshot)
        .then(|| convert::point_from_raft(message.get_snapshot().get_metadata()));
    PeerMessage { to: message.to, bytes: marshal(message), snapshot }
}

/// Gives messages the size they should travel in. Raft gathers appends to one follower without a bound and
/// sends forwarded proposals one by one: the former are split, the latter joined, at `max_bytes` of entries.
pub(super) fn repack(messages: Vec<Message>, max_bytes: u64) -> Vec<Message> {
    let mut packed: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        match message.get_msg_type() {
            MessageKind::MsgAppend if size_of_entries(&message) > max_bytes => {
                split_append(message, max_bytes, &mut packed);
            }
            MessageKind::MsgPropose => match packed.last_mut() {
                Some(last) if joins(last, &message, max_bytes) => {
                    let mut message = message;
                    for entry in message.take_entries() {
                        last.mut_entries().push(entry);
                    }
                }
                _ => packed.push(message),
            },
            _ => packed.push(message),
        }
    }
    packed
}

fn size_of_entries(message: &Message) -> u64 {
    message.get_entries().iter().map(size_of_entry).sum()
}

fn size_of_entry(entry: &Entry) -> u64 {
    u64::from(entry.compute_size())
}

fn joins(last: &Message, next: &Message, max_bytes: u64) -> bool {
    last.get_msg_type() == MessageKind::MsgPropose
        && last.to == next.to
        && last.from == next.from
        && size_of_entries(last) + size_of_entries(next) <= max_bytes
}

fn split_append(mut message: Message, max_bytes: u64, packed: &mut Vec<Message>) {
    let entries = message.take_entries();
    let mut size = 0;
    for entry in entries {
        let entry_size = size_of_entry(&entry);
        if size > 0 && size + entry_size > max_bytes {
            let (index, term) = message.get_entries().last().map_or((0, 0), |last| (last.index, last.term));
            let mut next = message.clone();
            next.clear_entries();
            next.index = index;
            next.log_term = term;
            packed.push(std::mem::replace(&mut message, next));
            size = 0;
        }
        size += entry_size;
        message.mut_entries().push(entry);
    }
    packed.push(message);
}

/// What [`check`] must know of the receiver.
pub(super) struct Receiver {
    pub(super) id: u64,
    pub(super) term: u64,
    pub(super) leading: bool,
    pub(super) last_index: u64,
}

/// Refuses what no correct peer sends to `receiver`.
pub(super) fn check(message: &Message, receiver: &Receiver) -> Result<(), StepError> {
    use MessageKind::*;
    if message.to != receiver.id {
        return Err(StepError::Misaddressed { to: message.to });
    }
    let kind = message.get_msg_type();
    let forwarded = matches!(kind, MsgPropose | MsgReadIndex);
    if message.from == 0 || (message.from == receiver.id && kind != MsgTransferLeader) {
        return Err(StepError::Malformed("no other member is the sender"));
    }
    if forwarded != (message.term == 0) {
        return Err(StepError::Malformed("forwarded requests, and only they, carry no term"));
    }
    let metadata = message.get_snapshot().get_metadata();
    let numbers = [message.term, message.index, message.commit, message.reject_hint, metadata.index];
    if numbers.iter().any(|&number| number > LARGEST_NUMBER) {
        return Err(StepError::Malformed("an index or a term out of range"));
    }
    let stale = message.term < receiver.term;
    match kind {
        MsgHup | MsgBeat | MsgUnreachable | MsgSnapStatus | MsgCheckQuorum => {
            Err(StepError::Malformed("a kind that never travels"))
        }
        MsgPropose if message.get_entries().is_empty() => Err(StepError::Malformed("a proposal of nothing")),
        MsgReadIndex if message.get_entries().len() != 1 => {
            Err(StepError::Malformed("a read index request without its context"))
        }
        MsgAppend => check_append(message),
        MsgSnapshot => check_snapshot(message),
        // A leader that has lost its unsynced tail in a crash may well get such an answer, but does not
        // lead any more.
        MsgAppendResponse
            if receiver.leading
                && message.term == receiver.term
                && !message.reject
                && message.index > receiver.last_index =>
        {
            Err(StepError::Malformed("acknowledges entries that this leader never sent"))
        }
        MsgHeartbeat if message.commit > receiver.last_index && !stale => {
            Err(StepError::LogLost { commit: message.commit, last: receiver.last_index })
        }
        _ => Ok(()),
    }
}

fn check_append(message: &Message) -> Result<(), StepError> {
    if (message.index == 0) != (message.log_term == 0) {
        return Err(StepError::Malformed("an append after an entry without a term"));
    }
    let mut previous = (message.index, message.log_term);
    for entry in message.get_entries() {
        if entry.index != previous.0 + 1 || entry.term < previous.1 || entry.term > message.term {
            return Err(StepError::Malformed("an append whose entries are out of order"));
        }
        previous = (entry.index, entry.term);
    }
    Ok(())
}

fn check_snapshot(message: &Message) -> Result<(), StepError> {
    let metadata = message.get_snapshot().get_metadata();
    let conf_state = metadata.get_conf_state();
    let members = [conf_state.get_voters(), conf_state.get_learners()].concat();
    let mut distinct = convert::sorted(&members);
    distinct.dedup();
    if metadata.index == 0 || metadata.term == 0 || metadata.term > message.term {
        return Err(StepError::Malformed("a snapshot of no place in the log"));
    }
    if conf_state.get_voters().is_empty() || distinct.len() != members.len() || distinct.first() == Some(&0) {
        return Err(StepError::Malformed("a snapshot of no possible configuration"));
    }
    if !conf_state.get_voters_outgoing().is_empty() || !conf_state.get_learners_next().is_empty() {
        return Err(StepError::Malformed("a snapshot of a joint configuration"));
    }
    Ok(())
}
