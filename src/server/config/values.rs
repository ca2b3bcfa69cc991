//! How the text or the file's value of a flag becomes a value of its type, as Go reads them.

use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::time::Duration;

use serde_norway::Value as Yaml;

use super::urls::{Url, parse_urls};
use super::{ClusterState, ConfigError, LogFormat, LogLevel, LogOutput, Metrics};

/// A value as it was given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    /// By a flag or a variable.
    Text(&'a str),
    /// By the configuration file.
    File(&'a Yaml),
}

/// Why a value is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueError {
    /// It is none of its type. The text says what is wrong, and neither repeats the value nor names the
    /// flag.
    Unreadable(String),
    /// It is one of its type and cannot be served. The sentence stands alone.
    Invalid(String),
}

impl ValueError {
    /// The error for the operator; `unreadable` completes the first kind's text.
    pub(super) fn into_config_error(self, unreadable: impl FnOnce(String) -> ConfigError) -> ConfigError {
        match self {
            Self::Unreadable(what) => unreadable(what),
            Self::Invalid(sentence) => ConfigError::invalid(sentence),
        }
    }
}

impl From<String> for ValueError {
    fn from(what: String) -> Self {
        Self::Unreadable(what)
    }
}

impl From<&str> for ValueError {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

/// A type that a flag can have.
pub(super) trait FlagValue: Sized + PartialEq {
    /// Reads the text of a flag or a variable.
    fn from_text(text: &str) -> Result<Self, ValueError>;

    /// Reads the configuration file's value: as the text, unless the type has a form of its own there.
    fn from_file(value: &Yaml) -> Result<Self, ValueError> {
        Self::from_text(&file_text(value)?)
    }
}

/// Reads a value.
pub(super) fn read<T: FlagValue>(given: Given<'_>) -> Result<T, ValueError> {
    match given {
        Given::Text(text) => T::from_text(text),
        Given::File(value) => T::from_file(value),
    }
}

/// Text of a scalar in a file. Go's reader makes texts of numbers and booleans where a text is wanted.
fn file_text(value: &Yaml) -> Result<String, ValueError> {
    match value {
        Yaml::Null => Ok(String::new()),
        Yaml::String(text) => Ok(text.clone()),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Bool(flag) => Ok(flag.to_string()),
        Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => Err("must be a text".into()),
    }
}

impl FlagValue for bool {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err("parse error".into()),
        }
    }

    fn from_file(value: &Yaml) -> Result<Self, ValueError> {
        value.as_bool().ok_or_else(|| "must be true or false".into())
    }
}

impl FlagValue for String {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Ok(text.to_owned())
    }
}

impl FlagValue for PathBuf {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Ok(text.into())
    }
}

impl FlagValue for Option<PathBuf> {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Ok(Some(text).filter(|text| !text.is_empty()).map(PathBuf::from))
    }
}

fn integer_error(error: ParseIntError) -> ValueError {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range".into(),
        _ => "parse error".into(),
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl FlagValue for $type {
            fn from_text(text: &str) -> Result<Self, ValueError> {
                text.parse().map_err(integer_error)
            }

            fn from_file(value: &Yaml) -> Result<Self, ValueError> {
                match value {
                    Yaml::Number(number) => Self::from_text(&number.to_string()),
                    _ => Err("must be a number".into()),
                }
            }
        }
    )*};
}
integers!(u32, u64, i64, usize);

impl FlagValue for Duration {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        parse_duration(text).ok_or_else(|| "parse error".into())
    }

    fn from_file(value: &Yaml) -> Result<Self, ValueError> {
        let nanoseconds = value.as_u64().filter(|nanoseconds| *nanoseconds <= MAX_NANOSECONDS);
        nanoseconds
            .map(Duration::from_nanos)
            .ok_or_else(|| "must be a whole number of nanoseconds (10m is 600000000000)".into())
    }
}

impl FlagValue for Vec<Url> {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Ok(parse_urls(text)?)
    }
}

impl FlagValue for Vec<String> {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Ok(text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }

    fn from_file(value: &Yaml) -> Result<Self, ValueError> {
        match value {
            Yaml::Sequence(items) => items.iter().map(file_text).collect(),
            other => Self::from_text(&file_text(other)?),
        }
    }
}

impl FlagValue for Vec<LogOutput> {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Vec::from_text(text).and_then(to_outputs)
    }

    fn from_file(value: &Yaml) -> Result<Self, ValueError> {
        Vec::from_file(value).and_then(to_outputs)
    }
}

fn to_outputs(names: Vec<String>) -> Result<Vec<LogOutput>, ValueError> {
    let mut outputs = Vec::new();
    for name in names {
        let output = match name.as_str() {
            // systemd takes what a service writes to standard error into its journal.
            "default" | "stderr" | "systemd/journal" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            path => LogOutput::File(path.into()),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    if outputs.is_empty() { Err("no output is named".into()) } else { Ok(outputs) }
}

impl FlagValue for ClusterState {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "new" => Ok(Self::New),
            "existing" => Ok(Self::Existing),
            _ => Err("invalid value".into()),
        }
    }
}

impl FlagValue for Metrics {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "basic" => Ok(Self::Basic),
            "extensive" => Ok(Self::Extensive),
            _ => Err("supported values are basic, extensive".into()),
        }
    }
}

impl FlagValue for LogLevel {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" | "warning" => Ok(Self::Warn),
            "error" | "dpanic" | "panic" | "fatal" => Ok(Self::Error),
            _ => Err(format!("unrecognized level: {text:?}").into()),
        }
    }
}

impl FlagValue for LogFormat {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "json" => Ok(Self::Json),
            "console" => Ok(Self::Console),
            _ => Err(ValueError::Invalid(format!(
                "unknown log format: {text}, supported values json, console"
            ))),
        }
    }
}

/// Longest duration that Go has, about 292 years.
const MAX_NANOSECONDS: u64 = i64::MAX as u64;

/// Go's durations: decimal numbers, each with a unit, such as `300ms`, `1.5h` or `1h30m`; or a bare `0`.
/// None is negative here, as no flag means anything by that.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total = total.checked_add(parse_part(number, unit_nanoseconds(unit)?)?)?;
        rest = after;
    }
    (total <= MAX_NANOSECONDS).then(|| Duration::from_nanos(total))
}

fn unit_nanoseconds(unit: &str) -> Option<u64> {
    match unit {
        "ns" => Some(1),
        // Two characters look like the Greek letter: the micro sign and the letter itself.
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        "m" => Some(60_000_000_000),
        "h" => Some(3_600_000_000_000),
        _ => None,
    }
}

/// Nanoseconds of a decimal number of units; what is below a nanosecond is cut off.
fn parse_part(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanoseconds = whole.checked_mul(unit)?;
    // 14 digits after the point are enough for an hour in nanoseconds.
    let mut scale = 1_u128;
    let mut numerator = 0_u128;
    for digit in fraction.bytes().take(14) {
        numerator = numerator * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    nanoseconds = nanoseconds.checked_add(u64::try_from(numerator * u128::from(unit) / scale).ok()?)?;
    Some(nanoseconds)
}
