//! What became of locks and elections.

use detcd::apply::Command;
use detcd::proto::etcdserverpb::request_op::Request as Op;

use super::Found;
use crate::checkers::Case;
use crate::history::{Answer, Operation, Outcome, Request};
use crate::markers;
use crate::model::Refusal;

/// Looks at every call for a lock, every campaign and every observer.
pub fn look(case: &Case<'_>, found: &mut Found) {
    for operation in &case.evidence.operations {
        match (&operation.request, &operation.outcome) {
            (Request::Lock(request), Outcome::Answered(Answer::Lock(answer))) => {
                match created(case, operation, &answer.key) {
                    None => found.add(markers::LOCK_AGAIN),
                    Some(created) => {
                        found.add_if(!is_first(case, &request.name, created), markers::LOCK_WAITED);
                    }
                }
            }
            (Request::Lock(_), Outcome::Unknown(failure)) => {
                let expired = Refusal::heard(failure) == Some(Refusal::SessionExpired);
                found.add_if(expired, markers::WAITER_EXPIRED);
            }
            (Request::Campaign(request), Outcome::Answered(Answer::Campaign(answer))) => {
                let Some(leader) = &answer.leader else { continue };
                found.add_if(!is_first(case, &request.name, leader.rev), markers::ELECTION_WON);
                let said = case.model.record(&leader.key, leader.rev).map(|record| &record.value);
                found.add_if(said.is_some_and(|said| *said != request.value), markers::ELECTION_AGAIN);
            }
            _ => {}
        }
    }
    departures(case, found);
    observers(case, found);
}

/// The revision at which a key was created during a call.
fn created(case: &Case<'_>, operation: &Operation, key: &[u8]) -> Option<i64> {
    let window = case.known_by(operation.called)..=case.known_by(operation.returned?);
    let changes = case.positions()[window].iter().flat_map(|position| &position.applied.changes);
    let mut own = changes.filter_map(|change| change.record.as_ref()).filter(|record| record.key == key);
    own.find(|record| record.create_revision == record.mod_revision).map(|record| record.create_revision)
}

/// Whether who came in at a revision was first in line at once.
fn is_first(case: &Case<'_>, name: &[u8], revision: i64) -> bool {
    let line = case.model.store().line(name, revision);
    line.first().is_none_or(|first| first.create_revision == revision)
}

/// Keys that were taken out of the line because their calls had ended.
fn departures(case: &Case<'_>, found: &mut Found) {
    for (place, position) in case.positions().iter().enumerate() {
        let Some(Command::Txn(txn)) = position.request.as_ref().map(|request| &request.command) else {
            continue;
        };
        let deletes = txn.success.iter().any(|op| matches!(op.request, Some(Op::RequestDeleteRange(_))));
        let is_departure = deletes && case.is_further_step(place) && !position.applied.changes.is_empty();
        found.add_if(is_departure, markers::WAITER_LEFT);
    }
}

fn observers(case: &Case<'_>, found: &mut Found) {
    for observation in &case.evidence.observations {
        let heard = observation.words.iter().filter_map(|(_, word)| word.kv.as_ref()?.decode().ok());
        let created: Vec<i64> = heard.map(|record| record.create_revision).collect();
        for pair in created.windows(2) {
            found.add(if pair[0] == pair[1] { markers::OBSERVED_WORD } else { markers::OBSERVED_CHANGE });
        }
    }
}
