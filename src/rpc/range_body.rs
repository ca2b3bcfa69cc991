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

use crate::limits;
use crate::mailbox::Mailbox;
use crate::mvcc::range::RangeScan;
use crate::proto::etcdserverpb::{RangeResponse, ResponseHeader};
use crate::types::{Error, RequestError};

/// Bytes before a gRPC message: whether it is compressed, and its length.
pub(super) const FRAME_HEADER: usize = 5;

/// Tag byte of field 1, a message.
const HEADER_TAG: u8 = 0x0a;

/// Reads the one message of a unary call.
pub(super) fn decode_message<M: Message + Default>(mut body: Bytes, limit: usize) -> Result<M, Status> {
    if body.len() < FRAME_HEADER {
        return Err(Status::internal("Missing request message."));
    }
    if body.get_u8() != 0 {
        return Err(Status::unimplemented("compressed messages are not supported"));
    }
    let length = body.get_u32() as usize;
    if length > limit {
        return Err(too_large(length, limit));
    }
    if length != body.len() {
        return Err(Status::internal("Unexpected EOF decoding stream."));
    }
    M::decode(body).map_err(|error| Status::internal(format!("failed to decode Protobuf message: {error}")))
}

/// gRPC's own words for a message that is too large.
fn too_large(length: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({length} vs. {limit})"))
}

/// The status of a request body that could not be read.
pub(super) fn read_error(error: &(dyn std::error::Error + 'static), limit: usize) -> Status {
    if let Some(status) = error.downcast_ref::<Status>() {
        return status.clone();
    }
    if error.is::<http_body_util::LengthLimitError>() {
        return too_large(limit + 1, limit);
    }
    Status::cancelled(error.to_string())
}

/// An answer that is there as a whole.
pub(super) fn whole(response: &RangeResponse) -> Response<Body> {
    let length = response.encoded_len();
    if u32::try_from(length).is_err() {
        return Status::resource_exhausted("the answer is larger than a gRPC message can be").into_http();
    }
    let mut frame = BytesMut::with_capacity(FRAME_HEADER + length);
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
    let mut head = BytesMut::with_capacity(limits::ANSWER_CHUNK_BYTES + FRAME_HEADER + head_len);
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

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_message_must_be_as_long_as_it_says() {
        let frame = |length: u32, body: &[u8]| {
            let mut bytes = BytesMut::new();
            bytes.put_u8(0);
            bytes.put_u32(length);
            bytes.put_slice(body);
            bytes.freeze()
        };
        let decode = |bytes| decode_message::<ResponseHeader>(bytes, 100);
        assert_eq!(decode(frame(2, &[8, 7])).unwrap().cluster_id, 7);
        assert_eq!(decode(frame(3, &[8, 7])).unwrap_err().code(), Code::Internal);
        assert_eq!(decode(frame(101, &[0; 101])).unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(decode(Bytes::from_static(&[0, 0])).unwrap_err().code(), Code::Internal);
    }
}
