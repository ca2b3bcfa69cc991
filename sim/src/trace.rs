//! What happened in a run, event by event: the log for people, the source of the report, and the hash by
//! which two runs of one seed are compared.
//!
//! A line holds simulated time, a number, a member and plain values: no address, no task id, no time of
//! this machine. Events are kept only when somebody will read them; the hash and the counts are always
//! made, and cost no formatting.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::history::{MemberNumber, Time};

/// One event.
#[derive(Clone, Debug, Hash, Serialize)]
pub struct Event {
    /// Its number, from 0.
    pub number: u64,
    /// When it happened.
    pub at: Time,
    /// The member that it happened to, 0 when it is none's.
    pub member: MemberNumber,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum What {
    /// A message left `member` for a peer. `arrives` says when, unless its fate is to be lost.
    Message { to: MemberNumber, message: &'static str, term: u64, index: u64, fate: Fate, arrives: Time },
    /// A snapshot of `index` went from `member` to a peer, and how that ended.
    Snapshot { to: MemberNumber, index: u64, ok: bool },
    /// The member has a new role, term or leader.
    Role { role: &'static str, term: u64, leader: MemberNumber },
    /// The member's published state moved.
    Progress { commit: u64, applied: u64, revision: i64 },
    /// Something happened to connections from `member` to another, or along that path; 0 is a client.
    Connection { to: MemberNumber, change: &'static str, connections: usize },
    /// The member wrote to or synced a file.
    Disk { action: DiskAction, file: String, offset: u64, bytes: u64 },
    /// The member started, stopped, was killed, lost power, was paused or goes on. The report takes from
    /// the first of these words in the text whether the member is up, down or paused.
    Life { change: String },
    /// A client began a call. `text` says what, on one line.
    Call { operation: usize, client: u32, text: String },
    /// A client heard of a call's outcome: `good`, `failed` or `unknown`. `revision` and `index` link it to
    /// the history, 0 when that is not known.
    Return { operation: usize, client: u32, outcome: &'static str, text: String, revision: i64, index: u64 },
    /// A client said (`heard` is false) or heard something on a watch stream.
    Watch { stream: usize, client: u32, heard: bool, watcher: i64, revision: i64, text: String },
    /// A fault began; it ends at `until`, 0 when it has no end of its own.
    Fault { fault: usize, text: String, until: Time },
    /// The run entered another phase.
    Phase { name: &'static str },
    /// A rare path was reached.
    Marker { name: &'static str },
    /// A claim does not hold.
    Violation { claim: &'static str, text: String, operations: Vec<usize> },
}

/// What the network does with a message.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Fate {
    Delivered,
    Lost,
    Duplicated,
    Replayed,
    Delayed,
}

/// What happened on a disk.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum DiskAction {
    Write,
    Sync,
    SyncFolder,
    SetLength,
    Rename,
    Remove,
    Failed,
    Damaged,
    Cut,
}

/// The trace of one run. Clones write to the same one.
#[derive(Clone, Default)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    keep: bool,
    print: bool,
    number: u64,
    hash: DefaultHasher,
    events: Vec<Event>,
    markers: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// A trace that keeps its events, or only their hash; and prints each, or does not.
    pub fn new(keep: bool, print: bool) -> Self {
        let trace = Self::default();
        {
            let mut inner = trace.lock();
            inner.keep = keep;
            inner.print = print;
        }
        trace
    }

    /// Whether events are looked at: a text that is only for people need not be made otherwise. It must
    /// then be left empty, so that the hash does not depend on who looks.
    pub fn is_read(&self) -> bool {
        let inner = self.lock();
        inner.keep || inner.print
    }

    /// Notes an event. Texts are not hashed: see [`Trace::is_read`].
    pub fn note(&self, at: Time, member: MemberNumber, what: What) {
        let mut inner = self.lock();
        let number = inner.number;
        inner.number += 1;
        (number, at, member).hash(&mut inner.hash);
        what.hash_values(&mut inner.hash);
        if inner.keep || inner.print {
            let event = Event { number, at, member, what };
            if inner.print {
                println!("{event}");
            }
            if inner.keep {
                inner.events.push(event);
            }
        }
    }

    /// Counts that a rare path was reached, and notes it.
    pub fn mark(&self, at: Time, member: MemberNumber, name: &'static str) {
        self.mark_times(at, member, name, 1);
    }

    /// Counts that a rare path was reached so many times, and notes it once.
    pub fn mark_times(&self, at: Time, member: MemberNumber, name: &'static str, times: u64) {
        *self.lock().markers.entry(name).or_default() += times;
        self.note(at, member, What::Marker { name });
    }

    /// How often a rare path was reached.
    pub fn times(&self, marker: &str) -> u64 {
        self.lock().markers.get(marker).copied().unwrap_or_default()
    }

    /// How often each rare path was reached.
    pub fn markers(&self) -> BTreeMap<&'static str, u64> {
        self.lock().markers.clone()
    }

    /// Adds to the kept answer of each operation which entry of the log carried it out, and to what revision.
    /// Only the end of a run tells; nothing of it is hashed.
    pub fn link(&self, placed: &BTreeMap<usize, (u64, i64)>) {
        for event in &mut self.lock().events {
            if let What::Return { operation, index, revision, .. } = &mut event.what
                && let Some(place) = placed.get(operation)
            {
                (*index, *revision) = *place;
            }
        }
    }

    /// Number of events so far.
    pub fn count(&self) -> u64 {
        self.lock().number
    }

    /// A number that two runs share only when they had the same events.
    pub fn hash(&self) -> u64 {
        self.lock().hash.finish()
    }

    /// The events that were kept.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl What {
    /// Hashes everything but the texts for people.
    fn hash_values(&self, hasher: &mut DefaultHasher) {
        std::mem::discriminant(self).hash(hasher);
        match self {
            What::Message { to, message, term, index, fate, arrives } => {
                (to, message, term, index, fate, arrives).hash(hasher);
            }
            What::Snapshot { to, index, ok } => (to, index, ok).hash(hasher),
            What::Role { role, term, leader } => (role, term, leader).hash(hasher),
            What::Progress { commit, applied, revision } => (commit, applied, revision).hash(hasher),
            What::Connection { to, change, connections } => (to, change, connections).hash(hasher),
            What::Disk { action, file, offset, bytes } => (action, file, offset, bytes).hash(hasher),
            What::Life { change } => change.hash(hasher),
            What::Call { operation, client, text: _ } => (operation, client).hash(hasher),
            What::Return { operation, client, outcome, text: _, revision, index } => {
                (operation, client, outcome, revision, index).hash(hasher);
            }
            What::Watch { stream, client, heard, watcher, revision, text: _ } => {
                (stream, client, heard, watcher, revision).hash(hasher);
            }
            What::Fault { fault, text: _, until } => (fault, until).hash(hasher),
            What::Phase { name } | What::Marker { name } => name.hash(hasher),
            What::Violation { claim, text: _, operations } => (claim, operations).hash(hasher),
        }
    }
}

impl Fate {
    /// Its name in a line.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Delivered => "delivered",
            Fate::Lost => "lost",
            Fate::Duplicated => "duplicated",
            Fate::Replayed => "replayed",
            Fate::Delayed => "delayed",
        }
    }
}

impl DiskAction {
    /// Its name in a line.
    pub fn name(self) -> &'static str {
        match self {
            DiskAction::Write => "write",
            DiskAction::Sync => "sync",
            DiskAction::SyncFolder => "sync folder",
            DiskAction::SetLength => "set length",
            DiskAction::Rename => "rename",
            DiskAction::Remove => "remove",
            DiskAction::Failed => "failed",
            DiskAction::Damaged => "damaged",
            DiskAction::Cut => "cut",
        }
    }
}

impl What {
    /// The word in the third column of a line. What a reader looks for first is in capitals.
    pub fn heading(&self) -> &'static str {
        match self {
            What::Message { .. } => "message",
            What::Snapshot { .. } => "snapshot",
            What::Connection { .. } => "network",
            What::Role { .. } => "role",
            What::Progress { .. } => "progress",
            What::Disk { .. } => "disk",
            What::Life { .. } => "life",
            What::Call { .. } => "call",
            What::Return { .. } => "return",
            What::Watch { .. } => "watch",
            What::Fault { .. } => "FAULT",
            What::Phase { .. } => "PHASE",
            What::Marker { .. } => "marker",
            What::Violation { .. } => "VIOLATED",
        }
    }
}

