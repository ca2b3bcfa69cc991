//! The state of the simulated TCP: hosts, ports, connections, and what happens to them.
//!
//! Everything is in one value behind one lock. It is changed by the calls of the sockets, here, and by the
//! faults, in [`outages`](super::outages). It never waits and starts no task. Who waits left a waker, which is woken at
//! once, or by a timer when something is on its way to it.
//!
//! ```text
//!        end 0 (who connected)                          end 1 (who accepted)
//!          write ──────────────> pipes[0] ──────────────> read
//!          read  <────────────── pipes[1] <────────────── write
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use detcd::rt::ReadBuf;
use madsim::task::NodeId;
use rand::Rng;

use super::Statistics;
use super::faults::{Connects, Faults, Path};
use super::link::{Draws, Link, LinkId};
use super::pipe::{Arrival, Taken};
use super::timer::{nanoseconds, now, wait_for, wake, wake_at, wake_reader};
use crate::history::{MemberNumber, Time};
use crate::trace::{Trace, What};

/// Timers are no finer than this.
const LEAST_LATENCY: Time = 1_000_000;

/// The first port that a host gives to who connects or does not care (Linux).
const FIRST_EPHEMERAL: u16 = 32_768;

pub(super) struct Network {
    pub(super) faults: Faults,
    pub(super) statistics: Statistics,
    pub(super) trace: Option<Trace>,
    pub(super) draws: Draws,
    pub(super) hosts: BTreeMap<IpAddr, Host>,
    nodes: BTreeMap<NodeId, IpAddr>,
    pub(super) ports: BTreeMap<SocketAddr, Listening>,
    pub(super) links: BTreeMap<LinkId, Link>,
    next: u64,
    /// Of everything that was written, where and when.
    digest: DefaultHasher,
}

pub(super) struct Host {
    member: MemberNumber,
    pub(super) has_power: bool,
    next_port: u16,
}

