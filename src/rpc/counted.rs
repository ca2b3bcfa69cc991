//! The bodies of requests and answers of gRPC, looked at as they pass: messages are counted, those that are
//! too large stop their call, and an answer ends with its call's deadline.
//!
//! Bodies come in frames that have nothing to do with messages. Only the headers of messages are read here,
//! and nothing is kept of what passes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Either;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::{Code, Status};

use super::deadline::Deadline;
use super::instrument::status_in;
use crate::metrics::{Call, CallKind, Requests};

/// Bytes before each message: whether it is compressed, and its length.
const MESSAGE_HEADER: usize = 5;

/// The body of an answer, which ends its call.
pub(super) struct CountedAnswer {
    body: Body,
    /// None for a unary call: there is one message, the status says whether it was sent, and it was there in
    /// time.
    stream: Option<(Messages, Deadline)>,
    call: Call,
}

impl CountedAnswer {
    /// The body of the answer to `call`; a stream ends with `deadline`.
    pub(super) fn new(body: Body, call: Call, deadline: Deadline) -> Self {
        let stream = (call.kind() != CallKind::Unary).then(|| (Messages::default(), deadline));
        Self { body, stream, call }
    }
}

impl HttpBody for CountedAnswer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        // A stream that always has something to send has a deadline, too.
        if let Some((_, deadline)) = &mut this.stream
            && let Poll::Ready(status) = deadline.poll(cx)
        {
            this.call.finish(status.code() as i32);
            // What the stream keeps open goes now; the rest of the body is the status.
            (this.body, this.stream) = (Body::empty(), None);
            let mut trailers = HeaderMap::new();
            let frame = status.add_header(&mut trailers).map(|()| Frame::trailers(trailers));
            return Poll::Ready(Some(frame));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.finish(status_in(trailers).unwrap_or(Code::Unknown as i32));
                } else if let (Some((messages, _)), Some(data)) = (&mut this.stream, frame.data_ref()) {
                    this.call.sent(messages.begun_in(data));
                }
            }
            Some(Err(status)) => this.call.finish(status.code() as i32),
            None => this.call.finish(Code::Unknown as i32),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where the body of a request comes from: a connection, or the gateway.
pub(super) type Source = Either<Incoming, Body>;

/// The body of a request. It ends with an error, in the words of gRPC for Go, as soon as a message begins
/// that is not taken: nothing of a message that is too large is gathered.
pub(super) struct CountedRequest {
    body: Source,
    messages: Messages,
    /// Bytes of the largest message that is taken.
    limit: usize,
    /// For a stream, whose messages are counted one by one.
    counter: Option<Requests>,
}

impl CountedRequest {
    /// A body that takes messages of `limit` bytes at most, and counts them if there is a counter.
    pub(super) fn new(body: Source, limit: usize, counter: Option<Requests>) -> Self {
        Self { body, messages: Messages::default(), limit, counter }
    }

    fn look_at(&mut self, data: &[u8]) -> Result<(), Status> {
        let (limit, mut begun, mut refused) = (self.limit, 0, Ok(()));
        self.messages.find(data, |format, length| {
            begun += 1;
            if format > 1 {
                let text = format!("grpc: received unexpected payload format {format}");
                refused = Err(Status::internal(text));
            } else if length as usize > limit {
                let text = format!("grpc: received message larger than max ({length} vs. {limit})");
                refused = Err(Status::resource_exhausted(text));
            }
        });
        if let Some(counter) = &self.counter {
            counter.received(begun);
        }
        refused
    }
}

impl HttpBody for CountedRequest {
    type Data = Bytes;
    /// That of the source, or a [`Status`].
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(refused) = self.look_at(data)
        {
            return Poll::Ready(Some(Err(refused.into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Finds the messages of a stream in its bytes, however these are cut.
#[derive(Default)]
struct Messages {
    /// Bytes of a message's own header that were seen, and they themselves.
    header_len: usize,
    header: [u8; MESSAGE_HEADER],
    /// Bytes of a message that are still to come.
    rest: usize,
}

impl Messages {
    /// Tells of each message whose header ends in `data`: its first byte, which says how it is packed, and
    /// its length.
    fn find(&mut self, mut data: &[u8], mut begun: impl FnMut(u8, u32)) {
        while !data.is_empty() {
            let skipped = self.rest.min(data.len());
            self.rest -= skipped;
            data = &data[skipped..];
            let taken = (MESSAGE_HEADER - self.header_len).min(data.len());
            self.header[self.header_len..self.header_len + taken].copy_from_slice(&data[..taken]);
            self.header_len += taken;
            data = &data[taken..];
            if self.header_len == MESSAGE_HEADER {
                self.header_len = 0;
                let length = (&self.header[1..]).get_u32();
                self.rest = length as usize;
                begun(self.header[0], length);
            }
        }
    }

    /// The number of messages whose header ends in `data`.
    fn begun_in(&mut self, data: &[u8]) -> u64 {
        let mut messages = 0;
        self.find(data, |_, _| messages += 1);
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_their_bytes_are_cut() {
        let stream = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0, 0], &[1, 0, 0, 1, 0], &[7; 256]].concat();
        for piece in 1..=stream.len() {
            let mut messages = Messages::default();
            let begun: u64 = stream.chunks(piece).map(|data| messages.begun_in(data)).sum();
            assert_eq!((begun, messages.rest, messages.header_len), (3, 0, 0), "cut into {piece}");
        }
    }
}
