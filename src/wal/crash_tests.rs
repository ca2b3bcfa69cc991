//! The log under power cuts, kills and bit rot at every point, against a model.

use proptest::prelude::*;

use super::tests::{create, entry, files, open, path, point};
use super::*;
use crate::disk::memory::MemoryDisk;

/// What a log holds, in the plainest form.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    snapshot: SnapshotPoint,
    hard_state: HardState,
    entries: Vec<LogEntry>,
}

impl Model {
    fn of(recovered: &Recovered) -> Self {
        Self {
            snapshot: recovered.snapshot.clone(),
            hard_state: recovered.hard_state,
            entries: recovered.entries.clone(),
        }
    }

    fn last(&self) -> u64 {
        self.snapshot.index + self.entries.len() as u64
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        self.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term)
    }

    fn apply(&mut self, batch: &WalBatch) {
        if let Some(point) = &batch.snapshot {
            if self.term(point.index) != Some(point.term) {
                self.entries.clear();
            }
            self.entries.retain(|entry| entry.index > point.index);
            self.snapshot = point.clone();
        }
        for entry in &batch.entries {
            self.entries.retain(|older| older.index < entry.index);
            self.entries.push(entry.clone());
        }
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
    }

    /// A batch that fits this log, made from numbers.
    fn batch(&self, step: &Append, term: u64) -> WalBatch {
        let mut after = self.clone();
        let snapshot = match step.snapshot {
            // The backend has caught up with a part of the log.
            0 => {
                let index =
                    self.snapshot.index + u64::from(step.at) % (self.last() - self.snapshot.index + 1);
                self.term(index).map(|term| point(index, term))
            }
            // The leader's snapshot replaces the log, or a part of it.
            1 => Some(point(self.snapshot.index + u64::from(step.at % 16) + 1, term)),
            _ => None,
        };
        after.apply(&WalBatch { snapshot: snapshot.clone(), ..Default::default() });
        let kept = after.last() - u64::from(step.back).min(after.entries.len() as u64);
        let sizes = step.sizes.iter().zip(kept + 1..);
        let entries = sizes.map(|(size, index)| entry(index, term, usize::from(*size))).collect();
        let hard_state = step.vote.map(|vote| HardState { term, vote: vote.into(), commit: kept });
        WalBatch { snapshot, entries, hard_state }
    }
}

#[derive(Clone, Debug)]
struct Append {
    snapshot: u8,
    at: u8,
    back: u8,
    sizes: Vec<u16>,
    vote: Option<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Append(Append),
    Flush,
    Seal,
    Release(u8),
    Prepare,
    /// The process is killed and starts again.
    Kill,
    /// The device dies at a change soon, and power is cut. The seed says what survives.
    PowerCut {
        after: u8,
        seed: u64,
    },
}

fn append() -> impl Strategy<Value = Append> {
    let sizes = prop::collection::vec(prop_oneof![4 => 0..300u16, 1 => 300..6000u16], 0..5);
    (0..12u8, any::<u8>(), prop_oneof![3 => Just(0u8), 1 => 0..6u8], sizes, prop::option::of(0..4u8))
        .prop_map(|(snapshot, at, back, sizes, vote)| Append { snapshot, at, back, sizes, vote })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => append().prop_map(Step::Append),
        8 => Just(Step::Flush),
        1 => Just(Step::Seal),
        3 => any::<u8>().prop_map(Step::Release),
        1 => Just(Step::Prepare),
        1 => Just(Step::Kill),
        3 => (1..20u8, any::<u64>()).prop_map(|(after, seed)| Step::PowerCut { after, seed }),
    ]
}

/// Coins from a seed: all heads, all tails, or mixed.
fn coins(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        match seed % 4 {
            0 => false,
            1 => true,
            _ => state >> 63 == 0,
        }
    }
}

/// A log, and what it must and may hold.
struct Run {
    disk: MemoryDisk,
    wal: Wal,
    /// What was acknowledged.
    durable: Model,
    /// With what was appended since.
    appended: Model,
    term: u64,
    /// Says what survives the power cut that is due.
    cut: Option<u64>,
}

