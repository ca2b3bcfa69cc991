//! The one gate that a replicated request passes before it is run: what the raised alarms refuse.

use super::Command;
use crate::alarm::Alarms;
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
    if alarms.nospace() && takes_space(command) {
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

fn takes_space(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant(_) => true,
        Command::Txn(request) => quota::txn_cost(request) > 0,
        _ => false,
    }
}
