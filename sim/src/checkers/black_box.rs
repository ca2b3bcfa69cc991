//! Claim: there is *some* order that explains what clients heard. The log is not looked at.
//!
//! Source: Wing and Gong, with Lowe's memory of states; invariants 4 to 6 of the simulation's list. It is
//! run on a share of the histories whose order is known as well, so that a mistake in how that order is
//! taken cannot blind all checkers at once; and on histories of real processes, where no log is known.
//!
//! How it decides: a search for an order over the whole store, as answers hold its revision and so do not
//! come apart by key. Calls and returns stand in a list by time. Whatever began before the first return
//! can come next; one that fits is taken out of the list and the search goes on behind it; at a return of
//! an operation that was not taken, the last one taken is put back. A set of the pairs (operations taken,
//! state) that were tried keeps it from trying them again.
//!
//! - An operation of unknown outcome has no return: it may be taken at any time after its call, with
//!   whatever answer, or never.
//! - A lease may run out: for every grant there is a revoke of unknown outcome that nobody asked for.
//! - Nothing is tried that carries the store beyond a revision that an answer still to be explained has
//!   in its header, nor what makes a revision without the records that anybody saw of it. Answered ones
//!   are tried before unknown ones, and of these the youngest first. So unknown ones are tried only where
//!   the answers leave a gap for them.
//! - Alarms are left out: a call that was refused for them is one of unknown outcome.
//!
//! Histories with locks and elections are left out, whose calls make several writes of which their answers
//! do not tell; so are serializable reads and questions to leases. It counts its steps; beyond the bound it says
//! that it could not decide, which is no violation.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use detcd::apply::Command;
use detcd::proto::KeyValue;
use detcd::proto::etcdserverpb as pb;

use super::reads::{self, Manner, Scene, header_of, without_member};
use super::unique_revision::{records_of, written};
use super::{Case, attribution, words};
use crate::evidence::Violation;
use crate::history::{Answer, Operation, Outcome, Request, Time};
use crate::model::{Change, Refusal, Settings, Store};

const CLAIM: &str = "black-box";

/// What the search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Explained {
        /// Steps that it took.
        steps: u64,
    },
    /// There is none.
    Inexplicable {
        /// How many operations the longest attempt explained, of all that had to be.
        explained: usize,
        /// The operations that stood in its way at that point: one of them could not be explained.
        stuck_at: Vec<usize>,
    },
    /// The bound was reached first.
    Undecided,
}

/// Checks the claim, if the options give it steps and all clients were recorded. Says nothing when it
/// cannot decide.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let Some(steps) = case.options.black_box_steps.filter(|_| !case.options.unrecorded_clients) else {
        return Vec::new();
    };
    let operations = &case.evidence.operations;
    if operations.iter().any(|operation| is_of_several_steps(&operation.request)) {
        return Vec::new();
    }
    match decide(operations, case.options.settings, steps) {
        Verdict::Explained { .. } | Verdict::Undecided => Vec::new(),
        Verdict::Inexplicable { explained, stuck_at } => {
            let stuck: Vec<String> =
                stuck_at.iter().map(|number| words::operation(&operations[*number])).collect();
            let text = format!(
                "no order explains what clients heard: {explained} operations can be explained, then none of: {}",
                stuck.join("; ")
            );
            vec![Violation::new(CLAIM, text).shown_by(stuck_at)]
        }
    }
}

/// Whether a request makes several writes, which its answer does not tell.
fn is_of_several_steps(request: &Request) -> bool {
    matches!(request, Request::Lock(_) | Request::Campaign(_))
}

/// Searches for an order of these operations that begins with an empty store, in at most `steps` steps.
pub fn decide(operations: &[Operation], settings: Settings, steps: u64) -> Verdict {
    let mut search = Search::new(candidates(operations, settings), settings);
    search.note_records(operations);
    search.run(steps)
}

/// An operation that the search has to explain, or may use.
struct Candidate<'a> {
    called: Time,
    /// None for one that need not be explained.
    returned: Option<Time>,
    /// The operation; none for what the cluster did by itself.
    operation: Option<&'a Operation>,
    kind: Kind,
    /// The store cannot be beyond this revision before it is explained.
    bound: Option<i64>,
}

enum Kind {
    Write(Box<Write>),
    Read,
}

/// What goes through the log.
struct Write {
    command: Command,
    /// What it was answered, if that is known.
    answer: Option<Result<Answer, Refusal>>,
}

impl Kind {
    fn write(command: Command, answer: Option<Result<Answer, Refusal>>) -> Self {
        Kind::Write(Box::new(Write { command, answer }))
    }
}

