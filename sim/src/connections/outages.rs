//! What is done to connections and hosts: resets, silence, kills, power cuts, and the end of cuts.

use std::net::{IpAddr, SocketAddr};

use rand::Rng;

use super::link::LinkId;
use super::network::{Listening, Network};
use super::timer::{now, wake, wake_reader};
use crate::history::Time;

/// The first retransmission of bytes that were not acknowledged comes after this time (Linux).
const RETRANSMIT: Time = 200_000_000;

/// Each further one takes twice as long, up to this. Linux goes on to two minutes; runs are shorter.
const RETRANSMIT_MOST: Time = 10_000_000_000;

impl Network {
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
