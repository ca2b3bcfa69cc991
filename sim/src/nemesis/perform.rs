//! Carries a plan out.
//!
//! Each step is a task of the supervisor: it waits for its time and its trigger, does its action, and undoes
//! it when its time is over. Steps overlap freely: a path that two have cut is open when both are over.

use std::time::Duration;

use detcd::rt;

use super::{Action, ClockFault, Direction, DiskFault, Plan, Step, Target, When};
use crate::bus::{Kind, Path};
use crate::clock::true_time;
use crate::history::MemberNumber;
use crate::markers;
use crate::trace::What;
use crate::world::{State, World};

/// Time between two looks for a trigger.
const LOOK: Duration = Duration::from_millis(3);

/// How long a step waits for its trigger.
const TRIGGER_PATIENCE: Duration = Duration::from_secs(10);

/// How long a member that ended by itself stays down, as under a service manager.
const RESTART_AFTER: Duration = Duration::from_millis(300);

/// How long a member goes on, at most, when its power goes: see [`World::strike_at_work`].
const POWER_FADES: Duration = Duration::from_millis(150);

/// Runs a plan to its end, all of its effects included.
pub async fn perform(world: World, plan: Plan) {
    let began = true_time();
    let mut tasks = Vec::new();
    for (number, step) in plan.steps.into_iter().enumerate() {
        tasks.push(rt::spawn(perform_step(world.clone(), number, step, began)));
    }
    for task in tasks {
        // A step that panicked has ended the run already.
        let _ = task.await;
    }
}

/// Starts members again that ended by themselves, as a service manager does, for as long as the world
/// lasts. A member whose disk is damaged may refuse to start for good.
pub async fn restart_fallen(world: World) {
    loop {
        rt::sleep(RESTART_AFTER).await;
        for member in world.members() {
            if matches!(world.state_of(member), State::Ended(_)) && world.faults_of(member) < 50 {
                // What made it fall may be a dead device, which comes back with the power; or only the
                // process was struck, and everything written is seen again.
                if world.disk_of(member).is_dead() {
                    world.kill(member, world.faults_of(member) % 2 == 1);
                }
                world.start(member);
            }
        }
    }
}

async fn perform_step(world: World, number: usize, step: Step, began: u64) {
    let at = began + step.earliest() * 1_000_000;
    rt::sleep(Duration::from_nanos(at.saturating_sub(true_time()))).await;
    if !triggered(&world, step.when).await {
        return;
    }
    let Some(action) = resolve(&world, &step.action) else { return };
    let lasts = Duration::from_millis(step.lasts);
    let until = true_time() + lasts.as_nanos() as u64;
    let text = if world.trace().is_read() { format!("{action:?}") } else { String::new() };
    world.trace().note(true_time(), 0, What::Fault { fault: number, text, until });
    act(&world, action, lasts).await;
}

/// Waits for a step's trigger; false when it does not come while clients work.
async fn triggered(world: &World, when: When) -> bool {
    let monitor = world.monitor();
    let (led, committed, reached) = (monitor.leading(), monitor.committed_index(), times(world, when));
    let is_time = || match when {
        When::At(_) => true,
        When::LeaderHasUncommitted(_) => {
            monitor.leader().is_some_and(|leader| monitor.last_index(leader) > monitor.committed_index())
        }
        When::MemberLags(_, entries) => {
            let committed = monitor.committed_index();
            let lags = |member| {
                let applied = monitor.status(member).map_or(committed, |status| status.applied);
                applied + entries <= committed
            };
            world.members().any(lags)
        }
        When::LeaderChanged(_) => monitor.leading().map(|(term, _)| term) > led.map(|(term, _)| term),
        When::Committed(_, entries) => monitor.committed_index() >= committed + entries,
        When::Reached(..) => times(world, when) > reached,
    };
    let deadline = true_time() + TRIGGER_PATIENCE.as_nanos() as u64;
    while !is_time() {
        if true_time() > deadline || world.work_is_over() {
            return false;
        }
        rt::sleep(LOOK).await;
    }
    true
}

/// How often the path was reached that a step waits for.
fn times(world: &World, when: When) -> u64 {
    match when {
        When::Reached(_, marker) => world.trace().times(marker.name()),
        _ => 0,
    }
}

