//! Serves one connection from its first byte to its end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::{http1, http2};

use super::inline::{Driver, Graceful, InlineExecutor, Until};
use super::io::Io;
use super::service::{Handler, Services};
use super::{CONNECTION_WINDOW, HEADER_LIST_LIMIT, Options, STREAM_WINDOW, Traffic};
use crate::rt::{self, AsyncRead, AsyncWrite, HyperTimer, ReadBuf, Shutdown};

/// What every HTTP/2 client sends first (RFC 9113, section 3.4). No HTTP/1 request begins with `PRI`.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that a client has reset before they were looked at, beyond which it is taken for an attacker.
/// A poll reads all that has arrived before it looks, so honest clients under load reach some dozens.
const PENDING_RESET_LIMIT: usize = 1024;

/// Time for a client to end a connection on which it has heard the last word (gRPC for Go).
const PARTING: Duration = Duration::from_secs(1);

/// Why a connection ended early. None of them concerns anyone but this client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The client did not keep to the protocol, or went away in the middle.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The socket failed, or took no more output for too long.
    #[error("socket: {0}")]
    Socket(#[source] io::Error),
    /// The client probed too often ([`pings`](super::pings)), and has been told.
    #[error("too many pings")]
    TooManyPings,
    /// The client did not say in time which protocol it speaks.
    #[error("no request in time")]
    Silent,
}

/// Serves the requests that come over `socket` until the client is done, or until `shutdown`: then the
/// client is told to open no more requests, and those in progress are finished. How long that may take is
/// the caller's to bound, by dropping this future.
///
/// # Errors
/// When the connection ends otherwise than by the client's or the server's will.
pub async fn serve_connection<T, G, H>(
    mut socket: T,
    services: Services<G, H>,
    options: &Options,
    mut shutdown: Shutdown,
) -> Result<(), ConnectionError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: Handler,
    H: Handler,
{
    let _open = Open::new(&options.traffic);
    let sniffed = rt::select! {
        _ = shutdown.wait() => return Ok(()),
        sniffed = rt::timeout(options.first_bytes_timeout, sniff(&mut socket)) => sniffed,
    };
    let (protocol, replay) = match sniffed {
        Ok(Ok(Some(sniffed))) => sniffed,
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(error)) => return Err(ConnectionError::Socket(error)),
        Err(_) => return Err(ConnectionError::Silent),
    };
    options.traffic.received.fetch_add(replay.len() as u64, Ordering::Relaxed);
    let io = Io::new(socket, replay, options.traffic.clone());
    match protocol {
        Protocol::Http2 => serve_http2(io, services, options, shutdown).await,
        Protocol::Http1 => serve_http1(io, services, options, shutdown).await,
    }
}

async fn serve_http2<T, G, H>(
    io: Io<T>,
    services: Services<G, H>,
    options: &Options,
    shutdown: Shutdown,
) -> Result<(), ConnectionError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: Handler,
    H: Handler,
{
    io.look_at_calls(options.min_ping_distance);
    let executor = InlineExecutor::default();
    let connection = http2::Builder::new(executor.clone())
        .timer(HyperTimer)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_pending_accept_reset_streams(PENDING_RESET_LIMIT)
        .max_header_list_size(HEADER_LIST_LIMIT)
        .keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        // gRPC has no use for it, and formatting it takes time.
        .auto_date_header(false)
        .serve_connection(io.clone(), services);
    let graceful = Graceful { signal: signal(shutdown), begin: http2::Connection::graceful_shutdown };
    let stall = options.stall_timeout();
    let driver = Driver::new(connection, io.clone(), executor, Until::ConnectionEnds, stall, Some(graceful));
    let ended = driver.await;
    if let Err(ConnectionError::TooManyPings) = ended {
        // Whoever does not hang up is hung up on.
        let _ = rt::timeout(PARTING, io.part()).await;
    }
    ended
}

async fn serve_http1<T, G, H>(
    io: Io<T>,
    services: Services<G, H>,
    options: &Options,
    shutdown: Shutdown,
) -> Result<(), ConnectionError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: Handler,
    H: Handler,
{
    let connection = http1::Builder::new()
        .timer(HyperTimer)
        .header_read_timeout(options.first_bytes_timeout)
        .serve_connection(io.clone(), services);
    let graceful = Graceful { signal: signal(shutdown), begin: http1::Connection::graceful_shutdown };
    let stall = options.stall_timeout();
    let executor = InlineExecutor::default();
    Driver::new(connection, io, executor, Until::ConnectionEnds, stall, Some(graceful)).await
}

fn signal(mut shutdown: Shutdown) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { shutdown.wait().await })
}

/// What a client's first bytes say it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Reads until the protocol is clear, at most as many bytes as the preface of HTTP/2 has. Gives what was
/// read as well, or nothing when the client closed before.
async fn sniff<T: AsyncRead + Unpin>(socket: &mut T) -> io::Result<Option<(Protocol, Bytes)>> {
    let mut bytes = [0; PREFACE.len()];
    let mut buffer = ReadBuf::new(&mut bytes);
    loop {
        let before = buffer.filled().len();
        std::future::poll_fn(|context| Pin::new(&mut *socket).poll_read(context, &mut buffer)).await?;
        let read = buffer.filled();
        if read.len() == before {
            return Ok(None);
        }
        let protocol = if !PREFACE.starts_with(read) {
            Protocol::Http1
        } else if read.len() == PREFACE.len() {
            Protocol::Http2
        } else {
            continue;
        };
        return Ok(Some((protocol, Bytes::copy_from_slice(read))));
    }
}

/// Counts a connection as open until dropped.
struct Open(Arc<Traffic>);

impl Open {
    fn new(traffic: &Arc<Traffic>) -> Self {
        traffic.connections.fetch_add(1, Ordering::Relaxed);
        Self(traffic.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
