//! The state that entries change: the versions of all keys, leases, alarms.
//!
//! A key is the list of its versions, oldest first; a deletion is a version without a record. What a key
//! was at a revision is the last version up to it. Clones share what did not change since, so that a
//! search over orders can keep many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use detcd::apply::Command;
use detcd::proto::KeyValue;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::alarm_request::AlarmAction;
use detcd::types::Revision;

use super::request::costs_space;
use super::{Applied, Change, Interval, Moment, Refusal, Settings, hash, range, txn};
use crate::history::Answer;

/// The longest time to live that is granted, in seconds (etcd).
const MAX_LEASE_TTL: i64 = 9_000_000_000;

/// One version of one key.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// The main revision.
    pub(super) main: i64,
    /// The place of the change inside its revision, from 0.
    pub(super) sub: i64,
    /// The record, none for a deletion.
    pub(super) record: Option<KeyValue>,
}

/// The replicated state, with all of its past.
#[derive(Clone, Debug)]
pub struct Store {
    settings: Settings,
    /// The revision, 1 at first.
    pub revision: i64,
    /// The revision up to which it is compacted, -1 at first. Nothing is removed.
    pub compacted: i64,
    /// Leases with their granted time to live in seconds. Which keys they have, the keys say.
    pub leases: Arc<BTreeMap<i64, i64>>,
    /// Alarms that are raised: kind, member.
    pub alarms: Arc<BTreeSet<(i32, u64)>>,
    pub(super) keys: BTreeMap<Bytes, Arc<Vec<Version>>>,
}

