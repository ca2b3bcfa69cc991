//! The frames of an HTTP/2 connection as they pass (RFC 9113, section 4.1): only their heads are read, and
//! nothing is kept.

/// Bytes before the payload of a frame: its length, type, flags and stream.
pub(super) const HEAD: usize = 9;

/// The kinds of frames that matter here, by their type.
pub(super) mod kind {
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const PING: u8 = 0x6;
    pub const GO_AWAY: u8 = 0x7;
}

/// Flag of a PING that answers one.
const ACK: u8 = 0x1;

/// What stands before the payload of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// The stream it belongs to; 0 for the connection.
    pub(super) stream: u32,
    /// Bytes of the payload.
    pub(super) length: usize,
}

impl FrameHead {
    /// The head that a frame begins with, if all of it is there.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g] = *frame.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // The highest bit of the stream is reserved.
        Some(Self { kind, flags, stream: u32::from_be_bytes([d, e, f, g]) & !(1 << 31), length })
    }

    /// Whether it is a PING that wants an answer.
    pub(super) fn is_ping(self) -> bool {
        self.kind == kind::PING && self.flags & ACK == 0
    }
}

/// The place in one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD],
    head_len: usize,
    /// Bytes of a payload that are still to come.
    rest: usize,
}

impl Frames {
    /// Goes on by `data`, and tells of each frame whose head ends in it.
    pub(super) fn pass(&mut self, mut data: &[u8], mut begun: impl FnMut(FrameHead)) {
        while !data.is_empty() {
            let passed = self.rest.min(data.len());
            self.rest -= passed;
            data = &data[passed..];
            let taken = (HEAD - self.head_len).min(data.len());
            self.head[self.head_len..self.head_len + taken].copy_from_slice(&data[..taken]);
            self.head_len += taken;
            data = &data[taken..];
            if self.head_len == HEAD
                && let Some(head) = FrameHead::of(&self.head)
            {
                self.head_len = 0;
                self.rest = head.length;
                begun(head);
            }
        }
    }

    /// Whether a frame has ended, or none has begun.
    pub(super) fn is_between(&self) -> bool {
        self.rest == 0 && self.head_len == 0
    }
}

/// A GOAWAY frame: `last_stream` is the last one that was looked at.
pub(super) fn go_away(last_stream: u32, code: u32, reason: &str) -> Vec<u8> {
    let length = 8 + reason.len() as u32;
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind::GO_AWAY, 0, 0, 0, 0, 0]);
    frame.extend(last_stream.to_be_bytes());
    frame.extend(code.to_be_bytes());
    frame.extend(reason.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_their_bytes_are_cut() {
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[1; 8]].concat();
        let answer = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &[1; 8]].concat();
        let headers = [&[0, 1, 4, 1, 4, 0x80, 0, 0, 5][..], &[9; 260]].concat();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0].to_vec();
        let stream = [ping, settings, headers, answer, go_away(5, 11, "enough")].concat();
        for piece in 1..=stream.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for data in stream.chunks(piece) {
                frames.pass(data, |head| found.push((head.kind, head.stream, head.is_ping())));
            }
            let expected = [(6, 0, true), (4, 0, false), (1, 5, false), (6, 0, false), (7, 0, false)];
            assert_eq!(found, expected, "cut into {piece}");
            assert!(frames.is_between(), "cut into {piece}");
        }
    }

    #[test]
    fn a_goaway_says_why() {
        let frame = go_away(0x0102, 11, "too_many_pings");
        assert_eq!(&frame[..17], [0, 0, 22, 7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 11]);
        assert_eq!(&frame[17..], b"too_many_pings");
    }
}
