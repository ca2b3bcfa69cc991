//! Whether an answer to a read is right for one state of the store.
//!
//! This is no claim: which state it may be says the claim that asks. Three do: `linearizable`,
//! `serializable` and `black_box`.

use std::collections::{BTreeMap, BTreeSet};

use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::alarm_request::AlarmAction;
use detcd::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use detcd::proto::v3electionpb::{LeaderRequest, LeaderResponse};

use crate::history::{Answer, Operation, Outcome, Request};
use crate::model::{self, Moment, Position, Refusal, Store};

/// How an operation meets the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It goes through the log.
    Logged,
    /// It reads what is newest: everything that was acknowledged before it began.
    Linearizable,
    /// It reads what its member has.
    Serializable,
    /// It is not about the state that the model has.
    Other,
}

/// How this request meets the state.
pub(super) fn manner(request: &Request) -> Manner {
    match request {
        Request::Range(range) | Request::RangeStream(range) if range.serializable => Manner::Serializable,
        Request::Range(_) | Request::RangeStream(_) => Manner::Linearizable,
        Request::Txn(txn) if !model::is_read_only(txn) => Manner::Logged,
        Request::Txn(txn) if model::is_serializable(txn) => Manner::Serializable,
        Request::Txn(_) => Manner::Linearizable,
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_) => Manner::Logged,
        Request::Alarm(alarm) if alarm.action() == AlarmAction::Get => Manner::Linearizable,
        Request::Alarm(_) => Manner::Logged,
        // The leader answers both, after it has made sure that it leads.
        Request::LeaseKeepAlive(_) | Request::LeaseTimeToLive(_) => Manner::Linearizable,
        Request::LeaseLeases | Request::HashKv(_) | Request::Status => Manner::Serializable,
        Request::Unlock(_) | Request::Proclaim(_) | Request::Resign(_) => Manner::Logged,
        Request::Leader(_) => Manner::Linearizable,
        // They take more than one step: `lock` and `election` say what they may be told.
        Request::Lock(_) | Request::Campaign(_) => Manner::Other,
        Request::MemberList(_) | Request::MoveLeader(_) => Manner::Other,
    }
}

/// One state of the store.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// All versions; what is younger than the moment does not count.
    pub(super) store: &'a Store,
    /// Revision and compaction.
    pub(super) moment: Moment,
    /// Leases with their granted time to live.
    pub(super) leases: &'a BTreeMap<i64, i64>,
    /// Alarms: kind, member.
    pub(super) alarms: &'a BTreeSet<(i32, u64)>,
    /// The entry that made it, where that is known.
    pub(super) index: Option<u64>,
}

impl<'a> Scene<'a> {
    /// The state at a position of the log.
    pub(super) fn at(store: &'a Store, position: &'a Position) -> Self {
        Self {
            store,
            moment: position.moment(),
            leases: &position.leases,
            alarms: &position.alarms,
            index: Some(position.index),
        }
    }

    /// The state that a store is in.
    pub(super) fn now(store: &'a Store) -> Self {
        let moment = Moment { revision: store.revision, compacted: store.compacted };
        Self { store, moment, leases: &store.leases, alarms: &store.alarms, index: None }
    }
}

