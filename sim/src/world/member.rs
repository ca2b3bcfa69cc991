//! One member: its node, its disk, its clock, and how its runs begin and end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use detcd::rpc::AllServices;
use detcd::rt::{Shutdown, ShutdownTrigger, shutdown_channel};
use detcd::server::data_dir;
use detcd::server::event_loop::Ended;
use detcd::server::node::{self, Environment, NodeConfig};
use detcd::server::reach::{Direct, Inbox, Reach};
use detcd::transport::PeerNetwork;
use detcd::types::LocalFault;
use detcd::wal::{Wal, WalConfig};
use detcd::watch::BatchLimits;
use futures::future::BoxFuture;
use madsim::runtime::NodeHandle;
use rand::Rng;

use super::World;
use crate::clock::{SimClock, true_time};
use crate::disk::{Fault, SimDisk};
use crate::full::{self, member_ip};
use crate::history::MemberNumber;
use crate::markers;
use crate::nemesis::DiskFault;
use crate::random::{Random, fnv, stream};
use crate::setup::Setup;
use crate::trace::{Trace, What};

/// Where every member keeps its data, on its own disk.
const DATA_DIR: &str = "/data";

/// About how many times some writes of a member write to the disk or sync it.
const WORK_OPERATIONS: u64 = 3;

/// About how many times a recovery writes to the disk or syncs it.
const RECOVERY_OPERATIONS: u64 = 10;

/// What a member is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its process runs.
    Up,
    /// Its process stands still.
    Paused,
    /// It does not run, because something was done to it.
    Down,
    /// It ended by itself, and said why.
    Ended(String),
}

/// A member, over all its runs.
pub struct Life {
    /// What it is doing.
    pub state: State,
    /// Its disk.
    pub disk: SimDisk,
    /// What happens to it.
    disk_random: Random,
    /// Its clock.
    pub clock: SimClock,
    /// Runs so far.
    run: u64,
    node: Option<NodeHandle>,
    stop: Option<ShutdownTrigger>,
    serving: Option<AllServices>,
    pub(super) hidden: bool,
    /// How often it ended by itself.
    faults: u32,
}

impl Life {
    /// A member that never ran.
    pub fn new(number: MemberNumber, setup: &Setup, trace: &Trace) -> Self {
        let (rate, offset) = setup.clocks[usize::from(number) - 1];
        Self {
            state: State::Down,
            disk: new_disk(number, setup, trace),
            disk_random: stream(setup.seed, &format!("faults of disk {number}")),
            clock: SimClock::new(rate, offset),
            run: 0,
            node: None,
            stop: None,
            serving: None,
            hidden: false,
            faults: 0,
        }
    }
}

fn new_disk(number: MemberNumber, setup: &Setup, trace: &Trace) -> SimDisk {
    let disk = SimDisk::new(stream(setup.seed, &format!("disk {number}")));
    disk.set_latency(setup.disk);
    disk.record(trace.clone(), number, Arc::new(true_time));
    disk
}

impl World {
    /// Makes the nodes of all members and starts them.
    pub fn start_all(&self) {
        for member in self.members() {
            let world = self.clone();
            let run = move || {
                let world = world.clone();
                async move { world.run_member(member).await }
            };
            let address = member_ip(member);
            // A member begins to run when its node is made: it must find itself up.
            self.life(member).state = State::Up;
            let node =
                self.inner.handle.create_node().name(format!("m{member}")).ip(address).init(run).build();
            if let Some(wire) = &*self.wire() {
                wire.connections.add_host(node.id(), address, member);
            }
            self.life(member).node = Some(node);
        }
    }

