//! Locks and elections: who is told what, against the order of keys in line.

use bytes::Bytes;
use detcd::apply::Command;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use detcd::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use crate::checkers::testing::*;
use crate::checkers::{election, linearizable, lock, observe, once, steps};
use crate::history::{Answer, Failure, Observation, Outcome, Request};
use crate::model::Refusal;

fn lock_request(lease: i64) -> Request {
    Request::Lock(LockRequest { name: "l".into(), lease })
}

fn campaign_request(lease: i64, value: &str) -> Request {
    Request::Campaign(CampaignRequest { name: "e".into(), lease, value: Bytes::from(value.to_owned()) })
}

fn full_header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: 1, member_id: 1, revision, raft_term: 2 })
}

/// Two leases, with which two clients stand in line.
fn two_leases() -> Recorder {
    let mut recorder = Recorder::new();
    recorder.write(grant(1, 10));
    recorder.write(grant(2, 10));
    recorder
}

/// A call, and its first step in the log.
fn comes(recorder: &mut Recorder, client: u32, request: Request) -> usize {
    let number = recorder.call(client, 1, request.clone());
    recorder.log(steps::first_write(&request).unwrap());
    number
}

/// A lock call hears that it holds the lock now.
fn holds(recorder: &mut Recorder, number: usize, lease: i64) {
    let header = full_header(recorder.model.revision());
    let key = steps::key_of(b"l", lease);
    recorder.end(number, Outcome::Answered(Answer::Lock(LockResponse { header, key })));
}

fn unlocks(recorder: &mut Recorder, client: u32, lease: i64) {
    let request = Request::Unlock(UnlockRequest { key: steps::key_of(b"l", lease) });
    let number = comes(recorder, client, request);
    let header = full_header(recorder.model.revision());
    recorder.end(number, Outcome::Answered(Answer::Unlock(UnlockResponse { header })));
}

fn over(recorder: &mut Recorder, number: usize) {
    let failure: Failure = Refusal::SessionExpired.into();
    recorder.end(number, Outcome::Unknown(failure));
}

#[test]
fn a_lock_goes_from_one_to_the_next_in_line() {
    let mut recorder = two_leases();
    let first = comes(&mut recorder, 1, lock_request(1));
    holds(&mut recorder, first, 1);
    let second = comes(&mut recorder, 2, lock_request(2));
    unlocks(&mut recorder, 1, 1);
    holds(&mut recorder, second, 2);
    // Who has it gets it again.
    let again = comes(&mut recorder, 2, lock_request(2));
    holds(&mut recorder, again, 2);
    recorder.expect_good();
}

#[test]
fn two_holders_are_found() {
    let mut recorder = two_leases();
    let first = comes(&mut recorder, 1, lock_request(1));
    holds(&mut recorder, first, 1);
    let second = comes(&mut recorder, 2, lock_request(2));
    holds(&mut recorder, second, 2);
    recorder.expect_bad(lock::check, "but l/1 has it by its key of revision 2");
}

#[test]
fn a_waiter_without_its_lease_holds_nothing() {
    let waits = |told: fn(&mut Recorder, usize)| {
        let mut recorder = two_leases();
        let first = comes(&mut recorder, 1, lock_request(1));
        holds(&mut recorder, first, 1);
        let second = comes(&mut recorder, 2, lock_request(2));
        recorder.now += 20_000_000_000;
        recorder.log(command(&revoke(2)));
        unlocks(&mut recorder, 1, 1);
        told(&mut recorder, second);
        recorder
    };
    waits(over).expect_good();
    waits(|recorder, second| holds(recorder, second, 2)).expect_bad(lock::check, "where its key is gone");
    // And the other way around.
    let mut recorder = two_leases();
    let first = comes(&mut recorder, 1, lock_request(1));
    over(&mut recorder, first);
    recorder.expect_bad(lock::check, "its key of revision 2 was never gone");
}

#[test]
fn a_lock_is_not_told_by_a_key_or_a_revision_of_another_time() {
    let mut recorder = two_leases();
    let first = comes(&mut recorder, 1, lock_request(1));
    holds(&mut recorder, first, 2);
    recorder.expect_bad(lock::check, "which is not its own");
    let mut recorder = two_leases();
    let first = comes(&mut recorder, 1, lock_request(1));
    holds(&mut recorder, first, 1);
    header_of(&mut recorder.evidence, first).revision = 9;
    recorder.expect_bad(lock::check, "at revision 9, when the store went from 1 to 2");
}

