//! One request, free of the way it is sent on, and its answer in comparable form.
//!
//! [`Call`] says what is asked. [`Call::ask`] sends it over gRPC, `http` over the JSON gateway; both make an
//! [`Answer`] of what comes back.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use detcd::client::Channel;
use detcd::proto::etcdserverpb::auth_client::AuthClient;
use detcd::proto::etcdserverpb::cluster_client::ClusterClient;
use detcd::proto::etcdserverpb::kv_client::KvClient;
use detcd::proto::etcdserverpb::lease_client::LeaseClient;
use detcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use detcd::proto::health::HealthCheckRequest;
use detcd::proto::health::health_client::HealthClient;
use detcd::proto::v3electionpb::election_client::ElectionClient;
use detcd::proto::v3electionpb::{self, LeaderKey};
use detcd::proto::v3lockpb::lock_client::LockClient;
use detcd::proto::{EncodedKeyValue, etcdserverpb as pb, v3lockpb};
use futures::stream;
use tonic::{Response, Status, Streaming};

use crate::normal::{Identity, Normal};

/// What an answer may take on a busy machine. One that takes longer never comes.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub enum Call {
    Range(pb::RangeRequest),
    RangeStream(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// All on one stream.
    LeaseKeepAlive(Vec<pb::LeaseKeepAliveRequest>),
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    LeaseLeases,
    MemberList(pb::MemberListRequest),
    MemberAdd(pb::MemberAddRequest),
    MemberRemove(pb::MemberRemoveRequest),
    MemberUpdate(pb::MemberUpdateRequest),
    MemberPromote(pb::MemberPromoteRequest),
    Alarm(pb::AlarmRequest),
    Status,
    HashKv(pb::HashKvRequest),
    Hash,
    MoveLeader(pb::MoveLeaderRequest),
    AuthStatus,
    Lock(v3lockpb::LockRequest),
    Unlock(Bytes),
    Campaign(v3electionpb::CampaignRequest),
    Proclaim(Option<LeaderKey>, Bytes),
    Resign(Option<LeaderKey>),
    Leader(Bytes),
    Health(String),
}

/// What begins a line that no server said. Two servers that both do not answer are not alike.
pub const SILENCE: &str = "nothing: ";

/// What a server said, message by message, in text without what may differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub lines: Vec<String>,
    /// The store's revision, if the last message says it.
    pub revision: Option<i64>,
    /// Whether it was no error.
    pub is_ok: bool,
}

impl Answer {
    fn failure(status: &Status, of: &Identity) -> Self {
        let details = if status.details().is_empty() { "" } else { ", with details" };
        let line = format!("{:?}: {}{details}", status.code(), of.text(status.message()));
        Self { lines: vec![line], revision: None, is_ok: false }
    }

    /// In place of an answer.
    pub fn silence(why: &str) -> Self {
        Self { lines: vec![format!("{SILENCE}{why}")], ..Self::default() }
    }

    /// Whether the server said that this is not built.
    pub fn is_unbuilt(&self) -> bool {
        let is_so = |line: &str| {
            line.starts_with("Unimplemented: detcd: ")
                || (line.starts_with("HTTP 501: ") && line.contains("\"message\":\"detcd: "))
        };
        matches!(&self.lines[..], [line] if is_so(line))
    }
}

/// Puts a message into an answer.
pub fn message<M: Normal>(mut message: M, of: &mut Identity) -> Answer {
    message.normalise(of);
    Answer { lines: vec![format!("{message:?}")], revision: message.revision(), is_ok: true }
}

fn unary<M: Normal>(result: Result<Response<M>, Status>, of: &mut Identity) -> Answer {
    match result {
        Ok(response) => message(response.into_inner(), of),
        Err(status) => Answer::failure(&status, of),
    }
}

