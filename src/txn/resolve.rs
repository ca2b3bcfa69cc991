//! Which operations of a transaction are to run, and whether they may.

use super::compare::all_hold;
use super::coverage::Coverage;
use crate::mvcc::View;
use crate::mvcc::range::RangeQuery;
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use crate::types::{Error, KeyRange, LeaseId, RequestError};

/// Whether the transaction only reads and needs not go through the log. One with a nested transaction is
/// not read-only, whatever is in that.
pub fn is_read_only(request: &TxnRequest) -> bool {
    all_ops(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether the transaction may be answered from this member's state as it is: it has only serializable
/// reads, or nothing at all.
pub fn is_serializable(request: &TxnRequest) -> bool {
    let serializable =
        |op: &RequestOp| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable);
    if planted::is(Bug::SerializableIfAny) && all_ops(request).any(serializable) {
        return true;
    }
    all_ops(request).all(serializable)
}

fn all_ops(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// The branch that a transaction takes.
pub(super) struct Branch<'a> {
    /// The transaction.
    pub(super) request: &'a TxnRequest,
    /// Whether the compares held.
    pub(super) succeeded: bool,
    /// What is to be done, in order.
    pub(super) steps: Vec<Step<'a>>,
}

/// One operation of a branch.
pub(super) enum Step<'a> {
    Range(RangeQuery),
    Put(&'a PutRequest),
    Delete(&'a DeleteRangeRequest),
    Txn(Branch<'a>),
}

/// Evaluates all compares, those of nested transactions included, against the state before.
///
/// # Errors
/// A request that [`super::check_txn`] refuses may be refused here as well; a fault when a value that is
/// compared cannot be read.
pub(super) fn resolve<'a>(view: &View, request: &'a TxnRequest) -> Result<Branch<'a>, Error> {
    let succeeded = all_hold(view, &request.compare)?;
    let ops = if succeeded { &request.success } else { &request.failure };
    let step = |op: &'a RequestOp| match &op.request {
        Some(Request::RequestRange(range)) => Ok(Step::Range(RangeQuery::from_request(range)?)),
        Some(Request::RequestPut(put)) => Ok(Step::Put(put)),
        Some(Request::RequestDeleteRange(delete)) => Ok(Step::Delete(delete)),
        Some(Request::RequestTxn(txn)) => Ok(Step::Txn(resolve(view, txn)?)),
        None => Err(RequestError::KeyNotFound.into()),
    };
    Ok(Branch { request, succeeded, steps: ops.iter().map(step).collect::<Result<_, Error>>()? })
}

/// Checks everything that could fail when the branch runs, before any change is made.
///
/// # Errors
/// `FutureRevision` or `Compacted` for a range, by the revisions before the transaction; `LeaseNotFound`
/// or `KeyNotFound` for a put; the first in the order of the operations.
pub(super) fn allow(
    view: &View,
    branch: &Branch<'_>,
    lease_exists: &dyn Fn(LeaseId) -> bool,
) -> Result<(), RequestError> {
    allow_after(&mut Coverage::default(), view, branch, lease_exists)
}

/// As [`allow`], for a branch that runs when the keys in `deleted` have been deleted. Puts need not be
/// remembered: no transaction that passed its checks puts a key twice.
fn allow_after(
    deleted: &mut Coverage,
    view: &View,
    branch: &Branch<'_>,
    lease_exists: &dyn Fn(LeaseId) -> bool,
) -> Result<(), RequestError> {
    for step in &branch.steps {
        match step {
            Step::Range(query) => allow_revision(view, query.revision)?,
            Step::Put(put) => {
                let exists = |key: &[u8]| view.get(key).is_some() && !deleted.contains(key);
                allow_put(put, exists, lease_exists)?;
            }
            Step::Delete(delete) => deleted.add(&delete_interval(delete)),
            Step::Txn(nested) if planted::is(Bug::NestedLeaseUnchecked) => {
                allow_after(deleted, view, nested, &|_| true)?;
            }
            Step::Txn(nested) => allow_after(deleted, view, nested, lease_exists)?,
        }
    }
    Ok(())
}

/// Whether a range inside a transaction may read at `revision`. 0 stands for the state that the operations
/// before have made. Unlike in a bare Range, a negative one lies before the compaction, save that -1 is as
/// good as 0 while nothing was ever compacted (etcd).
fn allow_revision(view: &View, revision: i64) -> Result<(), RequestError> {
    if revision == 0 {
        Ok(())
    } else if revision > view.revision() {
        Err(RequestError::FutureRevision)
    } else if revision < view.compact_revision() {
        Err(RequestError::Compacted)
    } else {
        Ok(())
    }
}

/// Whether a put finds the lease that it names and the key that it means to keep part of.
pub(super) fn allow_put(
    put: &PutRequest,
    exists: impl Fn(&[u8]) -> bool,
    lease_exists: &dyn Fn(LeaseId) -> bool,
) -> Result<(), RequestError> {
    if put.lease != 0 && !lease_exists(LeaseId(put.lease)) {
        return Err(RequestError::LeaseNotFound);
    }
    if (put.ignore_value || put.ignore_lease) && !exists(&put.key) {
        return Err(RequestError::KeyNotFound);
    }
    Ok(())
}

/// The interval that a DeleteRange request names.
pub(super) fn delete_interval(request: &DeleteRangeRequest) -> KeyRange {
    KeyRange::from_wire(request.key.clone(), request.range_end.clone())
}