    /// One run, from its beginning to its end by itself or by order.
    async fn run_member(&self, member: MemberNumber) {
        let (trigger, shutdown) = shutdown_channel();
        let (run, disk, clock) = {
            let mut life = self.life(member);
            life.run += 1;
            life.stop = Some(trigger);
            life.clock.begin_run();
            (life.run, life.disk.mount(), life.clock.clone())
        };
        if run > 1 {
            self.look_for_torn_tail(member);
        }
        self.note_start(member);
        self.note_life(member, format!("begins run {run}"));
        let seed = fnv(format!("{} m{member} run {run}", self.setup().seed).as_bytes());
        let environment = Environment {
            disk,
            clock: Arc::new(clock),
            seed,
            reach: if self.is_full() {
                Reach::Ports
            } else {
                Reach::Direct(Arc::new(Attachment { world: self.clone(), member, run }))
            },
            observer: Some(self.monitor().observer(member)),
        };
        let config = self.config(member);
        let ended = node::run(config, environment, shutdown).await;
        self.run_ended(member, run, ended);
    }

    fn run_ended(&self, member: MemberNumber, run: u64, ended: Result<Ended, LocalFault>) {
        let mut life = self.life(member);
        if life.run != run || matches!(life.state, State::Down) {
            return;
        }
        life.serving = None;
        life.stop = None;
        self.leave_network(member, false);
        let has_begun = self.inner.monitor.has_begun(member);
        self.inner.monitor.ended(member, false);
        let device_died = life.disk.is_dead();
        if !device_died {
            // The process is gone: its files with it. A dead device stays so until its machine is looked after.
            life.disk.kill();
        }
        let text = match ended {
            Ok(Ended::Shutdown) => {
                life.state = State::Down;
                "stopped in order".into()
            }
            Ok(Ended::Removed) => {
                life.state = State::Down;
                "was removed".into()
            }
            Err(fault) => {
                life.faults += 1;
                if has_begun {
                    if !device_died {
                        self.mark(member, markers::STOPPED_BY_DISK);
                    }
                } else if self.inner.monitor.is_excused(member) {
                    self.mark(member, markers::REFUSED_TO_START);
                } else {
                    self.mark(member, markers::DIED_RECOVERING);
                }
                life.state = State::Ended(fault.to_string());
                format!("ended: {fault}")
            }
        };
        drop(life);
        self.note_life(member, text);
    }

    /// Kills a member's process, or cuts its power: then what was not synced is lost in part.
    pub fn kill(&self, member: MemberNumber, power_cut: bool) {
        let mut life = self.life(member);
        // In this order: nothing of the run may pass while it is torn down.
        self.leave_network(member, power_cut);
        self.inner.monitor.ended(member, power_cut);
        if power_cut {
            let Life { disk, disk_random, .. } = &mut *life;
            disk.power_cut(disk_random);
        } else {
            life.disk.kill();
        }
        life.serving = None;
        life.state = State::Down;
        let stop = life.stop.take();
        let node = life.node.as_ref().map(NodeHandle::id);
        drop(life);
        if let Some(node) = node {
            self.inner.handle.kill(node);
        }
        drop(stop);
        self.note_life(member, if power_cut { "loses power".into() } else { "is killed".into() });
    }

    /// Nothing passes between a member's run and the others any more.
    fn leave_network(&self, member: MemberNumber, power_cut: bool) {
        match &*self.wire() {
            None => self.bus().leave(member),
            Some(wire) if power_cut => {
                wire.connections.power_cut(member_ip(member));
            }
            Some(wire) => {
                wire.connections.kill(member_ip(member));
            }
        }
    }

    /// Asks a member to stop in order, and waits until it has; if it takes too long, it is killed.
    pub async fn stop(&self, member: MemberNumber) {
        let Some(stop) = self.life(member).stop.take() else { return };
        stop.trigger();
        for _ in 0..400 {
            if !matches!(self.life(member).state, State::Up | State::Paused) {
                return;
            }
            detcd::rt::sleep(Duration::from_millis(50)).await;
        }
        self.note_life(member, "does not stop in 20 s".into());
        self.kill(member, false);
    }

