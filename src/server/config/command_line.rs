//! The command line in Go's grammar.
//!
//! One or two dashes in front of a name mean the same. A value follows behind `=` or as the next
//! argument, whatever that looks like; a switch takes one behind `=` only. The last of several values
//! counts. Flags end at the first argument that is none, or behind `--`.

use super::ConfigError;
use super::draft::Draft;
use super::flags::{Effect, Flag};
use super::table;
use super::values::{FlagValue, Given, ValueError};

/// A command line, taken apart.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    /// Flags and their last values, in the order in which those were written.
    values: Vec<(&'static Flag, String)>,
    /// The first argument that is no flag.
    positional: Option<String>,
    pub help: bool,
    pub version: bool,
    pub config_file: Option<String>,
}

impl CommandLine {
    /// Takes it apart. Every value is checked, whether it will be used or not.
    ///
    /// # Errors
    /// With exit code 2, in the words of Go's flag package.
    pub(super) fn parse(arguments: &[String]) -> Result<Self, ConfigError> {
        let mut line = Self::default();
        let mut scratch = Draft::new()?;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(flag_text) = argument.strip_prefix('-').filter(|text| !text.is_empty()) else {
                line.positional = Some(argument.clone());
                break;
            };
            let flag_text = flag_text.strip_prefix('-').unwrap_or(flag_text);
            if flag_text.is_empty() {
                line.positional = rest.next().cloned();
                break;
            }
            if flag_text.starts_with(['-', '=']) {
                return Err(ConfigError::usage(format!("bad flag syntax: {argument}")));
            }
            let (name, value) = match flag_text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag_text, None),
            };
            if matches!(name, "h" | "help") {
                line.help = true;
                break;
            }
            let flag = table::find(name)
                .ok_or_else(|| ConfigError::usage(format!("flag provided but not defined: -{name}")))?;
            let value = match value {
                Some(value) => value,
                None if flag.is_switch() => "true".to_owned(),
                None => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| ConfigError::usage(format!("flag needs an argument: -{name}")))?,
            };
            line.take(flag, value, &mut scratch)?;
        }
        Ok(line)
    }

    fn take(&mut self, flag: &'static Flag, value: String, scratch: &mut Draft) -> Result<(), ConfigError> {
        let checked = match flag.effect {
            Effect::Control if flag.is_switch() => bool::from_text(&value).map(|on| self.version = on),
            Effect::Control => {
                self.config_file = Some(value.clone());
                Ok(())
            }
            _ => scratch.take(flag, Given::Text(&value)),
        };
        checked.map_err(|error| unreadable(flag, &value, error))?;
        self.values.retain(|(other, _)| other.name != flag.name);
        self.values.push((flag, value));
        Ok(())
    }

    /// # Errors
    /// When there is an argument that is no flag: there are none here, and no commands.
    pub(super) fn check_no_positional(&self) -> Result<(), ConfigError> {
        match self.positional.as_deref() {
            None => Ok(()),
            Some(proxy @ ("gateway" | "grpc-proxy")) => {
                Err(ConfigError::invalid(format!("{proxy}: proxies are not supported by this version yet")))
            }
            Some(other) => Err(ConfigError::invalid(format!("{other:?} is not a valid flag"))),
        }
    }

    /// Whether the flag of this name is on the line.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(flag, _)| flag.name == name)
    }

    /// Puts the values into the draft.
    ///
    /// # Errors
    /// None after [`CommandLine::parse`], which has tried each of them.
    pub(super) fn apply(&self, draft: &mut Draft) -> Result<(), ConfigError> {
        for (flag, value) in &self.values {
            draft.take(flag, Given::Text(value)).map_err(|error| unreadable(flag, value, error))?;
        }
        Ok(())
    }
}

fn unreadable(flag: &Flag, value: &str, error: ValueError) -> ConfigError {
    let (boolean, of) = if flag.is_switch() { ("boolean ", "") } else { ("", "flag ") };
    error.into_config_error(|what| {
        ConfigError::usage(format!("invalid {boolean}value {value:?} for {of}-{}: {what}", flag.name))
    })
}
