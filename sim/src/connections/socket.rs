//! What the runtime's room sees of a simulated network: its ports and sockets.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use detcd::rt::sim_tcp::{self, Port};
use detcd::rt::{self, AsyncRead, AsyncWrite, ReadBuf};
use futures::future::BoxFuture;

use super::link::LinkId;
use super::network::Network;
use super::timer::now;

/// How often a host that does not answer is asked for a connection (Linux).
const KNOCKS: u32 = 7;

/// The pause after the first of them; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The network as its sockets share it.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Network>>);

impl Shared {
    pub(super) fn new(network: Network) -> Self {
        Self(Arc::new(Mutex::new(network)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl sim_tcp::Network for Shared {
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Port>> {
        let mut network = self.lock();
        let ip = network.caller(madsim::plugin::node(), now().unwrap_or_default());
        let (number, address) = network.bind(ip, address)?;
        Ok(Box::new(Listener { shared: self.clone(), number, address }))
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn sim_tcp::Socket>>> {
        let shared = self.clone();
        Box::pin(async move { Ok(Box::new(connect(shared, to).await?) as Box<dyn sim_tcp::Socket>) })
    }
}

async fn connect(shared: Shared, mut to: SocketAddr) -> io::Result<Socket> {
    let from = shared.lock().caller(madsim::plugin::node(), now().unwrap_or_default());
    if to.ip().is_loopback() {
        to.set_ip(from);
    }
    let mut pause = FIRST_PAUSE;
    for _ in 0..KNOCKS {
        let answer = shared.lock().knock(from, to.ip(), now().unwrap_or_default());
        if let Some(after) = answer {
            rt::sleep(after).await;
            let established = shared.lock().establish(from, to, now().unwrap_or_default())?;
            if let Some((link, local)) = established {
                return Ok(Socket { shared, link, end: 0, local, peer: to });
            }
        }
        rt::sleep(pause).await;
        pause *= 2;
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// A port that is listened at.
struct Listener {
    shared: Shared,
    number: u64,
    address: SocketAddr,
}

impl Port for Listener {
    fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn sim_tcp::Socket>, SocketAddr)>> {
        let now = now().unwrap_or_default();
        let accepted = self.shared.lock().accept(self.number, self.address, now, context.waker());
        accepted.map(|(link, peer)| {
            let socket = Socket { shared: self.shared.clone(), link, end: 1, local: self.address, peer };
            Ok((Box::new(socket) as Box<dyn sim_tcp::Socket>, peer))
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Without a world there is nobody to be told.
        if let Some(now) = now() {
            self.shared.lock().close_port(self.number, self.address, now);
        }
    }
}

/// One end of a connection.
struct Socket {
    shared: Shared,
    link: LinkId,
    end: usize,
    local: SocketAddr,
    peer: SocketAddr,
}

impl sim_tcp::Socket for Socket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let now = now().unwrap_or_default();
        self.shared.lock().read(self.link, self.end, now, context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = now().unwrap_or_default();
        self.shared.lock().write(self.link, self.end, now, context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Writes leave at once.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().shut_down(self.link, self.end, now().unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(now) = now() {
            self.shared.lock().close(self.link, self.end, now);
        }
    }
}
