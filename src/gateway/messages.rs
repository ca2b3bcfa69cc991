//! Messages as gRPC puts them into bodies: five bytes that say how long each is, then itself; at the end of
//! an answer, the status.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::{Code, Status};

/// Bytes before each message: whether it is compressed, and its length.
const FRAME_HEADER: usize = 5;

/// A message on its way to a service.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(FRAME_HEADER + message.len());
    frame.put_u8(0);
    // A length that does not fit is far above the limit, which the service checks.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The messages of an answer.
pub(super) struct Messages {
    body: Body,
    buffer: BytesMut,
    /// The status, once the answer has ended.
    status: Option<Status>,
}

impl Messages {
    /// The messages in the answer of a service. Its headers may be all of it.
    pub(super) fn new(answer: http::Response<Body>) -> Self {
        let (parts, body) = answer.into_parts();
        Self { body, buffer: BytesMut::new(), status: Status::from_header_map(&parts.headers) }
    }

    /// The next message; none when the answer has ended well.
    ///
    /// # Errors
    /// The status of a call that failed.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            if let Some(status) = &self.status {
                return if status.code() == Code::Ok { Ok(None) } else { Err(status.clone()) };
            }
            let Some(frame) = self.body.frame().await else {
                return Err(Status::internal("the answer ended without a status"));
            };
            match frame?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => self.status = frame.trailers_ref().and_then(Status::from_header_map),
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let mut header = self.buffer.get(..FRAME_HEADER)?;
        header.advance(1);
        let length = header.get_u32() as usize;
        if self.buffer.len() < FRAME_HEADER + length {
            return None;
        }
        self.buffer.advance(FRAME_HEADER);
        Some(self.buffer.split_to(length).freeze())
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    /// What comes out of an answer whose messages arrive in pieces of `size` bytes.
    fn messages(bytes: &[u8], size: usize, status: &Status) -> Vec<Result<Bytes, Code>> {
        let trailers = status.clone().into_http::<Body>().into_parts().0.headers;
        let pieces: Vec<_> =
            bytes.chunks(size).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
        let frames = pieces.into_iter().chain([Frame::trailers(trailers)]).map(Ok::<_, Status>);
        let mut messages =
            Messages::new(http::Response::new(Body::new(StreamBody::new(stream::iter(frames)))));
        let mut found = Vec::new();
        loop {
            match messages.next().now_or_never().expect("nothing to wait for") {
                Ok(Some(message)) => found.push(Ok(message)),
                Ok(None) => return found,
                Err(status) => {
                    found.push(Err(status.code()));
                    return found;
                }
            }
        }
    }

    #[test]
    fn messages_are_found_however_their_bytes_are_cut() {
        let bytes = [frame(b"one"), frame(b""), frame(&[7; 300])].concat();
        let expected = [Bytes::from_static(b"one"), Bytes::new(), vec![7; 300].into()].map(Ok);
        for size in 1..=bytes.len() {
            assert_eq!(messages(&bytes, size, &Status::ok("")), expected, "cut into {size}");
        }
        let failed = [expected.to_vec(), vec![Err(Code::Aborted)]].concat();
        assert_eq!(messages(&bytes, 9, &Status::aborted("x")), failed);
    }

    #[test]
    fn an_answer_may_be_its_headers_alone() {
        let mut messages = Messages::new(Status::not_found("x").into_http());
        let status = messages.next().now_or_never().unwrap().unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "x"));
        let mut silent = Messages::new(http::Response::new(Body::empty()));
        assert_eq!(silent.next().now_or_never().unwrap().unwrap_err().code(), Code::Internal);
    }
}
