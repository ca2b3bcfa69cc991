//! The body of a request of gRPC on its way to its service: as many messages as the call may have, none of
//! them too large, each unpacked. What is wrong with it ends the call in the words of gRPC for Go.
//!
//! ```text
//!   connection, or gateway --> RequestBody --> tonic's codec, or Rpc::serve_range
//!                               |  counts messages, stops at one that is too large
//!                               |  one message only, for calls that take one
//!                               '- compressed messages leave it plain
//! ```
//!
//! Invariants:
//! - nothing of a message that is too large is gathered, and none is unpacked beyond the limit;
//! - plain messages pass without a copy, unless they share a call with compressed ones.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::{GzDecoder, MultiGzDecoder};
use http_body::{Body as HttpBody, Frame};
use http_body_util::Either;
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;

use super::messages::{MESSAGE_HEAD, MessageHead, Messages};
use crate::metrics::{CallKind, Requests};

/// Where the body of a request comes from: a connection, or the gateway.
pub(super) type Source = Either<Incoming, Body>;

/// How the compressed messages of a call are packed (`grpc-encoding`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// They may not be.
    Plain,
    /// As gzip does it (RFC 1952).
    Gzip,
}

/// The body of a request.
pub(super) struct RequestBody {
    source: Source,
    kind: CallKind,
    /// Bytes of the largest message that is taken.
    limit: usize,
    /// For a stream, whose messages are counted one by one.
    counter: Option<Requests>,
    messages: Messages,
    /// Whether a message has begun.
    begun: bool,
    /// For a call whose messages may be compressed.
    unpacking: Option<Unpacking>,
    ended: bool,
}

impl RequestBody {
    /// The body of a call of this kind, which takes messages of `limit` bytes at most and counts them if
    /// there is a counter.
    pub(super) fn new(
        source: Source,
        kind: CallKind,
        packing: Packing,
        limit: usize,
        counter: Option<Requests>,
    ) -> Self {
        let unpacking = (packing == Packing::Gzip).then(Unpacking::default);
        Self {
            source,
            kind,
            limit,
            counter,
            messages: Messages::default(),
            begun: false,
            unpacking,
            ended: false,
        }
    }

    /// What goes on to the service of the bytes that came: they themselves, where nothing has to be changed.
    fn pass(&mut self, mut data: Bytes) -> Result<Bytes, Status> {
        let mut made = (self.unpacking.is_some() || self.messages.is_in_head()).then(BytesMut::new);
        let mut place = 0;
        // Behind the last byte that is passed on: a head that is not whole is kept back, for it could be the
        // last of all, and then it never was.
        let mut end = 0;
        while place < data.len() && !self.has_all() {
            let inside = self.messages.is_inside();
            let (passed, head) = self.messages.step(&data[place..]);
            let piece = &data[place..place + passed];
            place += passed;
            if let Some(head) = head {
                self.begin(head)?;
            }
            if !self.messages.is_in_head() {
                end = place;
            }
            match (&mut made, &mut self.unpacking) {
                (Some(made), Some(unpacking)) => {
                    unpacking.take(if inside { piece } else { &[] }, head);
                    if self.messages.is_between() {
                        unpacking.finish(self.limit, made)?;
                    }
                }
                (Some(made), None) if inside => made.extend_from_slice(piece),
                (Some(made), None) => made.extend(head.iter().flat_map(|head| head.bytes())),
                (None, _) => {}
            }
        }
        self.ended |= self.has_all();
        data.truncate(end);
        Ok(made.map_or(data, BytesMut::freeze))
    }

    /// Whether nothing is read behind what has come: etcd reads the one message of a unary call, and does
    /// not look behind it.
    fn has_all(&self) -> bool {
        self.kind == CallKind::Unary && self.begun && self.messages.is_between()
    }

    /// Takes note of a message, if it is one that the call may have.
    fn begin(&mut self, head: MessageHead) -> Result<(), Status> {
        if self.begun && self.kind == CallKind::ServerStream {
            return Err(cardinality("multiple request messages for"));
        }
        self.check(head)?;
        self.begun = true;
        if let Some(counter) = &self.counter {
            counter.received(1);
        }
        Ok(())
    }

    fn check(&self, head: MessageHead) -> Result<(), Status> {
        let MessageHead { format, length } = head;
        if format > 1 {
            return Err(Status::internal(format!("grpc: received unexpected payload format {format}")));
        }
        if format == 1 && self.unpacking.is_none() {
            return Err(Status::internal("grpc: compressed flag set with identity or empty encoding"));
        }
        if length as usize > self.limit {
            return Err(too_large(length as usize, self.limit));
        }
        Ok(())
    }

    /// What is wrong with a body that ends here, if anything.
    fn end(&self) -> Result<(), Status> {
        match self.kind {
            CallKind::Unary if self.messages.is_inside() => Err(Status::unknown("unexpected EOF")),
            _ if self.messages.is_inside() => Err(Status::internal("unexpected EOF")),
            CallKind::Unary if !self.begun => Err(Status::unknown("EOF")),
            CallKind::ServerStream if !self.begun => Err(cardinality("no request message from")),
            _ => Ok(()),
        }
    }
}

