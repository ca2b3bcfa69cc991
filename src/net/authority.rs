//! Lets calls in whose `:authority` is no host and port: etcd never looks at it, and some of its clients
//! count on that. `etcdctl` 3.4 sends a URL there, and Go's gRPC the escaped name of a service.
//!
//! The HTTP/2 library refuses such a call before anybody could ask it not to. So the bytes of an authority
//! that it would refuse are changed on their way in, each into `-`, which nobody sees. Only the structure of
//! a block of headers is read for that (RFC 7541): names and values that are known by a number stay numbers,
//! so there is no table to keep.
//!
//! Invariants:
//! - an authority keeps its length, by which both ends reckon what their tables have room for;
//! - whatever is not understood passes as it is: it is the library's to judge;
//! - at most one frame of headers is held back, until it is whole.

use httlib_huffman::DecoderSpeed;
use http::uri::Authority;

use super::frames::{FrameHead, HEAD, kind};

/// Flags of HEADERS: there is padding, and there is a priority.
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Bytes of a priority.
const PRIORITY_LEN: usize = 5;

/// The longest frame that a client may send (RFC 9113, section 6.5.2: nobody was told of another).
const LONGEST: usize = 16_384;

/// Names in HPACK's fixed table: that of an authority, and the last of those that begin with a colon.
const AUTHORITY: usize = 1;
const LAST_PSEUDO: usize = 14;

/// The last name in HPACK's fixed table.
const LAST_FIXED: usize = 61;

/// The authorities of the calls of one connection.
#[derive(Debug, Default)]
pub(super) struct Authorities {
    /// The beginning of a frame's head, or of a frame of headers.
    held: Vec<u8>,
    /// Bytes of another frame that are still to come.
    rest: usize,
}

impl Authorities {
    /// What takes the place of bytes that came; nothing when they may pass as they are. Tells of each frame
    /// that begins in what passes.
    pub(super) fn pass(&mut self, data: &[u8], mut begun: impl FnMut(FrameHead)) -> Option<Vec<u8>> {
        let mut held = std::mem::take(&mut self.held);
        let was_held = !held.is_empty();
        let bytes = if was_held {
            held.extend_from_slice(data);
            &held[..]
        } else {
            data
        };
        let mut made = Vec::new();
        // How far the bytes are in `made`, and how far they were looked at.
        let (mut copied, mut place) = (0, 0);
        while place < bytes.len() {
            let passed = self.rest.min(bytes.len() - place);
            self.rest -= passed;
            place += passed;
            let ahead = &bytes[place..];
            let Some(head) = FrameHead::of(ahead) else { break };
            if head.kind != kind::HEADERS || head.length > LONGEST {
                self.rest = HEAD + head.length;
                begun(head);
                continue;
            }
            let Some(frame) = ahead.get(..HEAD + head.length) else { break };
            begun(head);
            if let Some(changed) = changed(frame) {
                made.extend_from_slice(&bytes[copied..place]);
                made.extend(changed);
                copied = place + frame.len();
            }
            place += frame.len();
        }
        self.held = bytes[place..].to_vec();
        if !was_held && copied == 0 && self.held.is_empty() {
            return None;
        }
        made.extend_from_slice(&bytes[copied..place]);
        Some(made)
    }
}

/// A frame of headers with an authority that is valid, if it has one that is not.
fn changed(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, payload) = frame.split_at(HEAD);
    let flags = head[4];
    let (before, after) = (usize::from(flags & PADDED != 0), *payload.first()?);
    let padding = if flags & PADDED != 0 { usize::from(after) } else { 0 };
    let before = before + if flags & PRIORITY != 0 { PRIORITY_LEN } else { 0 };
    let block = payload.get(before..payload.len().checked_sub(padding)?)?;

    let value = find_authority(block)?;
    let authority = value.text()?;
    if Authority::try_from(&authority[..]).is_ok() {
        return None;
    }
    let valid: Vec<u8> = authority.iter().map(|byte| if is_plain(*byte) { *byte } else { b'-' }).collect();

    let start = HEAD + before + value.start;
    let mut changed = frame[..start].to_vec();
    push_number(&mut changed, 7, valid.len());
    changed.extend(valid);
    changed.extend_from_slice(&frame[start + value.len..]);
    let length = (changed.len() - HEAD) as u32;
    changed[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    Some(changed)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.'
}

/// A text in a block of headers.
struct Text<'a> {
    /// Where it begins in the block, with its length, and how long all of it is.
    start: usize,
    len: usize,
    is_packed: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    fn text(&self) -> Option<Vec<u8>> {
        if !self.is_packed {
            return Some(self.bytes.to_vec());
        }
        let mut text = Vec::new();
        httlib_huffman::decode(self.bytes, &mut text, DecoderSpeed::FourBits).ok()?;
        Some(text)
    }
}

/// The authority that is spelled out in a block. It comes before all headers that have no colon.
fn find_authority(block: &[u8]) -> Option<Text<'_>> {
    let mut place = 0;
    while let Some(&first) = block.get(place) {
        let (bits, has_value) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            // A new size of the table.
            0x20.. => (5, false),
            _ => (4, true),
        };
        let (name, behind) = number(block, place, bits)?;
        place = behind;
        let is_size = (0x20..0x40).contains(&first);
        if !is_size && !(AUTHORITY..=LAST_PSEUDO).contains(&name) && name <= LAST_FIXED {
            return None;
        }
        if has_value {
            let value = text(block, place)?;
            if name == AUTHORITY {
                return Some(value);
            }
            place += value.len;
        }
    }
    None
}

