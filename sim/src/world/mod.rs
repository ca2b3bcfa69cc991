//! A cluster in one process: members on nodes of the scheduler, each with a disk and a clock of its own,
//! the network between them, and whoever looks on.
//!
//! ```text
//!   World --+-- members: node, disk, clock, run after run      (member)
//!           +-- bus between them                               (bus)
//!           +-- services of those that serve, for clients      (direct)
//!           `-- monitor, trace
//! ```
//!
//! A member's life is a sequence of runs. A run ends by order, by a kill, by a power cut, or by the member
//! itself; from the moment of its end nothing of it reaches the disk or the network, though its tasks are
//! torn down in order after that.

mod direct;
mod member;
mod network;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use detcd::rt::sim_tcp::Installed;
use detcd::rt::sync::Notify;
use madsim::runtime::Handle;

pub use direct::DirectChannel;
pub use member::{Life, State};
pub use network::KEEP_ALIVE;

use crate::bus::{Bus, Path};
use crate::clock::true_time;
use crate::history::{MemberNumber, Time};
use crate::monitor::Monitor;
use crate::random::{Random, stream};
use crate::setup::{Profile, Setup};
use crate::trace::Trace;
use network::Wire;

/// A cluster and its surroundings. Clones are the same.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    setup: Setup,
    trace: Trace,
    bus: Bus,
    /// The sockets, in a full run.
    wire: Mutex<Option<Wire>>,
    /// How many faults cut each path between members.
    cuts: Mutex<BTreeMap<Path, u32>>,
    monitor: Monitor,
    handle: Handle,
    lives: Vec<Mutex<Life>>,
    /// Every start of a member.
    starts: Mutex<Vec<(Time, MemberNumber)>>,
    /// Latencies between clients and members.
    client_random: Mutex<Random>,
    flags: Flags,
}

/// How far the run is.
#[derive(Default)]
struct Flags {
    work_is_over: Flag,
    hold_still: Flag,
    watching_is_over: Flag,
}

/// Something that is so from some moment on.
#[derive(Default)]
struct Flag {
    is_set: AtomicBool,
    set: Notify,
}

impl Flag {
    fn set(&self) {
        self.is_set.store(true, Ordering::Relaxed);
        self.set.notify_waiters();
    }

    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    fn wait(&self) -> impl Future<Output = ()> + Send + '_ {
        let mut notified = Box::pin(self.set.notified());
        // Listens from here on, so that nothing falls between the look and the wait.
        notified.as_mut().enable();
        async move {
            if !self.is_set() {
                notified.await;
            }
        }
    }
}

impl World {
    /// A world of this setup, with its members not started yet. Must be called inside the runtime.
    pub fn new(setup: Setup, trace: Trace) -> Self {
        let bus = Bus::new(stream(setup.seed, "bus"), setup.network, trace.clone());
        let monitor = Monitor::new(trace.clone(), setup.tuning.model_settings());
        let lives = (1..=setup.members).map(|number| Mutex::new(Life::new(number, &setup, &trace))).collect();
        let inner = Inner {
            client_random: Mutex::new(stream(setup.seed, "client latency")),
            setup,
            trace,
            bus,
            wire: Mutex::default(),
            cuts: Mutex::default(),
            monitor,
            handle: Handle::current(),
            lives,
            starts: Mutex::default(),
            flags: Flags::default(),
        };
        let world = Self { inner: Arc::new(inner) };
        if world.is_full() {
            let wire = Wire::new(&world);
            *world.wire() = Some(wire);
        }
        world
    }

    /// Whether whole servers run, on sockets.
    pub fn is_full(&self) -> bool {
        self.inner.setup.profile == Profile::Full
    }

    /// Serves the sockets of this thread, in a full run, until the value is dropped.
    pub fn install_network(&self) -> Option<Installed> {
        self.wire().as_ref().map(|wire| wire.connections.install())
    }

    /// What the run is like.
    pub fn setup(&self) -> &Setup {
        &self.inner.setup
    }

    /// The trace.
    pub fn trace(&self) -> &Trace {
        &self.inner.trace
    }

    /// The network between members.
    pub fn bus(&self) -> &Bus {
        &self.inner.bus
    }

    /// The one that looks on.
    pub fn monitor(&self) -> &Monitor {
        &self.inner.monitor
    }

    /// Number of members.
    pub fn size(&self) -> MemberNumber {
        self.inner.setup.members
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = MemberNumber> + use<> {
        1..=self.size()
    }

    /// Every start of a member so far.
    pub fn starts(&self) -> Vec<(Time, MemberNumber)> {
        self.inner.starts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_start(&self, member: MemberNumber) {
        self.inner.starts.lock().unwrap_or_else(PoisonError::into_inner).push((true_time(), member));
    }

    /// Every path between a member and the others, both ways.
    pub fn paths_of(&self, member: MemberNumber) -> Vec<Path> {
        self.members()
            .filter(|other| *other != member)
            .flat_map(|other| [(member, other), (other, member)])
            .collect()
    }

    /// Ends the work of clients; those that wait for an answer still get it.
    pub fn end_work(&self) {
        self.inner.flags.work_is_over.set();
    }

    /// Whether clients should begin no further call.
    pub fn work_is_over(&self) -> bool {
        self.inner.flags.work_is_over.is_set()
    }

    /// Clients keep their watch streams as they are from now on, and read them.
    pub fn hold_still(&self) {
        self.inner.flags.hold_still.set();
    }

    /// Whether watch streams should be left as they are.
    pub fn must_hold_still(&self) -> bool {
        self.inner.flags.hold_still.is_set()
    }

    /// Waits until watch streams should be left as they are.
    pub fn holding_still(&self) -> impl Future<Output = ()> + Send + '_ {
        self.inner.flags.hold_still.wait()
    }

    /// Ends watching.
    pub fn end_watching(&self) {
        self.inner.flags.watching_is_over.set();
    }

    /// Whether watching is over.
    pub fn watching_is_over(&self) -> bool {
        self.inner.flags.watching_is_over.is_set()
    }

    /// Waits until watching is over.
    pub fn watching_over(&self) -> impl Future<Output = ()> + Send + '_ {
        self.inner.flags.watching_is_over.wait()
    }

    fn wire(&self) -> MutexGuard<'_, Option<Wire>> {
        self.inner.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self, member: MemberNumber) -> MutexGuard<'_, Life> {
        self.inner.lives[usize::from(member) - 1].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
