//! Claim: mutual exclusion in the order of the log. Who is told that it holds a lock stands first in its
//! line: its key is there, and none that was created before it is. So two of whom both keys exist are never
//! both told; a waiter whose lease is gone is never told; and waiters get their turn in the order in which
//! their keys were created.
//!
//! Source: invariant 12 of the simulation's list; etcd 6.12.
//!
//! How it decides: the answer's header names a revision. At one of the positions with that revision, between
//! what was committed when the call began and what was when it ended, the line must begin with the key of
//! the answer. Keys are judged where they stand in the log, not by time: a holder whose lease runs out a
//! moment later was told the truth. Whoever is told that its session is over must have been without its key
//! at some moment of the call.

use super::{Case, steps, words};
use crate::evidence::Violation;
use crate::history::{Answer, Operation, Outcome, Request, key_text};
use crate::model::{Position, Refusal};

const CLAIM: &str = "lock";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for operation in &case.evidence.operations {
        let Request::Lock(request) = &operation.request else { continue };
        let wrong = match &operation.outcome {
            Outcome::Answered(Answer::Lock(answer)) => {
                if steps::is_key_of(&request.name, request.lease, &answer.key) {
                    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                    not_first(case, operation, &request.name, &answer.key, revision)
                } else {
                    Some(format!("was given the key {}, which is not its own", key_text(&answer.key)))
                }
            }
            Outcome::Unknown(failure) if Refusal::heard(failure) == Some(Refusal::SessionExpired) => {
                not_over(case, operation, &request.name, request.lease)
            }
            _ => None,
        };
        found.extend(wrong.map(|wrong| {
            let text = format!("{} {wrong}", words::operation(operation));
            Violation::new(CLAIM, text).shown_by([operation.number])
        }));
    }
    found
}

/// The positions that a call can have seen.
pub(super) fn window<'a>(case: &Case<'a>, operation: &Operation) -> &'a [Position] {
    let returned = operation.returned.unwrap_or_default();
    &case.positions()[case.known_by(operation.called)..=case.known_by(returned)]
}

fn not_first(
    case: &Case<'_>,
    operation: &Operation,
    name: &[u8],
    key: &[u8],
    revision: i64,
) -> Option<String> {
    let window = window(case, operation);
    let line = case.model.store().line(name, revision);
    let is_seen = window.iter().any(|position| position.revision == revision);
    if is_seen && line.first().is_some_and(|first| first.key == key) {
        return None;
    }
    if !is_seen {
        return Some(format!(
            "was told that it holds the lock at revision {revision}, when the store went from {} to {}",
            window[0].revision,
            window[window.len() - 1].revision
        ));
    }
    let own = line.iter().find(|record| record.key == key);
    Some(match (own, line.first()) {
        (Some(own), Some(first)) => format!(
            "was told that it holds the lock at revision {revision} by its key of revision {}, but {} has it by \
             its key of revision {}",
            own.create_revision,
            key_text(&first.key),
            first.create_revision
        ),
        (_, first) => format!(
            "was told that it holds the lock at revision {revision}, where its key is gone; first in line is {}",
            first.map_or("nobody".to_owned(), |first| key_text(&first.key))
        ),
    })
}

/// A session that was said to be over, though its key stood in line from where it came in to the end.
fn not_over(case: &Case<'_>, operation: &Operation, name: &[u8], lease: i64) -> Option<String> {
    if lease == 0 {
        // Nobody knows its key.
        return None;
    }
    let key = steps::key_of(name, lease);
    let window = window(case, operation);
    let created = |position: &Position| {
        let line = case.model.store().line(name, position.revision);
        line.iter().find(|record| record.key == key).map(|record| record.create_revision)
    };
    let mut standing = window.iter().map(created).skip_while(Option::is_none);
    let first = standing.next()?;
    standing.all(|later| later == first).then(|| {
        format!(
            "heard that its session is over, but its key of revision {} was never gone",
            first.unwrap_or(0)
        )
    })
}
