//! Checks of a request that need no state: made once, where the request comes in.
//!
//! The order of the checks is part of the interface, as a request can be wrong in several ways.

use std::collections::BTreeSet;

use super::coverage::Coverage;
use crate::mvcc::range::RangeQuery;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::types::{KeyRange, RangeEnd, RequestError};

/// Checks a Range request.
///
/// # Errors
/// `EmptyKey`, `InvalidSortOption`.
pub fn check_range(request: &RangeRequest) -> Result<(), RequestError> {
    RangeQuery::from_request(request).map(drop)
}

/// Checks a Put request.
///
/// # Errors
/// `EmptyKey`; `ValueProvided` or `LeaseProvided` beside the flag to keep the old one.
pub fn check_put(request: &PutRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// Checks a DeleteRange request.
///
/// # Errors
/// `EmptyKey`.
pub fn check_delete(request: &DeleteRangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
}

/// Checks a Txn request: the number of operations, the keys of the compares, every operation of both
/// branches, and that no key would be written twice.
///
/// `max_ops` is the most compares or operations of one list. A nested transaction may have as many as
/// the longest list around it leaves; as every level takes one at least, this bounds the depth too.
///
/// # Errors
/// `TooManyOps`, `EmptyKey`, those of the operations, `KeyNotFound` for an operation that names nothing
/// to do, `DuplicateKey`.
pub fn check_txn(request: &TxnRequest, max_ops: usize) -> Result<(), RequestError> {
    check_shape(request, max_ops)?;
    check_overlaps(&request.success)?;
    check_overlaps(&request.failure)?;
    Ok(())
}

fn check_shape(request: &TxnRequest, max_ops: usize) -> Result<(), RequestError> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = max_ops.checked_sub(longest).ok_or(RequestError::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(RequestError::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(Request::RequestTxn(txn)) => check_shape(txn, left)?,
            None => return Err(RequestError::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations writes, nested transactions included.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Coverage,
}

impl<'a> Writes<'a> {
    fn may_put(&self, key: &[u8]) -> Result<(), RequestError> {
        let taken = self.puts.contains(key) || self.deletes.contains(key);
        if taken { Err(RequestError::DuplicateKey) } else { Ok(()) }
    }
}

/// Refuses a list of operations that writes a key twice, as far as etcd does: deletes of the list count
/// from the start and its puts come last, whatever the order they are given in; nested transactions come
/// in between in their order, each seeing what the earlier ones write.
fn check_overlaps(ops: &[RequestOp]) -> Result<Writes<'_>, RequestError> {
    let mut writes = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            let range = KeyRange::from_wire(delete.key.clone(), delete.range_end.clone());
            // etcd takes the end of an open range literally and finds the range empty here. Clients
            // depend on it: they delete everything and put, in one transaction.
            if range.end != RangeEnd::Open {
                writes.deletes.add(&range);
            }
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(txn)) = &op.request {
            let success = check_overlaps(&txn.success)?;
            let failure = check_overlaps(&txn.failure)?;
            // Only one of the two branches runs, so they may share keys with one another.
            for key in success.puts.iter().chain(&failure.puts) {
                writes.may_put(key)?;
            }
            writes.puts.extend(success.puts);
            writes.puts.extend(failure.puts);
            writes.deletes.add_all(success.deletes);
            writes.deletes.add_all(failure.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            writes.may_put(&put.key)?;
            writes.puts.insert(&put.key);
        }
    }
    Ok(writes)
}
