//! What became of calls: refusals, lost answers, transactions, reads of the past.

use std::collections::BTreeSet;

use detcd::proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget};
use pb::request_op;

use super::Found;
use crate::checkers::Case;
use crate::history::{Answer, Operation, Outcome, Request, Time};
use crate::markers;
use crate::model::{self, Refusal};
use crate::workload::revision;

/// Looks at every call.
pub fn look(case: &Case<'_>, found: &mut Found) {
    let carried_out: BTreeSet<usize> = case.carried_out().map(|(number, _)| number).collect();
    let told = Told::new(&case.evidence.operations);
    for operation in &case.evidence.operations {
        match &operation.outcome {
            Outcome::Answered(answer) => answered(operation, answer, &told, found),
            Outcome::Failed(failure) => {
                if let Some(refusal) = Refusal::heard(failure) {
                    refused(case, operation, refusal, found);
                }
            }
            Outcome::Unknown(_) | Outcome::Open if is_write(&operation.request) => {
                let happened = carried_out.contains(&operation.number);
                found.add(if happened { markers::UNKNOWN_HAPPENED } else { markers::UNKNOWN_LOST });
            }
            Outcome::Unknown(_) | Outcome::Open => {}
        }
    }
}

/// Whether a request goes through the log.
fn is_write(request: &Request) -> bool {
    match request {
        Request::Txn(txn) => !model::is_read_only(txn),
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_) => true,
        _ => false,
    }
}

fn answered(operation: &Operation, answer: &Answer, told: &Told, found: &mut Found) {
    match (&operation.request, answer) {
        (Request::Range(range) | Request::RangeStream(range), Answer::Range(_)) => {
            let newest = told.newest_by(operation.called);
            found.add_if(range.serializable && revision(answer) < newest, markers::STALE_READ);
        }
        (Request::Txn(txn), Answer::Txn(answer)) => {
            if is_swap(txn) {
                found.add(if answer.succeeded { markers::SWAP_WON } else { markers::SWAP_LOST });
            }
            let taken = if answer.succeeded { &txn.success } else { &txn.failure };
            let is_nested =
                |op: &pb::RequestOp| matches!(op.request, Some(request_op::Request::RequestTxn(_)));
            found.add_if(taken.iter().any(is_nested), markers::TXN_NESTED);
        }
        (Request::Compact(compact), _) => found.add_if(compact.physical, markers::COMPACTED_PHYSICALLY),
        _ => {}
    }
}

/// Whether a transaction writes a key if its revision is still the known one.
fn is_swap(txn: &pb::TxnRequest) -> bool {
    let [compare] = &*txn.compare else { return false };
    let writes = |op: &pb::RequestOp| match &op.request {
        Some(request_op::Request::RequestPut(put)) => put.key == compare.key,
        _ => false,
    };
    compare.target() == CompareTarget::Mod
        && compare.result() == CompareResult::Equal
        && txn.success.iter().any(writes)
}

fn refused(case: &Case<'_>, operation: &Operation, refusal: Refusal, found: &mut Found) {
    found.add(match refusal {
        Refusal::EmptyKey => markers::REFUSED_EMPTY_KEY,
        Refusal::KeyNotFound => markers::REFUSED_KEY_NOT_FOUND,
        Refusal::ValueProvided => markers::REFUSED_VALUE,
        Refusal::LeaseProvided => markers::REFUSED_LEASE,
        Refusal::TooManyOperations => markers::REFUSED_OPERATIONS,
        Refusal::DuplicateKey => markers::REFUSED_DUPLICATE,
        Refusal::InvalidSort => markers::REFUSED_SORT,
        Refusal::StreamSort => markers::REFUSED_STREAM_SORT,
        Refusal::StreamFilter => markers::REFUSED_STREAM_FILTER,
        Refusal::Compacted => markers::REFUSED_COMPACTED,
        Refusal::Future => markers::REFUSED_FUTURE,
        Refusal::LeaseTooLong => markers::REFUSED_TTL,
        Refusal::LeaseNotFound => markers::REFUSED_NO_LEASE,
        Refusal::LeaseExists => markers::REFUSED_LEASE_EXISTS,
        Refusal::NoElectionLeader => markers::REFUSED_NO_LEADER,
        Refusal::NotElectionLeader => markers::REFUSED_NOT_LEADER,
        Refusal::LeaderMissing => markers::REFUSED_LEADER_MISSING,
        // It is heard at the end of a call of several steps.
        Refusal::SessionExpired => return,
        Refusal::NoSpace => markers::REFUSED_NO_SPACE,
        Refusal::Corrupt => markers::REFUSED_CORRUPT,
    });
    match &operation.request {
        Request::Range(range) | Request::RangeStream(range) if refusal == Refusal::Compacted => {
            let was_there = range.revision >= case.position_by(operation.called).compacted;
            found.add_if(was_there, markers::READ_COMPACTED);
        }
        Request::Txn(txn) if refusal == Refusal::Compacted => {
            found.add_if(!model::is_read_only(txn), markers::TXN_COMPACTED);
        }
        _ => {}
    }
}

/// The newest revision that any client was told, by time.
struct Told {
    /// Ascending in both.
    steps: Vec<(Time, i64)>,
}

impl Told {
    fn new(operations: &[Operation]) -> Self {
        let mut told: Vec<(Time, i64)> = operations
            .iter()
            .filter_map(|operation| match &operation.outcome {
                Outcome::Answered(answer) => Some((operation.returned?, revision(answer))),
                _ => None,
            })
            .collect();
        told.sort_unstable();
        let mut newest = 0;
        told.retain(|(_, revision)| {
            let is_newer = *revision > newest;
            newest = newest.max(*revision);
            is_newer
        });
        Self { steps: told }
    }

    fn newest_by(&self, time: Time) -> i64 {
        let later = self.steps.partition_point(|(at, _)| *at <= time);
        later.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }
}
