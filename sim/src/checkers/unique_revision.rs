//! Claim: no revision is used twice. A key has one record at a revision, whoever reads it, wherever and
//! whenever; a write has a revision of its own; and both revisions and terms only grow along the log.
//!
//! Source: etcd 2.1 and 2.2; invariants 2 and 9 of the simulation's list (revisions never go back: etcd
//! #17780).
//!
//! How it decides: every record that a client saw, in the answer to a range, as a previous record, or in
//! an event, must be the one that the log made at its modification revision. Writes are compared among
//! themselves, without the log: of two that changed something, the one that ended before the other began
//! has the lower revision, and no two have the same.

use std::collections::BTreeMap;

use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::response_op::Response;
use detcd::proto::{EncodedKeyValue, EventType, KeyValue};

use super::reads::header_of;
use super::{Case, words};
use crate::evidence::Violation;
use crate::history::{Answer, Operation, Outcome, Request, Word, key_text};

const CLAIM: &str = "unique-revision";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut found = log_order(case);
    found.extend(writes(case));
    for operation in &case.evidence.operations {
        for record in records_of(operation) {
            found.extend(wrong_record(case, &record).map(|text| {
                let text = format!("{} was told {text}", words::operation(operation));
                Violation::new(CLAIM, text).shown_by([operation.number])
            }));
        }
    }
    for stream in &case.evidence.streams {
        for record in stream.words.iter().flat_map(|(_, word)| records_of_word(word)) {
            found.extend(wrong_record(case, &record).map(|text| {
                Violation::new(CLAIM, format!("watch stream {} was told {text}", stream.number))
            }));
        }
    }
    found
}

/// Terms never go back along the log.
fn log_order(case: &Case<'_>) -> Vec<Violation> {
    let backwards = |pair: &&[crate::evidence::Committed]| pair[1].term < pair[0].term;
    let text = |pair: &[crate::evidence::Committed]| {
        let [before, after] = [&pair[0], &pair[1]];
        let text = format!(
            "entry {} is of term {}, entry {} before it of term {}",
            after.index, after.term, before.index, before.term
        );
        Violation::new(CLAIM, text)
    };
    case.evidence.committed.windows(2).filter(backwards).map(text).collect()
}

/// Writes that changed something, compared with one another by what their clients heard alone.
fn writes(case: &Case<'_>) -> Vec<Violation> {
    let mut writes: Vec<(i64, &Operation)> = case
        .evidence
        .operations
        .iter()
        .filter_map(|operation| Some((written(operation)?, operation)))
        .collect();
    writes.sort_by_key(|(revision, operation)| (*revision, operation.number));
    let mut found = Vec::new();
    // The latest call among the writes of lower revision: whoever ended before that is out of order.
    let mut latest: Option<&Operation> = None;
    let mut previous: Option<(i64, &Operation)> = None;
    for (revision, operation) in writes {
        if let Some((_, twin)) = previous.filter(|(other, _)| *other == revision) {
            let text = format!(
                "{} and {} both changed the store at revision {revision}",
                words::operation(twin),
                words::operation(operation)
            );
            found.push(Violation::new(CLAIM, text).shown_by([twin.number, operation.number]));
        }
        if let Some(late) = latest
            && operation.returned.is_some_and(|returned| returned < late.called)
        {
            let text = format!(
                "{} has a lower revision than {}, which had ended before it began",
                words::operation(late),
                words::operation(operation)
            );
            found.push(Violation::new(CLAIM, text).shown_by([operation.number, late.number]));
        }
        if latest.is_none_or(|late| late.called < operation.called) {
            latest = Some(operation);
        }
        previous = Some((revision, operation));
    }
    found
}

/// The revision of a write that, by its answer, changed something.
pub(super) fn written(operation: &Operation) -> Option<i64> {
    let Outcome::Answered(answer) = &operation.outcome else { return None };
    let changed = match answer {
        Answer::Put(_) => true,
        Answer::DeleteRange(answer) => answer.deleted > 0,
        Answer::Txn(answer) => txn_changed(answer),
        _ => false,
    };
    header_of(answer).filter(|_| changed).map(|header| header.revision)
}

fn txn_changed(answer: &pb::TxnResponse) -> bool {
    answer.responses.iter().any(|op| match &op.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(delete)) => delete.deleted > 0,
        Some(Response::ResponseTxn(nested)) => txn_changed(nested),
        Some(Response::ResponseRange(_)) | None => false,
    })
}

/// The whole records that an answer holds. Those of ranges over keys only are no whole ones.
pub(super) fn records_of(operation: &Operation) -> Vec<EncodedKeyValue> {
    let Outcome::Answered(answer) = &operation.outcome else { return Vec::new() };
    match (&operation.request, answer) {
        (Request::Range(request) | Request::RangeStream(request), Answer::Range(answer))
            if !request.keys_only =>
        {
            answer.kvs.clone()
        }
        (_, Answer::Put(answer)) => answer.prev_kv.iter().cloned().collect(),
        (_, Answer::DeleteRange(answer)) => answer.prev_kvs.clone(),
        (Request::Txn(request), Answer::Txn(answer)) => {
            let mut records = Vec::new();
            records_of_txn(request, answer, &mut records);
            records
        }
        _ => Vec::new(),
    }
}

fn records_of_txn(request: &pb::TxnRequest, answer: &pb::TxnResponse, records: &mut Vec<EncodedKeyValue>) {
    use detcd::proto::etcdserverpb::request_op::Request as Op;
    let branch = if answer.succeeded { &request.success } else { &request.failure };
    for (op, response) in branch.iter().zip(&answer.responses) {
        match (&op.request, &response.response) {
            (Some(Op::RequestRange(range)), Some(Response::ResponseRange(answer))) if !range.keys_only => {
                records.extend(answer.kvs.iter().cloned());
            }
            (_, Some(Response::ResponsePut(answer))) => records.extend(answer.prev_kv.iter().cloned()),
            (_, Some(Response::ResponseDeleteRange(answer))) => {
                records.extend(answer.prev_kvs.iter().cloned());
            }
            (Some(Op::RequestTxn(request)), Some(Response::ResponseTxn(answer))) => {
                records_of_txn(request, answer, records);
            }
            _ => {}
        }
    }
}

/// The records that a watch response holds: after puts, and before any change.
fn records_of_word(word: &Word) -> Vec<EncodedKeyValue> {
    let Word::Heard(response) = word else { return Vec::new() };
    let mut records = Vec::new();
    for event in response.events.iter().filter_map(|event| event.decode().ok()) {
        records.extend(event.prev_kv);
        if event.r#type == EventType::Put as i32 {
            records.extend(event.kv);
        }
    }
    records
}

/// What contradicts a record, if anything does.
fn wrong_record(case: &Case<'_>, record: &EncodedKeyValue) -> Option<String> {
    let told = match record.decode() {
        Ok(told) => told,
        Err(error) => return Some(format!("a record that cannot be read: {error}")),
    };
    let mut made: BTreeMap<i64, &KeyValue> = BTreeMap::new();
    for change in case.model.events(told.mod_revision) {
        // A key can change more than once in one transaction; each of its records is one of that revision.
        if let Some(record) = change.record.as_ref().filter(|record| record.key == told.key) {
            if *record == told {
                return None;
            }
            made.insert(record.version, record);
        }
    }
    let key = key_text(&told.key);
    Some(match made.last_key_value() {
        Some((_, record)) => format!("{told:?}, but revision {} made {record:?}", told.mod_revision),
        None => format!("{told:?}, but revision {} did not put {key}", told.mod_revision),
    })
}
