//! Plans and how they are drawn.

use std::fmt;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bus::{Kind, Network};
use crate::history::MemberNumber;
use crate::markers::{self, MarkerName};
use crate::random::{Draw, Random};
use crate::setup::Profile;

/// What goes wrong in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which they begin, triggers last.
    pub steps: Vec<Step>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When it begins.
    pub when: When,
    /// What happens.
    pub action: Action,
    /// After how many milliseconds it ends, for what has an end: a partition heals, a dead member starts.
    pub lasts: u64,
}

/// When a step begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// So many milliseconds after clients began.
    At(u64),
    /// As soon after that as the leader holds entries that are not committed.
    LeaderHasUncommitted(u64),
    /// As soon after that as a member lags so many entries behind what is committed.
    MemberLags(u64, u64),
    /// As soon after that as a member leads in a later term.
    LeaderChanged(u64),
    /// As soon after that as so many more entries are known to be committed.
    Committed(u64, u64),
    /// As soon after that as this rare path is reached (again).
    Reached(u64, MarkerName),
}

/// Whom a fault hits. Roles are looked up when the step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This member.
    Member(MemberNumber),
    /// Who leads then.
    Leader,
    /// Some member that does not lead then, counted from this number.
    Follower(MemberNumber),
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The member hears nobody, is heard by nobody, or both.
    Isolate(Target, Direction),
    /// These members on one side, all others on the other.
    Split(Vec<MemberNumber>),
    /// Two halves that only see each other through one member.
    Bridge(MemberNumber),
    /// Isolates the member again and again, on and off for so many milliseconds.
    Flap(Target, u64),
    /// Messages of these kinds do not get from or to the member.
    Mute(Target, Vec<Kind>),
    /// Every path between members is open again, whatever has cut it.
    Reunite,
    /// The network is like this, where members are on a bus.
    Network(Network),
    /// Paths are cut one after another, and opened in another order.
    Swizzle,
    /// Clients cannot reach the member.
    HideFromClients(Target),
    /// The process dies; what it wrote is still there.
    Kill(Target),
    /// The machine loses power; what it wrote and did not sync is lost, in part.
    PowerCut(Target),
    /// All machines lose power at once.
    PowerCutAll,
    /// All processes die one after another.
    RollingKill,
    /// The member dies again while it recovers.
    KillTwice(Target),
    /// The member is stopped in order and started again.
    Restart(Target),
    /// The process stands still.
    Pause(Target),
    /// Something is wrong with the disk.
    Disk(Target, DiskFault),
    /// Something is wrong with the clock.
    Clock(Target, ClockFault),
    /// Something is wrong with the member's connections, in full runs.
    Connections(Target, ConnectionFault),
    /// The leader is asked to hand over to this member.
    MoveLeader(MemberNumber),
}

impl Target {
    /// The member that it names; 0 for a role.
    fn number(self) -> MemberNumber {
        match self {
            Target::Member(member) => member,
            Target::Leader | Target::Follower(_) => 0,
        }
    }
}

impl Action {
    /// The highest number of a member that it names, 0 for none.
    pub fn highest(&self) -> MemberNumber {
        match self {
            Action::Isolate(target, _)
            | Action::Flap(target, _)
            | Action::Mute(target, _)
            | Action::HideFromClients(target)
            | Action::Kill(target)
            | Action::PowerCut(target)
            | Action::KillTwice(target)
            | Action::Restart(target)
            | Action::Pause(target)
            | Action::Disk(target, _)
            | Action::Clock(target, _)
            | Action::Connections(target, _) => target.number(),
            Action::Split(members) => members.iter().copied().max().unwrap_or(0),
            Action::Bridge(member) | Action::MoveLeader(member) => *member,
            Action::Reunite
            | Action::Network(_)
            | Action::Swizzle
            | Action::PowerCutAll
            | Action::RollingKill => 0,
        }
    }
}

/// Which way a path is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Direction {
    Both,
    In,
    Out,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFault {
    /// The so-manieth write from now fails.
    WriteFails(u64),
    /// The next sync fails.
    SyncFails,
    /// There is no room left.
    Full,
    /// Every operation takes so many milliseconds.
    Slow(u64),
    /// The device dies at the so-manieth operation from now, then the machine loses power.
    DiesAt(u64),
    /// Syncs return and do nothing, until the machine loses power. Never drawn: a member that forgets what
    /// it acknowledged may vote for one that never had it, so no member of a cluster of this kind can make
    /// up for it. It is there for the controls, which must be red.
    LyingSync,
    /// Bits of the database flip at rest. The member owes nothing after that but silence.
    Rot(u32),
}

/// What is wrong with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionFault {
    /// All are reset.
    Reset,
    /// All fall silent, as if a router had forgotten them.
    HalfOpen,
    /// The member reads a little at a time.
    SlowReader,
    /// Who connects to it gets no answer.
    Swallow,
    /// Who connects to it is refused.
    Refuse,
    /// Bytes are handed over in very small pieces.
    Pieces,
}

