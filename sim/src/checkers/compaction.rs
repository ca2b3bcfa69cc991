//! Claim: what is compacted stays compacted. Once a run of a member has shown that it is compacted up to a
//! revision, it reads nothing below that revision any more, and never shows a lower one.
//!
//! Source: invariant 9 of the simulation's list; etcd 2.4, 2.9.
//!
//! How it decides: a member shows how far it is compacted by answering a compaction, by refusing a read as
//! compacted, by HashKV, and by the end of a watcher that was behind. Later answers of the same run must
//! agree. That a read at or above the compaction is unaffected and one below is an error, seen over all
//! members, say `linearizable` and `serializable`; that tombstones at the boundary are still told, says
//! `watch`; that the hash covers just what is kept, says `serializable`. That the work of compactions is done in
//! the end, also when a crash came between, and neither too much nor too little, is demanded of each database
//! when a run has come to rest (`healed`).

use std::collections::BTreeMap;

use super::headers::Runs;
use super::{Case, words};
use crate::evidence::Violation;
use crate::history::{Answer, MemberNumber, Operation, Outcome, Request, Time, Word};
use crate::model::Refusal;

const CLAIM: &str = "compaction";

/// A member showed that it is compacted up to `revision`.
struct Shown {
    run: (MemberNumber, usize),
    at: Time,
    revision: i64,
    by: String,
}

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    if case.evidence.starts.is_empty() {
        return Vec::new();
    }
    let runs = Runs::new(&case.evidence.starts);
    let operations = &case.evidence.operations;
    let mut shown: Vec<Shown> =
        operations.iter().filter_map(|operation| shown_by(&runs, operation)).collect();
    shown.extend(shown_by_streams(case, &runs));
    shown.sort_by_key(|shown| shown.at);
    let mut shown = shown.into_iter().peekable();
    let mut known: BTreeMap<(MemberNumber, usize), Shown> = BTreeMap::new();
    let mut calls: Vec<&Operation> = operations.iter().collect();
    calls.sort_by_key(|operation| (operation.called, operation.number));
    let mut found = Vec::new();
    for operation in calls {
        while let Some(next) = shown.next_if(|shown| shown.at < operation.called) {
            let known = known.entry(next.run);
            let known = known.or_insert_with(|| Shown { revision: i64::MIN, by: String::new(), ..next });
            if next.revision > known.revision {
                *known = next;
            }
        }
        let Some((read, what)) = reads_back_to(operation) else { continue };
        let run = operation.returned.and_then(|to| runs.run_of(operation.member, operation.called, to));
        if let Some(known) = run.and_then(|run| known.get(&run))
            && read < known.revision
        {
            let text = format!(
                "{} {what} {read}, though the same run of the member had been compacted up to {}: {}",
                words::operation(operation),
                known.revision,
                known.by
            );
            found.push(Violation::new(CLAIM, text).shown_by([operation.number]));
        }
    }
    found
}

fn shown_by(runs: &Runs, operation: &Operation) -> Option<Shown> {
    let revision = match (&operation.request, &operation.outcome) {
        (Request::Compact(request), Outcome::Answered(_)) => request.revision,
        (Request::Range(request) | Request::RangeStream(request), Outcome::Failed(failure))
            if request.revision > 0 && Refusal::heard(failure) == Some(Refusal::Compacted) =>
        {
            request.revision + 1
        }
        (_, Outcome::Answered(Answer::HashKv(answer))) => answer.compact_revision,
        _ => return None,
    };
    let at = operation.returned?;
    let run = runs.run_of(operation.member, operation.called, at)?;
    Some(Shown { run, at, revision, by: words::operation(operation) })
}

fn shown_by_streams(case: &Case<'_>, runs: &Runs) -> Vec<Shown> {
    let mut shown = Vec::new();
    for stream in &case.evidence.streams {
        let Some((opened, _)) = stream.words.first() else { continue };
        for (at, word) in &stream.words {
            let Word::Heard(response) = word else { continue };
            let run = runs.run_of(stream.member, *opened, *at);
            if let Some(run) = run.filter(|_| response.compact_revision > 0) {
                let by = format!("watch stream {}", stream.number);
                shown.push(Shown { run, at: *at, revision: response.compact_revision, by });
            }
        }
    }
    shown
}

/// The lowest revision that an answer shows to be readable, and how it does.
fn reads_back_to(operation: &Operation) -> Option<(i64, &'static str)> {
    match (&operation.request, &operation.outcome) {
        (Request::Range(request) | Request::RangeStream(request), Outcome::Answered(_))
            if request.revision > 0 =>
        {
            Some((request.revision, "reads revision"))
        }
        (_, Outcome::Answered(Answer::HashKv(answer))) => {
            Some((answer.compact_revision, "tells of a compaction up to"))
        }
        _ => None,
    }
}
