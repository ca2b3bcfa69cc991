//! One call over a channel: the request goes out by the generated stub, and its outcome is judged.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::cluster_client::ClusterClient;
use detcd::proto::etcdserverpb::kv_client::KvClient;
use detcd::proto::etcdserverpb::lease_client::LeaseClient;
use detcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use detcd::proto::v3electionpb::election_client::ElectionClient;
use detcd::proto::v3lockpb::lock_client::LockClient;
use detcd::rt;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

use crate::history::{Answer, Failure, MemberNumber, Outcome, Request};
use crate::model::Refusal;
use crate::world::{DirectChannel, World};

/// A client's way to one member.
#[derive(Clone)]
pub enum Channel {
    /// In process: lite runs.
    Direct(DirectChannel),
    /// gRPC over HTTP/2 on simulated sockets: full runs.
    Wire(detcd::client::Channel),
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match self {
            Channel::Direct(channel) => channel.poll_ready(cx),
            Channel::Wire(channel) => channel.poll_ready(cx),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self {
            Channel::Direct(channel) => channel.call(request),
            Channel::Wire(channel) => channel.call(request),
        }
    }
}

/// A code of gRPC: the client gave up.
const DEADLINE_EXCEEDED: i32 = 4;

/// Makes one call of a client, in one of its tasks, and waits for its outcome as long as the client's
/// patience lasts.
pub async fn call_in_time(
    world: &World,
    client: u32,
    member: MemberNumber,
    request: &Request,
    patience: Duration,
) -> Outcome {
    match rt::timeout(patience, call(world.channel(client, member), request)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Unknown(Failure {
            code: DEADLINE_EXCEEDED,
            message: format!("no answer in {} ms", patience.as_millis()),
        }),
    }
}

/// The same for whoever is no client: the call is made by a task of client 0.
pub async fn ask(world: &World, member: MemberNumber, request: &Request, patience: Duration) -> Outcome {
    let (asked, request) = (world.clone(), request.clone());
    let task = async move { call_in_time(&asked, 0, member, &request, patience).await };
    world.spawn_client(0, task).await.unwrap_or_else(|_| {
        Outcome::Unknown(Failure { code: Code::Cancelled as i32, message: "the client is gone".into() })
    })
}

/// Makes one call and says what became of it.
async fn call(channel: Channel, request: &Request) -> Outcome {
    match answer(channel, request.clone()).await {
        Ok(answer) => Outcome::Answered(answer),
        Err(status) => judge(&status),
    }
}

/// Whether a failure certainly had no effect.
pub fn judge(status: &Status) -> Outcome {
    let failure = Failure { code: status.code() as i32, message: status.message().to_owned() };
    match status.code() {
        // Other losses of data are told to nobody as an answer.
        Code::DataLoss if Refusal::heard(&failure) == Some(Refusal::Corrupt) => Outcome::Failed(failure),
        // The services of locks and elections have one code for everything.
        Code::Unknown if Refusal::heard(&failure).is_some_and(Refusal::leaves_nothing) => {
            Outcome::Failed(failure)
        }
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated => Outcome::Failed(failure),
        _ => Outcome::Unknown(failure),
    }
}

async fn answer(channel: Channel, request: Request) -> Result<Answer, Status> {
    let kv = || KvClient::new(channel.clone());
    let lease = || LeaseClient::new(channel.clone());
    let maintenance = || MaintenanceClient::new(channel.clone());
    let lock = || LockClient::new(channel.clone());
    let election = || ElectionClient::new(channel.clone());
    Ok(match request {
        Request::Put(request) => Answer::Put(kv().put(request).await?.into_inner()),
        Request::Range(request) => Answer::Range(kv().range(request).await?.into_inner()),
        Request::RangeStream(request) => Answer::Range(range_stream(kv(), request).await?),
        Request::DeleteRange(request) => Answer::DeleteRange(kv().delete_range(request).await?.into_inner()),
        Request::Txn(request) => Answer::Txn(kv().txn(request).await?.into_inner()),
        Request::Compact(request) => Answer::Compact(kv().compact(request).await?.into_inner()),
        Request::LeaseGrant(request) => Answer::LeaseGrant(lease().lease_grant(request).await?.into_inner()),
        Request::LeaseRevoke(request) => {
            Answer::LeaseRevoke(lease().lease_revoke(request).await?.into_inner())
        }
        Request::LeaseKeepAlive(id) => Answer::LeaseKeepAlive(keep_alive(lease(), id).await?),
        Request::LeaseTimeToLive(request) => {
            Answer::LeaseTimeToLive(lease().lease_time_to_live(request).await?.into_inner())
        }
        Request::LeaseLeases => {
            Answer::LeaseLeases(lease().lease_leases(pb::LeaseLeasesRequest {}).await?.into_inner())
        }
        Request::HashKv(request) => Answer::HashKv(maintenance().hash_kv(request).await?.into_inner()),
        Request::Status => Answer::Status(maintenance().status(pb::StatusRequest {}).await?.into_inner()),
        Request::MemberList(request) => {
            Answer::MemberList(ClusterClient::new(channel.clone()).member_list(request).await?.into_inner())
        }
        Request::MoveLeader(request) => {
            Answer::MoveLeader(maintenance().move_leader(request).await?.into_inner())
        }
        Request::Alarm(request) => Answer::Alarm(maintenance().alarm(request).await?.into_inner()),
        Request::Lock(request) => Answer::Lock(lock().lock(request).await?.into_inner()),
        Request::Unlock(request) => Answer::Unlock(lock().unlock(request).await?.into_inner()),
        Request::Campaign(request) => Answer::Campaign(election().campaign(request).await?.into_inner()),
        Request::Proclaim(request) => Answer::Proclaim(election().proclaim(request).await?.into_inner()),
        Request::Leader(request) => Answer::Leader(election().leader(request).await?.into_inner()),
        Request::Resign(request) => Answer::Resign(election().resign(request).await?.into_inner()),
    })
}

/// Puts the chunks of a range stream together.
async fn range_stream(
    mut client: KvClient<Channel>,
    request: pb::RangeRequest,
) -> Result<pb::RangeResponse, Status> {
    let mut chunks = client.range_stream(request).await?.into_inner();
    let mut whole = pb::RangeResponse::default();
    while let Some(chunk) = chunks.message().await? {
        let Some(mut chunk) = chunk.range_response else { continue };
        whole.kvs.append(&mut chunk.kvs);
        if chunk.header.is_some() {
            whole.header = chunk.header;
            whole.more = chunk.more;
            whole.count = chunk.count;
        }
    }
    if whole.header.is_none() {
        // The stream broke in a way that looks like its end.
        return Err(Status::unavailable("the stream ended before its last chunk"));
    }
    Ok(whole)
}

async fn keep_alive(mut client: LeaseClient<Channel>, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let requests = futures::stream::iter([pb::LeaseKeepAliveRequest { id }]);
    let mut answers = client.lease_keep_alive(requests).await?.into_inner();
    answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
}