impl Store {
    /// The state before any request.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            revision: 1,
            compacted: -1,
            leases: Arc::default(),
            alarms: Arc::default(),
            keys: BTreeMap::new(),
        }
    }

    /// Carries out a request from the log. One that is refused changes nothing.
    pub fn execute(&mut self, command: &Command) -> Applied {
        if let Err(refusal) = self.admit(command) {
            return Applied { revision: self.revision, answer: Err(refusal), changes: Vec::new() };
        }
        let mut changes = Vec::new();
        let answer = match command {
            Command::Put(request) => txn::put_alone(self, request, &mut changes).map(Answer::Put).map(Some),
            Command::DeleteRange(request) => {
                Ok(Some(Answer::DeleteRange(txn::delete_alone(self, request, &mut changes))))
            }
            Command::Txn(request) => txn::write(self, request, &mut changes).map(Answer::Txn).map(Some),
            Command::Compact(request) => self.compact(request).map(Answer::Compact).map(Some),
            Command::LeaseGrant(request) => self.grant(request).map(Answer::LeaseGrant).map(Some),
            Command::LeaseRevoke(request) => {
                self.revoke(request, &mut changes).map(Answer::LeaseRevoke).map(Some)
            }
            Command::Alarm(request) => Ok(Some(Answer::Alarm(self.alarm(request)))),
            // The rest of a lease is the leader's affair; members are not in the model.
            Command::LeaseCheckpoint(_) | Command::MemberAttributes(_) | Command::ClusterVersion(_) => {
                Ok(None)
            }
        };
        Applied { revision: self.revision, answer, changes }
    }

    /// What a Range must answer at a moment, which may be long past.
    ///
    /// # Errors
    /// The refusal that the client must hear.
    pub fn range(&self, request: &pb::RangeRequest, moment: Moment) -> Result<pb::RangeResponse, Refusal> {
        range::answer(self, request, moment)
    }

    /// What a transaction that only reads must answer at a moment.
    ///
    /// # Errors
    /// The refusal that the client must hear.
    pub fn read_txn(&self, request: &pb::TxnRequest, moment: Moment) -> Result<pb::TxnResponse, Refusal> {
        txn::read(self, request, moment)
    }

    /// What HashKV must answer for a revision when the store is compacted up to `compacted`.
    pub fn hash(&self, revision: i64, compacted: i64) -> u32 {
        hash::of(self, revision, compacted)
    }

    /// What the raised alarms refuse (etcd 6.6).
    fn admit(&self, command: &Command) -> Result<(), Refusal> {
        let raised = |kind: pb::AlarmType| self.alarms.iter().any(|(raised, _)| *raised == kind as i32);
        let refused_when_corrupt = matches!(
            command,
            Command::Put(_)
                | Command::DeleteRange(_)
                | Command::Txn(_)
                | Command::Compact(_)
                | Command::LeaseGrant(_)
                | Command::LeaseRevoke(_)
        );
        if refused_when_corrupt && raised(pb::AlarmType::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        if costs_space(command) && raised(pb::AlarmType::Nospace) {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// The header of an answer given now.
    pub(super) fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { revision: self.revision, ..Default::default() })
    }

    fn compact(&mut self, request: &pb::CompactionRequest) -> Result<pb::CompactionResponse, Refusal> {
        // Revision 0 could be compacted once in etcd; refusing it is the safer reading (etcd 2.9).
        if request.revision <= self.compacted.max(0) {
            return Err(Refusal::Compacted);
        }
        if request.revision > self.revision {
            return Err(Refusal::Future);
        }
        self.compacted = request.revision;
        Ok(pb::CompactionResponse { header: self.header() })
    }

    fn grant(&mut self, request: &pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Refusal> {
        if request.id == 0 {
            return Err(Refusal::LeaseNotFound);
        }
        if request.ttl > MAX_LEASE_TTL {
            return Err(Refusal::LeaseTooLong);
        }
        if self.leases.contains_key(&request.id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl = request.ttl.max(self.settings.min_lease_ttl);
        Arc::make_mut(&mut self.leases).insert(request.id, ttl);
        Ok(pb::LeaseGrantResponse { header: self.header(), id: request.id, ttl, error: String::new() })
    }

    /// Deletes the lease, and all its keys in one revision, in key order.
    fn revoke(
        &mut self,
        request: &pb::LeaseRevokeRequest,
        changes: &mut Vec<Change>,
    ) -> Result<pb::LeaseRevokeResponse, Refusal> {
        if !self.leases.contains_key(&request.id) {
            return Err(Refusal::LeaseNotFound);
        }
        Arc::make_mut(&mut self.leases).remove(&request.id);
        let main = self.revision + 1;
        for key in self.keys_of_lease(request.id, self.revision) {
            self.change(main, key, None, changes);
        }
        Ok(pb::LeaseRevokeResponse { header: self.header() })
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> pb::AlarmResponse {
        let alarm = (request.alarm, request.member_id);
        let none = request.alarm == pb::AlarmType::None as i32;
        let about: Vec<(i32, u64)> = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => {
                self.alarms.iter().filter(|raised| none || raised.0 == request.alarm).copied().collect()
            }
            Ok(AlarmAction::Activate) if !none => {
                Arc::make_mut(&mut self.alarms).insert(alarm);
                vec![alarm]
            }
            Ok(AlarmAction::Deactivate) if Arc::make_mut(&mut self.alarms).remove(&alarm) => vec![alarm],
            _ => Vec::new(),
        };
        let alarms = about.into_iter().map(|(alarm, member_id)| pb::AlarmMember { member_id, alarm });
        pb::AlarmResponse { header: self.header(), alarms: alarms.collect() }
    }

    /// What a key was at a revision, none when it did not exist.
    pub(super) fn key_at(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        at_revision(self.keys.get(key)?, at)
    }

    /// The records of an interval at a revision, in key order.
    pub(super) fn alive(&self, interval: Interval<'_>, at: i64) -> Vec<&KeyValue> {
        let all = self.keys.iter().filter(|(key, _)| interval.contains(key));
        all.filter_map(|(_, versions)| at_revision(versions, at)).collect()
    }

    /// How many records were ever written.
    pub fn written_records(&self) -> usize {
        self.keys.values().map(|versions| versions.len()).sum()
    }

    /// The records that are left when compactions have removed all that nobody can read any more (etcd 2.9):
    /// whatever is not older than the compaction, and of each key what it was then.
    pub fn kept_by_compaction(&self) -> BTreeSet<Revision> {
        let compacted = self.compacted;
        let mut kept = BTreeSet::new();
        for versions in self.keys.values() {
            for (place, version) in versions.iter().enumerate() {
                let was_then = version.record.is_some()
                    && versions.get(place + 1).is_none_or(|next| next.main > compacted);
                if version.main >= compacted || was_then {
                    kept.insert(Revision::new(version.main, version.sub));
                }
            }
        }
        kept
    }

    /// The keys that stand in line for a lock or an election at a revision, in the order of their creation:
    /// the first has the lock, or leads (etcd 6.12).
    pub fn line(&self, name: &[u8], at: i64) -> Vec<&KeyValue> {
        let prefix = [name, b"/"].concat();
        let below = self.keys.range(Bytes::from(prefix.clone())..);
        let in_line = below.take_while(|(key, _)| key.starts_with(&prefix));
        let mut line: Vec<&KeyValue> =
            in_line.filter_map(|(_, versions)| at_revision(versions, at)).collect();
        line.sort_by_key(|record| record.create_revision);
        line
    }

    /// The keys that are attached to a lease at a revision, in key order.
    pub fn keys_of_lease(&self, lease: i64, at: i64) -> Vec<Bytes> {
        let records = self.keys.values().filter_map(|versions| at_revision(versions, at));
        records.filter(|record| record.lease == lease).map(|record| record.key.clone()).collect()
    }

    /// Makes one change at `main`, which becomes the store's revision.
    pub(super) fn change(
        &mut self,
        main: i64,
        key: Bytes,
        record: Option<KeyValue>,
        changes: &mut Vec<Change>,
    ) {
        let created = record.as_ref().is_some_and(|record| record.create_revision == main);
        let before = if created { None } else { self.key_at(&key, main - 1).cloned() };
        let versions = Arc::make_mut(self.keys.entry(key.clone()).or_default());
        versions.push(Version { main, sub: changes.len() as i64, record: record.clone() });
        changes.push(Change { revision: main, key, record, before });
        self.revision = main;
    }
}

fn at_revision(versions: &[Version], at: i64) -> Option<&KeyValue> {
    versions.iter().rev().find(|version| version.main <= at)?.record.as_ref()
}
