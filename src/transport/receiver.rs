//! The accepting side: a peer's hello, and then its messages or its snapshot.

use super::snapshot;
use super::wire::{Connection, Frame, PING, PeerError, within};
use super::{HANDSHAKE_BYTES, PeerEvent, Shared};
use crate::proto::detcdpb::peer_hello::Purpose;
use crate::proto::detcdpb::{PeerFrame, PeerHello, PeerWelcome};
use crate::rt::{self, AsyncRead, AsyncWrite};
use crate::types::{ClusterId, MemberId};

/// Serves one accepted connection to its end.
pub(super) async fn serve<S>(shared: &Shared, stream: S) -> Result<(), PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = &shared.config;
    let mut connection = Connection::new(stream, HANDSHAKE_BYTES, config.silence_timeout);
    let hello = within(config.connect_timeout, "waiting for the hello", connection.next()).await?;
    let hello: PeerHello = hello.decode()?;
    let purpose = match check_hello(shared, &hello) {
        Ok(purpose) => purpose,
        Err(refusal) => return refuse(&mut connection, refusal).await,
    };
    let from = MemberId(hello.from);
    match purpose {
        Purpose::Messages => {
            connection.send(&PeerWelcome::default()).await?;
            connection.set_bounds(config.max_frame_bytes, config.silence_timeout);
            receive_messages(shared, &mut connection, from).await
        }
        Purpose::Snapshot => {
            // Two leaders may follow each other closely: the second tries again when the first is done.
            let Some(_turn) = shared.incoming_snapshot.claim() else {
                let error = "another snapshot is being received".to_owned();
                return refuse(&mut connection, PeerWelcome { error, removed: false }).await;
            };
            connection.send(&PeerWelcome::default()).await?;
            connection.set_bounds(config.max_frame_bytes, config.snapshot_timeout);
            snapshot::receive(shared, &mut connection, from).await
        }
    }
}

/// What the caller wants, or the words that it is turned away with. A caller that is not known as a
/// member is let in: this member may be the one that has not heard of it yet.
fn check_hello(shared: &Shared, hello: &PeerHello) -> Result<Purpose, PeerWelcome> {
    let config = &shared.config;
    let no = |error: String| Err(PeerWelcome { error, removed: false });
    if hello.cluster_id != config.cluster_id.0 {
        let theirs = ClusterId(hello.cluster_id);
        return no(format!("this is cluster {}, the caller belongs to {theirs}", config.cluster_id));
    }
    if hello.to != config.member_id.0 {
        return no(format!(
            "this is member {}, the caller looks for {}",
            config.member_id,
            MemberId(hello.to)
        ));
    }
    let from = MemberId(hello.from);
    if from == config.member_id || from == MemberId(0) {
        return no(format!("{from} cannot be the caller"));
    }
    if shared.lock().removed.contains(&from) {
        return Err(PeerWelcome {
            error: format!("member {from} was removed from the cluster"),
            removed: true,
        });
    }
    Purpose::try_from(hello.purpose).or_else(|_| no(format!("unknown purpose {}", hello.purpose)))
}

async fn refuse<S>(connection: &mut Connection<S>, refusal: PeerWelcome) -> Result<(), PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    connection.send(&refusal).await?;
    Err(PeerError::Refused { why: refusal.error, removed: refusal.removed })
}

async fn receive_messages<S>(
    shared: &Shared,
    connection: &mut Connection<S>,
    from: MemberId,
) -> Result<(), PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let frame = connection.next_soon().await?;
        shared.note_received(from, &frame)?;
        if frame == Frame::Ping {
            connection.write(&PING).await?;
            continue;
        }
        rt::dawdle("transport: receives late").await;
        let PeerFrame { raft: messages, lease_calls, lease_answers } = frame.decode()?;
        if !messages.is_empty() {
            shared.tell(PeerEvent::Raft { from, messages }).await?;
        }
        for call in lease_calls {
            shared.tell(PeerEvent::LeaseCall { from, call }).await?;
        }
        for answer in lease_answers {
            shared.tell(PeerEvent::LeaseAnswer { from, answer }).await?;
        }
    }
}
