//! Random histories of a cluster that is right: operations that overlap, members that lag and start again,
//! streams that fall behind, leases that run out. Nothing must be found in any of them; and whatever is
//! bent in one must be.

use std::collections::BTreeMap;

use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::request_op::Request as Op;
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::checkers::testing::*;
use crate::checkers::{Options, all};
use crate::history::{Answer, Outcome, Request, Time, Word};
use crate::random::{Draw, Random, stream};

const SECOND: Time = 1_000_000_000;
const CLIENTS: u32 = 5;

/// A call under way.
enum Pending {
    /// Not in the log yet.
    Called(usize),
    /// In the log, not answered.
    Applied(usize, Box<crate::model::Applied>),
}

struct World {
    recorder: Recorder,
    random: Random,
    pending: BTreeMap<u32, Pending>,
    values: u64,
    /// Next revision of the watcher on each stream.
    told: Vec<i64>,
    leases: Vec<(i64, Time)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let random = stream(seed, "good histories");
        let recorder = Recorder::new();
        Self { recorder, random, pending: BTreeMap::new(), values: 0, told: Vec::new(), leases: Vec::new() }
    }

    fn key(&mut self) -> &'static str {
        ["a", "b", "c", "d"].choose(&mut self.random).unwrap()
    }

    fn value(&mut self) -> String {
        self.values += 1;
        self.values.to_string()
    }

    fn request(&mut self) -> Request {
        let revision = self.recorder.model.revision();
        match self.random.random_range(0..20) {
            0..=5 => put(self.key(), &self.value()),
            6 => delete(self.key(), if self.random.percent(50) { "z" } else { "" }),
            7..=8 => {
                let op = pb::RequestOp {
                    request: Some(match put(self.key(), &self.value()) {
                        Request::Put(put) => Op::RequestPut(put),
                        _ => return get("a"),
                    }),
                };
                let read = pb::RequestOp { request: Some(Op::RequestRange(range("a", "z"))) };
                let success = vec![read, op];
                Request::Txn(pb::TxnRequest { success, ..Default::default() })
            }
            9 => compact(self.random.random_range(0..=revision)),
            10 => put_with(self.key(), &self.value(), 1),
            11 => Request::LeaseKeepAlive(1),
            12 => Request::HashKv(pb::HashKvRequest { revision: 0 }),
            13 => Request::Status,
            14 => Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: 1, keys: true }),
            _ => {
                let revision =
                    if self.random.percent(30) { self.random.random_range(0..=revision + 1) } else { 0 };
                let serializable = self.random.percent(30);
                Request::Range(pb::RangeRequest { revision, serializable, limit: 3, ..range("a", "z") })
            }
        }
    }

    /// One thing happens.
    fn happen(&mut self) {
        let client = self.random.random_range(0..CLIENTS);
        match self.pending.remove(&client) {
            None => self.begin(client),
            Some(Pending::Called(number)) if self.random.percent(10) => {
                // Lost on the way, or its answer will be.
                if self.random.percent(50) {
                    let command = command(&self.recorder.evidence.operations[number].request);
                    self.recorder.log(command);
                }
                self.recorder.end(number, unknown());
            }
            Some(Pending::Called(number)) => {
                let command = command(&self.recorder.evidence.operations[number].request);
                let applied = self.recorder.log(command);
                self.pending.insert(client, Pending::Applied(number, applied.into()));
            }
            Some(Pending::Applied(number, applied)) => self.recorder.end_applied(number, *applied),
        }
        if self.random.percent(20) {
            self.tell();
        }
        self.expire();
    }

    fn begin(&mut self, client: u32) {
        let request = self.request();
        match request {
            Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_) | Request::Compact(_) => {
                let number = self.recorder.call(client, 1, request);
                self.pending.insert(client, Pending::Called(number));
            }
            request => {
                if let Request::LeaseKeepAlive(id) = request {
                    self.renew(id);
                }
                self.recorder.read(request);
            }
        }
    }

    /// Starts the time of a lease anew, or grants it.
    fn renew(&mut self, id: i64) {
        let now = self.recorder.now;
        match self.leases.iter_mut().find(|(other, _)| *other == id) {
            Some((_, renewed)) => *renewed = now + STEP,
            None => {
                self.recorder.write_on(CLIENTS, 1, grant(id, 2));
                self.leases.push((id, self.recorder.now));
            }
        }
    }

    fn expire(&mut self) {
        if self.random.percent(2) {
            self.recorder.now += 2 * SECOND;
        }
        let now = self.recorder.now;
        if let Some(place) = self.leases.iter().position(|(_, renewed)| *renewed + 2 * SECOND <= now) {
            let (id, _) = self.leases.remove(place);
            self.recorder.log(command(&revoke(id)));
        }
    }

    /// Streams are opened, and told of some more revisions.
    fn tell(&mut self) {
        let revision = self.recorder.model.revision();
        if self.told.len() < 3 {
            let number = self.recorder.stream();
            let create = pb::WatchCreateRequest {
                key: "a".into(),
                range_end: "z".into(),
                prev_kv: true,
                progress_notify: true,
                ..Default::default()
            };
            self.recorder.watch(number, create, 0);
            self.told.push(revision + 1);
            return;
        }
        let number = self.random.random_range(0..self.told.len());
        let from = self.told[number];
        if from > revision {
            return;
        }
        let to = self.random.random_range(from..=revision);
        let mut response = self.recorder.events(0, "a", "z", from, to);
        if response.events.is_empty() {
            response.header = header(to);
        }
        self.recorder.hear(number, response);
        self.told[number] = to + 1;
    }

    fn finish(mut self) -> Recorder {
        for pending in std::mem::take(&mut self.pending).into_values() {
            if let Pending::Applied(number, applied) = pending {
                self.recorder.end_applied(number, *applied);
            }
        }
        let revision = self.recorder.model.revision();
        for number in 0..self.told.len() {
            let rest = self.recorder.events(0, "a", "z", self.told[number], revision);
            if !rest.events.is_empty() {
                self.recorder.hear(number, rest);
            }
            self.recorder.options.open_streams.push(number);
        }
        self.recorder.evidence.contents = (1..=3).map(|member| self.recorder.contents(member)).collect();
        self.recorder
    }
}

