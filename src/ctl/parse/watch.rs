//! What to watch: from the command line of `watch`, or from a line of `watch -i`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::ArgMatches;

use crate::ctl::flags::{is_on, number_of, words_of};
use crate::ctl::span::{Reach, span};
use crate::ctl::watch;
use crate::proto::etcdserverpb::WatchCreateRequest;

/// A watch: what to ask for, and the command to run for every event, which is empty for none.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchLine {
    /// The request.
    pub request: WatchCreateRequest,
    /// Program and arguments.
    pub command: Vec<OsString>,
}

/// The key from the environment, `ETCDCTL_WATCH_KEY` and `ETCDCTL_WATCH_RANGE_END`.
#[derive(Clone, Debug, Default)]
pub struct WatchKey {
    /// Empty for none.
    pub key: OsString,
    /// Empty for none.
    pub range_end: OsString,
}

/// Why a line is no watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchLineError {
    /// The flags or the number of words are wrong. An interactive watch ends.
    Line(String),
    /// What it asks for makes no sense. An interactive watch goes on.
    Watch(String),
}

/// Reads a line of `watch -i`, cut into words, the first of which is `watch`.
///
/// # Errors
/// What is wrong with it.
pub fn interactive_watch(words: Vec<Vec<u8>>, environment: &WatchKey) -> Result<WatchLine, WatchLineError> {
    let separator_last = words.last().is_some_and(|word| word == b"--");
    let matches = watch::command()
        .args_override_self(true)
        .try_get_matches_from(words.into_iter().map(OsString::from_vec))
        .map_err(|error| WatchLineError::Line(crate::ctl::usage::describe(&error)))?;
    watch_line(&matches, separator_last, environment)
}

/// Reads the parsed command line of `watch`. `separator_last` tells that its last word was `--`.
///
/// # Errors
/// What is wrong with it.
pub fn watch_line(
    matches: &ArgMatches,
    separator_last: bool,
    environment: &WatchKey,
) -> Result<WatchLine, WatchLineError> {
    let line_error = |text: &str| Err(WatchLineError::Line(text.to_owned()));
    let watch_error = |text: &str| Err(WatchLineError::Watch(text.to_owned()));
    let command: Vec<OsString> = matches.get_many("command").unwrap_or_default().cloned().collect();
    if command.is_empty() && separator_last {
        return line_error("bad number of arguments (found separator --, but no commands)");
    }
    let mut words = words_of(matches);
    if !environment.key.is_empty() {
        if !words.is_empty() {
            return line_error("bad number of arguments (found conflicting environment key)");
        }
        words.push(environment.key.as_bytes().to_vec());
        words.extend(Some(environment.range_end.as_bytes().to_vec()).filter(|end| !end.is_empty()));
    }
    if words.is_empty() {
        let text = "bad number of arguments";
        return if command.is_empty() { line_error(text) } else { watch_error(text) };
    }
    let count = words.len();
    let mut words = words.into_iter();
    let key = words.next().unwrap_or_default();
    let reach = match (words.next(), is_on(matches, "prefix")) {
        // More than two words name no range; the others are ignored, as etcdctl does.
        (Some(end), prefix) if count == 2 => {
            if prefix {
                return watch_error("`range_end` and `--prefix` are mutually exclusive");
            }
            Reach::To(end)
        }
        (_, true) => Reach::Prefix,
        (_, false) => Reach::Key,
    };
    let (key, range_end) = span(key, reach);
    let request = WatchCreateRequest {
        key,
        range_end,
        start_revision: number_of(matches, "rev"),
        prev_kv: is_on(matches, "prev-kv"),
        progress_notify: is_on(matches, "progress-notify"),
        ..WatchCreateRequest::default()
    };
    Ok(WatchLine { request, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, key: &str, range_end: &str) -> Result<WatchLine, WatchLineError> {
        let environment = WatchKey { key: key.into(), range_end: range_end.into() };
        interactive_watch(crate::ctl::parse::words(line).unwrap(), &environment)
    }

    fn check(line: &str, environment: (&str, &str), key: &str, range_end: &str, command: &[&str]) {
        let read = read(line, environment.0, environment.1).unwrap();
        assert_eq!(
            (&read.request.key[..], &read.request.range_end[..]),
            (key.as_bytes(), range_end.as_bytes())
        );
        assert_eq!(read.command, command, "{line}");
    }

    #[test]
    fn lines_name_keys_and_commands() {
        check("watch a", ("", ""), "a", "", &[]);
        check("watch a c", ("", ""), "a", "c", &[]);
        check("watch a --prefix", ("", ""), "a", "b", &[]);
        check("watch '' --prefix", ("", ""), "\0", "\0", &[]);
        check("watch a b c", ("", ""), "a", "", &[]);
        check("watch a -- echo a --prefix", ("", ""), "a", "", &["echo", "a", "--prefix"]);
        check("watch a c -- echo -- x", ("", ""), "a", "c", &["echo", "--", "x"]);
        check("watch", ("k", ""), "k", "", &[]);
        check("watch --rev 1 -- echo", ("k", "l"), "k", "l", &["echo"]);
    }

    #[test]
    fn flags_are_kept() {
        let request = read("watch a --rev 7 --prev-kv --progress-notify", "", "").unwrap().request;
        assert_eq!((request.start_revision, request.prev_kv, request.progress_notify), (7, true, true));
    }

    #[test]
    fn wrong_lines_are_refused() {
        let line = |text: &str| WatchLineError::Line(text.to_owned());
        let watch = |text: &str| WatchLineError::Watch(text.to_owned());
        for (text, key, error) in [
            ("watch foo --rev", "", line("flag needs an argument: --rev")),
            ("watch foo --bogus", "", line("unknown flag: --bogus")),
            ("watch foo --", "", line("bad number of arguments (found separator --, but no commands)")),
            ("watch", "", line("bad number of arguments")),
            ("watch -- echo", "", watch("bad number of arguments")),
            ("watch foo", "k", line("bad number of arguments (found conflicting environment key)")),
            ("watch foo bar --prefix", "", watch("`range_end` and `--prefix` are mutually exclusive")),
        ] {
            assert_eq!(read(text, key, "").unwrap_err(), error, "{text}");
        }
    }
}
