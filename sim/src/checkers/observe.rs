//! Claim: an observer of an election hears of its leaders in the order of their keys, and of each leader's
//! words in the order in which they were said; it never hears of a leader that never was, begins with who
//! leads, misses no word of a leader that it follows, and knows the last one when all is quiet.
//!
//! Source: invariant 12 of the simulation's list; etcd 6.12 (Observe).
//!
//! How it decides: each word is a record. The model must have it, and it must have been first in line at some
//! revision by the time at which it was heard. Creations never go back; of one creation, versions count up
//! one by one. The first word must be that of a leader at some position of the call so far. Where leaders come
//! and go between two looks, words may be missing (as in etcd); the end of the run may not.

use detcd::proto::KeyValue;

use super::Case;
use crate::evidence::Violation;
use crate::history::{Observation, Time, key_text};

const CLAIM: &str = "observe";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for observation in &case.evidence.observations {
        let wrong = wrong_word(case, observation).or_else(|| not_caught_up(case, observation));
        found.extend(wrong.map(|wrong| {
            let Observation { number, client, member, name, .. } = observation;
            let text = format!(
                "observer {number} (client {client} on m{member}, election {}) {wrong}",
                key_text(name)
            );
            Violation::new(CLAIM, text)
        }));
    }
    found
}

fn wrong_word(case: &Case<'_>, observation: &Observation) -> Option<String> {
    let mut before: Option<KeyValue> = None;
    for (at, word) in &observation.words {
        let told = match word.kv.as_ref().map(|kv| kv.decode()) {
            Some(Ok(told)) => told,
            other => return Some(format!("hears at {at} ns what is no leader: {other:?}")),
        };
        let what = format!(
            "hears at {at} ns that {} of revision {} says {} at revision {}",
            key_text(&told.key),
            told.create_revision,
            key_text(&told.value),
            told.mod_revision
        );
        if case.model.record(&told.key, told.mod_revision) != Some(&told) {
            return Some(format!("{what}, which nobody did"));
        }
        let since = if before.is_none() { case.known_by(observation.opened) } else { 0 };
        if !led(case, observation, &told, since, *at) {
            let when = if before.is_none() { " since it asked" } else { "" };
            return Some(format!("{what}, but it did not lead{when}"));
        }
        if let Some(before) = before {
            let is_next = if before.create_revision == told.create_revision {
                before.key == told.key && before.version + 1 == told.version
            } else {
                before.create_revision < told.create_revision
            };
            if !is_next {
                return Some(format!(
                    "{what}, its version {}, after version {} of {} of revision {}",
                    told.version,
                    before.version,
                    key_text(&before.key),
                    before.create_revision
                ));
            }
        }
        before = Some(told);
    }
    None
}

/// Whether a record was first in line at a position from a place on that was known at a time.
fn led(case: &Case<'_>, observation: &Observation, told: &KeyValue, since: usize, at: Time) -> bool {
    let seen = &case.positions()[since..=case.known_by(at)];
    let seen = seen.iter().skip_while(|position| position.revision < told.mod_revision);
    let mut last = 0;
    for position in seen {
        if std::mem::replace(&mut last, position.revision) == position.revision {
            continue;
        }
        let line = case.model.store().line(&observation.name, position.revision);
        if line.first().is_some_and(|first| *first == told) {
            return true;
        }
        if !line.contains(&told) {
            // Gone or changed: it does not come back.
            return false;
        }
    }
    false
}

/// Who observes when the cluster has come to rest knows who leads.
fn not_caught_up(case: &Case<'_>, observation: &Observation) -> Option<String> {
    if observation.ended || !case.evidence.serves_at_the_end(observation.member) {
        return None;
    }
    let line = case.model.store().line(&observation.name, case.options.caught_up);
    let first = line.first()?;
    let last =
        observation.words.last().and_then(|(_, word)| word.kv.as_ref()).and_then(|kv| kv.decode().ok());
    (last.as_ref() != Some(*first)).then(|| {
        format!(
            "does not know at the end that {} of revision {} leads and says {}: the last that it heard is {last:?}",
            key_text(&first.key),
            first.create_revision,
            key_text(&first.value)
        )
    })
}
