//! The network of a world, by the same words for both kinds of run: the bus of lite runs, the simulated TCP
//! of full ones.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use detcd::client::Options;
use detcd::rt::{self, JoinHandle};
use madsim::runtime::NodeHandle;

use super::{DirectChannel, World};
use crate::bus::{Kind, Network, Path};
use crate::connections::{Conditions, Connections, Connects, Pace};
use crate::full::{self, client_ip, member_ip};
use crate::history::MemberNumber;
use crate::nemesis::ConnectionFault;
use crate::random::stream;
use crate::workload::Channel;

/// Clients of a full run probe a connection that is silent for this long.
pub const KEEP_ALIVE: Duration = Duration::from_millis(600);

/// The sockets of a full run.
pub(super) struct Wire {
    pub connections: Connections,
    /// The hosts of clients, by client.
    clients: Vec<(u32, NodeHandle)>,
    /// Their ways to members, by client and member.
    channels: Vec<((u32, MemberNumber), detcd::client::Channel)>,
}

impl Wire {
    /// The network of a seed, faults included that last as long as the run's first part.
    pub fn new(world: &World) -> Self {
        let seed = world.setup().seed;
        let connections = Connections::new(seed);
        connections.trace_to(world.trace().clone());
        connections.set_usual(Conditions::draw(&mut stream(seed, "conditions")));
        Self { connections, clients: Vec::new(), channels: Vec::new() }
    }

    /// The host of a client, made when it is first asked for.
    fn client(&mut self, client: u32) -> NodeHandle {
        if let Some((_, node)) = self.clients.iter().find(|(number, _)| *number == client) {
            return node.clone();
        }
        let node = full::client(&self.connections, client);
        self.clients.push((client, node.clone()));
        node
    }

    fn channel(&mut self, client: u32, member: MemberNumber) -> detcd::client::Channel {
        let wanted = (client, member);
        if let Some((_, channel)) = self.channels.iter().find(|(whose, _)| *whose == wanted) {
            return channel.clone();
        }
        let options = Options {
            connect_timeout: Duration::from_secs(2),
            keep_alive_interval: Some(KEEP_ALIVE),
            keep_alive_timeout: KEEP_ALIVE,
        };
        let channel = full::channel(&[member], options);
        self.channels.push((wanted, channel.clone()));
        channel
    }
}

impl World {
    /// Runs a task of a client, on its own host if it has one.
    pub fn spawn_client<F>(&self, client: u32, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &mut *self.wire() {
            Some(wire) => wire.client(client).spawn(task),
            None => rt::spawn(task),
        }
    }

    /// A client's way to a member. Only to be used in a task of the client.
    pub fn channel(&self, client: u32, member: MemberNumber) -> Channel {
        match &mut *self.wire() {
            Some(wire) => Channel::Wire(wire.channel(client, member)),
            None => Channel::Direct(DirectChannel::new(self.clone(), member)),
        }
    }

    /// Lets nothing pass these paths between members, or takes that back: a path that several faults have cut
    /// is open when the last of them has ended.
    pub fn block(&self, paths: impl IntoIterator<Item = Path>, blocked: bool) {
        for path in paths {
            let mut cuts = self.inner.cuts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = cuts.entry(path).or_default();
            let was_cut = *count > 0;
            *count = if blocked { *count + 1 } else { count.saturating_sub(1) };
            let is_cut = *count > 0;
            drop(cuts);
            if was_cut != is_cut {
                self.set_cut(path, is_cut);
            }
        }
    }

    /// Opens every path between members, whatever has cut it.
    pub fn reunite(&self) {
        let cuts = std::mem::take(&mut *self.inner.cuts.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, _) in cuts.into_iter().filter(|(_, count)| *count > 0) {
            self.set_cut(path, false);
        }
    }

    fn set_cut(&self, path: Path, is_cut: bool) {
        let (from, to) = (member_ip(path.0), member_ip(path.1));
        match &*self.wire() {
            None => self.bus().block([path], is_cut),
            Some(wire) if is_cut => {
                wire.connections.cut(from, to);
            }
            Some(wire) => {
                wire.connections.mend(from, to);
            }
        }
    }

    /// Lets messages of these kinds not pass a path. TCP knows no messages: there, connections along the
    /// path fall silent instead, and new ones must come about.
    pub fn mute(&self, path: Path, kinds: Vec<Kind>) {
        match &*self.wire() {
            None => self.bus().mute(path, kinds),
            Some(wire) if !kinds.is_empty() => {
                wire.connections.half_open(member_ip(path.0), member_ip(path.1));
            }
            Some(_) => {}
        }
    }

    /// Ends every fault of the network.
    pub fn calm(&self) {
        self.reunite();
        match &*self.wire() {
            None => {
                self.bus().heal();
                self.bus().set_network(Network::CALM);
            }
            Some(wire) => {
                wire.connections.set_usual(Conditions::default());
                wire.connections.mend_all();
            }
        }
    }

    /// Lets something be wrong with the connections of a member, those with clients included; a bus has
    /// none. What lasts is ended by [`World::mend_connections`].
    pub fn strike_connections(&self, member: MemberNumber, fault: ConnectionFault) {
        let Some(wire) = &*self.wire() else { return };
        let (own, network) = (member_ip(member), &wire.connections);
        for other in self.hosts(wire, member) {
            match fault {
                ConnectionFault::Reset => {
                    network.reset(own, other);
                }
                ConnectionFault::HalfOpen => {
                    network.half_open(own, other);
                }
                ConnectionFault::SlowReader => {
                    let pace = Pace { bytes: 512, every: Duration::from_millis(20) };
                    network.slow_reader(other, own, pace);
                }
                ConnectionFault::Swallow => network.set_connects(other, own, Connects::Swallowed),
                ConnectionFault::Refuse => network.set_connects(other, own, Connects::Refused),
                ConnectionFault::Pieces => network.set_pieces(own, other, Some(7), Some(5)),
            }
        }
    }

    /// Lets the paths from and to a member be as usual.
    pub fn mend_connections(&self, member: MemberNumber) {
        let Some(wire) = &*self.wire() else { return };
        for other in self.hosts(wire, member) {
            wire.connections.restore(member_ip(member), other);
            wire.connections.restore(other, member_ip(member));
        }
    }

    /// Hides a member from clients, or shows it again.
    pub fn hide(&self, member: MemberNumber, hidden: bool) {
        self.life(member).hidden = hidden;
        let Some(wire) = &*self.wire() else { return };
        for (client, _) in &wire.clients {
            let (one, other) = (client_ip(*client), member_ip(member));
            if hidden {
                wire.connections.part(one, other);
            } else {
                wire.connections.mend(one, other);
                wire.connections.mend(other, one);
            }
        }
    }

    /// All hosts but a member's own.
    fn hosts(&self, wire: &Wire, member: MemberNumber) -> Vec<IpAddr> {
        let members = self.members().filter(|other| *other != member).map(member_ip);
        members.chain(wire.clients.iter().map(|(client, _)| client_ip(*client))).collect()
    }
}
