//! Claim: a serializable read is right for a state that the store had by then. It may be old; it is never
//! of the future, never of two states at once, and never wrong.
//!
//! Source: invariant 5 of the simulation's list, second half; etcd 2.4, 6.9. With the reads go all that a
//! member answers from what it has: the list of leases, HashKV, and Status, which shows that its applied
//! index and its store belong together.
//!
//! How it decides: the answer must be that of the model at some position with the revision in its header
//! that was committed when the answer came. Which of two members is further does not matter; that one
//! member does not go back is said in `headers`.

use super::attribution;
use super::reads::{self, Manner, Scene};
use super::{Case, words};
use crate::evidence::Violation;
use crate::history::{Answer, Operation, Outcome};
use crate::model::{Position, Refusal};

const CLAIM: &str = "serializable";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let operations = case.evidence.operations.iter();
    operations
        .filter(|operation| reads::manner(&operation.request) == Manner::Serializable)
        .filter_map(|operation| wrong(case, operation))
        .collect()
}

fn wrong(case: &Case<'_>, operation: &Operation) -> Option<Violation> {
    let returned = operation.returned?;
    let flaw = attribution::flaw(&operation.request, case.options.settings);
    let refusal = match &operation.outcome {
        Outcome::Answered(_) => None,
        Outcome::Failed(failure) => Some(Refusal::heard(failure)?),
        Outcome::Open | Outcome::Unknown(_) => return None,
    };
    let is_right = match flaw {
        Some(flaw) => refusal == Some(flaw),
        None => {
            let seen = &case.positions()[..=case.known_by(returned)];
            let fits = |position: &Position| reads::fits(&Scene::at(case.model.store(), position), operation);
            candidates(seen, operation).iter().any(fits)
        }
    };
    (!is_right).then(|| {
        let (what, heard) = (words::operation(operation), words::outcome(&operation.outcome));
        let text = match flaw {
            Some(flaw) => format!("{what} heard {heard}, but had to be refused: {}", flaw.text()),
            None => format!("{what} heard {heard}, which {}", contradiction(case, operation)),
        };
        Violation::new(CLAIM, text).shown_by([operation.number])
    })
}

/// The positions that an answer can be about, as far as its header tells.
fn candidates<'a>(seen: &'a [Position], operation: &Operation) -> &'a [Position] {
    let Outcome::Answered(answer) = &operation.outcome else { return seen };
    let Some(header) = reads::header_of(answer) else { return seen };
    let from = seen.partition_point(|position| position.revision < header.revision);
    let to = seen.partition_point(|position| position.revision <= header.revision);
    &seen[from..to]
}

fn contradiction(case: &Case<'_>, operation: &Operation) -> String {
    let Outcome::Answered(answer) = &operation.outcome else {
        return "no state asks for that existed by then".to_owned();
    };
    let revision = reads::header_of(answer).map_or(0, |header| header.revision);
    let Some(position) = case.model.first_with_revision(revision) else {
        return format!("is of revision {revision}, which there never was");
    };
    let known = case.position_by(operation.returned.unwrap_or_default());
    if position.index > known.index {
        return format!("is of the future: no more than revision {} was committed then", known.revision);
    }
    if let Answer::Status(status) = answer
        && let Some(applied) = case.model.revision_at(status.raft_applied_index)
    {
        return format!(
            "contradicts the log: the store is at revision {applied} when entry {} is applied, where alarms are \
             {:?}",
            status.raft_applied_index, position.alarms
        );
    }
    match reads::right_answer(&Scene::at(case.model.store(), position), &operation.request) {
        Some(Ok(right)) => format!("that state contradicts: it gives {}", words::answer_text(&right)),
        Some(Err(refusal)) => format!("that state refuses: {}", refusal.text()),
        None => format!(
            "that state contradicts: leases {:?}, compacted {}",
            position.leases.keys(),
            position.compacted
        ),
    }
}
