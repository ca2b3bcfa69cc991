//! `etcdserverpb.KV`.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use http_body_util::BodyExt;
use prost::Message;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::admit::Serves;
use super::range_body;
use super::request_body::{self, RequestBody};
use super::status::status;
use crate::apply::Reply;
use crate::limits;
use crate::member::{self, MemberView};
use crate::mvcc::range::{self, RangeQuery, RangeScan};
use crate::planted::{self, Bug};
use crate::proto::EncodedKeyValue;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use crate::rt;
use crate::txn;

/// The path of the one call whose answers are sent while they are encoded.
pub(super) const RANGE_PATH: &str = "/etcdserverpb.KV/Range";

/// Keys in the first chunk of a range stream (etcd).
const FIRST_CHUNK_KEYS: usize = 10;

/// The answer to a range, whole or still to be encoded.
enum RangeAnswer {
    Whole(RangeResponse),
    Lazy(RangeScan, Arc<MemberView>),
}

impl Rpc {
    /// Serves a Range call without tonic's codec, which would need the whole answer in one buffer: a
    /// large one is encoded in pieces while the client takes them.
    pub(super) async fn serve_range(&self, request: http::Request<RequestBody>) -> http::Response<Body> {
        match self.answer_range_call(request).await {
            Ok(RangeAnswer::Whole(response)) => range_body::whole(&response),
            Ok(RangeAnswer::Lazy(scan, view)) => {
                let header = self.header(&view, view.store.revision());
                range_body::lazy(header, scan, self.mailbox.clone())
            }
            Err(status) => status.into_http(),
        }
    }

    async fn answer_range_call(&self, request: http::Request<RequestBody>) -> Result<RangeAnswer, Status> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.map_err(request_body::failure)?.to_bytes();
        let request: RangeRequest = range_body::decode_message(bytes)?;
        let metadata = MetadataMap::from_headers(parts.headers);
        self.answer_range(&metadata, &request).await
    }

    async fn answer_range(
        &self,
        metadata: &MetadataMap,
        request: &RangeRequest,
    ) -> Result<RangeAnswer, Status> {
        self.admit(metadata, if request.serializable { Serves::All } else { Serves::Voters })?;
        let query = RangeQuery::from_request(request).map_err(status)?;
        let view = self.view_for(request.serializable).await?;
        if !query.range.is_single() {
            let scan = RangeScan::new(view.store.clone(), &query).map_err(|error| self.failed(error))?;
            if let Some(scan) = scan
                && (scan.total_len() > limits::LAZY_ANSWER_BYTES
                    || rt::buggify("range: streams a small answer"))
            {
                return Ok(RangeAnswer::Lazy(scan, view));
            }
        }
        let found = range::range(&view.store, &query).map_err(|error| self.failed(error))?;
        Ok(RangeAnswer::Whole(RangeResponse {
            header: Some(self.header(&view, view.store.revision())),
            kvs: found.kvs,
            more: found.more,
            count: found.count,
        }))
    }

    /// The view to read from.
    async fn view_for(&self, serializable: bool) -> Result<Arc<MemberView>, Status> {
        if serializable {
            Ok(self.mailbox.view())
        } else {
            self.mailbox.linearizable_view().await.map_err(status)
        }
    }

    async fn ask_log(&self, request: member::Request) -> Result<Reply, Status> {
        self.mailbox.ask_log(request).await.map_err(status)
    }

    async fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Status> {
        txn::check_txn(request, self.max_txn_ops).map_err(status)?;
        let view = self.view_for(txn::is_serializable(request)).await?;
        let mut response = txn::read_txn(&view.store, request).map_err(|error| self.failed(error))?;
        response.header = Some(self.header(&view, view.store.revision()));
        Ok(response)
    }
}

/// A reply of another kind than its request is a bug of ours, not of anybody's request.
fn unexpected(reply: &Reply) -> Status {
    Status::internal(format!("unexpected reply {reply:?}"))
}

