//! A gRPC channel: what generated clients send their requests over.
//!
//! `detcdctl`, the tests and the simulator use it, as in `KvClient::new(channel)`. It runs on this
//! project's runtime room, so it works in the simulator, and it drives its connections as the server does:
//! one task each, one write for each poll.
//!
//! ```text
//!   Channel (cheap to clone) ─┬─ link to endpoint 1 ── one connection, made when first needed
//!                             ├─ link to endpoint 2 ── ...
//!                             └─ ...
//! ```
//!
//! Requests take the endpoints in turn. A request that could not be handed to a connection is tried on the
//! next endpoint; one that was handed over never is, since the server may have carried it out: it fails
//! with `Unavailable` and the caller decides.
//!
//! Invariants:
//! - a request is sent at most once;
//! - an endpoint has at most one connection and one connection attempt at a time;
//! - a connection ends when the last clone of its channel and the last answer of its requests are gone.

mod channel;
mod endpoint;

use std::time::Duration;

pub use channel::Channel;
pub use endpoint::{Endpoint, EndpointError};

/// The shortest probing interval that gRPC for Go keeps to, whatever it is told: servers close connections
/// on which there are more pings than they allow.
pub const MIN_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How a channel connects. The defaults are etcdctl's.
#[derive(Clone, Debug)]
pub struct Options {
    /// A connection must be there within this time (`--dial-timeout`).
    pub connect_timeout: Duration,
    /// A connection with requests is probed after this long without a sign of life
    /// (`--keepalive-time`). Nothing turns probing off.
    pub keep_alive_interval: Option<Duration>,
    /// A probe that is not answered in this time closes the connection (`--keepalive-timeout`).
    pub keep_alive_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            keep_alive_interval: Some(MIN_KEEP_ALIVE_INTERVAL),
            keep_alive_timeout: Duration::from_secs(6),
        }
    }
}

#[cfg(test)]
mod tests;
