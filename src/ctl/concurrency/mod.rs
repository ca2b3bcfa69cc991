//! `lock` and `elect`: who stands first in a line.
//!
//! ```text
//!   grant a lease ──> a key of its own below NAME/ ──> wait for every older key to go ──> first
//!        │                                                                                  │
//!        └── renewed in the background until it is gone                    delete the key: the next one
//! ```
//!
//! Both are made of keys, leases and watches alone, in etcdctl's way: the key is the name, a slash and the
//! lease's id in hexadecimal, and a key's place in the line is its create revision. So clients of the Lock
//! and Election services, etcdctl and this tool stand in one line.
//!
//! Invariants:
//! - whoever is first has waited for the deletion of every key that was there before its own;
//! - a lease is left to run out at the end, as etcdctl leaves it: only the key is deleted.

pub mod elect;
mod events;
mod line;
pub mod lock;

use super::failure::{Exit, Failure};
use super::renewal;
use super::session::{Clients, Session};
use crate::proto::etcdserverpb::LeaseGrantRequest;
use crate::rt::{self, JoinHandle};

/// The time to live of a lease for which nothing else is said, in seconds.
const DEFAULT_TTL: i64 = 60;

/// A lease that lives as long as this process does.
struct Lease {
    id: i64,
    /// Ends when the lease is gone.
    renewing: JoinHandle<()>,
}

impl Lease {
    /// Grants a lease for `ttl` seconds and renews it from now on.
    async fn grant(session: &Session, ttl: i64) -> Result<Self, Failure> {
        let ttl = if ttl > 0 { ttl } else { DEFAULT_TTL };
        let request = LeaseGrantRequest { ttl, id: 0 };
        let call = |clients: Clients| async move { clients.lease().lease_grant(request).await };
        let id = session.write(None, call).await?.id;
        let session = session.clone();
        let renewing = rt::spawn(async move {
            // Renewals are only counted on, not shown, so nothing can fail.
            let _ = renewal::keep_alive(&session, id, |_| Ok(())).await;
        });
        Ok(Self { id, renewing })
    }

    /// Waits until the lease is gone.
    async fn gone(&mut self) {
        // A task that is never aborted and does not panic ends with its value.
        let _ = (&mut self.renewing).await;
    }
}

/// Waits until the user or the system asks the process to end. From the first poll on a signal no longer
/// ends it at once: that must come before there is a key to take away.
async fn interrupted() -> Result<(), Failure> {
    rt::terminated().await.map(drop).map_err(|error| Failure::new(Exit::Error, error.to_string()))
}

/// What Go says of work that was called off.
fn cancelled() -> Failure {
    Failure::new(Exit::Error, "context canceled")
}