/// The status of a call whose request could not be read: what is wrong with it, or that its client is gone.
pub(super) fn failure(error: Box<dyn std::error::Error + Send + Sync>) -> Status {
    match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(error) => Status::cancelled(error.to_string()),
    }
}

/// gRPC's own words for a message that is too large.
fn too_large(length: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({length} vs. {limit})"))
}

/// gRPC's own words for a call that takes one message and has another number of them.
fn cardinality(received: &str) -> Status {
    Status::internal(format!("cardinality violation: received {received} non-client-streaming RPC"))
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    /// That of the source, or a [`Status`].
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let passed = match ready!(Pin::new(&mut this.source).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => this.pass(data).map(Frame::data),
                // Trailers of a request mean nothing, but they are its end.
                Err(trailers) => this.end().map(|()| trailers),
            },
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {
                this.ended = true;
                return Poll::Ready(this.end().err().map(|status| Err(status.into())));
            }
        };
        this.ended |= passed.is_err();
        Poll::Ready(Some(passed.map_err(Into::into)))
    }

    /// Only once what is wrong with the end has been said.
    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// Makes compressed messages plain. Each is gathered before, and is in memory twice for a moment.
#[derive(Default)]
struct Unpacking {
    compressed: bool,
    gathered: Vec<u8>,
}

impl Unpacking {
    /// Takes a piece of a message, or the head of the next one.
    fn take(&mut self, piece: &[u8], head: Option<MessageHead>) {
        self.gathered.extend_from_slice(piece);
        if let Some(head) = head {
            self.compressed = head.format == 1;
        }
    }

    /// Puts the message that has ended behind `plain`, with a head of its own.
    fn finish(&mut self, limit: usize, plain: &mut BytesMut) -> Result<(), Status> {
        let mut message = std::mem::take(&mut self.gathered);
        if self.compressed {
            message = inflate(&message, limit)?;
        }
        plain.reserve(MESSAGE_HEAD + message.len());
        plain.put_u8(0);
        // No longer than the limit, which is a length that gRPC can say.
        plain.put_u32(message.len() as u32);
        plain.extend_from_slice(&message);
        Ok(())
    }
}

/// Unpacks a message of at most `limit` bytes.
fn inflate(packed: &[u8], limit: usize) -> Result<Vec<u8>, Status> {
    let mut message = Vec::new();
    // One byte more tells that there are too many.
    if let Err(error) = MultiGzDecoder::new(packed).take(limit as u64 + 1).read_to_end(&mut message) {
        return Err(Status::internal(format!("grpc: failed to {}", not_gzip(packed, &error))));
    }
    if message.len() > limit {
        let text = format!("grpc: received message after decompression larger than max {limit}");
        return Err(Status::resource_exhausted(text));
    }
    Ok(message)
}

