//! What the tool says about a command line that it cannot split, in the words etcdctl uses.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The error as one line, without `Error: `.
pub fn describe(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // clap names a flag with the placeholder of its value.
    let flag = context(ContextKind::InvalidArg).split([' ', '=', '[']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => match flag.strip_prefix("--") {
            Some(_) => format!("unknown flag: {flag}"),
            None => {
                let letter = flag.chars().nth(1).unwrap_or_default();
                format!("unknown shorthand flag: {letter:?} in {flag}")
            }
        },
        ErrorKind::InvalidSubcommand => {
            format!("unknown command \"{}\" for \"etcdctl\"", context(ContextKind::InvalidSubcommand))
        }
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            format!("flag needs an argument: {flag}")
        }
        ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue);
            let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("invalid argument {value:?} for \"{flag}\" flag: {reason}")
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// What to print below the error: how the command is used, or where to look.
pub fn hint(error: &clap::Error) -> String {
    match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) if error.kind() != ErrorKind::InvalidSubcommand => {
            usage.to_string()
        }
        _ => "Run 'etcdctl --help' for usage.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(line: &str) -> clap::Error {
        let line = std::iter::once("etcdctl").chain(line.split(' '));
        crate::ctl::command().try_get_matches_from(line).unwrap_err()
    }

    #[test]
    fn hints_follow_errors() {
        assert_eq!(hint(&error_of("nosuch")), "Run 'etcdctl --help' for usage.");
        assert_eq!(hint(&error_of("get --nosuch")), "Usage: etcdctl get [options] <key> [range_end]");
    }

    #[test]
    fn errors_are_told_as_etcdctl_does() {
        for (line, expected) in [
            ("get --nosuch a", "unknown flag: --nosuch"),
            ("get --nosuch=1 a", "unknown flag: --nosuch"),
            ("get -x a", "unknown shorthand flag: 'x' in -x"),
            ("put a -5", "unknown shorthand flag: '5' in -5"),
            ("nosuch", "unknown command \"nosuch\" for \"etcdctl\""),
            ("l", "unknown command \"l\" for \"etcdctl\""),
            (
                "get a --limit=x",
                "invalid argument \"x\" for \"--limit\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            ("get a --limit", "flag needs an argument: --limit"),
            (
                "--command-timeout=abc get a",
                "invalid argument \"abc\" for \"--command-timeout\" flag: time: invalid duration \"abc\"",
            ),
            (
                "get a --prefix=maybe",
                "invalid argument \"maybe\" for \"--prefix\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(describe(&error_of(line)), expected);
        }
    }
}
