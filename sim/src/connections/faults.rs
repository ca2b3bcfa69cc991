//! What is wrong with the way from one host to another: the table that every connection consults.
//!
//! A *path* leads from one address to another; the way back is another path. What holds for a path is the
//! usual [`Conditions`], unless some were set for it alone; whether it is cut is a matter of its own, as
//! cuts are often for a host and all its paths, those to hosts that do not exist yet included.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::random::{Draw, Random};

/// From one host to another.
pub(super) type Path = (IpAddr, IpAddr);

/// How a path is while it is not cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// How long bytes take. Below a millisecond is a millisecond: timers are no finer.
    pub latency: RangeInclusive<Duration>,
    /// Bytes that may be on the way or unread; beyond it a writer waits.
    pub capacity: usize,
    /// A read gives one byte to this many, by chance; none for all there are.
    pub read_piece: Option<usize>,
    /// A write takes one byte to this many, by chance; none for all that fit.
    pub write_piece: Option<usize>,
    /// A reader that takes its time.
    pub pace: Option<Pace>,
    /// What becomes of who connects along this path.
    pub connects: Connects,
}

/// How fast a slow reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes of one read at most.
    pub bytes: usize,
    /// Time between two reads.
    pub every: Duration,
}

/// What becomes of who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connects {
    /// Connected, if somebody listens.
    Served,
    /// Turned away, as if nobody listened.
    Refused,
    /// No answer, as if a firewall ate the question.
    Swallowed,
}

impl Default for Conditions {
    /// A good local network.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1)..=Duration::from_millis(3),
            capacity: 256 * 1024,
            read_piece: None,
            write_piece: None,
            pace: None,
            connects: Connects::Served,
        }
    }
}

impl Conditions {
    /// What a run's network is usually like. Nothing of it keeps a cluster with etcd's timings from
    /// working: it is slower, narrower, or hands bytes over in small pieces.
    pub fn draw(random: &mut Random) -> Self {
        let mut conditions = Self::default();
        if random.percent(50) {
            let most = random.log_uniform(1_000, 20_000);
            let least = random.log_uniform(1_000, most);
            conditions.latency = Duration::from_micros(least)..=Duration::from_micros(most);
        }
        if random.percent(25) {
            conditions.capacity = random.log_uniform(2 * 1024, 256 * 1024) as usize;
        }
        if random.percent(25) {
            conditions.read_piece = Some(random.log_uniform(64, 16 * 1024) as usize);
        }
        if random.percent(25) {
            conditions.write_piece = Some(random.log_uniform(64, 16 * 1024) as usize);
        }
        conditions
    }
}

/// The table.
#[derive(Default)]
pub(super) struct Faults {
    usual: Conditions,
    own: BTreeMap<Path, Conditions>,
    cut_paths: BTreeSet<Path>,
    /// Hosts that nothing leaves.
    cut_from: BTreeSet<IpAddr>,
    /// Hosts that nothing reaches.
    cut_to: BTreeSet<IpAddr>,
}

impl Faults {
    /// How this path is.
    pub(super) fn on(&self, path: Path) -> &Conditions {
        self.own.get(&path).unwrap_or(&self.usual)
    }

    /// Changes how paths usually are. Those with conditions of their own keep them.
    pub(super) fn set_usual(&mut self, conditions: Conditions) {
        self.usual = conditions;
    }

    /// Changes how one path is.
    pub(super) fn change(&mut self, path: Path, change: impl FnOnce(&mut Conditions)) {
        change(self.own.entry(path).or_insert_with(|| self.usual.clone()));
    }

    /// Lets one path be as usual again.
    pub(super) fn restore(&mut self, path: Path) {
        self.own.remove(&path);
    }

    /// Whether bytes on this path are held back. A host always reaches itself.
    pub(super) fn is_cut(&self, path @ (from, to): Path) -> bool {
        from != to
            && (self.cut_paths.contains(&path) || self.cut_from.contains(&from) || self.cut_to.contains(&to))
    }

    pub(super) fn cut(&mut self, path: Path) {
        self.cut_paths.insert(path);
    }

    pub(super) fn mend(&mut self, path: Path) {
        self.cut_paths.remove(&path);
    }

    pub(super) fn cut_host(&mut self, host: IpAddr, from: bool, to: bool) {
        if from {
            self.cut_from.insert(host);
        }
        if to {
            self.cut_to.insert(host);
        }
    }

    pub(super) fn mend_host(&mut self, host: IpAddr) {
        self.cut_from.remove(&host);
        self.cut_to.remove(&host);
    }

    /// Nothing is wrong any more; what is usual stays.
    pub(super) fn mend_all(&mut self) {
        self.own.clear();
        self.cut_paths.clear();
        self.cut_from.clear();
        self.cut_to.clear();
    }
}
