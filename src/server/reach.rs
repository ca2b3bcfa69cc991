//! How others reach a member: by its ports, or directly, within one process.
//!
//! Ports are what a server has. The simulator's lite runs leave sockets out: its bus carries the messages
//! of peers, and its clients call the services of a member by a function. Everything behind that is the
//! same code.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::peers::PeerEvent;
use crate::rpc::AllServices;
use crate::rt::Shutdown;
use crate::rt::sync::mpsc;
use crate::transport::{PeerNetwork, SnapshotStore};
use crate::types::MemberId;

/// How others reach a member.
#[derive(Clone)]
pub enum Reach {
    /// By the ports of its configuration.
    Ports,
    /// By whoever runs it.
    Direct(Arc<dyn Direct>),
}

/// Whoever runs a member without ports.
pub trait Direct: Send + Sync {
    /// The member starts: what peers send to it goes into its inbox. Gives its way to them.
    fn join(&self, inbox: Inbox) -> Arc<dyn PeerNetwork>;

    /// The member is ready to serve. Done when `shutdown` has been given and calls have ended; calls that
    /// are still open may be dropped.
    fn serve(&self, services: AllServices, shutdown: Shutdown) -> BoxFuture<'static, ()>;
}

/// Where a member takes in what peers send.
pub struct Inbox {
    /// The member.
    pub member_id: MemberId,
    /// Messages, and what became of those it sent.
    pub events: mpsc::Sender<PeerEvent>,
    /// Where databases go that peers send.
    pub snapshots: Arc<dyn SnapshotStore>,
}
