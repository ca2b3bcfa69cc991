//! A key as the index holds it.
//!
//! A write under a fresh view copies tree nodes, with all keys in them. So a short key stands in the entry
//! itself, where comparing it takes no second look at memory and copying it no reference count; a long one
//! is shared. Neither is part of a record or a request, both of which a key may outlive by far.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// Longest key that needs no memory beside its entry. It is what fits beside the reference that a long key
/// takes anyway.
const INLINE_LEN: usize = 22;

/// A key of the index. It behaves as its bytes do.
#[derive(Clone)]
pub struct Key(Form);

#[derive(Clone)]
enum Form {
    /// The first `len` of `bytes`.
    Inline {
        len: u8,
        bytes: [u8; INLINE_LEN],
    },
    Shared(Arc<[u8]>),
}

const _: () = assert!(size_of::<Key>() == 24, "the inline form is to use what the shared one takes");

impl Key {
    /// A copy of the key.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        if key.len() > INLINE_LEN {
            return Self(Form::Shared(key.into()));
        }
        let mut bytes = [0; INLINE_LEN];
        bytes[..key.len()].copy_from_slice(key);
        Self(Form::Inline { len: key.len() as u8, bytes })
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Form::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Form::Shared(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl fmt::Debug for Key {
    /// As text, like the keys of requests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) {
        let key = Key::from(bytes);
        assert_eq!((&*key, key.to_bytes(), key.clone()), (bytes, Bytes::copy_from_slice(bytes), key.clone()));
        assert_eq!(format!("{key:?}"), format!("b\"{}\"", "k".repeat(bytes.len())));
    }

    #[test]
    fn a_key_is_its_bytes_whatever_their_number() {
        for len in [0, 1, INLINE_LEN - 1, INLINE_LEN, INLINE_LEN + 1, 300] {
            check(&vec![b'k'; len]);
        }
    }

    #[test]
    fn short_and_long_keys_are_in_one_order() {
        let bytes = [vec![0; 2], vec![0; 30], vec![0, 1], vec![b'k'; 22], vec![b'k'; 23], vec![b'l'; 5]];
        let keys: Vec<Key> = bytes.iter().map(|bytes| bytes[..].into()).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
    }
}
