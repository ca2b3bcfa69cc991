//! The two halves of a client's watch stream: what the client says, and what it hears.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::rt::{self, sync::mpsc};
use futures::Stream;

use super::{Mail, Mailbox};
use crate::member::{WatchCommand, response_weight};
use crate::proto::etcdserverpb as pb;
use crate::types::{RequestError, StreamId};

/// Bytes that a stream with this budget takes before it says so: often enough for the hub, which waits for
/// half of the budget at most, seldom enough to cost nothing.
pub(super) const fn drain_report_bytes(budget: usize) -> usize {
    if budget < 8 { 1 } else { budget / 8 }
}

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
        let report_bytes = self.mailbox.drain_report_bytes;
        if self.taken < report_bytes && !rt::buggify("watch: tells what it took at once") {
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
                // The hub counted it by the same measure when it queued it.
                self.taken += response_weight(&response);
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

impl Drop for WatchResponses {
    fn drop(&mut self) {
        self.mailbox.send_aside(Mail::Watch { stream: self.stream, command: WatchCommand::Close });
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::limits;
    use crate::mailbox::{MailboxReceiver, mailbox};
    use crate::metrics::testing;

    async fn drained(receiver: &mut MailboxReceiver) -> usize {
        let mut mail = Vec::new();
        receiver.receive_gathered(&mut mail, usize::MAX);
        let of = |mail: Mail| match mail {
            Mail::Watch { command: WatchCommand::Drained(bytes), .. } => bytes,
            _ => 0,
        };
        mail.into_iter().map(of).sum()
    }

    /// A budget that is given back by another measure than it was taken by runs dry in the end; and so does
    /// one that is smaller than what is given back at a time.
    async fn check_given_back(budget: usize) {
        let (mailbox, mut receiver) = mailbox(testing::view().into());
        let mailbox = mailbox.with_watch_budget(budget);
        let report_bytes = mailbox.drain_report_bytes;
        let (session, mut responses) = mailbox.open_watch().await.expect("a loop");
        let mut mail = Vec::new();
        receiver.receive_gathered(&mut mail, 1);
        let Some(Mail::WatchOpen { responses: queue, .. }) = mail.pop() else { panic!("no stream") };
        let response = pb::WatchResponse { watch_id: 7, ..Default::default() };
        let count = 10 * report_bytes / response_weight(&response) + 10;
        queue.send(vec![response.clone(); count]).expect("a stream");
        for _ in 0..count {
            assert_eq!(responses.next().await, Some(response.clone()));
        }
        let untold = count * response_weight(&response) - drained(&mut receiver).await;
        assert!(untold < report_bytes, "{untold} bytes were never given back");
        assert!(untold <= budget / 2, "the hub waits until half of its budget of {budget} is free");
        drop(session);
    }

    #[tokio::test]
    async fn all_that_the_hub_counted_is_given_back() {
        for budget in [0, 100, 3000, limits::WATCH_STREAM_BYTES] {
            check_given_back(budget).await;
        }
    }
}
