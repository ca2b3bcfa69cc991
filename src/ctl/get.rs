//! `get`.

use clap::{ArgMatches, Command};
use tonic::{Response, Status};

use super::failure::{Exit, Failure};
use super::flags::{is_on, is_serializable, number, number_of, switch, text, text_of, words, words_of};
use super::output::{Answer, Format};
use super::session::{Clients, Session};
use super::span::{Reach, span};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};

/// The command line of `get`.
pub fn command() -> Command {
    Command::new("get")
        .about("Reads a key or a range of keys")
        .override_usage("etcdctl get [options] <key> [range_end]")
        .args([
            text("consistency", "l", "l: linearizable, s: serializable (may be stale)"),
            text("order", "", "order of the keys: ASCEND or DESCEND"),
            text("sort-by", "", "what to order by: CREATE, KEY, MODIFY, VALUE or VERSION"),
            number("limit", "largest number of keys to print"),
            switch("prefix", "read all keys that begin with the key"),
            switch("from-key", "read all keys from the key on"),
            number("rev", "read the state at this revision"),
            switch("keys-only", "print no values"),
            switch("count-only", "print only how many there are (with --write-out=fields)"),
            switch("print-value-only", "print no keys (with --write-out=simple)"),
            number("min-create-rev", "leave out keys created before this revision"),
            number("max-create-rev", "leave out keys created after this revision"),
            number("min-mod-rev", "leave out keys changed before this revision"),
            number("max-mod-rev", "leave out keys changed after this revision"),
            switch("stream", "have the answer sent in parts"),
            words(),
        ])
}

/// Runs `get`.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let request = request(matches)?;
    let session = Session::open(matches)?;
    let streamed = is_on(matches, "stream");
    let call = |clients: Clients| {
        let request = request.clone();
        async move {
            if streamed { range_stream(clients, request).await } else { clients.kv().range(request).await }
        }
    };
    let response = session.read(session.limit(), call).await?;
    let format = session.settings().format;
    if is_on(matches, "count-only") && format != Format::Fields {
        return Err(Failure::arguments("--count-only is only for `--write-out=fields`"));
    }
    let values_only = is_on(matches, "print-value-only");
    if values_only && format != Format::Simple {
        return Err(Failure::arguments("print-value-only is only for `--write-out=simple`"));
    }
    session.print(&Answer::Get { response, values_only })
}

/// The parts of a streamed answer, put together.
async fn range_stream(clients: Clients, request: RangeRequest) -> Result<Response<RangeResponse>, Status> {
    let mut parts = clients.kv().range_stream(request).await?.into_inner();
    let mut whole = RangeResponse::default();
    while let Some(part) = parts.message().await? {
        let part = part.range_response.unwrap_or_default();
        whole.kvs.extend(part.kvs);
        whole.header = part.header.or(whole.header);
        whole.more |= part.more;
        whole.count = whole.count.max(part.count);
    }
    Ok(Response::new(whole))
}

/// The request of a command line.
///
/// # Errors
/// When options contradict each other or have a value that is none.
pub fn request(matches: &ArgMatches) -> Result<RangeRequest, Failure> {
    let mut words = words_of(matches).into_iter();
    let key = words.next().ok_or_else(|| {
        Failure::arguments("get command needs one argument as key and an optional argument as range_end")
    })?;
    let (prefix, from_key) = (is_on(matches, "prefix"), is_on(matches, "from-key"));
    let (keys_only, count_only) = (is_on(matches, "keys-only"), is_on(matches, "count-only"));
    exclusive("--prefix", prefix, "--from-key", from_key)?;
    exclusive("--keys-only", keys_only, "--count-only", count_only)?;
    let serializable = is_serializable(matches)?;
    let reach = reach(words.next(), prefix, from_key)?;
    let (sort_target, sort_order) = sort(text_of(matches, "sort-by"), text_of(matches, "order"))?;
    let (min_create_revision, max_create_revision) = bounds(matches, "Create", "create")?;
    let (min_mod_revision, max_mod_revision) = bounds(matches, "Mod", "mod")?;
    let (key, range_end) = span(key, reach);
    Ok(RangeRequest {
        key,
        range_end,
        limit: number_of(matches, "limit"),
        revision: number_of(matches, "rev").max(0),
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only,
        count_only,
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
    })
}

/// Refuses two switches that are both on.
///
/// # Errors
/// That is the refusal.
pub fn exclusive(one: &str, one_on: bool, other: &str, other_on: bool) -> Result<(), Failure> {
    if one_on && other_on {
        let message = format!("`{one}` and `{other}` cannot be set at the same time, choose one");
        return Err(Failure::arguments(message));
    }
    Ok(())
}

