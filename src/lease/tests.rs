//! Exact answers of the lessor, case by case.

use super::*;

const ELECTION: u64 = Now::SECOND;
const NONE: [i64; 0] = [];

fn at(seconds: f64) -> Now {
    Now { mono: (seconds * 1e9) as u64, wall: 0 }
}

fn config() -> LessorConfig {
    LessorConfig { checkpoint: true, ..LessorConfig::default() }
}

/// A primary with leases of these ids and TTLs, granted at time 0.
fn primary(leases: &[(i64, i64)]) -> Lessor {
    let mut lessor = Lessor::new(config());
    lessor.promote(at(0.0), ELECTION);
    for &(id, ttl) in leases {
        lessor.grant(LeaseId(id), ttl, at(0.0)).unwrap();
    }
    lessor
}

fn expired(lessor: &mut Lessor, seconds: f64) -> Vec<i64> {
    lessor.expired(at(seconds), MAX_EXPIRED_A_PASS).into_iter().map(|id| id.0).collect()
}

fn due(lessor: &mut Lessor, seconds: f64) -> Vec<(i64, i64)> {
    let due = lessor.due_checkpoints(at(seconds), MAX_CHECKPOINTS_AN_ENTRY);
    due.into_iter().map(|checkpoint| (checkpoint.id, checkpoint.remaining_ttl)).collect()
}

fn remaining(lessor: &Lessor, id: i64, seconds: f64) -> i64 {
    lessor.time_to_live(LeaseId(id), at(seconds)).unwrap().remaining
}

