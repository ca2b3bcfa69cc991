//! TCP with the faults that real networks have, for runs of whole servers.
//!
//! The server's sockets come from `detcd::rt`. Once [`Connections::install`] was called, they are those of
//! this room instead of madsim's, which is too kind: no resets, no half-open connections, no full buffers,
//! a dead peer is seen at once, and each segment costs a timer and a task switch of a millisecond at least.
//!
//! ```text
//!   server, client ──> detcd::rt::TcpStream ──> socket ──> network ──> pipe (bytes one way) ──> ...
//!                                                             ^
//!   nemesis ──> Connections: cut, mend, reset, half_open, ────┘
//!               power_cut, kill, refuse, swallow, slow_reader, ...
//! ```
//!
//! What is like Linux's TCP, since servers get it wrong in practice:
//!
//! - **A cut** ([`Connections::cut`], one direction) loses nothing: bytes are held back and sent again
//!   after it, at the time of the next retransmission, which backs off. A writer goes on until the buffers
//!   are full, and so it does when only the acknowledgements are cut off. Who connects over a cut waits.
//! - **A killed process** has its connections closed by its host: with an end, or with a reset where bytes
//!   were unread or still come. Who connects is refused.
//! - **A power cut** tells nobody. Reads on the other side stay pending, writes go into the void until the
//!   buffers are full. When the host is back, whatever is sent again or anew gets a reset.
//! - **A half-open connection** ([`Connections::half_open`]) is one that a router forgot: the same, for
//!   ever, with both hosts in good health.
//! - **A close** with unread bytes is a reset, and a reset discards what the other side has not read.
//!
//! madsim's own partitions (`clog_node`, `clog_link`) have no effect on these connections, and its latency
//! and loss neither: use the methods here. Its `pause` works: the host's buffers fill.
//!
//! Invariants:
//! - bytes arrive in order, each once, or the connection ends; nothing arrives in less than a millisecond,
//!   but on a host itself at once;
//! - after [`Connections::power_cut`] nothing that the host's processes do reaches anyone, their destructors
//!   included; of what had left before, some arrives, as the seed says;
//! - all draws come from the seed, in a stream for each path.

mod faults;
mod link;
mod network;
mod outages;
mod pipe;
mod socket;
mod timer;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use detcd::rt::sim_tcp::{Installed, install_network};
use madsim::task::NodeId;
use serde::Serialize;

pub use faults::{Conditions, Connects, Pace};

use crate::history::{MemberNumber, Time};
use crate::trace::Trace;
use network::Network;
use socket::Shared;

/// The connections of one world. Clones are the same.
#[derive(Clone)]
pub struct Connections {
    shared: Shared,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Connections that came about.
    pub connected: u64,
    /// Attempts that were refused.
    pub refused: u64,
    /// Questions for a connection that got no answer.
    pub unanswered: u64,
    /// Resets, by faults and by hosts.
    pub resets: u64,
    /// Ends of connections that fell silent without a word.
    pub half_opened: u64,
    /// Writes that left an end.
    pub segments: u64,
    /// Those of them that were held back.
    pub held: u64,
    /// Writes that found no room.
    pub full: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
}

impl Connections {
    /// A network without hosts.
    pub fn new(seed: u64) -> Self {
        Self { shared: Shared::new(Network::new(seed)) }
    }

    /// Notes what happens in a trace from now on.
    pub fn trace_to(&self, trace: Trace) {
        self.shared.lock().trace = Some(trace);
    }

    /// Serves all sockets that are made on this thread from now on, until the value is dropped.
    pub fn install(&self) -> Installed {
        install_network(Arc::new(self.shared.clone()))
    }

    /// Gives a node its address. `member` names it in the trace, 0 for a client. Call it before the node's
    /// first socket; an address stays its node's when the node is killed and restarted.
    pub fn add_host(&self, node: NodeId, ip: IpAddr, member: MemberNumber) {
        self.shared.lock().add_host(node, ip, member);
    }

    // How paths are.

    /// Sets how all paths are that have no conditions of their own.
    pub fn set_usual(&self, conditions: Conditions) {
        self.shared.lock().faults.set_usual(conditions);
    }

    /// Sets how long bytes take on a path.
    pub fn set_latency(&self, from: IpAddr, to: IpAddr, latency: RangeInclusive<Duration>) {
        self.change(from, to, "latency", |conditions| conditions.latency = latency);
    }

    /// Sets how much may be on the way or unread on a path, in bytes. At least one is.
    pub fn set_capacity(&self, from: IpAddr, to: IpAddr, bytes: usize) {
        self.change(from, to, "capacity", |conditions| conditions.capacity = bytes);
    }

    /// Cuts what is written and what is read on a path into pieces of one byte to this many.
    pub fn set_pieces(&self, from: IpAddr, to: IpAddr, write: Option<usize>, read: Option<usize>) {
        self.change(from, to, "pieces", |conditions| {
            conditions.write_piece = write;
            conditions.read_piece = read;
        });
    }

