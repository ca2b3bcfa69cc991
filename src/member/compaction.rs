//! Compaction in the background: bounded steps with pauses, and the replies that wait for its end.

use super::message::ReplyTo;
use super::{Member, Reply};
use crate::apply;
use crate::mvcc::CompactionProgress;
use crate::types::Now;

/// How far the removal of superseded revisions is.
#[derive(Default)]
pub(super) struct Compaction {
    /// When the next step is due; none when there is nothing to remove.
    next_step: Option<u64>,
    /// Replies that wait for the removal up to their revision.
    removing: Vec<(i64, ReplyTo, apply::Reply)>,
    /// Replies that wait for the next commit of the database.
    committing: Vec<(ReplyTo, apply::Reply)>,
}

impl Compaction {
    /// Notes that there is something to remove.
    pub fn scheduled(&mut self, now: Now) {
        self.next_step.get_or_insert(now.mono);
    }

    /// Keeps a reply until everything that its compaction at `revision` removes is gone from the database.
    pub fn reply_when_removed(&mut self, revision: i64, to: ReplyTo, reply: apply::Reply) {
        self.removing.push((revision, to, reply));
    }

    /// When the next step is due, in nanoseconds of [`Now::mono`].
    pub fn next_step(&self) -> Option<u64> {
        self.next_step
    }

    fn removed(&mut self, through: i64) {
        let done = self.removing.extract_if(.., |(revision, ..)| *revision <= through);
        self.committing.extend(done.map(|(_, to, reply)| (to, reply)));
    }
}

impl Member {
    /// Removes some of what compactions made unreadable, if the pause is over.
    pub(super) fn compact_in_background(&mut self, now: Now) {
        if self.installing.is_some() || self.compaction.next_step.is_none_or(|due| due > now.mono) {
            return;
        }
        let progress = self.machine.store_mut().compaction_step(self.config.compaction_batch);
        if progress == CompactionProgress::Idle {
            // Also when a received snapshot came with everything removed.
            self.compaction.next_step = None;
            self.compaction.removed(i64::MAX);
        } else {
            self.compaction.next_step = Some(now.mono + self.config.compaction_pause);
            self.backend.note_applied(1, 0, now);
        }
        if let CompactionProgress::Finished { revision } = progress {
            self.compaction.removed(revision);
        }
        if !self.compaction.committing.is_empty() {
            self.backend.note_applied(1, 0, now);
            self.backend.commit_soon();
        }
        self.view_is_old = true;
    }

    /// Answers the physical compactions that a commit of the database has made final.
    pub(super) fn answer_finished_compactions(&mut self, replies: Vec<(ReplyTo, apply::Reply)>) {
        for (to, reply) in replies {
            self.reply(to, Ok(Reply::Applied(reply)));
        }
    }

    /// The replies whose removal is part of the batch that is handed out now.
    pub(super) fn take_removed_replies(&mut self) -> Vec<(ReplyTo, apply::Reply)> {
        std::mem::take(&mut self.compaction.committing)
    }
}
