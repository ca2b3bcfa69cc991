//! What clients do: calls of every kind, each value unique, and watch streams beside them.
//!
//! ```text
//!   Workload (weights, drawn once) --> Generator --Request--> Client --> Channel --> member
//!                                          ^                     |
//!                                          '---- what was learnt-'--> History
//! ```
//!
//! Beside them are clients with sessions, which stand in line for locks and in elections.
//!
//! A client does one call after the other, on a member of its choice, and waits for each as long as its
//! patience lasts. What it learns (revisions, leases) goes into what it asks next, so that reads of the
//! past, compactions and compares hit the interesting places.

mod calls;
mod client;
mod generate;
mod recorder;
mod session;
mod watcher;

use rand::Rng;
use serde::{Deserialize, Serialize};

pub use calls::{Channel, ask, call_in_time};
pub use client::{move_leader, run_client};
pub use generate::{Generator, Learnt, alarm_request};
pub use recorder::{Recorder, revision};
pub use session::{run_observer, run_session};
pub use watcher::{run_full_watcher, run_watcher};

use crate::random::{Draw, Random};
use crate::setup::Profile;

/// What the clients of a run do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Workload {
    /// Clients that call.
    pub clients: u32,
    /// Calls of each.
    pub calls: u32,
    /// Up to how many milliseconds a client thinks between two calls.
    pub pause_ms: u64,
    /// How long a client waits for an answer.
    pub patience_ms: u64,
    /// Keys in use.
    pub keys: u32,
    /// Percentage of calls for which a client changes to another member.
    pub roaming_percent: u32,
    /// Clients with a watch stream, beside one on each member that hears everything.
    pub watchers: u32,
    /// Clients with sessions: locks and elections.
    pub sessions: u32,
    /// Clients that observe elections.
    pub observers: u32,
    /// Locks, and as many elections.
    pub lines: u32,
    /// How often watchers do not read for a while, of a hundred times that they have read.
    pub slow_reader_percent: u32,
    /// Bytes of large values: a few if they are very large, else every fourth.
    pub large_value: usize,
    /// Percentage of leases that live too long to run out in a run.
    pub long_lease_percent: u32,
    /// Whether it is one of the runs with many quick reads on all members, under leaders that are replaced.
    pub reads_everywhere: bool,
    /// Percentage of alarms raised by clients that say that data is corrupt, and stop every write.
    pub corrupt_percent: u32,
    /// How often each kind of request is made, 0 for never.
    pub weights: Weights,
}

/// Relative frequencies of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Weights {
    pub put: u32,
    pub get: u32,
    pub list: u32,
    pub past_read: u32,
    pub delete: u32,
    pub compare_and_swap: u32,
    pub txn: u32,
    pub compact: u32,
    pub lease_grant: u32,
    pub lease_revoke: u32,
    pub keep_alive: u32,
    pub time_to_live: u32,
    pub lease_list: u32,
    pub hash: u32,
    pub status: u32,
    pub bad_request: u32,
    pub alarm: u32,
}

impl Default for Workload {
    /// A few clients that write and read a few keys for some seconds.
    fn default() -> Self {
        Self {
            clients: 4,
            calls: 120,
            pause_ms: 80,
            patience_ms: 3000,
            keys: 6,
            roaming_percent: 30,
            watchers: 1,
            sessions: 0,
            observers: 0,
            lines: 1,
            slow_reader_percent: 2,
            large_value: 200,
            long_lease_percent: 10,
            reads_everywhere: false,
            corrupt_percent: 0,
            weights: Weights {
                put: 20,
                get: 10,
                list: 5,
                delete: 5,
                compare_and_swap: 5,
                ..Weights::default()
            },
        }
    }
}

