//! The state of the simulated TCP: hosts, ports, connections, and what happens to them.
//!
//! Everything is in one value behind one lock, and every change of it is made here: by the calls of the
//! sockets, and by the faults. It never waits and starts no task. Who waits left a waker, which is woken at
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
use super::pipe::{Arrival, Pipe, Taken};
use crate::history::{MemberNumber, Time};
use crate::random::{self, Random};
use crate::trace::{Trace, What};

/// The first retransmission of bytes that were not acknowledged comes after this time (Linux).
const RETRANSMIT: Time = 200_000_000;

/// Each further one takes twice as long, up to this. Linux goes on to two minutes; runs are shorter.
const RETRANSMIT_MOST: Time = 10_000_000_000;

/// Timers are no finer than this.
const LEAST_LATENCY: Time = 1_000_000;

/// The first port that a host gives to who connects or does not care (Linux).
const FIRST_EPHEMERAL: u16 = 32_768;

/// A connection by its number.
pub(super) type LinkId = u64;

pub(super) struct Network {
    pub(super) faults: Faults,
    pub(super) statistics: Statistics,
    pub(super) trace: Option<Trace>,
    draws: Draws,
    hosts: BTreeMap<IpAddr, Host>,
    nodes: BTreeMap<NodeId, IpAddr>,
    ports: BTreeMap<SocketAddr, Listening>,
    links: BTreeMap<LinkId, Link>,
    next: u64,
    /// Of everything that was written, where and when.
    digest: DefaultHasher,
}

/// Randomness, a stream for each path, so that one connection more leaves the others' draws alone.
struct Draws {
    seed: u64,
    streams: BTreeMap<Path, Random>,
}

struct Host {
    member: MemberNumber,
    has_power: bool,
    next_port: u16,
}

struct Listening {
    /// Tells it from an older one at the same address.
    number: u64,
    /// Connections that nobody accepted yet, and when each can be.
    queue: VecDeque<(Time, LinkId)>,
    acceptor: Option<Waker>,
}

struct Link {
    ends: [End; 2],
    /// By the end that writes.
    pipes: [Pipe; 2],
}

struct End {
    address: SocketAddr,
    /// A socket or the queue of a port refers to it.
    is_held: bool,
    /// Its process has it open.
    is_open: bool,
    /// Its host lost power while it was open, and is still without.
    is_dark: bool,
    /// It was told of a reset.
    is_reset: bool,
}

impl Draws {
    fn on(&mut self, path @ (from, to): Path) -> &mut Random {
        self.streams
            .entry(path)
            .or_insert_with(|| random::stream(self.seed, &format!("connections {from} {to}")))
    }

    /// One to this many.
    fn piece(&mut self, path: Path, most: usize) -> usize {
        self.on(path).random_range(1..=most.max(1))
    }
}

impl Link {
    /// The path of what end `end` writes.
    fn path(&self, end: usize) -> Path {
        (self.ends[end].address.ip(), self.ends[1 - end].address.ip())
    }

    fn is_between(&self, one: IpAddr, other: IpAddr) -> bool {
        let (from, to) = self.path(0);
        (from, to) == (one, other) || (from, to) == (other, one)
    }

