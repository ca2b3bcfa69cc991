//! Every service of the surface, found by the path of a call.
//!
//! A router for HTTP would match patterns and box once more; nine names need neither.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::Rpc;
use crate::proto::etcdserverpb::auth_server::AuthServer;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::etcdserverpb::watch_server::WatchServer;
use crate::proto::health::health_server::HealthServer;
use crate::proto::v3electionpb::election_server::ElectionServer;
use crate::proto::v3lockpb::lock_server::LockServer;

/// What a call becomes.
pub type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// The generated services, all of one [`Rpc`], as a handler of whole HTTP requests.
#[derive(Clone)]
pub struct AllServices {
    kv: KvServer<Rpc>,
    watch: WatchServer<Rpc>,
    lease: LeaseServer<Rpc>,
    cluster: ClusterServer<Rpc>,
    maintenance: MaintenanceServer<Rpc>,
    auth: AuthServer<Rpc>,
    lock: LockServer<Rpc>,
    election: ElectionServer<Rpc>,
    health: HealthServer<Rpc>,
}

impl AllServices {
    /// The services of `rpc`, with its limit on the messages that they read.
    pub fn new(rpc: &Rpc) -> Self {
        let receive = rpc.receive_limit();
        let shared = Arc::new(rpc.clone());
        macro_rules! service {
            ($server:ident) => {
                $server::from_arc(shared.clone())
                    .max_decoding_message_size(receive)
                    .max_encoding_message_size(usize::MAX)
            };
        }
        Self {
            kv: service!(KvServer),
            watch: service!(WatchServer),
            lease: service!(LeaseServer),
            cluster: service!(ClusterServer),
            maintenance: service!(MaintenanceServer),
            auth: service!(AuthServer),
            lock: service!(LockServer),
            election: service!(ElectionServer),
            health: service!(HealthServer),
        }
    }

    /// Passes a call on to its service.
    pub fn call<B>(&self, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        match service {
            "etcdserverpb.KV" => self.kv.clone().call(request),
            "etcdserverpb.Watch" => self.watch.clone().call(request),
            "etcdserverpb.Lease" => self.lease.clone().call(request),
            "etcdserverpb.Cluster" => self.cluster.clone().call(request),
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request),
            "etcdserverpb.Auth" => self.auth.clone().call(request),
            "v3lockpb.Lock" => self.lock.clone().call(request),
            "v3electionpb.Election" => self.election.clone().call(request),
            "grpc.health.v1.Health" => self.health.clone().call(request),
            unknown => {
                let status = Status::unimplemented(format!("unknown service {unknown}"));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}
