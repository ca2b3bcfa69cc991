//! Watch streams: passes what clients say to the hub, and what the hub answers to the shell.

use std::sync::Arc;

use super::message::Output;
use super::{Member, WatchCommand};
use crate::mvcc::View;
use crate::proto::EncodedKeyValue;
use crate::types::change::{Change, RevisionChanges};
use crate::types::{Error, LocalFault, StreamId};
use crate::watch::History;

/// The history of the store, for the hub, which does not know the store.
pub(super) struct StoreHistory<'a>(pub &'a View);

impl History for StoreHistory<'_> {
    fn revision(&self) -> i64 {
        self.0.revision()
    }

    fn compact_revision(&self) -> i64 {
        self.0.compact_revision()
    }

    fn changes(
        &self,
        from: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<Vec<Arc<RevisionChanges>>, Error> {
        self.0.changes(from, max_revisions, max_bytes)
    }

    fn previous_record(&self, change: &Change) -> Result<Option<EncodedKeyValue>, Error> {
        Ok(self.0.previous_record(change)?)
    }
}

impl Member {
    pub(super) fn on_watch(&mut self, stream: StreamId, command: WatchCommand) {
        let view = self.machine.store().view();
        match command {
            WatchCommand::Open => self.hub.open_stream(stream),
            WatchCommand::Create(request) => {
                self.hub.create(stream, request, None, &StoreHistory(&view));
                self.upkeep.watchers_to_catch_up();
            }
            WatchCommand::Cancel(id) => self.hub.cancel(stream, id),
            WatchCommand::Progress => self.hub.request_progress(stream),
            WatchCommand::Drained(bytes) => {
                self.hub.drained(stream, bytes);
                self.upkeep.watchers_to_catch_up();
            }
            WatchCommand::Close => self.hub.close_stream(stream),
        }
    }

    /// Counts streams and watchers, which takes a walk over the streams, for the metrics page.
    pub(super) fn count_watchers(&mut self) {
        let hub = self.hub.statistics();
        self.statistics.watch_streams = hub.streams as u64;
        self.statistics.watchers = hub.watchers as u64;
        self.statistics.slow_watchers = hub.slow_watchers as u64;
        self.statistics.events = hub.events_total;
        self.view_is_old = true;
    }

    /// One bounded step for the watchers that are behind.
    pub(super) fn catch_watchers_up(&mut self) -> Result<(), LocalFault> {
        if !self.upkeep.take_watchers_to_catch_up() {
            return Ok(());
        }
        let view = self.machine.store().view();
        if self.hub.catch_up(&StoreHistory(&view))? {
            self.upkeep.watchers_to_catch_up();
        }
        Ok(())
    }

    /// Hands out what the hub has for its streams, with whole headers.
    pub(super) fn emit_watch_responses(&mut self, outputs: &mut Vec<Output>) {
        for mut output in self.hub.take_output() {
            for response in &mut output.responses {
                let header = response.header.get_or_insert_default();
                header.cluster_id = self.config.cluster_id.0;
                header.member_id = self.id.0;
                header.raft_term = self.driver.term();
            }
            outputs.push(Output::Watch { stream: output.stream, responses: output.responses });
        }
    }
}