    /// Tells an end that the connection was reset. Gives who waits there.
    fn reset_end(&mut self, end: usize) -> [Option<Waker>; 2] {
        self.ends[end].is_reset = true;
        self.pipes[1 - end].clear();
        [self.pipes[1 - end].reader.take(), self.pipes[end].writer.take()]
    }
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            statistics: Statistics::default(),
            trace: None,
            draws: Draws { seed, streams: BTreeMap::new() },
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
    fn drop_queue(&mut self, port: Listening, now: Time) {
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
        let end = |address| End { address, is_held: true, is_open: true, is_dark: false, is_reset: false };
        self.links.insert(number, Link { ends: [end(near), end(to)], pipes: Default::default() });
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
                limit = limit.min(pace.bytes);
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
            if let Some(at) = link.pipes[1 - end].next_event() {
                // It may be a reset, which a writer hears of as well.
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
    fn release_end(&mut self, id: LinkId, end: usize) {
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
    fn hang_up(&mut self, id: LinkId, end: usize, now: Time) {
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
    fn send_reset(&mut self, id: LinkId, end: usize, at: Time) {
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
    fn latency(&mut self, path @ (from, to): Path) -> Time {
        if from == to {
            return 0;
        }
        let range = &self.faults.on(path).latency;
        let least = nanoseconds(*range.start()).max(LEAST_LATENCY);
        let most = nanoseconds(*range.end()).max(least);
        self.draws.on(path).random_range(least..=most)
    }

    // Faults.

    /// Resets every connection between two hosts, at both ends, at once.
    pub(super) fn reset(&mut self, one: IpAddr, other: IpAddr) -> usize {
        let mut count = 0;
        for link in self.links.values_mut().filter(|link| link.is_between(one, other)) {
            for end in 0..2 {
                if link.ends[end].is_open && !link.ends[end].is_dark {
                    link.reset_end(end).into_iter().for_each(wake);
                }
            }
            count += 1;
        }
        self.statistics.resets += count as u64;
        count
    }

    /// Makes every connection between two hosts one over which nothing comes any more.
    pub(super) fn half_open(&mut self, one: IpAddr, other: IpAddr, now: Time) -> usize {
        let mut count = 0;
        for link in self.links.values_mut().filter(|link| link.is_between(one, other)) {
            for pipe in &mut link.pipes {
                pipe.void = true;
                pipe.hold_all(now);
            }
            count += 1;
        }
        self.statistics.half_opened += count as u64;
        count
    }

    /// The processes of a host are killed: its system closes what they had open.
    pub(super) fn kill(&mut self, host: IpAddr, now: Time) -> usize {
        for port in self.take_ports(host) {
            self.drop_queue(port, now);
        }
        let ends = self.open_ends(host);
        for &(id, end) in &ends {
            self.hang_up(id, end, now);
        }
        ends.len()
    }

    /// A host loses power: nothing leaves it any more, and nobody is told.
    pub(super) fn power_cut(&mut self, host: IpAddr, now: Time) -> usize {
        if let Some(host) = self.hosts.get_mut(&host) {
            host.has_power = false;
        }
        for port in self.take_ports(host) {
            for (_, link) in port.queue {
                self.release_end(link, 1);
            }
        }
        let ends = self.open_ends(host);
        for &(id, end) in &ends {
            let Some(link) = self.links.get_mut(&id) else {
                continue;
            };
            let path = link.path(end);
            link.ends[end].is_open = false;
            link.ends[end].is_dark = true;
            let on_the_way = link.pipes[end].on_the_way(now);
            let survivors = self.draws.on(path).random_range(0..=on_the_way);
            link.pipes[end].lose_tail(now, survivors);
            link.pipes[1 - end].hold_all(now);
        }
        self.statistics.half_opened += ends.len() as u64;
        ends.len()
    }

    /// A host has power again, if it had none. It knows no connection of the time before.
    pub(super) fn power_on(&mut self, host: IpAddr, now: Time) {
        match self.hosts.get_mut(&host) {
            Some(host) if !host.has_power => host.has_power = true,
            _ => return,
        }
        for link in self.links.values_mut() {
            for end in 0..2 {
                if link.ends[end].address.ip() == host && link.ends[end].is_dark {
                    link.ends[end].is_dark = false;
                    link.pipes[1 - end].deaf = true;
                }
            }
        }
        self.release(now);
    }

    /// Sends again what was held back, wherever nothing holds it back any more.
    pub(super) fn release(&mut self, now: Time) {
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for (id, end) in ids.into_iter().flat_map(|id| [(id, 0), (id, 1)]) {
            let Some(link) = self.links.get_mut(&id) else {
                continue;
            };
            let (path, back) = (link.path(end), link.path(1 - end));
            let is_lost = link.pipes[end].void || link.ends[1 - end].is_dark;
            if !self.faults.is_cut(back) && !is_lost {
                link.pipes[end].acknowledge();
                wake(link.pipes[end].writer.take());
            }
            if is_lost || self.faults.is_cut(path) {
                continue;
            }
            if let Some(since) = link.pipes[end].held_since() {
                self.send_again(id, end, retransmission(since, now));
            }
        }
    }

    fn send_again(&mut self, id: LinkId, end: usize, at: Time) {
        let Some(path) = self.links.get(&id).map(|link| link.path(end)) else {
            return;
        };
        let arrives = at + self.latency(path);
        let now = now().unwrap_or(at);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let pipe = &mut link.pipes[end];
        if pipe.deaf {
            pipe.clear();
            return self.send_reset(id, 1 - end, arrives);
        }
        pipe.release(arrives);
        wake_reader(pipe, now);
    }

    fn take_ports(&mut self, host: IpAddr) -> Vec<Listening> {
        let addresses: Vec<SocketAddr> =
            self.ports.keys().copied().filter(|address| address.ip() == host).collect();
        addresses.iter().filter_map(|address| self.ports.remove(address)).collect()
    }

    /// The ends that processes of a host have open.
    fn open_ends(&self, host: IpAddr) -> Vec<(LinkId, usize)> {
        self.links
            .iter()
            .flat_map(|(&id, link)| [(id, 0, &link.ends[0]), (id, 1, &link.ends[1])])
            .filter(|(_, _, end)| end.is_open && end.address.ip() == host)
            .map(|(id, end, _)| (id, end))
            .collect()
    }

    pub(super) fn count(&self) -> usize {
        self.links.len()
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }
}

/// When bytes that were first sent at `since` are sent again, after `now`.
fn retransmission(since: Time, now: Time) -> Time {
    let (mut at, mut pause) = (since, RETRANSMIT);
    while at <= now {
        at += pause;
        pause = (2 * pause).min(RETRANSMIT_MOST);
    }
    at
}

/// Simulated time; none when there is no world any more and the last sockets are dropped.
pub(super) fn now() -> Option<Time> {
    madsim::time::TimeHandle::try_current().map(|time| nanoseconds(time.elapsed()))
}

fn nanoseconds(duration: Duration) -> Time {
    u64::try_from(duration.as_nanos()).unwrap_or(Time::MAX)
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Wakes at a time, without a task: a sleep that was polled once leaves a timer behind.
fn wake_at(waker: &Waker, at: Time, now: Time) {
    if at <= now {
        waker.wake_by_ref();
        return;
    }
    let mut sleep = std::pin::pin!(madsim::time::sleep(Duration::from_nanos(at - now)));
    let _ = sleep.as_mut().poll(&mut Context::from_waker(waker));
}

/// Lets the reader of a pipe be woken, now or when there is something to be seen.
fn wait_for(pipe: &mut Pipe, next: Option<Time>, now: Time, context: &Context<'_>) {
    if !pipe.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
        pipe.reader = Some(context.waker().clone());
        pipe.armed = 0;
    }
    arm(pipe, next, now);
}

/// Wakes the reader of a pipe, if there is one, when there is something to be seen.
fn wake_reader(pipe: &mut Pipe, now: Time) {
    arm(pipe, pipe.next_event().map(|at| at.max(pipe.paced_until)), now);
}

/// Sets a timer, unless an earlier one is set: the reader looks again then.
fn arm(pipe: &mut Pipe, next: Option<Time>, now: Time) {
    let (Some(reader), Some(next)) = (&pipe.reader, next) else {
        return;
    };
    if pipe.armed > now && pipe.armed <= next {
        return;
    }
    wake_at(reader, next, now);
    pipe.armed = next;
}
