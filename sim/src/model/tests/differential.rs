//! The model against the server's own state machine, on random logs: every answer, every event, reads of
//! the past, hashes. A difference is a mistake in one of the two; the rules decide which.

use detcd::apply::{Reply, StateMachine, StateMachineConfig};
use detcd::lease::LessorConfig;
use detcd::membership::InitialCluster;
use detcd::mvcc::StoreConfig;
use detcd::quota::Quota;
use detcd::types::backend::{AppliedPoint, BackendSnapshot, StoredRecord, Table};
use detcd::types::{Error, LocalFault, Now, Revision};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::*;
use crate::random::{Draw, Random, stream};

/// A database that holds a new cluster and is never written: the state machine keeps all in memory.
struct NewDatabase {
    rows: Vec<(Table, Bytes, Option<Bytes>)>,
    applied: AppliedPoint,
}

impl BackendSnapshot for NewDatabase {
    fn record(&self, _: Revision) -> Result<Option<StoredRecord>, LocalFault> {
        Ok(None)
    }

    fn records(&self, _: Revision, _: usize) -> Result<Vec<(Revision, StoredRecord)>, LocalFault> {
        Ok(Vec::new())
    }

    fn rows(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>, LocalFault> {
        let mine = self.rows.iter().filter(|(of, ..)| *of == table);
        Ok(mine.filter_map(|(_, key, value)| Some((key.clone(), value.clone()?))).collect())
    }

    fn applied(&self) -> Result<Option<AppliedPoint>, LocalFault> {
        Ok(Some(self.applied.clone()))
    }
}

fn machine() -> StateMachine {
    let cluster = InitialCluster::parse("m=http://m:2380", "test").unwrap();
    let voters = cluster.members().map(|member| member.id.0).collect();
    let rows = cluster.to_membership().unwrap().take_rows();
    let applied = AppliedPoint { index: 1, term: 1, voters, learners: Vec::new() };
    let config = StateMachineConfig {
        store: StoreConfig::default(),
        lessor: LessorConfig::default(),
        quota: Quota::new(-1),
    };
    StateMachine::restore(Arc::new(NewDatabase { rows, applied }), config).unwrap()
}

/// Draws requests over a few keys and leases, so that they meet.
struct Requests {
    random: Random,
    revision: i64,
}

impl Requests {
    fn key(&mut self) -> Bytes {
        let keys: [&[u8]; 7] = [b"a", b"b", b"b\0", b"ba", b"c", b"d", b"\xff"];
        Bytes::from_static(keys.choose(&mut self.random).unwrap())
    }

    fn range_end(&mut self) -> Bytes {
        match self.random.random_range(0..10) {
            0..=4 => Bytes::new(),
            5 => Bytes::from_static(b"\0"),
            _ => self.key(),
        }
    }

    fn lease(&mut self) -> i64 {
        *[0, 0, 0, 1, 2, -3].choose(&mut self.random).unwrap()
    }

    fn some_revision(&mut self) -> i64 {
        self.random.random_range(-1..=self.revision + 2)
    }

    fn value(&mut self) -> Bytes {
        bytes(&self.random.random_range(0..20).to_string())
    }

    fn put(&mut self) -> pb::PutRequest {
        let (ignore_value, ignore_lease) = (self.random.percent(15), self.random.percent(15));
        pb::PutRequest {
            key: self.key(),
            value: if ignore_value { Bytes::new() } else { self.value() },
            lease: if ignore_lease { 0 } else { self.lease() },
            prev_kv: self.random.percent(50),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            prev_kv: self.random.percent(50),
        }
    }

    fn range(&mut self) -> pb::RangeRequest {
        let mut bound = |percent| {
            if self.random.percent(percent) { self.random.random_range(0..=self.revision + 1) } else { 0 }
        };
        let bounds = [bound(10), bound(10), bound(10), bound(10)];
        pb::RangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            limit: self.random.random_range(-1..5),
            revision: if self.random.percent(40) { self.some_revision() } else { 0 },
            sort_order: self.random.random_range(0..3),
            sort_target: self.random.random_range(0..5),
            serializable: false,
            keys_only: self.random.percent(20),
            count_only: self.random.percent(10),
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
        }
    }

    fn compare(&mut self) -> pb::Compare {
        let number = self.random.random_range(0..4);
        let union = match self.random.random_range(0..6) {
            0 => None,
            1 => Some(TargetUnion::Version(number)),
            2 => Some(TargetUnion::CreateRevision(self.some_revision())),
            3 => Some(TargetUnion::ModRevision(self.some_revision())),
            4 => Some(TargetUnion::Value(self.value())),
            _ => Some(TargetUnion::Lease(self.lease())),
        };
        pb::Compare {
            result: self.random.random_range(0..5),
            target: self.random.random_range(0..6),
            key: self.key(),
            range_end: self.range_end(),
            target_union: union,
        }
    }

    fn txn(&mut self, depth: usize) -> pb::TxnRequest {
        let branch = |requests: &mut Self| -> Vec<pb::RequestOp> {
            let ops = requests.random.random_range(0..4);
            (0..ops).map(|_| requests.operation(depth)).collect()
        };
        let (success, failure) = (branch(self), branch(self));
        let compares = self.random.random_range(0..3);
        pb::TxnRequest { compare: (0..compares).map(|_| self.compare()).collect(), success, failure }
    }

    fn operation(&mut self, depth: usize) -> pb::RequestOp {
        op(match self.random.random_range(0..8) {
            0..=2 => Request::RequestPut(self.put()),
            3..=4 => Request::RequestDeleteRange(self.delete()),
            5 if depth > 0 => Request::RequestTxn(self.txn(depth - 1)),
            _ => Request::RequestRange(self.range()),
        })
    }

