//! The two halves of a client's watch stream: what the client says, and what it hears.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::rt::sync::mpsc;
use futures::Stream;
use prost::Message;

use super::{Mail, Mailbox};
use crate::limits;
use crate::member::WatchCommand;
use crate::proto::etcdserverpb as pb;
use crate::types::{RequestError, StreamId};

/// Bytes that a stream takes before it says so: often enough for the hub's budget, seldom enough to
/// cost nothing.
const DRAIN_REPORT_BYTES: usize = limits::WATCH_STREAM_BYTES / 8;

/// Makes both halves of a stream that the loop was told of.
pub(super) fn open(
    stream: StreamId,
    mailbox: Mailbox,
    queue: mpsc::UnboundedReceiver<Vec<pb::WatchResponse>>,
) -> (WatchSession, WatchResponses) {
    let session = WatchSession { stream, mailbox: mailbox.clone() };
    let responses = WatchResponses { stream, mailbox, queue, ready: Vec::new().into_iter(), taken: 0 };
    (session, responses)
}

/// The client's half: passes on what the client says.
pub struct WatchSession {
    stream: StreamId,
    mailbox: Mailbox,
}

impl WatchSession {
    /// Passes on one command.
    ///
    /// # Errors
    /// `Stopped` when the loop has ended.
    pub async fn say(&self, command: WatchCommand) -> Result<(), RequestError> {
        self.mailbox.send(Mail::Watch { stream: self.stream, command }).await
    }
}

/// The server's half: the responses, in order. Dropping it closes the stream.
pub struct WatchResponses {
    stream: StreamId,
    mailbox: Mailbox,
    queue: mpsc::UnboundedReceiver<Vec<pb::WatchResponse>>,
    ready: std::vec::IntoIter<pb::WatchResponse>,
    taken: usize,
}

impl WatchResponses {
    /// Tells the hub what was taken, once it is worth a message. What stays untold is far below the
    /// stream's budget, so nothing waits for it. Returns whether there is nothing left to tell.
    fn report(&mut self) -> bool {
        if self.taken < DRAIN_REPORT_BYTES {
            return true;
        }
        let command = WatchCommand::Drained(self.taken);
        let told = self.mailbox.mail.try_send(Mail::Watch { stream: self.stream, command });
        if told.is_ok() {
            self.taken = 0;
        }
        told.is_ok()
    }
}

impl Stream for WatchResponses {
    type Item = pb::WatchResponse;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(response) = self.ready.next() {
                self.taken += response.encoded_len();
                self.report();
                return Poll::Ready(Some(response));
            }
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(responses)) => self.ready = responses.into_iter(),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    // The mailbox was full: nothing more may come before the hub knows, so try again.
                    if !self.report() {
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

const _: () = assert!(DRAIN_REPORT_BYTES * 4 <= limits::WATCH_STREAM_BYTES);

impl Drop for WatchResponses {
    fn drop(&mut self) {
        let mail = Mail::Watch { stream: self.stream, command: WatchCommand::Close };
        let sender = self.mailbox.mail.clone();
        if let Err(mpsc::error::TrySendError::Full(mail)) = sender.try_send(mail) {
            crate::rt::spawn(async move {
                // The loop is gone when this fails, and the stream with it.
                let _ = sender.send(mail).await;
            });
        }
    }
}
