//! Flags: the vocabulary of Go's flag package on top of clap, and the global flags with their
//! environment variables.
//!
//! clap splits the command line; the helpers here make it take what etcdctl takes: `--flag value`,
//! `--flag=value`, `--switch=false`, the last of several wins, a value may begin with a dash.
//!
//! Invariant: a global option comes from the command line or from `ETCDCTL_*`, never from both.

use std::time::Duration;

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::failure::{Exit, Failure};
use super::golang::{format_duration, parse_bool, parse_duration, parse_int_any_base};
use super::output::Format;
use crate::client;

/// The largest request that is sent unless `--max-request-bytes` says otherwise, in bytes.
const DEFAULT_REQUEST_LIMIT: usize = 2 * 1024 * 1024;

/// A flag with a text value.
pub fn text(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    value(name, help).value_name("string").default_value(default).hide_default_value(default.is_empty())
}

/// A flag with a number, 0 by default.
pub fn number(name: &'static str, help: &'static str) -> Arg {
    value(name, help)
        .value_name("int")
        .value_parser(ValueParser::from(|text: &str| parse_int_any_base(text)))
        .default_value("0")
        .hide_default_value(true)
}

/// A flag that is on or off, off by default.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .num_args(0..=1)
        .require_equals(true)
        .value_name("bool")
        .value_parser(ValueParser::from(|text: &str| parse_bool(text)))
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
}

fn duration(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    value(name, help)
        .value_name("duration")
        .value_parser(ValueParser::from(|text: &str| parse_duration(text)))
        .default_value(default)
}

fn value(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).allow_hyphen_values(true)
}

/// The words of a command that are not flags. They are bytes, not text: a key may be anything.
pub fn words() -> Arg {
    Arg::new("words").value_parser(clap::value_parser!(std::ffi::OsString)).num_args(0..).hide(true)
}

/// Whether a [`switch`] is on.
pub fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one(name).copied().unwrap_or(false)
}

/// The value of a [`number`].
pub fn number_of(matches: &ArgMatches, name: &str) -> i64 {
    matches.get_one(name).copied().unwrap_or(0)
}

/// The value of a [`text`].
pub fn text_of<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

/// The [`words`] as bytes.
pub fn words_of(matches: &ArgMatches) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let words = matches.get_many::<std::ffi::OsString>("words").unwrap_or_default();
    words.map(|word| word.as_bytes().to_vec()).collect()
}

/// The [`words`] of a command whose words are text.
pub fn texts_of(matches: &ArgMatches) -> Vec<String> {
    words_of(matches).iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Whether `--consistency` asks for a serializable read.
///
/// # Errors
/// When the value is neither `l` nor `s`.
pub fn is_serializable(matches: &ArgMatches) -> Result<bool, Failure> {
    match text_of(matches, "consistency") {
        "s" => Ok(true),
        "l" => Ok(false),
        other => Err(Failure::new(Exit::BadFeature, format!("unknown consistency flag {other:?}"))),
    }
}

/// The flags that every command takes, sorted by name.
pub fn globals() -> Vec<Arg> {
    let flags = [
        text("auth-jwt-token", "", "token of a user (not supported by this version)"),
        text(
            "cacert",
            "",
            "file with the authorities that vouch for servers (not supported by this version)",
        ),
        text("cert", "", "file with the client's TLS certificate (not supported by this version)"),
        duration("command-timeout", "5s", "how long a short command may take, without connecting"),
        switch("debug", "print the options in use to standard error"),
        duration("dial-timeout", "2s", "how long connecting to an endpoint may take"),
        text(
            "discovery-srv",
            "",
            "domain whose SRV records name the endpoints (not supported by this version)",
        )
        .short('d'),
        text(
            "discovery-srv-name",
            "",
            "service to look up with --discovery-srv (not supported by this version)",
        ),
        value("endpoints", "servers to talk to, as host:port, separated by commas")
            .value_name("strings")
            .value_delimiter(',')
            .action(ArgAction::Append)
            .default_value("127.0.0.1:2379"),
        switch("hex", "print ids, and with simple also keys and values, in hexadecimal"),
        switch("insecure-discovery", "accept SRV records that name servers without TLS")
            .default_value("true"),
        switch("insecure-skip-tls-verify", "do not verify the servers' certificates"),
        switch("insecure-transport", "talk to servers without TLS").default_value("true"),
        duration("keepalive-time", "2s", "probe a connection that was silent for this long"),
        duration("keepalive-timeout", "6s", "give up a connection whose probe is not answered in this time"),
        text("key", "", "file with the client's TLS key (not supported by this version)"),
        number("max-recv-bytes", "largest answer to accept, in bytes (0: no limit)"),
        number("max-request-bytes", "largest request to send, in bytes (0: 2 MiB)"),
        text("password", "", "password of the user (not supported by this version)"),
        text("user", "", "user to act as, as name[:password] (not supported by this version)"),
        text("write-out", "simple", "output format: fields, json, protobuf, simple or table").short('w'),
    ];
    flags.into_iter().map(|flag| flag.global(true).hide(true)).collect()
}

/// What the global flags and their environment variables say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The endpoints as the user wrote them.
    pub endpoints: Vec<String>,
    /// How answers are printed.
    pub format: Format,
    /// Whether ids are hexadecimal.
    pub hex: bool,
    /// How long a short command may take.
    pub command_timeout: Duration,
    /// How connections are made.
    pub connect: client::Options,
    /// The largest request, in bytes.
    pub request_limit: usize,
    /// The largest answer, in bytes.
    pub answer_limit: usize,
}

/// A variable of the environment: its name and its value.
pub type Variable = (String, String);