/// Puts members in place of roles.
fn resolve(world: &World, action: &Action) -> Option<Action> {
    let member = |target: &Target| match *target {
        Target::Member(member) => Some(Target::Member(member)),
        Target::Leader => world.monitor().leader().map(Target::Member),
        Target::Follower(from) => {
            let leader = world.monitor().leader();
            let all: Vec<MemberNumber> = world.members().collect();
            let start = usize::from(from - 1);
            let mut others = all.iter().cycle().skip(start).take(all.len());
            others.find(|member| Some(**member) != leader).copied().map(Target::Member)
        }
    };
    Some(match action {
        Action::Isolate(target, direction) => Action::Isolate(member(target)?, *direction),
        Action::Flap(target, pace) => Action::Flap(member(target)?, *pace),
        Action::Mute(target, kinds) => Action::Mute(member(target)?, kinds.clone()),
        Action::HideFromClients(target) => Action::HideFromClients(member(target)?),
        Action::Kill(target) => Action::Kill(member(target)?),
        Action::PowerCut(target) => Action::PowerCut(member(target)?),
        Action::KillTwice(target) => Action::KillTwice(member(target)?),
        Action::Restart(target) => Action::Restart(member(target)?),
        Action::Pause(target) => Action::Pause(member(target)?),
        Action::Disk(target, fault) => Action::Disk(member(target)?, *fault),
        Action::Clock(target, fault) => Action::Clock(member(target)?, *fault),
        Action::Connections(target, fault) => Action::Connections(member(target)?, *fault),
        Action::Split(_)
        | Action::Bridge(_)
        | Action::Reunite
        | Action::Network(_)
        | Action::Swizzle
        | Action::PowerCutAll
        | Action::RollingKill
        | Action::MoveLeader(_) => action.clone(),
    })
}

/// The member of a resolved target.
fn number(target: Target) -> MemberNumber {
    match target {
        Target::Member(member) | Target::Follower(member) => member,
        Target::Leader => unreachable!("roles are resolved before a step acts"),
    }
}

async fn act(world: &World, action: Action, lasts: Duration) {
    match action {
        Action::Isolate(target, direction) => {
            let member = number(target);
            let passes = |path: &Path| match direction {
                Direction::Both => true,
                Direction::In => path.1 == member,
                Direction::Out => path.0 == member,
            };
            block(world, world.paths_of(member).into_iter().filter(passes).collect(), lasts).await;
        }
        Action::Split(left) => {
            block(world, paths_between(world, |a, b| left.contains(&a) != left.contains(&b)), lasts).await
        }
        Action::Bridge(bridge) => {
            // The members before the bridge and those behind it only see each other through it.
            let apart = |a: MemberNumber, b: MemberNumber| a.min(b) < bridge && a.max(b) > bridge;
            let around = |a: MemberNumber, b: MemberNumber| a != bridge && b != bridge && (a % 2) != (b % 2);
            block(world, paths_between(world, |a, b| apart(a, b) || around(a, b)), lasts).await;
        }
        Action::Reunite => world.reunite(),
        Action::Network(network) => {
            world.bus().set_network(network);
            rt::sleep(lasts).await;
            world.bus().set_network(world.setup().network);
        }
        Action::Flap(target, pace) => {
            flap(world, number(target), Duration::from_millis(pace.max(1)), lasts).await
        }
        Action::Mute(target, kinds) => mute(world, number(target), kinds, lasts).await,
        Action::Swizzle => swizzle(world, lasts).await,
        Action::HideFromClients(target) => {
            world.hide(number(target), true);
            rt::sleep(lasts).await;
            world.hide(number(target), false);
        }
        Action::Kill(target) => fell(world, number(target), false, lasts).await,
        Action::PowerCut(target) => fell(world, number(target), true, lasts).await,
        Action::PowerCutAll => {
            cut_power(world, &world.members().collect::<Vec<_>>()).await;
            rt::sleep(lasts.min(Duration::from_millis(500))).await;
            for member in world.members() {
                world.start(member);
            }
        }
        Action::RollingKill => {
            for member in world.members() {
                fell(world, member, false, lasts / 4).await;
                rt::sleep(lasts / 4).await;
            }
        }
        Action::KillTwice(target) => {
            let member = number(target);
            cut_power(world, &[member]).await;
            rt::sleep(lasts / 4).await;
            world.strike_recovery(member);
            world.start(member);
            rt::sleep(lasts / 4).await;
            world.mend_disk(member);
            fell(world, member, true, lasts / 4).await;
        }
        Action::Restart(target) => {
            world.stop(number(target)).await;
            rt::sleep(lasts / 4).await;
            world.start(number(target));
        }
        Action::Pause(target) => {
            if world.monitor().leader() == Some(number(target)) {
                world.mark(number(target), markers::LEADER_PAUSED);
            }
            world.pause(number(target));
            rt::sleep(lasts).await;
            world.resume(number(target));
        }
        Action::Disk(target, fault) => disk(world, number(target), fault, lasts).await,
        Action::Connections(target, fault) => {
            world.strike_connections(number(target), fault);
            rt::sleep(lasts).await;
            world.mend_connections(number(target));
        }
        Action::Clock(target, fault) => {
            let clock = world.clock_of(number(target));
            match fault {
                ClockFault::Step(milliseconds) => {
                    if milliseconds < 0 && world.monitor().has_begun(number(target)) {
                        world.mark(number(target), markers::WALL_BACK);
                    }
                    clock.step_wall(milliseconds);
                }
                ClockFault::Freeze(catches_up) => {
                    if world.monitor().has_begun(number(target)) {
                        world.mark(number(target), markers::CLOCK_FROZEN);
                    }
                    clock.freeze();
                    rt::sleep(lasts.min(Duration::from_secs(2))).await;
                    clock.thaw(catches_up);
                }
            }
        }
        Action::MoveLeader(to) => crate::workload::move_leader(world, to).await,
    }
}

