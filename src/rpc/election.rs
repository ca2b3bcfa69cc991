//! `v3electionpb.Election`: whoever came first of those who are in its line leads (see `waiting`), and the
//! value of its key is its word.

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

use super::Rpc;
use super::admit::Serves;
use super::observe::Observer;
use super::waiting::{Line, deletion, if_created, record_in};
use crate::proto::etcdserverpb::request_op::Request as Operation;
use crate::proto::etcdserverpb::{PutRequest, ResponseHeader};
use crate::proto::v3electionpb::election_server::Election;
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use crate::rt;

// What etcd says to who has no right to ask.
const NO_LEADER: &str = "election: no leader";
const NOT_LEADER: &str = "election: not leader";
const LEADER_MISSING: &str = "\"leader\" field must be provided";

impl Rpc {
    /// Gives a key of this creation another value and another lease.
    async fn write_word(
        &self,
        key: Bytes,
        created: i64,
        value: Bytes,
        lease: i64,
    ) -> Result<Option<ResponseHeader>, Status> {
        let write = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
        let response = self.commit(if_created(key, created, Operation::RequestPut(write))).await?;
        if response.succeeded { Ok(response.header) } else { Err(Status::unknown(NOT_LEADER)) }
    }
}

/// The leader that a request must name.
fn named(leader: Option<LeaderKey>) -> Result<LeaderKey, Status> {
    leader.ok_or_else(|| Status::unknown(LEADER_MISSING))
}

#[tonic::async_trait]
impl Election for Rpc {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let CampaignRequest { name, lease, value } = request.into_inner();
        let lease = self.session_lease(lease).await?;
        let line = Line::of(&name);
        let (mut place, stood) = self.stand_in_line(&line, lease, value.clone(), None).await?;
        if !stood.succeeded && record_in(stood.responses.first())?.value != value {
            let written = self.write_word(place.key.clone(), place.created, value, lease).await;
            if let Err(status) = written {
                place.leave().await;
                return Err(status);
            }
        }
        if let Err(status) = self.wait_for_turn(&line, &mut place).await {
            // A candidate that meets an error stays in line for its next try (etcd), unless nobody here is
            // left to wait for.
            if self.mailbox.stopping().is_triggered() {
                place.leave().await;
            } else {
                place.keep();
            }
            return Err(status);
        }
        let rev = place.created;
        let leader = LeaderKey { name, key: place.keep(), rev, lease };
        // The header is that of the first step, however long ago it was (etcd).
        Ok(Response::new(CampaignResponse { header: stood.header, leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let ProclaimRequest { leader, value } = request.into_inner();
        let LeaderKey { key, rev, lease, .. } = named(leader)?;
        let lease = self.session_lease(lease).await?;
        let header = self.write_word(key, rev, value, lease).await?;
        Ok(Response::new(ProclaimResponse { header }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let line = Line::of(&request.into_inner().name);
        match self.find_now(&line.first()).await? {
            (view, Some(record)) => {
                let header = Some(self.header(&view, view.store.revision()));
                Ok(Response::new(LeaderResponse { header, kv: Some(record.into()) }))
            }
            (_, None) => Err(Status::unknown(NO_LEADER)),
        }
    }

    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let end = self.stream_end(request.metadata());
        let observer = Observer::new(self.clone(), Line::of(&request.into_inner().name));
        Ok(Response::new(stream::unfold(Some((observer, end)), next_word).boxed()))
    }

    /// Leaves the line. Who does not stand in it has nothing to leave, and hears nothing of that (etcd).
    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let LeaderKey { key, rev, lease, .. } = named(request.into_inner().leader)?;
        self.session_lease(lease).await?;
        let response = self.commit(if_created(key.clone(), rev, deletion(key))).await?;
        Ok(Response::new(ResignResponse { header: response.header }))
    }
}

type Observing = (Observer, BoxFuture<'static, Status>);

/// What an observer hears next, and the observer if that was not the last.
async fn next_word(
    observing: Option<Observing>,
) -> Option<(Result<LeaderResponse, Status>, Option<Observing>)> {
    let (mut observer, mut end) = observing?;
    let word = rt::select! {
        status = &mut end => Err(status),
        word = observer.next() => word,
    };
    match word {
        Ok(word) => word.map(|word| (Ok(word), Some((observer, end)))),
        Err(status) => Some((Err(status), None)),
    }
}
