//! What the surface has and this server has not: answered with `UNIMPLEMENTED`, in words that say so.
//! The README's table lists all of it.

use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::Rpc;
use crate::proto::v3electionpb::election_server::Election;
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};
use crate::proto::v3lockpb::lock_server::Lock;
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

/// The answer of a call that is not built yet. `what` completes the sentence "... is not supported".
pub(super) fn unbuilt<T>(what: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("detcd: {what} is not supported by this version")))
}

#[tonic::async_trait]
impl Lock for Rpc {
    async fn lock(&self, _: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        unbuilt("the Lock service")
    }

    async fn unlock(&self, _: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        unbuilt("the Lock service")
    }
}

#[tonic::async_trait]
impl Election for Rpc {
    async fn campaign(&self, _: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        unbuilt("the Election service")
    }

    async fn proclaim(&self, _: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        unbuilt("the Election service")
    }

    async fn leader(&self, _: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        unbuilt("the Election service")
    }

    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;

    async fn observe(&self, _: Request<LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        unbuilt("the Election service")
    }

    async fn resign(&self, _: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        unbuilt("the Election service")
    }
}
