use bytes::Bytes;

use super::*;
use crate::mvcc::testing::MemoryBackend;
use crate::mvcc::{Store, StoreConfig};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};
use crate::proto::{EncodedKeyValue, KeyValue};
use crate::types::{Error, LeaseId, RequestError};

mod model;
mod rules;

/// Leases that exist.
fn lease_exists(lease: LeaseId) -> bool {
    matches!(lease.0, 1 | 2)
}

fn empty_store() -> (Store, MemoryBackend) {
    let backend = MemoryBackend::default();
    // Hardly any memory, so that most values are read from the database once they are there.
    let config = StoreConfig { value_cache_bytes: 40, recent_bytes: 1, page_records: 3 };
    (Store::restore(backend.snapshot(), config).unwrap().0, backend)
}

/// A store with the keys `a`, `b` and `c`, put at revisions 2, 3 and 4 with the value `1`; `b` has lease 1.
fn three_keys() -> Store {
    let (mut store, _) = empty_store();
    for (key, lease) in [("a", 0), ("b", 1), ("c", 0)] {
        let request = PutRequest { lease, ..put_request(key, "1") };
        put(&mut store, &request, &lease_exists).unwrap();
    }
    store
}

fn put_request(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_op(key: &'static str, value: &'static str) -> RequestOp {
    op(Request::RequestPut(put_request(key, value)))
}

fn touch_op(key: &'static str) -> RequestOp {
    let keep = PutRequest { ignore_value: true, ignore_lease: true, ..put_request(key, "") };
    op(Request::RequestPut(keep))
}

fn get_op(key: &'static str, range_end: &'static str) -> RequestOp {
    get_at_op(key, range_end, 0)
}

fn get_at_op(key: &'static str, range_end: &'static str, revision: i64) -> RequestOp {
    let (key, range_end) = (key.into(), range_end.into());
    op(Request::RequestRange(RangeRequest { key, range_end, revision, ..RangeRequest::default() }))
}

fn delete_op(key: &'static str, range_end: &'static str) -> RequestOp {
    let (key, range_end) = (key.into(), range_end.into());
    op(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }))
}

fn txn_op(txn: TxnRequest) -> RequestOp {
    op(Request::RequestTxn(txn))
}

/// A transaction whose compares hold, as there are none.
fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

fn both(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, failure, ..TxnRequest::default() }
}

fn compare(key: &'static str, result: CompareResult, target: CompareTarget, union: TargetUnion) -> Compare {
    Compare {
        result: result as i32,
        target: target as i32,
        key: key.into(),
        target_union: Some(union),
        ..Compare::default()
    }
}

fn version_is(key: &'static str, version: i64) -> Compare {
    compare(key, CompareResult::Equal, CompareTarget::Version, TargetUnion::Version(version))
}

/// A response in short: `4:` and what happened at revision 4, as in `4: put get[a=1] del2 then(...)`.
fn trace(response: &TxnResponse) -> String {
    let header = response.header.expect("every transaction's header is there");
    format!("{}: {}", header.revision, trace_ops(response))
}

fn trace_ops(response: &TxnResponse) -> String {
    let revision = |header: &Option<ResponseHeader>| header.as_ref().map_or(-1, |header| header.revision);
    let pairs = |kvs: &[EncodedKeyValue]| {
        let pair = |record: &EncodedKeyValue| {
            let KeyValue { key, value, .. } = record.decode().unwrap();
            format!("{}={}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value))
        };
        kvs.iter().map(pair).collect::<Vec<_>>().join(",")
    };
    let ops = response.responses.iter().map(|op| match op.response.as_ref().expect("an answer") {
        Response::ResponseRange(range) => format!("get@{}[{}]", revision(&range.header), pairs(&range.kvs)),
        Response::ResponsePut(put) => {
            format!("put@{}[{}]", revision(&put.header), pairs(put.prev_kv.as_slice()))
        }
        Response::ResponseDeleteRange(delete) => {
            format!("del@{}[{}]{}", revision(&delete.header), pairs(&delete.prev_kvs), delete.deleted)
        }
        Response::ResponseTxn(nested) => {
            assert_eq!(nested.header, Some(ResponseHeader::default()), "a nested header is empty");
            let branch = if nested.succeeded { "then" } else { "else" };
            format!("{branch}({})", trace_ops(nested))
        }
    });
    ops.collect::<Vec<_>>().join(" ")
}
