//! Writes the history down while it happens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::v3electionpb as election;

use super::generate::describe;
use crate::clock::true_time;
use crate::history::{
    Answer, Failure, MemberNumber, Observation, Operation, Outcome, Request, Stream, Word, key_text,
};
use crate::trace::{Trace, What};

/// In the trace observers of elections are streams with numbers from here on.
const FIRST_OBSERVER: usize = 10_000;

/// The history of a run. Clones write to the same one.
#[derive(Clone)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

#[derive(Default)]
struct State {
    operations: Vec<Operation>,
    streams: Vec<Stream>,
    observations: Vec<Observation>,
    answered: u64,
    open: u64,
    overlapped: bool,
}

impl Recorder {
    /// An empty history.
    pub fn new(trace: Trace) -> Self {
        Self { state: Arc::default(), trace }
    }

    /// A call begins. Gives its number.
    pub fn called(&self, client: u32, member: MemberNumber, request: Request) -> usize {
        let now = true_time();
        let text = if self.trace.is_read() { describe(&request) } else { String::new() };
        let number = {
            let mut state = self.lock();
            let number = state.operations.len();
            state.open += 1;
            state.overlapped |= state.open > 1;
            let outcome = Outcome::Open;
            state.operations.push(Operation {
                number,
                client,
                member,
                called: now,
                returned: None,
                request,
                outcome,
            });
            number
        };
        self.trace.note(now, member, What::Call { operation: number, client, text });
        number
    }

    /// A call's outcome.
    pub fn returned(&self, number: usize, outcome: Outcome) {
        let now = true_time();
        let (kind, revision, text) = match &outcome {
            Outcome::Open => ("open", 0, String::new()),
            Outcome::Answered(answer) => {
                let text = if self.trace.is_read() { describe_answer(answer) } else { String::new() };
                ("good", revision(answer), text)
            }
            Outcome::Failed(failure) => ("failed", 0, failure_text(failure)),
            Outcome::Unknown(failure) => ("unknown", 0, failure_text(failure)),
        };
        let (client, member) = {
            let mut state = self.lock();
            state.open -= 1;
            state.answered += u64::from(matches!(outcome, Outcome::Answered(_)));
            let operation = &mut state.operations[number];
            operation.returned = Some(now);
            operation.outcome = outcome;
            (operation.client, operation.member)
        };
        let event = What::Return { operation: number, client, outcome: kind, text, revision, index: 0 };
        self.trace.note(now, member, event);
    }

    /// A stream opens. Gives its number.
    pub fn opened(&self, client: u32, member: MemberNumber) -> usize {
        let mut state = self.lock();
        let number = state.streams.len();
        state.streams.push(Stream { number, client, member, words: Vec::new() });
        number
    }

    /// A word on a stream.
    pub fn word(&self, stream: usize, word: Word) {
        let now = true_time();
        let (client, member) = {
            let mut state = self.lock();
            let stream = &mut state.streams[stream];
            stream.words.push((now, word.clone()));
            (stream.client, stream.member)
        };
        let (heard, watcher, revision, text) = match &word {
            Word::Said(request) => (false, 0, 0, self.text(|| said_text(request))),
            Word::Heard(response) => {
                let revision = response.header.as_ref().map_or(0, |header| header.revision);
                (true, response.watch_id, revision, self.text(|| heard_text(response)))
            }
            Word::Ended(failure) => (true, 0, 0, self.text(|| format!("end: {}", failure.message))),
            Word::Left => (false, 0, 0, self.text(|| "leaves".into())),
        };
        self.trace.note(now, member, What::Watch { stream, client, heard, watcher, revision, text });
    }

    /// An observer of an election begins. Gives its number.
    pub fn observes(&self, client: u32, member: MemberNumber, name: Bytes) -> usize {
        let opened = true_time();
        let text = self.text(|| format!("observe {}", key_text(&name)));
        let number = {
            let mut state = self.lock();
            let number = state.observations.len();
            let words = Vec::new();
            state.observations.push(Observation {
                number,
                client,
                member,
                name,
                opened,
                words,
                ended: false,
            });
            number
        };
        self.note_observation(number, client, member, false, 0, text);
        number
    }

    /// What an observer hears; none when it has ended.
    pub fn observed(&self, number: usize, word: Option<election::LeaderResponse>) {
        let now = true_time();
        let (revision, text) = match &word {
            Some(word) => {
                let revision = word.header.as_ref().map_or(0, |header| header.revision);
                (revision, self.text(|| leader_text(word)))
            }
            None => (0, self.text(|| "end".into())),
        };
        let (client, member) = {
            let mut state = self.lock();
            let observation = &mut state.observations[number];
            match word {
                Some(word) => observation.words.push((now, word)),
                None => observation.ended = true,
            }
            (observation.client, observation.member)
        };
        self.note_observation(number, client, member, true, revision, text);
    }

    fn note_observation(
        &self,
        number: usize,
        client: u32,
        member: MemberNumber,
        heard: bool,
        revision: i64,
        text: String,
    ) {
        let stream = FIRST_OBSERVER + number;
        self.trace.note(
            true_time(),
            member,
            What::Watch { stream, client, heard, watcher: 0, revision, text },
        );
    }

    /// Calls that were answered so far.
    pub fn answered(&self) -> u64 {
        self.lock().answered
    }

    /// Calls that wait for their outcome.
    pub fn open(&self) -> u64 {
        self.lock().open
    }

