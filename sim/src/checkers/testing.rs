//! Histories for the tests of the checkers: a store that is right by construction, whose history is then
//! bent.

use bytes::Bytes;
use detcd::apply::{self, Command};
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::alarm_request::AlarmAction;
use detcd::proto::etcdserverpb::watch_request::RequestUnion;
use detcd::types::RequestId;

use super::reads::{self, Scene};
use super::{Case, Options};
use crate::evidence::{Committed, Evidence, Violation};
use crate::history::{
    Answer, Contents, Failure, MemberNumber, Operation, Outcome, Request, Stream, Time, Word,
};
use crate::model::{Applied, Interval, Model, Refusal, Settings};

/// Time between two things that happen.
pub const STEP: Time = 1_000_000;

/// The client that reads.
pub const READER: u32 = 100;

/// Writes down what a correct cluster would have done: one call after the other, unless told otherwise.
pub struct Recorder {
    pub evidence: Evidence,
    pub model: Model,
    pub now: Time,
    pub options: Options,
}

impl Recorder {
    pub fn new() -> Self {
        let evidence =
            Evidence { starts: (1..=3).map(|member| (0, member)).collect(), ..Evidence::default() };
        Self { evidence, model: Model::new(Settings::default()), now: STEP, options: Options::default() }
    }

    pub fn step(&mut self) -> Time {
        self.now += STEP;
        self.now
    }

    /// Commits an entry.
    pub fn log(&mut self, command: Command) -> Applied {
        let index = self.model.last_index() + 1;
        let data = apply::encode(RequestId(index), command);
        self.commit(data)
    }

    /// Commits an entry with this payload.
    pub fn commit(&mut self, data: Bytes) -> Applied {
        let index = self.model.last_index() + 1;
        let at = self.step();
        let entry = Committed { index, term: 2, data: data.clone(), is_conf_change: false, at, first: 1 };
        self.evidence.committed.push(entry);
        self.model.apply(index, &data).unwrap().clone()
    }

    /// Writes down a call without an outcome.
    pub fn call(&mut self, client: u32, member: MemberNumber, request: Request) -> usize {
        let number = self.evidence.operations.len();
        let called = self.step();
        let outcome = Outcome::Open;
        let operation = Operation { number, client, member, called, returned: None, request, outcome };
        self.evidence.operations.push(operation);
        number
    }

    /// Ends a call.
    pub fn end(&mut self, number: usize, outcome: Outcome) {
        let returned = self.step();
        let operation = &mut self.evidence.operations[number];
        operation.returned = Some(returned);
        operation.outcome = outcome;
    }

    /// Ends a call as the entry says that it makes happen.
    pub fn end_applied(&mut self, number: usize, applied: Applied) {
        let member = self.evidence.operations[number].member;
        let outcome = match applied.answer {
            Ok(answer) => Outcome::Answered(with_member(answer.unwrap(), member)),
            Err(refusal) => Outcome::Failed(refusal.into()),
        };
        self.end(number, outcome);
    }

    /// A write from call to answer.
    pub fn write_on(&mut self, client: u32, member: MemberNumber, request: Request) -> usize {
        let command = command(&request);
        let number = self.call(client, member, request);
        let applied = self.log(command);
        self.end_applied(number, applied);
        number
    }

    pub fn write(&mut self, request: Request) -> usize {
        self.write_on(0, 1, request)
    }

    /// A write whose outcome its client does not know.
    pub fn write_unknown(&mut self, request: Request, happens: bool) -> usize {
        let command = command(&request);
        let number = self.call(7, 1, request);
        if happens {
            self.log(command);
        }
        self.end(number, unknown());
        number
    }

    pub fn put(&mut self, key: &str, value: &str) -> usize {
        self.write(put(key, value))
    }

