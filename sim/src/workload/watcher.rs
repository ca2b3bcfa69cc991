//! Clients that watch: one on each member that hears everything from the beginning, and others that come
//! and go, ask for the past and the future, and say that they have had enough.

use std::time::Duration;

use bytes::Bytes;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::watch_client::WatchClient;
use detcd::rt;
use detcd::rt::sync::mpsc;
use futures::stream;
use pb::watch_request::RequestUnion;
use rand::Rng;

use super::{Learnt, Recorder, Workload};
use crate::history::{Failure, MemberNumber, Word, mod_revision};
use crate::random::{Draw, Random};
use crate::world::World;

/// Pause before a stream is opened again.
const REOPEN: Duration = Duration::from_millis(100);

/// Watches everything on one member, from the first revision or from where it was when its stream broke,
/// until the world ends. A compaction that overtakes it moves it forward.
pub async fn run_full_watcher(world: World, recorder: Recorder, client: u32, member: MemberNumber) {
    let mut next = 1;
    while !world.watching_is_over() {
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            start_revision: next,
            prev_kv: true,
            progress_notify: true,
            ..Default::default()
        };
        let mut session = Session::new(&world, &recorder, client, member);
        session.say(RequestUnion::CreateRequest(create));
        while let Some(response) = session.hear(&world, None).await {
            if response.canceled {
                next = next.max(response.compact_revision);
                break;
            }
            if let Some(last) = response.events.last() {
                next = next.max(mod_revision(last) + 1);
            }
        }
        rt::sleep(REOPEN).await;
    }
}

/// Watches this and that until the world ends.
pub async fn run_watcher(
    world: World,
    recorder: Recorder,
    learnt: Learnt,
    workload: Workload,
    client: u32,
    mut random: Random,
) {
    while !world.watching_is_over() {
        let member = random.random_range(1..=world.size());
        let mut session = Session::new(&world, &recorder, client, member);
        let count: i64 = random.random_range(1..=4);
        for _ in 0..count {
            let create = draw_create(&mut random, &workload, &learnt);
            session.say(RequestUnion::CreateRequest(create));
        }
        // How much of it the client wants: at the end of a run everybody stays.
        let mut patience: u32 = random.random_range(5..=60);
        loop {
            let wait = Duration::from_millis(random.random_range(50..=1500));
            match session.hear(&world, Some(wait)).await {
                Some(_) => patience = patience.saturating_sub(1),
                None if session.ended => break,
                None => {}
            }
            if world.must_hold_still() {
                continue;
            }
            match random.random_range(0..12) {
                0 => session.say(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
                1 => {
                    let watch_id = random.random_range(0..=count);
                    session.say(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
                }
                2 => {
                    let create = draw_create(&mut random, &workload, &learnt);
                    session.say(RequestUnion::CreateRequest(create));
                }
                _ if random.percent(workload.slow_reader_percent) => {
                    // Does not read for a while.
                    let span = Duration::from_millis(random.random_range(100..=3000));
                    rt::select! {
                        () = rt::sleep(span) => {}
                        () = world.holding_still() => {}
                    }
                }
                _ => {}
            }
            if patience == 0 {
                session.leave();
                break;
            }
        }
        rt::sleep(REOPEN).await;
    }
}

fn draw_create(random: &mut Random, workload: &Workload, learnt: &Learnt) -> pb::WatchCreateRequest {
    let newest = learnt.revision();
    let key = |random: &mut Random| Bytes::from(format!("k/{:02}", random.random_range(0..workload.keys)));
    let (key, range_end) = match random.random_range(0..6) {
        0 => (Bytes::from_static(b"k/"), Bytes::from_static(b"k0")),
        1 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        2 => (key(random), Bytes::from_static(b"\0")),
        3 => (key(random), key(random)),
        _ => (key(random), Bytes::new()),
    };
    let start_revision = match random.random_range(0..9) {
        0..4 => 0,
        // Where the past ends: nothing of it may be missing.
        8 => learnt.compacted() + random.random_range(0..=1),
        4 => random.random_range(1..=newest.max(1)),
        5 => (newest - random.random_range(0..=10)).max(1),
        6 => newest + random.random_range(1..=15),
        _ => 1,
    };
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: random.percent(40),
        filters: (0..=1).filter(|_| random.percent(10)).collect(),
        prev_kv: random.percent(50),
        fragment: random.percent(20),
        ..Default::default()
    }
}

/// One stream, as its client drives it.
struct Session {
    recorder: Recorder,
    stream: usize,
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    responses: mpsc::Receiver<Result<pb::WatchResponse, tonic::Status>>,
    ended: bool,
}

impl Session {
    /// Opens a stream to a member; it may turn out to have ended.
    fn new(world: &World, recorder: &Recorder, client: u32, member: MemberNumber) -> Self {
        let (requests, said) = mpsc::unbounded_channel();
        // What the client does not read stays with the server, which must bear it.
        let (heard, responses) = mpsc::channel(1);
        let channel = world.channel(client, member);
        // The stub polls what the client says and what it hears in one task, as a connection does.
        rt::spawn(async move {
            let said = stream::unfold(said, |mut said: mpsc::UnboundedReceiver<_>| async {
                said.recv().await.map(|request| (request, said))
            });
            let opened = WatchClient::new(channel).watch(said).await;
            let mut responses = match opened {
                Ok(responses) => responses.into_inner(),
                Err(status) => {
                    let _ = heard.send(Err(status)).await;
                    return;
                }
            };
            loop {
                let word = match responses.message().await {
                    Ok(Some(response)) => Ok(response),
                    Ok(None) => Err(tonic::Status::unavailable("the stream ended")),
                    Err(status) => Err(status),
                };
                let is_end = word.is_err();
                // Nobody listens any more: the stream is dropped, and the member hears of it.
                if heard.send(word).await.is_err() || is_end {
                    return;
                }
            }
        });
        let stream = recorder.opened(client, member);
        Self { recorder: recorder.clone(), stream, requests, responses, ended: false }
    }

    fn say(&mut self, what: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(what) };
        self.recorder.word(self.stream, Word::Said(request.clone()));
        // An ended stream is noticed by the next look at it.
        let _ = self.requests.send(request);
    }

    /// The next response. None when the wait is over, the stream has ended, or watching is over.
    async fn hear(&mut self, world: &World, wait: Option<Duration>) -> Option<pb::WatchResponse> {
        let word = rt::select! {
            word = self.responses.recv() => word,
            () = world.watching_over() => {
                self.ended = true;
                return None;
            }
            () = rt::sleep(wait.unwrap_or_default()), if wait.is_some() => return None,
        };
        match word {
            Some(Ok(response)) => {
                self.recorder.word(self.stream, Word::Heard(response.clone()));
                Some(response)
            }
            Some(Err(status)) => {
                let failure = Failure { code: status.code() as i32, message: status.message().to_owned() };
                self.recorder.word(self.stream, Word::Ended(failure));
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                None
            }
        }
    }

    fn leave(&mut self) {
        self.recorder.word(self.stream, Word::Left);
    }
}
