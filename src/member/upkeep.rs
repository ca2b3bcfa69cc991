//! What a member does by itself as time passes: ticks, its own attributes, the cluster version, and
//! small reminders of what is due.

use super::message::ReplyTo;
use super::{Member, Reply};
use crate::apply::Command;
use crate::proto::membershippb;
use crate::types::version::CLUSTER_VERSION;
use crate::types::{LocalFault, MemberId, Now, RequestError};

/// Time between two tries to make something known through the log.
const PUBLISH_INTERVAL: u64 = 5 * Now::SECOND;

/// Reminders.
#[derive(Default)]
pub(super) struct Upkeep {
    lists_changed: bool,
    watchers_behind: bool,
    next_alarm: u64,
    next_attributes: u64,
    next_version: u64,
    /// Callers that wait for a leadership to move: until when, and to whom.
    transfers: Vec<(u64, MemberId, ReplyTo)>,
}

impl Upkeep {
    /// Alarms, members or the cluster version changed: the next view lists them anew.
    pub fn note_lists_changed(&mut self) {
        self.lists_changed = true;
    }

    /// Whether the lists of the last view are out of date.
    pub fn lists_changed(&self) -> bool {
        self.lists_changed
    }

    /// The next view has the lists.
    pub fn lists_published(&mut self) {
        self.lists_changed = false;
    }

    /// Some watchers are behind.
    pub fn watchers_to_catch_up(&mut self) {
        self.watchers_behind = true;
    }

    /// Whether some watchers are behind; not any more after that.
    pub fn take_watchers_to_catch_up(&mut self) -> bool {
        std::mem::take(&mut self.watchers_behind)
    }

    /// Whether enough time passed since an alarm was last proposed.
    pub fn may_raise_alarm(&mut self, now: Now) -> bool {
        is_due(&mut self.next_alarm, now)
    }

    /// Notes a caller that waits for a leader.
    pub fn wait_for_leader(&mut self, to: ReplyTo, target: MemberId, until: u64) {
        self.transfers.push((until, target, to));
    }
}

/// Whether the moment has come; then the next one is [`PUBLISH_INTERVAL`] away.
fn is_due(next: &mut u64, now: Now) -> bool {
    let due = now.mono >= *next;
    if due {
        *next = now.mono + PUBLISH_INTERVAL;
    }
    due
}

impl Member {
    pub(super) fn on_tick(&mut self, now: Now) -> Result<(), LocalFault> {
        self.driver.tick();
        self.tick_proposals(now);
        self.tick_reads(now);
        self.tick_leases(now);
        self.tick_transfers(now);
        if self.role.leader.is_some() {
            // A leader that was busy, or failed to hand over, takes more now.
            self.propose_held();
        }
        self.hub.tick(now);
        self.count_watchers();
        self.publish_attributes(now);
        self.decide_cluster_version(now);
        Ok(())
    }

    /// Nanoseconds until [`super::Input::Wakeup`] is wanted, none when only outside events matter.
    pub fn next_wakeup(&self, now: Now) -> Option<std::time::Duration> {
        if self.upkeep.watchers_behind {
            return Some(std::time::Duration::ZERO);
        }
        if self.installing.is_some() {
            return None;
        }
        let due = self.compaction.next_step()?;
        Some(std::time::Duration::from_nanos(due.saturating_sub(now.mono)))
    }

    /// Tells the cluster this member's name and client addresses until it knows them.
    fn publish_attributes(&mut self, now: Now) {
        if self.role.leader.is_none() {
            return;
        }
        let Some(known) = self.machine.membership().member(self.id) else { return };
        if known.name == self.config.name && known.client_urls == self.config.client_urls {
            return;
        }
        if !is_due(&mut self.upkeep.next_attributes, now) {
            return;
        }
        let request = membershippb::ClusterMemberAttrSetRequest {
            member_id: self.id.0,
            member_attributes: Some(membershippb::Attributes {
                name: self.config.name.clone(),
                client_urls: self.config.client_urls.clone(),
            }),
        };
        // Refused or lost, it is tried again after the interval.
        let _ = self.propose(ReplyTo::Nobody, Command::MemberAttributes(request), now);
    }

    /// The leader writes down the version that all members speak, once.
    fn decide_cluster_version(&mut self, now: Now) {
        if !self.leads() || self.machine.membership().cluster_version().is_some() {
            return;
        }
        if is_due(&mut self.upkeep.next_version, now) {
            // As above.
            let _ = self.propose_in_term(
                ReplyTo::Nobody,
                None,
                Command::ClusterVersion(CLUSTER_VERSION.into()),
                now,
            );
        }
    }

    /// Answers the callers whose leadership transfer is done or took too long.
    pub(super) fn tick_transfers(&mut self, now: Now) {
        let leader = self.role.leader;
        let over =
            |(until, target, _): &mut (u64, MemberId, ReplyTo)| leader == Some(*target) || now.mono >= *until;
        let done: Vec<_> = self.upkeep.transfers.extract_if(.., over).collect();
        for (_, target, to) in done {
            let result = if leader == Some(target) {
                Ok(Reply::MoveLeader)
            } else {
                Err(RequestError::TimeoutLeaderTransfer)
            };
            self.reply(to, result);
        }
    }
}
