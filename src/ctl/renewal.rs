//! Keeping a lease alive: one stream of renewals, opened again when it breaks.
//!
//! Invariant: a lease counts as gone only when the server says so, or when no answer came for as long as
//! the lease was granted.

use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use tonic::{Code, Request, Status, Streaming};

use super::failure::Failure;
use super::session::{Clients, RETRY_PAUSE, Session, require_leader};
use crate::proto::etcdserverpb as pb;
use crate::rt::{self, Clock, SystemClock};
use crate::types::Now;

/// Added to the dial time-out for the first answer to a keep-alive, in nanoseconds.
const FIRST_ANSWER: u64 = Now::SECOND;

/// Renews the lease whenever a third of its time is over, and hands every renewal to `renewed`. Returns
/// when it is gone, or may be: when no answer came for as long as it was granted.
///
/// # Errors
/// Those of `renewed`.
pub async fn keep_alive(
    session: &Session,
    id: i64,
    mut renewed: impl FnMut(pb::LeaseKeepAliveResponse) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let clock = SystemClock::new();
    let first = session.settings().connect.connect_timeout.as_nanos() as u64 + FIRST_ANSWER;
    let mut ends = clock.now().mono.saturating_add(first);
    let mut renewals = None;
    loop {
        let left = Duration::from_nanos(ends.saturating_sub(clock.now().mono));
        if left.is_zero() {
            return Ok(());
        }
        let answered = rt::timeout(left, renew(session, id, &mut renewals));
        match answered.await {
            Err(_) => return Ok(()),
            Ok(Ok(renewal)) if renewal.ttl <= 0 => return Ok(()),
            Ok(Ok(renewal)) => {
                let granted = Duration::from_secs(renewal.ttl.unsigned_abs());
                renewed(renewal)?;
                ends = clock.now().mono.saturating_add(granted.as_nanos() as u64);
                rt::sleep(granted / 3).await;
            }
            Ok(Err(status)) if matches!(status.code(), Code::Unavailable | Code::Internal) => {
                renewals = None;
                rt::sleep(RETRY_PAUSE).await;
            }
            Ok(Err(_)) => return Ok(()),
        }
    }
}

/// Renews the lease once. A lease that is gone has a time to live of 0.
///
/// # Errors
/// When the stream breaks before it is answered.
pub async fn once(clients: &Clients, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
    Renewals::open(clients, id).await?.next().await
}

/// One renewal over the open stream, or over a new one.
async fn renew(
    session: &Session,
    id: i64,
    renewals: &mut Option<Renewals>,
) -> Result<pb::LeaseKeepAliveResponse, Status> {
    match renewals {
        Some(renewals) => {
            renewals.ask(id)?;
            renewals.next().await
        }
        None => renewals.insert(Renewals::open(&session.clients(), id).await?).next().await,
    }
}

/// A stream of renewals.
struct Renewals {
    requests: mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>,
    answers: Streaming<pb::LeaseKeepAliveResponse>,
}

impl Renewals {
    /// Opens the stream, with a first renewal on its way: a server need not answer a silent client.
    async fn open(clients: &Clients, id: i64) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::unbounded();
        ask(&requests, id)?;
        let request = require_leader(Request::new(outgoing.fuse()));
        let answers = clients.lease().lease_keep_alive(request).await?.into_inner();
        Ok(Self { requests, answers })
    }

    fn ask(&self, id: i64) -> Result<(), Status> {
        ask(&self.requests, id)
    }

    async fn next(&mut self) -> Result<pb::LeaseKeepAliveResponse, Status> {
        self.answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))
    }
}

fn ask(requests: &mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>, id: i64) -> Result<(), Status> {
    let sent = requests.unbounded_send(pb::LeaseKeepAliveRequest { id });
    sent.map_err(|_| Status::unavailable("the stream ended"))
}
