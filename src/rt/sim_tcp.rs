//! TCP in the simulator: the runtime's own, or that of a network which the simulator has put in its place.
//!
//! madsim's connections are kinder than real ones: they are never reset, never half-open, never full, and
//! a dead peer is seen at once. So the simulator may install a [`Network`] of its own, with every fault
//! that it wants, and the shell still says `TcpListener` and `TcpStream`. Without one, madsim's serve.
//!
//! Invariants:
//! - a network serves the thread that installed it, which is the thread of one simulated world;
//! - sockets keep to the network that made them, also when another one is installed later.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::ToSocketAddrs;

/// A network in the place of madsim's. Its calls come from tasks of madsim's nodes.
pub trait Network: Send + Sync {
    /// Listens at `address` of the calling node.
    ///
    /// # Errors
    /// When the address is not the node's, or taken.
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Port>>;

    /// Connects the calling node with whoever listens at `to`.
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Socket>>>;
}

/// An address that is listened at. Dropping it closes it.
pub trait Port: Send + Sync {
    /// The next connection and the address of its other end. Only the last caller is woken.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Socket>, SocketAddr)>>;

    /// Where it listens.
    fn local_addr(&self) -> SocketAddr;
}

/// One end of a connection. Dropping it closes it.
pub trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// The address of this end.
    fn local_addr(&self) -> SocketAddr;

    /// The address of the other end.
    fn peer_addr(&self) -> SocketAddr;
}

thread_local! {
    static INSTALLED: RefCell<Option<Arc<dyn Network>>> = const { RefCell::new(None) };
}

/// Keeps a network installed until dropped.
#[must_use = "dropping it removes the network"]
pub struct Installed {
    before: Option<Arc<dyn Network>>,
}

/// Uses `network` for all sockets that are made on this thread from now on.
pub fn install_network(network: Arc<dyn Network>) -> Installed {
    Installed { before: INSTALLED.with_borrow_mut(|installed| installed.replace(network)) }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let before = self.before.take();
        let removed = INSTALLED.with_borrow_mut(|installed| std::mem::replace(installed, before));
        drop(removed);
    }
}

fn installed() -> Option<Arc<dyn Network>> {
    INSTALLED.with_borrow(Clone::clone)
}

/// Listens for connections.
pub struct TcpListener(Listening);

enum Listening {
    Runtime(tokio::net::TcpListener),
    Installed(Box<dyn Port>),
}

impl TcpListener {
    /// Listens at the first of these addresses that can be had.
    ///
    /// # Errors
    /// When none can be had.
    pub async fn bind(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        let Some(network) = installed() else {
            return Ok(Self(Listening::Runtime(tokio::net::TcpListener::bind(addresses).await?)));
        };
        let mut failure = no_address();
        for address in tokio::net::lookup_host(addresses).await? {
            match network.bind(address) {
                Ok(port) => return Ok(Self(Listening::Installed(port))),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// When the port was closed under this listener.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.0 {
            Listening::Runtime(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((TcpStream(Stream::Runtime(stream)), peer))
            }
            Listening::Installed(port) => {
                let (socket, peer) = std::future::poll_fn(|context| port.poll_accept(context)).await?;
                Ok((TcpStream(Stream::Installed(socket)), peer))
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// None: the signature is production's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Listening::Runtime(listener) => listener.local_addr(),
            Listening::Installed(port) => Ok(port.local_addr()),
        }
    }
}

/// One end of a connection.
pub struct TcpStream(Stream);

enum Stream {
    Runtime(tokio::net::TcpStream),
    Installed(Box<dyn Socket>),
}

impl TcpStream {
    /// Connects with the first of these addresses that answers.
    ///
    /// # Errors
    /// When none does.
    pub async fn connect(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        let Some(network) = installed() else {
            return Ok(Self(Stream::Runtime(tokio::net::TcpStream::connect(addresses).await?)));
        };
        let mut failure = no_address();
        for address in tokio::net::lookup_host(addresses).await? {
            match network.connect(address).await {
                Ok(socket) => return Ok(Self(Stream::Installed(socket))),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Means nothing here: writes leave at once.
    ///
    /// # Errors
    /// None: the signature is production's.
    pub fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    /// The address of this end.
    ///
    /// # Errors
    /// None: the signature is production's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Runtime(stream) => stream.local_addr(),
            Stream::Installed(socket) => Ok(socket.local_addr()),
        }
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// None: the signature is production's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Runtime(stream) => stream.peer_addr(),
            Stream::Installed(socket) => Ok(socket.peer_addr()),
        }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Runtime(stream) => Pin::new(stream).poll_read(context, into),
            Stream::Installed(socket) => Pin::new(socket).poll_read(context, into),
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Runtime(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Installed(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Runtime(stream) => Pin::new(stream).poll_flush(context),
            Stream::Installed(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Runtime(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Installed(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener").field("address", &self.local_addr().ok()).finish()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream").field("peer", &self.peer_addr().ok()).finish()
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no address")
}
