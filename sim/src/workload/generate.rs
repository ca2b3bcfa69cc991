//! Draws requests: keys that collide, values that never do, revisions where it gets interesting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use detcd::limits::MAX_TXN_OPS;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::v3electionpb::LeaderKey;
use pb::alarm_request::AlarmAction;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Operation;
use rand::Rng;

use super::Workload;
use super::recorder::revision;
use crate::history::{Answer, Outcome, Request, key_text};
use crate::model::Refusal;
use crate::random::{Draw, Random};

/// What all clients together have learnt of the store. Clones share it.
#[derive(Clone, Default)]
pub struct Learnt {
    facts: Arc<Mutex<Facts>>,
}

#[derive(Default)]
struct Facts {
    revision: i64,
    compacted: i64,
    leases: Vec<i64>,
    mod_revisions: BTreeMap<Bytes, i64>,
    values: BTreeMap<Bytes, Bytes>,
    /// Alarms that somebody was told of: kind, member.
    alarms: BTreeSet<(i32, u64)>,
    /// Whether a client was refused for an alarm since the last one was cleared.
    refused_by_alarm: bool,
}

impl Facts {
    fn learn_alarms(&mut self, action: AlarmAction, told: &[pb::AlarmMember]) {
        let told = told.iter().map(|alarm| (alarm.alarm, alarm.member_id));
        match action {
            AlarmAction::Get => self.alarms = told.collect(),
            AlarmAction::Activate => self.alarms.extend(told),
            AlarmAction::Deactivate => {
                let cleared: BTreeSet<_> = told.collect();
                self.alarms.retain(|alarm| !cleared.contains(alarm));
            }
        }
        if action != AlarmAction::Activate {
            self.refused_by_alarm = !self.alarms.is_empty();
        }
    }
}

impl Learnt {
    /// The newest revision that anybody heard of.
    pub fn revision(&self) -> i64 {
        self.lock().revision
    }

    /// The newest revision up to which anybody knows the store to be compacted.
    pub fn compacted(&self) -> i64 {
        self.lock().compacted
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws the requests of one client.
pub struct Generator {
    client: u32,
    count: u64,
    workload: Workload,
    learnt: Learnt,
    /// Keys that the branch under way of a transaction writes already.
    written: BTreeSet<Bytes>,
}

/// Every key begins with this.
const PREFIX: &str = "k/";

/// Percentage of requests that look after alarms, once a client was refused for one.
const DISARM_PERCENT: u32 = 30;

impl Generator {
    /// A generator for a client, which shares what is learnt with others.
    pub fn new(client: u32, workload: Workload, learnt: Learnt) -> Self {
        Self { client, count: 0, workload, learnt, written: BTreeSet::new() }
    }

    /// The next request.
    pub fn next(&mut self, random: &mut Random) -> Request {
        if self.learnt.lock().refused_by_alarm && random.percent(DISARM_PERCENT) {
            return self.disarm();
        }
        let weights = self.workload.weights;
        type Make = fn(&mut Generator, &mut Random) -> Request;
        let choices: [(u32, Make); 17] = [
            (weights.put, |this, random| Request::Put(this.put(random))),
            (weights.get, Generator::get),
            (weights.list, Generator::list),
            (weights.past_read, Generator::past_read),
            (weights.delete, |this, random| Request::DeleteRange(this.delete(random))),
            (weights.compare_and_swap, Generator::compare_and_swap),
            (weights.txn, |this, random| Request::Txn(this.txn(random, 0))),
            (weights.compact, Generator::compact),
            (weights.lease_grant, Generator::lease_grant),
            (weights.lease_revoke, |this, random| {
                Request::LeaseRevoke(pb::LeaseRevokeRequest { id: this.lease(random) })
            }),
            (weights.keep_alive, |this, random| Request::LeaseKeepAlive(this.lease(random))),
            (weights.time_to_live, |this, random| {
                let (id, keys) = (this.lease(random), random.percent(60));
                Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id, keys })
            }),
            (weights.lease_list, |_, _| Request::LeaseLeases),
            (weights.hash, |this, random| {
                let revision = if random.percent(50) { 0 } else { this.some_revision(random) };
                Request::HashKv(pb::HashKvRequest { revision })
            }),
            (weights.status, |_, _| Request::Status),
            (weights.bad_request, Generator::bad_request),
            (weights.alarm, Generator::alarm),
        ];
        let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
        let mut draw = random.random_range(0..total.max(1));
        for (weight, make) in choices {
            if draw < weight {
                return make(self, random);
            }
            draw -= weight;
        }
        Request::Put(self.put(random))
    }

