//! `del`.

use std::time::Duration;

use clap::{ArgMatches, Command};

use super::failure::Failure;
use super::flags::{is_on, switch, words, words_of};
use super::get::{exclusive, reach};
use super::golang::quote;
use super::output::Answer;
use super::session::{Clients, Session};
use super::span::span;
use crate::proto::etcdserverpb::DeleteRangeRequest;
use crate::rt;

/// How long the user has to think twice about deleting a range.
pub const SECOND_THOUGHT: Duration = Duration::from_secs(2);

/// The command line of `del`.
pub fn command() -> Command {
    Command::new("del")
        .about("Deletes a key or a range of keys")
        .override_usage("etcdctl del [options] <key> [range_end]")
        .args([
            switch("prefix", "delete all keys that begin with the key"),
            switch("prev-kv", "print the deleted key-values"),
            switch("from-key", "delete all keys from the key on"),
            switch("range", "delete a range without waiting for second thoughts"),
            words(),
        ])
}

/// Runs `del`.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (request, warning) = request(matches)?;
    if let Some(warning) = warning {
        eprintln!("{warning}");
        rt::sleep(SECOND_THOUGHT).await;
    }
    let session = Session::open(matches)?;
    let call = |clients: Clients| async move { clients.kv().delete_range(request).await };
    session.print(&Answer::Delete(session.write(session.limit(), call).await?))
}

/// The request of a command line, and the warning to print before waiting [`SECOND_THOUGHT`].
///
/// # Errors
/// When there are too few or too many words.
pub fn request(matches: &ArgMatches) -> Result<(DeleteRangeRequest, Option<String>), Failure> {
    let (key, end) = match <[Vec<u8>; 2]>::try_from(words_of(matches)) {
        Ok([key, end]) => (key, Some(end)),
        Err(words) => match <[Vec<u8>; 1]>::try_from(words) {
            Ok([key]) => (key, None),
            Err(_) => {
                return Err(Failure::arguments(
                    "del command needs one argument as key and an optional argument as range_end",
                ));
            }
        },
    };
    let (prefix, from_key) = (is_on(matches, "prefix"), is_on(matches, "from-key"));
    exclusive("--prefix", prefix, "--from-key", from_key)?;
    let warning = end.as_ref().filter(|_| !is_on(matches, "range")).map(|end| {
        format!(
            "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next 2 \
             seconds to cancel. You can provide `--range` flag to avoid the delay.",
            quote(&key),
            quote(end)
        )
    });
    let (key, range_end) = span(key, reach(end, prefix, from_key)?);
    Ok((DeleteRangeRequest { key, range_end, prev_kv: is_on(matches, "prev-kv") }, warning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(DeleteRangeRequest, bool), Failure> {
        let line = std::iter::once("del").chain(line.split(' ').filter(|word| !word.is_empty()));
        let matches = command().args_override_self(true).get_matches_from(line);
        request(&matches).map(|(request, warning)| (request, warning.is_some()))
    }

    fn del(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
        DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false }
    }

    #[test]
    fn words_become_a_request() {
        assert_eq!(parse("a"), Ok((del("a", ""), false)));
        assert_eq!(parse("a c"), Ok((del("a", "c"), true)));
        assert_eq!(parse("a c --range"), Ok((del("a", "c"), false)));
        assert_eq!(parse("a --prefix"), Ok((del("a", "b"), false)));
        assert_eq!(parse("a --from-key"), Ok((del("a", "\0"), false)));
        assert_eq!(parse("a --prev-kv"), Ok((DeleteRangeRequest { prev_kv: true, ..del("a", "") }, false)));
    }

    #[test]
    fn wrong_words_are_refused() {
        for line in ["", "a b c", "a b --prefix", "a --prefix --from-key"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
