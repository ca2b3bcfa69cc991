//! What is demanded of a cluster in which nothing is wrong any more: that its members serve, that all catch
//! up, and that it comes to rest.
//!
//! Everything has a bound in simulated time, far beyond what a healthy cluster needs: elections, retries,
//! a snapshot on a slow network. Where a bound is passed, that is a violation of `liveness` or
//! `convergence`.

use std::time::Duration;

use bytes::Bytes;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::alarm_request::AlarmAction;
use detcd::proto::v3lockpb::{LockRequest, UnlockRequest};
use detcd::rt;
use rand::Rng;

use crate::clock::true_time;
use crate::evidence::Violation;
use crate::history::{Answer, Contents, MemberNumber, Outcome, Request, Time};
use crate::model::Refusal;
use crate::random::{Draw, stream};
use crate::workload::{Recorder, alarm_request, ask};
use crate::world::{State, World};

/// How often the cluster is found to be busy before that is held against it.
const REST_TRIES: usize = 40;

/// How long a question waits for an answer.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// Seconds that the leases of questions live: longer than the questions wait.
const PROBE_TTL: i64 = 30;

/// Simulated milliseconds that a run may wait for the work of compactions.
const COMPACTION_MS: u64 = 4_000;

/// The client that waits for a lock while client 0 has it.
const PROBE_WAITER: u32 = 999;

/// Waits until everybody has applied everything and nothing has come for so long. Leases that run out make
/// entries for a while after the last client has gone.
pub async fn come_to_rest(world: &World, quiet: Duration) -> Result<u64, Violation> {
    for _ in 0..REST_TRIES {
        let committed = must_converge(world).await?;
        rt::sleep(quiet).await;
        if world.monitor().committed_index() == committed {
            return Ok(committed);
        }
    }
    Err(Violation::new("liveness", "the cluster does not come to rest though no client asks for anything"))
}

/// Reads all members between two entries.
pub async fn read_at_rest(world: &World) -> Result<Vec<Contents>, Violation> {
    for _ in 0..REST_TRIES {
        let committed = come_to_rest(world, Duration::from_millis(100)).await?;
        let mut contents = Vec::new();
        for member in world.members() {
            if is_well(world, member) {
                contents.push(read_everything(world, member).await?);
            }
        }
        if world.monitor().committed_index() == committed {
            return Ok(contents);
        }
    }
    Err(Violation::new("liveness", "the members cannot be read at rest: there is always something new"))
}

/// The first claim that the monitor found broken.
pub fn stop_if_violated(world: &World) -> Result<(), Violation> {
    match world.monitor().violations().into_iter().next() {
        Some(violation) => Err(violation),
        None => Ok(()),
    }
}

