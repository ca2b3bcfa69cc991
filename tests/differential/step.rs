//! One step of a sequence: what a script says, and the request that it means.
//!
//! A sequence is kept as lines of JSON, one step a line, in which everything that is zero or empty is left
//! out. The generator makes these types, a failure prints them, `regressions/` holds them.

use bytes::Bytes;
use detcd::proto::etcdserverpb as pb;
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::text::{Lease, Meaning, Member, Revision, Text};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Structs of which a script shows what is not zero.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $(#[serde(skip_serializing_if = "is_default")] pub $field: $type),* }
    )*};
}

words! {
    Range {
        key: Text,
        range_end: Text,
        limit: i64,
        revision: Revision,
        sort_order: i32,
        sort_target: i32,
        serializable: bool,
        keys_only: bool,
        count_only: bool,
        min_mod_revision: Revision,
        max_mod_revision: Revision,
        min_create_revision: Revision,
        max_create_revision: Revision,
    }
    Put {
        key: Text,
        value: Text,
        // So many bytes behind the value, for large ones.
        padding: usize,
        lease: Lease,
        prev_kv: bool,
        ignore_value: bool,
        ignore_lease: bool,
    }
    Delete { key: Text, range_end: Text, prev_kv: bool }
    Compare { key: Text, range_end: Text, result: i32, target: i32, constant: Option<Constant> }
    Txn { compare: Vec<Compare>, success: Vec<Operation>, failure: Vec<Operation> }
    Compact { revision: Revision, physical: bool }
    Grant { ttl: i64, id: i64 }
    TimeToLive { lease: Lease, keys: bool }
    Watch {
        stream: usize,
        key: Text,
        range_end: Text,
        start: Revision,
        filters: Vec<i32>,
        prev_kv: bool,
        progress_notify: bool,
        watch_id: i64,
        fragment: bool,
    }
    CancelWatch { stream: usize, watch_id: i64 }
    /// A call for a lock, and what becomes of it when it has to wait.
    Lock { name: Text, lease: Lease, end: Ending }
    Campaign { name: Text, lease: Lease, value: Text, end: Ending }
    Leader { name: Text, lease: Lease, behind: i64, value: Text }
    Observe { name: Text, lease: Lease }
    Alarm { action: i32, member: Member, alarm: i32 }
    MemberChange { kind: Change, member: Member, urls: Vec<String>, is_learner: bool }
}

/// The constant that a compare names, of any kind whatever its target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constant {
    Version(i64),
    Create(Revision),
    Mod(Revision),
    Value(Text),
    Lease(i64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// An operation that names nothing to do.
    Nothing,
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
}

/// How a wait for a lock or an office ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Those in front leave, one after the other.
    #[default]
    Turn,
    /// The waiter's key is deleted, then those in front leave.
    OwnKeyDeleted,
    /// The waiter's lease is revoked, then those in front leave.
    OwnLeaseRevoked,
    /// The caller goes away.
    CallerGone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    #[default]
    Add,
    Remove,
    Update,
    Promote,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// The end of a sequence and the beginning of the next.
    Next,
    /// What has a path in the JSON gateway goes there, until the end of the sequence.
    OverHttp,
    /// Both processes are killed and start again on what they have.
    Restart,
    Range(Range),
    RangeStream(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
    Compact(Compact),
    Grant(Grant),
    Revoke(Lease),
    KeepAlive(Vec<Lease>),
    TimeToLive(TimeToLive),
    Leases,
    Watch(Watch),
    CancelWatch(CancelWatch),
    /// Asks the stream of this number for its progress.
    Progress(usize),
    Lock(Lock),
    Unlock(Text),
    Campaign(Campaign),
    Proclaim(Leader),
    Resign(Leader),
    ProclaimNothing,
    ResignNothing,
    Leader(Text),
    Observe(Observe),
    Alarm(Alarm),
    Status,
    HashKv(Revision),
    Hash,
    /// Whether the list is asked for through the log.
    MemberList(bool),
    MemberChange(MemberChange),
    MoveLeader(Member),
    AuthStatus,
    /// The health of a service.
    Health(String),
}

impl Step {
    /// The request that the step means, when it is one request and its answer.
    pub fn call(&self, meaning: &Meaning) -> Option<Call> {
        Some(match self {
            Self::Range(range) => Call::Range(range.request(meaning)),
            Self::RangeStream(range) => Call::RangeStream(range.request(meaning)),
            Self::Put(put) => Call::Put(put.request(meaning)),
            Self::Delete(delete) => Call::DeleteRange(delete.request()),
            Self::Txn(txn) => Call::Txn(txn.request(meaning)),
            Self::Compact(compact) => Call::Compact(pb::CompactionRequest {
                revision: meaning.revision(compact.revision),
                physical: compact.physical,
            }),
            Self::Grant(grant) => Call::LeaseGrant(pb::LeaseGrantRequest { ttl: grant.ttl, id: grant.id }),
            Self::Revoke(lease) => Call::LeaseRevoke(pb::LeaseRevokeRequest { id: meaning.lease(*lease) }),
            Self::KeepAlive(leases) => {
                let request = |lease: &Lease| pb::LeaseKeepAliveRequest { id: meaning.lease(*lease) };
                Call::LeaseKeepAlive(leases.iter().map(request).collect())
            }
            Self::TimeToLive(asked) => Call::LeaseTimeToLive(pb::LeaseTimeToLiveRequest {
                id: meaning.lease(asked.lease),
                keys: asked.keys,
            }),
            Self::Leases => Call::LeaseLeases,
            Self::Unlock(key) => Call::Unlock(key.bytes()),
            Self::ProclaimNothing => Call::Proclaim(None, Bytes::new()),
            Self::ResignNothing => Call::Resign(None),
            Self::Leader(name) => Call::Leader(name.bytes()),
            Self::Alarm(alarm) => Call::Alarm(pb::AlarmRequest {
                action: alarm.action,
                member_id: meaning.member(alarm.member),
                alarm: alarm.alarm,
            }),
            Self::Status => Call::Status,
            Self::HashKv(revision) => {
                Call::HashKv(pb::HashKvRequest { revision: meaning.revision(*revision) })
            }
            Self::Hash => Call::Hash,
            Self::MemberList(linearizable) => {
                Call::MemberList(pb::MemberListRequest { linearizable: *linearizable })
            }
            Self::MemberChange(change) => change.call(meaning),
            Self::MoveLeader(member) => {
                Call::MoveLeader(pb::MoveLeaderRequest { target_id: meaning.member(*member) })
            }
            Self::AuthStatus => Call::AuthStatus,
            Self::Health(service) => Call::Health(service.clone()),
            Self::Next
            | Self::OverHttp
            | Self::Restart
            | Self::Watch(_)
            | Self::CancelWatch(_)
            | Self::Progress(_)
            | Self::Lock(_)
            | Self::Campaign(_)
            | Self::Proclaim(_)
            | Self::Resign(_)
            | Self::Observe(_) => return None,
        })
    }
}

