//! Which keys a command is about: one key, a range, a prefix, or everything from a key on.

use bytes::Bytes;

use crate::types::KeyRange;

/// How far a command reaches from its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only the key.
    Key,
    /// To this key, which is not included. Empty is only the key.
    To(Vec<u8>),
    /// All keys that begin with the key.
    Prefix,
    /// All keys from the key on.
    From,
}

/// `key` and `range_end` of the request. The empty key means all keys with [`Reach::Prefix`] and
/// [`Reach::From`].
pub fn span(key: Vec<u8>, reach: Reach) -> (Bytes, Bytes) {
    const ZERO: Bytes = Bytes::from_static(b"\0");
    let first = |key: Vec<u8>| if key.is_empty() { ZERO } else { key.into() };
    match reach {
        Reach::Key => (key.into(), Bytes::new()),
        Reach::To(end) => (key.into(), end.into()),
        Reach::From => (first(key), ZERO),
        Reach::Prefix => {
            let end = KeyRange::prefix(key.clone()).wire_end();
            (first(key), end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_key_and_range_end() {
        for (key, reach, expected) in [
            (&b"a"[..], Reach::Key, (&b"a"[..], &b""[..])),
            (b"", Reach::Key, (b"", b"")),
            (b"a", Reach::To(b"c".to_vec()), (b"a", b"c")),
            (b"ab", Reach::Prefix, (b"ab", b"ac")),
            (b"a\xff\xff", Reach::Prefix, (b"a\xff\xff", b"b")),
            (b"\xff", Reach::Prefix, (b"\xff", b"\0")),
            (b"", Reach::Prefix, (b"\0", b"\0")),
            (b"a", Reach::From, (b"a", b"\0")),
            (b"", Reach::From, (b"\0", b"\0")),
        ] {
            let (start, end) = span(key.to_vec(), reach);
            assert_eq!((&start[..], &end[..]), expected);
        }
    }
}