    /// Takes in what an outcome tells.
    pub fn learn(&self, request: &Request, outcome: &Outcome) {
        let mut facts = self.learnt.lock();
        if let Outcome::Failed(failure) = outcome
            && matches!(Refusal::heard(failure), Some(Refusal::NoSpace | Refusal::Corrupt))
        {
            facts.refused_by_alarm = true;
        }
        let Outcome::Answered(answer) = outcome else { return };
        facts.revision = facts.revision.max(revision(answer));
        match (request, answer) {
            (Request::Put(put), Answer::Put(answer)) => {
                let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                facts.mod_revisions.insert(put.key.clone(), revision);
                facts.values.insert(put.key.clone(), put.value.clone());
            }
            (_, Answer::Range(answer)) => {
                for kv in answer.kvs.iter().filter_map(|kv| kv.decode().ok()) {
                    facts.mod_revisions.insert(kv.key.clone(), kv.mod_revision);
                    facts.values.insert(kv.key, kv.value);
                }
            }
            (Request::Compact(request), _) => facts.compacted = facts.compacted.max(request.revision),
            (_, Answer::LeaseGrant(answer)) => {
                facts.leases.push(answer.id);
                if facts.leases.len() > 8 {
                    facts.leases.remove(0);
                }
            }
            (Request::Alarm(request), Answer::Alarm(answer)) => {
                facts.learn_alarms(request.action(), &answer.alarms);
            }
            _ => {}
        }
    }

    fn key(&self, random: &mut Random) -> Bytes {
        // A few keys get most of the traffic.
        let most = self.workload.keys;
        let number = random.random_range(0..most).min(random.random_range(0..most));
        format!("{PREFIX}{number:02}").into()
    }

    fn value(&mut self, random: &mut Random) -> Bytes {
        self.count += 1;
        let name = format!("c{}-{}", self.client, self.count);
        let often = if self.workload.large_value > 4000 { 5 } else { 25 };
        if random.percent(often) {
            let mut value = name.into_bytes();
            value.resize(value.len().max(self.workload.large_value), b'.');
            return value.into();
        }
        name.into()
    }

    fn lease(&self, random: &mut Random) -> i64 {
        let facts = self.learnt.lock();
        if facts.leases.is_empty() || random.percent(6) {
            return random.random_range(-5..=100);
        }
        *random.pick(&facts.leases)
    }

    /// A revision around the ends of what is known: some of them are compacted, some not there yet.
    fn some_revision(&self, random: &mut Random) -> i64 {
        let facts = self.learnt.lock();
        match random.random_range(0..10) {
            0 => facts.compacted + random.random_range(-1..=1),
            1 => facts.revision + random.random_range(-1..=2),
            _ => random.random_range(facts.compacted.min(facts.revision)..=facts.revision.max(1)),
        }
        .max(0)
    }

    /// An interval of keys, as (key, range end).
    fn span(&self, random: &mut Random) -> (Bytes, Bytes) {
        match random.random_range(0..8) {
            0 => (Bytes::from_static(b"k/"), Bytes::from_static(b"k0")),
            1 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            2 => (self.key(random), Bytes::from_static(b"\0")),
            _ => (self.key(random), self.key(random)),
        }
    }

    fn put(&mut self, random: &mut Random) -> pb::PutRequest {
        let leased = !self.learnt.lock().leases.is_empty() && random.percent(25);
        let mut put = pb::PutRequest {
            key: self.key(random),
            value: self.value(random),
            lease: if leased { self.lease(random) } else { 0 },
            prev_kv: random.percent(30),
            ..Default::default()
        };
        if random.percent(4) {
            put.ignore_value = true;
            put.value = Bytes::new();
        } else if random.percent(4) {
            put.ignore_lease = true;
            put.lease = 0;
        }
        put
    }

    fn get(&mut self, random: &mut Random) -> Request {
        Request::Range(pb::RangeRequest {
            key: self.key(random),
            serializable: random.percent(25),
            keys_only: random.percent(5),
            ..Default::default()
        })
    }

    fn list(&mut self, random: &mut Random) -> Request {
        let (key, range_end) = self.span(random);
        let mut request =
            pb::RangeRequest { key, range_end, serializable: random.percent(25), ..Default::default() };
        if random.percent(40) {
            request.limit = random.random_range(1..=6);
        }
        match random.random_range(0..10) {
            0 | 1 => request.count_only = true,
            2 => request.keys_only = true,
            _ => {}
        }
        if random.percent(25) {
            return Request::RangeStream(request);
        }
        if random.percent(30) {
            request.sort_order = random.random_range(0..=2);
            request.sort_target = random.random_range(0..=4);
        }
        if random.percent(15) {
            let bound = self.some_revision(random);
            match random.random_range(0..4) {
                0 => request.min_mod_revision = bound,
                1 => request.max_mod_revision = bound,
                2 => request.min_create_revision = bound,
                _ => request.max_create_revision = bound,
            }
        }
        Request::Range(request)
    }

