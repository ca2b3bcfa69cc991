//! Carrying requests out.

use std::sync::Arc;

use bytes::Bytes;

use super::compare::value_of;
use super::resolve::{Branch, Step, allow, allow_put, delete_interval, resolve};
use crate::mvcc::range::{self as mvcc_range, RangeQuery};
use crate::mvcc::{Deleted, Store, View, WriteTxn};
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::types::change::RevisionChanges;
use crate::types::{Error, LeaseId, LocalFault};

/// What a request that may write did.
#[derive(Debug)]
pub struct Applied<R> {
    /// The answer. Of its header, the revision is set.
    pub response: R,
    /// What changed; `None` when nothing did and the revision stands where it was.
    pub changes: Option<Arc<RevisionChanges>>,
    /// Which keys changed leases, in order. A key can occur twice.
    pub lease_moves: Vec<LeaseMove>,
}

/// A key left a lease, joined one, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseMove {
    /// The key.
    pub key: Bytes,
    /// The lease that it was attached to, 0 for none.
    pub from: LeaseId,
    /// The lease that it is attached to now, 0 for none.
    pub to: LeaseId,
}

/// Answers a bare Range request.
///
/// # Errors
/// Those of [`super::check_range`] and of [`mvcc_range::range`].
pub fn range(view: &View, request: &RangeRequest) -> Result<RangeResponse, Error> {
    range_response(view, &RangeQuery::from_request(request)?, view.revision())
}

/// Carries out a bare Put request.
///
/// # Errors
/// `LeaseNotFound` for a lease that `lease_exists` denies, `KeyNotFound` when part of a key is to be kept
/// that does not exist; a fault when a record cannot be read.
pub fn put(
    store: &mut Store,
    request: &PutRequest,
    lease_exists: &dyn Fn(LeaseId) -> bool,
) -> Result<Applied<PutResponse>, Error> {
    let write = store.write();
    allow_put(request, |key| write.view().get(key).is_some(), lease_exists)?;
    let mut execution = Execution::new(write);
    let response = execution.put(request)?;
    Ok(execution.finish(response))
}

/// Carries out a bare DeleteRange request.
///
/// # Errors
/// A fault when a record cannot be read.
pub fn delete_range(
    store: &mut Store,
    request: &DeleteRangeRequest,
) -> Result<Applied<DeleteRangeResponse>, Error> {
    let mut execution = Execution::new(store.write());
    let response = execution.delete(request)?;
    Ok(execution.finish(response))
}

/// Carries out a transaction that may write. All or nothing: a request error means that nothing changed.
///
/// # Errors
/// Those of the operations in the branch taken: `FutureRevision`, `Compacted`, `LeaseNotFound`,
/// `KeyNotFound`; a fault when a record cannot be read.
pub fn txn(
    store: &mut Store,
    request: &TxnRequest,
    lease_exists: &dyn Fn(LeaseId) -> bool,
) -> Result<Applied<TxnResponse>, Error> {
    let write = store.write();
    let branch = resolve(write.view(), request)?;
    allow(write.view(), &branch, lease_exists)?;
    let mut execution = Execution::new(write);
    let mut response = execution.branch(&branch)?;
    response.header = Some(header(execution.revision()));
    Ok(execution.finish(response))
}

/// Answers a transaction that [`super::is_read_only`] from one view.
///
/// # Errors
/// As [`txn`].
pub fn read_txn(view: &View, request: &TxnRequest) -> Result<TxnResponse, Error> {
    let branch = resolve(view, request)?;
    allow(view, &branch, &|_| false)?;
    let revision = view.revision();
    let mut responses = Vec::with_capacity(branch.steps.len());
    for step in &branch.steps {
        let Step::Range(query) = step else {
            return Err(LocalFault::new("a transaction that writes was run as one that reads").into());
        };
        responses.push(response_op(Response::ResponseRange(range_response(view, query, revision)?)));
    }
    Ok(TxnResponse { header: Some(header(revision)), succeeded: branch.succeeded, responses })
}

/// A write transaction under way. Nothing of the state before is held, so the store changes in place.
struct Execution<'a> {
    write: WriteTxn<'a>,
    lease_moves: Vec<LeaseMove>,
}

impl<'a> Execution<'a> {
    fn new(write: WriteTxn<'a>) -> Self {
        Self { write, lease_moves: Vec::new() }
    }