pub(super) struct Listening {
    /// Tells it from an older one at the same address.
    number: u64,
    /// Connections that nobody accepted yet, and when each can be.
    pub(super) queue: VecDeque<(Time, LinkId)>,
    acceptor: Option<Waker>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            statistics: Statistics::default(),
            trace: None,
            draws: Draws::new(seed),
            hosts: BTreeMap::new(),
            nodes: BTreeMap::new(),
            ports: BTreeMap::new(),
            links: BTreeMap::new(),
            next: 0,
            digest: DefaultHasher::new(),
        }
    }

    pub(super) fn add_host(&mut self, node: NodeId, ip: IpAddr, member: MemberNumber) {
        self.nodes.insert(node, ip);
        self.hosts.entry(ip).or_insert(Host { member, has_power: true, next_port: FIRST_EPHEMERAL });
    }

    /// The host that calls. Whoever does has power.
    pub(super) fn caller(&mut self, node: NodeId, now: Time) -> IpAddr {
        let Some(&ip) = self.nodes.get(&node) else {
            panic!("node {node} has no address: see Connections::add_host");
        };
        self.power_on(ip, now);
        ip
    }

    pub(super) fn note(&self, now: Time, (from, to): Path, change: &'static str, connections: usize) {
        if let Some(trace) = &self.trace {
            let member = |ip| self.hosts.get(&ip).map_or(0, |host| host.member);
            let what = What::Connection { to: member(to), change, connections };
            trace.note(now, member(from), what);
        }
    }

    // Ports.

    pub(super) fn bind(&mut self, ip: IpAddr, mut address: SocketAddr) -> io::Result<(u64, SocketAddr)> {
        if address.ip().is_unspecified() || address.ip().is_loopback() {
            address.set_ip(ip);
        }
        if address.ip() != ip {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if address.port() == 0 {
            address.set_port(self.ephemeral(ip));
        }
        if self.ports.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let number = self.number();
        self.ports.insert(address, Listening { number, queue: VecDeque::new(), acceptor: None });
        Ok((number, address))
    }

    /// Gives the connection and the address of who connected.
    pub(super) fn accept(
        &mut self,
        number: u64,
        address: SocketAddr,
        now: Time,
        waker: &Waker,
    ) -> Poll<(LinkId, SocketAddr)> {
        let Some(port) = self.ports.get_mut(&address).filter(|port| port.number == number) else {
            // Its process is no more.
            return Poll::Pending;
        };
        match port.queue.front() {
            Some(&(from, link)) if from <= now => {
                port.queue.pop_front();
                let peer = self.links.get(&link).map_or(address, |link| link.ends[0].address);
                Poll::Ready((link, peer))
            }
            waiting => {
                if let Some(&(from, _)) = waiting {
                    wake_at(waker, from, now);
                }
                port.acceptor = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn close_port(&mut self, number: u64, address: SocketAddr, now: Time) {
        if self.ports.get(&address).is_some_and(|port| port.number == number)
            && let Some(port) = self.ports.remove(&address)
        {
            self.drop_queue(port, now);
        }
    }

    /// Resets what was never accepted.
    pub(super) fn drop_queue(&mut self, port: Listening, now: Time) {
        for (_, link) in port.queue {
            self.send_reset(link, 1, now);
            if let Some(link) = self.links.get_mut(&link) {
                link.ends[1].is_open = false;
                link.pipes[0].deaf = true;
            }
            self.release_end(link, 1);
        }
    }

    fn ephemeral(&mut self, ip: IpAddr) -> u16 {
        let Some(host) = self.hosts.get_mut(&ip) else {
            return FIRST_EPHEMERAL;
        };
        let port = host.next_port;
        host.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL);
        port
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    // Connecting.

    /// Asks a host for a connection. Gives how long its answer takes; none when there will be none.
    pub(super) fn knock(&mut self, from: IpAddr, to: IpAddr, now: Time) -> Option<Duration> {
        if !self.answers(from, to) {
            self.statistics.unanswered += 1;
            self.note(now, (from, to), "no answer to a connect", 1);
            return None;
        }
        Some(Duration::from_nanos(self.latency((from, to)) + self.latency((to, from))))
    }

    fn answers(&self, from: IpAddr, to: IpAddr) -> bool {
        self.faults.on((from, to)).connects != Connects::Swallowed
            && self.hosts.get(&to).is_some_and(|host| host.has_power)
            && !self.faults.is_cut((from, to))
            && !self.faults.is_cut((to, from))
    }

    /// The answer is here: the connection and the address of its near end, or a refusal; none when it got
    /// lost on its way.
    pub(super) fn establish(
        &mut self,
        from: IpAddr,
        to: SocketAddr,
        now: Time,
    ) -> io::Result<Option<(LinkId, SocketAddr)>> {
        let path = (from, to.ip());
        if !self.answers(from, to.ip()) {
            return Ok(None);
        }
        if self.faults.on(path).connects == Connects::Refused || !self.ports.contains_key(&to) {
            self.statistics.refused += 1;
            self.note(now, path, "connection refused", 1);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let near = SocketAddr::new(from, self.ephemeral(from));
        let accepted = now + self.latency(path);
        let number = self.number();
        self.links.insert(number, Link::new(near, to));
        if let Some(port) = self.ports.get_mut(&to) {
            port.queue.push_back((accepted, number));
            if let Some(acceptor) = &port.acceptor {
                wake_at(acceptor, accepted, now);
            }
        }
        self.statistics.connected += 1;
        Ok(Some((number, near)))
    }

    // Sockets.

    pub(super) fn read(
        &mut self,
        id: LinkId,
        end: usize,
        now: Time,
        context: &Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.ends[end].is_open) else {
            // Its process is no more.
            return Poll::Pending;
        };
        if link.ends[end].is_reset {
            return Poll::Ready(Err(reset()));
        }
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let (path, back) = (link.path(1 - end), link.path(end));
        let conditions = self.faults.on(path);
        let pipe = &mut link.pipes[1 - end];
        let mut limit = usize::MAX;
        if !pipe.is_reset(now) {
            if now < pipe.paced_until {
                wait_for(pipe, Some(pipe.paced_until), now, context);
                return Poll::Pending;
            }
            if let Some(most) = conditions.read_piece.filter(|_| pipe.has_unread(now)) {
                limit = self.draws.piece(path, most);
            }
            if let Some(pace) = conditions.pace {
                limit = limit.min(pace.bytes.max(1));
            }
        }
        match pipe.take(now, limit, into) {
            Taken::Bytes(size) => {
                self.statistics.read_bytes += size as u64;
                if let Some(pace) = conditions.pace {
                    pipe.paced_until = now + nanoseconds(pace.every);
                }
                if self.faults.is_cut(back) {
                    pipe.read_unheard(size);
                }
                wake(pipe.writer.take());
                Poll::Ready(Ok(()))
            }
            Taken::End => Poll::Ready(Ok(())),
            Taken::Reset => {
                link.reset_end(end).into_iter().for_each(wake);
                Poll::Ready(Err(reset()))
            }
            Taken::Nothing(next) => {
                wait_for(pipe, next, now, context);
                Poll::Pending
            }
        }
    }

    pub(super) fn write(
        &mut self,
        id: LinkId,
        end: usize,
        now: Time,
        context: &Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.ends[end].is_open) else {
            // As above.
            return Poll::Pending;
        };
        if link.pipes[1 - end].is_reset(now) && !link.ends[end].is_reset {
            link.reset_end(end).into_iter().for_each(wake);
        }
        if link.ends[end].is_reset {
            return Poll::Ready(Err(reset()));
        }
        if link.pipes[end].is_ended() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let path = link.path(end);
        let conditions = self.faults.on(path);
        let pipe = &mut link.pipes[end];
        let mut size = bytes.len().min(pipe.room(conditions.capacity.max(1)));
        if size == 0 && !bytes.is_empty() {
            self.statistics.full += 1;
            pipe.writer = Some(context.waker().clone());
            if let Some(at) = link.pipes[1 - end].resets_at() {
                // One that has arrived was seen above, so this is a time to come.
                wake_at(context.waker(), at, now);
            }
            return Poll::Pending;
        }
        if let Some(most) = conditions.write_piece {
            size = size.min(self.draws.piece(path, most));
        }
        self.statistics.written_bytes += size as u64;
        self.transmit(id, end, Some(Bytes::copy_from_slice(&bytes[..size])), now);
        Poll::Ready(Ok(size))
    }

    /// The end will write no more.
    pub(super) fn shut_down(&mut self, id: LinkId, end: usize, now: Time) {
        if self.links.get(&id).is_some_and(|link| link.ends[end].is_open && !link.ends[end].is_reset) {
            self.transmit(id, end, None, now);
        }
    }

    /// Its socket was dropped.
    pub(super) fn close(&mut self, id: LinkId, end: usize, now: Time) {
        self.hang_up(id, end, now);
        self.release_end(id, end);
    }

    /// Nobody refers to this end any more.
    pub(super) fn release_end(&mut self, id: LinkId, end: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            link.ends[end].is_held = false;
            if !link.ends[1 - end].is_held {
                self.links.remove(&id);
            }
        }
    }

    /// Puts bytes, or the end, on the way from an end.
    fn transmit(&mut self, id: LinkId, end: usize, bytes: Option<Bytes>, now: Time) {
        let Some(path) = self.links.get(&id).map(|link| link.path(end)) else {
            return;
        };
        let is_cut = self.faults.is_cut(path);
        let latency = if is_cut { 0 } else { self.latency(path) };
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let is_lost = link.pipes[end].void || link.ends[1 - end].is_dark;
        let pipe = &mut link.pipes[end];
        let arrives = if is_cut || is_lost { Arrival::Held(now) } else { Arrival::At(now + latency) };
        let arrives = pipe.after_the_last(arrives);
        (now, path, &bytes).hash(&mut self.digest);
        self.statistics.segments += 1;
        self.statistics.held += u64::from(matches!(arrives, Arrival::Held(_)));
        match (arrives, bytes) {
            // Nobody is there: the answer is a reset.
            (Arrival::At(at), Some(_)) if pipe.deaf => return self.send_reset(id, 1 - end, at),
            (arrives, Some(bytes)) => pipe.push(bytes, arrives),
            (arrives, None) => pipe.end(arrives),
        }
        wake_reader(pipe, now);
    }

    /// The process of an end has closed it, or is no more; its host goes on.
    ///
    /// As on Linux: who closes with unread bytes resets, and so does a closed socket that gets more.
    pub(super) fn hang_up(&mut self, id: LinkId, end: usize, now: Time) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut link.ends[end].is_open, false) || link.ends[end].is_reset {
            return;
        }
        let incoming = &mut link.pipes[1 - end];
        let (has_unread, next) = (incoming.has_unread(now), incoming.first_arrival());
        incoming.deaf = true;
        if incoming.held_since().is_none() {
            incoming.clear();
        }
        wake(incoming.writer.take());
        if has_unread {
            return self.send_reset(id, end, now);
        }
        self.transmit(id, end, None, now);
        if let Some(at) = next {
            self.send_reset(id, end, at);
        }
    }

    /// An end says at a time that there is no such connection. It says so once, and is not heard over a
    /// cut.
    pub(super) fn send_reset(&mut self, id: LinkId, end: usize, at: Time) {
        let Some(path) = self.links.get(&id).map(|link| link.path(end)) else {
            return;
        };
        if self.faults.is_cut(path) {
            return;
        }
        let arrives = at + self.latency(path);
        let now = now().unwrap_or(at);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.pipes[end].void {
            return;
        }
        self.statistics.resets += 1;
        link.pipes[end].reset_at(arrives);
        wake_reader(&mut link.pipes[end], now);
        if let Some(writer) = &link.pipes[1 - end].writer {
            wake_at(writer, arrives, now);
        }
    }

    /// How long a segment takes on this path, in nanoseconds.
    pub(super) fn latency(&mut self, path @ (from, to): Path) -> Time {
        if from == to {
            return 0;
        }
        let range = &self.faults.on(path).latency;
        let least = nanoseconds(*range.start()).max(LEAST_LATENCY);
        let most = nanoseconds(*range.end()).max(least);
        self.draws.on(path).random_range(least..=most)
    }

    pub(super) fn count(&self) -> usize {
        self.links.len()
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
