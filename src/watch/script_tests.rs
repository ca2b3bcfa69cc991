//! Golden scripts: each file in `testdata` is a list of commands (`> ...`) with the responses that they
//! bring. `REWRITE=1 cargo test` writes what comes now; read the difference before you keep it.
//!
//! ```text
//! put KEY VALUE | delete KEY | txn OP; OP; ...     applied and notified
//! quiet OP; OP                                     applied, not notified yet
//! notify | restore | compact REVISION | catchup    what was quiet; as a snapshot; one step
//! create STREAM KEY [END] [start=] [id=] [denied=] [prev] [progress] [fragment] [noput] [nodelete]
//! open STREAM | close STREAM | cancel STREAM ID | progress STREAM | tick SECONDS
//! drain STREAM | stats | config [budget=] [fragment=] [revisions=]
//! ```

#![expect(clippy::disallowed_methods, reason = "golden scripts are files")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::testing::{Op, Store};
use super::*;
use crate::proto::etcdserverpb::WatchResponse;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::{Event, KeyValue};

struct Script {
    hub: Hub,
    store: Store,
    /// How many of the store's revisions were notified.
    notified: usize,
    taken: BTreeMap<StreamId, usize>,
}

fn hub(options: &BTreeMap<&str, &str>) -> Hub {
    let number = |name: &str, default: usize| options.get(name).map_or(default, |n| n.parse().unwrap());
    let batch = BatchLimits { revisions: number("revisions", 1000), ..BatchLimits::default() };
    let config = HubConfig {
        max_response_bytes: number("fragment", 1 << 21),
        stream_budget_bytes: number("budget", 1 << 20),
        progress_interval: 10 * Now::SECOND,
        batch,
    };
    Hub::new(config, 1)
}

fn op(words: &[&str]) -> Op {
    match words {
        ["put", key, value] => (key.to_string(), Some(value.to_string())),
        ["delete", key] => (key.to_string(), None),
        _ => panic!("no operation: {words:?}"),
    }
}

fn ops(text: &str) -> Vec<Op> {
    text.split(';').map(|part| op(&Vec::from_iter(part.split_whitespace()))).collect()
}

impl Script {
    fn notify(&mut self) {
        self.hub.notify(&self.store.revisions[self.notified..], &self.store).unwrap();
        self.notified = self.store.revisions.len();
    }

    /// Runs one command and returns what it says by itself.
    fn run(&mut self, command: &str) -> String {
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let words = Vec::from_iter(rest.split_whitespace());
        let options: BTreeMap<&str, &str> = words.iter().filter_map(|word| word.split_once('=')).collect();
        let stream = || StreamId(words[0].parse().unwrap());
        match name {
            "config" => self.hub = hub(&options),
            "put" | "delete" | "txn" | "quiet" => {
                let text = if matches!(name, "txn" | "quiet") { rest } else { command };
                self.store.apply(&ops(text));
                if name != "quiet" {
                    self.notify();
                }
            }
            "notify" => self.notify(),
            "restore" => {
                self.hub.restored(&self.store);
                self.notified = self.store.revisions.len();
            }
            "compact" => self.store.compacted = words[0].parse().unwrap(),
            "catchup" => return format!("more={}\n", self.hub.catch_up(&self.store).unwrap()),
            "open" => self.hub.open_stream(stream()),
            "close" => self.hub.close_stream(stream()),
            "create" => {
                let denied = options.get("denied").map(|reason| reason.to_string());
                self.hub.create(stream(), create_request(&words, &options), denied, &self.store);
            }
            "cancel" => self.hub.cancel(stream(), words[1].parse().unwrap()),
            "progress" => self.hub.request_progress(stream()),
            "tick" => self.hub.tick(Now { mono: words[0].parse::<u64>().unwrap() * Now::SECOND, wall: 0 }),
            "drain" => self.hub.drained(stream(), self.taken.remove(&stream()).unwrap_or(0)),
            "stats" => return format!("{:?}\n", self.hub.statistics()),
            _ => panic!("no command: {command}"),
        }
        String::new()
    }