    /// Lets `to` read slowly what `from` writes.
    pub fn slow_reader(&self, from: IpAddr, to: IpAddr, pace: Pace) {
        self.change(from, to, "slow reader", |conditions| conditions.pace = Some(pace));
    }

    /// Sets what becomes of who connects from one host to another.
    pub fn set_connects(&self, from: IpAddr, to: IpAddr, connects: Connects) {
        let name = match connects {
            Connects::Served => "connects are served",
            Connects::Refused => "connects are refused",
            Connects::Swallowed => "connects are swallowed",
        };
        self.change(from, to, name, |conditions| conditions.connects = connects);
    }

    /// Lets a path be as usual. A cut stays.
    pub fn restore(&self, from: IpAddr, to: IpAddr) {
        let now = now();
        let mut network = self.shared.lock();
        network.faults.restore((from, to));
        network.note(now, (from, to), "as usual", 0);
        network.release(now);
    }

    fn change(&self, from: IpAddr, to: IpAddr, name: &'static str, change: impl FnOnce(&mut Conditions)) {
        let now = now();
        let mut network = self.shared.lock();
        network.faults.change((from, to), change);
        network.note(now, (from, to), name, 0);
        // A writer may have room now.
        network.release(now);
    }

    // Cuts.

    /// Holds back what is written on a path from now on. What is on its way arrives.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        let mut network = self.shared.lock();
        network.faults.cut((from, to));
        network.note(now(), (from, to), "cut", 0);
    }

    /// Cuts both ways between two hosts.
    pub fn part(&self, one: IpAddr, other: IpAddr) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Cuts a host off from all others, those included that come later: what it sends, what it is sent, or
    /// both.
    pub fn isolate(&self, host: IpAddr, sends: bool, receives: bool) {
        let mut network = self.shared.lock();
        network.faults.cut_host(host, sends, receives);
        network.note(now(), (host, host), "isolated", 0);
    }

    /// Ends the cut of a path: what was held back is sent again.
    pub fn mend(&self, from: IpAddr, to: IpAddr) {
        let now = now();
        let mut network = self.shared.lock();
        network.faults.mend((from, to));
        network.note(now, (from, to), "mended", 0);
        network.release(now);
    }

    /// Ends the isolation of a host.
    pub fn rejoin(&self, host: IpAddr) {
        let now = now();
        let mut network = self.shared.lock();
        network.faults.mend_host(host);
        network.note(now, (host, host), "rejoined", 0);
        network.release(now);
    }

    /// Ends every cut, and lets every path be as usual.
    pub fn mend_all(&self) {
        let now = now();
        let mut network = self.shared.lock();
        network.faults.mend_all();
        network.release(now);
    }

    // What happens to connections.

    /// Resets every connection between two hosts, at both ends at once. Gives how many there were.
    pub fn reset(&self, one: IpAddr, other: IpAddr) -> usize {
        let mut network = self.shared.lock();
        let count = network.reset(one, other);
        network.note(now(), (one, other), "reset", count);
        count
    }

    /// Lets every connection between two hosts fall silent for ever; new ones come about. Gives how many
    /// there were.
    pub fn half_open(&self, one: IpAddr, other: IpAddr) -> usize {
        let now = now();
        let mut network = self.shared.lock();
        let count = network.half_open(one, other, now);
        network.note(now, (one, other), "half-open", count);
        count
    }

    /// The processes of a host are killed, and the host closes their connections. Call it right before
    /// madsim's `kill`. Gives how many ends there were.
    pub fn kill(&self, host: IpAddr) -> usize {
        let now = now();
        let mut network = self.shared.lock();
        let count = network.kill(host, now);
        network.note(now, (host, host), "closed by a kill", count);
        count
    }

    /// A host loses power. Call it right before madsim's `kill`. Gives how many ends fell silent. The host
    /// is back with the first socket that its node makes, or by [`Connections::power_on`].
    pub fn power_cut(&self, host: IpAddr) -> usize {
        let now = now();
        let mut network = self.shared.lock();
        let count = network.power_cut(host, now);
        network.note(now, (host, host), "silenced by a power cut", count);
        count
    }

    /// A host has power again, and nothing on it listens yet.
    pub fn power_on(&self, host: IpAddr) {
        self.shared.lock().power_on(host, now());
    }

    // What can be seen.

    /// What happened so far.
    pub fn statistics(&self) -> Statistics {
        self.shared.lock().statistics
    }

    /// A number that two runs share only when the same bytes left the same hosts at the same times.
    pub fn digest(&self) -> u64 {
        self.shared.lock().digest()
    }

    /// Connections that exist, half-dead ones included.
    pub fn count(&self) -> usize {
        self.shared.lock().count()
    }
}

fn now() -> Time {
    timer::now().unwrap_or_default()
}