async fn block(world: &World, paths: Vec<Path>, lasts: Duration) {
    world.block(paths.iter().copied(), true);
    rt::sleep(lasts).await;
    world.block(paths, false);
}

fn paths_between(world: &World, cut: impl Fn(MemberNumber, MemberNumber) -> bool) -> Vec<Path> {
    let all: Vec<MemberNumber> = world.members().collect();
    let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b)));
    pairs.filter(|(a, b)| a != b && cut(*a, *b)).collect()
}

async fn flap(world: &World, member: MemberNumber, pace: Duration, lasts: Duration) {
    let until = true_time() + lasts.as_nanos() as u64;
    while true_time() < until {
        block(world, world.paths_of(member), pace).await;
        rt::sleep(pace).await;
    }
}

async fn mute(world: &World, member: MemberNumber, kinds: Vec<Kind>, lasts: Duration) {
    for path in world.paths_of(member) {
        world.mute(path, kinds.clone());
    }
    rt::sleep(lasts).await;
    for path in world.paths_of(member) {
        world.mute(path, Vec::new());
    }
}

/// Cuts member after member off, and lets them back in another order (FoundationDB's "swizzle-clogging").
async fn swizzle(world: &World, lasts: Duration) {
    let members: Vec<MemberNumber> = world.members().collect();
    let pause = lasts / (2 * members.len() as u32);
    for member in &members {
        world.block(world.paths_of(*member), true);
        rt::sleep(pause).await;
    }
    for member in members.iter().rev() {
        world.block(world.paths_of(*member), false);
        rt::sleep(pause).await;
    }
}

/// Cuts the power of these members, most of the time while they are writing.
async fn cut_power(world: &World, members: &[MemberNumber]) {
    members.iter().for_each(|member| world.strike_at_work(*member));
    let until = true_time() + POWER_FADES.as_nanos() as u64;
    let is_done =
        |member: &MemberNumber| world.disk_of(*member).armed() == 0 || world.disk_of(*member).is_dead();
    while !members.iter().all(is_done) && true_time() < until {
        rt::sleep(Duration::from_millis(1)).await;
    }
    for member in members {
        world.mend_disk(*member);
        world.kill(*member, true);
    }
}

async fn fell(world: &World, member: MemberNumber, power_cut: bool, lasts: Duration) {
    if power_cut {
        cut_power(world, &[member]).await;
    } else {
        world.kill(member, false);
    }
    rt::sleep(lasts).await;
    world.start(member);
}

async fn disk(world: &World, member: MemberNumber, fault: DiskFault, lasts: Duration) {
    if fault.damages() {
        world.monitor().excuse(member);
    }
    world.strike_disk(member, fault);
    rt::sleep(lasts).await;
    world.mend_disk(member);
    match fault {
        DiskFault::DiesAt(_) | DiskFault::LyingSync => {
            world.kill(member, true);
            rt::sleep(RESTART_AFTER).await;
            world.start(member);
        }
        // What has rotted is mostly found by who starts on it.
        DiskFault::Rot(_) => fell(world, member, false, RESTART_AFTER).await,
        DiskFault::WriteFails(_) | DiskFault::SyncFails | DiskFault::Full | DiskFault::Slow(_) => {}
    }
}
