//! A socket as hyper sees it: reads go through, writes are gathered until the end of a poll.
//!
//! Left alone, HTTP/2 writes a few dozen bytes for every reply and flushes each time, and each write is a
//! system call that costs more than the request. So a write only appends to a buffer here, a flush does
//! nothing, and [`Driver`](super::inline::Driver) calls [`Io::push_out`] once, when all that one poll had
//! to say has been said. Three details matter:
//!
//! - The socket says that it is not vectored. On a vectored one, hyper's HTTP/2 chains each payload to
//!   its frame and flushes before the next frame, which defeats the gathering.
//! - A flush with nothing to send must not reach the socket: the simulated network sends an empty segment
//!   for it, and its segments are few.
//! - Reads use `poll_read` only. A short `try_read` does not clear the socket's readiness, and each
//!   request would cost a second system call that finds nothing.
//!
//! Hyper owns one handle, the driver another: both are used inside one poll of one task, so the lock
//! between them is never waited for.
//!
//! Invariants:
//! - bytes leave in the order they were written;
//! - at most [`BUFFER_LIMIT`] bytes wait; beyond that a write is pending until the socket takes some;
//! - whenever bytes wait after [`Io::push_out`] said pending, the waker it was given has been registered
//!   with the socket.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::rt::ReadBufCursor;

use super::authority::Authorities;
use super::pings::Pings;
use super::{Traffic, frames};
use crate::rt::{AsyncRead, AsyncWrite, ReadBuf};

/// Output that may wait for the socket, in bytes.
pub const BUFFER_LIMIT: usize = 128 * 1024;

/// Output of this size is worth a write of its own before the poll ends, in bytes. Larger writes were
/// measured to gain nothing.
const WRITE_SIZE: usize = 64 * 1024;

/// Memory for output that an idle connection keeps, in bytes.
const IDLE_CAPACITY: usize = 8 * 1024;

/// Most bytes that one read takes from the socket.
const READ_SIZE: usize = 64 * 1024;

/// What a client is told that sends too many pings, in the words of gRPC, and HTTP/2's code for it
/// (RFC 9113, section 7).
const TOO_MANY_PINGS: &str = "too_many_pings";
const ENHANCE_YOUR_CALM: u32 = 0xb;

