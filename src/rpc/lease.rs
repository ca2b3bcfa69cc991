//! `etcdserverpb.Lease`.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status, Streaming};

use super::Rpc;
use super::admit::Serves;
use super::status::status;
use crate::apply;
use crate::member::{self, Reply};
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use crate::rt;
use crate::types::LeaseId;

impl Rpc {
    async fn ask(&self, request: member::Request) -> Result<Reply, Status> {
        self.mailbox.ask(request).await.map_err(status)
    }

    async fn renew(&self, request: LeaseKeepAliveRequest) -> Result<LeaseKeepAliveResponse, Status> {
        // The revision of the header is that from before the renewal (etcd).
        let view = self.mailbox.view();
        let header = Some(self.header(&view, view.store.revision()));
        match self.ask(member::Request::LeaseKeepAlive(LeaseId(request.id))).await? {
            Reply::LeaseKeepAlive(ttl) => Ok(LeaseKeepAliveResponse { header, id: request.id, ttl }),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(reply: &Reply) -> Status {
    Status::internal(format!("unexpected reply {reply:?}"))
}

#[tonic::async_trait]
impl Lease for Rpc {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        match self.ask(member::Request::LeaseGrant(request.into_inner())).await? {
            Reply::Applied(apply::Reply::LeaseGrant(mut response)) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        match self.ask(member::Request::LeaseRevoke(request.into_inner())).await? {
            Reply::Applied(apply::Reply::LeaseRevoke(mut response)) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    /// One answer a request, in order; an error ends the stream. Clients keep it open for as long as they
    /// live, so the member's end must end it as well.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let end = self.stream_end(request.metadata());
        let state = Some((self.clone(), request.into_inner(), end));
        let answers = stream::unfold(state, |state| async move {
            let (rpc, mut requests, mut end) = state?;
            let request = rt::select! {
                status = &mut end => Err(status),
                request = requests.next() => request?,
            };
            let answer = match request {
                Ok(request) => rpc.renew(request).await,
                Err(status) => Err(status),
            };
            let goes_on = answer.is_ok();
            Some((answer, goes_on.then_some((rpc, requests, end))))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        match self.ask(member::Request::LeaseTimeToLive(request.into_inner())).await? {
            Reply::LeaseTimeToLive(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        match self.ask(member::Request::LeaseLeases).await? {
            Reply::LeaseLeases(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }
}