    fn past_read(&mut self, random: &mut Random) -> Request {
        let (key, range_end) =
            if random.percent(50) { (self.key(random), Bytes::new()) } else { self.span(random) };
        Request::Range(pb::RangeRequest {
            key,
            range_end,
            revision: self.some_revision(random),
            serializable: random.percent(40),
            count_only: random.percent(10),
            limit: if random.percent(20) { random.random_range(1..=5) } else { 0 },
            ..Default::default()
        })
    }

    fn delete(&mut self, random: &mut Random) -> pb::DeleteRangeRequest {
        let (key, range_end) =
            if random.percent(70) { (self.key(random), Bytes::new()) } else { self.span(random) };
        pb::DeleteRangeRequest { key, range_end, prev_kv: random.percent(40) }
    }

    /// What Kubernetes does: write if nobody else has since I read.
    fn compare_and_swap(&mut self, random: &mut Random) -> Request {
        let key = self.key(random);
        let mod_revision = self.learnt.lock().mod_revisions.get(&key).copied().unwrap_or_default();
        let compare = pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(mod_revision)),
            ..Default::default()
        };
        let put = pb::PutRequest { key: key.clone(), value: self.value(random), ..Default::default() };
        let get = pb::RangeRequest { key, ..Default::default() };
        Request::Txn(pb::TxnRequest {
            compare: vec![compare],
            success: vec![operation(Operation::RequestPut(put))],
            failure: vec![operation(Operation::RequestRange(get))],
        })
    }

    fn txn(&mut self, random: &mut Random, depth: u32) -> pb::TxnRequest {
        if depth == 0 {
            self.written.clear();
        }
        let compare = (0..random.random_range(0..=2)).map(|_| self.compare(random)).collect();
        let success = self.operations(random, depth);
        if depth == 0 {
            self.written.clear();
        }
        let failure = if random.percent(60) { self.operations(random, depth) } else { Vec::new() };
        pb::TxnRequest { compare, success, failure }
    }

    fn operations(&mut self, random: &mut Random, depth: u32) -> Vec<pb::RequestOp> {
        (0..random.random_range(0..=4)).map(|_| operation(self.operation(random, depth))).collect()
    }

    fn operation(&mut self, random: &mut Random, depth: u32) -> Operation {
        let get = |this: &Self, random: &mut Random, revision| {
            Operation::RequestRange(pb::RangeRequest {
                key: this.key(random),
                revision,
                ..Default::default()
            })
        };
        match random.random_range(0..13) {
            8 => {
                let revision = self.some_revision(random);
                get(self, random, revision)
            }
            5..8 => match self.list(random) {
                Request::Range(range) | Request::RangeStream(range) => Operation::RequestRange(range),
                _ => get(self, random, 0),
            },
            9 | 10 => {
                let mut delete = self.delete(random);
                if delete.range_end.is_empty()
                    && let Some(key) = self.unwritten(random)
                {
                    delete.key = key;
                }
                Operation::RequestDeleteRange(delete)
            }
            11 | 12 if depth < 2 => Operation::RequestTxn(self.txn(random, depth + 1)),
            _ => {
                let put = self.put(random);
                match self.unwritten(random) {
                    Some(key) => Operation::RequestPut(pb::PutRequest { key, ..put }),
                    None => get(self, random, 0),
                }
            }
        }
    }

    /// A key that the transaction under way does not write yet: writing one twice is refused, and not
    /// interesting so often.
    fn unwritten(&mut self, random: &mut Random) -> Option<Bytes> {
        let careless = random.percent(5);
        let key = (0..4).map(|_| self.key(random)).find(|key| careless || !self.written.contains(key))?;
        self.written.insert(key.clone());
        Some(key)
    }

    fn compare(&mut self, random: &mut Random) -> pb::Compare {
        let key = self.key(random);
        let result = random.random_range(0..=3);
        let (target, union) = match random.random_range(0..5) {
            0 => (CompareTarget::Version, TargetUnion::Version(random.random_range(0..=3))),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(self.some_revision(random))),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(self.some_revision(random))),
            3 => {
                let value = self.learnt.lock().values.get(&key).cloned().unwrap_or_default();
                (CompareTarget::Value, TargetUnion::Value(value))
            }
            _ => (
                CompareTarget::Lease,
                TargetUnion::Lease(if random.percent(50) { 0 } else { self.lease(random) }),
            ),
        };
        let range_end = if random.percent(10) { self.key(random) } else { Bytes::new() };
        pb::Compare { result, target: target as i32, key, range_end, target_union: Some(union) }
    }

    fn compact(&mut self, random: &mut Random) -> Request {
        let newest = self.learnt.lock().revision;
        let revision = match random.random_range(0..6) {
            0 => newest,
            1 => newest + random.random_range(0..=2),
            _ => newest - random.random_range(0..=10),
        };
        Request::Compact(pb::CompactionRequest { revision: revision.max(0), physical: random.percent(40) })
    }

    /// Raises an alarm for some member or for none that there is, lists them, or clears one.
    fn alarm(&mut self, random: &mut Random) -> Request {
        let corrupt = random.percent(self.workload.corrupt_percent);
        let kind = if corrupt { pb::AlarmType::Corrupt } else { pb::AlarmType::Nospace };
        let known = self.learnt.lock().alarms.iter().next().copied();
        let (action, (kind, member)) = match (random.random_range(0..10), known) {
            (0..4, _) => (AlarmAction::Activate, (kind as i32, random.random_range(0..=3))),
            (4..8, Some(known)) => (AlarmAction::Deactivate, known),
            (4, None) => (AlarmAction::Deactivate, (kind as i32, random.random_range(0..=3))),
            (8, _) => (AlarmAction::Get, (kind as i32, 0)),
            _ => (AlarmAction::Get, (pb::AlarmType::None as i32, 0)),
        };
        alarm_request(action, kind, member)
    }

    /// What an operator does about a refusal: looks which alarms there are, and clears them.
    fn disarm(&self) -> Request {
        match self.learnt.lock().alarms.iter().next() {
            Some((kind, member)) => alarm_request(AlarmAction::Deactivate, *kind, *member),
            None => alarm_request(AlarmAction::Get, pb::AlarmType::None as i32, 0),
        }
    }

    fn lease_grant(&mut self, random: &mut Random) -> Request {
        let id = match random.random_range(0..4) {
            0 => random.random_range(1..=30),
            1 => -random.random_range(1..=5),
            _ => 0,
        };
        let ttl = if random.percent(self.workload.long_lease_percent) {
            random.random_range(8..=20)
        } else {
            random.random_range(1..=6)
        };
        Request::LeaseGrant(pb::LeaseGrantRequest { ttl, id })
    }

    /// Requests that must be refused, and lose nothing.
    fn bad_request(&mut self, random: &mut Random) -> Request {
        let key = self.key(random);
        match random.random_range(0..11) {
            0 => Request::Put(pb::PutRequest { value: self.value(random), ..Default::default() }),
            1 => {
                let put = |this: &mut Self, key: &Bytes, random: &mut Random| {
                    let put =
                        pb::PutRequest { key: key.clone(), value: this.value(random), ..Default::default() };
                    operation(Operation::RequestPut(put))
                };
                let success = vec![put(self, &key, random), put(self, &key, random)];
                Request::Txn(pb::TxnRequest { success, ..Default::default() })
            }
            2 => {
                let value = self.value(random);
                Request::Put(pb::PutRequest { key, value, lease: 987_654, ..Default::default() })
            }
            3 => Request::Put(pb::PutRequest {
                key: Bytes::from_static(b"k/never"),
                ignore_value: true,
                ..Default::default()
            }),
            4 => Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 9_000_000_001, id: 0 }),
            5 => {
                let value = self.value(random);
                Request::Put(pb::PutRequest { key, value, ignore_value: true, ..Default::default() })
            }
            6 => {
                let value = self.value(random);
                let lease = 1 + self.lease(random).abs();
                Request::Put(pb::PutRequest { key, value, lease, ignore_lease: true, ..Default::default() })
            }
            7 => {
                let read = operation(Operation::RequestRange(pb::RangeRequest { key, ..Default::default() }));
                let success = vec![read; MAX_TXN_OPS + 1];
                Request::Txn(pb::TxnRequest { success, ..Default::default() })
            }
            8 => Request::RangeStream(pb::RangeRequest { key, sort_order: 2, ..Default::default() }),
            9 => Request::RangeStream(pb::RangeRequest { key, min_mod_revision: 1, ..Default::default() }),
            _ => Request::Range(pb::RangeRequest { key, sort_order: 7, ..Default::default() }),
        }
    }
}

