//! A configuration in the making.

use std::collections::BTreeSet;

use super::flags::{Effect, Flag};
use super::gates::FeatureGates;
use super::table;
use super::values::{FlagValue, Given, ValueError, read};
use super::{ConfigError, ServerConfig};

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Draft {
    /// Defaults, and over them what was given.
    pub config: ServerConfig,
    /// Current names of the flags that the command line or the environment gave.
    given: BTreeSet<&'static str>,
    /// What was asked for and is not there, for the operator.
    pub unbuilt: Vec<String>,
    /// Gates that older switches name.
    pub older_gates: FeatureGates,
}

impl Draft {
    /// All defaults.
    ///
    /// # Errors
    /// When the table of flags is wrong, which a test finds first.
    pub(super) fn new() -> Result<Self, ConfigError> {
        let mut config = ServerConfig::default();
        for flag in table::all() {
            if let Effect::Sets(set) = flag.effect {
                set(&mut config, Given::Text(flag.default)).map_err(|error| {
                    ConfigError::invalid(format!("the default of --{} cannot be read: {error:?}", flag.name))
                })?;
            }
        }
        Ok(Self { config, given: BTreeSet::new(), unbuilt: Vec::new(), older_gates: FeatureGates::default() })
    }

    /// Takes a value for a flag.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub(super) fn take(&mut self, flag: &'static Flag, given: Given<'_>) -> Result<(), ValueError> {
        match flag.effect {
            Effect::Sets(set) => {
                set(&mut self.config, given)?;
                if matches!(given, Given::Text(_)) {
                    self.given.insert(flag.name);
                }
            }
            Effect::Ignored(differs) => {
                if differs(given, flag.default)? {
                    self.warn(format!("--{} has no effect on this server", flag.name));
                }
            }
            Effect::Unbuilt(differs) => {
                if differs(given, flag.default)? {
                    self.unbuilt.push(format!("--{}", flag.name));
                }
            }
            Effect::Obsolete(differs) => drop(differs(given, flag.default)?),
            Effect::Alias(current) => {
                let target = table::find(current).ok_or_else(|| format!("--{current} is no flag"))?;
                self.take(target, given)?;
                self.warn(format!("--{} is deprecated: use --{current}", flag.name));
            }
            Effect::Gate(gate) => {
                let state: bool = read(given)?;
                self.older_gates.merge(FeatureGates::from_text(&format!("{gate}={state}"))?);
                self.warn(format!("--{} is deprecated: use --feature-gates={gate}={state}", flag.name));
            }
            Effect::Control => {}
        }
        Ok(())
    }

    /// Whether the command line or the environment gave the flag of this current name.
    pub(super) fn was_given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    /// Whether the start has to fail for the flag of this name.
    pub(super) fn is_unbuilt(&self, name: &str) -> bool {
        self.unbuilt.iter().any(|what| what.strip_prefix("--") == Some(name))
    }

    pub(super) fn warn(&mut self, sentence: String) {
        self.config.warnings.push(sentence);
    }
}
