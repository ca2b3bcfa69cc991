//! The lines that `txn` and `watch -i` read: conditions, operations and watches, as people type them.
//!
//! ```text
//!   mod("key") > "5"                    compare
//!   put key "some value" --prev-kv      words, then operation
//!   watch key --rev 7 -- echo event     words, then watch
//! ```
//!
//! Invariant: these functions are pure. What is wrong with a line comes back as an error; whether that ends
//! the command is the caller's business.

mod compare;
mod operation;
mod watch;
mod words;

pub(super) use compare::compare;
pub(super) use operation::operation;
pub(super) use watch::{WatchKey, WatchLine, WatchLineError, interactive_watch, watch_line};
pub(super) use words::words;
