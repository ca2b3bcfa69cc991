//! Claim: after a crash the database holds exactly the effects of a prefix of the commits, each whole and
//! with its applied index, among them every commit that returned; and what it shows once is durable.

use detcd::types::LocalFault;
use detcd::types::backend::BackendSnapshot;

use super::database_model::DatabaseModel;
use super::promise::Promise;
use crate::evidence::Violation;

/// The claim's name.
pub(super) const CLAIM: &str = "backend-prefix";

/// What an opened database holds must be what was promised.
pub(super) fn check_recovered(
    promise: &Promise<DatabaseModel>,
    found: &DatabaseModel,
) -> Result<(), Violation> {
    if promise.allows(found) {
        return Ok(());
    }
    let difference = promise.kept().difference(found);
    Err(violated(format!("expected what was committed, {difference} was found")))
}

/// A snapshot shows what one commit left, whatever came later.
pub(super) fn check_snapshot(
    expected: &DatabaseModel,
    snapshot: &dyn BackendSnapshot,
) -> Result<(), Violation> {
    let found = DatabaseModel::read(snapshot).map_err(|fault| unreadable("a snapshot", &fault))?;
    if found == *expected {
        return Ok(());
    }
    let difference = expected.difference(&found);
    Err(violated(format!("a snapshot does not show its commit: {difference}")))
}

/// What was found once is there for good.
pub(super) fn check_durable(found: &DatabaseModel, later: &DatabaseModel) -> Result<(), Violation> {
    if found == later {
        return Ok(());
    }
    let difference = found.difference(later);
    Err(violated(format!("an opened database showed what a power cut could still take: {difference}")))
}

/// A database on a whole disk can be read.
pub(super) fn unreadable(what: &str, fault: &LocalFault) -> Violation {
    violated(format!("{what} cannot be read without a reason: {fault}"))
}

pub(super) fn violated(text: String) -> Violation {
    Violation::new(CLAIM, text)
}