fn candidates(operations: &[Operation], settings: Settings) -> Vec<Candidate<'_>> {
    let mut candidates = Vec::new();
    let granted: BTreeSet<i64> = operations.iter().filter_map(granted).collect();
    for operation in operations {
        if matches!(&operation.request, Request::LeaseRevoke(revoke) if !granted.contains(&revoke.id))
            && matches!(operation.outcome, Outcome::Answered(_))
        {
            // Of a lease whose grant nobody heard of: it has no keys, and its end makes no revision.
            continue;
        }
        candidates.extend(candidate(operation, settings));
        if let Request::LeaseGrant(grant) = &operation.request
            && !matches!(operation.outcome, Outcome::Failed(_))
        {
            let id = match &operation.outcome {
                Outcome::Answered(Answer::LeaseGrant(answer)) => answer.id,
                _ => grant.id,
            };
            let revoke = Command::LeaseRevoke(pb::LeaseRevokeRequest { id });
            let (called, kind) = (operation.called, Kind::write(revoke, None));
            candidates.push(Candidate { called, returned: None, operation: None, kind, bound: None });
        }
    }
    candidates
}

/// The id of a lease that an operation may have granted, if anybody knows it.
fn granted(operation: &Operation) -> Option<i64> {
    let Request::LeaseGrant(grant) = &operation.request else { return None };
    match &operation.outcome {
        Outcome::Answered(Answer::LeaseGrant(answer)) => Some(answer.id),
        _ => Some(grant.id).filter(|id| *id != 0),
    }
}

fn candidate(operation: &Operation, settings: Settings) -> Option<Candidate<'_>> {
    if attribution::flaw(&operation.request, settings).is_some() {
        // Refused where it came in; if not, others say so.
        return None;
    }
    let called = operation.called;
    let required = |kind| {
        let bound = match &operation.outcome {
            Outcome::Answered(answer) => header_of(answer).map(|header| header.revision),
            _ => None,
        };
        // What changed something made its revision, so the store was below it.
        let bound = bound.map(|bound| if written(operation).is_some() { bound - 1 } else { bound });
        Some(Candidate { called, returned: operation.returned, operation: Some(operation), kind, bound })
    };
    let optional =
        |kind| Some(Candidate { called, returned: None, operation: Some(operation), kind, bound: None });
    match reads::manner(&operation.request) {
        Manner::Logged => {
            let command = command(operation)?;
            match &operation.outcome {
                Outcome::Answered(answer) => {
                    required(Kind::write(command, Some(Ok(without_member(answer.clone())))))
                }
                Outcome::Open | Outcome::Unknown(_) => optional(Kind::write(command, None)),
                Outcome::Failed(failure) => match Refusal::heard(failure)? {
                    Refusal::Corrupt => None,
                    Refusal::NoSpace => optional(Kind::write(command, None)),
                    refusal => required(Kind::write(command, Some(Err(refusal)))),
                },
            }
        }
        Manner::Linearizable => {
            let in_scope =
                matches!(&operation.request, Request::Range(_) | Request::RangeStream(_) | Request::Txn(_));
            let told = match &operation.outcome {
                Outcome::Answered(_) => true,
                Outcome::Failed(failure) => Refusal::heard(failure).is_some(),
                Outcome::Open | Outcome::Unknown(_) => false,
            };
            if in_scope && told { required(Kind::Read) } else { None }
        }
        Manner::Serializable | Manner::Other => None,
    }
}

/// The request as the log would hold it; none for an alarm, and for a grant whose id nobody knows.
fn command(operation: &Operation) -> Option<Command> {
    Some(match &operation.request {
        Request::Put(request) => Command::Put(request.clone()),
        Request::DeleteRange(request) => Command::DeleteRange(request.clone()),
        Request::Txn(request) => Command::Txn(request.clone()),
        Request::Compact(request) => Command::Compact(*request),
        Request::LeaseGrant(request) => {
            let id = match &operation.outcome {
                Outcome::Answered(Answer::LeaseGrant(answer)) => answer.id,
                _ if request.id == 0 => return None,
                _ => request.id,
            };
            Command::LeaseGrant(pb::LeaseGrantRequest { id, ttl: request.ttl })
        }
        Request::LeaseRevoke(request) => Command::LeaseRevoke(*request),
        _ => return None,
    })
}

/// The state of the search.
#[derive(Clone)]
struct State {
    store: Store,
    /// Stands for the whole history of the keys: two states with the same one are the same.
    keys: u64,
}

impl State {
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.keys, self.store.compacted, &self.store.leases).hash(&mut hasher);
        hasher.finish()
    }
}

/// One level of the search: what can come next, and how far that was tried.
struct Level {
    state: State,
    choices: Vec<usize>,
    tried: usize,
    /// What was taken to get to the level below.
    taken: Option<usize>,
}

