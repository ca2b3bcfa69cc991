//! What is wrong with a request by itself: found where it comes in, before it goes anywhere (etcd 2.8).

use bytes::Bytes;
use detcd::apply::Command;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use detcd::proto::etcdserverpb::request_op::Request;

use super::{Interval, Refusal};

/// Checks a Range.
///
/// # Errors
/// `EmptyKey`, `InvalidSort`.
pub fn check_range(request: &pb::RangeRequest) -> Result<(), Refusal> {
    check_key(&request.key)?;
    let known =
        SortOrder::try_from(request.sort_order).is_ok() && SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(Refusal::InvalidSort) }
}

/// Checks a Range that is to be answered as a stream: in key order and without filters only.
///
/// # Errors
/// Those of [`check_range`], then `StreamSort`, then `StreamFilter`.
pub fn check_range_stream(request: &pb::RangeRequest) -> Result<(), Refusal> {
    check_range(request)?;
    let sorted = match request.sort_order() {
        // Without an order the target has no effect here.
        SortOrder::None => false,
        SortOrder::Ascend => request.sort_target() != SortTarget::Key,
        SortOrder::Descend => true,
    };
    if sorted {
        return Err(Refusal::StreamSort);
    }
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if bounds.iter().any(|bound| *bound != 0) { Err(Refusal::StreamFilter) } else { Ok(()) }
}

/// Checks a put.
///
/// # Errors
/// `EmptyKey`, `ValueProvided`, `LeaseProvided`.
pub fn check_put(request: &pb::PutRequest) -> Result<(), Refusal> {
    check_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete.
///
/// # Errors
/// `EmptyKey`.
pub fn check_delete(request: &pb::DeleteRangeRequest) -> Result<(), Refusal> {
    check_key(&request.key)
}

/// Checks a transaction: the number of operations, the keys of the compares, every operation of both
/// branches, and that no key would be written twice.
///
/// # Errors
/// `TooManyOperations`, those of the operations, `KeyNotFound` for one that says nothing, `DuplicateKey`.
pub fn check_txn(request: &pb::TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    check_operations(request, max_ops)?;
    check_branch(&request.success)?;
    check_branch(&request.failure)?;
    Ok(())
}

/// A lease cannot be granted for longer than this, in seconds (etcd 4.1).
pub const LONGEST_TTL: i64 = 9_000_000_000;

/// What is wrong with asking for a lease.
pub fn check_lease_grant(request: &pb::LeaseGrantRequest) -> Result<(), Refusal> {
    if request.ttl > LONGEST_TTL { Err(Refusal::LeaseTooLong) } else { Ok(()) }
}

/// Whether a request takes space in the database, so that an alarm for the lack of it refuses it.
pub fn costs_space(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant(_) => true,
        Command::Txn(request) => has_put(request),
        _ => false,
    }
}

fn has_put(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => has_put(nested),
        _ => false,
    })
}

fn check_key(key: &Bytes) -> Result<(), Refusal> {
    if key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

fn check_operations(request: &pb::TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    if longest > max_ops {
        return Err(Refusal::TooManyOperations);
    }
    for compare in &request.compare {
        check_key(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(Request::RequestTxn(nested)) => check_operations(nested, max_ops - longest)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations writes: the keys of its puts, and the intervals of its deletes.
#[derive(Default)]
struct Writes<'a> {
    puts: Vec<&'a Bytes>,
    deletes: Vec<Interval<'a>>,
}

impl Writes<'_> {
    fn check(&self, key: &Bytes) -> Result<(), Refusal> {
        let taken = self.puts.contains(&key) || self.deletes.iter().any(|deleted| covers(deleted, key));
        if taken { Err(Refusal::DuplicateKey) } else { Ok(()) }
    }
}

/// Whether a delete is seen to cover a key. One without an end is not: its end is taken literally here,
/// and clients that delete everything and put depend on it (etcd 2.8, rule 6).
fn covers(deleted: &Interval<'_>, key: &[u8]) -> bool {
    deleted.range_end != b"\0" && deleted.contains(key)
}

/// Refuses a list that writes a key twice, as far as etcd sees it: first the deletes of the list, then
/// its nested transactions in order, each against all before it, then its puts.
fn check_branch(ops: &[pb::RequestOp]) -> Result<Writes<'_>, Refusal> {
    let mut writes = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            writes.deletes.push(Interval::new(&delete.key, &delete.range_end));
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(nested)) = &op.request else { continue };
        let branches = [check_branch(&nested.success)?, check_branch(&nested.failure)?];
        // Both against what came before, not against each other: only one of them runs.
        for key in branches.iter().flat_map(|branch| &branch.puts) {
            writes.check(key)?;
        }
        for branch in branches {
            writes.puts.extend(branch.puts);
            writes.deletes.extend(branch.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            writes.check(&put.key)?;
            writes.puts.push(&put.key);
        }
    }
    Ok(writes)
}