impl Run {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let wal = create(&disk).unwrap();
        Self { disk, wal, durable: Model::default(), appended: Model::default(), term: 1, cut: None }
    }

    fn step(&mut self, step: &Step) {
        let outcome = match step {
            Step::Append(append) => {
                self.term += 1;
                let batch = self.appended.batch(append, self.term);
                self.wal.append(&batch);
                self.appended.apply(&batch);
                Ok(())
            }
            Step::Flush => self.wal.flush().map(|_| self.durable = self.appended.clone()),
            Step::Seal => self.wal.seal().map(|()| self.durable = self.appended.clone()),
            Step::Release(back) => {
                self.wal.release(self.durable.snapshot.index.saturating_sub((back % 8).into()))
            }
            Step::Prepare => self.wal.prepare().map(|_| ()),
            Step::Kill if self.cut.is_none() => {
                self.disk.kill();
                self.reopen(None);
                Ok(())
            }
            Step::Kill => Ok(()),
            Step::PowerCut { after, seed } => {
                if self.cut.is_none() {
                    self.disk.die_after((*after).into());
                    self.cut = Some(*seed);
                }
                Ok(())
            }
        };
        if outcome.is_err() {
            let seed = self.cut.take().expect("only a dying device makes the log fail");
            if seed.is_multiple_of(5) {
                self.disk.kill();
                self.reopen(None);
            } else {
                self.disk.power_cut(coins(seed));
                self.reopen(Some(seed));
            }
        }
    }

    /// Opens the log, at times with a crash while it is being opened, and checks what it gives.
    fn reopen(&mut self, crash_again: Option<u64>) {
        if let Some(seed) = crash_again {
            self.disk.die_after(1 + seed / 4 % 8);
            if let Ok((_, recovered)) = open(&self.disk) {
                self.accept(&recovered);
            }
            self.disk.power_cut(coins(seed.rotate_left(17)));
        }
        let (wal, recovered) = open(&self.disk).expect("a crash alone never makes a log unreadable");
        self.accept(&recovered);
        self.wal = wal;
    }

    /// What was recovered is what was acknowledged, or with the batch on its way, whole; from now on that
    /// is what must be there.
    fn accept(&mut self, recovered: &Recovered) {
        let found = Model::of(recovered);
        assert!(
            found == self.durable || found == self.appended,
            "{found:#?} is neither of {:#?} {:#?}",
            self.durable,
            self.appended
        );
        (self.durable, self.appended) = (found.clone(), found);
    }

    /// Where the last batch of the log begins, in its last segment.
    fn finish(mut self) -> (MemoryDisk, Model, u64) {
        self.cut = None;
        self.disk.power_cut(|| false);
        self.reopen(None);
        let before_last = self.wal.position.offset;
        self.wal.append(&WalBatch {
            hard_state: Some(HardState { term: self.term + 1, ..Default::default() }),
            ..Default::default()
        });
        let rolled = self.wal.flush().unwrap().rolled;
        self.appended.hard_state = HardState { term: self.term + 1, ..Default::default() };
        let before_last = if rolled { self.wal.position.offset - 512 } else { before_last };
        (self.disk, self.appended, before_last)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn acknowledged_batches_survive_and_nothing_is_invented(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        steps.iter().for_each(|step| run.step(step));
        run.finish();
    }

    #[test]
    fn a_damaged_byte_is_found_or_means_nothing(
        steps in prop::collection::vec(step(), 1..40),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..8u8), 40),
    ) {
        let mut run = Run::new();
        steps.iter().for_each(|step| run.step(step));
        let (disk, model, last_batch) = run.finish();
        let names = files(&disk);
        let last_segment = names.iter().rfind(|name| name.ends_with(".wal")).unwrap();
        for (file, offset, bit) in places {
            let name = file.get(&names);
            let length = disk.open(&path(name), crate::disk::OpenMode::Read).unwrap().len().unwrap();
            let offset = offset.index(length as usize) as u64;
            if name == last_segment && offset >= last_batch {
                continue;
            }
            disk.flip(&path(name), offset, 1 << bit);
            match open(&disk) {
                Ok((_, recovered)) => prop_assert_eq!(&Model::of(&recovered), &model, "{} {}", name, offset),
                Err(fault) => {
                    let text = fault.to_string();
                    prop_assert!(text.contains(".wal at offset"), "{}", text);
                }
            }
            disk.flip(&path(name), offset, 1 << bit);
        }
    }
}

/// A run with rolls, releases, reuse and truncation, in which the device dies at every change in turn.
#[test]
fn a_power_cut_at_every_change() {
    let append =
        |back, size| Step::Append(Append { snapshot: 9, at: 0, back, sizes: vec![size, 40], vote: Some(1) });
    let local = Step::Append(Append { snapshot: 0, at: 255, back: 0, sizes: vec![], vote: None });
    let mut script = Vec::new();
    for round in 0..8 {
        script.extend([append(0, 900), Step::Flush, append(round % 3, 10), Step::Flush, Step::Prepare]);
        script.extend([
            append(0, 1500),
            append(1, 7),
            Step::Flush,
            local.clone(),
            Step::Flush,
            Step::Release(0),
        ]);
    }
    let mut changes = 0;
    for after in 1.. {
        let mut crashed = false;
        for seed in [0, 1, 2, 3, 6, 7] {
            let mut run = Run::new();
            run.cut = Some(seed + 64 * after);
            run.disk.die_after(after);
            let mut steps = script.iter();
            while run.cut.is_some()
                && let Some(step) = steps.next()
            {
                run.step(step);
            }
            crashed = run.cut.is_none();
            // Some runs end soon after, before later syncs of the folder can make up for a missing one.
            let more = if seed % 2 == 0 { 4 } else { usize::MAX };
            steps.take(more).for_each(|step| run.step(step));
            run.finish();
        }
        if !crashed {
            changes = after;
            break;
        }
    }
    assert!(changes > 100, "the script is too short to mean anything: {changes} changes");
}
