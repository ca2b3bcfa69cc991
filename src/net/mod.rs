//! Serving connections: from an accepted socket to the handlers of gRPC and HTTP, and back.
//!
//! The interface is one function, [`serve_connection`]: a socket, the services, a shutdown signal.
//! [`serve`] calls it for every socket of a listener. HTTP/2 and HTTP/1 share a port; the first bytes
//! tell them apart.
//!
//! ```text
//!  TcpListener ──accept──> task of one connection
//!                          ┌──────────────────────────────────────────────┐
//!                          │ Driver: one poll =                           │
//!                          │   socket ─read─> hyper ─stream futures─┐     │
//!                          │     ^              ^                   v     │
//!                          │   one write      replies <── handlers, polled│
//!                          │   at the end                 at once, inline │
//!                          └──────────────────────────────────────────────┘
//! ```
//!
//! What a request costs is mostly the kernel's work for a write, and then the scheduler's work for a
//! wake-up. So a request gets no task of its own: its future is polled inside the connection's task
//! ([`inline`]), and all replies of one poll leave in one write ([`io`]). Measured on two cores with 100
//! clients this takes a third of the CPU of a task for each request.
//!
//! Invariants:
//! - a connection is one task: when the task is dropped, its handlers are dropped and its socket closes;
//! - a silent, slow, nervous or broken client costs only its own connection;
//! - output that waits for a slow socket is bounded by [`io::BUFFER_LIMIT`] here and by the client's
//!   flow-control windows before it;
//! - a handler is dropped as soon as its client cancels the request or goes away.

mod accept;
mod authority;
mod connection;
mod frames;
pub mod inline;
pub mod io;
mod pings;
mod service;
mod wakes;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use accept::serve;
pub use connection::{ConnectionError, serve_connection};
pub use service::{Handler, HandlerFn, Services};

/// How much a client may send on one stream before the handler reads, in bytes.
pub const STREAM_WINDOW: u32 = 1024 * 1024;

/// How much a client may send on all streams together before handlers read, in bytes.
pub const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The largest block of request headers, in bytes. Tokens of users travel in them.
pub const HEADER_LIST_LIMIT: u32 = 64 * 1024;

/// How a listener's connections are served. The defaults are etcd's where etcd has the setting.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections open at once; further clients wait in the kernel's queue.
    pub max_connections: usize,
    /// Requests in progress at once on one connection (`--max-concurrent-streams`).
    pub max_concurrent_streams: u32,
    /// A connection is probed after this long without a sign of life (`--grpc-keepalive-interval`).
    /// Nothing turns probing off.
    pub keep_alive_interval: Option<Duration>,
    /// A probe that is not answered in this time closes the connection (`--grpc-keepalive-timeout`).
    pub keep_alive_timeout: Duration,
    /// Distance that a client's pings must keep (`--grpc-keepalive-min-time`).
    pub min_ping_distance: Duration,
    /// A client must have said which protocol it speaks within this time, and an HTTP/1 client must
    /// have sent the head of its request.
    pub first_bytes_timeout: Duration,
    /// After the shutdown signal, requests in progress get this long to end.
    pub grace: Duration,
    /// Where the traffic is counted.
    pub traffic: Arc<Traffic>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: usize::MAX,
            max_concurrent_streams: u32::MAX,
            keep_alive_interval: Some(Duration::from_secs(2 * 60 * 60)),
            keep_alive_timeout: Duration::from_secs(20),
            min_ping_distance: Duration::from_secs(5),
            first_bytes_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(5),
            traffic: Arc::default(),
        }
    }
}

impl Options {
    /// A socket that takes no byte for this long is given up: the same patience as with an unanswered
    /// probe, which cannot be told while the probe itself is stuck behind other output.
    fn stall_timeout(&self) -> Option<Duration> {
        self.keep_alive_interval.map(|interval| interval + self.keep_alive_timeout)
    }
}

/// What went over the connections so far, for metrics. One may be shared by several listeners.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes read from sockets.
    pub received: AtomicU64,
    /// Bytes written to sockets.
    pub sent: AtomicU64,
    /// Connections that are open now.
    pub connections: AtomicU64,
}

#[cfg(test)]
mod tests;