    /// The responses that the hub puts out now, as lines.
    fn output(&mut self) -> String {
        let mut lines = String::new();
        for StreamOutput { stream, responses } in self.hub.take_output() {
            for response in responses {
                *self.taken.entry(stream).or_default() += response_weight(&response);
                writeln!(lines, "{stream}: {}", line(&response)).unwrap();
            }
        }
        lines
    }
}

fn create_request(words: &[&str], options: &BTreeMap<&str, &str>) -> WatchCreateRequest {
    let key = |place: usize| {
        let word = words.get(place).filter(|word| !word.contains('=') && !FLAGS.contains(word));
        Bytes::from(word.map_or(String::new(), |word| word.trim_matches('"').replace("\\0", "\0")))
    };
    let number = |name: &str| options.get(name).map_or(0, |number| number.parse().unwrap());
    let has = |flag: &str| words.contains(&flag);
    let filters = [("noput", FilterType::Noput), ("nodelete", FilterType::Nodelete)];
    // 7 is no filter: it must not matter.
    let filters =
        filters.into_iter().filter(|(flag, _)| has(flag)).map(|(_, filter)| filter as i32).chain([7]);
    WatchCreateRequest {
        key: key(1),
        range_end: key(2),
        start_revision: number("start"),
        watch_id: number("id"),
        progress_notify: has("progress"),
        filters: filters.collect(),
        prev_kv: has("prev"),
        fragment: has("fragment"),
    }
}

const FLAGS: [&str; 5] = ["prev", "progress", "fragment", "noput", "nodelete"];

fn record(kv: &KeyValue) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}={}@{}", text(&kv.key), text(&kv.value), kv.mod_revision)
}

fn line(response: &WatchResponse) -> String {
    let header = response.header.as_ref().unwrap();
    let mut line = format!("id={} revision={}", response.watch_id, header.revision);
    let flags =
        [("created", response.created), ("canceled", response.canceled), ("fragment", response.fragment)];
    for (flag, _) in flags.iter().filter(|(_, set)| *set) {
        write!(line, " {flag}").unwrap();
    }
    if response.compact_revision != 0 {
        write!(line, " compact_revision={}", response.compact_revision).unwrap();
    }
    if !response.cancel_reason.is_empty() {
        write!(line, " reason={:?}", response.cancel_reason).unwrap();
    }
    for event in &response.events {
        let Event { r#type, kv, prev_kv } = event.decode().unwrap();
        let kv = kv.unwrap().decode().unwrap();
        let kind = if r#type == 0 { "put" } else { "delete" };
        write!(line, " [{kind} {}", record(&kv)).unwrap();
        if let Some(previous) = prev_kv {
            write!(line, " was {}", record(&previous.decode().unwrap())).unwrap();
        }
        line.push(']');
    }
    line
}

/// Runs the script in `testdata/NAME.txt`: the output must be the one in the file.
fn check(name: &str) {
    let path = Path::new(file!()).with_file_name(format!("testdata/{name}.txt"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let expected = std::fs::read_to_string(&path).unwrap();
    let mut script =
        Script { hub: hub(&BTreeMap::new()), store: Store::default(), notified: 0, taken: BTreeMap::new() };
    let mut actual = String::new();
    for line in expected.lines().filter(|line| line.is_empty() || line.starts_with(['#', '>'])) {
        writeln!(actual, "{line}").unwrap();
        if let Some(command) = line.strip_prefix("> ") {
            let said = script.run(command);
            let responses = script.output();
            actual.push_str(&responses);
            actual.push_str(&said);
        }
    }
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, actual).unwrap();
    } else {
        assert_eq!(actual, expected, "{}", path.display());
    }
}

macro_rules! scripts {
    ($($name:ident)*) => { $(#[test] fn $name() { check(stringify!($name)); })* };
}

scripts! { create cancel events fragments catch_up compaction progress slow_stream restore }
