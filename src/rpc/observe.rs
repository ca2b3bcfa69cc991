//! What an observer of an election hears: each leader, and each word of it, as long as it leads.
//!
//! ```text
//!            somebody is first                        its key is deleted
//!   [ look ] ------------------> [ follow its key ] ---------.
//!     |  ^                          ^                        |
//!     |  '--------------------------|------------------------'
//!     |  nobody is in line          |
//!     '-----------> [ await ] ------'
//!                             a first key is put
//! ```
//!
//! Words of leaders that came and went while the observer looked may be missing; the last one is not. A
//! client that does not take its words has none kept for it: it hears of them from history.

use std::vec::IntoIter;

use tonic::Status;

use super::Rpc;
use super::waiting::{Line, decode, next_change, unexpected};
use crate::mailbox::WatchResponses;
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb::ResponseHeader;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::v3electionpb::LeaderResponse;
use crate::proto::{EncodedEvent, EncodedKeyValue, EventType, KeyValue};
use crate::types::KeyRange;

/// One observer of one election.
pub(super) struct Observer {
    rpc: Rpc,
    line: Line,
    stage: Stage,
}

enum Stage {
    /// Who leads is not known.
    Look,
    /// Nobody is in line: the next who comes leads.
    Await(WatchResponses),
    /// A key leads.
    Follow {
        changes: WatchResponses,
        /// The rest of what the last response told, and its header.
        events: IntoIter<EncodedEvent>,
        header: Option<ResponseHeader>,
    },
}

impl Observer {
    /// An observer that has heard nothing yet.
    pub(super) fn new(rpc: Rpc, line: Line) -> Self {
        Self { rpc, line, stage: Stage::Look }
    }

    /// The next word. None when there is no telling any more: etcd's observer ends without a reason when
    /// it cannot read, or when the history that it needs is compacted.
    ///
    /// # Errors
    /// `Stopped` when this member stops.
    pub(super) async fn next(&mut self) -> Result<Option<LeaderResponse>, Status> {
        loop {
            match &mut self.stage {
                Stage::Look => match self.rpc.find_now(&self.line.first()).await {
                    Ok((view, first)) => {
                        let header = self.rpc.header(&view, view.store.revision());
                        match first {
                            Some(record) => return self.follow(header, record).await.map(Some),
                            None => self.await_first(header.revision + 1).await?,
                        }
                    }
                    Err(status) if self.rpc.mailbox.stopping().is_triggered() => return Err(status),
                    Err(_) => return Ok(None),
                },
                Stage::Await(changes) => {
                    let Some(response) = next_change(changes).await? else { return Ok(None) };
                    let put = response.events.first().map(record_put).transpose()?.flatten();
                    let record = decode(&put.ok_or_else(|| unexpected(&response))?)?;
                    // Others may have come with it: the header is that of the first.
                    let mut header = response.header.unwrap_or_default();
                    header.revision = record.mod_revision;
                    return self.follow(header, record).await.map(Some);
                }
                Stage::Follow { changes, events, header } => match events.next() {
                    Some(event) => match record_put(&event)? {
                        Some(kv) => return Ok(Some(LeaderResponse { header: *header, kv: Some(kv) })),
                        None => self.stage = Stage::Look,
                    },
                    None => {
                        let Some(response) = next_change(changes).await? else { return Ok(None) };
                        (*events, *header) = (response.events.into_iter(), response.header);
                        if planted::is(Bug::ObserverSkipsWords) {
                            *events =
                                events.as_slice().last().cloned().into_iter().collect::<Vec<_>>().into_iter();
                        }
                    }
                },
            }
        }
    }

    /// Waits for the first key in a line that is empty before `revision`.
    async fn await_first(&mut self, revision: i64) -> Result<(), Status> {
        let keys = self.line.keys();
        let changes = self.rpc.watch_within(&keys, revision, Some(FilterType::Nodelete)).await?;
        self.stage = Stage::Await(changes);
        Ok(())
    }

    /// Tells the word that a key has at the revision of `header`, and follows the key from there on.
    async fn follow(&mut self, header: ResponseHeader, record: KeyValue) -> Result<LeaderResponse, Status> {
        let key = KeyRange::single(record.key.clone());
        let from = header.revision + 1 + i64::from(planted::is(Bug::ObserverFollowsLate));
        let changes = self.rpc.watch_within(&key, from, None).await?;
        self.stage = Stage::Follow { changes, events: Vec::new().into_iter(), header: None };
        Ok(LeaderResponse { header: Some(header), kv: Some(record.into()) })
    }
}

/// The record that an event has put; none for a deletion.
fn record_put(event: &EncodedEvent) -> Result<Option<EncodedKeyValue>, Status> {
    let event = event.decode().map_err(|error| unexpected(&error))?;
    Ok(event.kv.filter(|_| event.r#type == EventType::Put as i32))
}
