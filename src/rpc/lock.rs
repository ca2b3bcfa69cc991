//! `v3lockpb.Lock`: a lock is held by whoever came first of those who are in its line (see `waiting`).

use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::admit::Serves;
use super::waiting::{Line, Place, record_in, unexpected, within};
use crate::apply::Reply;
use crate::member;
use crate::mvcc::range::RangeQuery;
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb::{DeleteRangeRequest, ResponseHeader};
use crate::proto::v3lockpb::lock_server::Lock;
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::types::KeyRange;

/// The lease of a waiter ran out, or somebody deleted its key (etcd).
const SESSION_EXPIRED: &str = "mutex: session is expired";

impl Rpc {
    /// Waits for the turn of a place and looks whether it is still there: a waiter without a lease must not
    /// believe that it holds the lock.
    async fn wait_for_lock(&self, line: &Line, place: &mut Place) -> Result<ResponseHeader, Status> {
        self.wait_for_turn(line, place).await?;
        let own = RangeQuery::new(KeyRange::single(place.key.clone()));
        match self.find_now(&own).await? {
            (view, Some(_)) => Ok(self.header(&view, view.store.revision())),
            (view, None) if planted::is(Bug::WaiterUnchecked) => {
                Ok(self.header(&view, view.store.revision()))
            }
            (_, None) => Err(Status::unknown(SESSION_EXPIRED)),
        }
    }
}

#[tonic::async_trait]
impl Lock for Rpc {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let request = request.into_inner();
        let lease = self.session_lease(request.lease).await?;
        let line = Line::of(&request.name);
        // Who is first is asked in the same transaction: a lock that is free takes one round.
        let first = Some(line.first_in_txn());
        let (mut place, stood) = self.stand_in_line(&line, lease, Bytes::new(), first).await?;
        if record_in(stood.responses.get(1))?.create_revision == place.created {
            return Ok(Response::new(LockResponse { header: stood.header, key: place.keep() }));
        }
        match self.wait_for_lock(&line, &mut place).await {
            Ok(header) => Ok(Response::new(LockResponse { header: Some(header), key: place.keep() })),
            Err(status) => {
                place.leave().await;
                Err(status)
            }
        }
    }

    /// Deletes a key, whatever it is and whoever asks.
    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let delete = DeleteRangeRequest { key: request.into_inner().key, ..DeleteRangeRequest::default() };
        match self.mailbox.ask_log(member::Request::DeleteRange(delete)).await.map_err(within)? {
            Reply::DeleteRange(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(UnlockResponse { header: response.header }))
            }
            other => Err(unexpected(&other)),
        }
    }
}
