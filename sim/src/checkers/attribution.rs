//! Which entry of the log is which operation's.
//!
//! An operation and an entry belong together when the entry holds the very request of the operation, was
//! committed between its call and its answer, and does in the model what the client was told. Requests
//! are told apart by their content alone, as a client would: the ids that members give them play no part.
//!
//! Several operations may ask for the same, such as two deletes of one key. Then it is decided by time:
//! entries in the order of the log, each to the operation that was answered first of those that can have
//! it. That finds an owner for every operation whenever there is a way to.
//!
//! This is no claim. What does not fit is reported by those who make one: `once` and `linearizable`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use detcd::apply::Command;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::alarm_request::AlarmAction;
use detcd::proto::v3electionpb::{ProclaimRequest, ResignRequest};
use prost::Message;

use super::reads::without_member;
use super::{Options, steps};
use crate::evidence::Evidence;
use crate::history::{Answer, Operation, Outcome, Request, Time};
use crate::model::{self, Model, Refusal, Settings};

/// Where an operation stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere, or nobody knows: it does not go through the log, it failed, or its outcome is open.
    Nowhere,
    /// At this position, which does what the client was told.
    At(usize),
    /// The position that does what the client was told was committed after the answer only.
    Early(usize),
    /// The position that holds its request does something else.
    Different(usize),
    /// The only position that it could have is another operation's.
    Shared(usize),
    /// No position holds its request.
    Lost,
    /// Its request is wrong by itself, and it was not refused for that.
    NotRefused(Refusal),
    /// It was refused for what is not wrong with it.
    WronglyRefused(Refusal),
}

/// Whose request an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// No request, or one that only the cluster makes.
    Cluster,
    /// A step of a call to the services of locks and elections beyond its first.
    Service,
    /// An operation that was answered, or that may have happened.
    Operation(usize),
    /// It is a client's request, and no operation's that can have made it happen.
    Nobody,
}

/// See the head of the module.
pub(super) struct Attribution {
    /// By the number of the operation.
    pub(super) places: Vec<Place>,
    /// By the place of the position.
    pub(super) owners: Vec<Owner>,
}

/// What tells requests apart: kind and encoding.
pub(super) type Identity = (u8, Vec<u8>);

/// What the log must hold of an operation.
enum Expected {
    /// An entry that does this.
    Entry(Result<Answer, Refusal>),
    /// Perhaps an entry, whatever it does.
    Perhaps,
    /// No entry.
    Nothing,
    /// Whatever it holds, the outcome is wrong.
    Wrong(Place),
}

/// The operations that ask for the same, and the entries that hold it.
#[derive(Default)]
struct Group {
    entries: Vec<usize>,
    answered: Vec<(usize, Result<Answer, Refusal>)>,
    perhaps: Vec<usize>,
}

impl Attribution {
    /// Finds out.
    pub(super) fn new(evidence: &Evidence, model: &Model, options: &Options, at: &[Time]) -> Self {
        let operations = &evidence.operations;
        let mut this = Self {
            places: vec![Place::Nowhere; operations.len()],
            owners: vec![Owner::Cluster; model.positions().len()],
        };
        let mut groups: BTreeMap<Identity, Group> = BTreeMap::new();
        for (place, position) in model.positions().iter().enumerate() {
            if let Some(identity) =
                position.request.as_ref().and_then(|request| command_identity(&request.command))
            {
                this.owners[place] = Owner::Nobody;
                groups.entry(identity).or_default().entries.push(place);
            }
        }
        let mut anonymous_grants = Vec::new();
        for operation in operations {
            let Some(identity) = request_identity(operation) else { continue };
            let number = operation.number;
            match expected(operation, options) {
                Expected::Nothing => {}
                Expected::Wrong(place) => this.places[number] = place,
                // Its entry has an id that the refusal does not tell.
                Expected::Entry(Err(_)) if is_anonymous_grant(&operation.request) => {
                    anonymous_grants.push(number);
                }
                Expected::Entry(result) => {
                    groups.entry(identity).or_default().answered.push((number, result));
                }
                Expected::Perhaps if is_anonymous_grant(&operation.request) => anonymous_grants.push(number),
                Expected::Perhaps => groups.entry(identity).or_default().perhaps.push(number),
            }
        }
        for group in groups.into_values() {
            this.settle(group, operations, model, at);
        }
        this.settle_anonymous_grants(anonymous_grants, operations, model, at);
        this.clear_further_steps(operations, model, at);
        this.clear_cluster_requests(model);
        this
    }

