//! What the surface has and this server has not: answered with `UNIMPLEMENTED`, in words that say so.
//! The README's table lists all of it.

use tonic::Status;

/// The answer of a call that is not built yet. `what` completes the sentence "... is not supported".
pub(super) fn unbuilt<T>(what: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("detcd: {what} is not supported by this version")))
}