    /// Whether two calls were ever open at once.
    pub fn overlapped(&self) -> bool {
        self.lock().overlapped
    }

    /// The history so far.
    pub fn history(&self) -> (Vec<Operation>, Vec<Stream>, Vec<Observation>) {
        let state = self.lock();
        (state.operations.clone(), state.streams.clone(), state.observations.clone())
    }

    fn text(&self, make: impl FnOnce() -> String) -> String {
        if self.trace.is_read() { make() } else { String::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure_text(failure: &Failure) -> String {
    failure.message.clone()
}

/// The revision in an answer's header.
pub fn revision(answer: &Answer) -> i64 {
    let header = match answer {
        Answer::Put(answer) => &answer.header,
        Answer::Range(answer) => &answer.header,
        Answer::DeleteRange(answer) => &answer.header,
        Answer::Txn(answer) => &answer.header,
        Answer::Compact(answer) => &answer.header,
        Answer::LeaseGrant(answer) => &answer.header,
        Answer::LeaseRevoke(answer) => &answer.header,
        Answer::LeaseKeepAlive(answer) => &answer.header,
        Answer::LeaseTimeToLive(answer) => &answer.header,
        Answer::LeaseLeases(answer) => &answer.header,
        Answer::HashKv(answer) => &answer.header,
        Answer::Status(answer) => &answer.header,
        Answer::MemberList(answer) => &answer.header,
        Answer::MoveLeader(answer) => &answer.header,
        Answer::Alarm(answer) => &answer.header,
        Answer::Lock(answer) => &answer.header,
        Answer::Unlock(answer) => &answer.header,
        Answer::Campaign(answer) => &answer.header,
        Answer::Proclaim(answer) => &answer.header,
        Answer::Leader(answer) => &answer.header,
        Answer::Resign(answer) => &answer.header,
    };
    header.as_ref().map_or(0, |header| header.revision)
}

fn describe_answer(answer: &Answer) -> String {
    match answer {
        Answer::Put(_) => "put".into(),
        Answer::Range(answer) => {
            let keys: Vec<String> = answer
                .kvs
                .iter()
                .filter_map(|kv| kv.decode().ok())
                .take(4)
                .map(|kv| {
                    format!(
                        "{}={}@{}",
                        key_text(&kv.key),
                        key_text(&kv.value.slice(..kv.value.len().min(24))),
                        kv.mod_revision
                    )
                })
                .collect();
            format!("{} of {} {}", answer.kvs.len(), answer.count, keys.join(" "))
        }
        Answer::DeleteRange(answer) => format!("deleted {}", answer.deleted),
        Answer::Txn(answer) => format!("succeeded {}, {} answers", answer.succeeded, answer.responses.len()),
        Answer::LeaseGrant(answer) => format!("lease {:x} for {} s", answer.id, answer.ttl),
        Answer::LeaseKeepAlive(answer) => format!("lease {:x} has {} s", answer.id, answer.ttl),
        Answer::LeaseTimeToLive(answer) => format!(
            "lease {:x} has {} of {} s, {} keys",
            answer.id,
            answer.ttl,
            answer.granted_ttl,
            answer.keys.len()
        ),
        Answer::LeaseLeases(answer) => format!("{} leases", answer.leases.len()),
        Answer::HashKv(answer) => format!(
            "hash {:x} at {} compacted {}",
            answer.hash, answer.hash_revision, answer.compact_revision
        ),
        Answer::Status(answer) => format!("leader {:x} term {}", answer.leader, answer.raft_term),
        Answer::Alarm(answer) => format!("alarms {:?}", answer.alarms),
        Answer::Lock(answer) => format!("holds {}", key_text(&answer.key)),
        Answer::Campaign(answer) => match &answer.leader {
            Some(leader) => format!("leads by {} of {}", key_text(&leader.key), leader.rev),
            None => "leads by no key".into(),
        },
        Answer::Leader(answer) => leader_text(answer),
        Answer::Compact(_)
        | Answer::LeaseRevoke(_)
        | Answer::MemberList(_)
        | Answer::MoveLeader(_)
        | Answer::Unlock(_)
        | Answer::Proclaim(_)
        | Answer::Resign(_) => "done".into(),
    }
}

fn leader_text(word: &election::LeaderResponse) -> String {
    match word.kv.as_ref().and_then(|kv| kv.decode().ok()) {
        Some(kv) => format!(
            "{} of {} leads, says {} at {}",
            key_text(&kv.key),
            kv.create_revision,
            key_text(&kv.value),
            kv.mod_revision
        ),
        None => "nobody leads".into(),
    }
}

fn said_text(request: &pb::WatchRequest) -> String {
    use pb::watch_request::RequestUnion;
    match &request.request_union {
        Some(RequestUnion::CreateRequest(create)) => format!(
            "watch {}..{} from {}",
            key_text(&create.key),
            key_text(&create.range_end),
            create.start_revision
        ),
        Some(RequestUnion::CancelRequest(cancel)) => format!("cancel {}", cancel.watch_id),
        Some(RequestUnion::ProgressRequest(_)) => "progress?".into(),
        None => "nothing".into(),
    }
}

fn heard_text(response: &pb::WatchResponse) -> String {
    if response.canceled {
        return format!("canceled: {} (compacted {})", response.cancel_reason, response.compact_revision);
    }
    if response.created {
        return "created".into();
    }
    if response.events.is_empty() {
        return "progress".into();
    }
    format!("{} events", response.events.len())
}
