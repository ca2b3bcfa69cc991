//! `etcdserverpb.Cluster`. Members can be listed; changing them is not built yet.

use tonic::{Request, Response, Status};

use super::Rpc;
use super::admit::Serves;
use super::status::status;
use super::unbuilt::unbuilt;
use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse,
};

#[tonic::async_trait]
impl Cluster for Rpc {
    async fn member_add(&self, _: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        unbuilt("adding a member")
    }

    async fn member_remove(
        &self,
        _: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        unbuilt("removing a member")
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        unbuilt("changing a member's peer URLs")
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let view = if request.into_inner().linearizable {
            self.mailbox.linearizable_view().await.map_err(status)?
        } else {
            self.mailbox.view()
        };
        Ok(Response::new(MemberListResponse {
            // The revision stays 0 in answers about members (etcd).
            header: Some(self.header(&view, 0)),
            members: view.members.to_vec(),
        }))
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        unbuilt("promoting a learner")
    }
}
