//! What entries do to the state machine, as a whole.

use super::*;
use crate::membership::InitialCluster;
use crate::mvcc::testing::MemoryBackend;
use crate::types::RequestId;

struct Machine {
    machine: StateMachine,
    backend: MemoryBackend,
}

impl Machine {
    fn new() -> Self {
        let cluster = InitialCluster::parse("m=http://m:2380", "test").expect("a list of members");
        let voters = cluster.members().map(|member| member.id.0).collect();
        let mut backend = MemoryBackend::default();
        backend.commit(BackendBatch {
            rows: cluster.to_membership().expect("one member").take_rows(),
            applied: Some(AppliedPoint { index: 1, term: 1, voters, learners: Vec::new() }),
            ..BackendBatch::default()
        });
        Self::open(backend)
    }

    fn open(backend: MemoryBackend) -> Self {
        let config = StateMachineConfig {
            store: StoreConfig::default(),
            lessor: LessorConfig::default(),
            quota: Quota::new(0),
        };
        let machine = StateMachine::restore(backend.snapshot(), config).expect("a database that was written");
        Self { machine, backend }
    }

    fn apply_at(&mut self, command: Command, now: Now) -> Applied {
        let index = self.machine.applied().index + 1;
        let data = encode(RequestId(index), command);
        self.machine.apply(index, 2, &data, now).expect("no fault")
    }

    fn apply(&mut self, command: Command) -> Result<Reply, RequestError> {
        self.apply_at(command, Now::default()).reply
    }

    fn commit(&mut self) {
        let batch = self.machine.take_batch();
        self.backend.commit(batch);
    }

    fn keys(&self) -> Vec<String> {
        let view = self.machine.store().view();
        view.live().iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
    }
}

fn put(key: &str, lease: i64) -> Command {
    Command::Put(pb::PutRequest { key: key.to_owned().into(), lease, ..Default::default() })
}

fn grant(id: i64) -> Command {
    Command::LeaseGrant(pb::LeaseGrantRequest { id, ttl: 10 })
}

fn alarm(action: pb::alarm_request::AlarmAction, kind: pb::AlarmType) -> Command {
    Command::Alarm(pb::AlarmRequest { action: action as i32, member_id: 1, alarm: kind as i32 })
}

fn delete(key: &str) -> Command {
    Command::DeleteRange(pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() })
}

#[test]
fn a_revoke_deletes_the_keys_that_the_lease_has_now_in_one_revision() {
    let mut machine = Machine::new();
    for command in [grant(1), grant(2), put("b", 1), put("a", 1), put("moved", 1), put("moved", 2)] {
        assert!(machine.apply(command).is_ok());
    }
    let before = machine.machine.store().revision();
    let revoke = Command::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 });
    let applied = machine.apply_at(revoke.clone(), Now::default());
    let changes = applied.changes.expect("two keys are gone");
    let changed: Vec<_> = changes.changes.iter().map(|change| change.key.clone()).collect();
    assert_eq!((changes.main, changed), (before + 1, vec!["a".into(), "b".into()]));
    assert_eq!(applied.effect, Effect::LeaseRevoked(LeaseId(1)));
    assert_eq!(machine.keys(), ["moved"]);
    assert_eq!(machine.apply(revoke), Err(RequestError::LeaseNotFound));
}

#[test]
fn a_refused_request_changes_nothing_but_the_applied_point() {
    let mut machine = Machine::new();
    machine.commit();
    let before = machine.backend.clone();
    assert_eq!(machine.apply(put("k", 9)), Err(RequestError::LeaseNotFound));
    machine.commit();
    assert_eq!((machine.backend.records.len(), &machine.backend.rows), (0, &before.rows));
    assert_eq!(machine.backend.applied.as_ref().map(|point| point.index), Some(2));
}

