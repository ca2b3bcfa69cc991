//! One run, from its setup to its verdict.
//!
//! ```text
//!   warm-up      members start, somebody leads
//!   safety       clients work, faults happen
//!   liveness     faults stop; a core of members must serve, though one may stay cut off for good
//!   convergence  everybody is let in; all catch up, watchers too
//!   check        the evidence goes to the checkers
//! ```

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use detcd::rt;
use madsim::runtime::Runtime;

use crate::buggify::{self, Buggify};
use crate::checkers::{self, Options};
use crate::clock::{EXACT, MOST_DRIFT, true_time};
use crate::coverage;
use crate::disk::charge_blocking_work;
use crate::evidence::{ClockBounds, Evidence, Violation};
use crate::healed::{
    clear_alarms, come_to_rest, cut_compaction_short, must_hand_over, must_have_compacted, must_serve,
    read_at_rest, revoke_leases, stop_if_violated, wait_until,
};
use crate::history::{Contents, MemberNumber, Request, Stream, Time, Word};
use crate::nemesis::{Action, ClockFault, perform, restart_fallen};
use crate::random::stream;
use crate::setup::{Profile, Setup};
use crate::storage;
use crate::trace::{Trace, What};
use crate::workload::{
    Learnt, Recorder, run_client, run_full_watcher, run_observer, run_session, run_watcher,
};
use crate::world::{self, World};

/// Simulated time after which a run is cut off.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// Calls that must be answered for a run to say anything.
const LEAST_ANSWERED: u64 = 10;

/// Calls that are answered before faults begin.
const WARM_UP_CALLS: u64 = 15;

/// One in so many seeds is also checked without the log.
const BLACK_BOX_SHARE: u64 = 4;

/// Steps that this check may take.
const BLACK_BOX_STEPS: u64 = 200_000;

/// How long nothing must have come for watchers to have heard of everything.
const WATCHERS_CATCH_UP: Duration = Duration::from_millis(1500);

/// The same where clients have sockets: a connection that lost bytes while its member was hidden looks well to
/// a client that only reads, until the client's own probes go unanswered ([`world::KEEP_ALIVE`]).
const FULL_CATCH_UP: Duration = world::KEEP_ALIVE.saturating_mul(2).saturating_add(WATCHERS_CATCH_UP);

/// Clients that only watch have numbers from here on.
const FIRST_WATCHER: u32 = 100;

/// Clients with sessions have numbers from here on, and who keeps those alive.
const FIRST_SESSION: u32 = 300;

/// Clients that observe elections have numbers from here on.
const FIRST_OBSERVER: u32 = 500;

/// In one of so many runs every lease that is left is revoked at the end, which shows the keys that each
/// member believes it to have.
const REVOKING_SHARE: u64 = 3;

/// In one of so many runs a compaction is cut short at the end.
const COMPACTING_SHARE: u64 = 4;

/// Leases of so many seconds do not run out before a run ends.
const LONG_TTL: i64 = 7;

/// What became of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// The claims that do not hold; none when the run is green.
    pub violations: Vec<Violation>,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// Calls made; crashes survived, in a run of the storage alone.
    pub calls: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Entries committed; batches and commits, in a run of the storage alone.
    pub entries: u64,
    /// Events heard on watch streams.
    pub events: u64,
}

/// Runs a setup to its end. What happened goes to the trace.
pub fn run(setup: &Setup, trace: &Trace) -> Outcomes {
    if setup.profile == Profile::Storage {
        return run_storage(setup, trace);
    }
    let outcomes: Arc<Mutex<Outcomes>> = Arc::default();
    let (setup, trace, shared) = (setup.clone(), trace.clone(), outcomes.clone());
    // A thread of its own: the standard library seeds its hash maps once for each thread.
    let thread = std::thread::Builder::new().stack_size(8 << 20).spawn(move || {
        let mut runtime =
            Runtime::with_seed_and_config(setup.seed ^ (setup.schedule << 48), madsim::Config::default());
        runtime.set_time_limit(TIME_LIMIT);
        let told = trace.clone();
        let result = runtime.block_on(drive(setup, trace, shared.clone()));
        let mut outcomes = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(violation) = result {
            note_violation(&told, outcomes.simulated, &violation);
            outcomes.violations.insert(0, violation);
        }
    });
    let ended = match thread {
        Ok(thread) => thread.join().map_err(|panic| panic_text(&*panic)),
        Err(error) => Err(format!("cannot start a thread: {error}")),
    };
    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Err(text) = ended {
        outcomes.violations.insert(0, Violation::new("no-panic", text));
    }
    outcomes
}

