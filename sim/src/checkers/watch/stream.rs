//! One stream, replayed word by word.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use detcd::proto::etcdserverpb::watch_request::RequestUnion;
use detcd::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

use super::CLAIM;
use super::watcher::Watcher;
use crate::checkers::Case;
use crate::evidence::Violation;
use crate::history::{Stream, Time, Word};
use crate::model::{Interval, Refusal};

/// The id of responses that are about no watcher.
const NO_WATCHER: i64 = -1;

const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

/// A stream, as far as it was replayed.
pub(super) struct Replay<'a> {
    case: &'a Case<'a>,
    stream: &'a Stream,
    /// What was found.
    pub(super) found: Vec<Violation>,
    /// Watchers that were asked for and not answered, in order.
    pub(super) creates: VecDeque<WatchCreateRequest>,
    /// The watchers that there are.
    pub(super) watchers: BTreeMap<i64, Watcher>,
    /// Watchers that compaction has ended and nobody has cancelled since: their ids are taken.
    ended: BTreeSet<i64>,
    /// Cancellations that were asked for and not answered. One of no watcher gets no answer.
    pub(super) cancels: BTreeMap<i64, Vec<usize>>,
    /// Watchers that were asked for so far.
    asked: usize,
    /// Whether the stream is over.
    pub(super) is_over: bool,
    progress_asked: usize,
    next_id: i64,
    /// The watcher that a response is coming to in pieces.
    in_pieces: Option<i64>,
}

/// Replays a whole stream.
pub(super) fn replay<'a>(case: &'a Case<'a>, stream: &'a Stream) -> Replay<'a> {
    let mut replay = Replay {
        case,
        stream,
        found: Vec::new(),
        creates: VecDeque::new(),
        watchers: BTreeMap::new(),
        ended: BTreeSet::new(),
        cancels: BTreeMap::new(),
        asked: 0,
        is_over: false,
        progress_asked: 0,
        next_id: 0,
        in_pieces: None,
    };
    for (at, word) in &stream.words {
        match word {
            Word::Said(request) => replay.said(request),
            Word::Heard(response) => {
                if let Err(text) = replay.heard(*at, response) {
                    replay.report(*at, response.watch_id, text);
                }
            }
            Word::Ended(_) | Word::Left => replay.is_over = true,
        }
    }
    replay
}

