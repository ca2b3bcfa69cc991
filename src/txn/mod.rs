//! Requests on the key space: single operations and transactions, checked and carried out.
//!
//! ```text
//!   request -> check (no state, where it came in) -> log
//!           -> resolve: compares pick one branch at every level, all by the state before
//!           -> allow:   what could fail in the branches taken fails here, before any change
//!           -> execute: the operations in order, in one write transaction
//! ```
//!
//! This room knows the meaning of the requests and the store. It knows neither leases nor permissions:
//! whether a lease exists it asks a closure, and which keys moved from lease to lease it hands back as
//! [`LeaseMove`]s for the caller to apply.
//!
//! Invariants:
//! - a transaction is all or nothing: once its first change is made, only a fault of this member can stop
//!   it, and such a fault stops the member;
//! - what a request does follows from the state, the request and the answers of the closure alone;
//! - all changes of a transaction have one revision, the one after the state before.

mod check;
mod compare;
mod coverage;
mod execute;
mod resolve;
#[cfg(test)]
mod tests;

pub use check::{check_delete, check_put, check_range, check_txn};
pub use execute::{Applied, LeaseMove, delete_range, put, range, read_txn, txn};
pub use resolve::{is_read_only, is_serializable};
