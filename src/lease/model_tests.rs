//! The lessor against a model that keeps a list and looks at all of it every time.

use proptest::prelude::*;

use super::*;

/// Interval after which a report is repeated, in nanoseconds.
const RETRY: u64 = 3 * Now::SECOND;
const EXTEND: u64 = Now::SECOND;
const MIN_TTL: i64 = 2;

#[derive(Clone, Debug)]
enum Step {
    Grant(i64, i64),
    Revoke(i64),
    Attach(u8, i64),
    Detach(u8, i64),
    Checkpoint(i64, i64),
    Renew(i64),
    /// Milliseconds to wait, then how many reports to take at most.
    Expire(u64, usize),
    Promote,
    Demote,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || prop_oneof![Just(-1i64), Just(i64::MIN), 1..5i64];
    prop_oneof![
        4 => (id(), -1..12i64).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        1 => id().prop_map(Step::Revoke),
        3 => (0..6u8, id()).prop_map(|(key, id)| Step::Attach(key, id)),
        1 => (0..6u8, id()).prop_map(|(key, id)| Step::Detach(key, id)),
        1 => (id(), -1..12i64).prop_map(|(id, rest)| Step::Checkpoint(id, rest)),
        3 => id().prop_map(Step::Renew),
        6 => (0..3000u64, 1..4usize).prop_map(|(wait, max)| Step::Expire(wait, max)),
        1 => Just(Step::Promote),
        1 => Just(Step::Demote),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug)]
struct ModelLease {
    id: i64,
    ttl: i64,
    rest: i64,
    keys: Vec<Bytes>,
    expires: u64,
    reported: Option<u64>,
}

#[derive(Default)]
struct Model {
    leases: Vec<ModelLease>,
    primary: bool,
}

impl Model {
    fn find(&mut self, id: i64) -> Option<&mut ModelLease> {
        self.leases.iter_mut().find(|lease| lease.id == id)
    }

    fn grant(&mut self, id: i64, ttl: i64, now: u64) -> Result<i64, RequestError> {
        if self.find(id).is_some() {
            return Err(RequestError::LeaseExists);
        }
        let ttl = ttl.max(MIN_TTL);
        let expires = now + ttl as u64 * Now::SECOND;
        self.leases.push(ModelLease { id, ttl, rest: ttl, keys: vec![], expires, reported: None });
        Ok(ttl)
    }

    fn promote(&mut self, now: u64) {
        self.primary = true;
        for lease in &mut self.leases {
            lease.expires = now + lease.rest as u64 * Now::SECOND + EXTEND;
            lease.reported = None;
        }
    }

    fn renew(&mut self, id: i64, now: u64) -> Result<(i64, bool), RenewError> {
        if !self.primary {
            return Err(RenewError::NotPrimary);
        }
        let lease = self.find(id).ok_or(RenewError::NotFound)?;
        if lease.expires <= now {
            return Err(RenewError::Expiring);
        }
        lease.expires = lease.expires.max(now + lease.ttl as u64 * Now::SECOND);
        Ok((lease.ttl, lease.rest < lease.ttl))
    }

    /// Reports of leases that are due: the one that waited longest first.
    fn expired(&mut self, now: u64, max: usize) -> Vec<LeaseId> {
        let due_at = |lease: &ModelLease| lease.reported.map_or(lease.expires, |at| at + RETRY);
        let mut due: Vec<_> = self.leases.iter_mut().filter(|lease| due_at(lease) <= now).collect();
        due.sort_by_key(|lease| (due_at(lease), lease.id));
        due.truncate(if self.primary { max } else { 0 });
        due.into_iter()
            .map(|lease| {
                lease.reported = Some(now);
                LeaseId(lease.id)
            })
            .collect()
    }
}

fn key(number: u8) -> Bytes {
    Bytes::from(vec![b'k', number])
}

