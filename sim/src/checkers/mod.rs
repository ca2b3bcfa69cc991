//! The checkers: one file, one claim. Each takes what a run left behind and says where it contradicts the
//! claim.
//!
//! ```text
//!   evidence: operations, streams, committed log, contents
//!        |
//!        +--> model: what every entry did, what every read must say
//!        +--> attribution: which entry is which operation's
//!        |
//!        v
//!   linearizable   serializable   once   unique_revision   headers     what calls were answered
//!   watch          watch/caught_up                                     what streams were told
//!   lease          quota          compaction                           what time and space may do
//!   lock           election       observe                              who comes first
//!   convergence                                                        what members hold at the end
//!   black_box                                                          the same without the log
//! ```
//!
//! The order of the log is known, so nothing but `black_box` has to search for one: an answer is compared
//! with what the model gives at the positions where it may stand, and a sweep over time says whether
//! these positions agree with what happened before what. `black_box` shares none of this but the model's
//! rules for one request: it would see a mistake in how the order was taken.
//!
//! Invariants:
//! - a checker takes a *correct* server's word for nothing, and an incorrect one's contradiction for
//!   nothing less than a violation: what it cannot decide, its head says;
//! - all of them together are near-linear in the length of the run, save the black box, which counts its
//!   steps and stops.

mod attribution;
pub mod black_box;
pub mod compaction;
pub mod convergence;
pub mod election;
pub mod headers;
pub mod lease;
pub mod linearizable;
pub mod lock;
pub mod observe;
pub mod once;
pub mod quota;
mod reads;
pub mod serializable;
mod steps;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod unique_revision;
pub mod watch;
mod words;

use crate::evidence::{Evidence, Violation};
use crate::history::Time;
use crate::model::{Model, Position, Settings};
use attribution::{Attribution, Owner};

/// What the checkers must know of a run beside its evidence.
#[derive(Clone, Debug)]
pub struct Options {
    /// The settings of the members that decide about answers.
    pub settings: Settings,
    /// When the run ended.
    pub ended: Time,
    /// Since when no fault disturbs the cluster; none if it never came to rest. What must happen in time
    /// is demanded from then on only.
    pub healed: Option<Time>,
    /// How much later than its time to live, on the slowest clock, a lease may go that nobody renews: an
    /// election, a look for expired leases, the retry of a revoke, a commit.
    pub late_expiry: Time,
    /// What a new leader may add to the rest of a lease: an election timeout.
    pub lease_extension: Time,
    /// Whether the members' quota is so small that a run can reach it.
    pub small_quota: bool,
    /// Whether the network may deliver once more what it has delivered.
    pub repeated_messages: bool,
    /// Whether there are clients whose calls are not in the evidence: then an entry that nobody asked for
    /// is no violation.
    pub unrecorded_clients: bool,
    /// Steps that the black box may take; none to leave it out.
    pub black_box_steps: Option<u64>,
    /// The streams that were open at the end, when the cluster had come to rest: their watchers must have
    /// heard of everything. Empty when the run did not come to rest.
    pub open_streams: Vec<usize>,
    /// The revision that they must have heard of.
    pub caught_up: i64,
}

impl Default for Options {
    fn default() -> Self {
        const SECOND: Time = 1_000_000_000;
        Self {
            settings: Settings::default(),
            ended: Time::MAX,
            healed: None,
            late_expiry: 12 * SECOND,
            lease_extension: 2 * SECOND,
            small_quota: false,
            repeated_messages: false,
            unrecorded_clients: false,
            black_box_steps: None,
            open_streams: Vec::new(),
            caught_up: i64::MAX,
        }
    }
}

/// Replays the log in a new model.
///
/// # Errors
/// What is wrong with the log itself.
pub fn replay(evidence: &Evidence, settings: Settings) -> Result<Model, Violation> {
    let mut model = Model::new(settings);
    for entry in &evidence.committed {
        let applied = if entry.is_conf_change {
            model.pass(entry.index).map(drop)
        } else {
            model.apply(entry.index, &entry.data).map(drop)
        };
        applied.map_err(|reason| Violation::new("unique-revision", reason))?;
    }
    Ok(model)
}

/// Replays the log and runs every checker.
pub fn all(evidence: &Evidence, options: &Options) -> Vec<Violation> {
    match replay(evidence, options.settings) {
        Ok(model) => with_model(evidence, &model, options),
        Err(violation) => vec![violation],
    }
}

