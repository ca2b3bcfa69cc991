//! Where the messages of a stream of gRPC begin and end, however its bytes are cut.
//!
//! Bodies come in frames that have nothing to do with messages. Only the heads of messages are read here,
//! and nothing is kept of what passes.

use bytes::Buf;

/// Bytes before each message: whether it is compressed, and its length.
pub(super) const MESSAGE_HEAD: usize = 5;

/// What stands before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageHead {
    /// 0 for a plain message, 1 for a compressed one; nothing else is allowed.
    pub(super) format: u8,
    /// Bytes of the message.
    pub(super) length: u32,
}

impl MessageHead {
    /// The head as it is sent.
    pub(super) fn bytes(self) -> [u8; MESSAGE_HEAD] {
        let [a, b, c, d] = self.length.to_be_bytes();
        [self.format, a, b, c, d]
    }
}

/// The place in a stream of messages.
#[derive(Default)]
pub(super) struct Messages {
    /// Bytes of a message's head that were seen, and they themselves.
    head_len: usize,
    head: [u8; MESSAGE_HEAD],
    /// Bytes of a message that are still to come.
    rest: usize,
}

impl Messages {
    /// Goes on by some of `data`, but never beyond the end of a message. Gives how many bytes that are, and
    /// the head that ended with them, if one did.
    pub(super) fn step(&mut self, data: &[u8]) -> (usize, Option<MessageHead>) {
        if self.rest > 0 {
            let passed = self.rest.min(data.len());
            self.rest -= passed;
            return (passed, None);
        }
        let taken = (MESSAGE_HEAD - self.head_len).min(data.len());
        self.head[self.head_len..self.head_len + taken].copy_from_slice(&data[..taken]);
        self.head_len += taken;
        if self.head_len < MESSAGE_HEAD {
            return (taken, None);
        }
        self.head_len = 0;
        let length = (&self.head[1..]).get_u32();
        self.rest = length as usize;
        (taken, Some(MessageHead { format: self.head[0], length }))
    }

    /// The number of messages whose head ends in `data`.
    pub(super) fn begun_in(&mut self, mut data: &[u8]) -> u64 {
        let mut messages = 0;
        while !data.is_empty() {
            let (passed, head) = self.step(data);
            messages += u64::from(head.is_some());
            data = &data[passed..];
        }
        messages
    }

    /// Whether a message has ended, or none has begun.
    pub(super) fn is_between(&self) -> bool {
        self.rest == 0 && self.head_len == 0
    }

    /// Whether a part of a head was seen.
    pub(super) fn is_in_head(&self) -> bool {
        self.head_len > 0
    }

    /// Whether the head of a message was seen, but not all of the message.
    pub(super) fn is_inside(&self) -> bool {
        self.rest > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_their_bytes_are_cut() {
        let stream = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0, 0], &[1, 0, 0, 1, 0], &[7; 256]].concat();
        for piece in 1..=stream.len() {
            let mut messages = Messages::default();
            let begun: u64 = stream.chunks(piece).map(|data| messages.begun_in(data)).sum();
            assert!(messages.is_between(), "cut into {piece}");
            assert_eq!(begun, 3, "cut into {piece}");
        }
    }

    #[test]
    fn a_step_ends_with_a_message() {
        let stream = [0, 0, 0, 0, 2, 8, 7, 1, 0, 0, 0, 0, 9];
        let mut messages = Messages::default();
        let head = MessageHead { format: 0, length: 2 };
        assert_eq!(head.bytes(), stream[..5]);
        assert_eq!(messages.step(&stream), (5, Some(head)));
        assert!(messages.is_inside());
        assert_eq!(messages.step(&stream[5..]), (2, None));
        assert!(messages.is_between());
        assert_eq!(messages.step(&stream[7..]), (5, Some(MessageHead { format: 1, length: 0 })));
        assert!(messages.is_between());
        assert_eq!(messages.step(&stream[12..]), (1, None));
        assert!(messages.is_in_head() && !messages.is_between() && !messages.is_inside());
    }
}
