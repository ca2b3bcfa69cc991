//! When the leases of a primary run out, on its own clock: the half of the lessor that is never
//! replicated.
//!
//! Two ordered queues answer "what is due" in the order of time. A lease stands once in `reports`, and at
//! most once in `checkpoints`; its own record says where, so that it is found again without a search.
//!
//! Invariants:
//! - `reports` holds exactly one pair for every record, `checkpoints` one for every `checkpoint_at`;
//! - before its first report a lease stands in `reports` at its expiry, afterwards at its next retry;
//! - the expiry of a lease only moves forward, and no longer once it was reported.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::LeaseId;

/// What the primary knows of one lease. Times are values of `Now::mono`.
#[derive(Debug)]
struct Deadline {
    expires: u64,
    /// Its place in `reports`.
    report_at: u64,
    reported: bool,
    /// Its place in `checkpoints`.
    checkpoint_at: Option<u64>,
    /// The rest in the last checkpoint that was asked for, until it is applied.
    asked: Option<i64>,
}

/// The deadlines of all leases. Every id given to a method was inserted and not removed.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    by_id: BTreeMap<LeaseId, Deadline>,
    reports: BTreeSet<(u64, LeaseId)>,
    checkpoints: BTreeSet<(u64, LeaseId)>,
}

impl Deadlines {
    /// Starts the time of a new lease.
    pub(super) fn insert(&mut self, id: LeaseId, expires: u64) {
        let deadline =
            Deadline { expires, report_at: expires, reported: false, checkpoint_at: None, asked: None };
        let previous = self.by_id.insert(id, deadline);
        assert!(previous.is_none(), "lease {id} has a deadline already: {previous:?}");
        self.reports.insert((expires, id));
    }

    /// Forgets a lease.
    pub(super) fn remove(&mut self, id: LeaseId) {
        let Some(deadline) = self.by_id.remove(&id) else { panic!("lease {id} has no deadline") };
        self.reports.remove(&(deadline.report_at, id));
        if let Some(at) = deadline.checkpoint_at {
            self.checkpoints.remove(&(at, id));
        }
    }

    /// Moves the expiry of a lease that is not over. A lease that a promotion gave more time keeps it.
    pub(super) fn extend(&mut self, id: LeaseId, expires: u64) {
        let deadline = self.of_mut(id);
        assert!(!deadline.reported, "lease {id} is extended after it was reported: {deadline:?}");
        if expires <= deadline.expires {
            return;
        }
        deadline.expires = expires;
        let queued = std::mem::replace(&mut deadline.report_at, expires);
        self.reports.remove(&(queued, id));
        self.reports.insert((expires, id));
    }

    /// When the lease runs out.
    pub(super) fn expires(&self, id: LeaseId) -> u64 {
        self.of(id).expires
    }

    /// Whether the lease ran out, or was reported as such at any time.
    pub(super) fn is_over(&self, id: LeaseId, now: u64) -> bool {
        let deadline = self.of(id);
        deadline.reported || deadline.expires <= now
    }

    /// At most `max` leases whose report is due, in the order of their dues, each due again `retry` later.
    pub(super) fn take_expired(&mut self, now: u64, retry: u64, max: usize) -> Vec<LeaseId> {
        let mut due = Vec::new();
        while due.len() < max
            && let Some(&(at, id)) = self.reports.first()
            && at <= now
        {
            self.reports.pop_first();
            due.push(id);
            // Queued again behind every lease that is due, whatever the interval: a pass must end.
            let again = now.saturating_add(retry.max(1));
            let deadline = self.of_mut(id);
            deadline.reported = true;
            deadline.report_at = again;
            self.reports.insert((again, id));
        }
        due
    }

    /// Sets when the lease is to be checkpointed, instead of what was set before.
    pub(super) fn schedule_checkpoint(&mut self, id: LeaseId, at: Option<u64>) {
        let queued = std::mem::replace(&mut self.of_mut(id).checkpoint_at, at);
        if let Some(queued) = queued {
            self.checkpoints.remove(&(queued, id));
        }
        if let Some(at) = at {
            self.checkpoints.insert((at, id));
        }
    }

    /// Takes one lease whose checkpoint is due; it has none scheduled afterwards.
    pub(super) fn take_checkpoint(&mut self, now: u64) -> Option<LeaseId> {
        let &(at, id) = self.checkpoints.first()?;
        if at > now {
            return None;
        }
        self.schedule_checkpoint(id, None);
        Some(id)
    }

    /// Notes that a checkpoint with this rest was handed out to be proposed.
    pub(super) fn checkpoint_asked(&mut self, id: LeaseId, remaining_ttl: i64) {
        self.of_mut(id).asked = Some(remaining_ttl);
    }

    /// Notes that a checkpoint was applied. One that is not the last that was asked for, such as the
    /// reset of a renewal just before, leaves the last one outstanding.
    pub(super) fn checkpoint_applied(&mut self, id: LeaseId, remaining_ttl: i64) {
        let asked = &mut self.of_mut(id).asked;
        if *asked == Some(remaining_ttl) {
            *asked = None;
        }
    }

    /// Whether the last checkpoint that was asked for is not applied yet.
    pub(super) fn is_checkpoint_pending(&self, id: LeaseId) -> bool {
        self.of(id).asked.is_some()
    }

    /// The earliest time at which anything is due.
    pub(super) fn next(&self) -> Option<u64> {
        let report = self.reports.first().map(|&(at, _)| at);
        let checkpoint = self.checkpoints.first().map(|&(at, _)| at);
        report.into_iter().chain(checkpoint).min()
    }

    fn of(&self, id: LeaseId) -> &Deadline {
        match self.by_id.get(&id) {
            Some(deadline) => deadline,
            None => panic!("lease {id} has no deadline"),
        }
    }

    fn of_mut(&mut self, id: LeaseId) -> &mut Deadline {
        match self.by_id.get_mut(&id) {
            Some(deadline) => deadline,
            None => panic!("lease {id} has no deadline"),
        }
    }
}
