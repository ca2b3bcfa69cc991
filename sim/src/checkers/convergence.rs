//! Claim: members hold the same. At rest, the store of each is that of the model, key by key; and at any
//! time, hashes of one revision under one compaction are equal, on all members and over time.
//!
//! Source: invariant 8 of the simulation's list; etcd 6.7, 11.6.
//!
//! How it decides: [`Evidence::contents`] is compared with the model's last state, and every answer to
//! HashKV with every other one that names the same two revisions. That the hash is the right one, and not
//! only the same, `serializable` says.
//!
//! [`Evidence::contents`]: crate::evidence::Evidence::contents

use std::collections::BTreeMap;

use detcd::proto::KeyValue;

use super::{Case, words};
use crate::evidence::Violation;
use crate::history::{Answer, Contents, Outcome, key_text};

const CLAIM: &str = "convergence";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut found: Vec<Violation> =
        case.evidence.contents.iter().filter_map(|contents| differs(case, contents)).collect();
    found.extend(hashes(case));
    found
}

fn differs(case: &Case<'_>, contents: &Contents) -> Option<Violation> {
    let Contents { member, revision, compacted, everything } = contents;
    let (right, right_compacted) = (case.model.revision(), case.model.compacted());
    let text = if *revision != right {
        format!("m{member} is at revision {revision}, the log at {right}")
    } else if *compacted != right_compacted {
        format!("m{member} is compacted up to {compacted}, the log up to {right_compacted}")
    } else {
        let expected = case.model.everything(right);
        if everything.kvs == expected.kvs && everything.count == expected.count {
            return None;
        }
        let text = difference(&records(&expected.kvs), &records(&everything.kvs));
        format!("m{member} holds other keys than the log at revision {right}: {text}")
    };
    Some(Violation::new(CLAIM, text))
}

fn records(kvs: &[detcd::proto::EncodedKeyValue]) -> BTreeMap<Vec<u8>, KeyValue> {
    kvs.iter().filter_map(|kv| kv.decode().ok()).map(|kv| (kv.key.to_vec(), kv)).collect()
}

/// The first key in which two stores differ.
fn difference(right: &BTreeMap<Vec<u8>, KeyValue>, held: &BTreeMap<Vec<u8>, KeyValue>) -> String {
    for (key, record) in right {
        if held.get(key) != Some(record) {
            let held = held.get(key).map_or("nothing".to_owned(), |held| format!("{held:?}"));
            return format!("{} is {record:?}, it has {held}", key_text(&record.key));
        }
    }
    match held.values().find(|record| !right.contains_key(&record.key[..])) {
        Some(record) => format!("it has {record:?}, which is no key"),
        None => "the order or the count is another".to_owned(),
    }
}

fn hashes(case: &Case<'_>) -> Vec<Violation> {
    let mut seen: BTreeMap<(i64, i64), (u32, usize)> = BTreeMap::new();
    let mut found = Vec::new();
    for operation in &case.evidence.operations {
        let Outcome::Answered(Answer::HashKv(answer)) = &operation.outcome else { continue };
        let of = (answer.hash_revision, answer.compact_revision);
        let (hash, first) = *seen.entry(of).or_insert((answer.hash, operation.number));
        if hash != answer.hash {
            let text = format!(
                "{} has hash {:x} for revision {}, compacted up to {}; operation {first} had {hash:x} for the same",
                words::operation(operation),
                answer.hash,
                of.0,
                of.1
            );
            found.push(Violation::new(CLAIM, text).shown_by([first, operation.number]));
        }
    }
    found
}
