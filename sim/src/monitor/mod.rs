//! Looks on at every member's loop, and holds the claims that no client can see.
//!
//! ```text
//!   Observer of m1 --.              .--> shadow of m1: what its log holds, what of it is durable
//!   Observer of m2 --+--> Monitor --+--> shadow of m2 ...
//!   Observer of m3 --'              '--> the committed log, and the model that has applied it
//! ```
//!
//! The monitor never touches a member. It keeps a shadow of each member's log from what the loop gives to
//! its log task, moves it to "durable" when the loop hears so, and holds both against what comes back after
//! a crash. An entry is known by its chain: a hash over it and all entries before it, so that two logs that
//! agree at one index agree below it.
//!
//! Claims, each in its own file:
//! - [`promises`]: votes and acknowledgements leave only when durable, and survive crashes;
//! - [`agreement`]: one leader a term, logs match, what is committed stays, a leader has all of it;
//! - [`applied`]: what a member publishes is the committed log applied once.
//!
//! [`rare`] claims nothing: it marks the rare paths that it sees.

mod agreement;
mod applied;
mod promises;
mod rare;
mod shadow;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use detcd::member::{Input, MemberStatus, Output, Recovered};
use detcd::server::observe::Observer;
use detcd::types::backend::BackendSnapshot;
use detcd::types::log::{EntryKind, PeerMessage};
use detcd::types::{MemberId, Revision};

use crate::clock::true_time;
use crate::evidence::{Committed, Violation};
use crate::history::{MemberNumber, Time};
use crate::model::{Model, Settings};
use crate::trace::{Trace, What};

use rare::Rare;
use shadow::Shadow;

/// The one that looks on. Clones are the same.
#[derive(Clone)]
pub struct Monitor {
    state: Arc<Mutex<State>>,
}

/// Everything that is known of a cluster while it runs.
pub(crate) struct State {
    trace: Trace,
    members: BTreeMap<MemberNumber, Shadow>,
    ids: BTreeMap<u64, MemberNumber>,
    /// The leader of each term.
    leaders: BTreeMap<u64, MemberNumber>,
    /// The chain at each (index, term) that any log ever held.
    chains: BTreeMap<(u64, u64), u64>,
    /// The committed entries from index 2 on, and the chain at each.
    committed: Vec<Committed>,
    committed_chains: Vec<u64>,
    /// For each of them, the term of the member that first knew it to be committed.
    committed_in: Vec<u64>,
    model: Model,
    violations: Vec<Violation>,
    rare: Rare,
}

/// The claim that the committed log is one that can be applied.
const CLAIM: &str = "agreement";

/// Members make the first entry without a log: see `server/recovery`.
const FIRST_INDEX: u64 = 1;