#[test]
fn alarms_refuse_what_they_must_and_no_more() {
    use pb::AlarmType::{Corrupt, Nospace};
    use pb::alarm_request::AlarmAction::{Activate, Deactivate};
    let compact = || Command::Compact(pb::CompactionRequest { revision: 2, physical: false });
    let revoke = || Command::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 });
    let reading = || Command::Txn(pb::TxnRequest::default());
    let check = |kind, commands: &[(Command, Option<RequestError>)]| {
        let mut machine = Machine::new();
        for command in [grant(1), put("k", 0), put("k", 0), alarm(Activate, kind)] {
            assert!(machine.apply(command).is_ok());
        }
        for (command, refusal) in commands {
            assert_eq!(machine.apply(command.clone()).err(), *refusal, "{kind:?}: {command:?}");
        }
        assert!(machine.apply(alarm(Deactivate, kind)).is_ok());
        assert!(machine.apply(put("k", 0)).is_ok());
    };
    let full = Some(RequestError::NoSpace);
    check(
        Nospace,
        &[
            (put("k", 0), full),
            (grant(2), full),
            (reading(), None),
            (compact(), None),
            (revoke(), None),
            (delete("k"), None),
        ],
    );
    let corrupt = Some(RequestError::Corrupt);
    let all = [put("k", 0), grant(2), reading(), compact(), revoke(), delete("k")];
    check(Corrupt, &all.map(|command| (command, corrupt)));
}

#[test]
fn the_outcome_does_not_depend_on_the_clock_or_on_where_commits_fall() {
    let script = || {
        vec![
            grant(1),
            put("a", 1),
            put("b", 1),
            put("d", 1),
            put("e", 1),
            alarm(pb::alarm_request::AlarmAction::Activate, pb::AlarmType::Corrupt),
            put("refused", 0),
            alarm(pb::alarm_request::AlarmAction::Deactivate, pb::AlarmType::Corrupt),
            delete("a"),
            Command::Compact(pb::CompactionRequest { revision: 3, physical: true }),
            Command::ClusterVersion("3.7.0".into()),
            Command::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }),
            put("c", 0),
        ]
    };
    let run = |mono: u64, reopen_every: usize| {
        let mut machine = Machine::new();
        let mut replies = Vec::new();
        for (at, command) in script().into_iter().enumerate() {
            if at % reopen_every == reopen_every - 1 {
                machine.commit();
                machine = Machine::open(machine.backend);
            }
            replies.push(machine.apply_at(command, Now { mono: mono * at as u64, wall: 0 }).reply);
        }
        machine.commit();
        (replies, machine.backend)
    };
    let expected = run(1, 100);
    for mono in 2..20 {
        assert_eq!(run(mono, 100), expected, "another clock");
    }
    for reopen_every in 1..5 {
        assert_eq!(
            run(Now::SECOND * 60, reopen_every),
            expected,
            "opened again every {reopen_every} entries"
        );
    }
}

/// Only the primary knows when a lease runs out, so nobody may ask.
#[test]
fn a_put_finds_its_lease_until_the_revoke_is_applied() {
    for primary in [false, true] {
        let mut machine = Machine::new();
        if primary {
            machine.machine.lessor_mut().promote(Now::default(), 0);
        }
        assert!(machine.apply(grant(1)).is_ok());
        let late = Now { mono: 60 * Now::SECOND, wall: 0 };
        assert!(machine.apply_at(put("k", 1), late).reply.is_ok(), "primary: {primary}");
    }
}

#[test]
fn the_last_voter_cannot_be_removed() {
    let mut machine = Machine::new();
    let voter = MemberId(machine.machine.applied().voters[0]);
    let removed = machine.machine.apply_member_change(MemberChange::Remove(voter));
    assert_eq!(removed, Err(RequestError::NotEnoughStarted));
    assert!(machine.machine.membership().member(voter).is_some());
}

#[test]
fn a_cost_is_told_for_what_takes_space() {
    let mut machine = Machine::new();
    let mut check = |command, cost| assert_eq!(machine.apply_at(command, Now::default()).cost, cost);
    check(put("key", 0), 259);
    check(grant(3), 64);
    check(delete("key"), 0);
}

#[test]
#[should_panic(expected = "applied behind entry")]
fn an_entry_cannot_be_left_out() {
    Machine::new().machine.advance(5, 1);
}