struct Search<'a> {
    candidates: Vec<Candidate<'a>>,
    list: List,
    /// Bounds of all that is still to be explained, with how often they occur.
    bounds: BTreeMap<i64, usize>,
    /// Operations taken, as bits.
    taken: Vec<u64>,
    tried: BTreeSet<(Vec<u64>, u64)>,
    /// How many of those that must be explained are.
    explained: usize,
    /// Records that were seen, by the revision that made them.
    seen: BTreeMap<i64, Vec<KeyValue>>,
    settings: Settings,
}

impl<'a> Search<'a> {
    fn new(candidates: Vec<Candidate<'a>>, settings: Settings) -> Self {
        let mut bounds = BTreeMap::new();
        for bound in candidates.iter().filter_map(|candidate| candidate.bound) {
            *bounds.entry(bound).or_default() += 1;
        }
        let list = List::new(&candidates);
        let taken = vec![0; candidates.len().div_ceil(64)];
        Self {
            candidates,
            list,
            bounds,
            taken,
            tried: BTreeSet::new(),
            explained: 0,
            seen: BTreeMap::new(),
            settings,
        }
    }

    /// Notes every record that a client saw in an answer that the search is about.
    fn note_records(&mut self, operations: &[Operation]) {
        for operation in operations {
            if reads::manner(&operation.request) == Manner::Serializable {
                continue;
            }
            for record in records_of(operation).iter().filter_map(|record| record.decode().ok()) {
                let seen = self.seen.entry(record.mod_revision).or_default();
                if !seen.contains(&record) {
                    seen.push(record);
                }
            }
        }
    }

    /// Whether a revision that made these changes is the one that was seen.
    fn agrees_with_seen(&self, changes: &[Change]) -> bool {
        let Some(seen) = changes.first().and_then(|change| self.seen.get(&change.revision)) else {
            return true;
        };
        seen.iter().all(|record| changes.iter().any(|change| change.record.as_ref() == Some(record)))
    }

    fn run(mut self, steps: u64) -> Verdict {
        let mut left = steps;
        let state = State { store: Store::new(self.settings), keys: 0 };
        let Some(level) = self.level(state) else { return Verdict::Explained { steps: 0 } };
        let mut longest = (0, self.in_the_way(&level.choices));
        let mut levels = vec![level];
        while let Some(level) = levels.last_mut() {
            if let Some(taken) = level.taken.take() {
                self.put_back(taken);
            }
            let Some(&choice) = level.choices.get(level.tried) else {
                levels.pop();
                continue;
            };
            level.tried += 1;
            let Some(rest) = left.checked_sub(1) else { return Verdict::Undecided };
            left = rest;
            let Some(state) = self.apply(&level.state, choice) else { continue };
            if !self.take(choice, &state) {
                continue;
            }
            level.taken = Some(choice);
            let Some(next) = self.level(state) else { return Verdict::Explained { steps: steps - left } };
            if self.explained > longest.0 {
                longest = (self.explained, self.in_the_way(&next.choices));
            }
            levels.push(next);
        }
        let (explained, stuck_at) = longest;
        Verdict::Inexplicable { explained, stuck_at }
    }

    /// The operations of which one would have to come next, and those that forbid others to: they are of
    /// the lowest revision that is still to be explained.
    fn in_the_way(&self, choices: &[usize]) -> Vec<usize> {
        let lowest = self.bounds.first_key_value().map(|(bound, _)| *bound);
        let is_taken = |choice: usize| self.taken[choice / 64] & (1 << (choice % 64)) != 0;
        let forbids = |choice: &usize| !is_taken(*choice) && self.candidates[*choice].bound == lowest;
        let required = |choice: &usize| self.candidates[*choice].returned.is_some();
        let all = choices.iter().copied().chain((0..self.candidates.len()).filter(forbids));
        let operations = all.filter(required).filter_map(|choice| self.candidates[choice].operation);
        let numbers: BTreeSet<usize> = operations.map(|operation| operation.number).collect();
        numbers.into_iter().collect()
    }

    /// What can come next in a state; none when nothing has to be explained any more.
    fn level(&self, state: State) -> Option<Level> {
        let open = self.list.before_first_return()?;
        let is_required = |choice: &usize| self.candidates[*choice].returned.is_some();
        let (mut choices, optional): (Vec<usize>, Vec<usize>) = open.into_iter().partition(is_required);
        choices.extend(optional.into_iter().rev());
        Some(Level { state, choices, tried: 0, taken: None })
    }

