//! Random requests against a model that keeps the whole key space of every revision.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::proto::etcdserverpb::{DeleteRangeResponse, PutResponse, RangeResponse, ResponseOp};
use crate::types::KeyRange;

type Keys = BTreeMap<Bytes, KeyValue>;

/// The key space at every revision from 0 on; the last one is the present.
#[derive(Clone)]
struct Model {
    past: Vec<Keys>,
    compact_revision: i64,
}

/// A transaction in the model.
struct Working<'a> {
    model: &'a Model,
    keys: Keys,
    changed: bool,
}

impl Model {
    fn revision(&self) -> i64 {
        self.past.len() as i64 - 1
    }

    fn present(&self) -> &Keys {
        &self.past[self.past.len() - 1]
    }

    /// Runs `operations`; all or nothing.
    fn run<R>(
        &mut self,
        operations: impl FnOnce(&mut Working<'_>) -> Result<R, RequestError>,
    ) -> Result<R, RequestError> {
        let mut working = Working { model: self, keys: self.present().clone(), changed: false };
        let response = operations(&mut working)?;
        let Working { keys, changed, .. } = working;
        if changed {
            self.past.push(keys);
        }
        Ok(response)
    }
}

impl Working<'_> {
    fn header(&self) -> Option<ResponseHeader> {
        let revision = self.model.revision() + i64::from(self.changed);
        Some(ResponseHeader { revision, ..ResponseHeader::default() })
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, RequestError> {
        let succeeded = request.compare.iter().all(|compare| holds(self.model.present(), compare));
        let ops = if succeeded { &request.success } else { &request.failure };
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.clone().unwrap() {
                Request::RequestRange(range) => Response::ResponseRange(self.range_in_txn(&range)?),
                Request::RequestPut(put) => Response::ResponsePut(self.put(&put)?),
                Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(&delete)),
                Request::RequestTxn(txn) => {
                    let nested = self.txn(&txn)?;
                    Response::ResponseTxn(TxnResponse { header: Some(ResponseHeader::default()), ..nested })
                }
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        Ok(TxnResponse { header: self.header(), succeeded, responses })
    }

    fn range_in_txn(&self, request: &RangeRequest) -> Result<RangeResponse, RequestError> {
        let keys = match request.revision {
            0 => &self.keys,
            revision if revision > self.model.revision() => return Err(RequestError::FutureRevision),
            revision if revision < self.model.compact_revision => {
                return Err(RequestError::Compacted);
            }
            ..0 => &self.keys,
            revision => &self.model.past[revision as usize],
        };
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        let mut kvs: Vec<EncodedKeyValue> =
            keys.values().filter(|kv| range.contains(&kv.key)).map(Into::into).collect();
        let count = kvs.len() as i64;
        let more = request.limit > 0 && count > request.limit;
        if more {
            kvs.truncate(request.limit as usize);
        }
        Ok(RangeResponse { header: self.header(), kvs, more, count })
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, RequestError> {
        if request.lease != 0 && !lease_exists(LeaseId(request.lease)) {
            return Err(RequestError::LeaseNotFound);
        }
        let previous = self.keys.get(&request.key).cloned();
        if (request.ignore_value || request.ignore_lease) && previous.is_none() {
            return Err(RequestError::KeyNotFound);
        }
        let mod_revision = self.model.revision() + 1;
        let mut kv = previous.clone().unwrap_or(KeyValue {
            key: request.key.clone(),
            create_revision: mod_revision,
            ..KeyValue::default()
        });
        kv.mod_revision = mod_revision;
        kv.version += 1;
        if !request.ignore_value {
            kv.value = request.value.clone();
        }
        if !request.ignore_lease {
            kv.lease = request.lease;
        }
        self.keys.insert(request.key.clone(), kv);
        self.changed = true;
        let prev_kv = previous.filter(|_| request.prev_kv).map(Into::into);
        Ok(PutResponse { header: self.header(), prev_kv })
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        let doomed: Vec<KeyValue> =
            self.keys.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        for kv in &doomed {
            self.keys.remove(&kv.key);
        }
        self.changed |= !doomed.is_empty();
        let deleted = doomed.len() as i64;
        let prev_kvs = doomed.iter().filter(|_| request.prev_kv).map(Into::into).collect();
        DeleteRangeResponse { header: self.header(), deleted, prev_kvs }
    }
}

fn holds(keys: &Keys, compare: &Compare) -> bool {
    let range = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
    let mut found: Vec<KeyValue> = keys.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
    if found.is_empty() {
        if compare.target == CompareTarget::Value as i32 {
            return false;
        }
        found.push(KeyValue::default());
    }
    found.iter().all(|kv| {
        let order = match compare.target_union.clone().unwrap() {
            TargetUnion::Version(number) => kv.version.cmp(&number),
            TargetUnion::CreateRevision(number) => kv.create_revision.cmp(&number),
            TargetUnion::ModRevision(number) => kv.mod_revision.cmp(&number),
            TargetUnion::Value(value) => kv.value.cmp(&value),
            TargetUnion::Lease(number) => kv.lease.cmp(&number),
        };
        match CompareResult::try_from(compare.result).unwrap() {
            CompareResult::Equal => order == Ordering::Equal,
            CompareResult::NotEqual => order != Ordering::Equal,
            CompareResult::Greater => order == Ordering::Greater,
            CompareResult::Less => order == Ordering::Less,
        }
    })
}

/// The store beside its model.
struct Fixture {
    store: Store,
    backend: MemoryBackend,
    model: Model,
    /// The leases of keys, as the moves alone tell.
    leases: BTreeMap<Bytes, LeaseId>,
}

impl Fixture {
    fn new() -> Self {
        let (store, backend) = empty_store();
        let model = Model { past: vec![Keys::new(); 2], compact_revision: -1 };
        Self { store, backend, model, leases: BTreeMap::new() }
    }

    fn step(&mut self, step: Step) {
        let Self { store, model, .. } = self;
        let begin = store.revision();
        match step {
            Step::Put(request) => {
                let expected = model.run(|working| working.put(&request));
                let applied = put(store, &request, &lease_exists);
                self.check_applied(begin, applied, expected);
            }
            Step::Delete(request) => {
                let expected = model.run(|working| Ok(working.delete(&request)));
                let applied = delete_range(store, &request);
                self.check_applied(begin, applied, expected);
            }
            Step::Txn(request) => {
                if check_txn(&request, 128).is_err() {
                    return;
                }
                let expected = model.run(|working| working.txn(&request));
                if is_read_only(&request) {
                    let response = read_txn(&store.view(), &request);
                    assert_eq!(response, expected.clone().map_err(Error::Request));
                }
                let applied = txn(store, &request, &lease_exists);
                self.check_applied(begin, applied, expected);
            }
            Step::Flush => {
                self.backend.commit(store.take_batch());
                store.batch_committed(self.backend.snapshot(), store.revision());
            }
            Step::Compact(back) => {
                let revision = store.revision() - back;
                if store.compact(revision).is_ok() {
                    model.compact_revision = revision;
                }
            }
        }
    }

    fn check_applied<R: std::fmt::Debug + PartialEq>(
        &mut self,
        begin: i64,
        applied: Result<Applied<R>, Error>,
        expected: Result<R, RequestError>,
    ) {
        let applied = match (applied, expected) {
            (Ok(applied), Ok(expected)) => {
                assert_eq!(applied.response, expected);
                applied
            }
            (Err(error), Err(expected)) => {
                assert_eq!(error, Error::Request(expected));
                assert_eq!(self.store.revision(), begin);
                return;
            }
            (applied, expected) => panic!("{applied:?} instead of {expected:?}"),
        };
        assert_eq!(
            applied.changes.map(|changes| changes.main),
            (self.model.revision() > begin).then_some(begin + 1)
        );
        for LeaseMove { key, from, to } in applied.lease_moves {
            let before = self.leases.insert(key, to).unwrap_or_default();
            assert_eq!(before, from);
        }
    }

    fn check_state(&self) {
        let view = self.store.view();
        assert_eq!(view.revision(), self.model.revision());
        let kvs = view.live().iter().map(|(_, live)| view.live_record(live).unwrap().decode().unwrap());
        assert!(kvs.eq(self.model.present().values().cloned()));
        for (key, lease) in &self.leases {
            assert_eq!(lease.0, self.model.present().get(key).map_or(0, |kv| kv.lease), "{key:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Flush,
    Compact(i64),
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "b", "c", "d", "e", "f"]).prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => Just(Bytes::new()), 1 => Just(Bytes::from_static(b"\0")), 2 => key()]
}

fn a_put() -> impl Strategy<Value = PutRequest> {
    let lease = prop_oneof![6 => Just(0), 3 => 1..3i64, 1 => Just(9)];
    let keep = || prop::bool::weighted(0.2);
    (key(), vec(b'0'..b'3', 0..3), lease, any::<bool>(), keep(), keep()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value.into() },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn a_delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn a_range() -> impl Strategy<Value = RangeRequest> {
    let revision = prop_oneof![5 => Just(0), 3 => -1..30i64];
    (key(), range_end(), 0..4i64, revision).prop_map(|(key, range_end, limit, revision)| RangeRequest {
        key,
        range_end,
        limit,
        revision,
        ..RangeRequest::default()
    })
}

fn a_compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        (0..3i64).prop_map(|number| (CompareTarget::Version, TargetUnion::Version(number))),
        (0..20i64).prop_map(|number| (CompareTarget::Create, TargetUnion::CreateRevision(number))),
        (0..20i64).prop_map(|number| (CompareTarget::Mod, TargetUnion::ModRevision(number))),
        (0..3i64).prop_map(|number| (CompareTarget::Lease, TargetUnion::Lease(number))),
        vec(b'0'..b'3', 0..3).prop_map(|value| (CompareTarget::Value, TargetUnion::Value(value.into()))),
    ];
    (key(), range_end(), 0..4i32, union).prop_map(|(key, range_end, result, (target, union))| Compare {
        result,
        target: target as i32,
        key,
        range_end,
        target_union: Some(union),
    })
}

fn a_txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        a_range().prop_map(Request::RequestRange),
        a_put().prop_map(Request::RequestPut),
        a_delete().prop_map(Request::RequestDeleteRange),
    ];
    let of = |ops: BoxedStrategy<Request>| {
        let branch = || vec(ops.clone().prop_map(op), 0..4);
        (vec(a_compare(), 0..2), branch(), branch()).prop_map(|(compare, success, failure)| TxnRequest {
            compare,
            success,
            failure,
        })
    };
    let flat = of(leaf.clone().boxed());
    let nested = of(prop_oneof![3 => leaf.clone(), 1 => flat.prop_map(Request::RequestTxn)].boxed());
    of(prop_oneof![3 => leaf, 1 => nested.prop_map(Request::RequestTxn)].boxed())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => a_put().prop_map(Step::Put),
        1 => a_delete().prop_map(Step::Delete),
        6 => a_txn().prop_map(Step::Txn),
        1 => Just(Step::Flush),
        1 => (0..5i64).prop_map(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn requests_do_what_the_model_does(steps in vec(step(), 0..40)) {
        let mut fixture = Fixture::new();
        for step in steps {
            fixture.step(step);
        }
        fixture.check_state();
    }
}