#[test]
fn a_step_that_nobody_asked_for_is_found() {
    let mut recorder = two_leases();
    let first = comes(&mut recorder, 1, lock_request(1));
    holds(&mut recorder, first, 1);
    // A call that ended without hearing leaves the line by itself.
    let second = comes(&mut recorder, 2, lock_request(2));
    recorder.end(second, unknown());
    let LeaderKey { key, .. } = leader_key(2, 0);
    let leave = |key: &Bytes, rev| {
        let leader = LeaderKey { name: "l".into(), key: key.clone(), rev, lease: 2 };
        steps::first_write(&Request::Resign(ResignRequest { leader: Some(leader) })).unwrap()
    };
    let own = steps::key_of(b"l", 2);
    recorder.log(leave(&own, 3));
    recorder.expect_good();
    recorder.log(leave(&key, 3));
    recorder.expect_bad(once::check, "holds a request that nobody made");
    // Standing in line happens once a call.
    let mut recorder = two_leases();
    let first = comes(&mut recorder, 1, lock_request(1));
    recorder.log(steps::first_write(&lock_request(1)).unwrap());
    holds(&mut recorder, first, 1);
    recorder.expect_bad(once::check, "once more than it was made");
}

fn leader_key(lease: i64, rev: i64) -> LeaderKey {
    LeaderKey { name: "e".into(), key: steps::key_of(b"e", lease), rev, lease }
}

/// A campaign hears that it leads by the key of this creation.
fn leads(recorder: &mut Recorder, number: usize, lease: i64, rev: i64) {
    let leader = Some(leader_key(lease, rev));
    let header = full_header(recorder.model.revision());
    recorder.end(number, Outcome::Answered(Answer::Campaign(CampaignResponse { header, leader })));
}

fn proclaims(
    recorder: &mut Recorder,
    lease: i64,
    rev: i64,
    value: &str,
    outcome: impl Fn(i64) -> Outcome,
) -> usize {
    let value = Bytes::from(value.to_owned());
    let request = Request::Proclaim(ProclaimRequest { leader: Some(leader_key(lease, rev)), value });
    let number = comes(recorder, 1, request);
    let outcome = outcome(recorder.model.revision());
    recorder.end(number, outcome);
    number
}

fn proclaimed(revision: i64) -> Outcome {
    Outcome::Answered(Answer::Proclaim(ProclaimResponse { header: full_header(revision) }))
}

fn resigns(recorder: &mut Recorder, lease: i64, rev: i64) {
    let request = Request::Resign(ResignRequest { leader: Some(leader_key(lease, rev)) });
    let number = comes(recorder, 1, request);
    let header = full_header(recorder.model.revision());
    recorder.end(number, Outcome::Answered(Answer::Resign(ResignResponse { header })));
}

/// What somebody hears who asks who leads, as the model knows it.
fn asks(recorder: &mut Recorder) -> usize {
    recorder.read(Request::Leader(LeaderRequest { name: "e".into() }))
}

/// An election that goes from one to the next: revisions 2 to 5.
fn election() -> Recorder {
    let mut recorder = two_leases();
    asks(&mut recorder);
    let first = comes(&mut recorder, 1, campaign_request(1, "a"));
    leads(&mut recorder, first, 1, 2);
    asks(&mut recorder);
    let second = comes(&mut recorder, 2, campaign_request(2, "b"));
    proclaims(&mut recorder, 1, 2, "a2", proclaimed);
    asks(&mut recorder);
    resigns(&mut recorder, 1, 2);
    leads(&mut recorder, second, 2, 3);
    asks(&mut recorder);
    recorder
}

#[test]
fn an_election_goes_from_one_to_the_next() {
    let mut recorder = election();
    recorder.expect_good();
    proclaims(&mut recorder, 1, 2, "late", |_| refused(Refusal::NotElectionLeader));
    recorder.expect_good();
}

#[test]
fn a_second_leader_is_found() {
    let mut recorder = two_leases();
    let first = comes(&mut recorder, 1, campaign_request(1, "a"));
    leads(&mut recorder, first, 1, 2);
    let second = comes(&mut recorder, 2, campaign_request(2, "b"));
    leads(&mut recorder, second, 2, 3);
    recorder.expect_bad(election::check, "there e/1 of revision 2 leads");
    // A candidate that has lost its key may be told, if nobody older is there.
    let mut recorder = two_leases();
    let first = comes(&mut recorder, 1, campaign_request(1, "a"));
    recorder.write_on(4, 1, revoke(1));
    leads(&mut recorder, first, 1, 2);
    recorder.expect_good();
    leads(&mut recorder, first, 1, 3);
    recorder.expect_bad(election::check, "which did not create it");
}

