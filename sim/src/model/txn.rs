//! Writes: puts, deletes, and transactions of them (etcd 2.6 to 2.8).
//!
//! Compares of all levels are about the state before the transaction. That state stays readable while
//! the transaction runs, as everything of the past does, so a compare is simply evaluated where it
//! stands. What could be refused is looked for in a walk of its own before the first change.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;
use detcd::proto::KeyValue;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use detcd::proto::etcdserverpb::request_op::Request;
use detcd::proto::etcdserverpb::response_op::Response;

use super::range::{self, Moment};
use super::{Change, Interval, Refusal, Store};

/// Whether a transaction only reads, so that it does not go through the log. A nested one is taken for a
/// write, whatever is in it.
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    operations(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a transaction that only reads may be answered from any member's state as it is.
pub fn is_serializable(request: &pb::TxnRequest) -> bool {
    let serializable =
        |op: &pb::RequestOp| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable);
    operations(request).all(serializable)
}

fn operations(request: &pb::TxnRequest) -> impl Iterator<Item = &pb::RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// What a transaction that only reads must answer at a moment.
pub(super) fn read(
    store: &Store,
    request: &pb::TxnRequest,
    moment: Moment,
) -> Result<pb::TxnResponse, Refusal> {
    let (succeeded, branch) = taken(store, request, moment.revision);
    let mut responses = Vec::new();
    for op in branch {
        let Some(Request::RequestRange(range)) = &op.request else { continue };
        check_revision(range.revision, moment)?;
        let at = if range.revision <= 0 { moment.revision } else { range.revision };
        let response = range::read(store, range, at, moment.revision);
        responses.push(pb::ResponseOp { response: Some(Response::ResponseRange(response)) });
    }
    Ok(pb::TxnResponse { header: header(moment.revision), succeeded, responses })
}

/// Carries out a transaction of the log: all of it, or nothing when it is refused.
pub(super) fn write(
    store: &mut Store,
    request: &pb::TxnRequest,
    changes: &mut Vec<Change>,
) -> Result<pb::TxnResponse, Refusal> {
    let begin = Moment { revision: store.revision, compacted: store.compacted };
    let mut alive = store.alive(EVERYTHING, begin.revision).iter().map(|record| record.key.clone()).collect();
    allow(store, request, begin, &mut alive)?;
    let mut response = Writing { store, begin: begin.revision, changes }.txn(request);
    response.header = store.header();
    Ok(response)
}

/// Carries out a put that stands alone.
pub(super) fn put_alone(
    store: &mut Store,
    request: &pb::PutRequest,
    changes: &mut Vec<Change>,
) -> Result<pb::PutResponse, Refusal> {
    let exists = store.key_at(&request.key, store.revision).is_some();
    allow_put(store, request, exists)?;
    let begin = store.revision;
    Ok(Writing { store, begin, changes }.put(request))
}

/// Carries out a delete that stands alone.
pub(super) fn delete_alone(
    store: &mut Store,
    request: &pb::DeleteRangeRequest,
    changes: &mut Vec<Change>,
) -> pb::DeleteRangeResponse {
    let begin = store.revision;
    Writing { store, begin, changes }.delete(request)
}

const EVERYTHING: Interval<'static> = Interval { key: b"", range_end: b"\0" };

/// The branch that a transaction takes when the state before all of it is that of revision `begin`.
fn taken<'a>(store: &Store, request: &'a pb::TxnRequest, begin: i64) -> (bool, &'a [pb::RequestOp]) {
    let succeeded = request.compare.iter().all(|compare| holds(store, compare, begin));
    (succeeded, if succeeded { &request.success } else { &request.failure })
}

fn holds(store: &Store, compare: &pb::Compare, begin: i64) -> bool {
    let found = store.alive(Interval::new(&compare.key, &compare.range_end), begin);
    if found.is_empty() {
        // Numbers of a key that is not there count as 0; a compare of its value never holds.
        return compare.target != CompareTarget::Value as i32 && accepts(compare, &KeyValue::default());
    }
    found.into_iter().all(|record| accepts(compare, record))
}

fn accepts(compare: &pb::Compare, record: &KeyValue) -> bool {
    let order = match (CompareTarget::try_from(compare.target), &compare.target_union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(constant))) => record.version.cmp(constant),
        (Ok(CompareTarget::Version), _) => record.version.cmp(&0),
        (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(constant))) => {
            record.create_revision.cmp(constant)
        }
        (Ok(CompareTarget::Create), _) => record.create_revision.cmp(&0),
        (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(constant))) => {
            record.mod_revision.cmp(constant)
        }
        (Ok(CompareTarget::Mod), _) => record.mod_revision.cmp(&0),
        (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(constant))) => record.lease.cmp(constant),
        (Ok(CompareTarget::Lease), _) => record.lease.cmp(&0),
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(constant))) => record.value.cmp(constant),
        (Ok(CompareTarget::Value), _) => record.value.cmp(&Bytes::new()),
        (Err(_), _) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order == Ordering::Equal,
        Ok(CompareResult::NotEqual) => order != Ordering::Equal,
        Ok(CompareResult::Greater) => order == Ordering::Greater,
        Ok(CompareResult::Less) => order == Ordering::Less,
        Err(_) => true,
    }
}

