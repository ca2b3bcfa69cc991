//! Claim: a lease never runs out early, and not much too late. Whoever was told that a lease lives for
//! so long can rely on it, through changes of the leader and with any legal clock; and a lease that nobody
//! renews goes.
//!
//! Source: invariant 11 of the simulation's list; etcd 4.1 to 4.4.
//!
//! How it decides: a lease ran out when the log revokes it and no client asked for that. A promise is made
//! by the entry that grants it, and by each keep-alive that was answered with a time to live, counted from
//! its *call*: the leader began to count later than that. A clock that runs fast makes it short, so the
//! promise holds for as long as the fastest legal clock needs. The entry must not be committed before.
//!
//! No keep-alive may be answered with a time to live when it was called after the end of the lease.
//!
//! The other way around, in a cluster that is at rest, a lease must be gone when the slowest legal clock
//! has counted to its end since its last possible renewal, plus what an election, a look for expired
//! leases and a commit may take ([`Options::late_expiry`]).
//!
//! TimeToLive must tell no less than the promises leave, and no more than was granted and a new leader may
//! add. Where the log tells a rest (a checkpoint) and nobody has renewed the lease since, neither TimeToLive
//! nor a later checkpoint may tell more than that and what a new leader may add. Whether a lease exists at all when a keep-alive or TimeToLive is answered, and which keys it has,
//! `linearizable` says; that its keys go in one revision, the model and `watch` say.
//!
//! Steps and freezes of a clock are not in [`ClockBounds`]; where they happen, the bounds must be set so
//! wide that they cover them (a fastest clock without bound promises nothing).
//!
//! [`Options::late_expiry`]: super::Options::late_expiry
//! [`ClockBounds`]: crate::evidence::ClockBounds

use std::collections::BTreeMap;

use detcd::apply::Command;
use detcd::proto::etcdserverpb as pb;

use super::attribution::Owner;
use super::{Case, words};
use crate::evidence::Violation;
use crate::history::{Answer, Operation, Outcome, Request, Time};

const CLAIM: &str = "lease";

const SECOND: Time = 1_000_000_000;
const EXACT_PPM: u64 = 1_000_000;

/// For how long a call of which nobody has heard may still take effect: members give up earlier.
const ON_ITS_WAY: Time = 15 * SECOND;

/// A lease from its grant to its end. An id can be granted again afterwards.
struct Lease {
    id: i64,
    /// Granted time to live in seconds.
    ttl: i64,
    /// When the entry that grants it was committed.
    granted: Time,
    /// The place of the entry that ends it.
    ended: Option<usize>,
    promises: Vec<Promise>,
}

/// From `since` on the lease lives for its whole time.
struct Promise {
    since: Time,
    /// When the client knew of it.
    told: Time,
    operation: Option<usize>,
}

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let leases = leases(case);
    let mut found: Vec<Violation> = leases.iter().filter_map(|lease| early(case, lease)).collect();
    found.extend(case.evidence.operations.iter().filter_map(|operation| revived(case, &leases, operation)));
    found.extend(leases.iter().filter_map(|lease| late(case, lease)));
    found.extend(growing(case));
    for operation in &case.evidence.operations {
        if let (Request::LeaseTimeToLive(_), Outcome::Answered(Answer::LeaseTimeToLive(answer))) =
            (&operation.request, &operation.outcome)
        {
            found.extend(implausible(case, &leases, operation, answer));
            found.extend(more_than_the_rest(case, operation, answer));
        }
    }
    found
}

fn leases(case: &Case<'_>) -> Vec<Lease> {
    let mut leases: Vec<Lease> = Vec::new();
    let mut open: BTreeMap<i64, usize> = BTreeMap::new();
    for (place, position) in case.positions().iter().enumerate() {
        match (position.request.as_ref().map(|request| &request.command), &position.applied.answer) {
            (Some(Command::LeaseGrant(_)), Ok(Some(Answer::LeaseGrant(granted)))) => {
                let since = case.committed_at[place];
                let promises = vec![Promise { since, told: since, operation: None }];
                open.insert(granted.id, leases.len());
                let (id, ttl) = (granted.id, granted.ttl);
                leases.push(Lease { id, ttl, granted: since, ended: None, promises });
            }
            (Some(Command::LeaseRevoke(request)), Ok(_)) => {
                if let Some(lease) = open.remove(&request.id) {
                    leases[lease].ended = Some(place);
                }
            }
            _ => {}
        }
    }
    add_renewals(case, &mut leases);
    leases
}

