//! The lessor: the leases of the cluster, the keys attached to them, and when they run out.
//!
//! A lease is granted for a time to live (TTL) and kept alive by its client. When it runs out, it and
//! every key attached to it are deleted. Two kinds of state meet here, and are kept apart:
//!
//! ```text
//!   replicated, the same on every member          of the primary alone, lost with its leadership
//!   +---------------------------------+           +------------------------------------------+
//!   | id -> granted TTL,              |  promote  | id -> expiry on the local clock,         |
//!   |       checkpointed rest,        | --------> |       when to ask for the revoke,        |
//!   |       attached keys             |  demote   |       when to checkpoint      Deadlines  |
//!   +---------------------------------+ <-------- +------------------------------------------+
//!     changed by applied log entries                changed by renewals and by time
//! ```
//!
//! Running out changes nothing by itself: the primary only *reports* the lease, the caller proposes its
//! revoke, and the lease is gone when that is applied. So clocks never decide what is stored, only what
//! is proposed.
//!
//! A checkpoint writes the rest of a long lease into the log, so that the next primary goes on from there
//! instead of starting at the full TTL. It makes renewals harder: when the log says "100 seconds left", a
//! renewal may be answered only after the log says "full" again, for otherwise the next primary would
//! expire the lease before the time that the client was told. [`Lessor::renew`] therefore returns the
//! checkpoint that must be applied first.
//!
//! Invariants:
//! - rows and answers of the replicated half follow from the calls alone, never from `now`;
//! - a lease is never reported before its last grant or renewal plus its TTL on the primary's clock;
//! - a lease that was reported is never renewed by the same primary: its renewals wait for the revoke;
//! - a lease that is due is reported again and again until it is revoked;
//! - a change of primary never shortens a lease below its checkpointed rest;
//! - every id but 0 is legal, negative ones too.
//!
//! This room does not know the key space: the caller deletes the keys of a revoked lease, and tells which
//! key was attached or detached. That a key has at most one lease is the caller's to keep.

mod deadlines;
#[cfg(test)]
mod failover_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use crate::planted::{self, Bug};
use crate::proto::etcdserverpb::LeaseCheckpoint;
use crate::proto::leasepb;
use crate::types::backend::Table;
use crate::types::{LeaseId, LocalFault, Now, RequestError};
use deadlines::Deadlines;

/// The longest TTL that can be granted, in seconds (etcd's limit, about 285 years).
pub const MAX_TTL_SECONDS: i64 = 9_000_000_000;

/// The most leases that a caller should take from [`Lessor::expired`] in one pass of half a second.
pub const MAX_EXPIRED_A_PASS: usize = 500;

/// The most checkpoints that a caller should put into one log entry.
pub const MAX_CHECKPOINTS_AN_ENTRY: usize = 1000;

/// How many leases a promotion lets expire within one second. Below the thousand revokes a second that
/// two passes of [`MAX_EXPIRED_A_PASS`] reach, so that leases expiring later are not held up.
const SPREAD_A_SECOND: usize = 750;

const _: () = assert!(SPREAD_A_SECOND < 2 * MAX_EXPIRED_A_PASS);

/// The shortest TTL in seconds that a cluster with these timings can keep: one and a half elections,
/// rounded up. A lease must outlive a change of leader.
///
/// Both are in milliseconds; a heartbeat of 0 counts as 1.
pub fn min_ttl(election_ms: u64, heartbeat_ms: u64) -> i64 {
    let heartbeat_ms = heartbeat_ms.max(1);
    let ticks = (election_ms / heartbeat_ms).saturating_mul(3) / 2;
    let seconds = ticks.saturating_mul(heartbeat_ms).div_ceil(1000);
    i64::try_from(seconds).unwrap_or(MAX_TTL_SECONDS).min(MAX_TTL_SECONDS)
}

