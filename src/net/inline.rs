//! Runs everything of one connection inside one task.
//!
//! hyper hands the future of each request to an executor. [`InlineExecutor`] keeps it for [`Driver`], the
//! connection's own future, which polls it at once. Most requests are answered in that first poll and are
//! never stored; the others wait in a set, each with a waker of its own. hyper's connection is polled
//! through such a waker as well: when a reply is handed to HTTP/2, HTTP/2 wakes its connection, and that
//! wake is a note for the next round of the same poll instead of a trip through the scheduler.
//!
//! ```text
//!  one poll:  begin ─> round: woken streams, connection, new streams ─┐ ─> push output out ─> finish
//!                        ^────────── while something is woken ────────┘
//! ```
//!
//! The client's channel drives its connections with the same code.
//!
//! Invariants:
//! - no future is polled unless it is new or was woken;
//! - a poll ends after [`MAX_ROUNDS`], or when the runtime's budget is used up, so that one busy connection
//!   cannot starve the others; what is left makes the task run again;
//! - a panic of a handler ends its connection, never another one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use slab::Slab;

use super::connection::ConnectionError;
use super::io::Io;
use super::wakes::Wakes;
use crate::rt::{self, AsyncRead, AsyncWrite};

/// Rounds of one poll. Two serve a batch of requests that are answered at once.
pub const MAX_ROUNDS: usize = 16;

/// Places of the wakers that are not a stream's.
const CONNECTION: usize = 0;
const SHUTDOWN: usize = 1;
const STALL: usize = 2;
const FIRST_STREAM: usize = 3;

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the futures of a connection's streams. Clones share one queue, which [`Driver`] empties.
#[derive(Clone, Default)]
pub struct InlineExecutor {
    queue: Arc<Mutex<Vec<BoxFuture>>>,
}

impl InlineExecutor {
    fn lock(&self) -> MutexGuard<'_, Vec<BoxFuture>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> hyper::rt::Executor<F> for InlineExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        // Boxed because hyper's future type contains the executor's type.
        self.lock().push(Box::pin(future));
    }
}

/// When a driver has done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When hyper's connection ends: what its streams still do has no reader.
    ConnectionEnds,
    /// When the streams have ended too: hyper's client ends its connection future once nobody can send
    /// requests any more, while answers are still coming in.
    StreamsEnd,
}

/// A signal, and what it does to hyper's connection.
pub struct Graceful<C> {
    /// Resolves when the connection should finish its requests and close.
    pub signal: BoxFuture,
    /// Tells the connection.
    pub begin: fn(Pin<&mut C>),
}

/// The future of one connection: hyper's part, the streams' futures and the gathered output.
pub struct Driver<C, T> {
    /// Nothing once it has ended.
    connection: Option<Pin<Box<C>>>,
    graceful: Option<Graceful<C>>,
    until: Until,
    io: Io<T>,
    executor: InlineExecutor,
    wakes: Wakes,
    streams: Slab<BoxFuture>,
    stall: Stall,
    /// Empty between uses; kept for their memory.
    batch: Vec<usize>,
    new_streams: Vec<BoxFuture>,
}

/// Watches over a socket that takes no more output.
struct Stall {
    timeout: Option<Duration>,
    timer: Option<Pin<Box<rt::Sleep>>>,
    /// [`Io::sent`] when the timer was started.
    sent: u64,
}

