//! Random clients against the contract: a checker reads every stream as a client would and compares each
//! response with the true history.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::Store;
use super::*;
use crate::proto::etcdserverpb::WatchResponse;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::{Event, EventType, KeyValue};
use crate::types::change::ChangeKind;

const KEYS: [&str; 5] = ["a", "b", "ba", "c", "d"];
const RANGES: [(&str, &str); 8] =
    [("a", ""), ("b", ""), ("c", ""), ("b", "c"), ("a", "d"), ("b", "\0"), ("", "\0"), ("x", "y")];
const STREAMS: u64 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Puts (true) and deletes of keys by number, notified at once or later.
    Txn {
        keys: BTreeMap<usize, bool>,
        notify: bool,
    },
    Notify,
    Reopen {
        stream: u64,
    },
    Create {
        stream: u64,
        range: usize,
        start: Start,
        id: i64,
        flags: u8,
    },
    Cancel {
        stream: u64,
        id: i64,
    },
    Progress {
        stream: u64,
    },
    Tick,
    Drain {
        stream: u64,
        percent: usize,
    },
    CatchUp,
    Compact {
        back: i64,
    },
    Restore,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Now,
    Relative(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0..STREAMS;
    let keys = prop::collection::btree_map(0..KEYS.len(), prop::bool::weighted(0.7), 1..4);
    let start = prop_oneof![Just(Start::Now), (-12i64..4).prop_map(Start::Relative)];
    prop_oneof![
        12 => (keys, prop::bool::weighted(0.8)).prop_map(|(keys, notify)| Step::Txn { keys, notify }),
        2 => Just(Step::Notify),
        1 => stream.clone().prop_map(|stream| Step::Reopen { stream }),
        6 => (stream.clone(), 0..RANGES.len(), start, 0i64..3, any::<u8>()).prop_map(
            |(stream, range, start, id, flags)| Step::Create { stream, range, start, id, flags }
        ),
        2 => (stream.clone(), 0i64..4).prop_map(|(stream, id)| Step::Cancel { stream, id }),
        2 => stream.clone().prop_map(|stream| Step::Progress { stream }),
        1 => Just(Step::Tick),
        6 => (stream, 20..110usize).prop_map(|(stream, percent)| Step::Drain { stream, percent }),
        6 => Just(Step::CatchUp),
        1 => (0i64..8).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Restore),
    ]
}

fn config() -> impl Strategy<Value = HubConfig> {
    (70..300usize, 100..1000usize, 1..5usize, 1..300usize, 1..20usize).prop_map(
        |(max_response_bytes, stream_budget_bytes, revisions, bytes, events)| HubConfig {
            max_response_bytes,
            stream_budget_bytes,
            progress_interval: 1,
            batch: BatchLimits { revisions, bytes, events },
        },
    )
}

/// What one watcher should see.
struct Watching {
    range: KeyRange,
    flags: u8,
    /// No progress below this.
    progress_from: i64,
    /// Everything before was seen.
    next: i64,
    /// Events of a response that is still to be continued.
    fragments: Vec<Event>,
}

const PREV: u8 = 1;
const FRAGMENT: u8 = 2;
const PROGRESS: u8 = 4;
const NO_PUT: u8 = 8;
const NO_DELETE: u8 = 16;

#[derive(Default)]
struct Client {
    watchers: BTreeMap<i64, Watching>,
    /// Ended by compaction, and not cancelled since.
    ended: BTreeSet<i64>,
    queued: usize,
    stalled: bool,
}

/// The one request that a step makes, for judging its answer.
enum Asked {
    Nothing,
    Create { range: KeyRange, start: i64, flags: u8 },
    Cancel { id: i64, known: bool },
}

struct World {
    hub: Hub,
    config: HubConfig,
    store: Store,
    notified: usize,
    /// Every event that ever was, with the true previous key-value.
    truth: Vec<(i64, Event)>,
    latest: BTreeMap<Bytes, KeyValue>,
    clients: BTreeMap<StreamId, Client>,
    ticks: u64,
}

impl World {
    fn new(config: HubConfig) -> Self {
        let mut world = Self {
            hub: Hub::new(config.clone(), 1),
            config,
            store: Store::default(),
            notified: 0,
            truth: Vec::new(),
            latest: BTreeMap::new(),
            clients: BTreeMap::new(),
            ticks: 0,
        };
        for stream in (0..STREAMS).map(StreamId) {
            world.hub.open_stream(stream);
            world.clients.insert(stream, Client::default());
        }
        world
    }