/// What the lessor needs to know of its member's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LessorConfig {
    /// Shorter TTLs are raised to this, in seconds; see [`min_ttl`]. Decides what is stored, so it must
    /// be the same on every member, as the timings that it comes from.
    pub min_ttl_seconds: i64,
    /// Whether this member, as primary, asks for checkpoints. Applying them does not depend on it.
    pub checkpoint: bool,
    /// Time between two checkpoints of a lease, in nanoseconds; shorter leases are not checkpointed.
    pub checkpoint_interval: u64,
    /// How long to wait for a revoke before the lease is reported again, in nanoseconds.
    pub revoke_retry: u64,
}

impl Default for LessorConfig {
    /// etcd's defaults, with an election timeout of 1000 ms and a heartbeat of 100 ms.
    fn default() -> Self {
        Self {
            min_ttl_seconds: min_ttl(1000, 100),
            checkpoint: false,
            checkpoint_interval: 300 * Now::SECOND,
            revoke_retry: 7 * Now::SECOND,
        }
    }
}

/// One lease, as it is replicated.
#[derive(Debug)]
struct Lease {
    /// Granted TTL in seconds.
    ttl: i64,
    /// Checkpointed rest in seconds, above 0 and below `ttl`; none stands for the full TTL.
    remaining: Option<i64>,
    keys: BTreeSet<Bytes>,
}

impl Lease {
    /// The rest of which every member knows: a new primary starts from it.
    fn known_remaining(&self) -> i64 {
        self.remaining.unwrap_or(self.ttl)
    }

    /// Reads the rest as a log entry or a row carries it: 0 and everything beyond the TTL mean "full".
    fn set_remaining(&mut self, remaining_ttl: i64) {
        self.remaining = Some(remaining_ttl).filter(|&rest| rest > 0 && rest < self.ttl);
    }
}

/// A renewal that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The granted TTL in seconds, for the answer.
    pub ttl: i64,
    /// When set, this checkpoint must be proposed, and applied before the client is answered.
    pub reset: Option<LeaseCheckpoint>,
}

/// Why a lease was not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// Another member keeps the time.
    #[error("not a primary lessor")]
    NotPrimary,
    /// There is no such lease: the answer is a TTL of 0.
    #[error("lease not found")]
    NotFound,
    /// The lease ran out and is about to be revoked. The caller waits for the revoke and then answers a
    /// TTL of 0; when this member is demoted first, the answer is [`RenewError::NotPrimary`].
    #[error("lease expired")]
    Expiring,
}

/// What there is to say about one lease.
#[derive(Clone, Copy, Debug)]
pub struct TimeToLive<'a> {
    /// Whole seconds left, never below 0. On a member that is not primary: the rest in the log.
    pub remaining: i64,
    /// Granted TTL in seconds.
    pub granted: i64,
    keys: &'a BTreeSet<Bytes>,
}

impl<'a> TimeToLive<'a> {
    /// The attached keys, sorted.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &'a Bytes> + use<'a> {
        self.keys.iter()
    }
}

/// Numbers for metrics. Totals count since this member started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LessorStatistics {
    /// Leases that exist.
    pub leases: usize,
    /// Keys attached to them.
    pub attached_keys: usize,
    /// Leases granted.
    pub granted_total: u64,
    /// Leases revoked, by clients or because they ran out.
    pub revoked_total: u64,
    /// Leases renewed here.
    pub renewed_total: u64,
    /// Reports of expired leases, repeated ones included.
    pub expired_total: u64,
}

/// The leases of the cluster. See the head of the module.
#[derive(Debug)]
pub struct Lessor {
    config: LessorConfig,
    leases: BTreeMap<LeaseId, Lease>,
    /// Set while this member is primary. Holds exactly the ids of `leases`.
    deadlines: Option<Deadlines>,
    changed_rows: Vec<(Table, Bytes, Option<Bytes>)>,
    /// `leases` in here stays 0 and is filled in when asked for.
    statistics: LessorStatistics,
}

impl Lessor {
    /// A lessor without leases, not primary.
    pub fn new(config: LessorConfig) -> Self {
        Self {
            config,
            leases: BTreeMap::new(),
            deadlines: None,
            changed_rows: Vec::new(),
            statistics: LessorStatistics::default(),
        }
    }

