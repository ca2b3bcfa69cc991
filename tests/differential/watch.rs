//! Watch streams of one server, and what a pair of servers must agree on about them.
//!
//! # What can be compared
//!
//! When a server sends an event is its own affair; which ones it sends, in which order, and what it says
//! when a watcher is made and ended is not. So answers to requests (created, canceled, progress) are waited
//! for and compared at once, while events gather beside them, one list for each watcher. The lists are
//! compared when they are complete: after an answer to a request for progress, which says that all events
//! up to its revision have been sent. It comes only when no watcher of the stream waits for a revision that
//! is still to come, so those are ended before, or the revision is made.
//!
//! A watcher of the present gets one response for each revision, and its header says that revision: for
//! such watchers the responses are compared. How a watcher of the past gets its history is cut is the
//! server's choice: for those the events are. Of both it is checked that no revision is split.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use detcd::client::Channel;
use detcd::proto::Event;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::watch_client::WatchClient;
use detcd::proto::etcdserverpb::watch_request::RequestUnion;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use prost::Message;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::call::{PATIENCE, SILENCE};
use crate::normal::Identity;

/// A request for progress that has no answer after this long was dropped, as etcd does while a watcher
/// still reads history: the next one is sent.
const ASK_AGAIN: Duration = Duration::from_millis(30);

/// The watch id of answers that concern all watchers of a stream.
const ALL: i64 = -1;

/// What a watcher has been sent.
#[derive(Default)]
struct Received {
    /// Whether responses are compared, and not only their events.
    live: bool,
    lines: Vec<String>,
    /// The last revision of which there were events, once a response has ended with it.
    complete: i64,
}

/// One stream to one server.
pub struct Stream {
    requests: UnboundedSender<pb::WatchRequest>,
    responses: UnboundedReceiver<Result<pb::WatchResponse, Status>>,
    task: JoinHandle<()>,
    received: BTreeMap<i64, Received>,
    /// What came and was not asked for.
    stray: Vec<String>,
    /// Requests for progress that may still be answered.
    asked: usize,
}

/// What an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Created,
    Canceled(i64),
    /// Of this revision at least: earlier requests may have been answered late.
    Progress(i64),
}

impl Stream {
    /// Opens a stream.
    pub fn open(channel: &Channel) -> Self {
        let (requests, outgoing) = unbounded();
        let (sender, responses) = unbounded_channel();
        let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        // In a task: servers may answer the call only when they answer its first message.
        let task = tokio::spawn(async move {
            let mut stream = match client.watch(outgoing).await {
                Ok(response) => response.into_inner(),
                Err(status) => {
                    let _ = sender.send(Err(status));
                    return;
                }
            };
            while let Some(response) = stream.message().await.transpose() {
                let failed = response.is_err();
                if sender.send(response).is_err() || failed {
                    return;
                }
            }
        });
        Self { requests, responses, task, received: BTreeMap::new(), stray: Vec::new(), asked: 0 }
    }

    fn say(&self, request: RequestUnion) {
        // A stream that has ended says so when it is read.
        let _ = self.requests.unbounded_send(pb::WatchRequest { request_union: Some(request) });
    }

    /// Makes a watcher. Gives what the server says, in text, and the watcher's id if it was made. One that
    /// needs what is compacted is ended at once.
    pub async fn create(
        &mut self,
        request: pb::WatchCreateRequest,
        is_compacted: bool,
        of: &Identity,
    ) -> (Vec<String>, Option<i64>) {
        let live = request.start_revision == 0;
        self.say(RequestUnion::CreateRequest(request));
        let created = match self.wait_for(Awaited::Created, PATIENCE, of).await {
            Ok(created) => created,
            Err(line) => return (vec![line], None),
        };
        let mut lines = vec![show(&created, of)];
        if created.canceled {
            return (lines, None);
        }
        let id = created.watch_id;
        if is_compacted {
            match self.wait_for(Awaited::Canceled(id), PATIENCE, of).await {
                Ok(canceled) => lines.push(show(&canceled, of)),
                Err(line) => lines.push(line),
            }
            return (lines, Some(id));
        }
        self.received.insert(id, Received { live, ..Received::default() });
        (lines, Some(id))
    }

