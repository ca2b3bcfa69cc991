//! Raft messages, read from the bytes in which they travel.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::Message;

/// The message in these bytes; none when they are none.
pub fn message(bytes: &Bytes) -> Option<Message> {
    let mut message = Message::default();
    message.merge_from_bytes(bytes).ok()?;
    Some(message)
}