    /// The lessor that the rows of [`Table::Lease`] and the live key-values describe, not primary.
    ///
    /// `attachments` are the keys whose latest record names a lease, with that lease. An unknown lease is
    /// ignored: the key stays, as etcd keeps it.
    ///
    /// # Errors
    /// When a row is not what this module wrote.
    pub fn restore(
        rows: Vec<(Bytes, Bytes)>,
        attachments: Vec<(Bytes, LeaseId)>,
        config: LessorConfig,
    ) -> Result<Self, LocalFault> {
        let mut lessor = Self::new(config);
        for (key, value) in rows {
            let (id, lease) = decode_row(&key, value)?;
            lessor.leases.insert(id, lease);
        }
        for (key, id) in attachments {
            lessor.attach(key, id);
        }
        Ok(lessor)
    }

    /// Applies a grant; gives the TTL that was granted, in seconds. `ttl` is raised to the minimum.
    ///
    /// # Errors
    /// `LeaseTtlTooLarge`, `LeaseExists`, and `LeaseNotFound` for id 0, which is no lease: whoever
    /// proposes a grant has picked an id.
    pub fn grant(&mut self, id: LeaseId, ttl: i64, now: Now) -> Result<i64, RequestError> {
        if id.0 == 0 {
            return Err(RequestError::LeaseNotFound);
        }
        if ttl > MAX_TTL_SECONDS {
            return Err(RequestError::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(RequestError::LeaseExists);
        }
        let ttl = ttl.max(self.config.min_ttl_seconds);
        let lease = Lease { ttl, remaining: None, keys: BTreeSet::new() };
        self.changed_rows.push(encode_row(id, &lease));
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.insert(id, after_seconds(now, ttl));
            deadlines.schedule_checkpoint(id, next_checkpoint(&self.config, &lease, now));
        }
        self.leases.insert(id, lease);
        self.statistics.granted_total += 1;
        Ok(ttl)
    }

