//! The body of an answer of gRPC, looked at as it passes: its messages are counted, and it ends with its
//! call's deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::deadline::Deadline;
use super::messages::Messages;
use super::status::status_in;
use super::undecodable;
use crate::metrics::{Call, CallKind};

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
        let mut frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    undecodable::translate(trailers, this.call.kind());
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
