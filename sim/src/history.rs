//! What clients saw: every call with the time it began and ended, and every word of a watch stream or of an
//! observed election.
//!
//! Times are nanoseconds of the simulated world, which all clients share. Messages are the API's own, as
//! they came off the wire: a checker sees what a client would see, header fields included.

use bytes::Bytes;
use detcd::proto::EncodedEvent;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::{v3electionpb as election, v3lockpb as lock};

/// Nanoseconds since the world began.
pub type Time = u64;

/// The number of a member, from 1. It is `m1` by name.
pub type MemberNumber = u8;

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its number in the history, from 0.
    pub number: usize,
    /// The client. One client's calls never overlap.
    pub client: u32,
    /// The member that was asked.
    pub member: MemberNumber,
    /// When the call began.
    pub called: Time,
    /// When the client heard of its outcome; none while it is open.
    pub returned: Option<Time>,
    /// What was asked.
    pub request: Request,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Request {
    Put(pb::PutRequest),
    Range(pb::RangeRequest),
    /// The same question by `RangeStream`; the answer is put together from its chunks.
    RangeStream(pb::RangeRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// One keep-alive, by id.
    LeaseKeepAlive(i64),
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    LeaseLeases,
    HashKv(pb::HashKvRequest),
    Status,
    MemberList(pb::MemberListRequest),
    MoveLeader(pb::MoveLeaderRequest),
    Alarm(pb::AlarmRequest),
    Lock(lock::LockRequest),
    Unlock(lock::UnlockRequest),
    Campaign(election::CampaignRequest),
    Proclaim(election::ProclaimRequest),
    Leader(election::LeaderRequest),
    Resign(election::ResignRequest),
}

/// What a client hears. Same order as [`Request`].
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Answer {
    Put(pb::PutResponse),
    /// Of `Range` and `RangeStream`.
    Range(pb::RangeResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    LeaseKeepAlive(pb::LeaseKeepAliveResponse),
    LeaseTimeToLive(pb::LeaseTimeToLiveResponse),
    LeaseLeases(pb::LeaseLeasesResponse),
    HashKv(pb::HashKvResponse),
    Status(pb::StatusResponse),
    MemberList(pb::MemberListResponse),
    MoveLeader(pb::MoveLeaderResponse),
    Alarm(pb::AlarmResponse),
    Lock(lock::LockResponse),
    Unlock(lock::UnlockResponse),
    Campaign(election::CampaignResponse),
    Proclaim(election::ProclaimResponse),
    Leader(election::LeaderResponse),
    Resign(election::ResignResponse),
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The client is still waiting.
    Open,
    /// It was answered.
    Answered(Answer),
    /// It failed, and certainly had no effect.
    Failed(Failure),
    /// It failed in a way that leaves open whether it has taken or will yet take effect: a time-out, a
    /// lost connection, a member that stopped.
    Unknown(Failure),
}

/// A gRPC status.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Its code by number.
    pub code: i32,
    /// Its text.
    pub message: String,
}

/// One watch stream of one client on one member, from its opening to its end.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its number in the history, from 0.
    pub number: usize,
    /// The client.
    pub client: u32,
    /// The member.
    pub member: MemberNumber,
    /// What was said on it, in the order in which the client said and heard it.
    pub words: Vec<(Time, Word)>,
}

/// One word on a watch stream.
#[derive(Clone, Debug)]
pub enum Word {
    /// The client said this.
    Said(pb::WatchRequest),
    /// The server said this.
    Heard(pb::WatchResponse),
    /// The stream ended: the server ended it, or its connection broke.
    Ended(Failure),
    /// The client had enough.
    Left,
}

/// One observer of one election on one member, from its call to its end.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Its number in the history, from 0.
    pub number: usize,
    /// The client.
    pub client: u32,
    /// The member.
    pub member: MemberNumber,
    /// The election.
    pub name: Bytes,
    /// When it began.
    pub opened: Time,
    /// What it heard.
    pub words: Vec<(Time, election::LeaderResponse)>,
    /// Whether it has ended: the client left, the member ended it, or its connection broke.
    pub ended: bool,
}

/// The keys of a member's store, read at the end of a run.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The member.
    pub member: MemberNumber,
    /// The store's revision.
    pub revision: i64,
    /// The revision up to which it is compacted.
    pub compacted: i64,
    /// All live keys as a serializable range of everything gives them.
    pub everything: pb::RangeResponse,
}

/// A key as text, for people: as it is when it can be read, else in hex.
pub fn key_text(key: &Bytes) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.is_empty() && text.chars().all(|letter| !letter.is_control()) => text.to_owned(),
        _ => key.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "(hex)",
    }
}

/// The revision at which an event happened, 0 when it cannot be read.
pub fn mod_revision(event: &EncodedEvent) -> i64 {
    let kv = event.decode().ok().and_then(|event| event.kv).and_then(|kv| kv.decode().ok());
    kv.map_or(0, |kv| kv.mod_revision)
}
