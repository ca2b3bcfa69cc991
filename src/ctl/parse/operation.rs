//! An operation of a transaction: a `put`, `get` or `del` with its normal flags.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{ArgMatches, Command};

use crate::ctl::failure::{Exit, Failure};
use crate::ctl::{del, get, put};
use crate::proto::etcdserverpb::RequestOp;
use crate::proto::etcdserverpb::request_op::Request;

/// Reads an operation, and the warning that its command would print.
///
/// # Errors
/// When the line is none; with the exit code of the command when its words are wrong.
pub fn operation(line: &str) -> Result<(RequestOp, Option<String>), Failure> {
    let invalid = |message: String| Failure::new(Exit::InvalidInput, message);
    let words = super::words(line).map_err(invalid)?;
    if words.len() < 2 {
        return Err(invalid(format!("invalid txn compare request: {line}")));
    }
    let matches = matches(words).ok_or_else(|| invalid(format!("invalid txn request: {line}")))?;
    let (request, warning) = match matches.subcommand() {
        // Standard input holds the transaction, so a value must be in the line.
        Some(("put", matches)) => (Request::RequestPut(put::request(matches, &mut std::io::empty())?), None),
        Some(("get", matches)) => (Request::RequestRange(get::request(matches)?), None),
        Some(("del", matches)) => {
            let (request, warning) = del::request(matches)?;
            (Request::RequestDeleteRange(request), warning)
        }
        _ => return Err(invalid(format!("invalid txn request: {line}"))),
    };
    Ok((RequestOp { request: Some(request) }, warning))
}

fn matches(words: Vec<Vec<u8>>) -> Option<ArgMatches> {
    Command::new("operation")
        .no_binary_name(true)
        .infer_subcommands(true)
        .args_override_self(true)
        .subcommands([put::command(), get::command(), del::command()])
        .try_get_matches_from(words.into_iter().map(OsString::from_vec))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

    fn check(line: &str, expected: Request, warned: bool) {
        let (operation, warning) = operation(line).unwrap();
        assert_eq!(operation.request, Some(expected), "{line}");
        assert_eq!(warning.is_some(), warned, "{line}");
    }

    #[test]
    fn operations_are_read() {
        let put = PutRequest { key: "a".into(), value: "b c".into(), prev_kv: true, ..Default::default() };
        check(r#"put a "b c" --prev-kv"#, Request::RequestPut(put), false);
        let get = RangeRequest { key: "a".into(), range_end: "b".into(), limit: 3, ..Default::default() };
        check("get a --prefix --limit 3", Request::RequestRange(get), false);
        let del = DeleteRangeRequest { key: "a".into(), range_end: "c".into(), prev_kv: false };
        check("del a c", Request::RequestDeleteRange(del.clone()), true);
        check("de a c --range", Request::RequestDeleteRange(del), false);
    }

    #[test]
    fn other_lines_are_refused() {
        for (line, exit, message) in [
            ("put", Exit::InvalidInput, "invalid txn compare request: put"),
            ("bogus a", Exit::InvalidInput, "invalid txn request: bogus a"),
            ("get a --limit x", Exit::InvalidInput, "invalid txn request: get a --limit x"),
            (r#"put a "\q""#, Exit::InvalidInput, "invalid syntax"),
            ("put a", Exit::BadArguments, "put command needs 1 argument and input from stdin or 2 arguments"),
            ("get a --order x", Exit::BadFeature, "bad sort order x"),
        ] {
            assert_eq!(operation(line).unwrap_err(), Failure::new(exit, message));
        }
    }
}
