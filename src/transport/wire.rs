//! Frames on a peer connection: a length (u32, big endian), then that many bytes of a protobuf message.
//!
//! A length with all bits set has no message behind it: it is a ping, or the answer to one. (Zero is the
//! length of a message whose fields all have their defaults.) Which message comes at which place of the
//! conversation is written in `proto/detcdpb/peer.proto`.
//!
//! Invariants:
//! - memory grows with what has been received, never with what a length announces;
//! - a wait ends as soon as no byte has moved for the connection's patience, so a half-open connection
//!   is left, and a slow one that moves is not.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::rt::io::{AsyncReadExt, AsyncWriteExt};
use crate::rt::{self, AsyncRead, AsyncWrite};
use crate::types::LocalFault;

/// The first bytes of every peer connection. No HTTP request begins with them.
pub const MAGIC: &[u8; 8] = b"DETCD/1\n";

/// Bytes of a frame's length.
const HEAD_BYTES: usize = 4;

/// A ping and its answer.
pub(super) const PING: [u8; HEAD_BYTES] = [0xff; HEAD_BYTES];

/// Least room for one read, in bytes: many small frames come with one system call.
const READ_BYTES: usize = 64 * 1024;

/// Most room that is made for bytes that were announced but have not come.
const GROW_BYTES: usize = 1024 * 1024;

/// Memory for output that a connection keeps between two frames, in bytes.
const OUTPUT_KEPT_BYTES: usize = 1024 * 1024;