impl<C, T> Driver<C, T>
where
    C: Future<Output = hyper::Result<()>>,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Drives `connection`, which must have been built on a clone of `io` and of `executor`.
    ///
    /// A socket that takes none of the waiting output for `stall_timeout` is given up.
    pub fn new(
        connection: C,
        io: Io<T>,
        executor: InlineExecutor,
        until: Until,
        stall_timeout: Option<Duration>,
        graceful: Option<Graceful<C>>,
    ) -> Self {
        let mut wakes = Wakes::default();
        wakes.waker(CONNECTION).wake_by_ref();
        wakes.waker(SHUTDOWN).wake_by_ref();
        Self {
            connection: Some(Box::pin(connection)),
            graceful,
            until,
            io,
            executor,
            wakes,
            streams: Slab::new(),
            stall: Stall { timeout: stall_timeout, timer: None, sent: 0 },
            batch: Vec::new(),
            new_streams: Vec::new(),
        }
    }

    /// Polls whatever is woken until nothing is, or until others should have their turn.
    fn run(&mut self) -> Result<(), ConnectionError> {
        for _ in 0..MAX_ROUNDS {
            self.wakes.take(&mut self.batch);
            if self.batch.is_empty() {
                break;
            }
            let mut batch = std::mem::take(&mut self.batch);
            let result = self.round(&mut batch);
            self.batch = batch;
            result?;
            if !rt::has_budget() {
                break;
            }
        }
        Ok(())
    }

    /// Polls the woken streams first, so that the connection then finds all their replies. Leaves `batch`
    /// empty.
    fn round(&mut self, batch: &mut Vec<usize>) -> Result<(), ConnectionError> {
        let mut connection_woken = false;
        for place in batch.drain(..) {
            match place {
                CONNECTION => connection_woken = true,
                SHUTDOWN => connection_woken |= self.poll_graceful(),
                STALL => self.poll_stall()?,
                stream => self.poll_stream(stream),
            }
        }
        let result = if connection_woken { self.poll_connection() } else { Ok(()) };
        self.poll_new_streams();
        result
    }

    fn poll_connection(&mut self) -> Result<(), ConnectionError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let mut context = Context::from_waker(self.wakes.waker(CONNECTION));
        if let Poll::Ready(result) = connection.as_mut().poll(&mut context) {
            self.connection = None;
            result?;
        }
        Ok(())
    }

    /// Whether the connection was told to close and has to be polled for it.
    fn poll_graceful(&mut self) -> bool {
        let (Some(graceful), Some(connection)) = (&mut self.graceful, &mut self.connection) else {
            return false;
        };
        let mut context = Context::from_waker(self.wakes.waker(SHUTDOWN));
        if graceful.signal.as_mut().poll(&mut context).is_pending() {
            return false;
        }
        (graceful.begin)(connection.as_mut());
        self.graceful = None;
        true
    }

    fn poll_stream(&mut self, place: usize) {
        let Some(stream) = self.streams.get_mut(place - FIRST_STREAM) else {
            return;
        };
        let waker = self.wakes.waker(place);
        if !rt::has_budget() {
            // The poll could only pretend to be pending.
            waker.wake_by_ref();
            return;
        }
        if stream.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
            drop(self.streams.remove(place - FIRST_STREAM));
        }
    }

    fn poll_new_streams(&mut self) {
        let mut new = std::mem::take(&mut self.new_streams);
        loop {
            std::mem::swap(&mut *self.executor.lock(), &mut new);
            if new.is_empty() {
                break;
            }
            for stream in new.drain(..) {
                let place = FIRST_STREAM + self.streams.insert(stream);
                self.poll_stream(place);
            }
        }
        self.new_streams = new;
    }

    fn poll_output(&mut self) -> Result<(), ConnectionError> {
        let mut context = Context::from_waker(self.wakes.waker(CONNECTION));
        match self.io.push_out(&mut context) {
            Poll::Ready(result) => {
                self.stall.timer = None;
                result.map_err(ConnectionError::Socket)
            }
            // Without budget the socket was not asked.
            Poll::Pending if self.stall.timer.is_none() && rt::has_budget() => {
                let Some(timeout) = self.stall.timeout else {
                    return Ok(());
                };
                self.stall.timer = Some(Box::pin(rt::sleep(timeout)));
                self.stall.sent = self.io.sent();
                self.poll_stall()
            }
            Poll::Pending => Ok(()),
        }
    }

    fn poll_stall(&mut self) -> Result<(), ConnectionError> {
        while let (Some(timer), Some(timeout)) = (&mut self.stall.timer, self.stall.timeout) {
            let mut context = Context::from_waker(self.wakes.waker(STALL));
            if timer.as_mut().poll(&mut context).is_pending() {
                break;
            }
            let sent = self.io.sent();
            if sent == self.stall.sent {
                return Err(ConnectionError::Socket(io::ErrorKind::TimedOut.into()));
            }
            self.stall.sent = sent;
            *timer = Box::pin(rt::sleep(timeout));
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.connection.is_none() && (self.until == Until::ConnectionEnds || self.streams.is_empty())
    }
}

impl<C, T> Future for Driver<C, T>
where
    C: Future<Output = hyper::Result<()>>,
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<(), ConnectionError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.wakes.begin(context.waker());
        let ran = this.run().and_then(|()| match this.io.tells_off(this.streams.len()) {
            true => Err(ConnectionError::TooManyPings),
            false => Ok(()),
        });
        // Also after a failure: it may have left a last word for the client, such as a GOAWAY. That word
        // is not waited for.
        let pushed = this.poll_output();
        this.wakes.finish();
        match ran.and(pushed) {
            Ok(()) if this.is_done() => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<C, T> Drop for Driver<C, T> {
    fn drop(&mut self) {
        // A future in the queue holds the executor, which holds the queue: break the circle. The futures
        // are dropped outside the lock, as their destructors may use the executor.
        let queued = std::mem::take(&mut *self.executor.lock());
        drop(queued);
    }
}