/// One line in columns: seconds, number, member, heading, and what happened. The page of a run
/// ([`crate::report`]) says the same words: its test compares them.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanoseconds) = (self.at / 1_000_000_000, self.at % 1_000_000_000);
        write!(f, "{seconds:>4}.{nanoseconds:09} {:>7} ", self.number)?;
        match self.member {
            0 => write!(f, "--   ")?,
            member => write!(f, "m{member:<3} ")?,
        }
        write!(f, "{:<8} ", self.what.heading())?;
        match &self.what {
            What::Message { to, message, term, index, fate, arrives } => {
                write!(f, "{message} to m{to}, term {term}, index {index}: {}", fate.name())?;
                if *arrives > 0 {
                    write!(f, " after {} us", arrives.saturating_sub(self.at) / 1000)?;
                }
                Ok(())
            }
            What::Snapshot { to, index, ok } => {
                write!(f, "of index {index} to m{to}: {}", if *ok { "arrived" } else { "failed" })
            }
            What::Role { role, term, leader } => match leader {
                0 => write!(f, "{role} in term {term}, no leader"),
                leader => write!(f, "{role} in term {term}, leader m{leader}"),
            },
            What::Progress { commit, applied, revision } => {
                write!(f, "commit {commit}, applied {applied}, revision {revision}")
            }
            What::Connection { to: 0, change, connections } => {
                write!(f, "{change}, to clients: {connections}")
            }
            What::Connection { to, change, connections } => write!(f, "{change}, to m{to}: {connections}"),
            What::Disk { action, file, offset, bytes } => {
                write!(f, "{} {file} at {offset}, {bytes} bytes", action.name())
            }
            What::Life { change } => write!(f, "{change}"),
            What::Call { operation, client, text } => write!(f, "c{client} #{operation}: {text}"),
            What::Return { operation, client, outcome, text, revision, index } => {
                write!(f, "c{client} #{operation} {outcome}: {text} (revision {revision}, index {index})")
            }
            What::Watch { stream, client, heard, watcher, revision, text } => {
                let verb = if *heard { "hears" } else { "says" };
                write!(f, "c{client} {verb} on w{stream}/{watcher} at revision {revision}: {text}")
            }
            What::Fault { fault, text, until } => match until {
                0 => write!(f, "{fault}: {text}"),
                until => write!(f, "{fault}: {text}, until {} ms", until / 1_000_000),
            },
            What::Phase { name } | What::Marker { name } => write!(f, "{name}"),
            What::Violation { claim, text, operations } => write!(f, "{claim}: {text} {operations:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: u64, at: Time, member: MemberNumber, what: What, expected: &str) {
        assert_eq!(Event { number, at, member, what }.to_string(), expected);
    }

    #[test]
    fn a_line_has_columns() {
        let append = What::Message {
            to: 2,
            message: "Append",
            term: 3,
            index: 14,
            fate: Fate::Delayed,
            arrives: 1_234_967_890,
        };
        let expected =
            "   1.234567890      12 m1   message  Append to m2, term 3, index 14: delayed after 400 us";
        check(12, 1_234_567_890, 1, append, expected);
        let role = What::Role { role: "candidate", term: 4, leader: 0 };
        check(
            1_234_567,
            60_000_000_007,
            12,
            role,
            "  60.000000007 1234567 m12  role     candidate in term 4, no leader",
        );
        let fault = What::Fault { fault: 3, text: "pause m1".to_owned(), until: 2_000_000_000 };
        check(0, 0, 0, fault, "   0.000000000       0 --   FAULT    3: pause m1, until 2000 ms");
        let claim =
            What::Violation { claim: "one-leader", text: "m1 and m2".to_owned(), operations: vec![4, 5] };
        check(7, 5, 0, claim, "   0.000000005       7 --   VIOLATED one-leader: m1 and m2 [4, 5]");
    }
}