impl Range {
    fn request(&self, meaning: &Meaning) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.key.bytes(),
            range_end: self.range_end.bytes(),
            limit: self.limit,
            revision: meaning.revision(self.revision),
            sort_order: self.sort_order,
            sort_target: self.sort_target,
            serializable: self.serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: meaning.revision(self.min_mod_revision),
            max_mod_revision: meaning.revision(self.max_mod_revision),
            min_create_revision: meaning.revision(self.min_create_revision),
            max_create_revision: meaning.revision(self.max_create_revision),
        }
    }
}

impl Put {
    fn request(&self, meaning: &Meaning) -> pb::PutRequest {
        let mut value = self.value.0.clone();
        value.resize(value.len() + self.padding, b'-');
        pb::PutRequest {
            key: self.key.bytes(),
            value: value.into(),
            lease: meaning.lease(self.lease),
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        }
    }
}

impl Delete {
    fn request(&self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: self.key.bytes(),
            range_end: self.range_end.bytes(),
            prev_kv: self.prev_kv,
        }
    }
}

impl Compare {
    fn request(&self, meaning: &Meaning) -> pb::Compare {
        use pb::compare::TargetUnion;
        let union = self.constant.as_ref().map(|constant| match constant {
            Constant::Version(number) => TargetUnion::Version(*number),
            Constant::Create(revision) => TargetUnion::CreateRevision(meaning.revision(*revision)),
            Constant::Mod(revision) => TargetUnion::ModRevision(meaning.revision(*revision)),
            Constant::Value(value) => TargetUnion::Value(value.bytes()),
            Constant::Lease(id) => TargetUnion::Lease(*id),
        });
        pb::Compare {
            result: self.result,
            target: self.target,
            key: self.key.bytes(),
            range_end: self.range_end.bytes(),
            target_union: union,
        }
    }
}

impl Txn {
    fn request(&self, meaning: &Meaning) -> pb::TxnRequest {
        let operations =
            |operations: &[Operation]| operations.iter().map(|each| each.request(meaning)).collect();
        pb::TxnRequest {
            compare: self.compare.iter().map(|compare| compare.request(meaning)).collect(),
            success: operations(&self.success),
            failure: operations(&self.failure),
        }
    }
}

impl Operation {
    fn request(&self, meaning: &Meaning) -> pb::RequestOp {
        use pb::request_op::Request;
        let request = match self {
            Self::Nothing => None,
            Self::Range(range) => Some(Request::RequestRange(range.request(meaning))),
            Self::Put(put) => Some(Request::RequestPut(put.request(meaning))),
            Self::Delete(delete) => Some(Request::RequestDeleteRange(delete.request())),
            Self::Txn(txn) => Some(Request::RequestTxn(txn.request(meaning))),
        };
        pb::RequestOp { request }
    }
}

impl MemberChange {
    fn call(&self, meaning: &Meaning) -> Call {
        let (id, peer_ur_ls) = (meaning.member(self.member), self.urls.clone());
        match self.kind {
            Change::Add => Call::MemberAdd(pb::MemberAddRequest { peer_ur_ls, is_learner: self.is_learner }),
            Change::Remove => Call::MemberRemove(pb::MemberRemoveRequest { id }),
            Change::Update => Call::MemberUpdate(pb::MemberUpdateRequest { id, peer_ur_ls }),
            Change::Promote => Call::MemberPromote(pb::MemberPromoteRequest { id }),
        }
    }
}

impl Watch {
    /// The request to create the watcher.
    pub fn request(&self, meaning: &Meaning) -> pb::WatchCreateRequest {
        pb::WatchCreateRequest {
            key: self.key.bytes(),
            range_end: self.range_end.bytes(),
            start_revision: meaning.revision(self.start),
            progress_notify: self.progress_notify,
            filters: self.filters.clone(),
            prev_kv: self.prev_kv,
            watch_id: self.watch_id,
            fragment: self.fragment,
        }
    }
}

/// A sequence as lines of JSON.
pub fn write(steps: &[Step]) -> String {
    let line = |step| serde_json::to_string(step).expect("a step has a JSON form");
    steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Reads lines of JSON; lines that begin with `//` and empty ones are for the reader.
///
/// # Errors
/// With the number of the first line that is no step.
pub fn read(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if !line.is_empty() && !line.starts_with("//") {
            let step = serde_json::from_str(line);
            steps.push(step.map_err(|error| format!("line {}: {error}: {line}", number + 1))?);
        }
    }
    Ok(steps)
}