/// A keep-alive that was answered with a time to live: the lease, and when it was called and answered.
fn renewal(operation: &Operation) -> Option<(i64, Time, Time)> {
    match (&operation.request, &operation.outcome) {
        (Request::LeaseKeepAlive(id), Outcome::Answered(Answer::LeaseKeepAlive(answer)))
            if answer.ttl > 0 =>
        {
            Some((*id, operation.called, operation.returned?))
        }
        _ => None,
    }
}

/// A keep-alive that renewed a lease after that had run out.
fn revived(case: &Case<'_>, leases: &[Lease], operation: &Operation) -> Option<Violation> {
    let (id, called, returned) = renewal(operation)?;
    let mut same = leases.iter().filter(|lease| lease.id == id && lease.granted <= returned);
    if same.clone().any(|lease| overlaps(case, lease, called, returned)) {
        return None;
    }
    let place = same.next_back()?.ended?;
    // Where a client ended it, it is enough to know of that when the client was answered.
    (case.attribution.owners[place] == Owner::Cluster).then(|| {
        let text = format!(
            "{} was answered, though the lease had run out by entry {}, committed at {} ns",
            words::operation(operation),
            case.positions()[place].index,
            case.committed_at[place]
        );
        Violation::new(CLAIM, text).shown_by([operation.number])
    })
}

fn add_renewals(case: &Case<'_>, leases: &mut [Lease]) {
    for operation in &case.evidence.operations {
        let Some((id, since, told)) = renewal(operation) else { continue };
        let mut alive =
            leases.iter_mut().filter(|lease| lease.id == id && overlaps(case, lease, since, told));
        // When the id was granted anew in between, nobody knows which one was renewed.
        if let (Some(lease), None) = (alive.next(), alive.next()) {
            lease.promises.push(Promise { since, told, operation: Some(operation.number) });
        }
    }
}

/// Whether the lease can have lived at some moment of a call.
fn overlaps(case: &Case<'_>, lease: &Lease, called: Time, returned: Time) -> bool {
    lease.granted <= returned && lease.ended.is_none_or(|place| case.committed_at[place] >= called)
}

/// How long the fastest legal clock needs for so many nanoseconds of its own.
fn at_least(case: &Case<'_>, nanoseconds: Time) -> Time {
    scale(nanoseconds, EXACT_PPM, case.evidence.clocks.fastest_ppm)
}

/// How long the slowest one needs; none when it may stand still.
fn at_most(case: &Case<'_>, nanoseconds: Time) -> Option<Time> {
    let slowest = case.evidence.clocks.slowest_ppm;
    (slowest > 0).then(|| scale(nanoseconds, EXACT_PPM, slowest))
}

fn scale(value: Time, times: u64, by: u64) -> Time {
    let scaled = u128::from(value) * u128::from(times) / u128::from(by.max(1));
    Time::try_from(scaled).unwrap_or(Time::MAX)
}

fn nanoseconds(seconds: i64) -> Time {
    Time::try_from(seconds).unwrap_or(0).saturating_mul(SECOND)
}