impl Call {
    /// The method's name, without its service.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Range(..) => "Range",
            Self::RangeStream(..) => "RangeStream",
            Self::Put(..) => "Put",
            Self::DeleteRange(..) => "DeleteRange",
            Self::Txn(..) => "Txn",
            Self::Compact(..) => "Compact",
            Self::LeaseGrant(..) => "LeaseGrant",
            Self::LeaseRevoke(..) => "LeaseRevoke",
            Self::LeaseKeepAlive(..) => "LeaseKeepAlive",
            Self::LeaseTimeToLive(..) => "LeaseTimeToLive",
            Self::LeaseLeases => "LeaseLeases",
            Self::MemberList(..) => "MemberList",
            Self::MemberAdd(..) => "MemberAdd",
            Self::MemberRemove(..) => "MemberRemove",
            Self::MemberUpdate(..) => "MemberUpdate",
            Self::MemberPromote(..) => "MemberPromote",
            Self::Alarm(..) => "Alarm",
            Self::Status => "Status",
            Self::HashKv(..) => "HashKv",
            Self::Hash => "Hash",
            Self::MoveLeader(..) => "MoveLeader",
            Self::AuthStatus => "AuthStatus",
            Self::Lock(..) => "Lock",
            Self::Unlock(..) => "Unlock",
            Self::Campaign(..) => "Campaign",
            Self::Proclaim(..) => "Proclaim",
            Self::Resign(..) => "Resign",
            Self::Leader(..) => "Leader",
            Self::Health(..) => "Health",
        }
    }

    /// Sends the call to a server and waits for all of its answer.
    pub async fn ask(self, channel: &Channel, of: &mut Identity) -> Answer {
        let name = self.name();
        match tokio::time::timeout(PATIENCE, self.send(channel.clone(), of)).await {
            Ok(answer) => answer,
            Err(_) => Answer::silence(&format!("no answer to {name}")),
        }
    }

    async fn send(self, channel: Channel, of: &mut Identity) -> Answer {
        let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let mut lease = LeaseClient::new(channel.clone());
        let mut cluster = ClusterClient::new(channel.clone());
        let mut maintenance = MaintenanceClient::new(channel.clone());
        let mut lock = LockClient::new(channel.clone());
        let mut election = ElectionClient::new(channel.clone());
        match self {
            Self::Range(request) => unary(kv.range(request).await, of),
            Self::RangeStream(request) => match kv.range_stream(request).await {
                Ok(response) => range_chunks(response.into_inner(), of).await,
                Err(status) => Answer::failure(&status, of),
            },
            Self::Put(request) => unary(kv.put(request).await, of),
            Self::DeleteRange(request) => unary(kv.delete_range(request).await, of),
            Self::Txn(request) => unary(kv.txn(request).await, of),
            Self::Compact(request) => unary(kv.compact(request).await, of),
            Self::LeaseGrant(request) => unary(lease.lease_grant(request).await, of),
            Self::LeaseRevoke(request) => unary(lease.lease_revoke(request).await, of),
            Self::LeaseKeepAlive(requests) => match lease.lease_keep_alive(stream::iter(requests)).await {
                Ok(response) => messages(response.into_inner(), of).await,
                Err(status) => Answer::failure(&status, of),
            },
            Self::LeaseTimeToLive(request) => unary(lease.lease_time_to_live(request).await, of),
            Self::LeaseLeases => unary(lease.lease_leases(pb::LeaseLeasesRequest {}).await, of),
            Self::MemberList(request) => unary(cluster.member_list(request).await, of),
            Self::MemberAdd(request) => unary(cluster.member_add(request).await, of),
            Self::MemberRemove(request) => unary(cluster.member_remove(request).await, of),
            Self::MemberUpdate(request) => unary(cluster.member_update(request).await, of),
            Self::MemberPromote(request) => unary(cluster.member_promote(request).await, of),
            Self::Alarm(request) => unary(maintenance.alarm(request).await, of),
            Self::Status => unary(maintenance.status(pb::StatusRequest {}).await, of),
            Self::HashKv(request) => unary(maintenance.hash_kv(request).await, of),
            Self::Hash => unary(maintenance.hash(pb::HashRequest {}).await, of),
            Self::MoveLeader(request) => unary(maintenance.move_leader(request).await, of),
            Self::AuthStatus => {
                unary(AuthClient::new(channel).auth_status(pb::AuthStatusRequest {}).await, of)
            }
            Self::Lock(request) => unary(lock.lock(request).await, of),
            Self::Unlock(key) => unary(lock.unlock(v3lockpb::UnlockRequest { key }).await, of),
            Self::Campaign(request) => unary(election.campaign(request).await, of),
            Self::Proclaim(leader, value) => {
                unary(election.proclaim(v3electionpb::ProclaimRequest { leader, value }).await, of)
            }
            Self::Resign(leader) => unary(election.resign(v3electionpb::ResignRequest { leader }).await, of),
            Self::Leader(name) => unary(election.leader(v3electionpb::LeaderRequest { name }).await, of),
            Self::Health(service) => {
                unary(HealthClient::new(channel).check(HealthCheckRequest { service }).await, of)
            }
        }
    }
}

/// All messages of a stream, and how it ended.
async fn messages<M: Normal>(mut stream: Streaming<M>, of: &mut Identity) -> Answer {
    let mut answer = Answer { is_ok: true, ..Answer::default() };
    loop {
        let more = match stream.message().await {
            Ok(Some(next)) => message(next, of),
            Ok(None) => return answer,
            Err(status) => Answer::failure(&status, of),
        };
        answer.lines.extend(more.lines);
        answer.revision = more.revision.or(answer.revision);
        if !more.is_ok {
            return Answer { is_ok: false, ..answer };
        }
    }
}

/// The chunks of a range stream as one range. Where the chunks are cut is the server's choice; that the
/// last one alone says more than records is not, so a chunk that does is named.
async fn range_chunks(mut stream: Streaming<pb::RangeStreamResponse>, of: &mut Identity) -> Answer {
    let mut records: Vec<EncodedKeyValue> = Vec::new();
    let mut last: Option<pb::RangeResponse> = None;
    let mut lines = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(chunk)) => {
                if let Some(early) = &last
                    && (early.header.is_some() || early.more || early.count != 0)
                {
                    lines.push(format!("an early chunk says {early:?}"));
                }
                let Some(mut chunk) = chunk.range_response else {
                    lines.push("a chunk without a range".to_owned());
                    continue;
                };
                records.append(&mut chunk.kvs);
                last = Some(chunk);
            }
            Ok(None) => break,
            Err(status) => {
                lines.push(format!("after {} records", records.len()));
                lines.extend(Answer::failure(&status, of).lines);
                return Answer { lines, ..Answer::default() };
            }
        }
    }
    let Some(range) = last else {
        lines.push("no chunk".to_owned());
        return Answer { lines, ..Answer::default() };
    };
    let mut answer = message(pb::RangeResponse { kvs: records, ..range }, of);
    answer.lines.splice(0..0, lines);
    answer
}
