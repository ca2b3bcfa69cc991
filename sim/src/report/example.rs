//! Runs that never were: to look at the page, and to test it, without a cluster.
//!
//! The story: three members elect m1. m1 is cut off while it leads; m2 takes over, and in the red story m1
//! still answers a read, which misses a write that m2 had acknowledged. Then m3 loses power and gets a
//! snapshot, and m2 stands still for a while. Everything between (appends, syncs, responses, progress,
//! watches) follows from the operations, so that links between events have something to find.

use rand::Rng;

use super::RunSummary;
use crate::history::{MemberNumber, Time};
use crate::random::{Draw, Random, stream};
use crate::trace::{DiskAction, Event, Fate, What};

const MS: Time = 1_000_000;
const MEMBERS: MemberNumber = 3;

/// When m1 is cut off, when m2 leads in its place, and when the network is whole again.
const CUT_OFF: std::ops::Range<Time> = 2000 * MS..3500 * MS;
const TAKES_OVER: Time = 2350 * MS;
/// When m3 is without power.
const DARK: std::ops::Range<Time> = 4000 * MS..4400 * MS;
/// When m2 stands still.
const STILL: std::ops::Range<Time> = 4800 * MS..5000 * MS;
/// When the write and the stale read begin that contradict each other.
const WRITE: Time = 2452 * MS;
const READ: Time = 2478 * MS;

/// A key that a page must not take for markup.
pub const HOSTILE: &str = "</script><script>window.injected=1</script><img src=x onerror=window.injected=1>\
                           <!--<script>{{script}}\u{2028}\u{202e}\u{0}\n\"'&amp;";

/// A green run.
pub fn passing() -> (RunSummary, Vec<Event>) {
    Story::tell(7, 6000 * MS, 4, false)
}

/// A run with a stale read.
pub fn failing() -> (RunSummary, Vec<Event>) {
    Story::tell(7, 6000 * MS, 4, true)
}

/// A red run of about 200,000 events.
pub fn large() -> (RunSummary, Vec<Event>) {
    Story::tell(7, 80_000 * MS, 9, true)
}

/// Each kind of event, each fate and each disk action, with texts that a page must not take for markup.
pub fn every_kind() -> Vec<Event> {
    let text = || HOSTILE.to_owned();
    let mut all = vec![
        What::Phase { name: "safety" },
        What::Life { change: "started".to_owned() },
        What::Role { role: "follower", term: 1, leader: 0 },
        What::Role { role: "leader", term: 2, leader: 1 },
        What::Snapshot { to: 2, index: 40, ok: true },
        What::Snapshot { to: 3, index: 41, ok: false },
        What::Connection { to: 2, change: "reset", connections: 3 },
        What::Connection { to: 0, change: "half-open", connections: 1 },
        What::Progress { commit: 7, applied: 6, revision: 5 },
        What::Call { operation: 0, client: 1, text: text() },
        What::Return { operation: 0, client: 1, outcome: "good", text: text(), revision: 5, index: 6 },
        What::Call { operation: 1, client: 2, text: String::new() },
        What::Watch { stream: 0, client: 2, heard: false, watcher: -1, revision: 0, text: text() },
        What::Watch { stream: 0, client: 2, heard: true, watcher: 3, revision: 5, text: "put".to_owned() },
        What::Fault { fault: 0, text: text(), until: 900 * MS },
        What::Fault { fault: 1, text: "kill".to_owned(), until: 0 },
        What::Marker { name: "a rare path" },
        What::Violation { claim: "some-claim", text: text(), operations: vec![0, 1] },
    ];
    let fates = [Fate::Delivered, Fate::Lost, Fate::Duplicated, Fate::Replayed, Fate::Delayed];
    for (fate, number) in fates.into_iter().zip(1..) {
        let arrives = if fate == Fate::Lost { 0 } else { (400 + number * 30) * MS };
        all.push(What::Message { to: 2, message: "Append", term: u64::MAX, index: number, fate, arrives });
    }
    for action in [
        DiskAction::Write,
        DiskAction::Sync,
        DiskAction::SyncFolder,
        DiskAction::SetLength,
        DiskAction::Rename,
        DiskAction::Remove,
        DiskAction::Failed,
        DiskAction::Damaged,
        DiskAction::Cut,
    ] {
        all.push(What::Disk { action, file: "wal/1".to_owned(), offset: 4096, bytes: 512 });
    }
    let numbered = all.into_iter().zip(0..);
    numbered.map(|(what, number)| Event { number, at: number * 20 * MS, member: 1, what }).collect()
}