    /// The state after an operation; none when it does not fit.
    fn apply(&self, state: &State, choice: usize) -> Option<State> {
        let candidate = &self.candidates[choice];
        match &candidate.kind {
            Kind::Read => {
                let fits = reads::fits(&Scene::now(&state.store), candidate.operation?);
                fits.then(|| state.clone())
            }
            Kind::Write(write) => {
                let mut next = state.clone();
                let applied = next.store.execute(&write.command);
                let fits = match (&write.answer, &applied.answer) {
                    (Some(Ok(right)), Ok(Some(answer))) => right == answer,
                    (Some(Err(right)), Err(refusal)) => right == refusal,
                    (Some(_), _) => false,
                    (None, answer) => answer.is_ok(),
                };
                if !applied.changes.is_empty() {
                    let mut hasher = DefaultHasher::new();
                    next.keys.hash(&mut hasher);
                    for change in &applied.changes {
                        (change.revision, &change.key, &change.record).hash(&mut hasher);
                    }
                    next.keys = hasher.finish();
                }
                // One of unknown outcome that changes nothing need not have happened.
                let useless = write.answer.is_none() && next.fingerprint() == state.fingerprint();
                (fits && !useless && self.agrees_with_seen(&applied.changes)).then_some(next)
            }
        }
    }

    /// Takes an operation out of the list, unless that was tried, or leaves another one behind.
    fn take(&mut self, choice: usize, state: &State) -> bool {
        let bound = self.candidates[choice].bound;
        self.count_bound(bound, false);
        let too_far = self.bounds.first_key_value().is_some_and(|(bound, _)| state.store.revision > *bound);
        self.taken[choice / 64] ^= 1 << (choice % 64);
        if too_far || !self.tried.insert((self.taken.clone(), state.fingerprint())) {
            self.taken[choice / 64] ^= 1 << (choice % 64);
            self.count_bound(bound, true);
            return false;
        }
        self.explained += usize::from(self.candidates[choice].returned.is_some());
        self.list.take(choice);
        true
    }

    fn put_back(&mut self, choice: usize) {
        self.list.put_back(choice);
        self.explained -= usize::from(self.candidates[choice].returned.is_some());
        self.taken[choice / 64] ^= 1 << (choice % 64);
        self.count_bound(self.candidates[choice].bound, true);
    }

    fn count_bound(&mut self, bound: Option<i64>, add: bool) {
        let Some(bound) = bound else { return };
        let count = self.bounds.entry(bound).or_default();
        *count = if add { *count + 1 } else { *count - 1 };
        if *count == 0 {
            self.bounds.remove(&bound);
        }
    }
}

/// Calls and returns by time, as a list out of which operations can be taken and put back in reverse order.
/// Entry `2 n` is the call of candidate `n`, `2 n + 1` its return; the last entry is head and end.
struct List {
    next: Vec<usize>,
    previous: Vec<usize>,
    has_return: Vec<bool>,
}

impl List {
    fn new(candidates: &[Candidate<'_>]) -> Self {
        let mut order = Vec::new();
        for (number, candidate) in candidates.iter().enumerate() {
            // Where both fall into one moment, calls come first: the operations overlap.
            order.push((candidate.called, 0, 2 * number));
            order.extend(candidate.returned.map(|returned| (returned, 1, 2 * number + 1)));
        }
        order.sort_unstable();
        let head = 2 * candidates.len();
        let (mut next, mut previous) = (vec![head; head + 1], vec![head; head + 1]);
        let mut last = head;
        for (_, _, entry) in order {
            next[last] = entry;
            previous[entry] = last;
            last = entry;
        }
        next[last] = head;
        previous[head] = last;
        let has_return = candidates.iter().map(|candidate| candidate.returned.is_some()).collect();
        Self { next, previous, has_return }
    }

    fn head(&self) -> usize {
        self.next.len() - 1
    }

    /// The candidates that began before the first return; none when there is no return left.
    fn before_first_return(&self) -> Option<Vec<usize>> {
        let mut open = Vec::new();
        let mut entry = self.next[self.head()];
        while entry != self.head() {
            if entry % 2 == 1 {
                return Some(open);
            }
            open.push(entry / 2);
            entry = self.next[entry];
        }
        None
    }

    fn take(&mut self, candidate: usize) {
        self.unlink(2 * candidate);
        if self.has_return[candidate] {
            self.unlink(2 * candidate + 1);
        }
    }

    fn put_back(&mut self, candidate: usize) {
        if self.has_return[candidate] {
            self.link(2 * candidate + 1);
        }
        self.link(2 * candidate);
    }

    fn unlink(&mut self, entry: usize) {
        let (before, after) = (self.previous[entry], self.next[entry]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn link(&mut self, entry: usize) {
        let (before, after) = (self.previous[entry], self.next[entry]);
        self.next[before] = entry;
        self.previous[after] = entry;
    }
}
