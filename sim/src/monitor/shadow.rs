//! What is known of one member's log without asking it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use detcd::member::{MemberStatus, Persist};
use detcd::types::Revision;
use detcd::types::log::{EntryKind, HardState, LogEntry, SnapshotPoint};

/// One member.
#[derive(Default)]
pub struct Shadow {
    /// Its id in the cluster.
    pub id: u64,
    /// Whether it runs.
    pub up: bool,
    /// Whether it has run before.
    pub known: bool,
    /// Whether its last run ended with the power.
    pub dark: bool,
    /// Whether its disk was damaged.
    pub excused: bool,
    /// What it gave to its log task.
    pub volatile: Log,
    /// What it heard to be durable.
    pub durable: Log,
    /// What it gave and has not heard of, oldest first.
    pub pending: VecDeque<Given>,
    /// The index up to which its database is known to hold effects durably.
    pub database: u64,
    /// The records that its database holds, once all that it was given is there.
    pub records: BTreeSet<Revision>,
    /// What it promised: whom it voted for, by term.
    pub votes: BTreeMap<u64, u64>,
    /// What it last published in this run.
    pub status: Option<MemberStatus>,
    /// Views of this run that showed something new.
    pub views: u64,
    /// How far the last view of this run had applied the log.
    pub seen_applied: u64,
}

/// A log and the promises beside it.
#[derive(Clone, Default)]
pub struct Log {
    /// Term and vote.
    pub hard_state: HardState,
    /// Where it begins: index and chain of the entry before the first.
    pub base: (u64, u64),
    /// The entries behind it.
    pub entries: BTreeMap<u64, Slot>,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its term.
    pub term: u64,
    /// The hash of it and all before it.
    pub chain: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Its payload.
    pub data: Bytes,
}

/// One thing given to the log task.
#[derive(Clone, Default)]
pub struct Given {
    number: Option<u64>,
    entries: Vec<(u64, Slot)>,
    hard_state: Option<HardState>,
    /// Where the log begins anew: index, term and chain.
    restart: Option<(u64, u64, u64)>,
}

impl Shadow {
    /// Notes what the member gives to its log task. `base_chain` is the chain at the point where the log
    /// begins anew, if it does.
    pub fn gives(&mut self, persist: &Persist, base_chain: u64) {
        let restart = persist.snapshot.as_ref().map(|point| (point.index, point.term, base_chain));
        let mut given = Given {
            number: persist.number,
            entries: Vec::with_capacity(persist.entries.len()),
            hard_state: persist.hard_state,
            restart,
        };
        self.volatile.restart(given.restart);
        for entry in &persist.entries {
            let slot = self.volatile.slot(entry);
            self.volatile.put(entry.index, slot.clone());
            given.entries.push((entry.index, slot));
        }
        self.volatile.promise(given.hard_state);
        self.pending.push_back(given);
    }

    /// Everything up to this number is durable.
    pub fn persisted(&mut self, number: u64) {
        while let Some(given) = self.pending.pop_front() {
            let is_last = given.number == Some(number);
            self.durable.take(given);
            if is_last {
                return;
            }
        }
    }

    /// The member begins with this log.
    pub fn begins(&mut self, log: Log) {
        self.volatile = log.clone();
        self.durable = log;
        self.pending.clear();
        self.up = true;
        self.known = true;
        self.status = None;
    }
}

impl Log {
    /// A log that holds these entries behind `base`.
    pub fn new(hard_state: HardState, base: (u64, u64), entries: &[LogEntry]) -> Self {
        let mut log = Self { hard_state, base, entries: BTreeMap::new() };
        for entry in entries {
            let slot = log.slot(entry);
            log.put(entry.index, slot);
        }
        log
    }

    /// The last index.
    pub fn last_index(&self) -> u64 {
        self.entries.last_key_value().map_or(self.base.0, |(index, _)| *index)
    }

    /// The entry at an index.
    pub fn get(&self, index: u64) -> Option<&Slot> {
        self.entries.get(&index)
    }

    /// The chain at an index, as far as the log tells.
    pub fn chain_at(&self, index: u64) -> Option<u64> {
        if index == self.base.0 { Some(self.base.1) } else { self.get(index).map(|slot| slot.chain) }
    }

    /// Whether the log holds this chain at the index, or begins behind it.
    pub fn covers(&self, index: u64, chain: u64) -> bool {
        index < self.base.0 || self.chain_at(index) == Some(chain)
    }

    fn slot(&self, entry: &LogEntry) -> Slot {
        let before = self.chain_at(entry.index - 1).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (before, entry.index, entry.term, entry.kind as u8, &entry.data).hash(&mut hasher);
        let chain = hasher.finish();
        Slot { term: entry.term, chain, kind: entry.kind, data: entry.data.clone() }
    }

    fn put(&mut self, index: u64, slot: Slot) {
        self.entries.split_off(&index);
        self.entries.insert(index, slot);
    }

    fn promise(&mut self, hard_state: Option<HardState>) {
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state;
        }
    }

    /// Begins anew behind a point: what follows it stays if the log agrees there.
    fn restart(&mut self, point: Option<(u64, u64, u64)>) {
        let Some((index, term, chain)) = point else { return };
        if index < self.base.0 {
            return;
        }
        let agrees =
            self.chain_at(index) == Some(chain) || self.get(index).is_some_and(|slot| slot.term == term);
        if agrees {
            self.entries = self.entries.split_off(&(index + 1));
        } else {
            self.entries.clear();
        }
        self.base = (index, chain);
    }

    fn take(&mut self, given: Given) {
        self.restart(given.restart);
        for (index, slot) in given.entries {
            self.put(index, slot);
        }
        self.promise(given.hard_state);
    }
}

/// The point of a snapshot as people read it.
pub fn point_text(point: &SnapshotPoint) -> String {
    format!("entry {} of term {}", point.index, point.term)
}