/// A story while it is told.
struct Story {
    random: Random,
    events: Vec<(Time, MemberNumber, What)>,
    end: Time,
    operations: usize,
    index: u64,
    revision: i64,
    /// Log index and revision when m1 was cut off: what it still knows.
    known: (u64, i64),
}

/// What an operation needs to be told.
struct Asked {
    at: Time,
    client: u32,
    member: MemberNumber,
    text: String,
}

impl Story {
    fn tell(seed: u64, end: Time, clients: u32, stale: bool) -> (RunSummary, Vec<Event>) {
        let random = stream(seed, "example");
        let mut story =
            Self { random, events: Vec::new(), end, operations: 0, index: 1, revision: 1, known: (1, 1) };
        story.members();
        story.faults();
        story.heartbeats();
        let contradiction = story.operations(clients, stale);
        let events = story.finish(contradiction);
        (summary(seed, end, contradiction.is_some()), events)
    }

    fn note(&mut self, at: Time, member: MemberNumber, what: What) {
        self.events.push((at, member, what));
    }

    fn members(&mut self) {
        for member in 1..=MEMBERS {
            self.note(u64::from(member) * MS, member, What::Life { change: "started".to_owned() });
            self.note(u64::from(member) * MS + 900, member, role("follower", 1, 0));
        }
        self.election(1, 2, 150 * MS, &[2, 3]);
        self.election(2, 3, 2320 * MS, &[3]);
        // The one that is cut off believes in itself until it hears of the other.
        self.note(CUT_OFF.end + 4 * MS, 1, role("follower", 3, 2));
    }

    fn election(&mut self, member: MemberNumber, term: u64, at: Time, voters: &[MemberNumber]) {
        self.note(at, member, role("candidate", term, 0));
        for voter in (1..=MEMBERS).filter(|voter| *voter != member) {
            self.send(at + 1, member, voter, "RequestVote", (term, 0));
            if voters.contains(&voter) {
                self.send(at + 9 * MS, voter, member, "RequestVoteResponse", (term, 0));
                self.note(at + 32 * MS, voter, role("follower", term, member));
            }
        }
        self.note(at + 30 * MS, member, role("leader", term, member));
    }

    fn faults(&mut self) {
        for (at, name) in [(0, "warm-up"), (1000, "safety"), (5200, "liveness"), (5800, "convergence")] {
            self.note(at * MS, 0, What::Phase { name });
        }
        let text = "cut off m1 from m2 and m3, both ways".to_owned();
        self.note(CUT_OFF.start, 0, What::Fault { fault: 0, text, until: CUT_OFF.end });
        self.note(
            DARK.start,
            3,
            What::Fault { fault: 1, text: "power cut of m3".to_owned(), until: DARK.end },
        );
        self.note(DARK.start + 10, 3, What::Life { change: "lost power".to_owned() });
        for action in [DiskAction::Cut, DiskAction::Damaged] {
            self.note(DARK.start + 11, 3, disk(action, 81_920, 4096));
        }
        self.note(DARK.end, 3, What::Life { change: "started after the power cut".to_owned() });
        self.note(DARK.end + MS, 3, role("follower", 3, 2));
        self.note(DARK.end + 60 * MS, 2, What::Snapshot { to: 3, index: 200, ok: true });
        let text = "slow network, 20 ms more a message".to_owned();
        self.note(3900 * MS, 0, What::Fault { fault: 2, text, until: 4600 * MS });
        self.note(STILL.start, 2, What::Fault { fault: 3, text: "pause m2".to_owned(), until: STILL.end });
        self.note(STILL.start + 10, 2, What::Life { change: "paused".to_owned() });
        self.note(STILL.end, 2, What::Life { change: "goes on".to_owned() });
        for (at, member, name) in [
            (TAKES_OVER, 2, "leader changed with an uncommitted tail"),
            (DARK.end + MS, 3, "torn tail cut off"),
            (DARK.end + 61 * MS, 3, "snapshot installed under open watchers"),
        ] {
            self.note(at, member, What::Marker { name });
        }
    }

