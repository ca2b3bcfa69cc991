//! The channel and its links to the endpoints.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::{Scheme, Uri};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::{Endpoint, Options};
use crate::net::inline::{Driver, InlineExecutor, Until};
use crate::net::io::Io;
use crate::net::{CONNECTION_WINDOW, HEADER_LIST_LIMIT, STREAM_WINDOW, Traffic};
use crate::rt::{self, Clock, HyperTimer, SystemClock, TcpStream};
use crate::types::Now;

/// For this long after a failed connect an endpoint is tried only after all others, in nanoseconds.
const REST: u64 = Now::SECOND;

/// Connections that one request may try at one endpoint: the one it found, which may turn out to be
/// closing, and a new one.
const TRIES_PER_ENDPOINT: usize = 2;

/// A connection to a cluster for generated clients. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Channel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    links: Vec<Link>,
    options: Options,
    clock: SystemClock,
    /// Counts requests, so that they take the endpoints in turn.
    turn: AtomicUsize,
}

/// The way to one endpoint.
#[derive(Debug)]
struct Link {
    endpoint: Endpoint,
    /// The connection, if one was made. Locked while one is being made, so that requests which come
    /// meanwhile wait for it instead of making their own.
    connection: rt::sync::Mutex<Option<SendRequest<Body>>>,
    failure: Mutex<Option<Failure>>,
}

/// The last attempt to connect, if it failed.
#[derive(Debug)]
struct Failure {
    /// When, in the monotonic time of the channel.
    at: u64,
    status: Status,
}

impl Channel {
    /// A channel to the servers at `endpoints`. It connects when it is first used; without any endpoint
    /// every request fails.
    pub fn new(endpoints: Vec<Endpoint>, options: Options) -> Self {
        let links = endpoints.into_iter().map(Link::new).collect();
        let shared = Shared { links, options, clock: SystemClock::new(), turn: AtomicUsize::new(0) };
        Self { shared: Arc::new(shared) }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move { shared.send(request).await })
    }
}

impl Shared {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let begun = self.clock.now().mono;
        let mut failure = Status::unavailable("no endpoints");
        for link in self.links_in_turn(begun) {
            for _ in 0..TRIES_PER_ENDPOINT {
                let mut sender = match link.connection(begun, &self.clock, &self.options).await {
                    Ok(sender) => sender,
                    Err(status) => {
                        failure = status;
                        break;
                    }
                };
                address(&mut request, &link.endpoint)?;
                match sender.try_send_request(request).await {
                    Ok(response) => return Ok(response.map(body)),
                    Err(mut error) => {
                        let status = unavailable(&link.endpoint, error.error());
                        // The request comes back only when nothing of it was sent.
                        match error.take_message() {
                            Some(unsent) => request = unsent,
                            None => return Err(status),
                        }
                        failure = status;
                    }
                }
            }
        }
        Err(failure)
    }

    /// Each request begins with another endpoint; those that failed just now come last.
    fn links_in_turn(&self, now: u64) -> Vec<&Link> {
        let count = self.links.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
        let mut links: Vec<&Link> = self.links.iter().cycle().skip(first).take(count).collect();
        links.sort_by_key(|link| link.rests(now));
        links
    }
}

impl Link {
    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, connection: rt::sync::Mutex::new(None), failure: Mutex::new(None) }
    }

    /// The open connection, or a new one, for a request that began at `begun`.
    async fn connection(
        &self,
        begun: u64,
        clock: &SystemClock,
        options: &Options,
    ) -> Result<SendRequest<Body>, Status> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        if let Some(failure) = self.failure().as_ref().filter(|failure| failure.at >= begun) {
            // It failed while this request waited: a queue of requests must not try one after another.
            return Err(failure.status.clone());
        }
        let connected = connect(&self.endpoint, options).await;
        let failure =
            connected.as_ref().err().map(|status| Failure { at: clock.now().mono, status: status.clone() });
        *self.failure() = failure;
        *connection = connected.as_ref().ok().cloned();
        connected
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rests(&self, now: u64) -> bool {
        self.failure().as_ref().is_some_and(|failure| now < failure.at + REST)
    }
}

/// Connects and starts the task that drives the connection until nobody needs it any more.
async fn connect(endpoint: &Endpoint, options: &Options) -> Result<SendRequest<Body>, Status> {
    let connected =
        rt::timeout(options.connect_timeout, TcpStream::connect((endpoint.host(), endpoint.port())));
    let socket = match connected.await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(unavailable(endpoint, &error)),
        Err(_) => return Err(Status::unavailable(format!("{endpoint}: no connection in time"))),
    };
    socket.set_nodelay(true).map_err(|error| unavailable(endpoint, &error))?;

    let io = Io::new(socket, Bytes::new(), Arc::new(Traffic::default()));
    let executor = InlineExecutor::default();
    let (sender, connection) = http2::Builder::new(executor.clone())
        .timer(HyperTimer)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST_LIMIT)
        .keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        // Only puts the client's preface into the gathered output; the driver sends it.
        .handshake(io.clone())
        .await
        .map_err(|error| unavailable(endpoint, &error))?;
    let stall = options.keep_alive_interval.map(|interval| interval + options.keep_alive_timeout);
    let driver = Driver::new(connection, io, executor, Until::StreamsEnd, stall, None);
    let endpoint = endpoint.clone();
    rt::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%endpoint, %error, "connection ended");
        }
    });
    Ok(sender)
}

/// Generated clients name the method only; HTTP/2 wants the scheme and the server as well.
fn address(request: &mut Request<Body>, endpoint: &Endpoint) -> Result<(), Status> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(endpoint.authority().clone());
    *request.uri_mut() =
        Uri::from_parts(parts).map_err(|error| Status::internal(format!("bad request path: {error}")))?;
    Ok(())
}

/// The body of an answer, with a connection that breaks in the middle as a status.
fn body(incoming: Incoming) -> Body {
    Body::new(incoming.map_err(|error| Status::unavailable(describe(&error))))
}

fn unavailable(endpoint: &Endpoint, error: &(dyn Error + 'static)) -> Status {
    Status::unavailable(format!("{endpoint}: {}", describe(error)))
}

/// An error with its causes. hyper's own text alone says no more than that something failed.
fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