/// Runs every checker on a log that is in `model` already, each entry of it.
pub fn with_model(evidence: &Evidence, model: &Model, options: &Options) -> Vec<Violation> {
    with_case(evidence, model, options, claims).unwrap_or_else(|violation| vec![violation])
}

/// Looks at a run whose log is in `model` already, each entry of it.
///
/// # Errors
/// When the model was fed another log.
pub fn with_case<T>(
    evidence: &Evidence,
    model: &Model,
    options: &Options,
    look: impl FnOnce(&Case<'_>) -> T,
) -> Result<T, Violation> {
    let (known, replayed) = (evidence.committed.len(), model.positions().len() - 1);
    if known != replayed {
        let text = format!("the model was fed {replayed} entries, the evidence has {known}");
        return Err(Violation::new("unique-revision", text));
    }
    Ok(look(&Case::new(evidence, model, options)))
}

/// Runs every checker.
pub fn claims(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for check in [
        once::check,
        linearizable::check,
        serializable::check,
        unique_revision::check,
        headers::check,
        watch::check,
        watch::caught_up::check,
        lease::check,
        lock::check,
        election::check,
        observe::check,
        compaction::check,
        quota::check,
        convergence::check,
        black_box::check,
    ] {
        found.extend(check(case));
    }
    found
}

/// A run, with what all checkers need to know of it.
pub struct Case<'a> {
    /// What the run left behind.
    pub evidence: &'a Evidence,
    /// The model, fed with the whole log.
    pub model: &'a Model,
    /// What else is to be known.
    pub options: &'a Options,
    /// When each position of the model was known to be committed, by its place among them. Ascending.
    committed_at: Vec<Time>,
    attribution: Attribution,
}

impl<'a> Case<'a> {
    /// Looks at a run whose whole log is in `model`. Operations and streams must be at the places that their
    /// numbers say.
    pub fn new(evidence: &'a Evidence, model: &'a Model, options: &'a Options) -> Self {
        let in_place = |(place, number): (usize, usize)| place == number;
        assert!(
            evidence.operations.iter().map(|operation| operation.number).enumerate().all(in_place)
                && evidence.streams.iter().map(|stream| stream.number).enumerate().all(in_place)
                && evidence.observations.iter().map(|observer| observer.number).enumerate().all(in_place),
            "the history is not in the order of its numbers"
        );
        let committed_at = committed_at(evidence);
        let attribution = Attribution::new(evidence, model, options, &committed_at);
        Self { evidence, model, options, committed_at, attribution }
    }

    /// The positions of the log. Their places count from 0, for what every member begins with.
    pub fn positions(&self) -> &'a [Position] {
        self.model.positions()
    }

    /// When the position at a place was known to be committed.
    pub fn committed_at(&self, place: usize) -> Time {
        self.committed_at[place]
    }

    /// Whether the cluster asked by itself for what stands at a place.
    pub fn is_clusters(&self, place: usize) -> bool {
        self.attribution.owners[place] == Owner::Cluster
    }

    /// Whether what stands at a place is a step of a call for a lock or in an election beyond its first.
    pub fn is_further_step(&self, place: usize) -> bool {
        self.attribution.owners[place] == Owner::Service
    }

    /// The operations that have a position, also those whose clients never heard of it, each with its own.
    pub fn carried_out(&self) -> impl Iterator<Item = (usize, &Position)> + '_ {
        self.attribution.owners.iter().zip(self.positions()).filter_map(|(owner, position)| match owner {
            Owner::Operation(number) => Some((*number, position)),
            Owner::Cluster | Owner::Service | Owner::Nobody => None,
        })
    }

    /// The place of the last position that was known to be committed at this time.
    pub fn known_by(&self, time: Time) -> usize {
        self.committed_at.partition_point(|at| *at <= time).saturating_sub(1)
    }

    /// The last position that was known to be committed at this time.
    pub fn position_by(&self, time: Time) -> &'a Position {
        &self.positions()[self.known_by(time)]
    }
}

/// When each position was known to be committed at the latest: an entry is committed when a later one is.
fn committed_at(evidence: &Evidence) -> Vec<Time> {
    let mut known = Time::MAX;
    let mut times: Vec<Time> = Vec::with_capacity(evidence.committed.len() + 1);
    for entry in evidence.committed.iter().rev() {
        known = known.min(entry.at);
        times.push(known);
    }
    // What every member begins with.
    times.push(0);
    times.reverse();
    times
}