#[test]
fn a_leader_that_is_none_does_not_speak() {
    let mut recorder = election();
    let number = proclaims(&mut recorder, 1, 2, "late", proclaimed);
    recorder.expect_bad(linearizable::check, "but its entry");
    recorder.evidence.operations[number].outcome = refused(Refusal::LeaderMissing);
    recorder.expect_bad(linearizable::check, "for what is not wrong with it");
    let mut recorder = election();
    let number = asks(&mut recorder);
    let Outcome::Answered(Answer::Leader(answer)) = &mut recorder.evidence.operations[number].outcome else {
        panic!()
    };
    answer.kv = recorder.model.record(&steps::key_of(b"e", 1), 4).map(Into::into);
    recorder.expect_bad(linearizable::check, "which no state gives");
}

/// An observer that hears these records: each of the key of a lease, as of a revision.
fn observes(recorder: &mut Recorder, words: &[(i64, i64)]) {
    let name = Bytes::from_static(b"e");
    let told = |(lease, revision): &(i64, i64)| {
        let kv = recorder.model.record(&steps::key_of(b"e", *lease), *revision).map(Into::into);
        (u64::MAX, LeaderResponse { header: full_header(*revision), kv })
    };
    let words = words.iter().map(told).collect();
    recorder.evidence.contents = vec![recorder.contents(1)];
    recorder.evidence.observations =
        vec![Observation { number: 0, client: 9, member: 1, name, opened: STEP, words, ended: false }];
}

#[test]
fn an_observer_hears_of_leaders_in_order() {
    let mut recorder = election();
    let check = |recorder: &mut Recorder, words: &[(i64, i64)], wrong: Option<&str>| {
        observes(recorder, words);
        match wrong {
            None => recorder.expect_good(),
            Some(text) => recorder.expect_bad(observe::check, text),
        }
    };
    check(&mut recorder, &[(1, 2), (1, 4), (2, 3)], None);
    // Who came and went may be missing, a word of who leads may not.
    check(&mut recorder, &[(1, 4), (2, 3)], None);
    check(&mut recorder, &[(2, 3)], None);
    check(&mut recorder, &[(2, 3), (1, 4)], Some("after version 1 of e/2 of revision 3"));
    check(&mut recorder, &[(1, 2), (1, 2), (2, 3)], Some("its version 1, after version 1"));
    check(&mut recorder, &[(1, 2), (1, 4)], Some("does not know at the end that e/2 of revision 3 leads"));
    check(&mut recorder, &[(1, 2), (2, 4)], Some("what is no leader"));
    recorder.evidence.observations[0].ended = true;
    recorder.evidence.observations[0].words.pop();
    recorder.expect_good();
    // A candidate in line is no leader.
    proclaims(&mut recorder, 2, 3, "b2", proclaimed);
    let third = comes(&mut recorder, 3, campaign_request(1, "c"));
    recorder.end(third, unknown());
    check(&mut recorder, &[(2, 3), (2, 6), (1, 7)], Some("but it did not lead"));
    check(&mut recorder, &[(2, 3), (2, 6)], None);
    // One that looks late hears of nobody who had gone.
    observes(&mut recorder, &[(1, 2), (2, 6)]);
    recorder.evidence.observations[0].opened = recorder.now;
    recorder.expect_bad(observe::check, "it did not lead since it asked");
}

#[test]
fn what_the_services_write_is_known_to_the_byte() {
    let key = |lease| String::from_utf8(steps::key_of(b"n", lease).to_vec()).unwrap();
    assert_eq!((key(31), key(-31)), ("n/1f".to_owned(), "n/-1f".to_owned()));
    assert!(steps::is_key_of(b"n", 31, b"n/1f") && !steps::is_key_of(b"n", 31, b"n/1e"));
    assert!(steps::is_key_of(b"n", 0, b"n/1e") && !steps::is_key_of(b"n", 0, b"m/1e"));
    assert_eq!(steps::first_write(&lock_request(0)), None);
    let grant = Command::LeaseGrant(pb::LeaseGrantRequest { id: 5, ttl: 60 });
    assert!(
        steps::is_further_step(&lock_request(0), &grant) && !steps::is_further_step(&lock_request(1), &grant)
    );
}
