//! What became of leases, from the log and from renewals.

use std::collections::BTreeMap;

use detcd::apply::Command;

use super::Found;
use crate::checkers::Case;
use crate::history::{Answer, Outcome, Request, Time};
use crate::markers;

/// Within so many nanoseconds of a new term something happens around an election.
const AROUND: Time = 2_000_000_000;

/// Looks at every lease.
pub fn look(case: &Case<'_>, found: &mut Found) {
    let terms = Terms::new(case);
    expiries(case, &terms, found);
    renewals(case, &terms, found);
}

fn expiries(case: &Case<'_>, terms: &Terms, found: &mut Found) {
    for (place, position) in case.positions().iter().enumerate() {
        match position.request.as_ref().map(|request| &request.command) {
            Some(Command::LeaseRevoke(_)) if case.is_clusters(place) && position.applied.answer.is_ok() => {
                found.add(markers::LEASE_EXPIRED);
                found.add_if(position.applied.changes.len() >= 2, markers::EXPIRED_WITH_KEYS);
                found.add_if(terms.begin_around(case.committed_at(place)), markers::EXPIRED_AT_ELECTION);
            }
            Some(Command::LeaseCheckpoint(_)) => found.add(markers::LEASE_CHECKPOINTED),
            _ => {}
        }
    }
}

/// Renewals of leases that a leader of an earlier term has granted.
fn renewals(case: &Case<'_>, terms: &Terms, found: &mut Found) {
    let mut granted: BTreeMap<i64, Vec<Time>> = BTreeMap::new();
    for (place, position) in case.positions().iter().enumerate() {
        if let Ok(Some(Answer::LeaseGrant(answer))) = &position.applied.answer {
            granted.entry(answer.id).or_default().push(case.committed_at(place));
        }
    }
    for operation in &case.evidence.operations {
        let (Request::LeaseKeepAlive(id), Outcome::Answered(Answer::LeaseKeepAlive(answer))) =
            (&operation.request, &operation.outcome)
        else {
            continue;
        };
        let grant = granted.get(id).and_then(|grants| grants.iter().rfind(|at| **at <= operation.called));
        if let Some(grant) = grant.filter(|_| answer.ttl > 0) {
            found.add_if(terms.at(*grant) < terms.at(operation.called), markers::LEASE_SURVIVED);
        }
    }
}

/// When the first entry of each term was committed, after the first term's.
struct Terms {
    starts: Vec<Time>,
}

impl Terms {
    fn new(case: &Case<'_>) -> Self {
        let entries = case.evidence.committed.iter();
        let pairs = entries.clone().zip(entries.skip(1));
        let starts = pairs.filter(|(before, entry)| before.term < entry.term).map(|(_, entry)| entry.at);
        Self { starts: starts.collect() }
    }

    /// How many terms had begun.
    fn at(&self, time: Time) -> usize {
        self.starts.partition_point(|start| *start <= time)
    }

    fn begin_around(&self, time: Time) -> bool {
        self.starts.iter().any(|start| start.abs_diff(time) <= AROUND)
    }
}