/// Waits until something is so, at most so many milliseconds.
pub async fn wait_until(world: &World, milliseconds: u64, is_so: impl Fn() -> bool) -> Result<(), ()> {
    let deadline = true_time() + milliseconds * 1_000_000;
    while !is_so() {
        if true_time() > deadline || world.monitor().is_violated() {
            return Err(());
        }
        rt::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Whether a member can be asked to be like the others: its disk was not damaged, or it runs nevertheless.
fn is_well(world: &World, member: MemberNumber) -> bool {
    !world.monitor().is_excused(member) || matches!(world.state_of(member), State::Up)
}

/// The first member whose disk was not damaged: one that must do what it is asked to.
fn undamaged(world: &World, core: &[MemberNumber]) -> Option<MemberNumber> {
    core.iter().copied().find(|member| !world.monitor().is_excused(*member))
}

/// Clears every alarm, as an operator does when all is well again. Where there is a quota that a run can
/// reach, members raise theirs anew.
pub async fn clear_alarms(
    world: &World,
    recorder: &Recorder,
    core: &[MemberNumber],
) -> Result<(), Violation> {
    let Some(member) = undamaged(world, core) else { return Ok(()) };
    let deadline = true_time() + service_bound(world);
    loop {
        if let Some(alarms) = alarms(world, recorder, member).await {
            for alarm in &alarms {
                let clear = alarm_request(AlarmAction::Deactivate, alarm.alarm, alarm.member_id);
                probe(world, recorder, member, clear).await;
            }
            if alarms.is_empty() || world.setup().tuning.quota_bytes > 0 {
                return Ok(());
            }
        }
        stop_if_violated(world)?;
        if true_time() > deadline {
            let text = format!("m{member} does not clear alarms, nor say that there are none");
            return Err(Violation::new("liveness", text));
        }
        rt::sleep(Duration::from_millis(100)).await;
    }
}

/// The alarms that are raised, if a member says so.
async fn alarms(world: &World, recorder: &Recorder, member: MemberNumber) -> Option<Vec<pb::AlarmMember>> {
    let all = alarm_request(AlarmAction::Get, pb::AlarmType::None as i32, 0);
    match probe(world, recorder, member, all).await {
        Outcome::Answered(Answer::Alarm(answer)) => Some(answer.alarms),
        _ => None,
    }
}

/// Nanoseconds after which a member of a healed core must serve.
fn service_bound(world: &World) -> Time {
    (20_000 + 60 * world.setup().tuning.election_ms()) * 1_000_000
}

/// A member of a healed core answers a write and a linearizable read.
pub async fn must_serve(world: &World, recorder: &Recorder, member: MemberNumber) -> Result<(), Violation> {
    if world.monitor().is_excused(member) {
        return Ok(());
    }
    let deadline = true_time() + service_bound(world);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let get = Request::Range(pb::RangeRequest { key: Bytes::from_static(ALIVE), ..Default::default() });
        if writes(world, recorder, member, attempt).await
            && matches!(probe(world, recorder, member, get).await, Outcome::Answered(_))
        {
            return Ok(());
        }
        stop_if_violated(world)?;
        if true_time() > deadline {
            let text = format!(
                "m{member} does not serve {} ms after all faults have ended: it is {:?}",
                service_bound(world) / 1_000_000,
                world.state_of(member)
            );
            return Err(Violation::new("liveness", text));
        }
        rt::sleep(Duration::from_millis(100)).await;
    }
}

/// The key by which members are asked whether they serve.
const ALIVE: &[u8] = b"k/alive";

/// Whether a member writes: a put; or, where that is refused for want of space, it must raise the alarm that
/// tells everybody, and still delete.
async fn writes(world: &World, recorder: &Recorder, member: MemberNumber, attempt: u32) -> bool {
    let key = Bytes::from_static(ALIVE);
    let value = format!("m{member} attempt {attempt}").into();
    let put = Request::Put(pb::PutRequest { key: key.clone(), value, ..Default::default() });
    match probe(world, recorder, member, put).await {
        Outcome::Answered(_) => true,
        Outcome::Failed(failure) if Refusal::heard(&failure) == Some(Refusal::NoSpace) => {
            let is_nospace = |alarm: &pb::AlarmMember| alarm.alarm() == pb::AlarmType::Nospace;
            let raised = alarms(world, recorder, member).await;
            let delete = Request::DeleteRange(pb::DeleteRangeRequest { key, ..Default::default() });
            raised.is_some_and(|alarms| alarms.iter().any(is_nospace))
                && matches!(probe(world, recorder, member, delete).await, Outcome::Answered(_))
        }
        _ => false,
    }
}

/// A lock that is let go goes to who waits for it, without anybody's lease running out.
pub async fn must_hand_over(
    world: &World,
    recorder: &Recorder,
    core: &[MemberNumber],
) -> Result<(), Violation> {
    let deadline = true_time() + service_bound(world);
    let well: Vec<MemberNumber> =
        core.iter().copied().filter(|member| !world.monitor().is_excused(*member)).collect();
    let (Some(first), Some(last)) = (well.first(), well.last()) else { return Ok(()) };
    for round in 0.. {
        // Where there is no space nobody gets a lease.
        if world.setup().tuning.quota_bytes > 0
            && alarms(world, recorder, *first).await.is_some_and(|alarms| !alarms.is_empty())
        {
            return Ok(());
        }
        if hands_over(world, recorder, *first, *last, round).await {
            return Ok(());
        }
        stop_if_violated(world)?;
        if true_time() > deadline {
            let text =
                format!("a lock that was let go on m{first} does not reach who waits for it on m{last}");
            return Err(Violation::new("liveness", text));
        }
    }
    Ok(())
}

async fn hands_over(
    world: &World,
    recorder: &Recorder,
    holder: MemberNumber,
    waiter: MemberNumber,
    round: u32,
) -> bool {
    let name = Bytes::from(format!("lock/probe{round}"));
    let mut leases = Vec::new();
    for _ in 0..2 {
        let grant = Request::LeaseGrant(pb::LeaseGrantRequest { ttl: PROBE_TTL, id: 0 });
        match probe(world, recorder, holder, grant).await {
            Outcome::Answered(Answer::LeaseGrant(granted)) => leases.push(granted.id),
            _ => return false,
        }
    }
    let lock = |lease| Request::Lock(LockRequest { name: name.clone(), lease });
    let Outcome::Answered(Answer::Lock(held)) = probe(world, recorder, holder, lock(leases[0])).await else {
        return false;
    };
    let waiting = {
        let (world, recorder, lock) = (world.clone(), recorder.clone(), lock(leases[1]));
        rt::spawn(async move { probe_as(&world, &recorder, PROBE_WAITER, waiter, lock).await })
    };
    // It stands in line by then, or comes to a free lock.
    rt::sleep(Duration::from_millis(300)).await;
    probe(world, recorder, holder, Request::Unlock(UnlockRequest { key: held.key })).await;
    let got_it = matches!(waiting.await, Ok(Outcome::Answered(_)));
    for id in leases {
        probe(world, recorder, holder, Request::LeaseRevoke(pb::LeaseRevokeRequest { id })).await;
    }
    got_it
}

/// Compacts all that may be compacted, and ends a member while it still works on that: its next run must do the
/// rest. A later compaction would hide it if that did not happen, so there is none.
pub async fn cut_compaction_short(
    world: &World,
    recorder: &Recorder,
    core: &[MemberNumber],
) -> Result<(), Violation> {
    let mut random = stream(world.setup().seed, "a compaction that is cut short");
    let member = *random.pick(core);
    if world.monitor().is_excused(member) {
        return Ok(());
    }
    let revision = world.monitor().revision();
    let compact = Request::Compact(pb::CompactionRequest { revision, physical: false });
    probe(world, recorder, member, compact).await;
    // The order to compact is in the database by then, and with some luck the work is not done.
    let tuning = &world.setup().tuning;
    let work = world.monitor().written_records().div_ceil(tuning.compaction_batch) as u64;
    let most = (work * tuning.compaction_pause_ms).min(COMPACTION_MS);
    rt::sleep(Duration::from_millis(tuning.backend_interval_ms + random.random_range(0..=most))).await;
    world.kill(member, random.percent(50));
    rt::sleep(Duration::from_millis(50)).await;
    world.start(member);
    must_serve(world, recorder, member).await
}

/// Every database holds what compactions keep and nothing else, where the settings let that come about soon.
pub async fn must_have_compacted(world: &World) -> Result<(), Violation> {
    if world.monitor().compacted() < 0 {
        return Ok(());
    }
    let setup = world.setup();
    let batch = if setup.buggify { 1 } else { setup.tuning.compaction_batch };
    // No database says how much there is to look at: some commit so seldom that they still hold nothing.
    let steps = world.monitor().written_records().div_ceil(batch) as u64;
    let milliseconds = steps * setup.tuning.compaction_pause_ms;
    if milliseconds > COMPACTION_MS {
        return Ok(());
    }
    for member in world.members().filter(|member| is_well(world, *member)) {
        let bound = 40 * setup.tuning.backend_interval_ms + 2 * milliseconds + 5_000;
        if wait_until(world, bound, || world.monitor().wrong_record(member).is_none()).await.is_err() {
            stop_if_violated(world)?;
            let Some(wrong) = world.monitor().wrong_record(member) else { continue };
            let text = format!(
                "{bound} ms after the last request the database of m{member} {wrong}, compacted up to {}",
                world.monitor().compacted()
            );
            return Err(Violation::new("compaction", text));
        }
    }
    Ok(())
}

/// Revokes all leases that are left and were granted for at least so many seconds.
pub async fn revoke_leases(
    world: &World,
    recorder: &Recorder,
    core: &[MemberNumber],
    least: i64,
) -> Result<(), Violation> {
    let Some(member) = undamaged(world, core) else { return Ok(()) };
    let deadline = true_time() + service_bound(world);
    loop {
        let listed = probe(world, recorder, member, Request::LeaseLeases).await;
        if let Outcome::Answered(Answer::LeaseLeases(listed)) = listed {
            let mut left = false;
            for lease in listed.leases {
                let ask = pb::LeaseTimeToLiveRequest { id: lease.id, keys: true };
                let told = probe(world, recorder, member, Request::LeaseTimeToLive(ask)).await;
                if !matches!(&told, Outcome::Answered(Answer::LeaseTimeToLive(told)) if told.granted_ttl < least)
                {
                    left = true;
                    let revoke = Request::LeaseRevoke(pb::LeaseRevokeRequest { id: lease.id });
                    probe(world, recorder, member, revoke).await;
                }
            }
            if !left {
                return Ok(());
            }
        }
        stop_if_violated(world)?;
        if true_time() > deadline {
            return Err(Violation::new("liveness", format!("m{member} has leases that cannot be revoked")));
        }
    }
}

/// A call of the supervisor, written down like any other.
async fn probe(world: &World, recorder: &Recorder, member: MemberNumber, request: Request) -> Outcome {
    probe_as(world, recorder, 0, member, request).await
}

async fn probe_as(
    world: &World,
    recorder: &Recorder,
    client: u32,
    member: MemberNumber,
    request: Request,
) -> Outcome {
    let number = recorder.called(client, member, request.clone());
    let outcome = ask(world, member, &request, PROBE_PATIENCE).await;
    recorder.returned(number, outcome.clone());
    outcome
}

/// All members apply what is committed. Gives its index.
async fn must_converge(world: &World) -> Result<u64, Violation> {
    let bound = 60_000 + 40 * world.setup().tuning.election_ms();
    let lagging = || -> Vec<MemberNumber> {
        let committed = world.monitor().committed_index();
        let is_there = |member: &MemberNumber| {
            world.monitor().status(*member).is_some_and(|status| status.applied >= committed)
        };
        world.members().filter(|member| is_well(world, *member) && !is_there(member)).collect()
    };
    if wait_until(world, bound, || lagging().is_empty()).await.is_err() {
        stop_if_violated(world)?;
        let states: Vec<String> = lagging()
            .into_iter()
            .map(|member| {
                format!("m{member} {:?} {:?}", world.state_of(member), world.monitor().status(member))
            })
            .collect();
        let text = format!(
            "{bound} ms after all faults have ended, entry {} is not applied by {}",
            world.monitor().committed_index(),
            states.join("; ")
        );
        return Err(Violation::new("convergence", text));
    }
    Ok(world.monitor().committed_index())
}

/// Reads all keys of a member that is at rest.
async fn read_everything(world: &World, member: MemberNumber) -> Result<Contents, Violation> {
    let request = Request::Range(pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        serializable: true,
        ..Default::default()
    });
    let hash = Request::HashKv(pb::HashKvRequest { revision: 0 });
    for _ in 0..20 {
        let everything = ask(world, member, &request, PROBE_PATIENCE).await;
        let outcomes = (everything, ask(world, member, &hash, PROBE_PATIENCE).await);
        if let (Outcome::Answered(Answer::Range(everything)), Outcome::Answered(Answer::HashKv(hash))) =
            outcomes
        {
            let revision = everything.header.as_ref().map_or(0, |header| header.revision);
            return Ok(Contents { member, revision, compacted: hash.compact_revision, everything });
        }
        rt::sleep(Duration::from_millis(200)).await;
    }
    Err(Violation::new("liveness", format!("m{member} cannot be read at rest: {:?}", world.state_of(member))))
}
