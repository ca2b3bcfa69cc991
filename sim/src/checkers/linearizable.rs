//! Claim: strict serializability. Every write, and every read that does not say "serializable", happens at
//! one position of the log between its call and its answer, and is answered with exactly what the state
//! there gives: revision, previous records, counts, versions, which branch. So a read never misses what
//! was acknowledged before it began; and nothing is answered before it is committed.
//!
//! Source: invariants 5 and 6 of the simulation's list; etcd 2.2 to 2.9 for the answers, 4.1 for leases;
//! Herlihy and Wing for the order.
//!
//! How it decides: the order is known, so there is nothing to search for. A write has the position of its
//! entry. A read can have any position whose state gives its answer; mostly the revision in its header
//! leaves a few. The sweep goes through operations by the time of their call and gives each the earliest
//! position that it can have, not before that of any operation that had ended before, nor behind what was
//! committed when it was answered. Constraints only ever push to later positions, so taking the earliest
//! loses nothing: if one operation finds none, there is no order at all.
//!
//! Operations that touch one another in time only, where one is answered in the very nanosecond in which
//! the other begins, count as overlapping, unless they are of one client.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::attribution::{self, Place};
use super::reads::{self, Manner, Scene};
use super::{Case, words};
use crate::evidence::Violation;
use crate::history::{Operation, Outcome, Time};
use crate::model::Refusal;

const CLAIM: &str = "linearizable";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut found: Vec<Violation> = case
        .evidence
        .operations
        .iter()
        .zip(&case.attribution.places)
        .filter_map(|(operation, place)| wrong_write(case, operation, *place))
        .collect();
    found.extend(sweep(case));
    found
}

/// A write whose answer contradicts its entry.
fn wrong_write(case: &Case<'_>, operation: &Operation, place: Place) -> Option<Violation> {
    let what = words::operation(operation);
    let heard = words::outcome(&operation.outcome);
    let text = match place {
        Place::Early(place) => {
            let (index, at) = (case.positions()[place].index, case.committed_at[place]);
            let returned = operation.returned.unwrap_or_default();
            format!(
                "{what} was answered at {returned} ns, before its entry {index} was known to be committed \
                 anywhere, at {at} ns"
            )
        }
        Place::Different(place) => {
            let position = &case.positions()[place];
            let right = match &position.applied.answer {
                Ok(Some(answer)) => words::answer_text(answer),
                Ok(None) => "nothing".to_owned(),
                Err(refusal) => refusal.text().to_owned(),
            };
            format!("{what} heard {heard}, but its entry {} gives {right}", position.index)
        }
        Place::NotRefused(flaw) => format!("{what} heard {heard}, but had to be refused: {}", flaw.text()),
        Place::WronglyRefused(refusal) => {
            format!("{what} was refused for what is not wrong with it: {}", refusal.text())
        }
        Place::Nowhere | Place::At(_) | Place::Shared(_) | Place::Lost => return None,
    };
    Some(Violation::new(CLAIM, text).shown_by([operation.number]))
}

/// How far the log was when an operation began: the last position of those that had ended, and whose.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Reached {
    place: usize,
    by: Option<usize>,
}

fn sweep(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut order: Vec<&Operation> = case.evidence.operations.iter().collect();
    order.sort_by_key(|operation| (operation.called, operation.number));
    let mut under_way = BinaryHeap::new();
    let mut ended = Reached::default();
    // Of each client the last one, with its end, which may be the very moment in which the next one begins.
    let mut own: BTreeMap<u32, (Time, Reached)> = BTreeMap::new();
    for operation in order {
        while let Some(Reverse((returned, reached))) = under_way.peek()
            && *returned < operation.called
        {
            ended = ended.max(*reached);
            under_way.pop();
        }
        let before = own.get(&operation.client).filter(|(returned, _)| *returned <= operation.called);
        let from = before.map_or(ended, |(_, reached)| ended.max(*reached));
        let Some(returned) = operation.returned else { continue };
        let place = match places(case, operation, from) {
            Places::Any => continue,
            Places::At(place) => place,
            Places::None(violation) => {
                found.push(violation);
                continue;
            }
        };
        let reached = Reached { place, by: Some(operation.number) };
        under_way.push(Reverse((returned, reached)));
        own.insert(operation.client, (returned, from.max(reached)));
    }
    found
}

enum Places {
    /// It says nothing of the order.
    Any,
    /// The earliest that it can have.
    At(usize),
    None(Violation),
}

