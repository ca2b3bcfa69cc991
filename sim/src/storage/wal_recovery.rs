//! Claim: an opened log gives back exactly what was written to it, as far as that was acknowledged, and of
//! the last batch on its way all or nothing. What was synced and cannot be read any more is refused by
//! file and offset; it is never taken for the torn end of a crash.

use std::path::Path;

use detcd::types::LocalFault;
use detcd::wal::{Recovered, Repair};

use super::log_model::LogModel;
use super::promise::Promise;
use crate::evidence::Violation;

/// The claim's name.
pub(super) const CLAIM: &str = "wal-recovery";

/// What was given to every log when it was made.
pub(super) const METADATA: &[u8] = b"cluster 7, member 1";

/// What a log gave back after a crash must be what was promised.
pub(super) fn check_recovered(promise: &Promise<LogModel>, found: &Recovered) -> Result<(), Violation> {
    check_form(found)?;
    let state = LogModel::of(found);
    if !promise.allows(&state) {
        let expected = promise.kept().difference(&state);
        return Err(violated(format!("expected what was acknowledged, {expected} was found")));
    }
    match &found.repaired {
        Some(repair) if !promise.is_in_flight() && !promise.may_be_lost() => Err(violated(format!(
            "{} bytes were cut off {} at offset {}, but everything there was acknowledged",
            repair.bytes,
            repair.file.display(),
            repair.offset
        ))),
        _ => Ok(()),
    }
}

/// What the log gives back is a log, whatever was promised.
fn check_form(found: &Recovered) -> Result<(), Violation> {
    if found.metadata != METADATA {
        return Err(violated(format!("the metadata {:?} was never given to the log", found.metadata)));
    }
    let due = found.snapshot.index + 1..;
    match found.entries.iter().zip(due).find(|(entry, due)| entry.index != *due) {
        Some((entry, due)) => Err(violated(format!("entry {} stands where entry {due} is due", entry.index))),
        None => Ok(()),
    }
}

/// What an opened log gave back is durable: the same is there after a cut that takes everything else.
pub(super) fn check_durable(found: &LogModel, later: &Recovered) -> Result<(), Violation> {
    let later = LogModel::of(later);
    if *found == later {
        return Ok(());
    }
    Err(violated(format!(
        "an opened log gave back what a power cut could still take: {}",
        found.difference(&later)
    )))
}

/// A refusal names the file, and an offset at or before the damage if there is one.
pub(super) fn check_refusal(fault: &LocalFault, file: &Path, damaged: Option<u64>) -> Result<(), Violation> {
    let text = fault.to_string();
    let named = text.contains(&*file.to_string_lossy());
    let offset = text.split("at offset ").nth(1).map(|rest| rest.split(':').next().unwrap_or(rest));
    let offset: Option<u64> = offset.and_then(|digits| digits.parse().ok());
    match (named, offset, damaged) {
        (true, Some(_), None) => Ok(()),
        (true, Some(offset), Some(damaged)) if offset <= damaged => Ok(()),
        _ => Err(violated(format!(
            "the refusal does not lead to the damage in {} at offset {damaged:?}: {text}",
            file.display()
        ))),
    }
}

/// A log whose damage lies before its last batch gives back everything or refuses.
pub(super) fn check_damaged(whole: &LogModel, found: &Recovered) -> Result<(), Violation> {
    let state = LogModel::of(found);
    if state != *whole {
        let difference = whole.difference(&state);
        return Err(violated(format!("damage before the last batch changed the log silently: {difference}")));
    }
    match &found.repaired {
        None => Ok(()),
        Some(repair) => Err(violated(format!("damage was taken for a torn end: {}", told(repair)))),
    }
}

/// A log whose last batch is damaged gives back everything, or all but that batch and says so. Where the
/// batch began there may now be zeros (`blank`), as if it had never been: then it need not say so.
pub(super) fn check_last_batch_damaged(
    whole: &LogModel,
    before: &LogModel,
    blank: bool,
    found: &Recovered,
) -> Result<(), Violation> {
    let state = LogModel::of(found);
    if state == *whole || (state == *before && (blank || found.repaired.is_some())) {
        return Ok(());
    }
    let difference = before.difference(&state);
    let repaired = found.repaired.as_ref().map(told);
    Err(violated(format!("damage of the last batch took more than that ({repaired:?}): {difference}")))
}

fn told(repair: &Repair) -> String {
    format!("{} bytes of {} from offset {}", repair.bytes, repair.file.display(), repair.offset)
}

pub(super) fn violated(text: String) -> Violation {
    Violation::new(CLAIM, text)
}