    /// A read from call to answer, of the state at an index of the log.
    pub fn read_at(&mut self, index: u64, request: Request) -> usize {
        let number = self.call(READER, 2, request.clone());
        let position = self.model.position(index).unwrap();
        let scene = Scene::at(self.model.store(), position);
        let revision = scene.moment.revision;
        let header = Some(pb::ResponseHeader { revision, ..Default::default() });
        let right = match &request {
            Request::LeaseKeepAlive(id) => {
                let ttl = scene.leases.get(id).copied().unwrap_or(0);
                Ok(Answer::LeaseKeepAlive(pb::LeaseKeepAliveResponse { header, id: *id, ttl }))
            }
            Request::HashKv(hash) => {
                let hash_revision = if hash.revision == 0 { revision } else { hash.revision };
                let compact_revision = scene.moment.compacted;
                let hash = self.model.hash(hash_revision, compact_revision);
                Ok(Answer::HashKv(pb::HashKvResponse { header, hash, compact_revision, hash_revision }))
            }
            Request::LeaseTimeToLive(request) => Ok(Answer::LeaseTimeToLive(pb::LeaseTimeToLiveResponse {
                header,
                id: request.id,
                ttl: scene.leases.get(&request.id).copied().unwrap_or(-1),
                granted_ttl: scene.leases.get(&request.id).copied().unwrap_or(0),
                keys: if request.keys { self.model.keys_of_lease(request.id, revision) } else { Vec::new() },
            })),
            Request::Status => Ok(Answer::Status(pb::StatusResponse {
                header,
                raft_applied_index: index,
                errors: (scene.alarms.iter())
                    .map(|(kind, member)| {
                        let kind = pb::AlarmType::try_from(*kind).unwrap().as_str_name();
                        format!("memberID:{member} alarm:{kind}")
                    })
                    .collect(),
                ..Default::default()
            })),
            request => reads::right_answer(&scene, request).expect("a read that the recorder can answer"),
        };
        let outcome = match right {
            Ok(answer) => Outcome::Answered(with_member(answer, 2)),
            Err(refusal) => Outcome::Failed(refusal.into()),
        };
        self.end(number, outcome);
        number
    }

    pub fn read(&mut self, request: Request) -> usize {
        self.read_at(self.model.last_index(), request)
    }

    /// Opens a stream.
    pub fn stream(&mut self) -> usize {
        let number = self.evidence.streams.len();
        self.evidence.streams.push(Stream { number, client: 3, member: 1, words: Vec::new() });
        number
    }

    pub fn say(&mut self, stream: usize, request: RequestUnion) {
        let at = self.step();
        let request = pb::WatchRequest { request_union: Some(request) };
        self.evidence.streams[stream].words.push((at, Word::Said(request)));
    }

    pub fn hear(&mut self, stream: usize, response: pb::WatchResponse) {
        let at = self.step();
        let revision = response.header.map_or(self.model.revision(), |header| header.revision);
        let header = Some(pb::ResponseHeader { cluster_id: 1, member_id: 1, revision, raft_term: 2 });
        self.evidence.streams[stream].words.push((at, Word::Heard(pb::WatchResponse { header, ..response })));
    }

    /// Opens a watcher on a stream.
    pub fn watch(&mut self, stream: usize, create: pb::WatchCreateRequest, id: i64) {
        self.say(stream, RequestUnion::CreateRequest(create));
        self.hear(stream, pb::WatchResponse { created: true, watch_id: id, ..Default::default() });
    }

    /// The response with what happened to these keys from one revision to another, read from history.
    pub fn events(&self, id: i64, key: &str, range_end: &str, from: i64, to: i64) -> pb::WatchResponse {
        let interval = Interval::new(key.as_bytes(), range_end.as_bytes());
        let wanted = self
            .model
            .events_from(from)
            .filter(|change| change.revision <= to && interval.contains(&change.key));
        let events = wanted.map(|change| change.encoded(true)).collect();
        pb::WatchResponse { watch_id: id, events, ..Default::default() }
    }

