//! What became of alarms, from the log.

use detcd::apply::Command;
use detcd::proto::etcdserverpb::AlarmType;

use super::Found;
use crate::checkers::Case;
use crate::markers;

/// Looks at every alarm, and at what was written around it.
pub fn look(case: &Case<'_>, found: &mut Found) {
    let mut before = &case.positions()[0];
    let mut was_cleared = false;
    for (place, position) in case.positions().iter().enumerate().skip(1) {
        if position.alarms.len() > before.alarms.len() {
            found.add(markers::ALARM_RAISED);
            let by_itself = case.options.small_quota && case.is_clusters(place);
            found.add_if(by_itself, markers::QUOTA_REACHED);
        } else if position.alarms.len() < before.alarms.len() {
            found.add(markers::ALARM_CLEARED);
            was_cleared |= position.alarms.is_empty();
        }
        let no_space = position.has_alarm(AlarmType::Nospace);
        let command = position.request.as_ref().map(|request| &request.command);
        match (command, &position.applied.answer) {
            (Some(Command::Put(_)), Ok(_)) if was_cleared => {
                found.add(markers::WRITTEN_AFTER_ALARM);
                was_cleared = false;
            }
            (Some(Command::DeleteRange(_) | Command::Compact(_)), Ok(_)) if no_space => {
                found.add(markers::DELETED_UNDER_ALARM);
            }
            _ => {}
        }
        before = position;
    }
}