/// A lessor restored from the rows that `lessor` has changed so far.
fn restarted(lessor: &mut Lessor, attachments: &[(&'static str, i64)]) -> Lessor {
    let mut rows = BTreeMap::new();
    for (table, key, value) in lessor.take_rows() {
        assert_eq!(table, Table::Lease);
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
    let attachments = attachments.iter().map(|&(key, id)| (Bytes::from(key), LeaseId(id))).collect();
    Lessor::restore(rows.into_iter().collect(), attachments, config()).unwrap()
}

#[test]
fn the_minimum_is_one_and_a_half_elections_rounded_up() {
    for (election, heartbeat, seconds) in
        [(1000, 100, 2), (1000, 1000, 1), (5000, 500, 8), (50_000, 100, 75), (1000, 0, 2), (0, 0, 0)]
    {
        assert_eq!(min_ttl(election, heartbeat), seconds, "{election}/{heartbeat}");
    }
    assert_eq!(min_ttl(u64::MAX, 1), MAX_TTL_SECONDS);
}

#[test]
fn grants_are_checked_and_raised() {
    let mut lessor = Lessor::new(config());
    let mut check = |id: i64, ttl: i64, expected| {
        assert_eq!(lessor.grant(LeaseId(id), ttl, at(0.0)), expected, "id {id}, TTL {ttl}");
    };
    check(1, 1, Ok(2));
    check(1, 10, Err(RequestError::LeaseExists));
    check(1, MAX_TTL_SECONDS + 1, Err(RequestError::LeaseTtlTooLarge));
    check(2, MAX_TTL_SECONDS, Ok(MAX_TTL_SECONDS));
    check(-3, i64::MIN, Ok(2));
    check(i64::MIN, 60, Ok(60));
    check(0, 60, Err(RequestError::LeaseNotFound));
}

#[test]
fn a_revoke_gives_the_keys_sorted_and_forgets_the_lease() {
    let mut lessor = primary(&[(7, 10)]);
    for key in ["c", "a", "b", "d"] {
        lessor.attach(key.into(), LeaseId(7));
    }
    lessor.detach(b"b", LeaseId(7));
    lessor.detach(b"never there", LeaseId(7));
    lessor.attach("a".into(), LeaseId(7));
    assert_eq!(lessor.statistics().attached_keys, 3);
    assert_eq!(lessor.revoke(LeaseId(7)), Ok(vec!["a".into(), "c".into(), "d".into()]));
    lessor.detach(b"a", LeaseId(7));
    assert_eq!(lessor.revoke(LeaseId(7)), Err(RequestError::LeaseNotFound));
    assert!(!lessor.exists(LeaseId(7)) && lessor.time_to_live(LeaseId(7), at(0.0)).is_none());
    assert_eq!(lessor.renew(LeaseId(7), at(0.0)), Err(RenewError::NotFound));
    assert_eq!(expired(&mut lessor, 1e6), NONE);
    let expected = LessorStatistics { granted_total: 1, revoked_total: 1, ..LessorStatistics::default() };
    assert_eq!(lessor.statistics(), expected);
}

#[test]
fn expiry_is_reported_on_time_soonest_first_and_again_until_revoked() {
    let mut lessor = primary(&[(1, 10), (2, 5), (-3, 10)]);
    assert_eq!(lessor.next_deadline(), Some(5 * Now::SECOND));
    assert_eq!(expired(&mut lessor, 4.999_999), NONE);
    assert_eq!(expired(&mut lessor, 5.0), [2]);
    assert_eq!(lessor.expired(at(11.0), 1), [LeaseId(-3)]);
    assert_eq!(expired(&mut lessor, 11.0), [1]);
    assert_eq!(expired(&mut lessor, 11.9), NONE);
    assert_eq!(expired(&mut lessor, 12.0), [2], "seven seconds after its first report");
    lessor.revoke(LeaseId(2)).unwrap();
    assert_eq!(expired(&mut lessor, 30.0), [-3, 1]);
    assert_eq!(lessor.statistics().expired_total, 6);
}

#[test]
fn a_renewal_starts_the_ttl_anew_until_the_lease_is_over() {
    let mut lessor = primary(&[(1, 10)]);
    assert_eq!(lessor.renew(LeaseId(1), at(9.5)), Ok(Renewal { ttl: 10, reset: None }));
    assert_eq!(remaining(&lessor, 1, 9.6), 9, "whole seconds, rounded down");
    assert_eq!(expired(&mut lessor, 19.4), NONE);
    assert_eq!(lessor.renew(LeaseId(1), at(19.5)), Err(RenewError::Expiring), "due, not yet reported");
    assert_eq!(expired(&mut lessor, 19.5), [1]);
    assert_eq!(lessor.renew(LeaseId(1), at(19.5)), Err(RenewError::Expiring));
    assert_eq!(remaining(&lessor, 1, 99.0), 0);
    lessor.demote();
    assert_eq!(lessor.renew(LeaseId(1), at(20.0)), Err(RenewError::NotPrimary));
}

#[test]
fn only_a_primary_expires_and_a_new_one_gives_everybody_more_time() {
    let mut lessor = primary(&[(1, 10)]);
    lessor.demote();
    assert_eq!((expired(&mut lessor, 99.0), lessor.next_deadline()), (vec![], None));
    assert_eq!(remaining(&lessor, 1, 99.0), 10);
    lessor.grant(LeaseId(2), 5, at(99.0)).unwrap();
    lessor.promote(at(100.0), ELECTION);
    assert_eq!(lessor.leases(), [LeaseId(2), LeaseId(1)]);
    assert_eq!(expired(&mut lessor, 105.9), NONE);
    assert_eq!(expired(&mut lessor, 106.0), [2]);
    lessor.promote(at(106.0), ELECTION);
    assert_eq!(lessor.renew(LeaseId(2), at(106.0)).map(|renewal| renewal.ttl), Ok(5), "a fresh start");
}

#[test]
fn a_promotion_spreads_out_what_would_expire_at_once() {
    let mut lessor = Lessor::new(config());
    for id in 1..=2000 {
        lessor.grant(LeaseId(id), 10, at(0.0)).unwrap();
    }
    lessor.promote(at(0.0), ELECTION);
    for (second, count) in [(10.9, 0), (11.0, 750), (11.9, 0), (12.0, 750), (12.9, 0), (13.0, 500)] {
        assert_eq!(lessor.expired(at(second), usize::MAX).len(), count, "at {second} s");
    }
}

#[test]
fn long_leases_are_checkpointed_and_a_new_primary_goes_on_from_there() {
    let mut lessor = primary(&[(1, 1000), (2, 300)]);
    assert_eq!(lessor.next_deadline(), Some(300 * Now::SECOND));
    assert_eq!(due(&mut lessor, 299.0), []);
    assert_eq!(due(&mut lessor, 300.5), [(1, 700)], "rounded up; 300 s are not worth it");
    assert_eq!(due(&mut lessor, 300.5), []);
    lessor.checkpoint(LeaseId(1), 700, at(301.0));
    assert_eq!(remaining(&lessor, 1, 301.0), 699, "the expiry here does not move");
    let mut next = restarted(&mut lessor, &[]);
    assert_eq!(remaining(&next, 1, 0.0), 700);
    next.promote(at(0.0), ELECTION);
    assert_eq!(due(&mut next, 300.0), [(1, 401)]);
    next.checkpoint(LeaseId(1), 401, at(300.0));
    assert_eq!(due(&mut next, 600.0), [(1, 101)]);
    next.checkpoint(LeaseId(1), 101, at(600.0));
    assert_eq!(due(&mut next, 700.9), [], "what is left is not worth it");
    assert_eq!(expired(&mut next, 701.0), [2, 1]);
}

#[test]
fn a_renewal_after_a_checkpoint_asks_for_a_reset() {
    let mut lessor = primary(&[(1, 1000)]);
    let reset = LeaseCheckpoint { id: 1, remaining_ttl: 0 };
    let mut check = |expected, why| match lessor.renew(LeaseId(1), at(310.0)) {
        Ok(renewal) => assert_eq!((renewal.ttl, renewal.reset), (1000, expected), "{why}"),
        Err(error) => panic!("{why}: {error}"),
    };
    check(None, "nothing asked");
    let mut lessor = primary(&[(1, 1000)]);
    assert_eq!(due(&mut lessor, 300.0), [(1, 700)]);
    let mut check = |applied: &[i64], expected, why| {
        for &remaining_ttl in applied {
            lessor.checkpoint(LeaseId(1), remaining_ttl, at(310.0));
        }
        let renewal = lessor.renew(LeaseId(1), at(310.0)).unwrap();
        assert_eq!((renewal.ttl, renewal.reset), (1000, expected), "{why}");
    };
    check(&[], Some(reset), "the checkpoint is on its way");
    check(&[0], Some(reset), "a reset from before does not stand for it");
    check(&[700], Some(reset), "applied");
    check(&[0], None, "full again");
}

#[test]
fn a_checkpoint_beyond_the_ttl_means_full_and_an_unknown_lease_is_ignored() {
    let mut lessor = Lessor::new(config());
    lessor.grant(LeaseId(1), 10, at(0.0)).unwrap();
    lessor.checkpoint(LeaseId(1), 4, at(0.0));
    assert_eq!(remaining(&lessor, 1, 0.0), 4);
    for full in [0, -1, i64::MIN, 10, 11, i64::MAX] {
        lessor.checkpoint(LeaseId(1), full, at(0.0));
        assert_eq!(remaining(&lessor, 1, 0.0), 10, "{full}");
    }
    lessor.checkpoint(LeaseId(2), 4, at(0.0));
    assert!(!lessor.exists(LeaseId(2)));
    assert_eq!(lessor.take_rows().len(), 3, "granted, shortened, full again; no row without a change");
}

#[test]
fn checkpoints_are_applied_but_not_asked_for_when_switched_off() {
    let mut lessor = Lessor::new(LessorConfig::default());
    lessor.promote(at(0.0), ELECTION);
    lessor.grant(LeaseId(1), 1000, at(0.0)).unwrap();
    assert_eq!(due(&mut lessor, 900.0), []);
    lessor.checkpoint(LeaseId(1), 50, at(900.0));
    assert!(lessor.renew(LeaseId(1), at(900.0)).unwrap().reset.is_some());
}

#[test]
fn rows_are_as_etcd_writes_them() {
    let mut lessor = Lessor::new(config());
    lessor.grant(LeaseId(-2), 60, at(0.0)).unwrap();
    lessor.checkpoint(LeaseId(-2), 5, at(0.0));
    let key = Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xfe");
    let id = b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    let row = |rest: &[u8]| Some(Bytes::from([id, rest].concat()));
    let expected =
        [(Table::Lease, key.clone(), row(b"\x10\x3c")), (Table::Lease, key, row(b"\x10\x3c\x18\x05"))];
    assert_eq!(lessor.take_rows(), expected);
    assert_eq!(lessor.take_rows(), []);
}

#[test]
fn a_restart_keeps_leases_and_attachments() {
    let mut lessor = primary(&[(1, 10), (-2, 20), (3, 30)]);
    lessor.revoke(LeaseId(3)).unwrap();
    let next = restarted(&mut lessor, &[("b", 1), ("a", 1), ("dangling", 3)]);
    assert_eq!(next.leases(), [LeaseId(-2), LeaseId(1)]);
    let status = next.time_to_live(LeaseId(1), at(0.0)).unwrap();
    assert_eq!(
        (status.granted, status.keys().cloned().collect::<Vec<_>>()),
        (10, vec!["a".into(), "b".into()])
    );
    assert_eq!(next.statistics().attached_keys, 2);
    assert!(!next.is_primary());
}

#[test]
fn damaged_rows_are_a_fault() {
    let row = |id: i64, ttl| leasepb::Lease { id, ttl, remaining_ttl: 0 }.encode_to_vec();
    let check = |key: &[u8], value: Vec<u8>| {
        let rows = vec![(Bytes::copy_from_slice(key), value.into())];
        assert!(Lessor::restore(rows, vec![], config()).is_err(), "{key:?}");
    };
    check(&1i64.to_be_bytes(), row(2, 10));
    check(b"short", row(1, 10));
    check(&0i64.to_be_bytes(), row(0, 10));
    check(&1i64.to_be_bytes(), row(1, MAX_TTL_SECONDS + 1));
    check(&1i64.to_be_bytes(), vec![0xff]);
}
