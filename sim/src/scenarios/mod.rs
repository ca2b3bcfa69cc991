//! Stories: runs that re-enact what is known to go wrong with systems of this kind, each with its faults
//! written down, and the seeds that ever failed.
//!
//! ```text
//!   script("figure 8", story) -- members, settings, clients, steps --> Setup --.
//!                                                                              +--> runs, all green, that
//!   sim/seeds/*.json ---------- a setup or a seed, with its story ------------'    together reach ...
//! ```
//!
//! A scenario says which rare paths it must reach ([`crate::markers`]), so that it cannot pass by not
//! happening. What a script cannot decide (which member wins an election) is left to the seed: a scenario is
//! run with a few neighbouring seeds, all of which must be green, and which must reach its paths together.
//! So it outlives changes that only shift the schedule.

mod compaction;
mod crash;
mod lease;
mod network;
mod raft;
mod reads;
mod seeds;
mod snapshot;
mod watch;

use crate::bus::Network;
use crate::clock::EXACT;
use crate::disk::Latency;
use crate::history::MemberNumber;
use crate::nemesis::{Action, Plan, Step, Target, When};
use crate::random::fnv;
use crate::setup::{Profile, Setup, Tuning};
use crate::workload::{Weights, Workload};

/// One story.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// What happened in history, or in a figure, and which claims stand guard.
    pub story: String,
    /// What the run is like, of the first seed.
    pub setup: Setup,
    /// How many neighbouring seeds are run.
    pub tries: u64,
    /// The rare paths that they must reach together.
    pub reaches: Vec<&'static str>,
}

/// Every scenario and every seed that ever failed.
///
/// # Errors
/// Which file of `sim/seeds` cannot be read, and why.
pub fn all() -> Result<Vec<Scenario>, String> {
    let parts = [raft::all, network::all, crash::all, snapshot::all, compaction::all, watch::all];
    let more = [lease::all, reads::all];
    let mut all: Vec<Scenario> =
        parts.into_iter().chain(more).flat_map(|part| part()).map(|script| script.0).collect();
    all.extend(seeds::all()?);
    Ok(all)
}

/// A scenario in the making.
struct Script(Scenario);

/// Three members with etcd's settings, but for faster elections, and a gentle network; nothing goes wrong yet.
fn script(name: &str, story: &str) -> Script {
    let setup = Setup {
        seed: fnv(name.as_bytes()) >> 20,
        profile: Profile::Lite,
        schedule: 0,
        members: 3,
        tuning: Tuning { heartbeat_ms: 50, ..Tuning::PLAIN },
        network: Network { latency: 2, ..Network::CALM },
        disk: Latency::default(),
        clocks: vec![(EXACT, 0); 3],
        workload: Workload::default(),
        plan: Plan::default(),
        left_behind: 0,
        buggify: false,
        strict_reads: false,
    };
    let story = story.split_whitespace().collect::<Vec<_>>().join(" ");
    Script(Scenario { name: name.to_owned(), story, setup, tries: 3, reaches: Vec::new() })
}

impl Script {
    /// So many members.
    fn members(mut self, members: MemberNumber) -> Self {
        self.0.setup.members = members;
        self.0.setup.clocks = vec![(EXACT, 0); usize::from(members)];
        self
    }

    /// Members that are set up differently.
    fn tuned(mut self, change: impl FnOnce(&mut Tuning)) -> Self {
        change(&mut self.0.setup.tuning);
        self
    }

    /// Clients that do something else.
    fn clients(mut self, change: impl FnOnce(&mut Workload)) -> Self {
        change(&mut self.0.setup.workload);
        self
    }

    /// Clients that ask for nothing but this.
    fn asking(self, weights: Weights) -> Self {
        self.clients(|workload| workload.weights = weights)
    }

    /// Another network.
    fn network(mut self, network: Network) -> Self {
        self.0.setup.network = network;
        self
    }

    /// Disks whose syncs take up to so many milliseconds.
    fn syncs_take(mut self, milliseconds: u64) -> Self {
        let most = milliseconds * 1_000_000;
        self.0.setup.disk = Latency { read: (0, 0), write: (1000, 20_000), sync: (most / 2, most) };
        self
    }

    /// Clocks, one for each member: rate in parts per million, milliseconds that the wall time is off.
    fn clocks(mut self, clocks: &[(u64, i64)]) -> Self {
        self.0.setup.clocks = clocks.to_vec();
        self
    }

    /// Something goes wrong.
    fn step(mut self, when: When, action: Action, lasts: u64) -> Self {
        self.0.setup.plan.steps.push(Step { when, action, lasts });
        self
    }

    /// Something goes wrong again and again: at these milliseconds.
    fn steps(mut self, at: impl IntoIterator<Item = u64>, action: &Action, lasts: u64) -> Self {
        for at in at {
            self = self.step(When::At(at), action.clone(), lasts);
        }
        self
    }

    /// It must reach this.
    fn reaches(mut self, markers: &[&'static str]) -> Self {
        self.0.reaches = markers.to_vec();
        self
    }

    /// With so many seeds.
    fn tries(mut self, tries: u64) -> Self {
        self.0.tries = tries;
        self
    }
}

/// Whoever leads then.
const LEADER: Target = Target::Leader;

/// Some member that does not.
const FOLLOWER: Target = Target::Follower(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::markers::MARKERS;

    #[test]
    fn scenarios_are_named_once_told_and_must_reach_something() {
        let all = all().unwrap();
        assert!(all.len() >= 30, "only {} scenarios", all.len());
        for (place, scenario) in all.iter().enumerate() {
            let Scenario { name, story, setup, reaches, .. } = scenario;
            assert!(!all[..place].iter().any(|other| other.name == *name), "{name} is there twice");
            assert!(story.len() > 40, "{name} tells no story");
            let known = |marker: &&'static str| MARKERS.iter().any(|known| known.name == *marker);
            assert!(reaches.iter().all(known), "{name} must reach what there is not: {reaches:?}");
            assert_eq!(setup.clocks.len(), usize::from(setup.members), "{name}: one clock for each member");
            let text = serde_json::to_string(setup).unwrap();
            assert_eq!(serde_json::from_str::<Setup>(&text).unwrap(), *setup, "{name} survives a file");
        }
    }

    #[test]
    fn a_script_that_reaches_nothing_is_no_scenario() {
        let idle: Vec<String> = all()
            .unwrap()
            .into_iter()
            .filter(|scenario| scenario.reaches.is_empty() && !scenario.name.starts_with("seed-"))
            .map(|scenario| scenario.name)
            .collect();
        assert!(idle.is_empty(), "{idle:?}");
    }
}
