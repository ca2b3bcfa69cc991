//! The multi-version store: every key, every revision of it since the last compaction.
//!
//! One writer changes the [`Store`]; any number of readers hold [`View`]s of it. A view is a moment of
//! the store that never changes, and taking one is a few reference counts, because all that a view is
//! made of is persistent: three trees that share their nodes, and one snapshot of the database.
//!
//! ```text
//!   write ──> Store ── view() ──────────────> View ───────────────> readers, any thread
//!               │                              live     key            -> LiveKey, newest value or not
//!               │ take_batch()                 history  (key, revision) -> what was before
//!               v                              recent   main revision  -> its changes, with records
//!            database ── batch_committed() ──> backend  revision       -> record
//! ```
//!
//! Values live in the database. Beside it, in memory, are those of `recent` (all that is not in the
//! database yet, and some more for watchers that are a little behind) and the newest values of keys that
//! were written lately, longest of those that are read, within a budget (`cache`). Everything but values
//! is in memory: whether a key exists, since when, in which version.
//!
//! Invariants:
//! - revision, compaction and contents after a write follow from the writes alone; what is in memory,
//!   in the database or physically compacted away shows in no answer;
//! - all parts of one view belong to the same moment: what its trees name can be read from its `recent`
//!   or its database snapshot, for as long as the view exists;
//! - the record of a live key is never removed; nothing at or above the compaction revision is;
//! - a record is the canonical encoding of `mvccpb.KeyValue`, and that of a tombstone has only the key;
//! - this room knows leases as a number inside a record, nothing more.

mod cache;
mod catch_up;
mod compaction;
mod hash;
mod history;
mod key;
mod live;
pub mod range;
mod restore;
mod store;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod view;
mod write;

pub use compaction::CompactionProgress;
pub use hash::{HashJob, KvHash};
pub use key::Key;
pub use live::LiveKey;
pub use store::{Store, StoreConfig};
pub use tree::{Range, Tree, TreeKey, Weigh};
pub use view::{KeyAt, KeysAt, View};
pub use write::{Deleted, PutOutcome, WriteTxn};

/// Bytes of newest values that the store keeps in memory unless it is told otherwise.
pub const VALUE_CACHE_BYTES: usize = 14 << 20;
/// Bytes of recent changes that the store keeps in memory, beyond those it must, unless told otherwise.
pub const RECENT_BYTES: usize = 2 << 20;
/// Records that one read of the database asks for. A record may be as big as a request, so this bounds
/// what a reader holds at once.
pub const PAGE_RECORDS: usize = 128;