/// How far the key reaches, from the second word and the switches.
///
/// # Errors
/// When there is a second word as well as a switch.
pub fn reach(end: Option<Vec<u8>>, prefix: bool, from_key: bool) -> Result<Reach, Failure> {
    match (end, prefix, from_key) {
        (Some(_), true, _) | (Some(_), _, true) => Err(Failure::arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        )),
        (Some(end), ..) => Ok(Reach::To(end)),
        (None, true, _) => Ok(Reach::Prefix),
        (None, _, true) => Ok(Reach::From),
        (None, ..) => Ok(Reach::Key),
    }
}

fn sort(target: &str, order: &str) -> Result<(SortTarget, SortOrder), Failure> {
    let bad = |what: &str, value: &str| Failure::new(Exit::BadFeature, format!("bad sort {what} {value}"));
    let sort_order = match order.to_ascii_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(bad("order", order)),
    };
    let sort_target = match target.to_ascii_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(bad("target", target)),
    };
    match (sort_target, sort_order) {
        // Answers come in ascending order of keys anyway; asked for it, a server may read everything
        // before it looks at the limit.
        (SortTarget::Key, SortOrder::Ascend) => Ok((SortTarget::Key, SortOrder::None)),
        sort => Ok(sort),
    }
}

/// The bounds of one kind of revision.
fn bounds(matches: &ArgMatches, name: &str, flag: &str) -> Result<(i64, i64), Failure> {
    let of = |bound: &str| number_of(matches, &format!("{bound}-{flag}-rev"));
    let (min, max) = (of("min"), of("max"));
    if max > 0 && min > max {
        let message = format!("getMin{name}Rev(={min}) > getMax{name}Rev(={max})");
        return Err(Failure::new(Exit::BadFeature, message));
    }
    Ok((min.max(0), max.max(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RangeRequest, Failure> {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(|word| word.trim_matches('\''));
        let matches =
            command().args_override_self(true).get_matches_from(std::iter::once("get").chain(words));
        request(&matches)
    }

    fn get(key: &'static str, range_end: &'static str) -> RangeRequest {
        RangeRequest { key: key.into(), range_end: range_end.into(), ..RangeRequest::default() }
    }

    fn check_failure(line: &str, exit: Exit, message: &str) {
        assert_eq!(parse(line).unwrap_err(), Failure::new(exit, message));
    }

    #[test]
    fn words_become_a_request() {
        assert_eq!(parse("a"), Ok(get("a", "")));
        assert_eq!(parse("a c ignored"), Ok(get("a", "c")));
        assert_eq!(parse("a --prefix"), Ok(get("a", "b")));
        assert_eq!(parse("'' --prefix"), Ok(get("\0", "\0")));
        assert_eq!(parse("'' --from-key"), Ok(get("\0", "\0")));
        let limited =
            RangeRequest { limit: 5, revision: 7, serializable: true, keys_only: true, ..get("a", "") };
        assert_eq!(parse("a --limit 5 --rev=7 --consistency s --keys-only"), Ok(limited));
        assert_eq!(parse("a --rev -7 --min-mod-rev -1"), Ok(get("a", "")));
    }

    #[test]
    fn sorting_by_key_upwards_is_no_sorting() {
        let order = |line: &str| parse(line).map(|request| (request.sort_target(), request.sort_order()));
        assert_eq!(order("a --order ascend"), Ok((SortTarget::Key, SortOrder::None)));
        assert_eq!(order("a --order descend"), Ok((SortTarget::Key, SortOrder::Descend)));
        assert_eq!(order("a --sort-by Modify --order ASCEND"), Ok((SortTarget::Mod, SortOrder::Ascend)));
        assert_eq!(order("a --sort-by version"), Ok((SortTarget::Version, SortOrder::None)));
    }

    #[test]
    fn contradictions_are_refused() {
        let arguments = Exit::BadArguments;
        check_failure(
            "",
            arguments,
            "get command needs one argument as key and an optional argument as range_end",
        );
        check_failure(
            "a --prefix --from-key",
            arguments,
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        );
        check_failure(
            "a --keys-only --count-only",
            arguments,
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        );
        check_failure(
            "a b --prefix",
            arguments,
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        );
        check_failure("a --order foo", Exit::BadFeature, "bad sort order foo");
        check_failure("a --sort-by foo", Exit::BadFeature, "bad sort target foo");
        check_failure("a --consistency q", Exit::BadFeature, "unknown consistency flag \"q\"");
        check_failure(
            "a --min-create-rev 5 --max-create-rev 2",
            Exit::BadFeature,
            "getMinCreateRev(=5) > getMaxCreateRev(=2)",
        );
    }
}