/// Whether the outcome of a read is right in this state. One that failed without saying anything of the
/// state is right in any.
pub(super) fn fits(scene: &Scene<'_>, operation: &Operation) -> bool {
    let answer = match &operation.outcome {
        Outcome::Answered(answer) => answer,
        Outcome::Failed(failure) | Outcome::Unknown(failure) => {
            return Refusal::heard(failure).is_none_or(|refusal| is_refused(scene, operation, refusal));
        }
        Outcome::Open => return true,
    };
    let Moment { revision, compacted } = scene.moment;
    match (&operation.request, answer) {
        (Request::Range(request), Answer::Range(answer)) => {
            header(&answer.header) == revision && equal(range(scene, request), Answer::Range(answer.clone()))
        }
        (Request::RangeStream(request), Answer::Range(answer)) => {
            header(&answer.header) == revision
                && equal(range_stream(scene, request), Answer::Range(answer.clone()))
        }
        (Request::Txn(request), Answer::Txn(answer)) => {
            header(&answer.header) == revision
                && equal(
                    scene.store.read_txn(request, scene.moment).map(Answer::Txn),
                    Answer::Txn(answer.clone()),
                )
        }
        (Request::Alarm(request), Answer::Alarm(answer)) => {
            let wanted = |kind: i32| request.alarm == pb::AlarmType::None as i32 || kind == request.alarm;
            let raised = scene.alarms.iter().filter(|(kind, _)| wanted(*kind));
            let told = answer.alarms.iter().map(|alarm| (alarm.alarm, alarm.member_id));
            header(&answer.header) == revision && raised.copied().eq(told)
        }
        // Their headers tell of another moment: from before the renewal, or that of the asked member.
        (Request::LeaseKeepAlive(id), Answer::LeaseKeepAlive(answer)) => {
            answer.id == *id && scene.leases.get(id).copied().unwrap_or(0) == answer.ttl
        }
        (Request::LeaseTimeToLive(request), Answer::LeaseTimeToLive(answer)) => {
            answer.id == request.id && describes(scene, request, answer)
        }
        (Request::LeaseLeases, Answer::LeaseLeases(answer)) => {
            let told: BTreeSet<i64> = answer.leases.iter().map(|lease| lease.id).collect();
            header(&answer.header) == revision
                && told.len() == answer.leases.len()
                && told.iter().eq(scene.leases.keys())
        }
        (Request::Leader(request), Answer::Leader(answer)) => {
            header(&answer.header) == revision
                && equal(leader(scene, request), Answer::Leader(answer.clone()))
        }
        (Request::HashKv(request), Answer::HashKv(answer)) => {
            let asked = if request.revision <= 0 { revision } else { request.revision };
            header(&answer.header) == revision
                && answer.hash_revision == asked
                && answer.compact_revision == compacted
                && (compacted..=revision).contains(&asked)
                && scene.store.hash(asked, compacted) == answer.hash
        }
        (Request::Status, Answer::Status(answer)) => {
            header(&answer.header) == revision
                && scene.index.is_none_or(|index| index == answer.raft_applied_index)
                && alarms_in(&answer.errors).eq(scene.alarms.iter().copied())
        }
        _ => false,
    }
}

/// What a read must answer in a state, for those who want to show it; none for what is not told by an
/// answer alone.
pub(super) fn right_answer(scene: &Scene<'_>, request: &Request) -> Option<Result<Answer, Refusal>> {
    match request {
        Request::Range(request) => Some(range(scene, request)),
        Request::RangeStream(request) => Some(range_stream(scene, request)),
        Request::Txn(request) => Some(scene.store.read_txn(request, scene.moment).map(Answer::Txn)),
        Request::Leader(request) => Some(leader(scene, request)),
        _ => None,
    }
}

fn range(scene: &Scene<'_>, request: &pb::RangeRequest) -> Result<Answer, Refusal> {
    scene.store.range(request, scene.moment).map(Answer::Range)
}

fn range_stream(scene: &Scene<'_>, request: &pb::RangeRequest) -> Result<Answer, Refusal> {
    model::check_range_stream(request)?;
    let mut request = request.clone();
    if request.sort_order() == SortOrder::None {
        // It has no effect on a stream.
        request.sort_target = SortTarget::Key as i32;
    }
    range(scene, &request)
}

/// Who leads an election: whose key is the oldest in its line.
fn leader(scene: &Scene<'_>, request: &LeaderRequest) -> Result<Answer, Refusal> {
    let revision = scene.moment.revision;
    let line = scene.store.line(&request.name, revision);
    let first = line.first().ok_or(Refusal::NoElectionLeader)?;
    let header = Some(pb::ResponseHeader { revision, ..Default::default() });
    Ok(Answer::Leader(LeaderResponse { header, kv: Some((*first).into()) }))
}

fn equal(right: Result<Answer, Refusal>, heard: Answer) -> bool {
    right.is_ok_and(|right| right == without_member(heard))
}

fn is_refused(scene: &Scene<'_>, operation: &Operation, refusal: Refusal) -> bool {
    match &operation.request {
        Request::HashKv(request) => {
            let Moment { revision, compacted } = scene.moment;
            match refusal {
                Refusal::Future => request.revision > revision,
                Refusal::Compacted => request.revision > 0 && request.revision < compacted,
                _ => false,
            }
        }
        request => right_answer(scene, request) == Some(Err(refusal)),
    }
}