/// A request about alarms.
pub fn alarm_request(action: AlarmAction, kind: i32, member: u64) -> Request {
    Request::Alarm(pb::AlarmRequest { action: action as i32, member_id: member, alarm: kind })
}

fn operation(request: Operation) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// A request on one line.
pub fn describe(request: &Request) -> String {
    match request {
        Request::Put(put) => {
            let value = key_text(&put.value.slice(..put.value.len().min(24)));
            let lease = if put.lease == 0 { String::new() } else { format!(" lease {:x}", put.lease) };
            format!("put {} = {value}{lease}", key_text(&put.key))
        }
        Request::Range(range) => describe_range("range", range),
        Request::RangeStream(range) => describe_range("range stream", range),
        Request::DeleteRange(delete) => {
            format!("delete {}{}", key_text(&delete.key), end_text(&delete.range_end))
        }
        Request::Txn(txn) => format!(
            "txn if {} then {} else {}",
            txn.compare.iter().map(describe_compare).collect::<Vec<_>>().join(" and "),
            describe_operations(&txn.success),
            describe_operations(&txn.failure)
        ),
        Request::Compact(compact) => {
            format!("compact {}{}", compact.revision, if compact.physical { " physically" } else { "" })
        }
        Request::LeaseGrant(grant) => format!("grant lease {:x} for {} s", grant.id, grant.ttl),
        Request::LeaseRevoke(revoke) => format!("revoke lease {:x}", revoke.id),
        Request::LeaseKeepAlive(id) => format!("keep lease {id:x} alive"),
        Request::LeaseTimeToLive(ask) => format!("time to live of lease {:x}", ask.id),
        Request::LeaseLeases => "list leases".into(),
        Request::HashKv(hash) => format!("hash at {}", hash.revision),
        Request::Status => "status".into(),
        Request::MemberList(_) => "list members".into(),
        Request::MoveLeader(to) => format!("move the leadership to {:x}", to.target_id),
        Request::Lock(lock) => format!("lock {} with lease {:x}", key_text(&lock.name), lock.lease),
        Request::Unlock(unlock) => format!("unlock {}", key_text(&unlock.key)),
        Request::Campaign(campaign) => {
            let (name, value) = (key_text(&campaign.name), key_text(&campaign.value));
            format!("campaign in {name} with {value}, lease {:x}", campaign.lease)
        }
        Request::Proclaim(proclaim) => {
            format!("proclaim {} as {}", key_text(&proclaim.value), leader_key_text(&proclaim.leader))
        }
        Request::Leader(leader) => format!("who leads {}", key_text(&leader.name)),
        Request::Resign(resign) => format!("resign as {}", leader_key_text(&resign.leader)),
        Request::Alarm(alarm) => {
            format!(
                "{} {} of {:x}",
                alarm.action().as_str_name(),
                alarm.alarm().as_str_name(),
                alarm.member_id
            )
        }
    }
}