/// A run of the log and the database alone: no cluster, no clients, no time.
fn run_storage(setup: &Setup, trace: &Trace) -> Outcomes {
    let result = std::panic::catch_unwind(|| storage::run(setup.seed, trace));
    let mut outcomes = Outcomes::default();
    match result.unwrap_or_else(|panic| Err(Violation::new("no-panic", panic_text(&*panic)))) {
        Ok(report) => {
            outcomes.calls = report.crashes;
            outcomes.entries = report.batches + report.commits;
        }
        Err(violation) => {
            note_violation(trace, 0, &violation);
            outcomes.violations.push(violation);
        }
    }
    outcomes
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}

fn note_violation(trace: &Trace, at: u64, violation: &Violation) {
    let Violation { claim, text, operations } = violation.clone();
    trace.note(at, 0, What::Violation { claim, text, operations });
}

/// Everything that happens in the runtime.
async fn drive(setup: Setup, trace: Trace, outcomes: Arc<Mutex<Outcomes>>) -> Result<(), Violation> {
    charge_blocking_work();
    let rare = buggify::install(setup.seed, setup.buggify);
    let recorder = Recorder::new(trace.clone());
    let world = World::new(setup.clone(), trace.clone());
    let _network = world.install_network();
    let result = phases(&world, &recorder, &rare).await;
    let mut evidence = Evidence {
        committed: world.monitor().committed(),
        clocks: clock_bounds(&setup),
        ..Evidence::default()
    };
    (evidence.operations, evidence.streams, evidence.observations) = recorder.history();
    if setup.strict_reads {
        evidence.operations.iter_mut().for_each(|operation| be_strict(&mut operation.request));
    }
    let mut violations = world.monitor().violations();
    let (rest, contents) = match result {
        Ok(mut rest) => {
            evidence.contents = std::mem::take(&mut rest.contents);
            (Some(rest), None)
        }
        Err(violation) => (None, Some(violation)),
    };
    evidence.starts = world.starts();
    let options = options(&setup, &evidence, rest.as_ref());
    let look = |case: &checkers::Case<'_>| {
        coverage::mark(case, &trace, true_time());
        let places = case.carried_out().map(|(number, at)| (number, (at.index, at.revision)));
        trace.link(&places.collect());
        checkers::claims(case)
    };
    let found = world
        .monitor()
        .with_model(|model| checkers::with_case(&evidence, model, &options, look))
        .unwrap_or_else(|violation| vec![violation]);
    for violation in &found {
        note_violation(&trace, true_time(), violation);
    }
    violations.extend(found);
    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    outcomes.simulated = true_time();
    outcomes.calls = evidence.operations.len() as u64;
    outcomes.answered = recorder.answered();
    outcomes.entries = evidence.committed.len() as u64;
    outcomes.events = heard_events(&evidence);
    outcomes.violations = violations;
    match contents {
        // A broken claim explains best why a cluster does not get well.
        Some(violation) if outcomes.violations.is_empty() => Err(violation),
        Some(_) => Ok(()),
        None if outcomes.answered < LEAST_ANSWERED => {
            Err(Violation::new("vacuous", format!("only {} calls were answered", outcomes.answered)))
        }
        None => Ok(()),
    }
}

/// Forgets that a read said that an older state would do.
fn be_strict(request: &mut Request) {
    if let Request::Range(range) | Request::RangeStream(range) = request {
        range.serializable = false;
    }
}

fn heard_events(evidence: &Evidence) -> u64 {
    let words = evidence.streams.iter().flat_map(|stream| &stream.words);
    words
        .map(|(_, word)| if let Word::Heard(response) = word { response.events.len() as u64 } else { 0 })
        .sum()
}