    /// What a member holds now, if it is right.
    pub fn contents(&self, member: MemberNumber) -> Contents {
        let revision = self.model.revision();
        let everything = self.model.everything(revision);
        Contents { member, revision, compacted: self.model.compacted(), everything }
    }

    /// What one checker finds.
    pub fn check(&self, checker: fn(&Case<'_>) -> Vec<Violation>) -> Vec<Violation> {
        let model = super::replay(&self.evidence, self.options.settings).unwrap();
        checker(&Case::new(&self.evidence, &model, &self.options))
    }

    /// Demands that all checkers find nothing.
    #[track_caller]
    pub fn expect_good(&self) {
        let options = Options { black_box_steps: Some(100_000), ..self.options.clone() };
        assert_eq!(super::all(&self.evidence, &options), []);
    }

    /// Demands that one checker finds exactly one violation, with this in its text.
    #[track_caller]
    pub fn expect_bad(&self, checker: fn(&Case<'_>) -> Vec<Violation>, text: &str) {
        let found = self.check(checker);
        assert!(found.len() == 1 && found[0].text.contains(text), "{text:?} is not all of {found:#?}");
    }
}

pub fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

pub fn unknown() -> Outcome {
    Outcome::Unknown(Failure { code: 14, message: "etcdserver: request timed out".into() })
}

pub fn refused(refusal: Refusal) -> Outcome {
    Outcome::Failed(refusal.into())
}

pub fn put(key: &str, value: &str) -> Request {
    put_with(key, value, 0)
}

pub fn put_with(key: &str, value: &str, lease: i64) -> Request {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    Request::Put(pb::PutRequest { key, value, lease, prev_kv: true, ..Default::default() })
}

pub fn delete(key: &str, range_end: &str) -> Request {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    Request::DeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv: true })
}

pub fn range(key: &str, range_end: &str) -> pb::RangeRequest {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    pb::RangeRequest { key, range_end, ..Default::default() }
}

pub fn get(key: &str) -> Request {
    Request::Range(range(key, ""))
}

pub fn compact(revision: i64) -> Request {
    Request::Compact(pb::CompactionRequest { revision, physical: false })
}

pub fn grant(id: i64, ttl: i64) -> Request {
    Request::LeaseGrant(pb::LeaseGrantRequest { id, ttl })
}

pub fn revoke(id: i64) -> Request {
    Request::LeaseRevoke(pb::LeaseRevokeRequest { id })
}

pub fn alarm(action: AlarmAction, kind: pb::AlarmType) -> Request {
    Request::Alarm(pb::AlarmRequest { action: action as i32, member_id: 1, alarm: kind as i32 })
}

/// The request as the log holds it.
pub fn command(request: &Request) -> Command {
    match request.clone() {
        Request::Put(request) => Command::Put(request),
        Request::DeleteRange(request) => Command::DeleteRange(request),
        Request::Txn(request) => Command::Txn(request),
        Request::Compact(request) => Command::Compact(request),
        Request::LeaseGrant(request) => Command::LeaseGrant(request),
        Request::LeaseRevoke(request) => Command::LeaseRevoke(request),
        Request::Alarm(request) => Command::Alarm(request),
        other => panic!("{other:?} does not go through the log"),
    }
}

fn with_member(answer: Answer, member: MemberNumber) -> Answer {
    let mut answer = reads::without_member(answer);
    if let Some(header) = reads::header_mut(&mut answer) {
        (header.cluster_id, header.member_id, header.raft_term) = (1, u64::from(member), 2);
    }
    answer
}

/// The header of what an operation was answered, to bend it.
pub fn header_of(evidence: &mut Evidence, number: usize) -> &mut pb::ResponseHeader {
    let Outcome::Answered(answer) = &mut evidence.operations[number].outcome else { panic!("no answer") };
    reads::header_mut(answer).unwrap()
}