    /// Applies a revoke: the lease is gone. Gives its keys, sorted, which the caller must delete.
    ///
    /// # Errors
    /// `LeaseNotFound`.
    pub fn revoke(&mut self, id: LeaseId) -> Result<Vec<Bytes>, RequestError> {
        let lease = self.leases.remove(&id).ok_or(RequestError::LeaseNotFound)?;
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.remove(id);
        }
        if !planted::is(Bug::RevokedLeaseReturns) {
            self.changed_rows.push((Table::Lease, row_key(id), None));
        }
        self.statistics.revoked_total += 1;
        self.statistics.attached_keys -= lease.keys.len();
        Ok(lease.keys.into_iter().collect())
    }

    /// Applies a checkpoint: `remaining_ttl` seconds are left, where 0 stands for the full TTL. An
    /// unknown lease is ignored, for it may have been revoked while the checkpoint was on its way.
    ///
    /// The expiry on the primary does not move: the checkpoint was made from it, or comes from a primary
    /// of the past.
    pub fn checkpoint(&mut self, id: LeaseId, remaining_ttl: i64, now: Now) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let before = lease.remaining;
        lease.set_remaining(remaining_ttl);
        if lease.remaining != before {
            self.changed_rows.push(encode_row(id, lease));
        }
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.checkpoint_applied(id, remaining_ttl);
            deadlines.schedule_checkpoint(id, next_checkpoint(&self.config, lease, now));
        }
    }

    /// Notes that `key` now belongs to the lease. The caller has checked that the lease exists, and has
    /// detached the key from another; an unknown lease is ignored.
    pub fn attach(&mut self, key: Bytes, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id)
            && lease.keys.insert(key)
        {
            self.statistics.attached_keys += 1;
        }
    }

    /// Notes that `key` no longer belongs to the lease. Ignored when it did not, or when the lease is
    /// gone: the keys of a revoked lease are deleted after it.
    pub fn detach(&mut self, key: &[u8], id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id)
            && lease.keys.remove(key)
        {
            self.statistics.attached_keys -= 1;
        }
    }

    /// Whether there is such a lease. One that ran out exists until its revoke is applied.
    pub fn exists(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// The rows that changed since the last call, in the order of the changes.
    pub fn take_rows(&mut self) -> Vec<(Table, Bytes, Option<Bytes>)> {
        std::mem::take(&mut self.changed_rows)
    }

    /// Makes this member the one that keeps the time: every lease gets `extend_ns` (the election timeout,
    /// in nanoseconds) more than its known rest, from now on, and more where too many would run out at
    /// once. On a primary it does the same again.
    ///
    /// Call it when the entry that opened the leader's term is applied, not before: a checkpoint of the
    /// previous primary could otherwise still shorten, in the log, a lease that was renewed here.
    pub fn promote(&mut self, now: Now, extend_ns: u64) {
        let natural = |lease: &Lease| {
            if planted::is(Bug::LeaseNotExtended) {
                return now.mono;
            }
            after_seconds(now, lease.known_remaining()).saturating_add(extend_ns)
        };
        let mut expiries: Vec<_> = self.leases.iter().map(|(&id, lease)| (natural(lease), id)).collect();
        expiries.sort_unstable();
        spread_out(&mut expiries);
        let mut deadlines = Deadlines::default();
        for (expires, id) in expiries {
            deadlines.insert(id, expires);
            deadlines.schedule_checkpoint(id, next_checkpoint(&self.config, &self.leases[&id], now));
        }
        self.deadlines = Some(deadlines);
    }

    /// Stops keeping the time: nothing expires and nothing is renewed here until the next promotion.
    pub fn demote(&mut self) {
        if planted::is(Bug::DeadlinesOutliveLeadership) {
            return;
        }
        self.deadlines = None;
    }

    /// Whether this member keeps the time.
    pub fn is_primary(&self) -> bool {
        self.deadlines.is_some()
    }

    /// Starts the TTL of a lease anew.
    ///
    /// # Errors
    /// See [`RenewError`].
    pub fn renew(&mut self, id: LeaseId, now: Now) -> Result<Renewal, RenewError> {
        let deadlines = self.deadlines.as_mut().ok_or(RenewError::NotPrimary)?;
        let lease = self.leases.get(&id).ok_or(RenewError::NotFound)?;
        if deadlines.is_over(id, now.mono) {
            return Err(RenewError::Expiring);
        }
        deadlines.extend(id, after_seconds(now, lease.ttl));
        self.statistics.renewed_total += 1;
        // A checkpoint that was asked for and not yet applied counts like one that was: it comes before
        // the reset in the log.
        let shortened = lease.remaining.is_some() || deadlines.is_checkpoint_pending(id);
        let reset = (shortened && !planted::is(Bug::RenewalWithoutReset))
            .then_some(LeaseCheckpoint { id: id.0, remaining_ttl: 0 });
        Ok(Renewal { ttl: lease.ttl, reset })
    }

    /// At most `max` leases that ran out and whose revoke is to be proposed now, the longest due first.
    /// Each is reported again after the retry interval unless it was revoked. Empty when not primary.
    pub fn expired(&mut self, now: Now, max: usize) -> Vec<LeaseId> {
        let Some(deadlines) = &mut self.deadlines else { return Vec::new() };
        let due = deadlines.take_expired(now.mono, self.config.revoke_retry, max);
        self.statistics.expired_total += due.len() as u64;
        due
    }

    /// At most `max` checkpoints to be proposed now. Each lease comes up again after the checkpoint
    /// interval, whether or not the proposal succeeds. Empty when not primary, or when switched off.
    ///
    /// The caller proposes them in this order, before the reset of any later renewal, and only into the
    /// term of this promotion: in a later term they would undo what a newer primary promised.
    pub fn due_checkpoints(&mut self, now: Now, max: usize) -> Vec<LeaseCheckpoint> {
        let Some(deadlines) = &mut self.deadlines else { return Vec::new() };
        let mut due = Vec::new();
        while due.len() < max {
            let Some(id) = deadlines.take_checkpoint(now.mono) else { break };
            if deadlines.is_over(id, now.mono) {
                continue;
            }
            let lease = &self.leases[&id];
            deadlines.schedule_checkpoint(id, next_checkpoint(&self.config, lease, now));
            let left = deadlines.expires(id).saturating_sub(now.mono).div_ceil(Now::SECOND);
            let left = i64::try_from(left).unwrap_or(i64::MAX);
            let remaining_ttl = if left < lease.ttl { left } else { 0 };
            if remaining_ttl != lease.remaining.unwrap_or(0) {
                deadlines.checkpoint_asked(id, remaining_ttl);
                due.push(LeaseCheckpoint { id: id.0, remaining_ttl });
            }
        }
        due
    }

    /// When [`Lessor::expired`] or [`Lessor::due_checkpoints`] has something to say at the earliest: a
    /// value of [`Now::mono`]. None when not primary, or when there are no leases.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.as_ref()?.next()
    }

    /// What there is to say about a lease; none when there is no such lease.
    pub fn time_to_live(&self, id: LeaseId, now: Now) -> Option<TimeToLive<'_>> {
        let lease = self.leases.get(&id)?;
        let remaining = match &self.deadlines {
            Some(deadlines) => {
                let left = deadlines.expires(id).saturating_sub(now.mono) / Now::SECOND;
                i64::try_from(left).unwrap_or(i64::MAX)
            }
            None => lease.known_remaining(),
        };
        Some(TimeToLive { remaining, granted: lease.ttl, keys: &lease.keys })
    }

    /// Every lease, soonest expiry first, by id where that is equal or not known.
    pub fn leases(&self) -> Vec<LeaseId> {
        let mut ids: Vec<_> = self.leases.keys().copied().collect();
        if let Some(deadlines) = &self.deadlines {
            // Stable, so that equal expiries stay in the order of ids.
            ids.sort_by_cached_key(|&id| deadlines.expires(id));
        }
        ids
    }

    /// Numbers for metrics.
    pub fn statistics(&self) -> LessorStatistics {
        LessorStatistics { leases: self.leases.len(), ..self.statistics }
    }
}

