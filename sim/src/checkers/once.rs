//! Claim: a request happens once or never. What was acknowledged is never lost; what failed for certain
//! never happened; what is unknown happened at most once.
//!
//! Source: invariants 4 and 7 of the simulation's list; `src/member/proposals.rs` (what was given to raft
//! is never proposed again) and `src/member/forwarded.rs` (a forwarded proposal is taken once).
//!
//! How it decides: by the content of requests. Every entry with a client's request must be some
//! operation's that was answered so, or that is open; every operation that was answered must have an
//! entry of its own. Besides, no two entries may have the same request id, and none may hold a request
//! that is wrong by itself.
//!
//! What it cannot see: an operation of unknown outcome that happened twice while another of the same
//! content, unknown as well, never did. Writers therefore put unique values.

use std::collections::BTreeMap;

use detcd::apply::Command;

use super::attribution::{self, Owner, Place};
use super::{Case, words};
use crate::evidence::Violation;
use crate::history::{Outcome, Request};
use crate::model::{Refusal, Settings};

const CLAIM: &str = "once";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut found = lost(case);
    found.extend(unasked(case));
    found.extend(repeated_ids(case));
    found.extend(flawed(case));
    found
}

/// What was acknowledged and does not stand in the log, or shares an entry.
fn lost(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (operation, place) in case.evidence.operations.iter().zip(&case.attribution.places) {
        let what = words::operation(operation);
        let heard = words::outcome(&operation.outcome);
        let text = match place {
            Place::Lost => {
                format!("{what} heard {heard}, but no committed entry holds it: it is lost")
            }
            Place::Shared(place) => {
                let index = case.positions()[*place].index;
                format!("{what} heard {heard}, but the only entry that holds it, {index}, is another's")
            }
            _ => continue,
        };
        found.push(Violation::new(CLAIM, text).shown_by([operation.number]));
    }
    found
}

/// Entries that no operation explains.
fn unasked(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut askers: Option<BTreeMap<attribution::Identity, Vec<usize>>> = None;
    for (position, owner) in case.positions().iter().zip(&case.attribution.owners) {
        let (Owner::Nobody, Some(request)) = (owner, &position.request) else { continue };
        if flaw(&request.command, case.options.settings).is_some() {
            // Reported for that.
            continue;
        }
        let askers = askers.get_or_insert_with(|| askers_by_identity(case));
        let asked =
            attribution::command_identity(&request.command).and_then(|identity| askers.get(&identity));
        let index = position.index;
        let (text, shown_by) = match asked {
            Some(numbers) => {
                let first = &case.evidence.operations[numbers[0]];
                let what = words::operation(first);
                let text = match &first.outcome {
                    Outcome::Failed(failure) if numbers.len() == 1 => format!(
                        "{what} failed for certain ({}), but entry {index} holds it: it has happened",
                        failure.message
                    ),
                    _ => format!(
                        "entry {index} holds the request of {what} once more than it was made: \
                         it happened twice, or before it was made"
                    ),
                };
                (text, numbers.clone())
            }
            None if case.options.unrecorded_clients => continue,
            None => {
                let command = format!("{:?}", request.command);
                (format!("entry {index} holds a request that nobody made: {command}"), Vec::new())
            }
        };
        found.push(Violation::new(CLAIM, text).shown_by(shown_by));
    }
    found
}

fn askers_by_identity(case: &Case<'_>) -> BTreeMap<attribution::Identity, Vec<usize>> {
    let mut askers: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for operation in &case.evidence.operations {
        if let Some(identity) = attribution::request_identity(operation) {
            askers.entry(identity).or_default().push(operation.number);
        }
    }
    askers
}

/// Entries with the id of an earlier one.
fn repeated_ids(case: &Case<'_>) -> Vec<Violation> {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for position in case.positions() {
        let Some(request) = &position.request else { continue };
        if let Some(first) = seen.insert(request.id, position.index) {
            let (id, index) = (request.id, position.index);
            let text = format!("entries {first} and {index} hold requests of one id, {id:x}");
            found.push(Violation::new(CLAIM, text));
        }
    }
    found
}

/// Entries with requests that must be refused before they get there.
fn flawed(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for position in case.positions() {
        let Some(logged) = &position.request else { continue };
        if let Some((request, flaw)) = flaw(&logged.command, case.options.settings) {
            let (index, what) = (position.index, words::request(&request));
            let text = format!("entry {index} holds {what}, which had to be refused: {}", flaw.text());
            found.push(Violation::new(CLAIM, text));
        }
    }
    found
}

/// What is wrong with a request of the log by itself.
fn flaw(command: &Command, settings: Settings) -> Option<(Request, Refusal)> {
    let request = match command {
        Command::Put(put) => Request::Put(put.clone()),
        Command::DeleteRange(delete) => Request::DeleteRange(delete.clone()),
        Command::Txn(txn) => Request::Txn(txn.clone()),
        _ => return None,
    };
    let flaw = attribution::flaw(&request, settings)?;
    Some((request, flaw))
}
