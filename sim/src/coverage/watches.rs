//! What watchers went through, from the words on their streams.
//!
//! The revision in the header tells live responses from those out of history: a live one says the revision
//! of its last event, one out of history that of the store.

use std::collections::BTreeMap;

use detcd::proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;

use super::Found;
use crate::checkers::Case;
use crate::history::{MemberNumber, Stream, Time, Word, mod_revision};
use crate::markers;

/// Responses about no watcher have this id.
const NO_WATCHER: i64 = -1;

/// Looks at every stream.
pub fn look(case: &Case<'_>, found: &mut Found) {
    let mut clients: BTreeMap<(u32, MemberNumber), i64> = BTreeMap::new();
    for stream in &case.evidence.streams {
        let mut replay = Replay::default();
        for (at, word) in &stream.words {
            match word {
                Word::Said(request) => replay.said(request, found),
                Word::Heard(response) => replay.heard(case, *at, response, found),
                Word::Ended(_) | Word::Left => {}
            }
        }
        note_resumed(stream, &replay, &mut clients, found);
    }
}

/// A client that opens a stream where its last one on this member has ended.
fn note_resumed(
    stream: &Stream,
    replay: &Replay,
    clients: &mut BTreeMap<(u32, MemberNumber), i64>,
    found: &mut Found,
) {
    let begins = stream.words.iter().find_map(|(_, word)| match word {
        Word::Said(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }) => {
            Some(create.start_revision)
        }
        _ => None,
    });
    let who = (stream.client, stream.member);
    let resumes = clients.get(&who).is_some_and(|last| *last > 0 && begins == Some(last + 1));
    found.add_if(resumes, markers::RESUMED);
    if replay.last > 0 {
        clients.insert(who, replay.last);
    }
}

/// One stream.
#[derive(Default)]
struct Replay {
    /// Creates that were not answered yet, in order.
    asked: Vec<pb::WatchCreateRequest>,
    watchers: BTreeMap<i64, Watcher>,
    /// Set while a client waits for progress that it asked for while a watcher was behind: whether the past
    /// has come since.
    asked_behind: Option<bool>,
    /// The newest revision of any event.
    last: i64,
}

/// One watcher, from its created response on.
struct Watcher {
    request: pb::WatchCreateRequest,
    /// The store's revision when it was created.
    created: i64,
    at: Time,
    /// The newest revision that it has heard of.
    heard: i64,
    /// Whether it has heard of something as it happened.
    was_live: bool,
}

impl Watcher {
    /// Whether there is something of the past that it may not have heard of.
    fn is_behind(&self) -> bool {
        self.request.start_revision > 0 && self.request.start_revision <= self.created && self.heard == 0
    }
}

impl Replay {
    fn said(&mut self, request: &pb::WatchRequest, found: &mut Found) {
        match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.asked.push(create.clone()),
            Some(RequestUnion::ProgressRequest(_)) => {
                let created_behind = self.watchers.values().any(Watcher::is_behind);
                let asked_for_past = self.asked.iter().any(|create| create.start_revision > 0);
                if created_behind || asked_for_past {
                    found.add(markers::PROGRESS_BEHIND);
                    self.asked_behind.get_or_insert(false);
                }
            }
            Some(RequestUnion::CancelRequest(_)) | None => {}
        }
    }

    fn heard(&mut self, case: &Case<'_>, at: Time, response: &pb::WatchResponse, found: &mut Found) {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        found.add_if(response.fragment, markers::FRAGMENTED);
        if response.created {
            let request = if self.asked.is_empty() { return } else { self.asked.remove(0) };
            if !response.canceled {
                let watcher = Watcher { request, created: revision, at, heard: 0, was_live: false };
                self.watchers.insert(response.watch_id, watcher);
            }
        } else if response.canceled {
            let watcher = self.watchers.remove(&response.watch_id);
            if let Some(watcher) = watcher.filter(|_| response.compact_revision > 0) {
                let was_compacted = case.position_by(watcher.at).compacted >= response.compact_revision;
                found.add(if was_compacted { markers::WATCH_COMPACTED } else { markers::OVERTAKEN });
            }
        } else if response.events.is_empty() {
            self.progress(response.watch_id, revision, found);
        } else {
            self.events(response, revision, found);
        }
    }

    fn progress(&mut self, watch_id: i64, revision: i64, found: &mut Found) {
        if watch_id == NO_WATCHER {
            found.add_if(self.asked_behind.take() == Some(true), markers::PROGRESS_AFTER);
            for watcher in self.watchers.values_mut() {
                watcher.heard = watcher.heard.max(revision);
            }
        } else if let Some(watcher) = self.watchers.get_mut(&watch_id) {
            found.add(markers::PROGRESS_PERIODIC);
            watcher.heard = watcher.heard.max(revision);
        }
    }

    fn events(&mut self, response: &pb::WatchResponse, revision: i64, found: &mut Found) {
        let Some(watcher) = self.watchers.get_mut(&response.watch_id) else { return };
        let (Some(first), Some(last)) = (response.events.first(), response.events.last()) else { return };
        let (first, last) = (mod_revision(first), mod_revision(last));
        let is_future = watcher.request.start_revision > watcher.created;
        found.add_if(is_future && watcher.heard == 0, markers::FUTURE_WATCH);
        let from_history = revision > last;
        found.add_if(from_history && watcher.was_live, markers::FELL_BACK);
        found.add_if(first <= watcher.created && revision > watcher.created, markers::CAUGHT_UP_UNDER_LOAD);
        if let Some(past_came) = &mut self.asked_behind {
            *past_came |= first <= watcher.created;
        }
        watcher.was_live |= !from_history && first > watcher.created;
        watcher.heard = watcher.heard.max(last);
        self.last = self.last.max(last);
    }
}