    /// Starts a member that does not run. One that ended by itself may have left a node behind.
    pub fn start(&self, member: MemberNumber) {
        let mut life = self.life(member);
        if matches!(life.state, State::Up | State::Paused) {
            return;
        }
        life.state = State::Up;
        let Life { disk, disk_random, .. } = &mut *life;
        if disk.is_dead() {
            // It comes back with the power.
            disk.power_cut(disk_random);
        }
        let Some(node) = life.node.as_ref().map(NodeHandle::id) else { return };
        drop(life);
        // Restarting needs a node that is known to be dead.
        self.inner.handle.kill(node);
        self.inner.handle.restart(node);
    }

    /// Lets a member's process stand still.
    pub fn pause(&self, member: MemberNumber) {
        let mut life = self.life(member);
        if let (State::Up, Some(node)) = (&life.state, &life.node) {
            self.inner.handle.pause(node.id());
            life.state = State::Paused;
            drop(life);
            self.note_life(member, "stands still".into());
        }
    }

    /// Lets it go on.
    pub fn resume(&self, member: MemberNumber) {
        let mut life = self.life(member);
        if let (State::Paused, Some(node)) = (&life.state, &life.node) {
            self.inner.handle.resume(node.id());
            life.state = State::Up;
            drop(life);
            self.note_life(member, "goes on".into());
        }
    }

    /// Whether clients cannot reach it, though it may be well.
    pub fn is_hidden(&self, member: MemberNumber) -> bool {
        self.life(member).hidden
    }

    /// What a member is doing.
    pub fn state_of(&self, member: MemberNumber) -> State {
        self.life(member).state.clone()
    }

    /// How often a member ended by itself.
    pub fn faults_of(&self, member: MemberNumber) -> u32 {
        self.life(member).faults
    }

    /// A member's disk.
    pub fn disk_of(&self, member: MemberNumber) -> SimDisk {
        self.life(member).disk.clone()
    }

    /// Lets something be wrong with a member's disk.
    pub fn strike_disk(&self, member: MemberNumber, fault: DiskFault) {
        let mut life = self.life(member);
        let Life { disk, disk_random, .. } = &mut *life;
        match fault {
            DiskFault::WriteFails(count) => disk.arm(Fault::WriteError, count),
            DiskFault::SyncFails => disk.arm(Fault::SyncError, 1),
            DiskFault::Full => disk.set_capacity(Some(disk.used())),
            DiskFault::Slow(times) => disk.set_slowdown(times as u32),
            DiskFault::DiesAt(count) => disk.arm(Fault::Death, count),
            DiskFault::LyingSync => disk.set_lying(true),
            DiskFault::Rot(bits) => {
                disk.rot(&data_dir::database_path(Path::new(DATA_DIR)), bits as usize, disk_random);
            }
        }
    }

    /// Ends everything that is wrong with a member's disk, but for damage that is done.
    pub fn mend_disk(&self, member: MemberNumber) {
        let disk = self.disk_of(member);
        disk.disarm();
        disk.set_capacity(None);
        disk.set_slowdown(1);
        disk.set_lying(false);
    }

    /// Lets a member's device die at one of its next operations, or at once. Work on a disk takes no simulated
    /// time while it is done, so that nothing else could come between a write and its sync.
    pub fn strike_at_work(&self, member: MemberNumber) {
        let mut life = self.life(member);
        let operation = life.disk_random.random_range(0..=WORK_OPERATIONS);
        if operation > 0 {
            life.disk.arm(Fault::Death, operation);
        }
    }

    /// Lets a member's device die at one of the first operations of its next recovery. A recovery takes no
    /// simulated time, so that nothing else could hit it.
    pub fn strike_recovery(&self, member: MemberNumber) {
        let mut life = self.life(member);
        let operation = life.disk_random.random_range(1..=RECOVERY_OPERATIONS);
        life.disk.arm(Fault::Death, operation);
    }