#[tonic::async_trait]
impl Kv for Rpc {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        match self.answer_range(&metadata, &request).await? {
            RangeAnswer::Whole(response) => Ok(Response::new(response)),
            RangeAnswer::Lazy(mut scan, view) => {
                let kvs = scan.next_records(usize::MAX).map_err(|error| self.failed(error))?;
                Ok(Response::new(RangeResponse {
                    header: Some(self.header(&view, view.store.revision())),
                    kvs,
                    more: scan.more(),
                    count: scan.count(),
                }))
            }
        }
    }

    type RangeStreamStream = BoxStream<'static, Result<RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.admit(&metadata, Serves::Voters)?;
        let query = RangeQuery::from_stream_request(&request).map_err(status)?;
        let view = self.view_for(request.serializable || planted::is(Bug::StreamReadsLocally)).await?;
        let scan = RangeScan::new(view.store.clone(), &query).map_err(|error| self.failed(error))?;
        let (source, more, count) = match scan {
            Some(scan) => {
                let (more, count) = (scan.more(), scan.count());
                (Records::Scan(scan), more, count)
            }
            None => {
                let found = range::range(&view.store, &query).map_err(|error| self.failed(error))?;
                (Records::Gathered(found.kvs.into_iter()), found.more, found.count)
            }
        };
        let last = RangeResponse {
            header: Some(self.header(&view, view.store.revision())),
            kvs: Vec::new(),
            more,
            count,
        };
        let chunks = Chunks { rpc: self.clone(), source, last, keys: FIRST_CHUNK_KEYS };
        Ok(Response::new(Box::pin(stream::unfold(Some(chunks), Chunks::next))))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        match self.ask_log(member::Request::Put(request.into_inner())).await? {
            Reply::Put(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        match self.ask_log(member::Request::DeleteRange(request.into_inner())).await? {
            Reply::DeleteRange(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let request = request.into_inner();
        if txn::is_read_only(&request) {
            return Ok(Response::new(self.read_txn(&request).await?));
        }
        match self.ask_log(member::Request::Txn(request)).await? {
            Reply::Txn(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        match self.ask_log(member::Request::Compact(request.into_inner())).await? {
            Reply::Compact(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// Where the records of a range stream come from.
enum Records {
    Scan(RangeScan),
    Gathered(std::vec::IntoIter<EncodedKeyValue>),
}

/// A range stream on its way. The number of keys in a chunk follows their size, so that a chunk comes
/// near the largest request (etcd 3.7).
struct Chunks {
    rpc: Rpc,
    source: Records,
    last: RangeResponse,
    keys: usize,
}

impl Chunks {
    async fn next(this: Option<Chunks>) -> Option<(Result<RangeStreamResponse, Status>, Option<Chunks>)> {
        let mut chunks = this?;
        let kvs = match chunks.take() {
            Ok(kvs) => kvs,
            Err(status) => return Some((Err(status), None)),
        };
        chunks.adapt(&kvs);
        if chunks.is_done() {
            let response = RangeResponse { kvs, ..chunks.last };
            return Some((Ok(RangeStreamResponse { range_response: Some(response) }), None));
        }
        let response = RangeResponse { kvs, ..Default::default() };
        Some((Ok(RangeStreamResponse { range_response: Some(response) }), Some(chunks)))
    }

    fn take(&mut self) -> Result<Vec<EncodedKeyValue>, Status> {
        match &mut self.source {
            Records::Scan(scan) => scan.next_records(self.keys).map_err(|error| self.rpc.failed(error)),
            Records::Gathered(records) => Ok(records.by_ref().take(self.keys).collect()),
        }
    }

    fn is_done(&self) -> bool {
        match &self.source {
            Records::Scan(scan) => scan.remaining() == 0,
            Records::Gathered(records) => records.len() == 0,
        }
    }

    fn adapt(&mut self, kvs: &[EncodedKeyValue]) {
        let bytes: usize = kvs.iter().map(Message::encoded_len).sum();
        if bytes > self.rpc.max_request_bytes {
            self.keys = (self.keys / 2).max(1);
        } else if bytes < self.rpc.max_request_bytes / 2 {
            self.keys = self.keys.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::TryStreamExt;

    use super::*;
    use crate::mailbox::mailbox;
    use crate::metrics::testing;
    use crate::mvcc::testing::MemoryBackend;
    use crate::mvcc::{Store, StoreConfig};
    use crate::rpc::RpcConfig;

    /// Services over keys `00`, `01` and so on, put one after the other.
    fn services(keys: usize, max_request_bytes: usize) -> Rpc {
        let (mut store, _) =
            Store::restore(MemoryBackend::default().snapshot(), StoreConfig::default()).unwrap();
        for key in 0..keys {
            let mut write = store.write();
            write.put(format!("{key:02}").into(), vec![b'v'; 100].into(), 0);
            write.finish();
        }
        let view = MemberView { store: store.view(), ..testing::view() };
        let (mailbox, _) = mailbox(view.into());
        Rpc::new(mailbox, RpcConfig { max_request_bytes, max_txn_ops: 8, election_timeout: Duration::MAX })
    }

    /// Streams everything that `request` does not say otherwise, and compares how many keys each message
    /// brings; the last one alone says the rest.
    async fn check(rpc: &Rpc, request: RangeRequest, chunks: &[usize], count: i64, more: bool) {
        let request = RangeRequest { key: "0".into(), range_end: "\0".into(), ..request };
        let answer = rpc.range_stream(Request::new(request)).await.unwrap().into_inner();
        let messages: Vec<_> = answer.try_collect().await.unwrap();
        let messages: Vec<_> = messages.into_iter().map(|message| message.range_response.unwrap()).collect();
        assert_eq!(messages.iter().map(|message| message.kvs.len()).collect::<Vec<_>>(), chunks);
        let (last, others) = messages.split_last().unwrap();
        assert!(others.iter().all(|message| (&message.header, message.count) == (&None, 0) && !message.more));
        assert_eq!((last.count, last.more), (count, more));
        let revision = rpc.mailbox.view().store.revision();
        assert_eq!(last.header.as_ref().map(|header| header.revision), Some(revision));
        let keys = messages.iter().flat_map(|message| &message.kvs).map(|kv| kv.decode().unwrap().key);
        assert!(keys.enumerate().all(|(number, key)| key == format!("{number:02}")));
    }

    #[tokio::test]
    async fn a_range_stream_finds_the_size_of_its_chunks() {
        let all = RangeRequest::default;
        let small = services(50, 1 << 20);
        check(&small, all(), &[10, 20, 20], 50, false).await;
        check(&small, RangeRequest { limit: 10, ..all() }, &[10], 50, true).await;
        check(&small, RangeRequest { count_only: true, ..all() }, &[0], 50, false).await;
        // In the past, and without values.
        check(&small, RangeRequest { revision: 31, ..all() }, &[10, 20], 30, false).await;
        check(&small, RangeRequest { keys_only: true, limit: 11, ..all() }, &[10, 1], 50, true).await;
        check(&services(0, 1 << 20), all(), &[0], 0, false).await;
        // A record has about 120 bytes.
        check(&services(20, 500), all(), &[10, 5, 2, 3], 20, false).await;
    }
}