    fn heartbeats(&mut self) {
        let mut at = 190 * MS;
        while at < self.end {
            let term = if at < TAKES_OVER { 2 } else { 3 };
            let leader = leader_at(at);
            for to in (1..=MEMBERS).filter(|to| *to != leader) {
                if STILL.contains(&at) {
                    continue;
                }
                self.send(at, leader, to, "Heartbeat", (term, 0));
                self.send(at + 12 * MS, to, leader, "HeartbeatResponse", (term, 0));
            }
            at += 100 * MS;
        }
    }

    fn send(
        &mut self,
        at: Time,
        from: MemberNumber,
        to: MemberNumber,
        message: &'static str,
        of: (u64, u64),
    ) {
        let way = self.random.random_range(2 * MS..9 * MS);
        let cut = CUT_OFF.contains(&at) && (from == 1 || to == 1);
        let dark = DARK.contains(&at);
        if dark && from == 3 {
            return;
        }
        let (fate, way) = match self.random.random_range(0..1000) {
            _ if cut || (dark && to == 3) => (Fate::Lost, 0),
            0..8 => (Fate::Lost, 0),
            8..16 => (Fate::Delayed, way * 6),
            _ => (Fate::Delivered, way),
        };
        let (term, index) = of;
        let arrives = if fate == Fate::Lost { 0 } else { at + way };
        self.note(at, from, What::Message { to, message, term, index, fate, arrives });
        if fate == Fate::Delivered && self.random.random_range(0..1000) < 12 {
            let fate = if self.random.percent(70) { Fate::Duplicated } else { Fate::Replayed };
            let arrives = arrives + 5 * MS;
            self.note(at, from, What::Message { to, message, term, index, fate, arrives });
        }
    }

    /// All operations, in order of time. Gives the numbers of the two that contradict each other.
    fn operations(&mut self, clients: u32, stale: bool) -> Option<(usize, usize)> {
        let mut free: Vec<(Time, u32)> = (1..=clients).map(|client| (260 * MS, client)).collect();
        let (mut write, mut read) = (None, None);
        for (stream, client) in [(0, 2), (1, 3)] {
            let text = "watch from \"/\" on, with prev_kv".to_owned();
            let what = What::Watch { stream, client, heard: false, watcher: 0, revision: 0, text };
            self.note(230 * MS, leader_at(0), what);
        }
        loop {
            let (at, client) = *free.iter().min().expect("there are clients");
            if at > self.end - 300 * MS {
                break;
            }
            if at < CUT_OFF.start {
                self.known = (self.index, self.revision);
            }
            let done = if client == 1 && at < WRITE && at + 110 * MS > WRITE {
                let text = "put /stock/apples = 41".to_owned();
                write = Some(self.operations);
                self.put(Asked { at: WRITE, client, member: 2, text })
            } else if client == 3 && read.is_none() && write.is_some() && at + 110 * MS > READ {
                read = Some(self.operations);
                self.stale_read(READ.max(at), stale)
            } else {
                self.any(at, client)
            };
            let pause = self.random.random_range(4 * MS..45 * MS);
            let slot = free.iter_mut().find(|slot| slot.1 == client).expect("it was just found");
            slot.0 = done + pause;
        }
        let open = self.operations;
        self.operations += 1;
        let text = "txn if mod(/stock/apples) = 9 then put else get".to_owned();
        self.note(self.end - 200 * MS, 1, What::Call { operation: open, client: 1, text });
        write.zip(read).filter(|_| stale)
    }

