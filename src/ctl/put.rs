//! `put`.

use std::io::Read;

use clap::{ArgMatches, Command};

use super::failure::Failure;
use super::flags::{is_on, switch, text, text_of, words, words_of};
use super::golang::parse_int;
use super::output::Answer;
use super::session::Session;
use crate::proto::etcdserverpb::PutRequest;

/// The command line of `put`.
pub fn command() -> Command {
    Command::new("put")
        .about("Writes a key")
        .override_usage("etcdctl put [options] <key> [value]")
        .after_help(
            "Without a value, standard input is the value. Put -- before a value that begins with a dash.",
        )
        .args([
            text("lease", "0", "lease that the key is attached to, in hexadecimal"),
            switch("prev-kv", "print the key-value from before"),
            switch("ignore-value", "keep the key's value"),
            switch("ignore-lease", "keep the key's lease"),
            words(),
        ])
}

/// Runs `put`.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let request = request(matches, &mut std::io::stdin())?;
    let session = Session::open(matches)?;
    session.admit(&request)?;
    let call = |clients: super::session::Clients| async move { clients.kv().put(request).await };
    session.print(&Answer::Put(session.write(session.limit(), call).await?))
}

/// The request of a command line; `stdin` holds the value if the line does not.
///
/// # Errors
/// When there is no value or too many, or the lease id is none.
pub fn request(matches: &ArgMatches, stdin: &mut dyn Read) -> Result<PutRequest, Failure> {
    let missing = || Failure::arguments("put command needs 1 argument and input from stdin or 2 arguments");
    let ignore_value = is_on(matches, "ignore-value");
    let mut words = words_of(matches).into_iter();
    let key = words.next().ok_or_else(missing)?;
    let value = match (ignore_value, words.next()) {
        (true, None) => Vec::new(),
        (true, Some(_)) => {
            let message = "put command needs only 1 argument when 'ignore-value' is set";
            return Err(Failure::arguments(message));
        }
        (false, Some(value)) => value,
        (false, None) => {
            let mut value = Vec::new();
            stdin.read_to_end(&mut value).map_err(|_| missing())?;
            if value.is_empty() {
                return Err(missing());
            }
            value
        }
    };
    let lease = parse_int(text_of(matches, "lease"), 16)
        .map_err(|error| Failure::arguments(format!("bad lease ID ({error}), expecting ID in Hex")))?;
    Ok(PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        prev_kv: is_on(matches, "prev-kv"),
        ignore_value,
        ignore_lease: is_on(matches, "ignore-lease"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str], stdin: &str) -> Result<PutRequest, Failure> {
        let matches = command().args_override_self(true).get_matches_from([&["put"], line].concat());
        request(&matches, &mut stdin.as_bytes())
    }

    fn check_failure(line: &[&str], message: &str) {
        assert_eq!(parse(line, "").unwrap_err(), Failure::arguments(message));
    }

    #[test]
    fn words_become_a_request() {
        let put = |key: &'static str, value: &'static str| PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        };
        assert_eq!(parse(&["k", "v"], "unused"), Ok(put("k", "v")));
        assert_eq!(parse(&["k"], "from stdin\n"), Ok(put("k", "from stdin\n")));
        assert_eq!(parse(&["k", ""], ""), Ok(put("k", "")));
        assert_eq!(parse(&["k", "--", "-5"], ""), Ok(put("k", "-5")));
        let leased = PutRequest { lease: 0x7b, prev_kv: true, ..put("k", "v") };
        assert_eq!(parse(&["k", "--lease=7b", "--prev-kv", "v"], ""), Ok(leased));
        let kept = PutRequest { ignore_value: true, ignore_lease: true, ..put("k", "") };
        assert_eq!(parse(&["k", "--ignore-value", "--ignore-lease"], "unused"), Ok(kept));
    }

    #[test]
    fn wrong_words_are_refused() {
        let missing = "put command needs 1 argument and input from stdin or 2 arguments";
        check_failure(&[], missing);
        check_failure(&["k"], missing);
        let extra = "put command needs only 1 argument when 'ignore-value' is set";
        check_failure(&["k", "v", "--ignore-value"], extra);
        check_failure(
            &["k", "v", "--lease", "zz"],
            "bad lease ID (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex",
        );
    }
}
