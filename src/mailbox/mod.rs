//! The only home of channels between the handlers that serve clients and the loop that owns the member.
//!
//! ```text
//!   handler --- Mail ---> bounded queue ---> event loop ---> member
//!      ^                                        |  |
//!      |---- oneshot reply <--------------------'  |
//!      |---- watch responses (queue of a stream) <-|
//!      '---- published view (swapped whole) <------'
//! ```
//!
//! Invariants:
//! - a handler never waits for the loop to read: it reads from the published view;
//! - the view that shows a write is published before the write is acknowledged;
//! - a queue of watch responses is bounded in bytes by the hub, which counts what a stream has not
//!   taken yet; the mail queue is bounded here and makes callers wait;
//! - a caller that goes away frees its ticket: the reply to nobody is dropped.

mod watch;

use std::sync::Arc;

use crate::rt::sync::{Notify, mpsc, oneshot};
use crate::rt::{self, Shutdown, ShutdownTrigger, shutdown_channel};
use arc_swap::ArcSwap;

use crate::apply;
use crate::limits;
use crate::member::{MemberView, Reply, Request, WatchCommand};
use crate::proto::etcdserverpb as pb;
use crate::types::{LocalFault, RequestError, StreamId};

pub use watch::{WatchResponses, WatchSession};

/// What comes out of the mailbox, for the event loop.
pub enum Mail {
    /// A request and where its reply goes.
    Request {
        /// What is asked.
        request: Request,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Reply, RequestError>>,
    },
    /// A watch stream opens; its responses go to the sender.
    WatchOpen {
        /// The new stream.
        stream: StreamId,
        /// Where its responses go.
        responses: mpsc::UnboundedSender<Vec<pb::WatchResponse>>,
    },
    /// A reader found the disk or the data of this member at fault.
    Fault(LocalFault),
    /// A watch stream says something.
    Watch {
        /// The stream.
        stream: StreamId,
        /// What it says.
        command: WatchCommand,
    },
}

/// A handler's way to the member. Cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    mail: mpsc::Sender<Mail>,
    published: Arc<Published>,
    stopping: Shutdown,
    next_stream: Arc<std::sync::atomic::AtomicU64>,
    /// Bytes of watch responses that a stream takes before it says so.
    drain_report_bytes: usize,
}

/// The newest view, and who waits for a newer one.
struct Published {
    view: ArcSwap<MemberView>,
    changed: Notify,
}

/// The loop's end of the mailbox.
pub struct MailboxReceiver {
    mail: mpsc::Receiver<Mail>,
    published: Arc<Published>,
    stop: ShutdownTrigger,
}

/// Makes a mailbox whose handlers see `view` until another is published.
pub fn mailbox(view: Arc<MemberView>) -> (Mailbox, MailboxReceiver) {
    let (sender, receiver) = mpsc::channel(limits::MAILBOX_CAPACITY);
    let published = Arc::new(Published { view: ArcSwap::new(view), changed: Notify::new() });
    let (stop, stopping) = shutdown_channel();
    let mailbox = Mailbox {
        mail: sender,
        published: published.clone(),
        stopping,
        next_stream: Arc::default(),
        drain_report_bytes: watch::drain_report_bytes(limits::WATCH_STREAM_BYTES),
    };
    (mailbox, MailboxReceiver { mail: receiver, published, stop })
}

impl Mailbox {
    /// The same, for a member whose hub lets a watch stream have so many bytes queued.
    pub fn with_watch_budget(self, bytes: usize) -> Self {
        Self { drain_report_bytes: watch::drain_report_bytes(bytes), ..self }
    }

    /// Asks the member and waits for its reply.
    ///
    /// # Errors
    /// The member's answer, or `Stopped` when the loop has ended.
    pub async fn ask(&self, request: Request) -> Result<Reply, RequestError> {
        let (reply, answer) = oneshot::channel();
        rt::dawdle("mailbox: asks late").await;
        self.send(Mail::Request { request, reply }).await?;
        let answer = answer.await;
        rt::dawdle("mailbox: answers late").await;
        answer.map_err(|_| RequestError::Stopped)?
    }

    /// Asks for something that goes through the log.
    ///
    /// # Errors
    /// As [`Mailbox::ask`].
    pub async fn ask_log(&self, request: Request) -> Result<apply::Reply, RequestError> {
        match self.ask(request).await? {
            Reply::Applied(reply) => Ok(reply),
            other => unreachable!("a request to the log was answered with {other:?}"),
        }
    }