    fn any(&mut self, at: Time, client: u32) -> Time {
        let member = self.random.random_range(1..=MEMBERS);
        let value: u32 = self.random.random_range(0..1000);
        let fruit = *self.random.pick(&["apples", "pears", "figs", "limes"]);
        let draw = self.random.random_range(0..100);
        let text = match draw {
            0..55 => format!("put /stock/{fruit} = {value}"),
            55..95 => format!("get /stock/{fruit}"),
            _ => format!("put {HOSTILE} = {value}"),
        };
        let asked = Asked { at, client, member, text };
        if CUT_OFF.contains(&at) && (member == 1 || at < TAKES_OVER) || DARK.contains(&at) && member == 3 {
            return self.unanswered(asked);
        }
        match draw {
            0..55 => self.put(asked),
            55..95 => self.get(asked),
            _ => self.put(asked),
        }
    }

    fn call(&mut self, asked: &Asked) -> usize {
        let operation = self.operations;
        self.operations += 1;
        let what = What::Call { operation, client: asked.client, text: asked.text.clone() };
        self.note(asked.at, asked.member, what);
        operation
    }

    /// One return: when, of what, how, and what it holds.
    fn returns(&mut self, at: Time, asked: &Asked, operation: usize, of: (&'static str, &str, i64, u64)) {
        let (outcome, text, revision, index) = of;
        let (text, client) = (text.to_owned(), asked.client);
        self.note(at, asked.member, What::Return { operation, client, outcome, text, revision, index });
    }

    fn unanswered(&mut self, asked: Asked) -> Time {
        let operation = self.call(&asked);
        let wait = self.random.random_range(60 * MS..180 * MS);
        let of = if self.random.percent(60) {
            ("unknown", "deadline exceeded", 0, 0)
        } else {
            ("failed", "etcdserver: no leader", 0, 0)
        };
        self.returns(asked.at + wait, &asked, operation, of);
        asked.at + wait
    }

    fn get(&mut self, asked: Asked) -> Time {
        let operation = self.call(&asked);
        let begin = if STILL.contains(&asked.at) { STILL.end } else { asked.at };
        let end = begin + self.random.random_range(5 * MS..14 * MS);
        let (revision, index) = (self.revision, self.index);
        let text = format!("1 key at {revision}");
        self.returns(end, &asked, operation, ("good", &text, revision, index));
        end
    }

    fn stale_read(&mut self, at: Time, stale: bool) -> Time {
        let text = "get /stock/apples".to_owned();
        let asked = Asked { at, client: 3, member: 1, text };
        if !stale {
            return self.unanswered(asked);
        }
        let operation = self.call(&asked);
        let (index, revision) = self.known;
        self.returns(at + 9 * MS, &asked, operation, ("good", "40", revision, index));
        at + 9 * MS
    }

    /// A write: to the leader's disk and the followers', back, applied, answered, and seen by watches.
    fn put(&mut self, asked: Asked) -> Time {
        let operation = self.call(&asked);
        let begin = if STILL.contains(&asked.at) { STILL.end } else { asked.at + MS };
        self.index += 1;
        self.revision += 1;
        let (index, revision) = (self.index, self.revision);
        let leader = leader_at(begin);
        let term = if begin < TAKES_OVER { 2 } else { 3 };
        self.synced(begin, leader, index);
        let mut committed = begin;
        for follower in (1..=MEMBERS).filter(|follower| *follower != leader) {
            self.send(begin, leader, follower, "Append", (term, index));
            let away = CUT_OFF.contains(&begin) && follower == 1 || DARK.contains(&begin) && follower == 3;
            if away {
                continue;
            }
            let arrives = begin + self.random.random_range(4 * MS..8 * MS);
            self.synced(arrives, follower, index);
            self.send(arrives + 2 * MS, follower, leader, "AppendResponse", (term, index));
            committed = arrives + 9 * MS;
            let what = What::Progress { commit: index, applied: index, revision };
            self.note(committed + 9 * MS, follower, what);
        }
        self.note(
            committed,
            leader,
            What::Progress { commit: index, applied: index - 1, revision: revision - 1 },
        );
        self.note(committed + MS / 2, leader, What::Progress { commit: index, applied: index, revision });
        for (stream, client) in [(0, 2), (1, 3)] {
            let text = asked.text.clone();
            let at = committed + 2 * MS + stream as Time * MS;
            self.note(at, leader, What::Watch { stream, client, heard: true, watcher: 0, revision, text });
        }
        let end = committed + MS;
        self.returns(end, &asked, operation, ("good", &format!("done at {revision}"), revision, index));
        end
    }

    fn synced(&mut self, at: Time, member: MemberNumber, index: u64) {
        let bytes = self.random.random_range(100..900);
        self.note(at + MS / 4, member, disk(DiskAction::Write, index * 512, bytes));
        self.note(at + MS, member, disk(DiskAction::Sync, 0, 0));
    }

    fn finish(mut self, contradiction: Option<(usize, usize)>) -> Vec<Event> {
        if let Some((write, read)) = contradiction {
            let text = format!(
                "#{read} began after #{write} was acknowledged, and does not see it: it answers /stock/apples = \
                 40 where 41 had been written"
            );
            let what = What::Violation { claim: "linearizable-reads", text, operations: vec![write, read] };
            self.note(self.end, 0, what);
        }
        // A stable sort: what was noted first at one time stays first.
        self.events.sort_by_key(|event| event.0);
        let numbered = self.events.into_iter().zip(0..);
        let events = numbered.map(|((at, member, what), number)| Event { number, at, member, what });
        let mut told = [(0, 0, 0); MEMBERS as usize + 1];
        events.map(|event| never_back(event, &mut told)).collect()
    }
}

/// Operations were told one after the other, but overlap: what a member knows must not go back for that.
fn never_back(mut event: Event, told: &mut [(u64, u64, i64)]) -> Event {
    if let What::Progress { commit, applied, revision } = &mut event.what {
        let most = &mut told[usize::from(event.member)];
        *most = (most.0.max(*commit), most.1.max(*applied), most.2.max(*revision));
        (*commit, *applied, *revision) = *most;
    }
    event
}

fn summary(seed: u64, end: Time, failed: bool) -> RunSummary {
    let verdict = if failed {
        "a read misses a write that was acknowledged before it began"
    } else {
        "all claims hold"
    };
    RunSummary {
        seed,
        profile: "lite".to_owned(),
        passed: !failed,
        verdict: verdict.to_owned(),
        claim: failed.then(|| "linearizable-reads".to_owned()),
        promise: if failed {
            "a linearizable read sees every write that was acknowledged before the read began".to_owned()
        } else {
            String::new()
        },
        command: format!("cargo sim run --seed {seed} --profile lite"),
        members: MEMBERS,
        simulated: end,
        markers: ["leader changed with an uncommitted tail", "torn tail cut off"]
            .map(|name| (name.to_owned(), 1))
            .into(),
    }
}

fn leader_at(at: Time) -> MemberNumber {
    if at < TAKES_OVER { 1 } else { 2 }
}

fn role(role: &'static str, term: u64, leader: MemberNumber) -> What {
    What::Role { role, term, leader }
}

fn disk(action: DiskAction, offset: u64, bytes: u64) -> What {
    What::Disk { action, file: "wal/0000000000000001".to_owned(), offset, bytes }
}