impl Workload {
    /// Draws a workload of this profile.
    pub fn draw(random: &mut Random, profile: Profile) -> Self {
        let mut weights = Weights::draw(random);
        match profile {
            Profile::Watch => {
                weights.compact = random.random_range(2..=8);
                weights.put = 30;
                weights.delete = 15;
            }
            Profile::Lease => {
                weights.lease_grant = random.random_range(5..=15);
                weights.keep_alive = random.random_range(5..=30);
                weights.time_to_live = 5;
                weights.lease_revoke = random.random_range(0..=4);
            }
            Profile::Lite | Profile::Full | Profile::Storage => {}
        }
        let clients = random.random_range(2..=6);
        let watchers = match profile {
            Profile::Watch => random.random_range(2..=6),
            _ => random.random_range(0..=3),
        };
        let slow_reader_percent = if random.percent(50) { 2 } else { random.random_range(5..=30) };
        let mut workload = Self {
            clients,
            slow_reader_percent,
            calls: random.log_uniform(40, 140) as u32,
            pause_ms: random.log_uniform(4, 250),
            patience_ms: random.log_uniform(300, 6000),
            keys: random.log_uniform(2, 30) as u32,
            roaming_percent: random.random_range(0..=60),
            watchers,
            sessions: 0,
            observers: 0,
            lines: 1,
            // A batch of the log must be larger than a sector to be torn.
            large_value: *random.pick(&[200, 2000, 2000, 20_000]),
            long_lease_percent: 10,
            reads_everywhere: false,
            corrupt_percent: 0,
            weights,
        };
        if random.percent(if profile == Profile::Lease { 30 } else { 15 }) {
            workload.read_everywhere(random);
            if profile == Profile::Lease {
                // A keep-alive is a read as well: its answer tells that the lease is there.
                workload.weights.get = 10;
                workload.weights.keep_alive = 50;
                workload.weights.lease_grant = 10;
                workload.weights.lease_revoke = 10;
            }
        }
        if random.percent(15) {
            workload.weights.alarm = random.random_range(1..=4);
            workload.corrupt_percent = if random.percent(50) { 15 } else { 0 };
        }
        if profile == Profile::Lease && random.percent(50) {
            workload.long_lease_percent = 60;
            workload.weights.keep_alive = random.random_range(1..=5);
            workload.weights.time_to_live = 20;
        }
        let with_sessions = match profile {
            Profile::Lease => 40,
            Profile::Full => 30,
            _ => 20,
        };
        if random.percent(with_sessions) {
            workload.sessions = random.random_range(1..=4);
            workload.observers = random.random_range(0..=2);
            workload.lines = random.random_range(1..=2);
        }
        workload
    }

    /// Many quick reads of few keys on all members: so that some fall into the short time in which a leader
    /// does not know that it has been replaced.
    fn read_everywhere(&mut self, random: &mut Random) {
        self.clients = 6;
        self.calls = random.log_uniform(120, 220) as u32;
        self.pause_ms = random.log_uniform(2, 15);
        self.patience_ms = random.log_uniform(800, 3000);
        self.keys = random.random_range(2..=4);
        self.roaming_percent = 70;
        self.weights.get = 60;
        self.reads_everywhere = true;
    }

    /// About how long the clients take when nothing goes wrong.
    pub fn milliseconds(&self) -> u64 {
        u64::from(self.calls) * (self.pause_ms / 2 + 15)
    }
}

impl Weights {
    /// How many kinds there are.
    pub const COUNT: usize = 17;

    /// Switches one kind off, counted in the order of the fields; puts stay.
    pub fn clear(&mut self, kind: usize) {
        let kinds: [&mut u32; Self::COUNT] = [
            &mut self.list,
            &mut self.past_read,
            &mut self.delete,
            &mut self.compare_and_swap,
            &mut self.txn,
            &mut self.compact,
            &mut self.lease_grant,
            &mut self.lease_revoke,
            &mut self.keep_alive,
            &mut self.time_to_live,
            &mut self.lease_list,
            &mut self.hash,
            &mut self.status,
            &mut self.bad_request,
            &mut self.alarm,
            &mut self.get,
            &mut self.put,
        ];
        if let Some((weight, rest)) = kinds.into_iter().skip(kind).collect::<Vec<_>>().split_first_mut()
            && !rest.is_empty()
        {
            **weight = 0;
        }
    }

    fn draw(random: &mut Random) -> Self {
        let mut maybe = |percent: u32, most: u32| {
            if random.percent(percent) { random.random_range(1..=most) } else { 0 }
        };
        Self {
            put: 10 + maybe(80, 40),
            get: 5 + maybe(80, 30),
            list: maybe(70, 15),
            past_read: maybe(60, 10),
            delete: maybe(70, 15),
            compare_and_swap: maybe(70, 25),
            txn: maybe(60, 15),
            compact: maybe(40, 5),
            lease_grant: maybe(45, 8),
            lease_revoke: maybe(30, 3),
            keep_alive: maybe(40, 10),
            time_to_live: maybe(30, 4),
            lease_list: maybe(20, 2),
            hash: maybe(30, 3),
            status: maybe(20, 2),
            bad_request: maybe(30, 3),
            alarm: 0,
        }
    }
}
