//! The small words of a script: bytes, revisions and leases, each with a form that reads well in a file.
//!
//! Revisions and leases are mostly named by their place and not by their number, so that a sequence means
//! the same on a new store as it did on an old one, and goes on meaning something while it shrinks.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Any bytes. Written as a string whose characters are the bytes, `"\u0000"` to `"ÿ"`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Text(pub Vec<u8>);

impl Text {
    pub fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into_iter().map(char::from).collect()
    }
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> = text.chars().map(|character| u8::try_from(character).ok()).collect();
        bytes.map(Self).ok_or_else(|| format!("{text:?} has characters that are no bytes"))
    }
}

/// A revision: a number, or one that stands in a relation to the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Revision {
    At(i64),
    /// So many after the store's revision when the request is sent.
    Now(i64),
    /// So many after the last compacted revision.
    Compacted(i64),
}

impl Default for Revision {
    fn default() -> Self {
        Self::At(0)
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        match revision {
            Revision::At(number) => number.to_string(),
            Revision::Now(0) => "now".to_owned(),
            Revision::Now(distance) => format!("now{distance:+}"),
            Revision::Compacted(0) => "compacted".to_owned(),
            Revision::Compacted(distance) => format!("compacted{distance:+}"),
        }
    }
}

impl TryFrom<String> for Revision {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |text: &str| match text {
            "" => Ok(0),
            text => text.parse().map_err(|error| format!("{text:?}: {error}")),
        };
        if let Some(distance) = text.strip_prefix("now") {
            Ok(Self::Now(number(distance)?))
        } else if let Some(distance) = text.strip_prefix("compacted") {
            Ok(Self::Compacted(number(distance)?))
        } else {
            Ok(Self::At(number(&text)?))
        }
    }
}

/// A lease: by its id, or the n-th whose id the server chose in this sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Lease {
    Id(i64),
    Given(usize),
}

impl Default for Lease {
    fn default() -> Self {
        Self::Id(0)
    }
}

impl From<Lease> for String {
    fn from(lease: Lease) -> Self {
        match lease {
            Lease::Id(id) => id.to_string(),
            Lease::Given(number) => format!("given#{number}"),
        }
    }
}

impl TryFrom<String> for Lease {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let failure = |error| format!("{text:?}: {error}");
        match text.strip_prefix("given#") {
            Some(number) => Ok(Self::Given(number.parse().map_err(failure)?)),
            None => Ok(Self::Id(text.parse().map_err(failure)?)),
        }
    }
}

/// Which member a request names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Member {
    /// No member: 0.
    #[default]
    None,
    /// The member that is asked.
    Own,
    /// An id that no member has.
    Unknown,
}

/// What names stand for at one moment on one server.
#[derive(Clone, Copy, Debug)]
pub struct Meaning<'a> {
    /// The store's revision.
    pub revision: i64,
    /// The last compacted revision, -1 for none.
    pub compacted: i64,
    /// Leases whose ids this server chose.
    pub given: &'a [i64],
    /// The member itself.
    pub member: u64,
}

/// The lease that a name stands for when nothing was given yet: one that nobody has.
const NOBODYS_LEASE: i64 = 999;

/// The member that is [`Member::Unknown`].
const NOBODYS_MEMBER: u64 = 12345;

impl Meaning<'_> {
    pub fn revision(&self, revision: Revision) -> i64 {
        match revision {
            Revision::At(number) => number,
            Revision::Now(distance) => self.revision.saturating_add(distance),
            Revision::Compacted(distance) => self.compacted.saturating_add(distance),
        }
    }

    pub fn lease(&self, lease: Lease) -> i64 {
        match lease {
            Lease::Id(id) => id,
            Lease::Given(number) => self.given.get(number).copied().unwrap_or(NOBODYS_LEASE),
        }
    }

    pub fn member(&self, member: Member) -> u64 {
        match member {
            Member::None => 0,
            Member::Own => self.member,
            Member::Unknown => NOBODYS_MEMBER,
        }
    }
}