impl Monitor {
    /// A monitor that has seen nothing.
    pub fn new(trace: Trace, settings: Settings) -> Self {
        let state = State {
            trace,
            members: BTreeMap::new(),
            ids: BTreeMap::new(),
            leaders: BTreeMap::new(),
            chains: BTreeMap::new(),
            committed: Vec::new(),
            committed_chains: Vec::new(),
            committed_in: Vec::new(),
            model: Model::new(settings),
            violations: Vec::new(),
            rare: Rare::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// An observer of one run of a member.
    pub fn observer(&self, member: MemberNumber) -> Arc<dyn Observer> {
        Arc::new(MemberObserver { monitor: self.clone(), member })
    }

    /// A member's disk was damaged, or lied: what it promised cannot be held against it any more.
    pub fn excuse(&self, member: MemberNumber) {
        self.lock().shadow(member).excused = true;
    }

    /// Whether a member's disk was damaged.
    pub fn is_excused(&self, member: MemberNumber) -> bool {
        self.lock().members.get(&member).is_some_and(|shadow| shadow.excused)
    }

    /// Whether a member's current run has read its state.
    pub fn has_begun(&self, member: MemberNumber) -> bool {
        self.lock().members.get(&member).is_some_and(|shadow| shadow.up)
    }

    /// A member's run has ended, perhaps since its power was cut.
    pub fn ended(&self, member: MemberNumber, power_cut: bool) {
        let mut state = self.lock();
        rare::ended(&mut state, member, power_cut);
        let shadow = state.shadow(member);
        shadow.up = false;
        shadow.status = None;
        (shadow.views, shadow.seen_applied) = (0, 0);
    }

    /// What a member last published in its current run.
    pub fn status(&self, member: MemberNumber) -> Option<MemberStatus> {
        self.lock().members.get(&member).and_then(|shadow| shadow.status)
    }

    /// The highest term in which a member leads, as far as published, and that member.
    pub fn leading(&self) -> Option<(u64, MemberNumber)> {
        let state = self.lock();
        let leading = state.members.iter().filter_map(|(number, shadow)| {
            let status = shadow.status.filter(|status| status.is_leader)?;
            Some((status.term, *number))
        });
        leading.max()
    }

    /// The member that leads in the highest term, as far as published.
    pub fn leader(&self) -> Option<MemberNumber> {
        self.leading().map(|(_, member)| member)
    }

    /// A member's id in the cluster, once it has begun.
    pub fn id_of(&self, member: MemberNumber) -> Option<u64> {
        self.lock().members.get(&member).map(|shadow| shadow.id)
    }

    /// The index up to which the log is known to be committed.
    pub fn committed_index(&self) -> u64 {
        self.lock().committed_index()
    }

    /// The last index of a member's log, durable or not.
    pub fn last_index(&self, member: MemberNumber) -> u64 {
        self.lock().members.get(&member).map_or(0, |shadow| shadow.volatile.last_index())
    }

    /// The revision that the model has after everything committed.
    pub fn revision(&self) -> i64 {
        self.lock().model.revision()
    }

    /// The revision up to which the model is compacted.
    pub fn compacted(&self) -> i64 {
        self.lock().model.compacted()
    }

    /// What a member's database holds although it should not, or lacks, when all compactions have done their
    /// work: none when it is as it must be.
    pub fn wrong_record(&self, member: MemberNumber) -> Option<String> {
        let state = self.lock();
        let held = &state.members.get(&member)?.records;
        let kept = state.model.store().kept_by_compaction();
        let revision = held.symmetric_difference(&kept).next()?;
        let what = if kept.contains(revision) { "lacks" } else { "still holds" };
        Some(format!("{what} the record of revision {revision}"))
    }

    /// How many records were ever written, compacted or not.
    pub fn written_records(&self) -> usize {
        self.lock().model.store().written_records()
    }

    /// Whether some claim has been broken.
    pub fn is_violated(&self) -> bool {
        !self.lock().violations.is_empty()
    }

    /// The broken claims.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// The committed log.
    pub fn committed(&self) -> Vec<Committed> {
        self.lock().committed.clone()
    }

    /// Looks at the model.
    pub fn with_model<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&self.lock().model)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shadow(&mut self, member: MemberNumber) -> &mut Shadow {
        self.members.entry(member).or_default()
    }

    fn committed_index(&self) -> u64 {
        FIRST_INDEX + self.committed.len() as u64
    }

    /// The chain of the committed log at an index, if that is known to be committed.
    fn committed_chain(&self, index: u64) -> Option<u64> {
        match index.checked_sub(FIRST_INDEX)? {
            0 => Some(0),
            place => self.committed_chains.get(place as usize - 1).copied(),
        }
    }

    /// A majority of the members.
    fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    fn violated(&mut self, claim: &'static str, text: String) {
        let at = true_time();
        self.trace.note(at, 0, What::Violation { claim, text: text.clone(), operations: Vec::new() });
        self.violations.push(Violation::new(claim, text));
    }

    /// Notes that everything up to `index` in `member`'s log is committed.
    fn commit(&mut self, member: MemberNumber, index: u64, at: Time) {
        while self.committed_index() < index {
            let next = self.committed_index() + 1;
            let Some(slot) = self.members.get(&member).and_then(|shadow| shadow.volatile.get(next)).cloned()
            else {
                // It got there by a snapshot of a member whose commit was not seen yet.
                return;
            };
            agreement::check_durable_quorum(self, member, next, &slot);
            let is_conf_change = slot.kind != EntryKind::Normal;
            let taken =
                if is_conf_change { self.model.pass(next) } else { self.model.apply(next, &slot.data) };
            if let Err(reason) = taken.map(drop) {
                self.violated(CLAIM, reason);
                return;
            }
            self.committed_chains.push(slot.chain);
            let term =
                self.members.get(&member).and_then(|shadow| shadow.status).map_or(0, |status| status.term);
            self.committed_in.push(term);
            rare::committed(self, member, next, &slot, term);
            self.committed.push(Committed {
                index: next,
                term: slot.term,
                data: slot.data,
                is_conf_change,
                at,
                first: member,
            });
        }
    }
}

/// The revisions of all records of a database; what cannot be read is its member's to notice.
fn all_records(snapshot: &dyn BackendSnapshot) -> BTreeSet<Revision> {
    let mut all = BTreeSet::new();
    let mut from = Revision::default();
    while let Ok(records) = snapshot.records(from, RECORDS_AT_ONCE) {
        let Some((last, _)) = records.last() else { break };
        from = Revision::new(last.main, last.sub + 1);
        all.extend(records.iter().map(|(revision, _)| *revision));
    }
    all
}

/// Records that are read at once.
const RECORDS_AT_ONCE: usize = 256;

/// Looks on at one member.
struct MemberObserver {
    monitor: Monitor,
    member: MemberNumber,
}

impl Observer for MemberObserver {
    fn begins(&self, member: MemberId, recovered: &Recovered) {
        let mut state = self.monitor.lock();
        state.ids.insert(member.0, self.member);
        rare::begins(&mut state, self.member, recovered);
        state.shadow(self.member).records = all_records(&*recovered.backend.snapshot);
        promises::check_recovered(&mut state, self.member, member.0, recovered);
    }

