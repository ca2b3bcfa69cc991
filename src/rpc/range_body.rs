//! The gRPC framing of a Range answer, and the body that encodes a large one while it is sent.
//!
//! A gRPC message begins with its length, so the length must be known before the first byte leaves. The
//! store's index knows the encoded size of any interval without walking it, and a view never changes:
//! so the length goes out first, and the records follow in chunks as the client takes them. However
//! large the answer, one chunk of it is in memory at a time.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint, int64};
use tonic::Status;
use tonic::body::Body;

use super::messages::MESSAGE_HEAD;
use super::undecodable;
use crate::limits;
use crate::mailbox::Mailbox;
use crate::metrics::CallKind;
use crate::mvcc::range::RangeScan;
use crate::proto::etcdserverpb::{RangeResponse, ResponseHeader};
use crate::types::{Error, RequestError};

/// Tag byte of field 1, a message.
const HEADER_TAG: u8 = 0x0a;

/// Reads the one message of a unary call, which is there as a whole.
pub(super) fn decode_message<M: Message + Default>(mut body: Bytes) -> Result<M, Status> {
    body.advance(MESSAGE_HEAD.min(body.len()));
    M::decode(body).map_err(|_| undecodable::status(CallKind::Unary))
}

/// An answer that is there as a whole.
pub(super) fn whole(response: &RangeResponse) -> Response<Body> {
    let length = response.encoded_len();
    if u32::try_from(length).is_err() {
        return Status::resource_exhausted("the answer is larger than a gRPC message can be").into_http();
    }
    let mut frame = BytesMut::with_capacity(MESSAGE_HEAD + length);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    if response.encode(&mut frame).is_err() {
        return Status::internal("the answer did not fit its own length").into_http();
    }
    respond(Body::new(WholeBody { frame: Some(frame.freeze()), trailers: false }))
}

/// An answer that is encoded while it is sent.
pub(super) fn lazy(header: ResponseHeader, scan: RangeScan, mailbox: Mailbox) -> Response<Body> {
    let header_len = header.encoded_len();
    let mut tail = BytesMut::new();
    if scan.more() {
        prost::encoding::bool::encode(3, &true, &mut tail);
    }
    if scan.count() != 0 {
        int64::encode(4, &scan.count(), &mut tail);
    }
    let head_len = 1 + encoded_len_varint(header_len as u64) + header_len;
    let length = head_len as u64 + scan.total_len() + tail.len() as u64;
    let Ok(frame_length) = u32::try_from(length) else {
        return Status::resource_exhausted("the answer is larger than a gRPC message can be").into_http();
    };
    let mut head = BytesMut::with_capacity(limits::ANSWER_CHUNK_BYTES + MESSAGE_HEAD + head_len);
    head.put_u8(0);
    head.put_u32(frame_length);
    head.put_u8(HEADER_TAG);
    encode_varint(header_len as u64, &mut head);
    header.encode_raw(&mut head);
    respond(Body::new(LazyBody { state: State::Head(head), scan, tail: tail.freeze(), mailbox }))
}

fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

struct WholeBody {
    frame: Option<Bytes>,
    trailers: bool,
}

impl HttpBody for WholeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.frame.take() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if self.trailers {
            return Poll::Ready(None);
        }
        self.trailers = true;
        Poll::Ready(Some(Ok(Frame::trailers(ok_trailers()))))
    }
}

enum State {
    /// Nothing has left yet: the length, and the header of the answer.
    Head(BytesMut),
    Records,
    Tail,
    Trailers,
    End,
}

struct LazyBody {
    state: State,
    scan: RangeScan,
    tail: Bytes,
    mailbox: Mailbox,
}

impl LazyBody {
    /// The next chunk of records behind what is in `out`.
    fn chunk(&mut self, mut out: BytesMut) -> Result<Bytes, Status> {
        match self.scan.next_chunk(limits::ANSWER_CHUNK_BYTES, &mut out) {
            Ok(more) => {
                self.state = if more { State::Records } else { State::Tail };
                Ok(out.freeze())
            }
            Err(error) => {
                self.state = State::End;
                if let Error::Local(fault) = error {
                    self.mailbox.report_fault(fault);
                }
                Err(super::status::status(RequestError::Stopped))
            }
        }
    }
}

impl HttpBody for LazyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = match std::mem::replace(&mut this.state, State::End) {
            State::Head(head) => this.chunk(head).map(Frame::data),
            State::Records => {
                let out = BytesMut::with_capacity(limits::ANSWER_CHUNK_BYTES + 4096);
                this.chunk(out).map(Frame::data)
            }
            State::Tail => {
                this.state = State::Trailers;
                Ok(Frame::data(std::mem::take(&mut this.tail)))
            }
            State::Trailers => Ok(Frame::trailers(ok_trailers())),
            State::End => return Poll::Ready(None),
        };
        Poll::Ready(Some(frame))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