impl Replay<'_> {
    fn said(&mut self, request: &WatchRequest) {
        match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                self.creates.push_back(create.clone());
                self.asked += 1;
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                self.cancels.entry(cancel.watch_id).or_default().push(self.asked);
            }
            Some(RequestUnion::ProgressRequest(_)) => self.progress_asked += 1,
            None => {}
        }
    }

    fn report(&mut self, at: Time, watch_id: i64, text: String) {
        let Stream { number, member, .. } = self.stream;
        let text = format!("watcher {watch_id} of stream {number} on m{member} heard at {at} ns {text}");
        self.found.push(Violation::new(CLAIM, text));
        if let Some(watcher) = self.watchers.get_mut(&watch_id) {
            watcher.broken = true;
        }
    }

    fn heard(&mut self, at: Time, response: &WatchResponse) -> Result<(), String> {
        if let Some(id) = self.in_pieces {
            let goes_on = response.watch_id == id && !response.events.is_empty();
            if !goes_on {
                self.in_pieces = None;
                return Err(format!("something else between two pieces of a response to watcher {id}"));
            }
        }
        if !response.events.is_empty() && (response.created || response.canceled) {
            return Err("events in the response that opens or ends it".to_owned());
        }
        if response.created {
            self.created(response)
        } else if response.canceled {
            self.canceled(at, response)
        } else if response.events.is_empty() {
            self.progress(response)
        } else {
            self.events(at, response)
        }
    }

    fn created(&mut self, response: &WatchResponse) -> Result<(), String> {
        let Some(mut request) = self.creates.pop_front() else {
            return Err("of a watcher that nobody asked for".to_owned());
        };
        if request.key.is_empty() {
            request.key = Bytes::from_static(b"\0");
        }
        let told = (response.canceled, response.watch_id, response.cancel_reason.as_str());
        if let Some(reason) = self.refusal(&request) {
            let right = (true, NO_WATCHER, reason);
            return if told == right { Ok(()) } else { Err(format!("{told:?} where {right:?} was due")) };
        }
        if response.canceled {
            return Err(format!("that it is refused, without cause: {}", response.cancel_reason));
        }
        let right = match request.watch_id {
            0 => self.next_free_id(),
            asked => asked,
        };
        let watcher = Watcher::new(request, revision(response));
        self.watchers.insert(response.watch_id, watcher);
        // What was said to end it before it was asked for ended nothing.
        let ordinal = self.asked - self.creates.len();
        if let Some(cancels) = self.cancels.get_mut(&response.watch_id) {
            cancels.retain(|asked| *asked >= ordinal);
        }
        if response.watch_id != right {
            return Err(format!("of itself where watcher {right} was due"));
        }
        if !response.cancel_reason.is_empty() || response.compact_revision != 0 {
            return Err("a reason for its end when it was opened".to_owned());
        }
        Ok(())
    }

    /// Why a request must be refused, in the order of the checks (etcd 3.2).
    fn refusal(&self, request: &WatchCreateRequest) -> Option<&'static str> {
        if request.start_revision < 0 {
            Some(Refusal::Compacted.text())
        } else if Interval::new(&request.key, &request.range_end).is_empty() {
            Some(EMPTY_RANGE)
        } else if request.watch_id != 0 && self.is_taken(request.watch_id) {
            Some(DUPLICATE_ID)
        } else {
            None
        }
    }

    fn next_free_id(&mut self) -> i64 {
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.ended.contains(&id)
    }

    fn canceled(&mut self, at: Time, response: &WatchResponse) -> Result<(), String> {
        let id = response.watch_id;
        let watcher = self.watchers.remove(&id);
        if watcher.is_none() && !self.ended.remove(&id) {
            return Err("its end, though there is no such watcher".to_owned());
        }
        if !response.cancel_reason.is_empty() {
            return Err(format!("its end for no reason that there can be: {}", response.cancel_reason));
        }
        if response.compact_revision != 0 {
            let Some(watcher) = watcher else {
                return Err("its end by compaction a second time".to_owned());
            };
            self.ended.insert(id);
            return self.check_compacted(at, response, &watcher);
        }
        match self.cancels.get_mut(&id).and_then(Vec::pop) {
            Some(_) => Ok(()),
            None => Err("its end, which nobody asked for".to_owned()),
        }
    }

    /// A watcher may be ended when compaction has removed what it needs next, and only then.
    fn check_compacted(&self, at: Time, response: &WatchResponse, watcher: &Watcher) -> Result<(), String> {
        let compacted = response.compact_revision;
        let known = &self.case.positions()[..=self.case.known_by(at)];
        if !known.iter().any(|position| position.compacted == compacted) {
            return Err(format!("of a compaction at {compacted} that nobody made"));
        }
        if !watcher.broken && watcher.next >= compacted {
            return Err(format!(
                "its end by the compaction at {compacted}, though it needs nothing below {}",
                watcher.next
            ));
        }
        match revision(response) {
            0 => Ok(()),
            other => Err(format!("its end by compaction with revision {other} in the header")),
        }
    }

    fn progress(&mut self, response: &WatchResponse) -> Result<(), String> {
        let (id, revision) = (response.watch_id, revision(response));
        if response.fragment || !response.cancel_reason.is_empty() || response.compact_revision != 0 {
            return Err("a response that says neither this nor that".to_owned());
        }
        if let Some(watcher) = self.watchers.get_mut(&id) {
            if watcher.broken {
                return Ok(());
            }
            if !watcher.request.progress_notify {
                return Err("progress, for which it did not ask".to_owned());
            }
            return watcher.take_progress(self.case, revision);
        }
        if id != NO_WATCHER {
            return Err("progress, though there is no such watcher".to_owned());
        }
        if self.progress_asked == 0 {
            return Err("progress of the stream, for which nobody asked".to_owned());
        }
        self.progress_asked -= 1;
        if self.watchers.is_empty() {
            return Err("progress of a stream without watchers".to_owned());
        }
        if let Some(id) = self.ended.first() {
            return Err(format!("progress of the stream, though watcher {id} was ended by compaction"));
        }
        for (id, watcher) in &mut self.watchers {
            if !watcher.broken
                && let Err(text) = watcher.take_progress(self.case, revision)
            {
                watcher.broken = true;
                return Err(format!("for watcher {id} {text}"));
            }
        }
        Ok(())
    }

    fn events(&mut self, at: Time, response: &WatchResponse) -> Result<(), String> {
        let id = response.watch_id;
        self.in_pieces = response.fragment.then_some(id);
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return Err("events, though there is no such watcher".to_owned());
        };
        if watcher.broken {
            return Ok(());
        }
        watcher.take(self.case, at, &response.events, revision(response), response.fragment)
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}
