//! Types of flags that configure nothing here: their values are checked as etcd does, and compared with
//! the default.

use std::time::Duration;

use super::values::{FlagValue, ValueError};

/// A word out of a list.
fn one_of(text: &str, words: &[&'static str]) -> Option<&'static str> {
    words.iter().find(|word| **word == text).copied()
}

/// `--logger`.
#[derive(PartialEq)]
pub(super) struct Logger;

impl FlagValue for Logger {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "zap" => Ok(Self),
            _ => Err(ValueError::Invalid(format!("unknown logger option {text:?}"))),
        }
    }
}

/// `--auto-compaction-mode`.
#[derive(PartialEq)]
pub(super) struct CompactionMode(&'static str);

impl FlagValue for CompactionMode {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        one_of(text, &["periodic", "revision"])
            .map(Self)
            .ok_or_else(|| ValueError::Invalid(format!("unknown auto-compaction-mode {text:?}")))
    }
}

/// `--auto-compaction-retention`: a number (of hours or revisions) or a duration; nothing when it is zero.
#[derive(PartialEq)]
pub(super) struct Retention(Option<String>);

impl FlagValue for Retention {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        let number = text.parse::<u64>().map(|number| number == 0);
        let is_zero = text.is_empty()
            || number.or_else(|_| Duration::from_text(text).map(|duration| duration.is_zero())).map_err(
                |_| {
                    ValueError::Invalid(format!(
                        "error parsing CompactionRetention: invalid duration {text:?}"
                    ))
                },
            )?;
        Ok(Self((!is_zero).then(|| text.to_owned())))
    }
}

/// `--tls-min-version` and `--tls-max-version`.
#[derive(PartialEq)]
pub(super) struct TlsVersion(&'static str);

impl FlagValue for TlsVersion {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        one_of(text, &["", "TLS1.2", "TLS1.3"]).map(Self).ok_or_else(|| {
            ValueError::Invalid(format!("unexpected TLS version {text:?} (must be one of: TLS1.2, TLS1.3)"))
        })
    }
}

/// `--v2-deprecation`.
#[derive(PartialEq)]
pub(super) struct V2Deprecation(&'static str);

impl FlagValue for V2Deprecation {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        one_of(text, &["not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"])
            .map(Self)
            .ok_or_else(|| format!("invalid value {text:?}").into())
    }
}

/// `--discovery-fallback`.
#[derive(PartialEq)]
pub(super) struct DiscoveryFallback;

impl FlagValue for DiscoveryFallback {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "exit" => Ok(Self),
            "proxy" => Err(ValueError::Invalid(
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
                    .to_owned(),
            )),
            _ => Err("invalid value".into()),
        }
    }
}

/// Who may come in: all of them when it is empty or `*`.
#[derive(PartialEq)]
pub(super) struct Whitelist(Option<String>);

impl FlagValue for Whitelist {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Ok(Self(Some(text).filter(|text| !matches!(*text, "" | "*")).map(str::to_owned)))
    }
}

/// `--compact-hash-check-time`: it may not be zero.
#[derive(PartialEq)]
pub(super) struct CheckTime(Duration);

impl CheckTime {
    fn new(time: Duration) -> Result<Self, ValueError> {
        if time.is_zero() {
            return Err(ValueError::Invalid("--compact-hash-check-time must be >0 (set to 0s)".to_owned()));
        }
        Ok(Self(time))
    }
}

impl FlagValue for CheckTime {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Duration::from_text(text).and_then(Self::new)
    }

    fn from_file(value: &serde_norway::Value) -> Result<Self, ValueError> {
        Duration::from_file(value).and_then(Self::new)
    }
}
