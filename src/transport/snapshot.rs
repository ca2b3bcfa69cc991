//! Streaming a database to a member that lags too far for the log, and taking one in.
//!
//! ```text
//!   sender                          receiver
//!   source --chunk--> SnapshotFrame --chunk--> sink
//!    ...                                       ...
//!          --last-->                           finish: checked, synced, in a file
//!          <--ping, while that takes--
//!                                              PeerEvent::SnapshotArrived
//!          <--SnapshotResult--
//!   PeerEvent::SnapshotSent
//! ```
//!
//! The event comes before the result, so that the leader's next message finds the snapshot taken in.
//! Memory holds a chunk or two on either side. The transport does not look into chunks; it keeps them
//! as they were cut, since the receiving store checks each one.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::activity::Counters;
use super::dial::Addresses;
use super::wire::{Connection, Frame, PING, PeerError};
use super::{PeerEvent, Shared};
use crate::proto::detcdpb::peer_hello::Purpose;
use crate::proto::detcdpb::{SnapshotFrame, SnapshotResult};
use crate::rt::{self, AsyncRead, AsyncWrite};
use crate::types::log::SnapshotPoint;
use crate::types::{LocalFault, MemberId};

/// Size of a snapshot's chunks in bytes: large enough that the way to the disk's thread costs nothing.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// How much of an error's text is sent to the peer, in bytes. With it a result fits the bound of a
/// handshake.
const RESULT_TEXT_BYTES: usize = 1024;

/// Where the chunks of an outgoing snapshot come from. Calls may block.
pub trait SnapshotSource: Send {
    /// The next chunk, of about `max_bytes` at most; nothing after the last.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, LocalFault>;
}

/// Where the chunks of an incoming snapshot go. Calls may block. Dropped unfinished, it leaves nothing.
pub trait SnapshotSink: Send {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// When the chunk is not what was sent, or cannot be stored.
    fn write(&mut self, chunk: Bytes) -> Result<(), LocalFault>;

    /// Says that there are no more chunks, and gives the file, which is whole and on stable storage.
    ///
    /// # Errors
    /// When chunks are missing, or the file cannot be completed.
    fn finish(self: Box<Self>) -> Result<PathBuf, LocalFault>;
}

/// Where incoming snapshots are put.
pub trait SnapshotStore: Send + Sync {
    /// Begins to take one in. May block.
    ///
    /// # Errors
    /// When there is no place for it.
    fn begin(&self, point: &SnapshotPoint) -> Result<Box<dyn SnapshotSink>, LocalFault>;
}

/// A snapshot on its way out.
pub(super) struct Outgoing {
    pub(super) to: MemberId,
    pub(super) message: Bytes,
    pub(super) point: SnapshotPoint,
    pub(super) source: Box<dyn SnapshotSource>,
}

/// Sends a snapshot over a connection of its own; returns when the peer has it.
pub(super) async fn send(
    shared: &Shared,
    addresses: &Addresses,
    counters: &Counters,
    snapshot: Outgoing,
) -> Result<(), PeerError> {
    let Outgoing { to, message, point, mut source } = snapshot;
    let config = &shared.config;
    let mut connection = addresses.dial(config, to, Purpose::Snapshot, config.snapshot_timeout).await?;
    let SnapshotPoint { index, term, voters, learners } = point;
    let mut frame = SnapshotFrame { message, index, term, voters, learners, ..Default::default() };
    while !frame.last {
        rt::dawdle("transport: sends a snapshot slowly").await;
        let chunk;
        (source, chunk) = rt::blocking(move || {
            let chunk = source.next_chunk(CHUNK_BYTES);
            (source, chunk)
        })
        .await;
        let chunk = chunk?;
        frame.last = chunk.is_none();
        frame.chunk = chunk.unwrap_or_default();
        let bytes = connection.send(&frame).await?;
        counters.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        // Only the first frame introduces the snapshot.
        frame = SnapshotFrame { last: frame.last, ..Default::default() };
    }
    loop {
        let answer = connection.next_soon().await?;
        if answer == Frame::Ping {
            continue;
        }
        let result: SnapshotResult = answer.decode()?;
        if result.error.is_empty() {
            return Ok(());
        }
        return Err(PeerError::Refused { why: result.error, removed: false });
    }
}

/// Takes in the snapshot that `connection` brings.
pub(super) async fn receive<S>(
    shared: &Shared,
    connection: &mut Connection<S>,
    from: MemberId,
) -> Result<(), PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = next_frame(shared, connection, from).await?;
    if first.message.is_empty() {
        return Err(PeerError::Protocol("a snapshot that no message announces"));
    }
    let point = SnapshotPoint {
        index: first.index,
        term: first.term,
        voters: first.voters.clone(),
        learners: first.learners.clone(),
    };
    let message = first.message.clone();
    tracing::info!(%from, index = point.index, "receiving a snapshot");
    match store(shared, connection, from, &point, first).await {
        Ok(file) => {
            shared.tell(PeerEvent::SnapshotArrived { message, point, file }).await?;
            connection.send(&SnapshotResult::default()).await?;
            Ok(())
        }
        Err(error) => {
            tracing::warn!(%from, index = point.index, %error, "cannot receive a snapshot");
            let mut text = error.to_string();
            text.truncate(text.floor_char_boundary(RESULT_TEXT_BYTES));
            // The sender may be what failed.
            let _ = connection.send(&SnapshotResult { error: text }).await;
            Err(error)
        }
    }
}

/// Moves every chunk from the connection to a sink.
async fn store<S>(
    shared: &Shared,
    connection: &mut Connection<S>,
    from: MemberId,
    point: &SnapshotPoint,
    first: SnapshotFrame,
) -> Result<PathBuf, PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (store, at) = (shared.snapshots.clone(), point.clone());
    let mut sink = rt::blocking(move || store.begin(&at)).await?;
    let mut frame = first;
    loop {
        let chunk = std::mem::take(&mut frame.chunk);
        if !chunk.is_empty() {
            sink = rt::blocking(move || sink.write(chunk).map(|()| sink)).await?;
        }
        if frame.last {
            return finish(shared, connection, sink).await;
        }
        frame = match next_frame(shared, connection, from).await {
            Ok(frame) => frame,
            Err(error) => {
                // Discarding a file is work for the disk's thread as well.
                rt::blocking(move || drop(sink)).await;
                return Err(error);
            }
        };
    }
}

/// Completes the file, and shows the sender meanwhile that this side is alive.
async fn finish<S>(
    shared: &Shared,
    connection: &mut Connection<S>,
    sink: Box<dyn SnapshotSink>,
) -> Result<PathBuf, PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut finished = std::pin::pin!(rt::blocking(move || sink.finish()));
    loop {
        rt::select! {
            file = &mut finished => return Ok(file?),
            () = rt::sleep(shared.config.ping_interval) => {
                // Whole is whole, also when the sender has gone.
                let _ = connection.write(&PING).await;
            }
        }
    }
}

async fn next_frame<S>(
    shared: &Shared,
    connection: &mut Connection<S>,
    from: MemberId,
) -> Result<SnapshotFrame, PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = connection.next_soon().await?;
    shared.note_received(from, &frame)?;
    frame.decode()
}