fn places(case: &Case<'_>, operation: &Operation, from: Reached) -> Places {
    match reads::manner(&operation.request) {
        Manner::Logged => match case.attribution.places[operation.number] {
            Place::At(place) if place < from.place => {
                Places::None(out_of_order(case, operation, place, from))
            }
            Place::At(place) => Places::At(place),
            // Reported elsewhere, or nothing is known.
            _ => Places::Any,
        },
        Manner::Linearizable => read_places(case, operation, from),
        Manner::Serializable | Manner::Other => Places::Any,
    }
}

fn read_places(case: &Case<'_>, operation: &Operation, from: Reached) -> Places {
    if !says_something(operation) {
        return Places::Any;
    }
    if let Some(flaw) = attribution::flaw(&operation.request, case.options.settings) {
        return match not_refused(operation, flaw) {
            Some(violation) => Places::None(violation),
            None => Places::Any,
        };
    }
    let last = case.known_by(operation.returned.unwrap_or_default());
    let fits =
        |place: &usize| reads::fits(&Scene::at(case.model.store(), &case.positions()[*place]), operation);
    match (from.place..=last).find(fits) {
        Some(place) => Places::At(place),
        None => Places::None(no_place(case, operation, from, last)),
    }
}

/// Whether an outcome tells anything of the state.
fn says_something(operation: &Operation) -> bool {
    match &operation.outcome {
        Outcome::Answered(_) => true,
        Outcome::Failed(failure) => Refusal::heard(failure).is_some(),
        Outcome::Open | Outcome::Unknown(_) => false,
    }
}

/// A read that is wrong by itself must be refused for that.
fn not_refused(operation: &Operation, flaw: Refusal) -> Option<Violation> {
    let heard = match &operation.outcome {
        Outcome::Failed(failure) => Refusal::heard(failure),
        _ => None,
    };
    (heard != Some(flaw)).then(|| {
        let (what, heard) = (words::operation(operation), words::outcome(&operation.outcome));
        let text = format!("{what} heard {heard}, but had to be refused: {}", flaw.text());
        Violation::new(CLAIM, text).shown_by([operation.number])
    })
}

fn out_of_order(case: &Case<'_>, operation: &Operation, place: usize, from: Reached) -> Violation {
    let index = |place: usize| case.positions()[place].index;
    let text = format!(
        "{} is entry {}, but operation {}, which had ended before it began, stands at {}",
        words::operation(operation),
        index(place),
        from.by.unwrap_or_default(),
        index(from.place)
    );
    Violation::new(CLAIM, text).shown_by([operation.number].into_iter().chain(from.by))
}

/// Says why a read fits nowhere in its window.
fn no_place(case: &Case<'_>, operation: &Operation, from: Reached, last: usize) -> Violation {
    let positions = case.positions();
    let store = case.model.store();
    let (what, heard) = (words::operation(operation), words::outcome(&operation.outcome));
    let elsewhere = (0..positions.len())
        .rev()
        .find(|place| reads::fits(&Scene::at(store, &positions[*place]), operation));
    let text = match elsewhere {
        Some(place) if place < from.place => format!(
            "{what} is stale: it heard {heard}, which was last right at entry {} (revision {}), but operation \
             {} had ended before it began and stands at entry {} (revision {})",
            positions[place].index,
            positions[place].revision,
            from.by.unwrap_or_default(),
            positions[from.place].index,
            positions[from.place].revision
        ),
        Some(place) if place > last => format!(
            "{what} heard {heard}, which is right at entry {} only, but not more than entry {} was known to be \
             committed when it was answered",
            positions[place].index, positions[last].index
        ),
        _ => {
            // The state of the revision that it reports, or the newest that it could see.
            let reported = match &operation.outcome {
                Outcome::Answered(answer) => reads::header_of(answer).map(|header| header.revision),
                _ => None,
            };
            let position = reported
                .and_then(|revision| case.model.first_with_revision(revision))
                .unwrap_or(&positions[last]);
            let right = match reads::right_answer(&Scene::at(store, position), &operation.request) {
                Some(Ok(answer)) => words::answer_text(&answer),
                Some(Err(refusal)) => refusal.text().to_owned(),
                None => format!("leases {:?}, alarms {:?}", position.leases, position.alarms),
            };
            format!(
                "{what} heard {heard}, which no state gives that it could see; that of entry {} (revision {}) \
                 gives {right}",
                position.index, position.revision
            )
        }
    };
    Violation::new(CLAIM, text).shown_by([operation.number].into_iter().chain(from.by))
}
