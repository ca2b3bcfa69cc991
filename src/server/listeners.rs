//! The ports of a member: clients, peers, and metrics alone.
//!
//! A client port speaks gRPC and HTTP. A peer port speaks the peer protocol, which begins with bytes that
//! no HTTP request begins with, and the little HTTP that etcd answers there.

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::rt::io::{AsyncReadExt, join, split};

use super::node::NodeConfig;
use crate::net::{self, Handler, Services};
use crate::rt::{self, Shutdown, TaskGroup, TcpListener, TcpStream};
use crate::transport::{MAGIC, Transport};
use crate::types::LocalFault;

/// Time that a peer has to say which protocol it speaks.
const PEER_FIRST_BYTES: Duration = Duration::from_secs(10);

/// Pause after a connection could not be accepted: most likely there are no file descriptors left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Bound sockets, not yet served.
pub struct Listeners {
    client: Vec<TcpListener>,
    peer: Vec<TcpListener>,
    http: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
}

impl Listeners {
    /// Binds every address of the configuration.
    ///
    /// # Errors
    /// Names the address that cannot be bound.
    pub async fn bind(config: &NodeConfig) -> Result<Self, LocalFault> {
        Ok(Self {
            peer: bind_all(&config.listen_peer).await?,
            client: bind_all(&config.listen_client).await?,
            http: bind_all(&config.listen_client_http).await?,
            metrics: bind_all(&config.listen_metrics).await?,
        })
    }
}

async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, LocalFault> {
    let mut bound = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
                _ => error.to_string(),
            };
            LocalFault::new(format!("listen tcp {address}: bind: {reason}"))
        })?;
        bound.push(listener);
    }
    Ok(bound)
}

/// Who answers on the ports.
pub struct Handlers<G, C, M, P> {
    /// gRPC calls of clients.
    pub grpc: G,
    /// HTTP requests of clients.
    pub client: C,
    /// Requests to a port for metrics and health.
    pub metrics: M,
    /// HTTP requests to a peer port.
    pub peer: P,
}

/// Serves every port, those of clients once `ready` is done, until `shutdown`; then until the clients' connections have ended or their grace is
/// over. Peers are served until this future is dropped: they are needed while requests are answered.
pub async fn serve<G, C, M, P>(
    listeners: Listeners,
    handlers: Handlers<G, C, M, P>,
    transport: Transport,
    options: net::Options,
    ready: impl Future<Output = ()>,
    mut shutdown: Shutdown,
) where
    G: Handler,
    C: Handler,
    M: Handler,
    P: Handler,
{
    let peers = TaskGroup::new();
    for listener in listeners.peer {
        let http = Services { grpc: handlers.peer.clone(), http: handlers.peer.clone() };
        peers.spawn(serve_peers(listener, transport.clone(), http, options.clone(), shutdown.clone()));
    }
    let mut ports = Vec::new();
    for listener in listeners.metrics {
        let services = Services { grpc: handlers.metrics.clone(), http: handlers.metrics.clone() };
        ports.push(rt::spawn(net::serve(listener, services, options.clone(), shutdown.clone())));
    }
    rt::select! {
        () = ready => {}
        () = shutdown.wait() => {}
    }
    for listener in listeners.client {
        let services = Services { grpc: handlers.grpc.clone(), http: handlers.client.clone() };
        ports.push(rt::spawn(net::serve(listener, services, options.clone(), shutdown.clone())));
    }
    for listener in listeners.http {
        let services = Services { grpc: handlers.client.clone(), http: handlers.client.clone() };
        ports.push(rt::spawn(net::serve(listener, services, options.clone(), shutdown.clone())));
    }
    for port in ports {
        // A port that panicked has said so; the others still drain.
        let _ = port.await;
    }
}

/// Accepts the connections of a peer port, each into a task of its own.
async fn serve_peers<H: Handler>(
    listener: TcpListener,
    transport: Transport,
    handlers: Services<H, H>,
    options: net::Options,
    shutdown: Shutdown,
) {
    let connections = TaskGroup::new();
    let options = Arc::new(options);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.spawn(serve_peer(
                stream,
                transport.clone(),
                handlers.clone(),
                options.clone(),
                shutdown.clone(),
            )),
            Err(error) => {
                tracing::warn!(%error, "could not accept a peer's connection");
                rt::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn serve_peer<H: Handler>(
    mut stream: TcpStream,
    transport: Transport,
    handlers: Services<H, H>,
    options: Arc<net::Options>,
    shutdown: Shutdown,
) {
    // Latency of heartbeats matters more than a packet saved.
    let _ = stream.set_nodelay(true);
    let mut first = [0; MAGIC.len()];
    match rt::timeout(PEER_FIRST_BYTES, stream.read_exact(&mut first)).await {
        Ok(Ok(_)) => {}
        // Silent, or gone: nobody to answer.
        Ok(Err(_)) | Err(_) => return,
    }
    if first == *MAGIC {
        transport.serve(stream).await;
        return;
    }
    let (read, write) = split(stream);
    let replayed = join(Cursor::new(first).chain(read), write);
    if let Err(error) = net::serve_connection(replayed, handlers, &options, shutdown).await {
        tracing::debug!(%error, "a connection to the peer port ended early");
    }
}
