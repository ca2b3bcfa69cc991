//! Whole servers: members with their ports on simulated TCP, and clients with real stubs.
//!
//! A lite run leaves sockets out. Here everything is as in production, from the client's channel through
//! HTTP/2 and the peer protocol to the disk; only [`Connections`] stand in for the kernel. What the member
//! gets from its world (disk, clock, seed, onlooker) is the caller's to give.
//!
//! ```text
//!   client node 10.1.x.y                  member node 10.0.0.n
//!   stubs ──> Channel ──TCP, HTTP/2──> :2379 ──┐
//!                                              node::run ──> disk, clock, observer
//!   other members ──TCP, frames──────> :2380 ──┘
//! ```
//!
//! Invariants:
//! - a member's processes run one after the other, never two at a time;
//! - nothing here draws: the same calls at the same times give the same run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use detcd::client::{Channel, Endpoint, Options};
use detcd::net;
use detcd::rt::{self, ShutdownTrigger};
use detcd::server::node::{self, Environment, NodeConfig};
use detcd::server::reach::Reach;
use detcd::types::LocalFault;
use madsim::runtime::{Handle, NodeHandle};
use madsim::task::{JoinHandle, NodeId};

use crate::connections::Connections;
use crate::history::MemberNumber;

pub use detcd::server::event_loop::Ended;

/// Where members serve clients.
pub const CLIENT_PORT: u16 = 2379;

/// Where members serve each other.
pub const PEER_PORT: u16 = 2380;

/// Bytes of a segment of the log: runs are short, and disks in memory.
const WAL_SEGMENT_BYTES: u64 = 256 * 1024;

/// The address of a member.
pub fn member_ip(member: MemberNumber) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, member).into()
}

/// The address of a client.
pub fn client_ip(client: u32) -> IpAddr {
    let [_, _, high, low] = client.to_be_bytes();
    Ipv4Addr::new(10, 1, high, low).into()
}

/// How a member of a new cluster of `members` is set up. Everything but names and ports is as usual.
pub fn config(member: MemberNumber, members: MemberNumber) -> NodeConfig {
    let url = |member, port| format!("http://{}", SocketAddr::new(member_ip(member), port));
    let cluster: Vec<String> =
        (1..=members).map(|number| format!("m{number}={}", url(number, PEER_PORT))).collect();
    NodeConfig {
        name: format!("m{member}"),
        data_dir: "/data".into(),
        initial_cluster: cluster.join(","),
        advertise_peer_urls: vec![url(member, PEER_PORT)],
        advertise_client_urls: vec![url(member, CLIENT_PORT)],
        listen_client: vec![SocketAddr::new(member_ip(member), CLIENT_PORT)],
        listen_peer: vec![SocketAddr::new(member_ip(member), PEER_PORT)],
        wal_segment_bytes: WAL_SEGMENT_BYTES,
        // Clients here probe often, and their pings are delayed and caught up with.
        net: net::Options { min_ping_distance: Duration::ZERO, ..net::Options::default() },
        ..NodeConfig::default()
    }
}

/// A channel to these members, which takes them in turn. Its connections are the host's on whose tasks it
/// is used.
pub fn channel(members: &[MemberNumber], options: Options) -> Channel {
    let endpoint = |&member| -> Endpoint {
        let address = SocketAddr::new(member_ip(member), CLIENT_PORT);
        address.to_string().parse().expect("an address is an endpoint")
    };
    Channel::new(members.iter().map(endpoint).collect(), options)
}

/// Makes the host of a client. Spawn its tasks on it.
pub fn client(connections: &Connections, client: u32) -> NodeHandle {
    let ip = client_ip(client);
    let node = Handle::current().create_node().name(format!("c{client}")).ip(ip).build();
    connections.add_host(node.id(), ip, 0);
    node
}

/// The host of a member, and the process on it, if one runs.
pub struct Member {
    number: MemberNumber,
    node: NodeId,
    connections: Connections,
    /// Asks the process to stop. None when it was killed, or never started.
    stop: Option<ShutdownTrigger>,
    /// Whether the node had a process, whose tasks must go before the next one's.
    is_used: bool,
}

impl Member {
    /// A host on which nothing runs.
    pub fn new(connections: &Connections, number: MemberNumber) -> Self {
        let ip = member_ip(number);
        let node = Handle::current().create_node().name(format!("m{number}")).ip(ip).build().id();
        connections.add_host(node, ip, number);
        Self { number, node, connections: connections.clone(), stop: None, is_used: false }
    }

    /// Starts the process, killing an older one that still runs. Its way to the others are its ports,
    /// whatever `environment` says. The handle gives how it ended: an error when it was killed.
    pub fn start(
        &mut self,
        config: NodeConfig,
        environment: Environment,
    ) -> JoinHandle<Result<Ended, LocalFault>> {
        let handle = Handle::current();
        if self.is_used {
            self.kill();
            handle.restart(self.node);
        }
        self.is_used = true;
        let (stop, shutdown) = rt::shutdown_channel();
        self.stop = Some(stop);
        let environment = Environment { reach: Reach::Ports, ..environment };
        let node = handle.get_node(self.node).expect("its node was made with it");
        node.spawn(node::run(config, environment, shutdown))
    }

    /// Asks the process to stop, as SIGTERM does.
    pub fn stop(&mut self) {
        if let Some(stop) = &self.stop {
            stop.trigger();
        }
    }

    /// Kills the process. Its disk is the caller's to tell.
    pub fn kill(&mut self) {
        self.connections.kill(member_ip(self.number));
        self.end();
    }

    /// Takes the power from the host. Its disk is the caller's to tell.
    pub fn power_cut(&mut self) {
        self.connections.power_cut(member_ip(self.number));
        self.end();
    }

    fn end(&mut self) {
        self.stop = None;
        Handle::current().kill(self.node);
    }

    /// Stops the clock of the process, as SIGSTOP does; its host goes on.
    pub fn pause(&self) {
        Handle::current().pause(self.node);
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        Handle::current().resume(self.node);
    }

    /// The madsim node.
    pub fn node(&self) -> NodeId {
        self.node
    }
}
