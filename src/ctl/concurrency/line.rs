//! A place in a line: a key whose turn comes when every older key below the same name is gone.

use bytes::Bytes;

use super::events::Events;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::session::{Clients, Session};
use crate::ctl::span::{Reach, span};
use crate::proto::KeyValue;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};

/// The line of a name. Older keys come first.
pub struct Line {
    /// What all its keys begin with.
    prefix: Vec<u8>,
}

impl Line {
    /// The line of `name`.
    pub fn new(name: &[u8]) -> Self {
        Self { prefix: [name, b"/"].concat() }
    }

    /// First key and range end of the line.
    pub fn keys(&self) -> (Bytes, Bytes) {
        span(self.prefix.clone(), Reach::Prefix)
    }

    /// Who is first.
    pub async fn first(&self, session: &Session) -> Result<RangeResponse, Failure> {
        self.one(session, SortOrder::Ascend, 0).await
    }

    /// The oldest or the youngest of the keys that are at most as young as `youngest`, if that is not zero.
    async fn one(
        &self,
        session: &Session,
        order: SortOrder,
        youngest: i64,
    ) -> Result<RangeResponse, Failure> {
        let (key, range_end) = self.keys();
        let request = RangeRequest {
            key,
            range_end,
            limit: 1,
            sort_order: order.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision: youngest,
            ..RangeRequest::default()
        };
        range(session, request).await
    }

    /// Steps into the line with a key on `lease`. Whoever has one there already keeps its place and value.
    pub async fn enter(&self, session: &Session, lease: i64, value: &[u8]) -> Result<Place, Failure> {
        let key: Bytes = [&self.prefix[..], format!("{lease:x}").as_bytes()].concat().into();
        let put =
            PutRequest { key: key.clone(), value: value.to_vec().into(), lease, ..PutRequest::default() };
        let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let request = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
            failure: vec![RequestOp { request: Some(Request::RequestRange(get)) }],
        };
        let answer = txn(session, request).await?;
        let revision = match answer.responses.first().and_then(|one| one.response.as_ref()) {
            Some(Response::ResponseRange(mine)) => only(mine)?.map_or(0, |kv| kv.create_revision),
            _ => answer.header.unwrap_or_default().revision,
        };
        Ok(Place { key, revision })
    }

    /// Waits until every key is gone that is older than `place`.
    pub async fn turn(&self, session: &Session, place: &Place) -> Result<(), Failure> {
        loop {
            let before = self.one(session, SortOrder::Descend, place.revision - 1).await?;
            let Some(kv) = only(&before)? else { return Ok(()) };
            let revision = before.header.unwrap_or_default().revision;
            let mut events = Events::new(session, (kv.key, Bytes::new()), revision);
            while !events.next().await?.deleted {}
        }
    }
}

/// A place in a line.
pub struct Place {
    /// The key that stands for it.
    pub key: Bytes,
    /// When the key was created.
    revision: i64,
}

impl Place {
    /// The key now; its answer is empty when its lease is gone.
    pub async fn look(&self, session: &Session) -> Result<RangeResponse, Failure> {
        range(session, RangeRequest { key: self.key.clone(), ..RangeRequest::default() }).await
    }

    /// Deletes the key, whoever may have created it since.
    pub async fn delete(&self, session: &Session) -> Result<(), Failure> {
        let request = DeleteRangeRequest { key: self.key.clone(), ..DeleteRangeRequest::default() };
        let call = |clients: Clients| async move { clients.kv().delete_range(request).await };
        session.write(None, call).await.map(drop)
    }

    /// Deletes the key if it is still the one that was created for this place.
    pub async fn resign(&self, session: &Session) -> Result<(), Failure> {
        let delete = DeleteRangeRequest { key: self.key.clone(), ..DeleteRangeRequest::default() };
        let request = TxnRequest {
            compare: vec![created_at(&self.key, self.revision)],
            success: vec![RequestOp { request: Some(Request::RequestDeleteRange(delete)) }],
            failure: Vec::new(),
        };
        txn(session, request).await.map(drop)
    }
}

/// The key-value of an answer that has at most one.
pub fn only(answer: &RangeResponse) -> Result<Option<KeyValue>, Failure> {
    let kv = answer.kvs.first().map(|kv| kv.decode()).transpose();
    kv.map_err(|error| Failure::new(Exit::Error, format!("malformed answer: {error}")))
}

/// That the key was created at this revision; zero is that there is no such key.
fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

async fn range(session: &Session, request: RangeRequest) -> Result<RangeResponse, Failure> {
    let call = |clients: Clients| {
        let request = request.clone();
        async move { clients.kv().range(request).await }
    };
    session.read(None, call).await
}

async fn txn(session: &Session, request: TxnRequest) -> Result<TxnResponse, Failure> {
    session.admit(&request)?;
    session.write(None, |clients: Clients| async move { clients.kv().txn(request).await }).await
}