/// Looks for what could be refused in the branches that are taken, in the order of the operations.
/// `alive` are the keys that exist when the transaction gets there.
fn allow(
    store: &Store,
    request: &pb::TxnRequest,
    begin: Moment,
    alive: &mut BTreeSet<Bytes>,
) -> Result<(), Refusal> {
    for op in taken(store, request, begin.revision).1 {
        match &op.request {
            Some(Request::RequestRange(range)) => check_revision(range.revision, begin)?,
            Some(Request::RequestPut(put)) => {
                allow_put(store, put, alive.contains(&put.key))?;
                alive.insert(put.key.clone());
            }
            Some(Request::RequestDeleteRange(delete)) => {
                let deleted = Interval::new(&delete.key, &delete.range_end);
                alive.retain(|key| !deleted.contains(key));
            }
            Some(Request::RequestTxn(nested)) => allow(store, nested, begin, alive)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// Whether a range inside a transaction may name this revision: 0 stands for the working state, and a
/// negative one is older than the compaction, unlike in a Range of its own; only while nothing was ever
/// compacted it may be -1.
fn check_revision(revision: i64, moment: Moment) -> Result<(), Refusal> {
    match revision {
        0 => Ok(()),
        asked if asked > moment.revision => Err(Refusal::Future),
        asked if asked < moment.compacted => Err(Refusal::Compacted),
        _ => Ok(()),
    }
}

fn allow_put(store: &Store, put: &pb::PutRequest, exists: bool) -> Result<(), Refusal> {
    if put.lease != 0 && !store.leases.contains_key(&put.lease) {
        return Err(Refusal::LeaseNotFound);
    }
    if (put.ignore_value || put.ignore_lease) && !exists {
        return Err(Refusal::KeyNotFound);
    }
    Ok(())
}

/// A write that is allowed, under way. All its changes have the revision after `begin`.
struct Writing<'a> {
    store: &'a mut Store,
    begin: i64,
    changes: &'a mut Vec<Change>,
}

impl Writing<'_> {
    fn txn(&mut self, request: &pb::TxnRequest) -> pb::TxnResponse {
        let (succeeded, branch) = taken(self.store, request, self.begin);
        let responses = branch.iter().filter_map(|op| {
            let response = match op.request.as_ref()? {
                Request::RequestRange(range) => Response::ResponseRange(self.range(range)),
                Request::RequestPut(put) => Response::ResponsePut(self.put(put)),
                Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(delete)),
                Request::RequestTxn(nested) => Response::ResponseTxn(self.txn(nested)),
            };
            Some(pb::ResponseOp { response: Some(response) })
        });
        let responses = responses.collect();
        // That of a nested one stays empty (etcd 1.3).
        pb::TxnResponse { header: Some(pb::ResponseHeader::default()), succeeded, responses }
    }

    /// Reads what the operations before have made, or the past. The header says what they have made.
    fn range(&self, request: &pb::RangeRequest) -> pb::RangeResponse {
        let at = if request.revision <= 0 { self.store.revision } else { request.revision };
        range::read(self.store, request, at, self.store.revision)
    }

    fn put(&mut self, request: &pb::PutRequest) -> pb::PutResponse {
        let main = self.begin + 1;
        let previous = self.store.key_at(&request.key, main).cloned();
        let kept = previous.clone().unwrap_or_default();
        let record = KeyValue {
            key: request.key.clone(),
            create_revision: previous.as_ref().map_or(main, |previous| previous.create_revision),
            mod_revision: main,
            version: kept.version + 1,
            value: if request.ignore_value { kept.value } else { request.value.clone() },
            lease: if request.ignore_lease { kept.lease } else { request.lease },
        };
        self.store.change(main, request.key.clone(), Some(record), self.changes);
        let prev_kv = previous.filter(|_| request.prev_kv).map(Into::into);
        pb::PutResponse { header: self.store.header(), prev_kv }
    }

    fn delete(&mut self, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let main = self.begin + 1;
        let found = self.store.alive(Interval::new(&request.key, &request.range_end), main);
        let found: Vec<KeyValue> = found.into_iter().cloned().collect();
        for record in &found {
            self.store.change(main, record.key.clone(), None, self.changes);
        }
        let deleted = found.len() as i64;
        let prev_kvs = if request.prev_kv { found.iter().map(Into::into).collect() } else { Vec::new() };
        pb::DeleteRangeResponse { header: self.store.header(), deleted, prev_kvs }
    }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}