    /// Ends a watcher. Gives all that it was sent, with the answer to this.
    pub async fn cancel(&mut self, watch_id: i64, of: &Identity) -> Vec<String> {
        self.say(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
        let answer = match self.wait_for(Awaited::Canceled(watch_id), PATIENCE, of).await {
            Ok(canceled) => show(&canceled, of),
            Err(line) => line,
        };
        let mut lines = self.received.remove(&watch_id).unwrap_or_default().lines;
        lines.push(answer);
        lines
    }

    /// Asks to end a watcher that there is not, which nobody answers.
    pub fn cancel_nobody(&self, watch_id: i64) {
        self.say(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
    }

    /// Waits until all watchers have been sent all up to the store's revision. Gives the answer that says so
    /// and all that came since the last time, watcher by watcher.
    pub async fn settle(&mut self, revision: i64, of: &Identity) -> Vec<String> {
        let mut lines = Vec::new();
        let tries = PATIENCE.as_millis() / ASK_AGAIN.as_millis();
        for attempt in 1..=tries {
            self.ask_progress();
            match self.wait_for(Awaited::Progress(revision), ASK_AGAIN, of).await {
                Ok(progress) => {
                    lines.push(show(&progress, of));
                    break;
                }
                Err(line) if attempt == tries || !self.is_open() => lines.push(line),
                Err(_) => {}
            }
        }
        lines.append(&mut self.stray);
        for (id, received) in &mut self.received {
            lines.extend(received.lines.drain(..).map(|line| format!("watcher {id}: {line}")));
        }
        lines
    }

    fn ask_progress(&mut self) {
        self.asked += 1;
        self.say(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }

    /// Asks for progress when nobody can say anything about it: an answer would be wrong, and shows when
    /// the stream is read the next time. A watcher that is refused tells that the request was read, before
    /// the next revision may let it be answered. Gives the refusal.
    pub async fn ask_in_vain(&mut self, of: &Identity) -> Vec<String> {
        self.say(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
        let refused = pb::WatchCreateRequest { start_revision: -1, ..pb::WatchCreateRequest::default() };
        self.create(refused, false, of).await.0
    }

    fn is_open(&self) -> bool {
        !self.task.is_finished()
    }

    /// Reads until the answer that is waited for; the rest is put where it belongs.
    async fn wait_for(
        &mut self,
        awaited: Awaited,
        patience: Duration,
        of: &Identity,
    ) -> Result<pb::WatchResponse, String> {
        let waiting = async {
            loop {
                match self.responses.recv().await {
                    None => return Err(format!("{SILENCE}the stream ended instead of {awaited:?}")),
                    Some(Err(status)) => {
                        let (code, text) = (status.code(), status.message());
                        return Err(format!("{SILENCE}the stream failed: {code:?}: {text}"));
                    }
                    Some(Ok(response)) if is(&response, awaited) => {
                        if matches!(awaited, Awaited::Progress(_)) {
                            self.asked = self.asked.saturating_sub(1);
                        }
                        return Ok(response);
                    }
                    Some(Ok(response)) => {
                        file(&mut self.received, &mut self.stray, &mut self.asked, &response, of);
                    }
                }
            }
        };
        tokio::time::timeout(patience, waiting)
            .await
            .unwrap_or_else(|_| Err(format!("{SILENCE}no {awaited:?}")))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is(response: &pb::WatchResponse, awaited: Awaited) -> bool {
    match awaited {
        Awaited::Created => response.created,
        Awaited::Canceled(id) => response.canceled && !response.created && response.watch_id == id,
        Awaited::Progress(revision) => {
            let known = response.header.as_ref().map_or(0, |header| header.revision);
            is_progress(response) && known >= revision
        }
    }
}

fn is_progress(response: &pb::WatchResponse) -> bool {
    !response.created && !response.canceled && response.events.is_empty() && response.watch_id == ALL
}

fn show(response: &pb::WatchResponse, of: &Identity) -> String {
    let mut response = response.clone();
    of.header(&mut response.header);
    format!("{response:?}")
}

/// Puts a response that nobody waits for where it belongs.
fn file(
    received: &mut BTreeMap<i64, Received>,
    stray: &mut Vec<String>,
    asked: &mut usize,
    response: &pb::WatchResponse,
    of: &Identity,
) {
    if is_progress(response) {
        match asked.checked_sub(1) {
            Some(left) => *asked = left,
            None => stray.push(format!("progress that could not be known: {}", show(response, of))),
        }
        return;
    }
    let Some(received) = received.get_mut(&response.watch_id) else {
        stray.push(format!("not asked for: {}", show(response, of)));
        return;
    };
    if response.events.is_empty() || response.created || response.canceled {
        received.lines.push(show(response, of));
        return;
    }
    received.events(response, of);
}

impl Received {
    fn events(&mut self, response: &pb::WatchResponse, of: &Identity) {
        let events: Vec<Event> =
            response.events.iter().filter_map(|event| Event::decode(event.as_bytes().clone()).ok()).collect();
        let revisions: Vec<i64> =
            events.iter().filter_map(|event| Some(event.kv.as_ref()?.decode().ok()?.mod_revision)).collect();
        let (first, last) = match (revisions.first(), revisions.last()) {
            (Some(&first), Some(&last)) if revisions.len() == response.events.len() => (first, last),
            _ => {
                self.lines.push(format!("events without keys: {}", show(response, of)));
                return;
            }
        };
        let header = response.header.as_ref().map_or(0, |header| header.revision);
        if first <= self.complete || !revisions.is_sorted() || header < last {
            self.lines.push(format!("out of order after revision {}: {}", self.complete, show(response, of)));
        }
        // A fragment may end within a revision, and then the next one goes on with it.
        self.complete = if response.fragment { self.complete } else { last };
        if self.live {
            self.lines.push(format!("at revision {header}, fragment {}", response.fragment));
        }
        self.lines.extend(response.events.iter().map(|event| of.event(event)));
    }
}

/// What a stream's watchers wait for; the same on both servers.
#[derive(Clone, Debug, Default)]
pub struct Watchers {
    /// The first revision that each wants, 0 for whatever comes next.
    starts: BTreeMap<i64, i64>,
    /// Those that were ended by compaction, and not cancelled since: etcd still counts them.
    ended: BTreeSet<i64>,
}

impl Watchers {
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub fn has(&self, id: i64) -> bool {
        self.starts.contains_key(&id) || self.ended.contains(&id)
    }

    pub fn add(&mut self, id: i64, start: i64) {
        self.starts.insert(id, start);
    }

    /// Notes that a watcher was ended by compaction.
    pub fn end(&mut self, id: i64) {
        self.ended.insert(id);
    }

    pub fn remove(&mut self, id: i64) {
        self.starts.remove(&id);
        self.ended.remove(&id);
    }

    /// Those that keep the stream's progress from being known at a revision: they wait for one that is
    /// still to come, or were ended and not cancelled.
    pub fn in_the_way(&self, revision: i64) -> Vec<i64> {
        let ahead = self.starts.iter().filter(|(_, start)| **start > revision);
        ahead.map(|(id, _)| *id).chain(self.ended.iter().copied()).collect()
    }

    /// The last revision that any of them waits for.
    pub fn last_start(&self) -> i64 {
        self.starts.values().copied().max().unwrap_or(0)
    }
}