fn clock_bounds(setup: &Setup) -> ClockBounds {
    let rates = || setup.clocks.iter().map(|(rate, _)| (*rate).clamp(EXACT - MOST_DRIFT, EXACT + MOST_DRIFT));
    let has = |wanted: fn(&Action) -> bool| setup.plan.steps.iter().any(|step| wanted(&step.action));
    // A clock that stood still, or a process that did, is as slow as it gets; one that then makes up for
    // it is as fast.
    let stands_still =
        has(|action| matches!(action, Action::Clock(_, ClockFault::Freeze(_)) | Action::Pause(_)));
    let catches_up = has(|action| matches!(action, Action::Clock(_, ClockFault::Freeze(true))));
    ClockBounds {
        slowest_ppm: if stands_still { 0 } else { rates().min().unwrap_or(EXACT) },
        fastest_ppm: if catches_up { u64::MAX } else { rates().max().unwrap_or(EXACT) },
    }
}

/// What the checkers must know of the run.
fn options(setup: &Setup, evidence: &Evidence, rest: Option<&Rest>) -> Options {
    const SECOND: Time = 1_000_000_000;
    let election = setup.tuning.election_ms() * 1_000_000;
    Options {
        settings: setup.tuning.model_settings(),
        ended: true_time(),
        healed: rest.map(|rest| rest.healed),
        late_expiry: 12 * SECOND + 2 * election,
        lease_extension: 2 * election,
        small_quota: setup.tuning.quota_bytes != 0,
        repeated_messages: setup.repeats_messages(),
        unrecorded_clients: false,
        black_box_steps: setup.seed.is_multiple_of(BLACK_BOX_SHARE).then_some(BLACK_BOX_STEPS),
        open_streams: if rest.is_some() { open_streams(evidence) } else { Vec::new() },
        caught_up: rest.map_or(0, |rest| rest.caught_up),
    }
}

/// The streams that nobody ended, to members that serve at the end, in the same run in which the stream was
/// opened: a client that reads and says nothing learns of a machine that lost power by its own probes, after a
/// while.
fn open_streams(evidence: &Evidence) -> Vec<usize> {
    let began = |member| {
        let starts = evidence.starts.iter().filter(|(_, started)| *started == member);
        starts.map(|(at, _)| *at).max()
    };
    let is_open = |stream: &&Stream| {
        let is_ended = stream.words.iter().any(|(_, word)| matches!(word, Word::Ended(_) | Word::Left));
        let opened = stream.words.first().map(|(at, _)| *at);
        evidence.serves_at_the_end(stream.member) && !is_ended && opened >= began(stream.member)
    };
    evidence.streams.iter().filter(is_open).map(|stream| stream.number).collect()
}

/// A cluster that came to rest.
struct Rest {
    /// When the last fault ended.
    healed: Time,
    /// The revision that every watcher must have heard of.
    caught_up: i64,
    /// What the members hold.
    contents: Vec<Contents>,
}

