//! The JSON values of a request's body, one after the other, as their bytes arrive.
//!
//! Between two values there may be blanks or nothing. Where a value ends is known as soon as its last byte is
//! there, so a stream passes each request on at once.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tonic::Status;
use tonic::body::Body;

use super::syntax::Scanner;

/// How much longer than the largest message its JSON may be. Base64 takes a third more; the rest is for
/// blanks, names and whatever a client sends that nobody knows.
const JSON_EXCESS: usize = 4;

/// The values of one body.
pub(super) struct Values {
    body: Body,
    /// Bytes that were read and belong to no value that was given.
    buffer: BytesMut,
    /// How many of them the scanner has seen.
    scanned: usize,
    scanner: Scanner,
    /// Largest message in bytes.
    limit: usize,
    ended: bool,
}

impl Values {
    /// The values in `body`, for messages of `limit` bytes at most.
    pub(super) fn new(body: Body, limit: usize) -> Self {
        let (buffer, scanner) = (BytesMut::new(), Scanner::default());
        Self { body, buffer, scanned: 0, scanner, limit, ended: false }
    }

    /// The next value, without the blanks around it; none when the body has ended. After an error there is
    /// no telling where a value begins.
    ///
    /// # Errors
    /// For what is no JSON, in the words of Go; for a value that is too large, in those of gRPC.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(value) = self.take()? {
                return Ok(Some(value));
            }
            if self.ended {
                return self.rest();
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Some(Err(error)) => return Err(Status::invalid_argument(error.message())),
                None => self.ended = true,
            }
        }
    }

    /// The value that is there as a whole, if one is.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        if self.scanned == 0 {
            let blanks = self.buffer.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
            let blanks = blanks.count();
            bytes::Buf::advance(&mut self.buffer, blanks);
        }
        let end = self.scanner.advance(&self.buffer[self.scanned..]).map_err(Status::invalid_argument)?;
        let Some(end) = end else {
            self.scanned = self.buffer.len();
            let (length, limit) = (self.buffer.len(), self.limit);
            if length > limit.saturating_mul(JSON_EXCESS) {
                let text = format!("grpc: received message larger than max ({length} vs. {limit})");
                return Err(Status::resource_exhausted(text));
            }
            return Ok(None);
        };
        let value = self.buffer.split_to(self.scanned + end).freeze();
        (self.scanned, self.scanner) = (0, Scanner::default());
        Ok(Some(value))
    }

    /// What is left at the end: nothing, a value that only the end completes, or half of one.
    fn rest(&mut self) -> Result<Option<Bytes>, Status> {
        self.scanned = 0;
        let rest = self.buffer.split().freeze();
        if rest.is_empty() {
            return Ok(None);
        }
        if std::mem::take(&mut self.scanner).is_complete() {
            return Ok(Some(rest));
        }
        Err(Status::invalid_argument("unexpected EOF"))
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tonic::Code;

    use super::*;

    /// What comes out of a body that arrives in pieces of `size` bytes.
    fn values(body: &str, size: usize, limit: usize) -> Vec<Result<String, (Code, String)>> {
        let pieces: Vec<_> = body.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let frames = stream::iter(pieces.into_iter().map(|piece| Ok::<_, Status>(Frame::data(piece))));
        let mut values = Values::new(Body::new(StreamBody::new(frames)), limit);
        let mut found = Vec::new();
        loop {
            match values.next().now_or_never().expect("nothing to wait for") {
                Ok(Some(value)) => found.push(Ok(String::from_utf8(value.to_vec()).unwrap())),
                Ok(None) => return found,
                Err(status) => {
                    found.push(Err((status.code(), status.message().to_owned())));
                    return found;
                }
            }
        }
    }

    fn check(body: &str, expected: &[Result<&str, &str>]) {
        for size in [1, 2, 3, 1000] {
            let found = values(body, size, 1000);
            let found: Vec<_> =
                found.iter().map(|found| found.as_deref().map_err(|(_, text)| text.as_str())).collect();
            assert_eq!(found, expected, "{body} in pieces of {size}");
        }
    }

    #[test]
    fn values_follow_each_other() {
        check("", &[]);
        check(" \n\t", &[]);
        check("{}", &[Ok("{}")]);
        check(" {\"a\":1}\n{\"b\" : 2}[3]  ", &[Ok("{\"a\":1}"), Ok("{\"b\" : 2}"), Ok("[3]")]);
        check("1 23", &[Ok("1"), Ok("23")]);
        check("{}x{}", &[Ok("{}"), Err("invalid character 'x' looking for beginning of value")]);
        check("{}{", &[Ok("{}"), Err("unexpected EOF")]);
        check("tru", &[Err("unexpected EOF")]);
    }

    #[test]
    fn a_value_that_is_too_large_is_not_gathered() {
        let large = format!("\"{}\"", "a".repeat(1000));
        let text = "grpc: received message larger than max (401 vs. 100)".to_owned();
        assert_eq!(values(&large, 1, 100), [Err((Code::ResourceExhausted, text))]);
        assert_eq!(values(&"{} ".repeat(1000), 7, 100).len(), 1000, "only one value counts at a time");
    }
}