    fn takes(&self, input: &Input) {
        let mut state = self.monitor.lock();
        match input {
            Input::Persisted(number) => state.shadow(self.member).persisted(*number),
            Input::BackendCommitted(committed) | Input::Installed(committed) => {
                if let Ok(Some(applied)) = committed.snapshot.applied() {
                    let shadow = state.shadow(self.member);
                    shadow.database = shadow.database.max(applied.index);
                    if matches!(input, Input::Installed(_)) {
                        // What it shows next comes from another database.
                        shadow.views = 0;
                        shadow.records = all_records(&*committed.snapshot);
                    }
                }
            }
            _ => {}
        }
        rare::takes(&mut state, self.member, input);
    }

    fn gives(&self, output: &Output) {
        let mut state = self.monitor.lock();
        match output {
            Output::Commit(batch) => {
                let records = &mut state.shadow(self.member).records;
                records.extend(batch.records.iter().map(|(revision, _)| *revision));
                batch.removed_records.iter().for_each(|revision| {
                    records.remove(revision);
                });
            }
            Output::Persist(persist) => agreement::check_persist(&mut state, self.member, persist),
            Output::Publish(view) => {
                agreement::check_published(&mut state, self.member, &view.status);
                applied::check_view(&mut state, self.member, view);
            }
            _ => {}
        }
        rare::gives(&mut state, self.member, output);
    }

    fn sends(&self, messages: &[PeerMessage]) {
        let mut state = self.monitor.lock();
        for sent in messages {
            let Some(message) = crate::wire::message(&sent.bytes) else {
                state.violated(CLAIM, format!("m{} sends something that is no raft message", self.member));
                continue;
            };
            promises::check_message(&mut state, self.member, &message);
            rare::sends(&mut state, self.member, sent, &message);
        }
    }
}
