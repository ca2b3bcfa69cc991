//! Random histories with random flushes, crashes, evictions and compaction steps, against the model.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::model::{Model, Op, run};
use super::restore;
use crate::mvcc::testing::MemoryBackend;
use crate::mvcc::{Store, StoreConfig, View};
use crate::types::KeyRange;
use crate::types::backend::BackendBatch;

/// Something that happens to a member.
#[derive(Clone, Debug)]
enum Step {
    Txn(Vec<Op>),
    /// Compacts at so many revisions before the current one.
    Compact(i64),
    RemoveCompacted(usize),
    /// Hands a batch to the database.
    TakeBatch,
    /// The database commits the oldest batch that it was handed.
    Commit,
    /// The member stops, loses what is not committed, restarts and replays its log.
    Crash,
    /// A reader takes a view and holds on to it.
    KeepView,
    /// A reader reads a key.
    Read(Bytes),
}

/// What is replicated.
#[derive(Clone, Debug)]
enum Entry {
    Txn(Vec<Op>),
    Compact(i64),
}

fn apply(store: &mut Store, entry: &Entry) {
    match entry {
        Entry::Txn(ops) => run(store.write(), ops),
        Entry::Compact(revision) => drop(store.compact(*revision)),
    }
}

/// A member whose memory is tight, with its database.
struct Member {
    store: Store,
    backend: MemoryBackend,
    /// Batches on their way to the database, each with its revision and the length of the log then.
    queued: VecDeque<(BackendBatch, i64, usize)>,
    log: Vec<Entry>,
    committed: usize,
}

const CONFIG: StoreConfig = StoreConfig { value_cache_bytes: 60, recent_bytes: 600, page_records: 3 };

impl Member {
    fn new() -> Self {
        let backend = MemoryBackend::default();
        let store = restore(&backend, CONFIG);
        Self { store, backend, queued: VecDeque::new(), log: Vec::new(), committed: 0 }
    }

    fn apply(&mut self, entry: Entry) {
        apply(&mut self.store, &entry);
        self.log.push(entry);
    }

    fn take_batch(&mut self) {
        let batch = self.store.take_batch();
        self.queued.push_back((batch, self.store.revision(), self.log.len()));
    }

    fn commit(&mut self) {
        if let Some((batch, revision, log_len)) = self.queued.pop_front() {
            self.backend.commit(batch);
            self.committed = log_len;
            self.store.batch_committed(self.backend.snapshot(), revision);
        }
    }

    fn crash(&mut self) {
        self.queued.clear();
        self.store = restore(&self.backend, CONFIG);
        for entry in &self.log[self.committed..] {
            apply(&mut self.store, entry);
        }
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "ab", "b", "ba", "c", "\u{7f}"]).prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => key().prop_map(KeyRange::single),
        2 => (key(), key()).prop_map(|(start, end)| KeyRange::from_wire(start, end)),
        1 => key().prop_map(|start| KeyRange::from_wire(start, Bytes::from_static(b"\0"))),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let value = (0..40_usize, any::<u8>()).prop_map(|(len, byte)| Bytes::from(vec![byte; len]));
    prop_oneof![
        3 => (key(), value, -1..3_i64).prop_map(|(key, value, lease)| Op::Put { key, value, lease }),
        1 => range().prop_map(Op::Delete),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec(op(), 1..4).prop_map(Step::Txn),
        2 => (0..8_i64).prop_map(Step::Compact),
        4 => (1..6_usize).prop_map(Step::RemoveCompacted),
        4 => Just(Step::TakeBatch),
        4 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::KeepView),
        2 => key().prop_map(Step::Read),
    ]
}

/// Every hash that can be asked for, taken in small steps.
fn check_hashes(view: &View, model: &Model, records_per_step: usize) {
    for revision in model.compact_revision.max(1)..=model.revision() {
        let mut job = view.hash(revision).unwrap();
        let hash = loop {
            if let Some(hash) = job.step(records_per_step).unwrap() {
                break hash;
            }
        };
        assert_eq!(hash, model.hash(revision), "at revision {revision}");
    }
}

fn check_history(steps: Vec<Step>, ranges: &[KeyRange]) {
    let mut member = Member::new();
    // Neither flushed nor evicted nor physically compacted, ever.
    let mut witness = restore(&MemoryBackend::default(), StoreConfig::default());
    let mut model = Model::new();
    let mut kept: Vec<(View, Model)> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Txn(ops) => {
                model.apply(&ops);
                run(witness.write(), &ops);
                member.apply(Entry::Txn(ops));
            }
            Step::Compact(before) => {
                let revision = model.revision() - before;
                if revision > model.compact_revision.max(0) {
                    model.compact_revision = revision;
                    witness.compact(revision).unwrap();
                    member.apply(Entry::Compact(revision));
                }
            }
            Step::RemoveCompacted(max_keys) => drop(member.store.compaction_step(max_keys)),
            Step::TakeBatch => member.take_batch(),
            Step::Commit => member.commit(),
            Step::Crash => member.crash(),
            Step::KeepView => kept.push((member.store.view(), model.clone())),
            Step::Read(key) => {
                let view = member.store.view();
                view.get(&key).map(|live| view.live_record(live).unwrap());
            }
        }
        if number % 8 == 7 {
            model.check(&member.store.view(), ranges);
        }
    }
    for view in [member.store.view(), witness.view()] {
        kept.push((view, model.clone()));
    }
    for (view, model) in &kept {
        model.check(view, ranges);
        check_hashes(view, model, 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_answers_are_those_of_the_model(
        steps in prop::collection::vec(step(), 1..60),
        ranges in prop::collection::vec(range(), 1..3),
    ) {
        check_history(steps, &ranges);
    }
}
