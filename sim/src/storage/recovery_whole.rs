//! Claim: a member that starts after a crash is whole. Its database holds the effects of exactly the
//! entries up to its applied index; its log has every acknowledged entry behind that; its term never goes
//! back, and its vote in that term stands.

use detcd::server::recovery::Opened;
use detcd::types::Revision;
use detcd::types::backend::{AppliedPoint, BackendBatch, StoredRecord, Table};
use detcd::types::log::{HardState, LogEntry, SnapshotPoint};

use super::database_model::DatabaseModel;
use super::log_model::LogModel;
use super::promise::Promise;
use crate::evidence::Violation;

/// The claim's name.
pub(super) const CLAIM: &str = "recovery-whole";
/// Revisions that stay before compaction removes them.
const KEPT_REVISIONS: i64 = 40;

/// Everything that was ever committed, and what the database began with.
pub(super) struct Truth {
    /// The database of a new member.
    pub base: DatabaseModel,
    /// The committed entries, behind those that `base` stands for.
    pub committed: Vec<LogEntry>,
}

impl Truth {
    /// Index of the last committed entry.
    pub fn last(&self) -> u64 {
        self.base.index() + self.committed.len() as u64
    }

    /// The committed entries behind an index, up to another.
    pub fn between(&self, after: u64, through: u64) -> &[LogEntry] {
        let at = |index: u64| (index - self.base.index()) as usize;
        &self.committed[at(after)..at(through)]
    }

    /// Term of a committed entry.
    pub fn term(&self, index: u64) -> u64 {
        match index.checked_sub(self.base.index() + 1) {
            Some(at) => self.committed[at as usize].term,
            None => self.base.applied.as_ref().map_or(0, |applied| applied.term),
        }
    }

    /// What entries do to the database.
    pub fn effects(&self, entries: &[LogEntry]) -> BackendBatch {
        let mut batch = BackendBatch::default();
        for entry in entries {
            batch.append(self.effect(entry));
        }
        batch
    }

    fn effect(&self, entry: &LogEntry) -> BackendBatch {
        let main = entry.index as i64;
        let record = StoredRecord {
            tombstone: false,
            record: detcd::proto::EncodedKeyValue::from_bytes(entry.data.clone()),
        };
        let last = [entry.index.to_be_bytes(), entry.term.to_be_bytes()].concat();
        BackendBatch {
            records: vec![(Revision::new(main, 0), record)],
            removed_records: vec![Revision::new((main - KEPT_REVISIONS).max(0), 0)],
            rows: vec![(Table::Auth, "last".into(), Some(last.into()))],
            applied: Some(self.point(entry.index, entry.term)),
        }
    }

    fn point(&self, index: u64, term: u64) -> AppliedPoint {
        let voters = self.base.applied.as_ref().map_or_else(Vec::new, |applied| applied.voters.clone());
        AppliedPoint { index, term, voters, learners: Vec::new() }
    }

    /// Where the log stands when the database holds everything up to an index.
    pub fn standing(&self, index: u64) -> SnapshotPoint {
        let AppliedPoint { index, term, voters, learners } = self.point(index, self.term(index));
        SnapshotPoint { index, term, voters, learners }
    }

    /// The database that holds the effects up to an index.
    pub fn database(&self, index: u64) -> DatabaseModel {
        let mut model = self.base.clone();
        for entry in self.between(self.base.index(), index.min(self.last())) {
            model.commit(&self.effect(entry));
        }
        model
    }
}

/// A member that was opened after a crash.
pub(super) struct Found {
    pub database: DatabaseModel,
    pub hard_state: HardState,
    pub entries: Vec<LogEntry>,
}

impl Found {
    pub fn new(opened: &Opened, database: DatabaseModel) -> Self {
        let recovered = &opened.recovered;
        Self { database, hard_state: recovered.hard_state, entries: recovered.entries.clone() }
    }
}

/// Compares a member with what was promised by its log, and by its database about its applied index.
/// Gives the log that it goes on with.
pub(super) fn check(
    truth: &Truth,
    log: &Promise<LogModel>,
    applied: &Promise<u64>,
    found: &Found,
) -> Result<LogModel, Violation> {
    let index = found.database.index();
    if !applied.allows(&index) {
        let (kept, asked) = (applied.kept(), applied.asked());
        return Err(violated(format!("the database stands at {index}, not at {kept} or {asked}")));
    }
    let expected = truth.database(index);
    if found.database != expected {
        let difference = expected.difference(&found.database);
        return Err(violated(format!("the database does not hold the effects up to {index}: {difference}")));
    }
    check_form(found, index)?;
    let mut candidates = vec![log.kept()];
    if log.is_in_flight() {
        candidates.push(log.asked());
    }
    let goes_on = |log: &&LogModel| is_joined(truth, log, index, found);
    match candidates.into_iter().find(goes_on) {
        Some(log) => Ok(after_joining(truth, log, index)),
        None => Err(violated(format!(
            "the log is not what was acknowledged: {}; {:?} and {} entries behind {index} were found",
            log.kept(),
            found.hard_state,
            found.entries.iter().filter(|entry| entry.index > index).count()
        ))),
    }
}

/// A member whose database was set back has everything that its log still holds behind it.
pub(super) fn check_caught_up(truth: &Truth, log: &LogModel, found: &Found) -> Result<(), Violation> {
    let index = found.database.index();
    if found.database != truth.database(index) {
        return Err(violated(format!("an older database does not hold the effects up to {index}")));
    }
    check_form(found, index)?;
    let last = found.entries.last().map_or(index, |entry| entry.index);
    if last < log.last() {
        return Err(violated(format!(
            "the log ends at {last} above an older database, not at {}",
            log.last()
        )));
    }
    Ok(())
}

/// Entries follow one another, and reach back to what the database holds.
fn check_form(found: &Found, applied: u64) -> Result<(), Violation> {
    let gap = found.entries.windows(2).any(|pair| pair[1].index != pair[0].index + 1);
    match found.entries.first() {
        Some(first) if gap || first.index > applied + 1 => {
            Err(violated(format!("entries begin at {} behind {applied}, gap: {gap}", first.index)))
        }
        _ => Ok(()),
    }
}

/// Whether a member is what this log and the database at this index amount to.
fn is_joined(truth: &Truth, log: &LogModel, index: u64, found: &Found) -> bool {
    let HardState { term, vote, commit } = log.hard_state;
    let applied_term = truth.term(index);
    let promises = HardState {
        term: term.max(applied_term),
        vote: if term >= applied_term { vote } else { 0 },
        commit: commit.max(index),
    };
    let joined = after_joining(truth, log, index);
    let behind = found.entries.iter().filter(|entry| entry.index > index);
    found.hard_state == promises && joined.entries.iter().eq(behind)
}

/// The log once it has heard where the database stands.
fn after_joining(truth: &Truth, log: &LogModel, index: u64) -> LogModel {
    let mut log = log.clone();
    log.apply(&detcd::wal::WalBatch { snapshot: Some(truth.standing(index)), ..Default::default() });
    log
}

pub(super) fn violated(text: String) -> Violation {
    Violation::new(CLAIM, text)
}