thread_local! {
    /// Where a read lands before it is copied to hyper, whose own buffer can only be filled in place by
    /// unsafe code. One for each thread, as no read spans a poll.
    static LANDING: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// A handle of a gathering socket. Clones are handles of the same socket.
#[derive(Debug)]
pub struct Io<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

#[derive(Debug)]
struct Shared<T> {
    socket: T,
    /// What was read from the socket and not by hyper yet: the bytes that told the protocol, and such as had
    /// to be changed.
    replay: Bytes,
    output: Vec<u8>,
    /// How much of `output` the socket has taken.
    written: usize,
    /// Whether the socket took bytes that it was not told to flush.
    unflushed: bool,
    /// Bytes that the socket has taken over its life, to see whether it makes progress.
    sent: u64,
    traffic: Arc<Traffic>,
    /// For connections of HTTP/2 to this server.
    calls: Option<Calls>,
}

/// What is looked at of the calls of a client, below the HTTP/2 library.
#[derive(Debug)]
struct Calls {
    pings: Pings,
    authorities: Authorities,
}

impl<T> Clone for Io<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Io<T> {
    /// Wraps `socket`; `replay` is what was read from it already.
    pub fn new(socket: T, replay: Bytes, traffic: Arc<Traffic>) -> Self {
        let shared = Shared {
            socket,
            replay,
            output: Vec::new(),
            written: 0,
            unflushed: false,
            sent: 0,
            traffic,
            calls: None,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Looks at calls from now on, of a client that was sent nothing yet and of which the preface was read.
    /// Its pings should be so far apart.
    pub(super) fn look_at_calls(&self, min_ping_distance: Duration) {
        let calls = Calls { pings: Pings::new(min_ping_distance), authorities: Authorities::default() };
        self.lock().calls = Some(calls);
    }

    /// Whether the client has sent too many pings, while so many requests are in progress. If so, it is told
    /// with what leaves next, and nothing more should be written.
    pub(super) fn tells_off(&self, requests: usize) -> bool {
        let mut shared = self.lock();
        let Some(Calls { pings, .. }) = &mut shared.calls else { return false };
        let too_many = pings.are_too_many(requests);
        if too_many && let Some(stream) = pings.last_stream() {
            let frame = frames::go_away(stream, ENHANCE_YOUR_CALM, TOO_MANY_PINGS);
            shared.output.extend(frame);
        }
        too_many
    }

    /// Ends the connection after the last word, and waits until the client has ended it, too: closed before,
    /// what the client still sends could make the system take the last word back.
    pub(super) async fn part(self) {
        let wrote = std::future::poll_fn(|context| {
            let mut shared = self.lock();
            ready!(shared.push_out(context))?;
            Pin::new(&mut shared.socket).poll_shutdown(context)
        });
        if wrote.await.is_err() {
            return;
        }
        while matches!(std::future::poll_fn(|context| self.lock().discard(context)).await, Ok(1..)) {}
    }

    /// Writes what was gathered; ready once the socket has taken all of it.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn push_out(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        ready!(shared.push_out(context))?;
        shared.output.shrink_to(IDLE_CAPACITY);
        Poll::Ready(Ok(()))
    }

    /// Bytes that the socket has taken so far.
    pub fn sent(&self) -> u64 {
        self.lock().sent
    }

    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// What takes the place of bytes that came, if they may not pass as they are.
    fn look_at(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        self.authorities.pass(data, |head| self.pings.received(head))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Shared<T> {
    fn waiting(&self) -> usize {
        self.output.len() - self.written
    }

    fn push_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let socket = Pin::new(&mut self.socket);
            let taken = ready!(socket.poll_write(context, &self.output[self.written..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
            self.unflushed = true;
            self.sent += taken as u64;
            self.traffic.sent.fetch_add(taken as u64, Ordering::Relaxed);
        }
        self.written = 0;
        self.output.clear();
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn gather(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.waiting() >= WRITE_SIZE {
            let pushed = self.push_out(context)?;
            if pushed.is_pending() && self.waiting() >= WRITE_SIZE {
                return Poll::Pending;
            }
        }
        if self.written > 0 {
            self.output.drain(..self.written);
            self.written = 0;
        }
        let taken = bytes.len().min(BUFFER_LIMIT - self.output.len());
        let needed = self.output.len() + taken;
        if needed > self.output.capacity() {
            // Small answers stay small; a large one is not copied from size to size on its way.
            let capacity = if needed <= IDLE_CAPACITY { IDLE_CAPACITY } else { BUFFER_LIMIT };
            self.output.reserve_exact(capacity - self.output.len());
        }
        self.output.extend_from_slice(&bytes[..taken]);
        if let Some(calls) = &mut self.calls {
            calls.pings.sent(&bytes[..taken]);
        }
        Poll::Ready(Ok(taken))
    }

    fn read(&mut self, context: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        while self.replay.is_empty() {
            if ready!(self.read_socket(context, &mut into))? {
                return Poll::Ready(Ok(()));
            }
        }
        let size = self.replay.len().min(into.remaining());
        into.put_slice(&self.replay[..size]);
        self.replay.advance(size);
        Poll::Ready(Ok(()))
    }

    /// Reads once. Gives whether that is all: what came may be waiting in `replay`, or for more to come.
    fn read_socket(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<bool>> {
        LANDING.with_borrow_mut(|landing| {
            let size = into.remaining().min(landing.len());
            let mut buffer = ReadBuf::new(&mut landing[..size]);
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))?;
            let data = buffer.filled();
            self.traffic.received.fetch_add(data.len() as u64, Ordering::Relaxed);
            match self.calls.as_mut().and_then(|calls| calls.look_at(data)) {
                None => {
                    into.put_slice(data);
                    Poll::Ready(Ok(true))
                }
                Some(changed) => {
                    self.replay = changed.into();
                    // Behind the end nothing comes any more.
                    Poll::Ready(Ok(data.is_empty()))
                }
            }
        })
    }

    /// Reads for nobody; gives the number of bytes.
    fn discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        LANDING.with_borrow_mut(|landing| {
            let mut buffer = ReadBuf::new(landing);
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> hyper::rt::Read for Io<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.lock().read(context, into)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> hyper::rt::Write for Io<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().gather(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver writes at the end of this very poll.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        ready!(shared.push_out(context))?;
        Pin::new(&mut shared.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}