    fn settle(&mut self, group: Group, operations: &[Operation], model: &Model, at: &[Time]) {
        let Group { entries, answered: mut unsettled, perhaps } = group;
        let mut homeless = Vec::new();
        // All that heard the same are settled together: any of them can have any of their entries.
        while let Some((_, result)) = unsettled.first().cloned() {
            let alike = |(_, other): &mut (usize, Result<Answer, Refusal>)| *other == result;
            let alike: Vec<usize> = unsettled.extract_if(.., alike).map(|(number, _)| number).collect();
            let does_so = |place: &usize| does(model, *place, &result);
            let entries: Vec<usize> = entries.iter().copied().filter(does_so).collect();
            let windows = alike.iter().map(|&number| window(&operations[number])).collect();
            let rest = self.assign(&entries, windows, at);
            homeless.extend(rest.into_iter().map(|number| (number, result.clone())));
        }
        for (number, result) in homeless {
            let place = self.misfit(&entries, &window(&operations[number]), &result, model, at);
            if let Place::Different(taken) | Place::Early(taken) = place {
                self.owners[taken] = Owner::Operation(number);
            }
            self.places[number] = place;
        }
        self.assign_perhaps(&entries, perhaps, operations, at);
    }

    /// What contradicts an operation that heard `result` and found no entry of its own.
    fn misfit(
        &self,
        entries: &[usize],
        window: &Window,
        result: &Result<Answer, Refusal>,
        model: &Model,
        at: &[Time],
    ) -> Place {
        let in_time = |place: usize| window.called <= at[place] && at[place] <= window.returned;
        let free = |place: usize| self.owners[place] == Owner::Nobody;
        let find = |wanted: &dyn Fn(usize) -> bool| entries.iter().copied().find(|&place| wanted(place));
        if let Some(place) = find(&|place| free(place) && in_time(place)) {
            Place::Different(place)
        } else if let Some(place) =
            find(&|place| free(place) && at[place] > window.returned && does(model, place, result))
        {
            Place::Early(place)
        } else if let Some(place) = find(&in_time) {
            Place::Shared(place)
        } else {
            Place::Lost
        }
    }

    /// Gives entries to operations, each at most one; the operations that got none.
    fn assign(&mut self, entries: &[usize], mut windows: Vec<Window>, at: &[Time]) -> Vec<usize> {
        windows.sort_by_key(|window| (window.called, window.number));
        let mut coming = windows.into_iter().peekable();
        let mut waiting = BinaryHeap::new();
        let mut without = Vec::new();
        for &place in entries {
            while let Some(window) = coming.next_if(|window| window.called <= at[place]) {
                waiting.push(Reverse((window.returned, window.number)));
            }
            while let Some(Reverse((returned, number))) = waiting.pop() {
                if returned < at[place] {
                    without.push(number);
                    continue;
                }
                self.owners[place] = Owner::Operation(number);
                self.places[number] = Place::At(place);
                break;
            }
        }
        without.extend(waiting.into_iter().map(|Reverse((_, number))| number));
        without.extend(coming.map(|window| window.number));
        without.sort_unstable();
        without
    }

    /// Gives the entries that are left to operations of open outcome that began before.
    fn assign_perhaps(
        &mut self,
        entries: &[usize],
        mut perhaps: Vec<usize>,
        operations: &[Operation],
        at: &[Time],
    ) {
        perhaps.sort_by_key(|&number| (operations[number].called, number));
        let mut perhaps = perhaps.into_iter().peekable();
        for &place in entries {
            if self.owners[place] == Owner::Nobody
                && let Some(number) = perhaps.next_if(|&number| operations[number].called <= at[place])
            {
                self.owners[place] = Owner::Operation(number);
            }
        }
    }

