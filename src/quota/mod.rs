//! The quota: how large the database may grow, and what a request is estimated to add to it.
//!
//! A request is checked twice with the same rule: before it is proposed, where it is refused, and when it
//! is applied, where it *is* applied but its caller is told of the lack of space. The sizes of databases
//! differ between members, so nothing that is stored may depend on them.
//!
//! Invariants:
//! - a request that adds nothing is always allowed, so reads, deletes and compactions get through;
//! - the cost of a transaction covers its costlier branch, nested transactions included: it cannot be
//!   used to slip past the quota.

use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestOp, TxnRequest};

/// The quota when none is set.
pub const DEFAULT_BYTES: i64 = 2 << 30;

/// Above this, starting up deserves a warning.
pub const ADVISED_MAX_BYTES: i64 = 8 << 30;

/// What a put is estimated to add beside its key and value, in bytes.
const PUT_OVERHEAD: u64 = 256;

/// What a lease is estimated to add, in bytes.
const LEASE_COST: u64 = 64;

/// The quota of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    bytes: i64,
}

impl Quota {
    /// The quota that `--quota-backend-bytes` asks for: 0 for the default, negative for none.
    pub fn new(quota_backend_bytes: i64) -> Self {
        Self { bytes: if quota_backend_bytes == 0 { DEFAULT_BYTES } else { quota_backend_bytes } }
    }

    /// The quota in bytes, negative when there is none; as metrics and `Status` show it.
    pub fn bytes(&self) -> i64 {
        self.bytes
    }

    /// Whether a database that has `size` bytes allocated may take on `cost` more.
    pub fn allows(&self, size: u64, cost: u64) -> bool {
        let Ok(quota) = u64::try_from(self.bytes) else { return true };
        cost == 0 || size.saturating_add(cost) < quota
    }
}

/// What a request is estimated to add to the database, in bytes.
pub fn request_cost(request: &InternalRaftRequest) -> u64 {
    let put = request.put.as_ref().map_or(0, put_cost);
    let txn = request.txn.as_ref().map_or(0, txn_cost);
    let grant = if request.lease_grant.is_some() { LEASE_COST } else { 0 };
    put + txn + grant
}

/// What a put is estimated to add to the database, in bytes.
pub fn put_cost(put: &PutRequest) -> u64 {
    PUT_OVERHEAD + put.key.len() as u64 + put.value.len() as u64
}

/// What a transaction is estimated to add to the database, in bytes: the larger of its two branches.
///
/// As deep in calls as transactions are nested, which decoding has limited.
pub fn txn_cost(txn: &TxnRequest) -> u64 {
    branch_cost(&txn.success).max(branch_cost(&txn.failure))
}

/// What a lease grant is estimated to add to the database, in bytes.
pub fn lease_grant_cost() -> u64 {
    LEASE_COST
}

fn branch_cost(branch: &[RequestOp]) -> u64 {
    let operation_cost = |operation: &RequestOp| match &operation.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        Some(Request::RequestTxn(txn)) => txn_cost(txn),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
    };
    branch.iter().map(operation_cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest, RangeRequest};

    /// A put that costs 256 + 1 + `value`.
    fn put(value: usize) -> PutRequest {
        PutRequest { key: "k".into(), value: vec![0; value].into(), ..Default::default() }
    }

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
        TxnRequest { compare: vec![], success, failure }
    }

    #[test]
    fn a_transaction_costs_its_larger_branch_nested_ones_included() {
        let check = |txn: &TxnRequest, cost| assert_eq!(txn_cost(txn), cost, "{txn:?}");
        let puts =
            |values: &[usize]| values.iter().map(|&v| op(Request::RequestPut(put(v)))).collect::<Vec<_>>();
        check(&txn(vec![], vec![]), 0);
        check(&txn(puts(&[3]), puts(&[1])), 260);
        check(&txn(puts(&[3]), puts(&[1, 1])), 516);
        let inner = txn(puts(&[0]), puts(&[100]));
        check(&txn([puts(&[3]), vec![op(Request::RequestTxn(inner))]].concat(), puts(&[300])), 617);
        let reads = vec![
            op(Request::RequestRange(RangeRequest::default())),
            op(Request::RequestDeleteRange(DeleteRangeRequest::default())),
            RequestOp { request: None },
        ];
        check(&txn(reads.clone(), reads), 0);
    }

    #[test]
    fn only_what_adds_something_costs() {
        let check =
            |request: InternalRaftRequest, cost| assert_eq!(request_cost(&request), cost, "{request:?}");
        check(InternalRaftRequest::default(), 0);
        check(InternalRaftRequest { put: Some(put(10)), ..Default::default() }, 267);
        check(
            InternalRaftRequest { lease_grant: Some(LeaseGrantRequest::default()), ..Default::default() },
            64,
        );
        let nothing = InternalRaftRequest {
            delete_range: Some(DeleteRangeRequest::default()),
            txn: Some(txn(vec![], vec![])),
            ..Default::default()
        };
        check(nothing, 0);
    }

    #[test]
    fn the_quota_is_reached_when_size_and_cost_are() {
        let check = |quota, size, cost, expected| {
            assert_eq!(Quota::new(quota).allows(size, cost), expected, "{quota}: {size} + {cost}");
        };
        check(1000, 800, 199, true);
        check(1000, 800, 200, false);
        check(1000, 5000, 0, true);
        check(1000, u64::MAX, 1, false);
        check(0, DEFAULT_BYTES as u64 - 2, 1, true);
        check(0, DEFAULT_BYTES as u64 - 1, 1, false);
        check(-1, u64::MAX, u64::MAX, true);
        assert_eq!(
            (Quota::new(0).bytes(), Quota::new(-1).bytes(), Quota::new(5).bytes()),
            (DEFAULT_BYTES, -1, 5)
        );
    }
}