/// Why a connection to or from a peer ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the peer closed the connection")]
    Closed,
    #[error("no progress within {1:?} while {0}")]
    TimedOut(&'static str, Duration),
    #[error("a frame of {0} bytes is over the bound of {1}")]
    Oversize(usize, usize),
    #[error("not the expected message: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error("unexpected: {0}")]
    Protocol(&'static str),
    /// The other side (or this one, of a caller) said no.
    #[error("refused: {why}")]
    Refused { why: String, removed: bool },
    #[error("{0:?} is no address that can be dialled")]
    BadUrl(String),
    #[error("{0}")]
    Local(#[from] LocalFault),
    #[error("this member is stopping")]
    Stopping,
}

/// Bounds the wait for `work` as a whole.
pub(super) async fn within<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = Result<T, PeerError>>,
) -> Result<T, PeerError> {
    rt::timeout(limit, work).await.unwrap_or(Err(PeerError::TimedOut(what, limit)))
}

/// Appends `message` as a frame.
pub(super) fn put_frame(message: &impl Message, out: &mut Vec<u8>) {
    let length = message.encoded_len();
    assert!(u32::try_from(length).is_ok(), "a frame of {length} bytes has no length on the wire");
    out.reserve(HEAD_BYTES + length);
    out.extend_from_slice(&(length as u32).to_be_bytes());
    let written = message.encode(out);
    debug_assert!(written.is_ok(), "a Vec has room for everything: {written:?}");
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A ping, or the answer to one.
    Ping,
    /// An encoded message.
    Message(Bytes),
}

impl Frame {
    /// The bytes that it took on the wire.
    pub(super) fn wire_bytes(&self) -> u64 {
        let content = match self {
            Frame::Ping => 0,
            Frame::Message(bytes) => bytes.len(),
        };
        (HEAD_BYTES + content) as u64
    }

    /// Decodes the message, where nothing else may come.
    pub(super) fn decode<M: Message + Default>(self) -> Result<M, PeerError> {
        match self {
            Frame::Ping => Err(PeerError::Protocol("a ping")),
            Frame::Message(bytes) => Ok(M::decode(bytes)?),
        }
    }
}

/// A stream that is read and written in frames.
pub(super) struct Connection<S> {
    stream: S,
    input: BytesMut,
    output: Vec<u8>,
    limit: usize,
    patience: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Wraps `stream`. Frames above `limit` bytes are an error in both directions, and so is a wait of
    /// more than `patience` for the next byte to move.
    pub(super) fn new(stream: S, limit: usize, patience: Duration) -> Self {
        Self { stream, input: BytesMut::new(), output: Vec::new(), limit, patience }
    }

    /// Sets other bounds from now on.
    pub(super) fn set_bounds(&mut self, limit: usize, patience: Duration) {
        self.limit = limit;
        self.patience = patience;
    }

    /// The next frame, however long it takes. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Frame, PeerError> {
        loop {
            if let Some(frame) = self.split_frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// As [`Connection::next`], but not waiting longer than the patience for any byte of it.
    pub(super) async fn next_soon(&mut self) -> Result<Frame, PeerError> {
        loop {
            if let Some(frame) = self.split_frame()? {
                return Ok(frame);
            }
            within(self.patience, "reading", self.fill()).await?;
        }
    }

    /// Sends `message` as a frame, and returns the bytes it took.
    pub(super) async fn send(&mut self, message: &impl Message) -> Result<usize, PeerError> {
        let length = message.encoded_len();
        if length > self.limit {
            return Err(PeerError::Oversize(length, self.limit));
        }
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        put_frame(message, &mut output);
        let sent = self.write(&output).await;
        let size = output.len();
        output.clear();
        output.shrink_to(OUTPUT_KEPT_BYTES);
        self.output = output;
        sent.map(|()| size)
    }

    /// Writes bytes that are framed already.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), PeerError> {
        while !bytes.is_empty() {
            let write = async { Ok(self.stream.write(bytes).await?) };
            let taken = within(self.patience, "writing", write).await?;
            if taken == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            bytes.advance(taken);
        }
        within(self.patience, "writing", async { Ok(self.stream.flush().await?) }).await
    }

    /// Takes one whole frame off the input, if there is one.
    fn split_frame(&mut self) -> Result<Option<Frame>, PeerError> {
        if self.input.starts_with(&PING) {
            self.input.advance(HEAD_BYTES);
            return Ok(Some(Frame::Ping));
        }
        match self.missing()? {
            0 => {
                let length = self.announced().unwrap_or(0);
                self.input.advance(HEAD_BYTES);
                Ok(Some(Frame::Message(self.input.split_to(length).freeze())))
            }
            _ => Ok(None),
        }
    }

    /// The length that the input begins with, if that much has come.
    fn announced(&self) -> Option<usize> {
        let head = self.input.first_chunk::<HEAD_BYTES>()?;
        Some(u32::from_be_bytes(*head) as usize)
    }

    /// How many more bytes the first frame needs, as far as is known yet.
    fn missing(&self) -> Result<usize, PeerError> {
        match self.announced() {
            None => Ok(HEAD_BYTES - self.input.len()),
            Some(length) if length > self.limit => Err(PeerError::Oversize(length, self.limit)),
            Some(length) => Ok((HEAD_BYTES + length).saturating_sub(self.input.len())),
        }
    }

    /// Reads once.
    async fn fill(&mut self) -> Result<(), PeerError> {
        self.input.reserve(self.missing()?.clamp(READ_BYTES, GROW_BYTES));
        if self.stream.read_buf(&mut self.input).await? > 0 {
            return Ok(());
        }
        if self.input.is_empty() {
            return Err(PeerError::Closed);
        }
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;
    use crate::proto::detcdpb::PeerWelcome;
    use crate::rt::io::{DuplexStream, duplex};

    const PATIENCE: Duration = Duration::from_millis(100);

    /// Runs `test` on a connection with this limit; the other end takes `pipe` bytes at a time.
    fn check<F>(limit: usize, pipe: usize, test: impl FnOnce(Connection<DuplexStream>, DuplexStream) -> F)
    where
        F: Future<Output = ()>,
    {
        let (near, far) = duplex(pipe);
        let test = test(Connection::new(near, limit, PATIENCE), far);
        rt::run(async { rt::timeout(Duration::from_secs(5), test).await.expect("the test hangs") })
            .expect("a runtime");
    }

    fn message(size: usize) -> PeerWelcome {
        PeerWelcome { error: "x".repeat(size), removed: false }
    }

    #[test]
    fn frames_survive_any_cut() {
        for pipe in [1, 3, 4, 5, 64, 100_000] {
            check(5000, pipe, |mut connection, far| async move {
                let sizes = [0, 1, 300, 0, 4000];
                let mut sender = Connection::new(far, 5000, PATIENCE);
                let sent = async {
                    for size in sizes {
                        sender.send(&message(size)).await.expect("sent");
                        sender.write(&PING).await.expect("sent");
                    }
                };
                let received = async {
                    for size in sizes {
                        let frame = connection.next_soon().await.expect("a frame");
                        assert_eq!(frame.decode::<PeerWelcome>().expect("a message"), message(size));
                        assert_eq!(connection.next().await.expect("a frame"), Frame::Ping);
                    }
                };
                futures::join!(sent, received);
                drop(sender);
                assert!(matches!(connection.next().await, Err(PeerError::Closed)));
            });
        }
    }

    #[test]
    fn a_frame_over_the_bound_is_refused_by_both_sides() {
        check(100, 1000, |mut connection, mut far| async move {
            let sent = connection.send(&message(200)).await;
            assert!(matches!(sent, Err(PeerError::Oversize(203, 100))), "{sent:?}");
            far.write_all(&101u32.to_be_bytes()).await.expect("written");
            let read = connection.next().await;
            assert!(matches!(read, Err(PeerError::Oversize(101, 100))), "{read:?}");
        });
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let limit = u32::MAX as usize - 1;
        check(limit, 1000, |mut connection, mut far| async move {
            far.write_all(&(u32::MAX - 1).to_be_bytes()).await.expect("written");
            far.write_all(&[0; 100]).await.expect("written");
            assert!(matches!(connection.next_soon().await, Err(PeerError::TimedOut(..))));
            assert_eq!(connection.input.len(), 104);
            assert!(connection.input.capacity() <= 2 * GROW_BYTES, "{}", connection.input.capacity());
        });
    }

    #[test]
    fn an_end_in_the_middle_of_a_frame_is_an_error() {
        check(100, 1000, |mut connection, mut far| async move {
            far.write_all(&[0, 0, 0, 9, 1]).await.expect("written");
            drop(far);
            let read = connection.next().await;
            assert!(
                matches!(&read, Err(PeerError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof)
            );
        });
    }

    #[test]
    fn patience_is_for_progress_not_for_the_whole() {
        check(1000, 100, |mut connection, mut far| async move {
            // Written in ten steps over more than the patience, then not taken any more.
            let slow_reader = async {
                let mut piece = [0; 100];
                for _ in 0..10 {
                    rt::sleep(PATIENCE / 4).await;
                    far.read_exact(&mut piece).await.expect("bytes");
                }
            };
            let bytes = [7; 1000];
            let (written, ()) = futures::join!(connection.write(&bytes), slow_reader);
            written.expect("written");
            let stuck = connection.write(&bytes).await;
            assert!(matches!(stuck, Err(PeerError::TimedOut("writing", PATIENCE))), "{stuck:?}");
        });
    }
}
