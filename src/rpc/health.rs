//! `grpc.health.v1.Health`: the server as a whole serves as soon as it answers at all.

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tonic::{Request, Response, Status};

use super::Rpc;
use super::admit::Serves;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server::Health;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};

/// The name of the whole server, which is the only service that has a status.
const SERVER: &str = "";

/// The status of a service by its name.
fn serving(service: &str) -> Option<ServingStatus> {
    (service == SERVER).then_some(ServingStatus::Serving)
}

#[tonic::async_trait]
impl Health for Rpc {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        match serving(&request.into_inner().service) {
            Some(status) => Ok(Response::new(HealthCheckResponse { status: status as i32 })),
            None => Err(Status::not_found("unknown service")),
        }
    }

    async fn list(
        &self,
        request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let status = HealthCheckResponse { status: ServingStatus::Serving as i32 };
        Ok(Response::new(HealthListResponse { statuses: [(SERVER.to_owned(), status)].into() }))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// The status now; it does not change while the server lives, so the stream then stays silent until the
    /// end.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let end = self.stream_end(request.metadata());
        let status = serving(&request.into_inner().service).unwrap_or(ServingStatus::ServiceUnknown);
        let now = stream::once(async move { Ok(HealthCheckResponse { status: status as i32 }) });
        Ok(Response::new(now.chain(end.into_stream().map(Err)).boxed()))
    }
}
