//! Claim: want of space is said when there is want of space, and stops only what takes space.
//!
//! Source: invariant 18 of the simulation's list; etcd 6.6 and 6.8.
//!
//! How it decides: a call that heard "database space exceeded" must take space, and either the NOSPACE
//! alarm was raised at some position while it was under way, or the members' quota is small enough to be
//! reached. Where it is not, no member may raise the alarm by itself. That an alarm refuses puts at every
//! position where it is raised, and nowhere else, is part of the model, so `linearizable` sees it; that
//! every member has the alarms of its applied index, `serializable` sees in Status, and `applied-once` in
//! every view; that whoever is refused for want of space raises the alarm, the end of a run demands.
//!
//! A member that raises an alarm by itself names itself and NOSPACE.
//!
//! What it cannot see: whether a member was right to find its own database too large. Sizes are not in
//! the log.

use detcd::apply::Command;
use detcd::proto::etcdserverpb as pb;

use super::attribution::Owner;
use super::{Case, words};
use crate::evidence::Violation;
use crate::history::{Operation, Outcome, Request};
use crate::model::{Refusal, costs_space};

const CLAIM: &str = "quota";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut found: Vec<Violation> =
        case.evidence.operations.iter().filter_map(|operation| wrongly_refused(case, operation)).collect();
    found.extend(raised_without_cause(case));
    found
}

fn wrongly_refused(case: &Case<'_>, operation: &Operation) -> Option<Violation> {
    let (Outcome::Failed(failure) | Outcome::Unknown(failure)) = &operation.outcome else { return None };
    if Refusal::heard(failure) != Some(Refusal::NoSpace) {
        return None;
    }
    let reason = if !takes_space(&operation.request) {
        "which takes none"
    } else if case.options.small_quota {
        return None;
    } else {
        let (from, to) = (case.known_by(operation.called), case.known_by(operation.returned?));
        let window = &case.positions()[from..=to];
        if window.iter().any(|position| position.has_alarm(pb::AlarmType::Nospace)) {
            return None;
        }
        "while no alarm was raised"
    };
    let text = format!("{} heard that there is no space, {reason}", words::operation(operation));
    Some(Violation::new(CLAIM, text).shown_by([operation.number]))
}

fn takes_space(request: &Request) -> bool {
    match request {
        Request::Put(put) => costs_space(&Command::Put(put.clone())),
        Request::Txn(txn) => costs_space(&Command::Txn(txn.clone())),
        Request::LeaseGrant(grant) => costs_space(&Command::LeaseGrant(*grant)),
        _ => false,
    }
}

fn raised_without_cause(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (position, owner) in case.positions().iter().zip(&case.attribution.owners) {
        let Some(request) = &position.request else { continue };
        let Command::Alarm(alarm) = &request.command else { continue };
        if *owner != Owner::Cluster {
            continue;
        }
        let (index, kind) = (position.index, alarm.alarm().as_str_name());
        if alarm.alarm() != pb::AlarmType::Nospace || alarm.member_id == 0 {
            let text =
                format!("entry {index} raises {kind} of {:x}, and no client asked for that", alarm.member_id);
            found.push(Violation::new(CLAIM, text));
        } else if !case.options.small_quota {
            let text = format!("entry {index} raises NOSPACE, though no quota can be reached");
            found.push(Violation::new(CLAIM, text));
        }
    }
    found
}