/// What is wrong with a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockFault {
    /// The wall clock is stepped by so many milliseconds.
    Step(i64),
    /// The clock stands still, and makes up for it or not.
    Freeze(bool),
}

impl DiskFault {
    /// Whether what was synced may be gone or changed.
    pub fn damages(self) -> bool {
        matches!(self, DiskFault::LyingSync | DiskFault::Rot(_))
    }
}

impl Step {
    /// The milliseconds after which it may begin.
    pub fn earliest(&self) -> u64 {
        match self.when {
            When::At(at)
            | When::LeaderHasUncommitted(at)
            | When::MemberLags(at, _)
            | When::LeaderChanged(at)
            | When::Committed(at, _)
            | When::Reached(at, _) => at,
        }
    }
}

/// Classes of faults that a run has or does not have.
struct Classes {
    network: bool,
    process: bool,
    power: bool,
    pause: bool,
    disk: bool,
    damage: bool,
    clock: bool,
    leadership: bool,
    connections: bool,
}

impl Plan {
    /// A plan for a cluster of so many members whose clients work for so many milliseconds.
    pub fn draw(random: &mut Random, profile: Profile, members: MemberNumber, milliseconds: u64) -> Self {
        if random.percent(4) {
            // Without any fault, everything must be well at once.
            return Self::default();
        }
        let classes = Classes {
            network: random.percent(60),
            process: random.percent(55),
            power: random.percent(45),
            pause: random.percent(35),
            disk: random.percent(35),
            damage: random.percent(18),
            clock: random.percent(40),
            leadership: random.percent(30),
            connections: profile == Profile::Full && random.percent(60),
        };
        // Damage stays on one member, and needs two others.
        let damaged = random.random_range(1..=members);
        let count = random.log_uniform(2, 14);
        let mut steps: Vec<Step> = (0..count)
            .filter_map(|_| {
                // A draw may fall on a class that the run does not have.
                let action = (0..DRAWS).find_map(|_| draw_action(random, &classes, members, damaged))?;
                let at = random.random_range(0..milliseconds.max(1));
                let when = draw_when(random, at);
                let lasts = random.log_uniform(20, 5000);
                Some(Step { when, action, lasts })
            })
            .collect();
        steps.sort_by_key(Step::earliest);
        Self { steps }
    }
}

impl Plan {
    /// Adds members that do not know what others do: leaders that are replaced, since they are cut off or stand
    /// still for about as long as an election takes, followers that lag when they come back, and followers that
    /// are told how far the log is committed and do not get its entries.
    pub fn leave_in_the_dark(&mut self, random: &mut Random, milliseconds: u64, election: u64) {
        for _ in 0..random.random_range(2..=6) {
            let action = match random.random_range(0..10) {
                0..5 => Action::Pause(Target::Leader),
                5..8 => Action::Isolate(Target::Leader, Direction::Both),
                _ => Action::Isolate(Target::Follower(1), Direction::Both),
            };
            let when = When::At(random.random_range(0..milliseconds.max(1)));
            let lasts = random.log_uniform(election, 5 * election);
            self.steps.push(Step { when, action, lasts });
        }
        for _ in 0..random.random_range(0..=8) {
            let action = Action::Mute(Target::Follower(random.random_range(1..=3)), vec![Kind::Append]);
            let when = When::At(random.random_range(0..milliseconds.max(1)));
            self.steps.push(Step { when, action, lasts: random.log_uniform(20, 500) });
        }
        self.steps.sort_by_key(Step::earliest);
    }
}

/// How often an action is drawn for a step at most.
const DRAWS: u32 = 3;

fn draw_when(random: &mut Random, at: u64) -> When {
    match random.random_range(0..20) {
        0..4 => When::LeaderHasUncommitted(at),
        4 | 5 => When::MemberLags(at, random.log_uniform(1, 30)),
        6 => When::LeaderChanged(at),
        7 => When::Committed(at, random.log_uniform(1, 30)),
        8..=10 => {
            let marker = *random.pick(&[
                markers::SNAPSHOT_SENT,
                markers::SNAPSHOT_SENT,
                markers::COMPACTION,
                markers::COMPACTION,
                markers::OPENED_BEHIND,
                markers::OLD_ENTRY_ON_MAJORITY,
                markers::TAIL_OVERWRITTEN,
            ]);
            When::Reached(at, marker.into())
        }
        _ => When::At(at),
    }
}

/// Weather that does not last.
fn draw_storm(random: &mut Random) -> Network {
    let calm = Network { latency: random.log_uniform(1, 60), ..Network::CALM };
    match random.random_range(0..4) {
        0 => Network { duplicate_percent: 60, replay_percent: 30, reorder: true, ..calm },
        1 => Network { capacity: random.log_uniform(1, 4) as usize, ..calm },
        2 => Network { loss_percent: random.random_range(20..=70), ..calm },
        _ => Network { late_percent: 50, late_by: random.log_uniform(50, 2000), reorder: true, ..calm },
    }
}