    /// A grant that leaves the id to the member, and whose outcome is open: its entry has some id.
    fn settle_anonymous_grants(
        &mut self,
        grants: Vec<usize>,
        operations: &[Operation],
        model: &Model,
        at: &[Time],
    ) {
        let mut by_ttl: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for number in grants {
            if let Request::LeaseGrant(grant) = &operations[number].request {
                by_ttl.entry(grant.ttl).or_default().push(number);
            }
        }
        for (ttl, grants) in by_ttl {
            let same = |place: &usize| match &model.positions()[*place].request {
                Some(request) => {
                    matches!(&request.command, Command::LeaseGrant(grant) if grant.ttl == ttl && grant.id > 0)
                }
                None => false,
            };
            let entries: Vec<usize> = (0..model.positions().len()).filter(same).collect();
            self.assign_perhaps(&entries, grants, operations, at);
        }
    }

    /// What a member writes for a call beyond its first step, and what nobody else asked for.
    fn clear_further_steps(&mut self, operations: &[Operation], model: &Model, at: &[Time]) {
        let is_service = |operation: &&Operation| {
            matches!(
                operation.request,
                Request::Lock(_) | Request::Campaign(_) | Request::Proclaim(_) | Request::Resign(_)
            )
        };
        let calls: Vec<&Operation> = operations.iter().filter(is_service).collect();
        for (place, position) in model.positions().iter().enumerate() {
            let (Owner::Nobody, Some(request)) = (self.owners[place], &position.request) else { continue };
            let may_be = |call: &&Operation| {
                call.called <= at[place] && steps::is_further_step(&call.request, &request.command)
            };
            if calls.iter().any(may_be) {
                self.owners[place] = Owner::Service;
            }
        }
    }

    /// What no client asked for, and members ask for by themselves.
    fn clear_cluster_requests(&mut self, model: &Model) {
        for (place, position) in model.positions().iter().enumerate() {
            let Some(request) = &position.request else { continue };
            let by_itself = match &request.command {
                // A lease that ran out.
                Command::LeaseRevoke(_) => true,
                Command::Alarm(alarm) => alarm.action() == AlarmAction::Activate,
                _ => false,
            };
            if by_itself && self.owners[place] == Owner::Nobody {
                self.owners[place] = Owner::Cluster;
            }
        }
    }
}

/// Whether the entry at a place does what a client was told.
fn does(model: &Model, place: usize, result: &Result<Answer, Refusal>) -> bool {
    match (&model.positions()[place].applied.answer, result) {
        (Ok(Some(Answer::DeleteRange(ours))), Ok(Answer::Unlock(theirs))) => ours.header == theirs.header,
        (Ok(Some(Answer::Txn(ours))), Ok(Answer::Proclaim(theirs))) => {
            ours.succeeded && ours.header == theirs.header
        }
        (Ok(Some(Answer::Txn(ours))), Ok(Answer::Resign(theirs))) => ours.header == theirs.header,
        (Ok(Some(Answer::Txn(ours))), Err(Refusal::NotElectionLeader)) => !ours.succeeded,
        (Ok(Some(ours)), Ok(theirs)) => ours == theirs,
        (Err(ours), Err(theirs)) => ours == theirs,
        _ => false,
    }
}

/// When an operation can have happened.
struct Window {
    called: Time,
    returned: Time,
    number: usize,
}

/// Whether it leaves the id of a lease to the member.
fn is_anonymous_grant(request: &Request) -> bool {
    matches!(request, Request::LeaseGrant(grant) if grant.id == 0)
}

fn window(operation: &Operation) -> Window {
    let returned = operation.returned.unwrap_or(Time::MAX);
    Window { called: operation.called, returned, number: operation.number }
}

