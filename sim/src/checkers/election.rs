//! Claim: one leader an election. Who is told that it leads has the oldest key in line, or has lost its key
//! by then and cannot know (as etcd, which does not look): never does it hear so while an older key is there.
//!
//! Source: invariant 12 of the simulation's list; etcd 6.12.
//!
//! How it decides: a campaign's answer names the creation of its key. At some position between what was
//! committed when the call began and what was when it ended, no key of the line may be older. That revision
//! must have created that very key. Who leads when somebody asks (Leader), and whether a leader may speak or
//! resign (Proclaim, Resign), says `linearizable`; what observers hear, says `observe`.

use detcd::proto::v3electionpb::{CampaignRequest, LeaderKey};

use super::{Case, lock, steps, words};
use crate::evidence::Violation;
use crate::history::{Answer, Operation, Outcome, Request, key_text};

const CLAIM: &str = "election";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for operation in &case.evidence.operations {
        let (Request::Campaign(request), Outcome::Answered(Answer::Campaign(answer))) =
            (&operation.request, &operation.outcome)
        else {
            continue;
        };
        let wrong = match &answer.leader {
            Some(leader) => wrong(case, operation, request, leader),
            None => Some("was told that it leads, and not by which key".to_owned()),
        };
        found.extend(wrong.map(|wrong| {
            let text = format!("{} {wrong}", words::operation(operation));
            Violation::new(CLAIM, text).shown_by([operation.number])
        }));
    }
    found
}

fn wrong(
    case: &Case<'_>,
    operation: &Operation,
    request: &CampaignRequest,
    leader: &LeaderKey,
) -> Option<String> {
    let key = key_text(&leader.key);
    let is_own = leader.name == request.name
        && (request.lease == 0 || leader.lease == request.lease)
        && leader.key == steps::key_of(&request.name, leader.lease);
    if !is_own {
        return Some(format!("was told that it leads by {key}, which is not its own key"));
    }
    if case.model.record(&leader.key, leader.rev).is_none_or(|record| record.create_revision != leader.rev) {
        return Some(format!(
            "was told that it leads by {key} of revision {}, which did not create it",
            leader.rev
        ));
    }
    let older = |revision: i64| {
        let line = case.model.store().line(&request.name, revision);
        line.first().filter(|first| first.create_revision < leader.rev).map(|first| (*first).clone())
    };
    let window = lock::window(case, operation);
    let could_lead = |revision: i64| revision >= leader.rev && older(revision).is_none();
    if window.iter().any(|position| could_lead(position.revision)) {
        return None;
    }
    let last = window[window.len() - 1].revision;
    let first = older(last).map_or("nobody".to_owned(), |first| {
        format!("{} of revision {}", key_text(&first.key), first.create_revision)
    });
    Some(format!(
        "was told that it leads by {key} of revision {}, but up to revision {last} it never was its turn: there \
         {first} leads",
        leader.rev
    ))
}
