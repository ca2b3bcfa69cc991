//! The one gate that a replicated request passes before it is run: what the raised alarms refuse.

use super::Command;
use crate::alarm::Alarms;
use crate::planted::{self, Bug};
use crate::quota;
use crate::types::RequestError;

/// Says whether the alarms let the command through (etcd: alarms, CORRUPT before NOSPACE).
///
/// # Errors
/// `Corrupt` or `NoSpace`, the same on every member.
pub fn admit(alarms: &Alarms, command: &Command) -> Result<(), RequestError> {
    if alarms.corrupt() && refused_when_corrupt(command) {
        return Err(RequestError::Corrupt);
    }
    if alarms.nospace() && cost(command) > 0 && !planted::is(Bug::AlarmIgnored) {
        return Err(RequestError::NoSpace);
    }
    Ok(())
}

fn refused_when_corrupt(command: &Command) -> bool {
    match command {
        Command::Put(_)
        | Command::DeleteRange(_)
        | Command::Txn(_)
        | Command::Compact(_)
        | Command::LeaseGrant(_)
        | Command::LeaseRevoke(_) => true,
        Command::LeaseCheckpoint(_)
        | Command::Alarm(_)
        | Command::MemberAttributes(_)
        | Command::ClusterVersion(_) => false,
    }
}

/// What the command is estimated to add to the database, in bytes.
pub fn cost(command: &Command) -> u64 {
    match command {
        Command::Put(request) => quota::put_cost(request),
        Command::Txn(request) => quota::txn_cost(request),
        Command::LeaseGrant(_) => quota::lease_grant_cost(),
        _ => 0,
    }
}