fn draw_target(random: &mut Random, members: MemberNumber) -> Target {
    match random.random_range(0..10) {
        0..4 => Target::Leader,
        4..7 => Target::Follower(random.random_range(1..=members)),
        _ => Target::Member(random.random_range(1..=members)),
    }
}

/// One action of a class that the run has; none when the draw falls on one that it has not.
fn draw_action(
    random: &mut Random,
    classes: &Classes,
    members: MemberNumber,
    damaged: MemberNumber,
) -> Option<Action> {
    let target = draw_target(random, members);
    let number = random.random_range(1..=members);
    let class = random.random_range(0..if classes.connections { 20 } else { 17 });
    match class {
        0..4 if classes.network && members > 1 => Some(match random.random_range(0..11) {
            0 => Action::Isolate(target, Direction::Both),
            // Who goes on to believe that it leads is the most dangerous.
            1 | 9 | 10 => Action::Isolate(Target::Leader, Direction::Both),
            2 => Action::Isolate(target, Direction::In),
            3 => Action::Isolate(target, Direction::Out),
            4 => Action::Split((1..=members).filter(|_| random.percent(50)).collect()),
            5 => Action::Flap(target, random.log_uniform(50, 600)),
            6 => Action::Swizzle,
            7 if members >= 3 => Action::Bridge(number),
            _ => {
                let kinds = [Kind::Append, Kind::AppendResponse, Kind::Heartbeat, Kind::HeartbeatResponse];
                let more = [Kind::Vote, Kind::Snapshot, Kind::ReadIndex, Kind::Propose];
                Action::Mute(target, vec![*random.pick(&kinds), *random.pick(&more)])
            }
        }),
        4 if classes.network => Some(if random.percent(50) {
            Action::HideFromClients(target)
        } else {
            Action::Network(draw_storm(random))
        }),
        5..8 if classes.process => Some(match random.random_range(0..6) {
            0 => Action::RollingKill,
            1 => Action::KillTwice(target),
            2 => Action::Restart(target),
            _ => Action::Kill(target),
        }),
        8 | 9 if classes.power => {
            Some(if random.percent(30) { Action::PowerCutAll } else { Action::PowerCut(target) })
        }
        10 if classes.pause => Some(Action::Pause(if random.percent(40) { Target::Leader } else { target })),
        11 | 12 if classes.clock => Some(Action::Clock(
            target,
            if random.percent(50) {
                ClockFault::Step(random.random_range(-3_600_000..=3_600_000))
            } else {
                ClockFault::Freeze(random.percent(50))
            },
        )),
        13 if classes.leadership && members > 1 => Some(Action::MoveLeader(number)),
        14 | 15 if classes.disk => Some(Action::Disk(
            target,
            match random.random_range(0..6) {
                0 => DiskFault::WriteFails(random.log_uniform(1, 40)),
                1 => DiskFault::SyncFails,
                2 => DiskFault::Full,
                3 => DiskFault::Slow(random.log_uniform(1, 60)),
                _ => DiskFault::DiesAt(random.log_uniform(1, 60)),
            },
        )),
        17.. => Some(Action::Connections(
            target,
            *random.pick(&[
                ConnectionFault::Reset,
                ConnectionFault::HalfOpen,
                ConnectionFault::SlowReader,
                ConnectionFault::Swallow,
                ConnectionFault::Refuse,
                ConnectionFault::Pieces,
            ]),
        )),
        16 if classes.damage && members >= 3 => {
            Some(Action::Disk(Target::Member(damaged), DiskFault::Rot(random.log_uniform(1, 500) as u32)))
        }
        _ => None,
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::At(at) => write!(f, "at {at} ms")?,
            When::LeaderHasUncommitted(at) => {
                write!(f, "after {at} ms, when the leader has uncommitted entries")?
            }
            When::MemberLags(at, entries) => {
                write!(f, "after {at} ms, when a member lags {entries} entries")?
            }
            When::LeaderChanged(at) => write!(f, "after {at} ms, when another member leads")?,
            When::Committed(at, entries) => {
                write!(f, "after {at} ms, when {entries} more entries are committed")?
            }
            When::Reached(at, marker) => write!(f, "after {at} ms, on {marker:?}", marker = marker.name())?,
        }
        write!(f, ": {:?} for {} ms", self.action, self.lasts)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {number:>2}. {step}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    #[test]
    fn plans_keep_the_budget_and_survive_a_file() {
        for seed in 0..500 {
            let plan = Plan::draw(&mut stream(seed, "nemesis"), Profile::Full, 3, 10_000);
            let mut damaged: Vec<Target> = plan
                .steps
                .iter()
                .filter_map(|step| match step.action {
                    Action::Disk(target, fault) if fault.damages() => Some(target),
                    _ => None,
                })
                .collect();
            damaged.dedup();
            assert!(damaged.len() <= 1, "seed {seed} damages {damaged:?}");
            let text = serde_json::to_string(&plan).expect("a plan is plain data");
            assert_eq!(serde_json::from_str::<Plan>(&text).expect("what was written"), plan);
        }
    }
}
