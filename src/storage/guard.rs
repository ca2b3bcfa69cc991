//! The border to the database library: whatever it does wrong comes out as a [`LocalFault`].
//!
//! The library reports most damage as an error but panics on some, also on ordinary reads. A panic
//! must stop this member with a sentence that names the file, and nothing else.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::types::LocalFault;

/// What ends a call into the database early.
pub(super) enum Failure {
    /// The library says so.
    Database(redb::Error),
    /// We found the content to be wrong.
    Fault(LocalFault),
}

impl From<LocalFault> for Failure {
    fn from(fault: LocalFault) -> Self {
        Failure::Fault(fault)
    }
}

/// The library has an error type for each kind of call; all of them become its general one.
macro_rules! from_database_errors {
    ($($error:ident)*) => {
        $(impl From<redb::$error> for Failure {
            fn from(error: redb::$error) -> Self {
                Failure::Database(error.into())
            }
        })*
    };
}

from_database_errors! { CommitError DatabaseError StorageError TableError TransactionError }

/// Runs a call into the database in `path`. `doing` completes "... failed" in the fault.
pub(super) fn guarded<T>(
    path: &Path,
    doing: &str,
    call: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, LocalFault> {
    let path = path.display();
    // After a panic nothing of the database is used again: the fault stops the member.
    let why = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(Failure::Database(error))) => error.to_string(),
        Ok(Err(Failure::Fault(fault))) => fault.to_string(),
        Err(panic) => format!("the file is corrupt: {}", panic_text(&*panic)),
    };
    Err(LocalFault::new(format!("database {path}: {doing} failed: {why}")))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
}