fn early(case: &Case<'_>, lease: &Lease) -> Option<Violation> {
    let place = lease.ended?;
    if case.attribution.owners[place] != Owner::Cluster || case.options.unrecorded_clients {
        return None;
    }
    let ended = case.committed_at[place];
    let lives = at_least(case, nanoseconds(lease.ttl));
    let made_before = lease.promises.iter().filter(|promise| promise.since <= ended);
    let last = made_before.max_by_key(|promise| promise.since)?;
    if ended >= last.since.saturating_add(lives) {
        return None;
    }
    let promised = match last.operation {
        Some(number) => format!("operation {number}, called at {} ns, was promised", last.since),
        None => format!("it was granted at {} ns for", last.since),
    };
    let text = format!(
        "lease {} ran out by entry {}, committed at {ended} ns, but {promised} {} s",
        lease.id,
        case.positions()[place].index,
        lease.ttl
    );
    Some(Violation::new(CLAIM, text).shown_by(last.operation))
}

fn late(case: &Case<'_>, lease: &Lease) -> Option<Violation> {
    let healed = case.options.healed?;
    let end = lease.ended.map_or(case.options.ended, |place| case.committed_at[place]);
    let renewed = case.evidence.operations.iter().filter(|operation| {
        matches!(&operation.request, Request::LeaseKeepAlive(id) if *id == lease.id)
            && operation.called <= end
    });
    let slack = case.options.late_expiry;
    let last_renewal = renewed.map(|operation| match (&operation.outcome, operation.returned) {
        // What nobody heard of may still be on its way for as long as a call may take.
        (Outcome::Unknown(_) | Outcome::Open, returned) => {
            returned.unwrap_or(case.options.ended).saturating_add(slack)
        }
        (_, returned) => returned.unwrap_or(case.options.ended),
    });
    let since = last_renewal.max().unwrap_or(0).max(lease.granted).max(healed);
    let lives = at_most(case, nanoseconds(lease.ttl))?;
    let limit = since.saturating_add(lives).saturating_add(slack);
    (end > limit).then(|| {
        let text = format!(
            "lease {} of {} s was granted at {} ns and last renewed, or the cluster healed, at {since} ns; it was \
             still there at {end} ns",
            lease.id, lease.ttl, lease.granted
        );
        Violation::new(CLAIM, text)
    })
}

/// What a TimeToLive tells of a lease that exists.
fn implausible(
    case: &Case<'_>,
    leases: &[Lease],
    operation: &Operation,
    answer: &pb::LeaseTimeToLiveResponse,
) -> Option<Violation> {
    let returned = operation.returned?;
    if answer.ttl < 0 {
        return None;
    }
    let what = words::operation(operation);
    let most = answer.granted_ttl.saturating_add(case.options.lease_extension.div_ceil(SECOND) as i64);
    if answer.ttl > most {
        let text =
            format!("{what} was told {} s of a lease granted for {} s", answer.ttl, answer.granted_ttl);
        return Some(Violation::new(CLAIM, text).shown_by([operation.number]));
    }
    let mut alive = leases
        .iter()
        .filter(|lease| lease.id == answer.id && overlaps(case, lease, operation.called, returned));
    let (Some(lease), None) = (alive.next(), alive.next()) else { return None };
    let known = lease.promises.iter().filter(|promise| promise.told < operation.called);
    let last = known.max_by_key(|promise| promise.since)?;
    let counted = scale(returned - last.since, case.evidence.clocks.fastest_ppm, EXACT_PPM);
    let least = nanoseconds(lease.ttl).saturating_sub(counted) / SECOND;
    (answer.ttl < least as i64).then(|| {
        let text = format!(
            "{what} was told {} s at {returned} ns, but {} s were promised at {} ns: {least} s are left at least",
            answer.ttl, lease.ttl, last.since
        );
        Violation::new(CLAIM, text).shown_by(last.operation.into_iter().chain([operation.number]))
    })
}

/// What the log said last of the rest of a lease.
#[derive(Clone, Copy)]
struct Rest {
    place: usize,
    /// Granted seconds.
    ttl: i64,
    /// Seconds that are left; all of them until the log says something else.
    left: i64,
}

