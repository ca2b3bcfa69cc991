//! The words that every room shares: ids, revisions, key ranges, time values, errors.
//!
//! Invariants:
//! - nothing in here knows who uses it: no clock is read, no message is sent, no room is named;
//! - a [`KeyRange`] is built in one place from what a client sent, so that the meaning of `range_end`
//!   is decided once for reads, deletes, compares, watches and permissions.

pub mod backend;
pub mod change;
mod error;
mod key_range;
pub mod log;
pub mod version;

use std::fmt;

pub use error::{Code, Error, LocalFault, RequestError};
pub use key_range::{KeyRange, RangeEnd};

/// A place in the history of the store: the transaction (`main`) and the change inside it (`sub`).
///
/// Clients only see `main`. Ordered as the history is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Number of the transaction, 1 on an empty store.
    pub main: i64,
    /// Number of the change inside the transaction, from 0.
    pub sub: i64,
}

impl Revision {
    /// The revision of change `sub` of transaction `main`.
    pub fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.main, self.sub)
    }
}

/// Defines an id that must not be mixed up with another kind of number.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

id! {
    /// A member of a cluster; 0 is no member. Shown as lower-case hex, as etcd does.
    MemberId(u64), "{:x}"
}
id! {
    /// A cluster. Shown as lower-case hex, as etcd does.
    ClusterId(u64), "{:x}"
}
id! {
    /// A lease; 0 is no lease, negative ids are legal. Shown as 16 hex digits, as etcdctl does.
    LeaseId(i64), "{:016x}"
}
id! {
    /// A request on its way through the log, unique over the life of the cluster.
    RequestId(u64), "{:x}"
}
id! {
    /// A client's watch stream on this member, unique over one run of the process.
    StreamId(u64), "{}"
}

/// What time it is for one member. The core is told; it never asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// Nanoseconds since this member started. Never goes back.
    pub mono: u64,
    /// Milliseconds since the Unix epoch. May jump either way: good for display and ids only.
    pub wall: u64,
}

impl Now {
    /// Nanoseconds in a second, the unit of [`Now::mono`].
    pub const SECOND: u64 = 1_000_000_000;
    /// Nanoseconds in a millisecond.
    pub const MILLISECOND: u64 = 1_000_000;

    /// Nanoseconds since `earlier`, 0 when it lies ahead.
    pub fn since(self, earlier: Now) -> u64 {
        self.mono.saturating_sub(earlier.mono)
    }
}