/// Goes through the phases.
async fn phases(world: &World, recorder: &Recorder, rare: &Buggify) -> Result<Rest, Violation> {
    let setup = world.setup().clone();
    let trace = world.trace();
    let phase = |name| trace.note(true_time(), 0, What::Phase { name });
    phase("warm-up");
    rt::spawn(world.bus().clone().pump());
    rt::spawn(restart_fallen(world.clone()));
    world.start_all();
    wait_until(world, 60_000, || world.monitor().leader().is_some())
        .await
        .map_err(|()| Violation::new("liveness", "nobody leads a new cluster within a minute"))?;

    phase("safety");
    let learnt = Learnt::default();
    let mut watching = Vec::new();
    for member in world.members() {
        let client = FIRST_WATCHER + u32::from(member);
        let run = run_full_watcher(world.clone(), recorder.clone(), client, member);
        watching.push(world.spawn_client(client, run));
    }
    for watcher in 0..setup.workload.watchers {
        let client = 2 * FIRST_WATCHER + watcher;
        let random = stream(setup.seed, &format!("watcher {watcher}"));
        let run = run_watcher(
            world.clone(),
            recorder.clone(),
            learnt.clone(),
            setup.workload.clone(),
            client,
            random,
        );
        watching.push(world.spawn_client(client, run));
    }
    let (warm, told) = (world.clone(), recorder.clone());
    let plan = setup.plan.clone();
    let faults = rt::spawn(async move {
        // Faults before anybody has done anything hurt nobody.
        let _ = wait_until(&warm, 3_000, || told.answered() >= WARM_UP_CALLS).await;
        perform(warm, plan).await;
    });
    let clients: Vec<_> = (1..=setup.workload.clients)
        .map(|client| {
            let random = stream(setup.seed, &format!("client {client}"));
            let workload = setup.workload.clone();
            let run = run_client(world.clone(), recorder.clone(), learnt.clone(), workload, client, random);
            world.spawn_client(client, run)
        })
        .collect();
    let sessions = start_sessions(world, recorder, &mut watching);
    for client in clients {
        // A client that panicked has ended the run already.
        let _ = client.await;
        stop_if_violated(world)?;
    }
    // Faults that wait for something that only clients bring about need not wait any longer.
    world.end_work();
    for session in sessions {
        let _ = session.await;
    }
    let _ = faults.await;
    stop_if_violated(world)?;

    phase("liveness");
    let left_behind = if can_spare(world, setup.left_behind) { setup.left_behind } else { 0 };
    rare.stop();
    heal(world, left_behind);
    let core: Vec<MemberNumber> = world.members().filter(|member| *member != left_behind).collect();
    clear_alarms(world, recorder, &core).await?;
    for member in &core {
        must_serve(world, recorder, *member).await?;
    }
    if setup.workload.sessions > 0 {
        must_hand_over(world, recorder, &core).await?;
    }
    if setup.seed % COMPACTING_SHARE == 1 {
        cut_compaction_short(world, recorder, &core).await?;
    }

    phase("convergence");
    heal(world, 0);
    let healed = true_time();
    world.hold_still();
    must_serve(world, recorder, core[0]).await?;
    // As long as they live, their rest is written to the log again and again.
    revoke_leases(world, recorder, &core, LONG_TTL).await?;
    let catch_up = if setup.profile == Profile::Full { FULL_CATCH_UP } else { WATCHERS_CATCH_UP };
    come_to_rest(world, catch_up).await?;
    if setup.seed.is_multiple_of(REVOKING_SHARE) {
        revoke_leases(world, recorder, &core, 0).await?;
        come_to_rest(world, WATCHERS_CATCH_UP).await?;
    }
    world.end_watching();
    let caught_up = world.monitor().revision();
    for task in watching {
        let _ = task.await;
    }
    must_have_compacted(world).await?;
    // The last of all: what comes after it would be missing in it.
    let contents = read_at_rest(world).await?;
    stop_if_violated(world)?;
    Ok(Rest { healed, caught_up, contents })
}

/// Starts the clients with sessions, and those that observe elections: the latter among all who watch.
fn start_sessions(
    world: &World,
    recorder: &Recorder,
    watching: &mut Vec<rt::JoinHandle<()>>,
) -> Vec<rt::JoinHandle<()>> {
    let (seed, workload) = (world.setup().seed, &world.setup().workload);
    for observer in 0..workload.observers {
        let client = FIRST_OBSERVER + observer;
        let random = stream(seed, &format!("observer {observer}"));
        let run = run_observer(world.clone(), recorder.clone(), workload.clone(), client, random);
        watching.push(world.spawn_client(client, run));
    }
    let start = |session| {
        let client = FIRST_SESSION + session;
        let random = stream(seed, &format!("session {session}"));
        let run = run_session(world.clone(), recorder.clone(), workload.clone(), client, random);
        world.spawn_client(client, run)
    };
    (0..workload.sessions).map(start).collect()
}

/// Ends every fault; one member may stay cut off.
fn heal(world: &World, left_behind: MemberNumber) {
    world.calm();
    for member in world.members() {
        world.mend_disk(member);
        world.resume(member);
        world.hide(member, false);
        world.start(member);
    }
    if left_behind != 0 {
        world.block(world.paths_of(left_behind), true);
    }
}

/// Whether the members whose disks were not damaged are a majority without this one.
fn can_spare(world: &World, left_behind: MemberNumber) -> bool {
    let is_left = |member: &MemberNumber| *member != left_behind && !world.monitor().is_excused(*member);
    world.members().filter(is_left).count() > usize::from(world.size()) / 2
}