    /// Asks for something that is done whether or not anybody waits for it, from where nothing may wait.
    pub fn tell(&self, request: Request) {
        let (reply, _) = oneshot::channel();
        self.send_aside(Mail::Request { request, reply });
    }

    /// The newest view. It may lag behind what other members acknowledged.
    pub fn view(&self) -> Arc<MemberView> {
        self.published.view.load_full()
    }

    /// Told when the member is about to stop: requests are still answered, but no stream may go on.
    pub fn stopping(&self) -> Shutdown {
        self.stopping.clone()
    }

    /// Waits until a published view is as wanted.
    pub async fn wait_for(&self, wanted: impl Fn(&MemberView) -> bool) {
        loop {
            // Asked for before the look: what is published in between is not missed.
            let changed = self.published.changed.notified();
            if wanted(&self.view()) {
                return;
            }
            changed.await;
        }
    }

    /// A view that holds everything acknowledged anywhere before the call.
    ///
    /// # Errors
    /// When no quorum confirms the leader in time: see [`Request::ReadIndex`].
    pub async fn linearizable_view(&self) -> Result<Arc<MemberView>, RequestError> {
        let view = self.view();
        if view.status.reads_need_no_round {
            return Ok(view);
        }
        self.ask(Request::ReadIndex).await?;
        Ok(self.view())
    }

    /// Tells the loop that this member cannot go on.
    pub fn report_fault(&self, fault: LocalFault) {
        self.send_aside(Mail::Fault(fault));
    }

    /// Opens a watch stream.
    ///
    /// # Errors
    /// `Stopped` when the loop has ended.
    pub async fn open_watch(&self) -> Result<(WatchSession, WatchResponses), RequestError> {
        let id = self.next_stream.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let stream = StreamId(id + 1);
        let (sender, receiver) = mpsc::unbounded_channel();
        self.send(Mail::WatchOpen { stream, responses: sender }).await?;
        Ok(watch::open(stream, self.clone(), receiver))
    }

    async fn send(&self, mail: Mail) -> Result<(), RequestError> {
        // The fast way first: reserving a place costs a semaphore's queue.
        match self.mail.try_send(mail) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(mail)) => {
                self.mail.send(mail).await.map_err(|_| RequestError::Stopped)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(RequestError::Stopped),
        }
    }

    /// Sends mail that must arrive, from where nothing may wait: a full mailbox gets it as soon as there
    /// is room.
    fn send_aside(&self, mail: Mail) {
        if let Err(mpsc::error::TrySendError::Full(mail)) = self.mail.try_send(mail) {
            let sender = self.mail.clone();
            crate::rt::spawn(async move {
                // The loop is gone when this fails, and nobody has to hear of it any more.
                let _ = sender.send(mail).await;
            });
        }
    }
}

impl MailboxReceiver {
    /// Waits for mail and appends what has gathered, at most `limit`. Returns how much, 0 when every
    /// handler is gone.
    pub async fn receive(&mut self, into: &mut Vec<Mail>, limit: usize) -> usize {
        self.mail.recv_many(into, limit).await
    }

    /// Appends what has gathered without waiting, until `into` holds `limit`.
    pub fn receive_gathered(&mut self, into: &mut Vec<Mail>, limit: usize) {
        while into.len() < limit {
            match self.mail.try_recv() {
                Ok(mail) => into.push(mail),
                Err(_) => return,
            }
        }
    }

    /// Tells handlers to end what their clients would never end. So does the end of the loop.
    pub fn announce_stop(&self) {
        self.stop.trigger();
    }

    /// Shows handlers a newer view.
    pub fn publish(&self, view: Arc<MemberView>) {
        self.published.view.store(view);
        self.published.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::testing;

    /// Nobody may come by a second time to report it.
    #[tokio::test]
    async fn a_full_mailbox_hears_of_a_fault_as_well() {
        let (mailbox, mut receiver) = mailbox(testing::view().into());
        for _ in 0..=limits::MAILBOX_CAPACITY {
            mailbox.report_fault(LocalFault::new("the disk failed"));
        }
        let mut mail = Vec::new();
        receiver.receive_gathered(&mut mail, usize::MAX);
        assert_eq!(mail.len(), limits::MAILBOX_CAPACITY);
        assert_eq!(receiver.receive(&mut mail, 1).await, 1);
        assert!(matches!(mail.last(), Some(Mail::Fault(_))));
    }
}