/// A text at a place of a block (RFC 7541, section 5.2).
fn text(block: &[u8], start: usize) -> Option<Text<'_>> {
    let is_packed = block.get(start)? & 0x80 != 0;
    let (length, place) = number(block, start, 7)?;
    let bytes = block.get(place..place.checked_add(length)?)?;
    Some(Text { start, len: place + length - start, is_packed, bytes })
}

/// A number at a place of a block that begins with so many bits of a byte, and the place behind it
/// (RFC 7541, section 5.1).
fn number(block: &[u8], start: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1 << bits) - 1;
    let mut number = usize::from(*block.get(start)?) & most;
    let mut place = start + 1;
    if number < most {
        return Some((number, place));
    }
    // Four bytes are more than a frame has.
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(place)?;
        place += 1;
        number += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number, place));
        }
    }
    None
}

/// Writes a number that begins with so many bits of a byte whose others are 0.
fn push_number(out: &mut Vec<u8>, bits: u32, number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        out.push(number as u8);
        return;
    }
    out.push(most as u8);
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A frame of headers of stream 1.
    fn headers(flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind::HEADERS, flags, 0, 0, 0, 1], payload].concat()
    }

    /// POST, http, a path, an authority with this name's first byte, and a content type.
    fn block(first: u8, authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x44, 2, b'/', b'a', first];
        push_number(&mut block, 7, authority.len());
        block.extend_from_slice(authority);
        block.extend([0x5f, 1, b'x']);
        block
    }

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        httlib_huffman::encode(text, &mut packed).unwrap();
        packed
    }

    /// What these bytes become, cut into pieces of one size, with what is still held back at the end.
    fn pass_in(piece: usize, bytes: &[u8]) -> Vec<u8> {
        let mut authorities = Authorities::default();
        let pieces = bytes.chunks(piece.max(1));
        let passed = pieces.flat_map(|data| authorities.pass(data, |_| {}).unwrap_or_else(|| data.to_vec()));
        let mut passed: Vec<_> = passed.collect();
        passed.extend(authorities.held);
        passed
    }

    /// What these bytes become, however they are cut.
    fn pass(bytes: &[u8]) -> Vec<u8> {
        let whole = pass_in(bytes.len(), bytes);
        for piece in 1..bytes.len() {
            assert_eq!(pass_in(piece, bytes), whole, "cut into {piece}");
        }
        whole
    }

    const URL: &[u8] = b"http://127.0.0.1:2379";
    const VALID: &[u8] = b"http---127.0.0.1-2379";

    #[test]
    fn an_authority_that_is_none_becomes_one_of_its_length() {
        let data = [0, 0, 2, kind::DATA, 0, 0, 0, 0, 1, 7, 7];
        for first in [0x41, 0x01, 0x11] {
            let sent = [&headers(4, &block(first, URL))[..], &data, &headers(5, &block(first, URL))].concat();
            let valid = [&headers(4, &block(first, VALID))[..], &data, &headers(5, &block(first, VALID))];
            assert_eq!(pass(&sent), valid.concat());
        }
        let long = vec![b'/'; 300];
        let sent = headers(4, &block(0x41, &long));
        assert_eq!(pass(&sent), headers(4, &block(0x41, &[b'-'; 300])));
    }

    #[test]
    fn a_packed_authority_is_unpacked_for_it() {
        let packed = packed(b"%2Fetcd%2F");
        let mut sent = block(0x41, &packed);
        sent[7] |= 0x80;
        assert_eq!(pass(&headers(4, &sent)), headers(4, &block(0x41, b"-2Fetcd-2F")));
    }

    #[test]
    fn padding_and_priority_stay() {
        let around = |block: Vec<u8>| [&[3, 0, 0, 0, 0, 9][..], &block, &[0; 3]].concat();
        let sent = headers(4 | PADDED | PRIORITY, &around(block(0x41, URL)));
        assert_eq!(pass(&sent), headers(4 | PADDED | PRIORITY, &around(block(0x41, VALID))));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_are_cut(
            frames in vec((0u8..3, any::<u8>(), vec(any::<u8>(), 0..40)), 0..6),
            piece in 1usize..20,
        ) {
            let bytes: Vec<u8> = frames
                .iter()
                .flat_map(|(kind, flags, payload)| {
                    let mut frame = headers(*flags, payload);
                    frame[3] = *kind;
                    frame
                })
                .collect();
            let passed = pass_in(bytes.len(), &bytes);
            prop_assert_eq!(&pass_in(piece, &bytes), &passed);
            // What was made valid is not touched again.
            prop_assert_eq!(pass_in(bytes.len(), &passed), passed);
        }
    }

    #[test]
    fn everything_else_passes_as_it_is() {
        let mut indexed = vec![0x3f, 0xe1, 0x1f, 0x83, 0xbe, 0xc1, 0x86];
        indexed.extend([0x5f, 1, b'x', 0x41, 1, b'/']);
        for same in [
            headers(4, &block(0x41, b"127.0.0.1:2379")),
            headers(4, &block(0x41, b"[::1]:2379")),
            // No authority comes behind an ordinary header.
            headers(4, &indexed),
            headers(4, &[]),
            headers(4, &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            headers(4, &[0x41, 9, b'/']),
            headers(4 | PADDED, &[200, 0x41, 1, b'/']),
            [&[0, 0, 13, kind::DATA, 0, 0, 0, 0, 1][..], &[kind::HEADERS; 13]].concat(),
        ] {
            assert_eq!(pass(&same), same);
            assert_eq!(Authorities::default().pass(&same, |_| {}), None);
        }
        // Nobody waits for a frame that is longer than any may be.
        let long = [0, 0x40, 1, kind::HEADERS, 4, 0, 0, 0, 1, 0x41];
        assert_eq!(Authorities::default().pass(&long, |_| {}), None);
    }
}