fn leader_key_text(leader: &Option<LeaderKey>) -> String {
    match leader {
        Some(leader) => format!("{} of {}", key_text(&leader.key), leader.rev),
        None => "nobody".into(),
    }
}

fn describe_range(verb: &str, range: &pb::RangeRequest) -> String {
    let at = if range.revision == 0 { String::new() } else { format!(" at {}", range.revision) };
    let how = if range.serializable { ", serializable" } else { "" };
    format!("{verb} {}{}{at}{how}", key_text(&range.key), end_text(&range.range_end))
}

fn end_text(end: &Bytes) -> String {
    if end.is_empty() { String::new() } else { format!("..{}", key_text(end)) }
}

fn describe_compare(compare: &pb::Compare) -> String {
    let sign = ["=", ">", "<", "!="].get(compare.result as usize).copied().unwrap_or("?");
    format!("{} {sign} {:?}", key_text(&compare.key), compare.target_union)
}

fn describe_operations(operations: &[pb::RequestOp]) -> String {
    let one = |operation: &pb::RequestOp| match &operation.request {
        Some(Operation::RequestPut(put)) => describe(&Request::Put(put.clone())),
        Some(Operation::RequestRange(range)) => describe_range("range", range),
        Some(Operation::RequestDeleteRange(delete)) => describe(&Request::DeleteRange(delete.clone())),
        Some(Operation::RequestTxn(txn)) => describe(&Request::Txn(txn.clone())),
        None => "nothing".into(),
    };
    format!("[{}]", operations.iter().map(one).collect::<Vec<_>>().join("; "))
}
