//! What calls to the services of locks and elections write to the log (etcd 6.12).
//!
//! ```text
//!   Lock, Campaign    if there is no name/lease: put it        else: read it          (stand in line)
//!   Campaign          if it is of that creation: put the value                        (another word)
//!   Lock, Campaign    if it is of that creation: delete it                            (leave the line)
//!   Proclaim          if it is of that creation: put the value
//!   Resign            if it is of that creation: delete it
//!   Unlock            delete it
//! ```
//!
//! A call that names no lease is granted one first. This is no claim: `attribution` asks which entry may be
//! whose.

use bytes::Bytes;
use detcd::apply::Command;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::v3electionpb::LeaderKey;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Op;

use crate::history::Request;

/// Seconds for which a call is granted a lease when it names none.
const GRANTED_SECONDS: i64 = 60;

/// The key by which a lease stands in line.
pub(super) fn key_of(name: &[u8], lease: i64) -> Bytes {
    // Negative ids are printed as numbers are, not as their bits.
    let sign = if lease < 0 { "-" } else { "" };
    [name, b"/", format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// Whether a key can be the one by which a call stands in line.
pub(super) fn is_key_of(name: &[u8], lease: i64, key: &[u8]) -> bool {
    match lease {
        0 => key.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"/")),
        lease => key == key_of(name, lease),
    }
}

/// The one write that a request makes, or, of a call that takes several steps, the first; none when it depends
/// on a lease that the request does not name, and for any other request.
pub(super) fn first_write(request: &Request) -> Option<Command> {
    Some(match request {
        Request::Lock(lock) if lock.lease != 0 => {
            Command::Txn(stand_in_line(&lock.name, lock.lease, Bytes::new(), true))
        }
        Request::Campaign(campaign) if campaign.lease != 0 => {
            let value = campaign.value.clone();
            Command::Txn(stand_in_line(&campaign.name, campaign.lease, value, false))
        }
        Request::Unlock(unlock) => Command::DeleteRange(delete(&unlock.key)),
        Request::Proclaim(proclaim) => {
            let leader = proclaim.leader.as_ref().filter(|leader| leader.lease != 0)?;
            let put = put(&leader.key, proclaim.value.clone(), leader.lease);
            Command::Txn(if_created(&leader.key, leader.rev, Op::RequestPut(put)))
        }
        Request::Resign(resign) => {
            let LeaderKey { key, rev, .. } = resign.leader.as_ref()?;
            Command::Txn(if_created(key, *rev, Op::RequestDeleteRange(delete(key))))
        }
        _ => return None,
    })
}

/// Whether a write can be one of the further steps of a call.
pub(super) fn is_further_step(request: &Request, command: &Command) -> bool {
    let (name, lease, value) = match request {
        Request::Lock(lock) => (&lock.name, lock.lease, None),
        Request::Campaign(campaign) => (&campaign.name, campaign.lease, Some(&campaign.value)),
        Request::Proclaim(_) | Request::Resign(_) => {
            let named = |leader: &Option<LeaderKey>| leader.as_ref().is_some_and(|leader| leader.lease != 0);
            let is_named = match request {
                Request::Proclaim(proclaim) => named(&proclaim.leader),
                Request::Resign(resign) => named(&resign.leader),
                _ => true,
            };
            return !is_named && is_grant(command);
        }
        _ => return false,
    };
    if lease == 0 && is_grant(command) {
        return true;
    }
    let Command::Txn(txn) = command else { return false };
    let Some((key, created)) = condition(txn).filter(|(key, _)| is_key_of(name, lease, key)) else {
        return false;
    };
    match txn.success.first().and_then(|op| op.request.as_ref()) {
        Some(Op::RequestDeleteRange(deleted)) => *deleted == delete(key) && created > 0,
        // With the lease named, the first write is known to the byte.
        Some(Op::RequestPut(put)) if created == 0 => lease == 0 && put.key == key,
        Some(Op::RequestPut(put)) => put.key == key && value == Some(&put.value),
        _ => false,
    }
}

fn is_grant(command: &Command) -> bool {
    matches!(command, Command::LeaseGrant(grant) if grant.ttl == GRANTED_SECONDS)
}

/// The key and the creation on which a transaction depends, if that is all.
fn condition(txn: &pb::TxnRequest) -> Option<(&Bytes, i64)> {
    let [compare] = &*txn.compare else { return None };
    match compare.target_union {
        Some(TargetUnion::CreateRevision(created)) if compare.target() == CompareTarget::Create => {
            Some((&compare.key, created))
        }
        _ => None,
    }
}

fn stand_in_line(name: &Bytes, lease: i64, value: Bytes, asks_who_is_first: bool) -> pb::TxnRequest {
    let key = key_of(name, lease);
    let mut txn = if_created(&key, 0, Op::RequestPut(put(&key, value, lease)));
    txn.failure.push(op(Op::RequestRange(pb::RangeRequest { key, ..Default::default() })));
    if asks_who_is_first {
        let first = pb::RangeRequest {
            key: [&name[..], b"/"].concat().into(),
            // The byte after the slash.
            range_end: [&name[..], b"0"].concat().into(),
            limit: 1,
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..Default::default()
        };
        txn.success.push(op(Op::RequestRange(first.clone())));
        txn.failure.push(op(Op::RequestRange(first)));
    }
    txn
}

fn if_created(key: &Bytes, created: i64, then: Op) -> pb::TxnRequest {
    let compare = pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(created)),
        ..Default::default()
    };
    pb::TxnRequest { compare: vec![compare], success: vec![op(then)], failure: Vec::new() }
}

fn put(key: &Bytes, value: Bytes, lease: i64) -> pb::PutRequest {
    pb::PutRequest { key: key.clone(), value, lease, ..Default::default() }
}

fn delete(key: &Bytes) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.clone(), ..Default::default() }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}