/// When the lease is to be checkpointed next, as of now; none when it is not.
fn next_checkpoint(config: &LessorConfig, lease: &Lease, now: Now) -> Option<u64> {
    let worthwhile = nanoseconds(lease.known_remaining()) > config.checkpoint_interval;
    (config.checkpoint && worthwhile).then(|| now.mono.saturating_add(config.checkpoint_interval))
}

/// Moves expiries (ascending) back so that at most [`SPREAD_A_SECOND`] fall into any one second.
fn spread_out(expiries: &mut [(u64, LeaseId)]) {
    for at in SPREAD_A_SECOND..expiries.len() {
        let earliest = expiries[at - SPREAD_A_SECOND].0.saturating_add(Now::SECOND);
        expiries[at].0 = expiries[at].0.max(earliest);
    }
}

fn nanoseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(Now::SECOND)
}

fn after_seconds(now: Now, seconds: i64) -> u64 {
    now.mono.saturating_add(nanoseconds(seconds))
}

/// Row key of a lease: the id's two's complement, big endian.
fn row_key(id: LeaseId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}

fn encode_row(id: LeaseId, lease: &Lease) -> (Table, Bytes, Option<Bytes>) {
    let row = leasepb::Lease { id: id.0, ttl: lease.ttl, remaining_ttl: lease.remaining.unwrap_or(0) };
    (Table::Lease, row_key(id), Some(row.encode_to_vec().into()))
}

fn decode_row(key: &Bytes, value: Bytes) -> Result<(LeaseId, Lease), LocalFault> {
    let fault = |why: &str| LocalFault::new(format!("lease table: row {key:02x?}: {why}"));
    let row = leasepb::Lease::decode(value).map_err(|error| fault(&error.to_string()))?;
    if key.as_ref() != row.id.to_be_bytes() {
        return Err(fault(&format!("holds lease id {}", row.id)));
    }
    if row.id == 0 || row.ttl > MAX_TTL_SECONDS {
        return Err(fault(&format!("lease id {} with a TTL of {} s cannot exist", row.id, row.ttl)));
    }
    let mut lease = Lease { ttl: row.ttl, remaining: None, keys: BTreeSet::new() };
    if !planted::is(Bug::RestOfLeaseForgotten) {
        lease.set_remaining(row.remaining_ttl);
    }
    Ok((LeaseId(row.id), lease))
}