/// Walks over what the log says of the rests of leases: a rest never grows but by what a new leader may add,
/// unless somebody renews the lease.
fn growing(case: &Case<'_>) -> Vec<Violation> {
    let mut rests: BTreeMap<i64, Rest> = BTreeMap::new();
    let mut found = Vec::new();
    for (place, position) in case.positions().iter().enumerate() {
        match (position.request.as_ref().map(|request| &request.command), &position.applied.answer) {
            (Some(Command::LeaseGrant(_)), Ok(Some(Answer::LeaseGrant(granted)))) => {
                rests.insert(granted.id, Rest { place, ttl: granted.ttl, left: granted.ttl });
            }
            (Some(Command::LeaseCheckpoint(request)), _) => {
                for checkpoint in &request.checkpoints {
                    let Some(rest) = rests.get_mut(&checkpoint.id) else { continue };
                    let left = match checkpoint.remaining_ttl {
                        1.. => checkpoint.remaining_ttl,
                        _ => rest.ttl,
                    };
                    let at = case.committed_at[place];
                    if left > most(case, rest) && !may_be_renewed(case, checkpoint.id, rest, at) {
                        let text = format!(
                            "entry {} leaves {left} s of lease {}, entry {} before it left {} s, and nobody \
                             renewed it in between",
                            position.index,
                            checkpoint.id,
                            case.positions()[rest.place].index,
                            rest.left
                        );
                        found.push(Violation::new(CLAIM, text));
                    }
                    (rest.place, rest.left) = (place, left);
                }
            }
            _ => {}
        }
    }
    found
}

/// The most that can be left of a lease that nobody renews.
fn most(case: &Case<'_>, rest: &Rest) -> i64 {
    rest.left.saturating_add(case.options.lease_extension.div_ceil(SECOND) as i64)
}

/// Whether somebody may have renewed a lease since the log told its rest: by a call that ended after that and
/// began before `until`. One of which nobody has heard may have been on its way for a while.
fn may_be_renewed(case: &Case<'_>, id: i64, rest: &Rest, until: Time) -> bool {
    let told_at = case.committed_at[rest.place];
    case.evidence.operations.iter().any(|other| {
        matches!(&other.request, Request::LeaseKeepAlive(kept) if *kept == id)
            && other.called <= until
            && match other.outcome {
                Outcome::Answered(_) | Outcome::Failed(_) if !case.options.repeated_messages => {
                    other.returned.is_none_or(|heard| heard >= told_at)
                }
                // What one member asked the other may arrive once more, also behind the answer.
                _ => other.called.saturating_add(ON_ITS_WAY) >= told_at,
            }
    })
}

/// A time to live beyond the rest that the log tells.
fn more_than_the_rest(
    case: &Case<'_>,
    operation: &Operation,
    answer: &pb::LeaseTimeToLiveResponse,
) -> Option<Violation> {
    let returned = operation.returned?;
    let (known, seen) = (case.known_by(operation.called), case.known_by(returned));
    let rest = last_rest(case, answer.id, seen)?;
    let is_too_much = answer.ttl > most(case, &rest);
    let is_known = rest.place <= known && rest.left < answer.granted_ttl;
    (is_too_much && is_known && !may_be_renewed(case, answer.id, &rest, returned)).then(|| {
        let text = format!(
            "{} was told {} s, but entry {} of the log left {} s, and nobody renewed the lease since",
            words::operation(operation),
            answer.ttl,
            case.positions()[rest.place].index,
            rest.left
        );
        Violation::new(CLAIM, text).shown_by([operation.number])
    })
}

/// What the log said last of the rest of a lease, up to a place. None when it said nothing since the grant.
fn last_rest(case: &Case<'_>, id: i64, until: usize) -> Option<Rest> {
    for place in (0..=until).rev() {
        match case.positions()[place].request.as_ref().map(|request| &request.command) {
            Some(Command::LeaseCheckpoint(request)) => {
                let told = request.checkpoints.iter().rev().find(|checkpoint| checkpoint.id == id);
                if let Some(told) = told {
                    let left = if told.remaining_ttl > 0 { told.remaining_ttl } else { i64::MAX };
                    return Some(Rest { place, ttl: left, left });
                }
            }
            Some(Command::LeaseGrant(grant)) if grant.id == id => return None,
            _ => {}
        }
    }
    None
}
