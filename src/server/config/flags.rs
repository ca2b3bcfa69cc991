//! What a flag is. The flags themselves stand in the table next door.

use super::ServerConfig;
use super::values::{FlagValue, Given, ValueError, read};

/// A flag, its environment variable and its key in the configuration file: they are one thing.
#[derive(Debug)]
pub(super) struct Flag {
    /// Without dashes in front.
    pub name: &'static str,
    /// As it would be written on a command line.
    pub default: &'static str,
    /// One or two sentences for `--help`.
    pub help: &'static str,
    /// What giving it does.
    pub effect: Effect,
}

/// What giving a flag does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// It becomes part of the configuration.
    Sets(fn(&mut ServerConfig, Given<'_>) -> Result<(), ValueError>),
    /// Nothing, and that harms nobody; a warning says so when it differs from the default.
    Ignored(Differs),
    /// The start fails when it differs from the default: somebody relies on what is not there yet.
    Unbuilt(Differs),
    /// Nothing, in silence: etcd does the same.
    Obsolete(Differs),
    /// What the flag of this name does, in whose place it is.
    Alias(&'static str),
    /// It switches the feature gate of this name.
    Gate(&'static str),
    /// It says what to do with everything else, and is looked at before.
    Control,
}

/// Whether a value differs from the default, which stands there as text.
type Differs = fn(Given<'_>, &str) -> Result<bool, ValueError>;

impl Flag {
    /// Whether it is a switch, which takes a value only behind `=`. The default tells: all switches have
    /// a boolean one, and nothing else has.
    pub(super) fn is_switch(&self) -> bool {
        matches!(self.default, "true" | "false")
    }

    /// Its environment variable.
    pub(super) fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// Flags of one topic, under one heading of `--help`.
#[derive(Debug)]
pub(super) struct Topic {
    /// The heading; a topic without one is not shown.
    pub heading: &'static str,
    pub flags: &'static [Flag],
}

/// A flag that becomes part of the configuration.
pub(super) const fn sets(
    name: &'static str,
    default: &'static str,
    help: &'static str,
    set: fn(&mut ServerConfig, Given<'_>) -> Result<(), ValueError>,
) -> Flag {
    Flag { name, default, help, effect: Effect::Sets(set) }
}

/// A flag of type `T` that this server reads and does not need.
pub(super) const fn no_effect<T: FlagValue>(
    name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, default, help, effect: Effect::Ignored(differs::<T>) }
}

/// A flag of type `T` whose feature is not there yet.
pub(super) const fn unbuilt<T: FlagValue>(
    name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, default, help, effect: Effect::Unbuilt(differs::<T>) }
}

/// A flag of etcd 0.4 that etcd still reads and ignores.
pub(super) const fn obsolete<T: FlagValue>(name: &'static str, default: &'static str) -> Flag {
    Flag { name, default, help: "", effect: Effect::Obsolete(differs::<T>) }
}

/// An older name of the flag `--<current>`; `default` only tells whether it is a switch.
pub(super) const fn alias(name: &'static str, default: &'static str, current: &'static str) -> Flag {
    Flag { name, default, help: "", effect: Effect::Alias(current) }
}

/// A switch that became a feature gate.
pub(super) const fn gate(name: &'static str, gate: &'static str) -> Flag {
    Flag { name, default: "false", help: "", effect: Effect::Gate(gate) }
}

/// A flag that is looked at before all others.
pub(super) const fn control(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, default, help, effect: Effect::Control }
}

/// Reads a value into its field.
pub(super) fn put<T: FlagValue>(field: &mut T, given: Given<'_>) -> Result<(), ValueError> {
    *field = read(given)?;
    Ok(())
}

fn differs<T: FlagValue>(given: Given<'_>, default: &str) -> Result<bool, ValueError> {
    Ok(read::<T>(given)? != T::from_text(default)?)
}