    fn command(&mut self) -> Command {
        match self.random.random_range(0..100) {
            0..40 => Command::Put(self.put()),
            40..52 => Command::DeleteRange(self.delete()),
            52..80 => Command::Txn(self.txn(2)),
            80..84 => {
                let revision = self.some_revision() - 3;
                Command::Compact(pb::CompactionRequest { revision, physical: false })
            }
            84..90 => {
                let ttl = *[0, 60, 9_000_000_001].choose(&mut self.random).unwrap();
                Command::LeaseGrant(pb::LeaseGrantRequest { id: self.lease(), ttl })
            }
            90..94 => Command::LeaseRevoke(pb::LeaseRevokeRequest { id: self.lease() }),
            94..96 => Command::ClusterVersion("3.7.0".into()),
            _ => Command::Alarm(pb::AlarmRequest {
                // Cleared more often than raised, so that something happens.
                action: *[0, 1, 2, 2, 2].choose(&mut self.random).unwrap(),
                member_id: self.random.random_range(0..2),
                alarm: self.random.random_range(0..3),
            }),
        }
    }

    /// A command that passes the checks of its own, as those in the log do.
    fn logged_command(&mut self) -> Command {
        loop {
            let command = self.command();
            let (ours, theirs) = match &command {
                Command::Put(put) => (check_put(put), detcd::txn::check_put(put)),
                Command::DeleteRange(delete) => (check_delete(delete), detcd::txn::check_delete(delete)),
                Command::Txn(txn) => (check_txn(txn, 8), detcd::txn::check_txn(txn, 8)),
                _ => return command,
            };
            assert_eq!(text(&ours), text(&theirs), "{command:?}");
            if ours.is_ok() {
                return command;
            }
        }
    }
}

/// What a client reads of either kind of error.
trait Text {
    fn text(&self) -> (i32, &'static str);
}

impl Text for Refusal {
    fn text(&self) -> (i32, &'static str) {
        (self.code(), Refusal::text(*self))
    }
}

impl Text for detcd::types::RequestError {
    fn text(&self) -> (i32, &'static str) {
        (self.code() as i32, detcd::types::RequestError::text(*self))
    }
}

fn text<T, E: Text>(result: &Result<T, E>) -> Option<(i32, &'static str)> {
    result.as_ref().err().map(Text::text)
}

fn answer(reply: Reply) -> Option<Answer> {
    Some(match reply {
        Reply::Put(response) => Answer::Put(response),
        Reply::DeleteRange(response) => Answer::DeleteRange(response),
        Reply::Txn(response) => Answer::Txn(response),
        Reply::Compact(response) => Answer::Compact(response),
        Reply::LeaseGrant(response) => Answer::LeaseGrant(response),
        Reply::LeaseRevoke(response) => Answer::LeaseRevoke(response),
        Reply::Alarm(response) => Answer::Alarm(response),
        Reply::Internal => return None,
    })
}

fn compare_reads(machine: &StateMachine, model: &Model, requests: &mut Requests) {
    let view = machine.store().view();
    let request = requests.range();
    let theirs = detcd::txn::range(&view, &request).map_err(|error| match error {
        Error::Request(error) => error,
        Error::Local(fault) => panic!("{fault}"),
    });
    let ours = model.range(&request, model.revision(), model.compacted());
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{request:?}"),
        (ours, theirs) => assert_eq!(text(&ours), text(&theirs), "{request:?}"),
    }
    let revision = requests.some_revision();
    let Ok(mut job) = view.hash(revision) else { return };
    let hash = loop {
        if let Some(hash) = job.step(1000).unwrap() {
            break hash;
        }
    };
    let (at, compacted) = (hash.hash_revision, hash.compact_revision);
    assert_eq!(model.hash(at, compacted), hash.hash, "the hash at {at}, compacted at {compacted}");
}

#[test]
fn the_model_and_the_state_machine_agree() {
    for seed in 0..60 {
        let mut requests = Requests { random: stream(seed, "requests"), revision: 1 };
        let mut machine = machine();
        let mut fed = Fed::new();
        for _ in 0..120 {
            let command = requests.logged_command();
            let data = apply::encode(RequestId(1), command.clone());
            let index = machine.applied().index + 1;
            let theirs = machine.apply(index, 2, &data, Now::default()).unwrap();
            let ours = fed.apply(command.clone());
            let context = format!("seed {seed}, entry {index}: {command:?}");
            match (&ours.answer, theirs.reply) {
                (Ok(ours), Ok(theirs)) => assert_eq!(*ours, answer(theirs), "{context}"),
                (ours, theirs) => assert_eq!(text(ours), text(&theirs), "{context}"),
            }
            let told: Vec<_> = theirs.changes.iter().flat_map(|changes| &changes.changes).collect();
            assert_eq!(ours.changes.len(), told.len(), "{context}");
            let view = machine.store().view();
            for (ours, theirs) in ours.changes.iter().zip(told) {
                let previous = view.previous_record(theirs).unwrap();
                assert_eq!(ours.encoded(true), theirs.event(previous), "{context}");
            }
            requests.revision = fed.model.revision();
            assert_eq!((view.revision(), view.compact_revision()), (ours.revision, fed.model.compacted()));
            compare_reads(&machine, &fed.model, &mut requests);
            if requests.random.percent(10) {
                while machine.store_mut().compaction_step(5) != detcd::mvcc::CompactionProgress::Idle {}
            }
        }
    }
}