fn describes(
    scene: &Scene<'_>,
    request: &pb::LeaseTimeToLiveRequest,
    answer: &pb::LeaseTimeToLiveResponse,
) -> bool {
    let Some(&granted) = scene.leases.get(&request.id) else {
        return answer.ttl == -1 && answer.granted_ttl == 0 && answer.keys.is_empty();
    };
    let mut told = answer.keys.clone();
    told.sort_unstable();
    let attached = || scene.store.keys_of_lease(request.id, scene.moment.revision);
    let keys_are_right = if request.keys { told == attached() } else { told.is_empty() };
    // How much of it is left, `lease` has to say.
    answer.ttl >= 0 && answer.granted_ttl == granted && keys_are_right
}

/// The alarms among the errors of a status: kind, member; in the order of kinds and members. A member that is
/// 0 is left out of the text, as Go does it.
fn alarms_in(errors: &[String]) -> impl Iterator<Item = (i32, u64)> {
    let alarm = |error: &String| {
        let (member, kind) = error.split_once("alarm:")?;
        let member = match member.trim_end() {
            "" => 0,
            member => member.strip_prefix("memberID:")?.parse().ok()?,
        };
        Some((pb::AlarmType::from_str_name(kind)? as i32, member))
    };
    errors.iter().filter_map(alarm)
}

fn header(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |header| header.revision)
}

/// The header of any answer.
pub(super) fn header_of(answer: &Answer) -> Option<&pb::ResponseHeader> {
    match answer {
        Answer::Put(answer) => answer.header.as_ref(),
        Answer::Range(answer) => answer.header.as_ref(),
        Answer::DeleteRange(answer) => answer.header.as_ref(),
        Answer::Txn(answer) => answer.header.as_ref(),
        Answer::Compact(answer) => answer.header.as_ref(),
        Answer::LeaseGrant(answer) => answer.header.as_ref(),
        Answer::LeaseRevoke(answer) => answer.header.as_ref(),
        Answer::LeaseKeepAlive(answer) => answer.header.as_ref(),
        Answer::LeaseTimeToLive(answer) => answer.header.as_ref(),
        Answer::LeaseLeases(answer) => answer.header.as_ref(),
        Answer::HashKv(answer) => answer.header.as_ref(),
        Answer::Status(answer) => answer.header.as_ref(),
        Answer::MemberList(answer) => answer.header.as_ref(),
        Answer::MoveLeader(answer) => answer.header.as_ref(),
        Answer::Alarm(answer) => answer.header.as_ref(),
        Answer::Lock(answer) => answer.header.as_ref(),
        Answer::Unlock(answer) => answer.header.as_ref(),
        Answer::Campaign(answer) => answer.header.as_ref(),
        Answer::Proclaim(answer) => answer.header.as_ref(),
        Answer::Leader(answer) => answer.header.as_ref(),
        Answer::Resign(answer) => answer.header.as_ref(),
    }
}

/// The answer without what only the answering member knows: its header keeps the revision alone.
pub(super) fn without_member(mut answer: Answer) -> Answer {
    if let Some(header) = header_mut(&mut answer) {
        *header = pb::ResponseHeader { revision: header.revision, ..Default::default() };
    }
    answer
}

/// The header of any answer, to change it.
pub(super) fn header_mut(answer: &mut Answer) -> Option<&mut pb::ResponseHeader> {
    let header = match answer {
        Answer::Put(answer) => &mut answer.header,
        Answer::Range(answer) => &mut answer.header,
        Answer::DeleteRange(answer) => &mut answer.header,
        Answer::Txn(answer) => &mut answer.header,
        Answer::Compact(answer) => &mut answer.header,
        Answer::LeaseGrant(answer) => &mut answer.header,
        Answer::LeaseRevoke(answer) => &mut answer.header,
        Answer::LeaseKeepAlive(answer) => &mut answer.header,
        Answer::LeaseTimeToLive(answer) => &mut answer.header,
        Answer::LeaseLeases(answer) => &mut answer.header,
        Answer::HashKv(answer) => &mut answer.header,
        Answer::Status(answer) => &mut answer.header,
        Answer::MemberList(answer) => &mut answer.header,
        Answer::MoveLeader(answer) => &mut answer.header,
        Answer::Alarm(answer) => &mut answer.header,
        Answer::Lock(answer) => &mut answer.header,
        Answer::Unlock(answer) => &mut answer.header,
        Answer::Campaign(answer) => &mut answer.header,
        Answer::Proclaim(answer) => &mut answer.header,
        Answer::Leader(answer) => &mut answer.header,
        Answer::Resign(answer) => &mut answer.header,
    };
    header.as_mut()
}