    fn run(&mut self, step: Step) {
        let mut asked = Asked::Nothing;
        match step {
            Step::Txn { keys, notify } => {
                self.write(&keys);
                if notify {
                    self.notify();
                }
            }
            Step::Notify => self.notify(),
            Step::Reopen { stream } => {
                let stream = StreamId(stream);
                self.hub.close_stream(stream);
                self.hub.open_stream(stream);
                self.clients.insert(stream, Client::default());
            }
            Step::Create { stream, range, start, id, flags } => {
                let (request, about) = self.create_request(range, start, id, flags);
                asked = about;
                self.hub.create(StreamId(stream), request, None, &self.store);
            }
            Step::Cancel { stream, id } => {
                let stream = StreamId(stream);
                let client = &self.clients[&stream];
                let known = client.watchers.contains_key(&id) || client.ended.contains(&id);
                asked = Asked::Cancel { id, known };
                self.hub.cancel(stream, id);
            }
            Step::Progress { stream } => self.hub.request_progress(StreamId(stream)),
            Step::Tick => {
                self.ticks += 1;
                self.hub.tick(Now { mono: self.ticks, wall: 0 });
            }
            Step::Drain { stream, percent } => self.drain(StreamId(stream), percent),
            Step::CatchUp => {
                self.hub.catch_up(&self.store).unwrap();
            }
            Step::Compact { back } => {
                let revision = (self.store.revision() - back).max(0);
                self.store.compacted = self.store.compacted.max(revision);
            }
            Step::Restore => {
                self.hub.restored(&self.store);
                self.notified = self.store.revisions.len();
            }
        }
        self.check_output(asked);
    }

    fn write(&mut self, keys: &BTreeMap<usize, bool>) {
        let value = format!("v{}", self.store.revision());
        let op = |(&key, &put): (&usize, &bool)| (KEYS[key].to_string(), put.then(|| value.clone()));
        let Some(revision) = self.store.apply(&Vec::from_iter(keys.iter().map(op))) else { return };
        for change in &revision.changes {
            let kv = match &change.kind {
                ChangeKind::Put { record, .. } => record.decode().unwrap(),
                ChangeKind::Delete => {
                    KeyValue { key: change.key.clone(), mod_revision: revision.main, ..Default::default() }
                }
            };
            let kind = if change.is_delete() { EventType::Delete } else { EventType::Put };
            let before = match kind {
                EventType::Put => self.latest.insert(change.key.clone(), kv.clone()),
                EventType::Delete => self.latest.remove(&change.key),
            };
            let event = Event {
                r#type: kind as i32,
                kv: Some(kv.into()),
                prev_kv: before.map(EncodedKeyValue::from),
            };
            self.truth.push((revision.main, event));
        }
    }

    fn notify(&mut self) {
        self.hub.notify(&self.store.revisions[self.notified..], &self.store).unwrap();
        self.notified = self.store.revisions.len();
    }

