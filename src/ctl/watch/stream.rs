//! The watch stream: all watches of the command on one, opened again when it breaks.

use std::collections::{BTreeMap, VecDeque};

use futures::StreamExt;
use futures::channel::mpsc;
use tonic::{Code, Request, Status};

use super::event::{show, show_cancelled};
use crate::ctl::failure::Failure;
use crate::ctl::parse::WatchLine;
use crate::ctl::session::{RETRY_PAUSE, Session, require_leader};
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{WatchProgressRequest, WatchRequest, WatchResponse};
use crate::rt;

/// The watch id of answers that are about all watches of the stream.
const ALL_WATCHES: i64 = -1;
/// What a member without a leader says; opening the stream again would find no leader either.
const NO_LEADER: &str = "etcdserver: no leader";

/// What the user asks the stream for.
#[derive(Debug)]
pub enum Order {
    /// One more watch.
    Watch(WatchLine),
    /// Tell how far the watches got.
    Progress,
}

/// Carries out orders and shows what comes. Returns when no watch is left and none can come, which is never
/// when the orders are `interactive`.
///
/// # Errors
/// When an answer cannot be shown.
pub async fn follow(
    session: Session,
    mut orders: mpsc::UnboundedReceiver<Order>,
    interactive: bool,
) -> Result<(), Failure> {
    let mut watches = Watches { session, created: BTreeMap::new(), awaited: VecDeque::new() };
    loop {
        while watches.are_none() {
            match orders.next().await {
                Some(Order::Watch(line)) => watches.awaited.push_back(line),
                // Nobody watches, so nothing makes progress.
                Some(Order::Progress) => {}
                None => return Ok(()),
            }
        }
        let ended = watches.run(&mut orders).await?;
        if let Some(status) = ended {
            if breaks_off(&status) {
                watches.cancel_all(&status)?;
            } else {
                rt::sleep(RETRY_PAUSE).await;
            }
        }
        if watches.are_none() && !interactive {
            return Ok(());
        }
    }
}

/// Whether a broken stream stays broken.
fn breaks_off(status: &Status) -> bool {
    !matches!(status.code(), Code::Unavailable | Code::Internal) || status.message() == NO_LEADER
}

struct Watches {
    session: Session,
    /// By watch id on the running stream.
    created: BTreeMap<i64, WatchLine>,
    /// Asked for and not answered yet, in order. The server answers in order too.
    awaited: VecDeque<WatchLine>,
}

impl Watches {
    fn are_none(&self) -> bool {
        self.created.is_empty() && self.awaited.is_empty()
    }

    /// Opens a stream and follows it. Gives why it broke, or nothing when no watch is left on it.
    async fn run(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Result<Option<Status>, Failure> {
        // Those of the stream before come first again.
        let resumed = std::mem::take(&mut self.created).into_values();
        self.awaited = resumed.chain(std::mem::take(&mut self.awaited)).collect();
        let (requests, outgoing) = mpsc::unbounded();
        // The receiving end goes when the stream breaks, and that is noticed below.
        let ask = |union| drop(requests.unbounded_send(WatchRequest { request_union: Some(union) }));
        for line in &self.awaited {
            ask(RequestUnion::CreateRequest(line.request.clone()));
        }
        let request = require_leader(Request::new(outgoing));
        let mut answers = match self.session.clients().watch().watch(request).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return Ok(Some(status)),
        };
        while !self.are_none() {
            rt::select! {
                Some(order) = orders.next() => match order {
                    Order::Watch(line) => {
                        ask(RequestUnion::CreateRequest(line.request.clone()));
                        self.awaited.push_back(line);
                    }
                    Order::Progress => ask(RequestUnion::ProgressRequest(WatchProgressRequest {})),
                },
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.take(answer).await?,
                    Ok(None) => return Ok(Some(Status::unavailable("the stream ended"))),
                    Err(status) => return Ok(Some(status)),
                },
            }
        }
        Ok(None)
    }

    async fn take(&mut self, answer: WatchResponse) -> Result<(), Failure> {
        let revision = answer.header.unwrap_or_default().revision;
        if answer.created {
            let Some(mut line) = self.awaited.pop_front() else { return Ok(()) };
            if answer.canceled {
                return show_cancelled(&self.session, answer);
            }
            if line.request.start_revision == 0 {
                line.request.start_revision = revision + 1;
            }
            self.created.insert(answer.watch_id, line);
            return Ok(());
        }
        if answer.canceled {
            return match self.created.remove(&answer.watch_id) {
                Some(_) => show_cancelled(&self.session, answer),
                None => Ok(()),
            };
        }
        let id = answer.watch_id;
        for (_, line) in self.created.iter_mut().filter(|(watch, _)| id == ALL_WATCHES || id == **watch) {
            show(&self.session, &answer, &line.command).await?;
            line.request.start_revision = line.request.start_revision.max(seen(&answer)? + 1);
        }
        Ok(())
    }

    fn cancel_all(&mut self, status: &Status) -> Result<(), Failure> {
        let watches = std::mem::take(&mut self.created).len() + std::mem::take(&mut self.awaited).len();
        (0..watches).try_for_each(|_| {
            let answer = WatchResponse {
                canceled: true,
                cancel_reason: status.message().to_owned(),
                ..WatchResponse::default()
            };
            show_cancelled(&self.session, answer)
        })
    }
}

/// Up to which revision a watch has seen everything after this answer.
fn seen(answer: &WatchResponse) -> Result<i64, Failure> {
    let Some(last) = answer.events.last() else {
        return Ok(answer.header.unwrap_or_default().revision);
    };
    let event = last.decode().map_err(|error| malformed(&error))?;
    let kv = event.kv.unwrap_or_default().decode().map_err(|error| malformed(&error))?;
    Ok(kv.mod_revision)
}

fn malformed(error: &prost::DecodeError) -> Failure {
    Failure::from(Status::internal(format!("malformed event: {error}")))
}