/// What resolving the options wants to tell the user on standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// `NAME=value` of variables that look like options but are none.
    pub unrecognized: Vec<String>,
    /// The options in use, `ETCDCTL_NAME=value`, when `--debug` is on.
    pub options: Vec<String>,
}

/// Why the options cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// This variable is set, and so is its flag.
    Conflict(String),
    /// An option has a value that cannot be used.
    Failure(Failure),
}

impl From<Failure> for SettingsError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Settings {
    /// Puts flags and environment together.
    ///
    /// # Errors
    /// When an option is given twice, is not supported, or has a bad value.
    pub fn resolve(matches: &ArgMatches, environment: &[Variable]) -> Result<(Self, Notes), SettingsError> {
        let mut arguments = vec!["ETCDCTL_".to_owned()];
        let mut known = Vec::new();
        let mut flags = globals();
        if matches.try_contains_id("cluster").unwrap_or(false) {
            flags.push(switch("cluster", ""));
        }
        for flag in &flags {
            let name = flag.get_id().as_str();
            let variable = variable_of(name);
            let given = matches.value_source(name) == Some(ValueSource::CommandLine);
            let value = environment.iter().find(|(key, value)| *key == variable && !value.is_empty());
            if environment.iter().any(|(key, _)| *key == variable) && given {
                return Err(SettingsError::Conflict(variable));
            }
            if given {
                arguments.extend(raw_values(matches, name).map(|value| format!("--{name}={value}")));
            } else if let Some((_, value)) = value {
                arguments.push(format!("--{name}={value}"));
                known.push(variable);
            }
        }
        // The environment's values are read by the same rules as the command line's.
        let merged = Command::new("environment")
            .args(flags)
            .args_override_self(true)
            .try_get_matches_from(arguments)
            .map_err(|error| Failure::new(Exit::Error, super::usage::describe(&error)))?;
        let settings = Self::from_matches(&merged)?;
        let watch = ["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];
        let unrecognized = environment
            .iter()
            .filter(|(key, _)| key.starts_with("ETCDCTL_") && !known.contains(key))
            .filter(|(key, _)| !watch.contains(&key.as_str()))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let options = if is_on(&merged, "debug") { listing(&merged) } else { Vec::new() };
        Ok((settings, Notes { unrecognized, options }))
    }

    fn from_matches(matches: &ArgMatches) -> Result<Self, Failure> {
        for name in ["cert", "key", "cacert"] {
            let given = matches.value_source(name) == Some(ValueSource::CommandLine);
            if given && text_of(matches, name).is_empty() {
                return Err(Failure::arguments(format!("empty string is passed to --{name} option")));
            }
        }
        for (name, what) in [
            ("cert", "TLS (--cert)"),
            ("key", "TLS (--key)"),
            ("cacert", "TLS (--cacert)"),
            ("user", "authentication (--user)"),
            ("password", "authentication (--password)"),
            ("auth-jwt-token", "authentication (--auth-jwt-token)"),
            ("discovery-srv", "DNS discovery (--discovery-srv)"),
        ] {
            if !text_of(matches, name).is_empty() {
                return Err(Failure::unsupported(what));
            }
        }
        if !is_on(matches, "insecure-transport") {
            return Err(Failure::unsupported("TLS (--insecure-transport=false)"));
        }
        let format = Format::named(text_of(matches, "write-out"))
            .ok_or_else(|| Failure::new(Exit::BadFeature, "unsupported output format"))?;
        let time = |name: &str| matches.get_one::<Duration>(name).copied().unwrap_or_default();
        let limit = |name: &str, default: usize| match number_of(matches, name) {
            0 => default,
            bytes => usize::try_from(bytes).unwrap_or(0),
        };
        Ok(Self {
            endpoints: endpoints_of(matches),
            format,
            hex: is_on(matches, "hex"),
            command_timeout: time("command-timeout"),
            connect: client::Options {
                connect_timeout: time("dial-timeout"),
                // As in Go's client, a probing interval of zero turns probing off.
                keep_alive_interval: Some(time("keepalive-time"))
                    .filter(|interval| !interval.is_zero())
                    .map(|interval| interval.max(client::MIN_KEEP_ALIVE_INTERVAL)),
                keep_alive_timeout: time("keepalive-timeout"),
            },
            request_limit: limit("max-request-bytes", DEFAULT_REQUEST_LIMIT),
            answer_limit: limit("max-recv-bytes", usize::MAX),
        })
    }
}

fn endpoints_of(matches: &ArgMatches) -> Vec<String> {
    let endpoints = matches.get_many::<String>("endpoints").unwrap_or_default();
    endpoints.map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// The environment variable of a flag.
fn variable_of(flag: &str) -> String {
    format!("ETCDCTL_{}", flag.to_uppercase().replace('-', "_"))
}

fn raw_values<'a>(matches: &'a ArgMatches, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let values = matches.get_raw(name).unwrap_or_default();
    values.map(|value| value.to_string_lossy().into_owned())
}

/// All options as `--debug` prints them.
fn listing(matches: &ArgMatches) -> Vec<String> {
    let value = |name: &str| match matches.try_get_one::<Duration>(name) {
        Ok(Some(duration)) => format_duration(*duration),
        _ if name == "endpoints" => format!("[{}]", endpoints_of(matches).join(" ")),
        _ => raw_values(matches, name).last().unwrap_or_default(),
    };
    globals()
        .iter()
        .map(|flag| flag.get_id().as_str().to_owned())
        .map(|name| format!("{}={}", variable_of(&name), value(&name)))
        .collect()
}

#[cfg(test)]
mod tests;