    fn create_request(&self, range: usize, start: Start, id: i64, flags: u8) -> (WatchCreateRequest, Asked) {
        let start = match start {
            Start::Now => 0,
            Start::Relative(distance) => (self.store.revision() + distance).max(1),
        };
        let has = |flag: u8| flags & flag != 0;
        let filters = [(NO_PUT, FilterType::Noput), (NO_DELETE, FilterType::Nodelete)];
        let (key, range_end) = RANGES[range];
        let request = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: start,
            watch_id: id,
            prev_kv: has(PREV),
            fragment: has(FRAGMENT),
            progress_notify: has(PROGRESS),
            filters: filters.iter().filter(|(flag, _)| has(*flag)).map(|(_, f)| *f as i32).collect(),
        };
        let range = KeyRange::from_wire(key.into(), range_end.into());
        (request, Asked::Create { range, start, flags })
    }

    fn drain(&mut self, stream: StreamId, percent: usize) {
        let client = self.clients.get_mut(&stream).unwrap();
        let bytes = (client.queued * percent).div_ceil(100).min(client.queued);
        client.queued -= bytes;
        client.stalled &= client.queued > self.config.stream_budget_bytes / 2;
        self.hub.drained(stream, bytes);
    }

    /// Reads what the hub has put out, as the clients would.
    fn check_output(&mut self, asked: Asked) {
        for StreamOutput { stream, responses } in self.hub.take_output() {
            let mut client = self.clients.remove(&stream).unwrap();
            for response in responses {
                client.queued += response_weight(&response);
                self.check_response(&mut client, &response, &asked);
            }
            let unfinished = client.watchers.values().any(|watching| !watching.fragments.is_empty());
            assert!(!unfinished, "the last fragment is missing");
            client.stalled |= client.queued > self.config.stream_budget_bytes;
            self.clients.insert(stream, client);
        }
    }

    fn check_response(&self, client: &mut Client, response: &WatchResponse, asked: &Asked) {
        let id = response.watch_id;
        let revision = response.header.as_ref().unwrap().revision;
        if response.created {
            let Asked::Create { range, start, flags } = asked else { panic!("nobody asked: {response:?}") };
            assert_eq!(revision, self.store.revision());
            if response.canceled {
                assert_eq!((id, &response.cancel_reason[..]), (-1, response::DUPLICATE_ID));
                return;
            }
            let (next, progress_from) = if *start == 0 { (revision + 1, revision) } else { (*start, *start) };
            let (range, flags, fragments) = (range.clone(), *flags, Vec::new());
            let watching = Watching { range, flags, progress_from, next, fragments };
            assert!(client.watchers.insert(id, watching).is_none(), "id {id} was in use");
            assert!(!client.ended.contains(&id), "id {id} was not given back");
        } else if response.canceled {
            let watching = client.watchers.remove(&id);
            if response.compact_revision == 0 {
                assert!(watching.is_some() || client.ended.remove(&id), "no such watcher");
                assert!(matches!(asked, Asked::Cancel { id: asked, known: true } if *asked == id));
            } else {
                let watching = watching.expect("no such watcher");
                client.ended.insert(id);
                assert_eq!((response.compact_revision, revision), (self.store.compacted, 0));
                assert!(watching.next < self.store.compacted, "nothing was compacted from {}", watching.next);
            }
        } else if response.events.is_empty() {
            let mut covered =
                client.watchers.iter().filter(|(covered, _)| id == NO_WATCHER || **covered == id);
            assert!(covered.clone().next().is_some(), "progress of nothing");
            assert!(id != NO_WATCHER || client.ended.is_empty(), "progress of what is no more");
            assert!(id == NO_WATCHER || client.watchers[&id].flags & PROGRESS != 0);
            assert!(!client.stalled, "progress of a stalled stream");
            assert!(covered.clone().all(|(_, watching)| watching.progress_from <= revision));
            assert!(
                covered.all(|(_, watching)| self.expected(watching, revision).is_empty()),
                "false promise"
            );
        } else {
            assert!(!client.stalled, "events for a stalled stream");
            let watching = client.watchers.get_mut(&id).expect("no such watcher");
            self.check_events(watching, response, revision);
        }
    }

    fn check_events(&self, watching: &mut Watching, response: &WatchResponse, revision: i64) {
        let pieces = response.fragment || !watching.fragments.is_empty();
        assert!(!pieces || watching.flags & FRAGMENT != 0, "fragments that nobody asked for");
        if watching.flags & FRAGMENT != 0 && response.events.len() > 1 {
            assert!(response_weight(response) <= self.config.max_response_bytes);
        }
        watching.fragments.extend(response.events.iter().map(|event| event.decode().unwrap()));
        if response.fragment {
            return;
        }
        let events = std::mem::take(&mut watching.fragments);
        let last = events.last().and_then(|event| event.kv.as_ref()).unwrap().decode().unwrap().mod_revision;
        assert!((last..=self.store.revision()).contains(&revision), "header {revision}, last event {last}");
        let expected = self.expected(watching, last);
        assert_eq!(events.len(), expected.len(), "got {events:?}, expected {expected:?}");
        for (event, (main, mut expected)) in events.into_iter().zip(expected) {
            let may_be_gone = main - 1 < self.store.compacted;
            if watching.flags & PREV == 0 || (may_be_gone && event.prev_kv.is_none()) {
                expected.prev_kv = None;
            }
            assert_eq!(event, expected);
        }
        watching.next = last + 1;
    }

    /// The events that a watcher has still to see, up to a revision.
    fn expected(&self, watching: &Watching, last: i64) -> Vec<(i64, Event)> {
        let wanted = |event: &Event| {
            let filter = if event.r#type == 0 { NO_PUT } else { NO_DELETE };
            let key = event.kv.as_ref().unwrap().decode().unwrap().key;
            watching.flags & filter == 0 && watching.range.contains(&key)
        };
        let until = self.truth.iter().filter(|(main, _)| (watching.next..=last).contains(main));
        until.filter(|(_, event)| wanted(event)).cloned().collect()
    }

    /// Once everything is notified and the clients read, every watcher has seen all that is for it.
    fn settle(&mut self) {
        self.notify();
        self.check_output(Asked::Nothing);
        let mut rounds = 0;
        while self.hub.statistics().slow_watchers > 0 {
            self.run(Step::CatchUp);
            for stream in 0..STREAMS {
                self.run(Step::Drain { stream, percent: 100 });
            }
            rounds += 1;
            assert!(rounds < 10_000, "does not catch up: {:?}", self.hub.statistics());
        }
        let revision = self.store.revision();
        for client in self.clients.values() {
            for watching in client.watchers.values() {
                assert!(self.expected(watching, revision).is_empty(), "missed from {}", watching.next);
            }
        }
        let watchers = self.clients.values().map(|client| client.watchers.len()).sum::<usize>();
        assert_eq!(self.hub.statistics().watchers, watchers);
        self.check_progress_is_answered();
    }

    fn check_progress_is_answered(&mut self) {
        let revision = self.store.revision();
        for stream in (0..STREAMS).map(StreamId) {
            self.drain(stream, 100);
            let Client { watchers, ended, .. } = &self.clients[&stream];
            let current = !watchers.is_empty()
                && ended.is_empty()
                && watchers.values().all(|one| one.progress_from <= revision);
            self.hub.request_progress(stream);
            let answers = self.hub.take_output();
            assert_eq!(answers.len(), current as usize, "answers: {answers:?}");
            self.clients.get_mut(&stream).unwrap().queued +=
                answers.iter().flat_map(|output| &output.responses).map(response_weight).sum::<usize>();
        }
        let queued = self.clients.values().map(|client| client.queued).sum::<usize>();
        assert_eq!(self.hub.statistics().queued_bytes, queued);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_watcher_sees_its_events_once_and_in_order(
        config in config(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(config);
        for step in steps {
            world.run(step);
        }
        world.settle();
    }
}
