//! Committed entries: applied in order, answered, and told to watchers.

use super::proposals::Waiting;
use super::watches::StoreHistory;
use super::{Member, Reply};
use crate::apply::{self, Applied, Effect};
use crate::membership::MemberChange;
use crate::planted::{self, Bug};
use crate::raft::{ConfChange, ConfChangeKind};
use crate::types::log::{EntryKind, LogEntry};
use crate::types::{LocalFault, Now, RequestError};

use super::message::Output;

impl Member {
    pub(super) fn apply_committed(&mut self, entries: Vec<LogEntry>, now: Now) -> Result<(), LocalFault> {
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        let mut changes = Vec::with_capacity(entries.len());
        for entry in &entries {
            match entry.kind {
                EntryKind::Normal => {
                    let mut applied = self.machine.apply(entry.index, entry.term, &entry.data, now)?;
                    self.count(&applied);
                    changes.extend(applied.changes.take());
                    self.finish_entry(applied, now);
                }
                EntryKind::ConfChange | EntryKind::ConfChangeV2 => self.apply_conf_change(entry)?,
            }
        }
        self.driver.applied(last);
        self.promote_lessor(now);
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        self.backend.note_applied(entries.len(), bytes, now);
        self.view_is_old = true;
        if !changes.is_empty() {
            let view = self.machine.store().view();
            self.hub.notify(&changes, &StoreHistory(&view))?;
        }
        Ok(())
    }

    fn count(&mut self, applied: &Applied) {
        self.statistics.txns += u64::from(matches!(applied.reply, Ok(apply::Reply::Txn(_))));
        for change in applied.changes.iter().flat_map(|revision| &revision.changes) {
            let counter =
                if change.is_delete() { &mut self.statistics.deletes } else { &mut self.statistics.puts };
            *counter += 1;
        }
    }

    /// A leader takes over the leases once everything that earlier leaders said of them is applied: from
    /// the first entry of its own term on.
    fn promote_lessor(&mut self, now: Now) {
        if self.leads() && self.has_applied_own_term() && !self.machine.lessor().is_primary() {
            self.machine.lessor_mut().promote(now, self.config.election_timeout);
        }
    }

    /// Answers who waits for the entry and follows up on its effect.
    fn finish_entry(&mut self, applied: Applied, now: Now) {
        let waiting = applied.request.and_then(|id| self.proposals.answered(id));
        // What is over the quota is applied all the same, so that members of different size stay equal.
        // Every member that runs out of space raises its own alarm (etcd 6.8).
        let over_quota =
            applied.reply.is_ok() && !self.machine.quota().allows(self.backend.size(), applied.cost);
        if over_quota {
            self.raise_nospace(now);
        }
        match applied.effect {
            Effect::None => {}
            Effect::Compacted { revision, physical } => {
                self.compaction.scheduled(now);
                if physical && let (Some(waiting), Ok(reply)) = (&waiting, &applied.reply) {
                    self.compaction.reply_when_removed(revision, waiting.reply_to, reply.clone());
                    return;
                }
            }
            Effect::LeaseRevoked(lease) => self.answer_waiters_for_revoke(lease),
            Effect::AlarmsChanged | Effect::MembersChanged => self.upkeep.note_lists_changed(),
        }
        let Some(Waiting { reply_to: to, answer, .. }) = waiting else { return };
        let result = match applied.reply {
            Ok(_) if over_quota => Err(RequestError::NoSpace),
            Ok(reply) => Ok(answer.unwrap_or(Reply::Applied(reply))),
            Err(error) => Err(error),
        };
        self.reply(to, result);
    }

    /// Carries out a change of the members, unless they refuse it: then it is only noted as applied, on
    /// all members alike.
    fn apply_conf_change(&mut self, entry: &LogEntry) -> Result<(), LocalFault> {
        let change = ConfChange::decode(entry)?;
        let meaning = MemberChange::from_context(&change.context)?;
        self.machine.advance(entry.index, entry.term);
        let is_promotion = matches!(meaning, MemberChange::Promote(_));
        if self.machine.apply_member_change(meaning).is_err() {
            return Ok(());
        }
        if planted::is(Bug::RemovedStillVotes) && change.kind == ConfChangeKind::Remove {
            self.upkeep.note_lists_changed();
            return Ok(());
        }
        let mut configuration = self.driver.apply_conf_change(&change)?;
        if planted::is(Bug::ConfChangeTwice) && is_promotion {
            let addition = ConfChange { kind: ConfChangeKind::AddLearner, ..change };
            configuration = self.driver.apply_conf_change(&addition)?;
        }
        self.machine.set_conf_state(configuration.voters, configuration.learners);
        self.upkeep.note_lists_changed();
        if self.machine.membership().is_removed(self.id) {
            self.outputs.push(Output::Removed);
        }
        Ok(())
    }

    /// Ends the waits of requests whose time is up.
    pub(super) fn tick_proposals(&mut self, now: Now) {
        for (to, error) in self.proposals.expired(now, self.config.election_timeout) {
            self.statistics.proposals_failed += 1;
            self.reply(to, Err(error));
        }
    }
}