/// What Go's library would say of a message that cannot be unpacked.
fn not_gzip(packed: &[u8], error: &io::Error) -> String {
    let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
    if GzDecoder::new(packed).header().is_none() {
        let reason = match packed {
            [] => "EOF",
            _ if is_cut => "unexpected EOF",
            _ => "gzip: invalid header",
        };
        return format!("decompress the message: {reason}");
    }
    let reason = match error.kind() {
        _ if is_cut => "unexpected EOF".to_owned(),
        io::ErrorKind::InvalidInput if error.to_string().contains("checksum") => {
            "gzip: invalid checksum".to_owned()
        }
        _ => error.to_string(),
    };
    format!("read decompressed data: {reason}")
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;

    use super::*;
    use crate::rt;

    const LIMIT: usize = 1000;

    fn message(format: u8, body: &[u8]) -> Vec<u8> {
        [&[format], &(body.len() as u32).to_be_bytes()[..], body].concat()
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        io::Write::write_all(&mut encoder, body).unwrap();
        encoder.finish().unwrap()
    }

    /// What the service of a call gets of these bytes, cut into pieces of one size.
    fn pass_in(
        piece: usize,
        kind: CallKind,
        packing: Packing,
        bytes: &[u8],
    ) -> Result<Vec<u8>, (Code, String)> {
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|data| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(data))))
            .collect();
        let source = Either::Right(Body::new(StreamBody::new(stream::iter(pieces).boxed())));
        let body = RequestBody::new(source, kind, packing, LIMIT, None);
        let mut passed = Err((Code::Aborted, String::new()));
        rt::run(async {
            let collected = body.collect().await.map_err(failure);
            passed = match collected {
                Ok(body) => Ok(body.to_bytes().to_vec()),
                Err(status) => Err((status.code(), status.message().to_owned())),
            };
        })
        .unwrap();
        passed
    }

    fn pass(kind: CallKind, packing: Packing, bytes: &[u8]) -> Result<Vec<u8>, (Code, String)> {
        let whole = pass_in(bytes.len().max(1), kind, packing, bytes);
        for piece in [1, 2, 3, 7] {
            assert_eq!(pass_in(piece, kind, packing, bytes), whole, "cut into {piece}");
        }
        whole
    }

    fn refused(kind: CallKind, packing: Packing, bytes: &[u8], code: Code, text: &str) {
        assert_eq!(pass(kind, packing, bytes), Err((code, text.to_owned())));
    }

    const KINDS: [CallKind; 3] = [CallKind::Unary, CallKind::ServerStream, CallKind::BidiStream];

    #[test]
    fn a_call_has_the_messages_that_it_may_have() {
        let one = message(0, b"one");
        let two = [&one[..], &message(0, b"two")].concat();
        for kind in KINDS {
            assert_eq!(pass(kind, Packing::Plain, &one).unwrap(), one);
        }
        assert_eq!(pass(CallKind::BidiStream, Packing::Plain, &two).unwrap(), two);
        assert_eq!(pass(CallKind::BidiStream, Packing::Plain, &[]).unwrap(), b"");
        // etcd does not look behind the one message.
        assert_eq!(pass(CallKind::Unary, Packing::Plain, &two).unwrap(), one);
        let many = "cardinality violation: received multiple request messages for non-client-streaming RPC";
        refused(CallKind::ServerStream, Packing::Plain, &two, Code::Internal, many);
        let none = "cardinality violation: received no request message from non-client-streaming RPC";
        refused(CallKind::ServerStream, Packing::Plain, &[], Code::Internal, none);
        refused(CallKind::Unary, Packing::Plain, &[], Code::Unknown, "EOF");
        refused(CallKind::Unary, Packing::Plain, &one[..6], Code::Unknown, "unexpected EOF");
        refused(CallKind::ServerStream, Packing::Plain, &one[..6], Code::Internal, "unexpected EOF");
        refused(CallKind::BidiStream, Packing::Plain, &two[..14], Code::Internal, "unexpected EOF");
    }

    #[test]
    fn the_beginning_of_a_head_is_nothing() {
        let one = message(0, b"one");
        let more = [&one[..], &[0, 0]].concat();
        for kind in KINDS {
            assert_eq!(pass(kind, Packing::Plain, &more).unwrap(), one);
            assert_eq!(pass(kind, Packing::Gzip, &more).unwrap(), one);
        }
        assert_eq!(pass(CallKind::BidiStream, Packing::Plain, &[0; 4]).unwrap(), b"");
        refused(CallKind::Unary, Packing::Plain, &[0; 4], Code::Unknown, "EOF");
        let none = "cardinality violation: received no request message from non-client-streaming RPC";
        refused(CallKind::ServerStream, Packing::Plain, &[0; 4], Code::Internal, none);
    }

    #[test]
    fn compressed_messages_are_passed_on_plain() {
        let packed = [message(1, &gzip(b"one")), message(0, b"two"), message(1, &gzip(b""))].concat();
        let plain = [message(0, b"one"), message(0, b"two"), message(0, b"")].concat();
        assert_eq!(pass(CallKind::BidiStream, Packing::Gzip, &packed).unwrap(), plain);
        assert_eq!(pass(CallKind::Unary, Packing::Gzip, &packed).unwrap(), message(0, b"one"));
        let exact = vec![7; LIMIT];
        let found = pass(CallKind::Unary, Packing::Gzip, &message(1, &gzip(&exact)));
        assert_eq!(found.unwrap(), message(0, &exact));
    }

    #[test]
    fn what_cannot_be_unpacked_is_refused() {
        let flag = "grpc: compressed flag set with identity or empty encoding";
        refused(CallKind::Unary, Packing::Plain, &message(1, b"x"), Code::Internal, flag);
        let format = "grpc: received unexpected payload format 2";
        refused(CallKind::Unary, Packing::Gzip, &message(2, b"x"), Code::Internal, format);
        let large = format!("grpc: received message larger than max ({} vs. {LIMIT})", LIMIT + 1);
        refused(
            CallKind::Unary,
            Packing::Gzip,
            &message(0, &[7; LIMIT + 1]),
            Code::ResourceExhausted,
            &large,
        );
        let large = format!("grpc: received message after decompression larger than max {LIMIT}");
        let bomb = message(1, &gzip(&[7; 100 * LIMIT]));
        refused(CallKind::Unary, Packing::Gzip, &bomb, Code::ResourceExhausted, &large);
        let one = gzip(b"one");
        let not_gzip = |packed: &[u8], text: &str| {
            let text = format!("grpc: failed to {text}");
            refused(CallKind::Unary, Packing::Gzip, &message(1, packed), Code::Internal, &text);
        };
        not_gzip(b"", "decompress the message: EOF");
        not_gzip(&one[..4], "decompress the message: unexpected EOF");
        not_gzip(b"neither gzip nor anything else", "decompress the message: gzip: invalid header");
        not_gzip(&one[..one.len() - 3], "read decompressed data: unexpected EOF");
        let mut wrong = one;
        let checksum = wrong.len() - 8;
        wrong[checksum] ^= 1;
        not_gzip(&wrong, "read decompressed data: gzip: invalid checksum");
    }
}
