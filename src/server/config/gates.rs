//! Feature gates: names of features in trial, each switched on or off by `--feature-gates`.

use std::collections::BTreeMap;

use super::values::{FlagValue, ValueError};

/// How far a feature is in its trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off unless asked for.
    Alpha,
    /// On unless refused.
    Beta,
}

/// What switching a gate changes in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// What it says.
    Built,
    /// Nothing, and nobody is hurt: it is about etcd's inside, or an early warning of a fault that is
    /// found otherwise.
    NoEffect,
    /// Whoever switches it on relies on something that is not there yet.
    Unbuilt,
}

/// A feature in trial.
#[derive(Debug)]
pub(super) struct Gate {
    pub name: &'static str,
    pub stage: Stage,
    pub support: Support,
}

const fn gate(name: &'static str, stage: Stage, support: Support) -> Gate {
    Gate { name, stage, support }
}

/// etcd 3.7's gates, by name.
pub(super) static GATES: [Gate; 9] = [
    gate("CompactHashCheck", Stage::Alpha, Support::Unbuilt),
    gate("FastLeaseKeepAlive", Stage::Beta, Support::NoEffect),
    gate("InitialCorruptCheck", Stage::Alpha, Support::NoEffect),
    gate("LeaseCheckpoint", Stage::Alpha, Support::Built),
    gate("LeaseCheckpointPersist", Stage::Alpha, Support::Built),
    gate("PriorityRequest", Stage::Alpha, Support::NoEffect),
    gate("SetMemberLocalAddr", Stage::Alpha, Support::Unbuilt),
    gate("StopGRPCServiceOnDefrag", Stage::Alpha, Support::NoEffect),
    gate("TxnModeWriteWithSharedBuffer", Stage::Beta, Support::NoEffect),
];

const ALL_ALPHA: &str = "AllAlpha";
const ALL_BETA: &str = "AllBeta";

impl Gate {
    pub(super) fn default(&self) -> bool {
        self.stage == Stage::Beta
    }
}

/// Which features in trial are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    /// What was said, by name of a gate or of a whole stage.
    said: BTreeMap<&'static str, bool>,
}

impl FeatureGates {
    /// Whether the feature of this name is on: as was said of it, else of its stage, else by default. No
    /// other feature is on.
    pub fn is_enabled(&self, name: &str) -> bool {
        GATES.iter().find(|gate| gate.name == name).is_some_and(|gate| self.state(gate))
    }

    /// Every gate with its stage and whether it is on, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Stage, bool)> {
        GATES.iter().map(|gate| (gate.name, gate.stage, self.state(gate)))
    }

    /// Whether leaders write the time that is left of long leases to the log from time to time.
    pub fn lease_checkpoint(&self) -> bool {
        self.is_enabled("LeaseCheckpoint")
    }

    pub(super) fn state(&self, gate: &Gate) -> bool {
        let stage = match gate.stage {
            Stage::Alpha => ALL_ALPHA,
            Stage::Beta => ALL_BETA,
        };
        let said = self.said.get(gate.name).or_else(|| self.said.get(stage));
        said.copied().unwrap_or(gate.default())
    }

    /// Whether anything was said of this very gate.
    pub(super) fn was_said(&self, gate: &Gate) -> bool {
        self.said.contains_key(gate.name)
    }

    /// Takes over what `other` says, which wins.
    pub(super) fn merge(&mut self, other: Self) {
        self.said.extend(other.said);
    }
}

impl FlagValue for FeatureGates {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        let mut said = BTreeMap::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, state) =
                entry.split_once('=').map_or((entry, None), |(name, state)| (name, Some(state)));
            let known = GATES.iter().map(|gate| gate.name).chain([ALL_ALPHA, ALL_BETA]);
            let name = known.into_iter().find(|known| *known == name.trim());
            let name = name.ok_or_else(|| format!("unrecognized feature gate: {}", entry_name(entry)))?;
            let state = state.ok_or_else(|| format!("missing bool value for {name}"))?.trim();
            let state = bool::from_text(state).map_err(|_| {
                format!("invalid value of {name}={state}, err: strconv.ParseBool: parsing {state:?}: invalid syntax")
            })?;
            said.insert(name, state);
        }
        Ok(Self { said })
    }
}

fn entry_name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name).trim()
}
