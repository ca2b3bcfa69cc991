//! The process around the commands: environment variables, and what is said about them on standard error.

use std::time::{Duration, UNIX_EPOCH};

use clap::ArgMatches;

use super::failure::{Exit, Failure};
use super::flags::{Settings, SettingsError};
use crate::rt::{Clock, SystemClock};

/// The options of a command, from its flags and the environment.
///
/// # Errors
/// When they do not fit together.
pub fn settings(matches: &ArgMatches) -> Result<Settings, Failure> {
    let variables: Vec<_> = std::env::vars_os()
        .map(|(key, value)| (key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    match Settings::resolve(matches, &variables) {
        Ok((settings, notes)) => {
            for variable in notes.unrecognized {
                log("warn", "unrecognized environment variable", &variable);
            }
            notes.options.iter().for_each(|option| eprintln!("{option}"));
            Ok(settings)
        }
        Err(SettingsError::Conflict(variable)) => {
            let what = "conflicting environment variable is shadowed by corresponding command-line flag \
                        (either unset environment variable or disable flag))";
            log("fatal", what, &variable);
            Err(Failure::new(Exit::Error, ""))
        }
        Err(SettingsError::Failure(failure)) => Err(failure),
    }
}

/// A line of the log about an environment variable.
fn log(level: &str, message: &str, variable: &str) {
    let now = UNIX_EPOCH + Duration::from_millis(SystemClock::new().now().wall);
    let fields = [
        ("level", level),
        ("ts", &humantime::format_rfc3339_micros(now).to_string()),
        ("msg", message),
        ("environment-variable", variable),
    ];
    let fields = fields.map(|(name, value)| format!("{name:?}:{}", serde_json::Value::from(value)));
    eprintln!("{{{}}}", fields.join(","));
}