    fn finish<R>(self, response: R) -> Applied<R> {
        Applied { response, changes: self.write.finish(), lease_moves: self.lease_moves }
    }

    /// The revision that the store has after the operations so far.
    fn revision(&self) -> i64 {
        self.write.begin_revision() + i64::from(self.write.has_changes())
    }

    fn branch(&mut self, branch: &Branch<'_>) -> Result<TxnResponse, Error> {
        let mut responses = Vec::with_capacity(branch.steps.len());
        for step in &branch.steps {
            let response = match step {
                Step::Range(query) => Response::ResponseRange(self.range(query)?),
                Step::Put(request) => Response::ResponsePut(self.put(request)?),
                Step::Delete(request) => Response::ResponseDeleteRange(self.delete(request)?),
                Step::Txn(nested) if planted::is(Bug::NestedCompareSeesChanges) => {
                    let nested = resolve(self.write.view(), nested.request)?;
                    Response::ResponseTxn(self.branch(&nested)?)
                }
                Step::Txn(nested) => Response::ResponseTxn(self.branch(nested)?),
            };
            responses.push(response_op(response));
        }
        // The header of a nested transaction is there and empty, as in etcd.
        let header = Some(ResponseHeader::default());
        Ok(TxnResponse { header, succeeded: branch.succeeded, responses })
    }

    /// Reads the working state, or the past when the range names a revision: [`allow`] has seen to it that
    /// such a revision lies before the transaction.
    fn range(&self, query: &RangeQuery) -> Result<RangeResponse, Error> {
        range_response(self.write.view(), query, self.revision())
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Error> {
        let (value, lease) = self.value_and_lease(request)?;
        let previous = self.write.put(request.key.clone(), value, lease).previous;
        let prev_kv = match &previous {
            Some(live) if request.prev_kv => Some(self.write.record(live)?),
            _ => None,
        };
        let from = previous.map_or(0, |live| live.lease);
        self.lease_moves.extend(lease_move(&request.key, from, lease));
        Ok(PutResponse { header: Some(header(self.revision())), prev_kv })
    }

    /// What a put is to write: what the request gives, or what the key has where that is to be kept.
    fn value_and_lease(&self, request: &PutRequest) -> Result<(Bytes, i64), Error> {
        if !request.ignore_value && !request.ignore_lease {
            return Ok((request.value.clone(), request.lease));
        }
        let view = self.write.view();
        let live = view.get(&request.key).ok_or_else(|| {
            LocalFault::new(format!("the check let a put keep part of {:?}, which is no key", request.key))
        })?;
        let value = if request.ignore_value { value_of(view, live)? } else { request.value.clone() };
        let keep_lease = request.ignore_lease && !planted::is(Bug::IgnoreLeaseDetaches);
        let lease = if keep_lease { live.lease } else { request.lease };
        Ok((value, lease))
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        let deleted = self.write.delete_range(&delete_interval(request));
        let mut prev_kvs = Vec::new();
        for Deleted { key, previous } in &deleted {
            if !planted::is(Bug::DeletedKeyStaysAttached) {
                self.lease_moves.extend(lease_move(key, previous.lease, 0));
            }
            if request.prev_kv {
                prev_kvs.push(self.write.record(previous)?);
            }
        }
        let header = Some(header(self.revision()));
        Ok(DeleteRangeResponse { header, deleted: deleted.len() as i64, prev_kvs })
    }
}

/// The move of `key` between two leases, if it is one. It has a copy of the key: that of a request would
/// keep the request in memory.
fn lease_move(key: &[u8], from: i64, to: i64) -> Option<LeaseMove> {
    let key = || Bytes::copy_from_slice(key);
    (from != to).then(|| LeaseMove { key: key(), from: LeaseId(from), to: LeaseId(to) })
}

fn range_response(view: &View, query: &RangeQuery, revision: i64) -> Result<RangeResponse, Error> {
    let result = if planted::is(Bug::KeysOnlyLeaksValues) {
        mvcc_range::range(view, &RangeQuery { keys_only: false, ..query.clone() })?
    } else {
        mvcc_range::range(view, query)?
    };
    let header = Some(header(revision));
    Ok(RangeResponse { header, kvs: result.kvs, more: result.more, count: result.count })
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..ResponseHeader::default() }
}

fn response_op(response: Response) -> ResponseOp {
    ResponseOp { response: Some(response) }
}
