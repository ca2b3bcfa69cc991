//! Accepts the connections of one listener, each into a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Options;
use super::connection::serve_connection;
use super::service::{Handler, Services};
use crate::rt::sync::{OwnedSemaphorePermit, Semaphore};
use crate::rt::{self, Shutdown, TaskGroup, TcpListener, TcpStream};

/// How long to wait before accepting again after a failure. It is most likely that the process has no file
/// descriptors left, which only time can mend.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Serves the clients of `listener` until `shutdown`, then closes it and waits until every connection has
/// ended, for `options.grace` at most. What has not ended by then is aborted.
///
/// Dropping the future aborts every connection at once. A request that streams without end, such as a
/// watch, keeps its connection open through the grace: its service should end it on shutdown.
pub async fn serve<G, H>(
    listener: TcpListener,
    services: Services<G, H>,
    options: Options,
    mut shutdown: Shutdown,
) where
    G: Handler,
    H: Handler,
{
    let connections = TaskGroup::new();
    let places = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
    let options = Arc::new(options);
    loop {
        let (socket, peer, place) = rt::select! {
            _ = shutdown.wait() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        connections.spawn(serve_one(
            socket,
            peer,
            place,
            services.clone(),
            options.clone(),
            shutdown.clone(),
        ));
    }
    drop(listener);
    if rt::timeout(options.grace, connections.drained()).await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections whose requests did not end");
    }
}

/// Waits for a free place first and a client then, so that clients beyond the limit stay in the kernel's
/// queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let Ok(place) = places.clone().acquire_owned().await else {
        unreachable!("the semaphore is never closed");
    };
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => return (socket, peer, place),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                rt::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn serve_one<G, H>(
    socket: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    services: Services<G, H>,
    options: Arc<Options>,
    shutdown: Shutdown,
) where
    G: Handler,
    H: Handler,
{
    // Output is gathered before it is written: the kernel should not wait for more.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot turn off the delay of small writes");
    }
    if let Err(error) = serve_connection(socket, services, &options, shutdown).await {
        tracing::debug!(%peer, %error, "connection ended");
    }
    drop(place);
}