    /// A member's clock.
    pub fn clock_of(&self, member: MemberNumber) -> SimClock {
        self.life(member).clock.clone()
    }

    /// The current run of a member, if its process runs.
    pub fn run_of(&self, member: MemberNumber) -> Option<u64> {
        let life = self.life(member);
        matches!(life.state, State::Up | State::Paused).then_some(life.run)
    }

    /// The services of a member that serves, with its run and its node.
    pub fn serving(&self, member: MemberNumber) -> Option<(u64, NodeHandle, AllServices)> {
        let life = self.life(member);
        // Asked for anew: a handle of an earlier run stands for dead tasks.
        let node = self.inner.handle.get_node(life.node.as_ref()?.id())?;
        Some((life.run, node, life.serving.clone()?))
    }

    /// Marks a rare path that a member has reached.
    pub fn mark(&self, member: MemberNumber, name: &'static str) {
        self.inner.trace.mark(true_time(), member, name);
    }

    /// Looks whether recovery will find a torn tail, on a copy of the disk: recovery itself says so to the
    /// operator only.
    fn look_for_torn_tail(&self, member: MemberNumber) {
        let copy = self.disk_of(member).fork();
        copy.disarm();
        let found =
            Wal::open(copy.mount(), &data_dir::wal_path(Path::new(DATA_DIR), None), WalConfig::default());
        if found.is_ok_and(|(_, recovered)| recovered.repaired.is_some()) {
            self.mark(member, markers::TORN_TAIL);
        }
    }

    fn note_life(&self, member: MemberNumber, change: String) {
        self.inner.trace.note(true_time(), member, What::Life { change });
    }

    fn config(&self, member: MemberNumber) -> NodeConfig {
        let tuning = self.setup().tuning;
        let milliseconds = Duration::from_millis;
        NodeConfig {
            data_dir: DATA_DIR.into(),
            heartbeat: milliseconds(tuning.heartbeat_ms),
            election: milliseconds(tuning.election_ms()),
            pre_vote: tuning.pre_vote,
            catchup_entries: tuning.catchup_entries,
            quota_backend_bytes: tuning.quota_bytes,
            backend_interval: milliseconds(tuning.backend_interval_ms),
            backend_batch_operations: tuning.backend_batch_operations,
            compaction_batch: tuning.compaction_batch,
            compaction_pause: milliseconds(tuning.compaction_pause_ms),
            watch_progress_interval: milliseconds(tuning.watch_progress_ms),
            lease_checkpoint: tuning.lease_checkpoint,
            lease_checkpoint_interval: milliseconds(tuning.lease_checkpoint_ms),
            wal_segment_bytes: tuning.wal_segment_bytes,
            max_append_bytes: tuning.append_bytes,
            max_inflight_appends: tuning.inflight_appends,
            watch_batch: BatchLimits { revisions: tuning.watch_batch_revisions, ..BatchLimits::default() },
            watch_response_bytes: Some(tuning.watch_response_bytes),
            watch_stream_bytes: tuning.watch_stream_bytes,
            ..full::config(member, self.size())
        }
    }
}

/// What one run of a member is attached to in place of ports.
struct Attachment {
    world: World,
    member: MemberNumber,
    run: u64,
}

impl Direct for Attachment {
    fn join(&self, inbox: Inbox) -> Arc<dyn PeerNetwork> {
        self.world.bus().join(self.member, self.run, inbox)
    }

    fn serve(&self, services: AllServices, mut shutdown: Shutdown) -> BoxFuture<'static, ()> {
        let (world, member, run) = (self.world.clone(), self.member, self.run);
        Box::pin(async move {
            {
                let mut life = world.life(member);
                if life.run != run {
                    return;
                }
                life.serving = Some(services);
            }
            shutdown.wait().await;
            let mut life = world.life(member);
            if life.run == run {
                life.serving = None;
            }
        })
    }
}
