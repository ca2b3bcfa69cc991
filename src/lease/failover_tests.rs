//! What clients were promised, across changes of primary: two members apply one log, at their own pace,
//! while the primary renews and checkpoints. A promise is a renewal that was answered; the lease must not
//! be reported before its TTL has passed since, whoever is primary then.

use proptest::prelude::*;

use super::*;

const TTL: i64 = 20;
const LEASES: i64 = 3;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Renew(i64),
    Checkpoint,
    /// The next log entry is committed; the primary applies it.
    Apply,
    /// The other member becomes primary; entries that are not committed are lost or not.
    Failover {
        lost: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..4000u64).prop_map(Step::Wait),
        4 => (1..=LEASES).prop_map(Step::Renew),
        2 => Just(Step::Checkpoint),
        4 => Just(Step::Apply),
        1 => any::<bool>().prop_map(|lost| Step::Failover { lost }),
    ]
}

struct Cluster {
    members: [Lessor; 2],
    primary: usize,
    log: Vec<LeaseCheckpoint>,
    /// Entries that the primary, and the other member, have applied.
    applied: [usize; 2],
    /// Renewals to be answered once the entry before this place in the log is applied.
    waiting: Vec<(usize, i64, u64)>,
    /// Until when each lease must live.
    promised: BTreeMap<i64, u64>,
    now: Now,
}

impl Cluster {
    fn new() -> Self {
        let config = LessorConfig {
            checkpoint: true,
            checkpoint_interval: 3 * Now::SECOND,
            ..LessorConfig::default()
        };
        let mut members = [Lessor::new(config.clone()), Lessor::new(config)];
        members[0].promote(Now::default(), Now::SECOND);
        for member in &mut members {
            for id in 1..=LEASES {
                member.grant(LeaseId(id), TTL, Now::default()).unwrap();
            }
        }
        let promised = (1..=LEASES).map(|id| (id, TTL as u64 * Now::SECOND)).collect();
        let (primary, log, waiting) = (0, vec![], vec![]);
        Self { members, primary, log, applied: [0, 0], waiting, promised, now: Now::default() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wait(milliseconds) => {
                self.now.mono += milliseconds * Now::MILLISECOND;
                self.check_reports();
            }
            Step::Renew(id) => self.renew(id),
            Step::Checkpoint => {
                let due = self.members[self.primary].due_checkpoints(self.now, 2);
                self.log.extend(due);
            }
            Step::Apply => {
                self.apply(self.primary, 1);
                self.answer();
            }
            Step::Failover { lost } => self.fail_over(lost),
        }
    }

    fn renew(&mut self, id: i64) {
        let Ok(renewal) = self.members[self.primary].renew(LeaseId(id), self.now) else { return };
        let until = self.now.mono + renewal.ttl as u64 * Now::SECOND;
        self.log.extend(renewal.reset);
        let place = if renewal.reset.is_some() { self.log.len() } else { 0 };
        self.waiting.push((place, id, until));
        self.answer();
    }

    fn apply(&mut self, member: usize, count: usize) {
        for _ in 0..count.min(self.log.len() - self.applied[member]) {
            let LeaseCheckpoint { id, remaining_ttl } = self.log[self.applied[member]];
            self.members[member].checkpoint(LeaseId(id), remaining_ttl, self.now);
            self.applied[member] += 1;
        }
    }

    fn answer(&mut self) {
        let applied = self.applied[self.primary];
        for &(_, id, until) in self.waiting.iter().filter(|waiting| waiting.0 <= applied) {
            let promised = self.promised.entry(id).or_default();
            *promised = until.max(*promised);
        }
        self.waiting.retain(|waiting| waiting.0 > applied);
    }

    fn fail_over(&mut self, lost: bool) {
        if lost {
            self.log.truncate(self.applied[self.primary]);
        }
        self.waiting.clear();
        self.members[self.primary].demote();
        for member in 0..2 {
            self.apply(member, usize::MAX);
        }
        self.primary = 1 - self.primary;
        self.members[self.primary].promote(self.now, Now::SECOND);
    }

    fn check_reports(&mut self) {
        for id in self.members[self.primary].expired(self.now, MAX_EXPIRED_A_PASS) {
            let promised = self.promised[&id.0];
            assert!(promised <= self.now.mono, "lease {id} was promised until {promised}: {:?}", self.now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn an_answered_renewal_holds_across_changes_of_primary(steps in prop::collection::vec(step(), 1..80)) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.step(step);
        }
        // Reports only come late, never early: whatever was promised is over by now, and reported.
        cluster.now.mono += (2 * TTL as u64) * Now::SECOND;
        let reported = cluster.members[cluster.primary].expired(cluster.now, usize::MAX);
        prop_assert_eq!(reported.len(), LEASES as usize);
    }
}
