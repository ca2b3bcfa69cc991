//! The events of a key or of a prefix, in order and without a gap: a stream that breaks is opened again
//! behind what was seen.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::channel::mpsc;
use tonic::{Code, Request, Status, Streaming};

use crate::ctl::failure::Failure;
use crate::ctl::session::{RETRY_PAUSE, Session};
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::proto::{EventType, KeyValue};
use crate::rt;

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The header of the answer that told it.
    pub header: ResponseHeader,
    /// Whether the key was deleted.
    pub deleted: bool,
    /// The key as it is now.
    pub kv: KeyValue,
}

/// A watch on which one change after the other is waited for.
pub struct Events<'a> {
    session: &'a Session,
    request: WatchCreateRequest,
    stream: Option<Stream>,
    arrived: VecDeque<Change>,
}

/// An open stream. The server ends the watch when the client's side of it ends, not when nobody reads.
struct Stream {
    _requests: mpsc::UnboundedSender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl<'a> Events<'a> {
    /// What happens from `start_revision` on.
    pub fn new(session: &'a Session, (key, range_end): (Bytes, Bytes), start_revision: i64) -> Self {
        let request = WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
        Self { session, request, stream: None, arrived: VecDeque::new() }
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// When the server ends the watch, for example because the history from the start revision on is gone.
    pub async fn next(&mut self) -> Result<Change, Failure> {
        loop {
            if let Some(change) = self.arrived.pop_front() {
                return Ok(change);
            }
            match self.receive().await {
                Ok(answer) => self.take(&answer)?,
                Err(status) if matches!(status.code(), Code::Unavailable | Code::Internal) => {
                    self.stream = None;
                    rt::sleep(RETRY_PAUSE).await;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }

    async fn receive(&mut self) -> Result<WatchResponse, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(Stream::open(self.session, self.request.clone()).await?),
        };
        stream.answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))
    }

    fn take(&mut self, answer: &WatchResponse) -> Result<(), Failure> {
        if answer.compact_revision != 0 {
            return Err(Status::out_of_range("etcdserver: mvcc: required revision has been compacted").into());
        }
        if answer.canceled {
            return Err(Status::failed_precondition(&answer.cancel_reason).into());
        }
        let malformed =
            |error: prost::DecodeError| Failure::from(Status::internal(format!("malformed event: {error}")));
        let header = answer.header.unwrap_or_default();
        for event in &answer.events {
            let event = event.decode().map_err(malformed)?;
            let deleted = event.r#type() == EventType::Delete;
            let kv = event.kv.unwrap_or_default().decode().map_err(malformed)?;
            self.request.start_revision = kv.mod_revision + 1;
            self.arrived.push_back(Change { header, deleted, kv });
        }
        Ok(())
    }
}

impl Stream {
    async fn open(session: &Session, request: WatchCreateRequest) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::unbounded();
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
        // The receiver is at hand, so this cannot fail.
        let _ = requests.unbounded_send(create);
        let answers = session.clients().watch().watch(Request::new(outgoing)).await?.into_inner();
        Ok(Self { _requests: requests, answers })
    }
}