/// Replays the steps on both, and compares every answer.
fn check(steps: Vec<Step>) {
    let config = LessorConfig { min_ttl_seconds: MIN_TTL, revoke_retry: RETRY, ..LessorConfig::default() };
    let (mut lessor, mut model) = (Lessor::new(config.clone()), Model::default());
    let mut rows = BTreeMap::new();
    let mut now = Now::default();
    for step in steps {
        match step {
            Step::Grant(id, ttl) => {
                assert_eq!(lessor.grant(LeaseId(id), ttl, now), model.grant(id, ttl, now.mono));
            }
            Step::Revoke(id) => {
                let place = model.leases.iter().position(|lease| lease.id == id);
                let expected = place.map(|place| {
                    let mut keys = model.leases.remove(place).keys;
                    keys.sort();
                    keys
                });
                assert_eq!(lessor.revoke(LeaseId(id)), expected.ok_or(RequestError::LeaseNotFound));
            }
            Step::Attach(number, id) => {
                lessor.attach(key(number), LeaseId(id));
                if let Some(lease) = model.find(id) {
                    lease.keys.retain(|other| *other != key(number));
                    lease.keys.push(key(number));
                }
            }
            Step::Detach(number, id) => {
                lessor.detach(&key(number), LeaseId(id));
                if let Some(lease) = model.find(id) {
                    lease.keys.retain(|other| *other != key(number));
                }
            }
            Step::Checkpoint(id, rest) => {
                lessor.checkpoint(LeaseId(id), rest, now);
                if let Some(lease) = model.find(id) {
                    lease.rest = if (1..lease.ttl).contains(&rest) { rest } else { lease.ttl };
                }
            }
            Step::Renew(id) => {
                let answer = lessor.renew(LeaseId(id), now).map(|done| (done.ttl, done.reset.is_some()));
                assert_eq!(answer, model.renew(id, now.mono));
            }
            Step::Expire(wait, max) => {
                now.mono += wait * Now::MILLISECOND;
                assert_eq!(lessor.expired(now, max), model.expired(now.mono, max));
            }
            Step::Promote => {
                lessor.promote(now, EXTEND);
                model.promote(now.mono);
            }
            Step::Demote => {
                lessor.demote();
                model.primary = false;
            }
            Step::Restart => {
                collect_rows(&mut lessor, &mut rows);
                let attachments = model.leases.iter().flat_map(|lease| {
                    lease.keys.iter().map(|key| (key.clone(), LeaseId(lease.id))).collect::<Vec<_>>()
                });
                let restored = Lessor::restore(
                    rows.clone().into_iter().collect(),
                    attachments.collect(),
                    config.clone(),
                );
                lessor = restored.unwrap();
                model.primary = false;
            }
        }
        compare(&lessor, &model, now);
    }
}

fn collect_rows(lessor: &mut Lessor, rows: &mut BTreeMap<Bytes, Bytes>) {
    for (_, key, value) in lessor.take_rows() {
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
}

fn compare(lessor: &Lessor, model: &Model, now: Now) {
    let mut leases: Vec<_> = model.leases.iter().collect();
    leases.sort_by_key(|lease| (if model.primary { lease.expires } else { 0 }, lease.id));
    assert_eq!(lessor.leases(), leases.iter().map(|lease| LeaseId(lease.id)).collect::<Vec<_>>());
    for lease in &leases {
        let status = lessor.time_to_live(LeaseId(lease.id), now).unwrap();
        let left = (lease.expires.saturating_sub(now.mono) / Now::SECOND) as i64;
        let mut keys = lease.keys.clone();
        keys.sort();
        assert_eq!(status.keys().cloned().collect::<Vec<_>>(), keys);
        let remaining = if model.primary { left } else { lease.rest };
        assert_eq!((status.remaining, status.granted), (remaining, lease.ttl));
    }
    let due = |lease: &&ModelLease| lease.reported.map_or(lease.expires, |at| at + RETRY);
    let next = leases.iter().map(due).min().filter(|_| model.primary);
    assert_eq!(lessor.next_deadline(), next);
    assert_eq!(lessor.is_primary(), model.primary);
    let keys: usize = leases.iter().map(|lease| lease.keys.len()).sum();
    assert_eq!(lessor.statistics().attached_keys, keys);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_lessor_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        check(steps);
    }
}