fn expected(operation: &Operation, options: &Options) -> Expected {
    if matches!(operation.request, Request::Lock(_) | Request::Campaign(_)) {
        // What it was told says nothing of its first step: `lock` and `election` look at that.
        return Expected::Perhaps;
    }
    let flaw = flaw(&operation.request, options.settings);
    match (&operation.outcome, flaw) {
        (Outcome::Answered(_), Some(flaw)) => Expected::Wrong(Place::NotRefused(flaw)),
        (Outcome::Answered(answer), None) => Expected::Entry(Ok(without_member(answer.clone()))),
        (Outcome::Open | Outcome::Unknown(_), Some(_)) => Expected::Nothing,
        (Outcome::Open | Outcome::Unknown(_), None) => Expected::Perhaps,
        (Outcome::Failed(failure), flaw) => match Refusal::heard(failure) {
            None => Expected::Nothing,
            heard if heard == flaw => Expected::Nothing,
            Some(heard) if flaw.is_some() => Expected::Wrong(Place::WronglyRefused(heard)),
            // Refused before it went into the log; or while the alarm is raised; or carried out all the
            // same, as the first one that went over the quota.
            Some(Refusal::NoSpace) if options.small_quota => Expected::Perhaps,
            Some(
                refusal @ (Refusal::Compacted
                | Refusal::Future
                | Refusal::LeaseNotFound
                | Refusal::LeaseTooLong
                | Refusal::LeaseExists
                | Refusal::KeyNotFound
                | Refusal::NoSpace
                | Refusal::NotElectionLeader
                | Refusal::Corrupt),
            ) => Expected::Entry(Err(refusal)),
            Some(other) => Expected::Wrong(Place::WronglyRefused(other)),
        },
    }
}

/// What is wrong with a request by itself.
pub(super) fn flaw(request: &Request, settings: Settings) -> Option<Refusal> {
    match request {
        Request::Put(put) => model::check_put(put),
        Request::DeleteRange(delete) => model::check_delete(delete),
        Request::Txn(txn) => model::check_txn(txn, settings.max_txn_ops),
        Request::Range(range) => model::check_range(range),
        Request::RangeStream(range) => model::check_range_stream(range),
        Request::Proclaim(ProclaimRequest { leader: None, .. })
        | Request::Resign(ResignRequest { leader: None }) => Err(Refusal::LeaderMissing),
        _ => Ok(()),
    }
    .err()
}

/// Whether an operation goes through the log, and which request it is; none if not.
pub(super) fn request_identity(operation: &Operation) -> Option<Identity> {
    Some(match &operation.request {
        Request::Put(request) => (0, request.encode_to_vec()),
        Request::DeleteRange(request) => (1, request.encode_to_vec()),
        Request::Txn(request) if !model::is_read_only(request) => (2, request.encode_to_vec()),
        Request::Compact(request) => (3, request.encode_to_vec()),
        Request::LeaseGrant(request) => {
            let id = match &operation.outcome {
                // The member chose it.
                Outcome::Answered(Answer::LeaseGrant(answer)) if request.id == 0 => answer.id,
                _ => request.id,
            };
            (4, pb::LeaseGrantRequest { id, ttl: request.ttl }.encode_to_vec())
        }
        Request::LeaseRevoke(request) => (5, request.encode_to_vec()),
        Request::Alarm(request) if request.action() != AlarmAction::Get => (6, request.encode_to_vec()),
        request => return command_identity(&steps::first_write(request)?),
    })
}

/// Which request of a client an entry holds; none when it holds none.
pub(super) fn command_identity(command: &Command) -> Option<Identity> {
    Some(match command {
        Command::Put(request) => (0, request.encode_to_vec()),
        Command::DeleteRange(request) => (1, request.encode_to_vec()),
        Command::Txn(request) => (2, request.encode_to_vec()),
        Command::Compact(request) => (3, request.encode_to_vec()),
        Command::LeaseGrant(request) => (4, request.encode_to_vec()),
        Command::LeaseRevoke(request) => (5, request.encode_to_vec()),
        Command::Alarm(request) => (6, request.encode_to_vec()),
        Command::LeaseCheckpoint(_) | Command::MemberAttributes(_) | Command::ClusterVersion(_) => {
            return None;
        }
    })
}