fn history(seed: u64, events: usize) -> Recorder {
    let mut world = World::new(seed);
    for _ in 0..events {
        world.happen();
    }
    world.finish()
}

#[test]
fn nothing_is_found_in_histories_that_are_right() {
    for seed in 0..100 {
        let recorder = history(seed, 400);
        let options = Options { black_box_steps: Some(50_000), ..recorder.options.clone() };
        assert_eq!(all(&recorder.evidence, &options), [], "seed {seed}");
    }
}

/// Ways to bend a history; false when there is nothing in it to be bent so.
type Bend = fn(&mut Recorder, &mut Random) -> bool;

const BENDS: &[(&str, Bend)] = &[
    ("an answer of another revision", |recorder, random| {
        let answered: Vec<usize> = (recorder.evidence.operations.iter())
            .filter(|operation| {
                matches!(operation.outcome, Outcome::Answered(Answer::Put(_) | Answer::Txn(_)))
            })
            .map(|operation| operation.number)
            .collect();
        let Some(&number) = answered.choose(random) else { return false };
        header_of(&mut recorder.evidence, number).revision += 1;
        true
    }),
    ("a key left out of a range", |recorder, random| {
        let mut ranges: Vec<_> = (recorder.evidence.operations.iter_mut())
            .filter_map(|operation| match &mut operation.outcome {
                Outcome::Answered(Answer::Range(answer)) if !answer.kvs.is_empty() => Some(answer),
                _ => None,
            })
            .collect();
        if ranges.is_empty() {
            return false;
        }
        let place = random.random_range(0..ranges.len());
        ranges[place].kvs.pop();
        true
    }),
    ("an event left out", |recorder, random| {
        let mut told: Vec<_> = (recorder.evidence.streams.iter_mut())
            .flat_map(|stream| &mut stream.words)
            .filter_map(|(_, word)| match word {
                Word::Heard(response) if response.events.len() > 1 => Some(response),
                _ => None,
            })
            .collect();
        if told.is_empty() {
            return false;
        }
        let place = random.random_range(0..told.len());
        told[place].events.remove(0);
        true
    }),
    ("a response left out", |recorder, random| {
        let words = &mut recorder.evidence.streams[0].words;
        let told: Vec<usize> = (0..words.len())
            .filter(|place| matches!(&words[*place].1, Word::Heard(response) if !response.events.is_empty()))
            .collect();
        let Some(&place) = told.choose(random) else { return false };
        words.remove(place);
        true
    }),
    ("a response twice", |recorder, random| {
        let words = &mut recorder.evidence.streams[1].words;
        let told: Vec<usize> = (0..words.len())
            .filter(|place| matches!(&words[*place].1, Word::Heard(response) if !response.events.is_empty()))
            .collect();
        let Some(&place) = told.choose(random) else { return false };
        words.insert(place, words[place].clone());
        true
    }),
    ("an entry that vanished, and all behind it", |recorder, random| {
        let entries = recorder.evidence.committed.len();
        recorder.evidence.committed.truncate(entries - random.random_range(1..=5));
        true
    }),
    ("a key that one member does not have", |recorder, _| {
        recorder.evidence.contents[2].everything.kvs.pop().is_some()
    }),
    ("another hash", |recorder, random| {
        let mut hashes: Vec<_> = (recorder.evidence.operations.iter_mut())
            .filter_map(|operation| match &mut operation.outcome {
                Outcome::Answered(Answer::HashKv(answer)) => Some(answer),
                _ => None,
            })
            .collect();
        let last = random.random_range(0..hashes.len().max(1));
        hashes.get_mut(last).map(|answer| answer.hash ^= 1 << 7).is_some()
    }),
];

#[test]
fn whatever_is_bent_in_a_history_is_found() {
    for (name, bend) in BENDS {
        let mut bent = 0;
        for seed in 0..25 {
            let mut recorder = history(seed, 300);
            if !bend(&mut recorder, &mut stream(seed, name)) {
                continue;
            }
            bent += 1;
            let found = all(&recorder.evidence, &recorder.options);
            assert!(!found.is_empty(), "{name}, seed {seed}: nothing was found");
        }
        assert!(bent > 10, "{name}: bent {bent} histories only");
    }
}
