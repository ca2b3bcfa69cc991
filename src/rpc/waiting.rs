//! What locks and elections are made of: a line of keys below a name, in the order of their creation.
//!
//! ```text
//!   name/1a2b   created at 7     has the lock, or leads
//!   name/3c4d   created at 9     waits until 1a2b is deleted
//!   name/5e6f   created at 12    waits until 3c4d is deleted
//! ```
//!
//! A key belongs to a lease, whose id it ends with: when the lease goes, the key leaves the line. Whoever
//! waits looks at its next in front alone, so that one departure wakes one waiter, and then looks again at
//! all that is in front, since its next may have left out of turn.
//!
//! etcd runs these services as a client of itself. Here they are transactions through the mailbox, reads of
//! the published view after a read index, and watches of the hub, with the same steps in the same order,
//! as their errors and headers show them.
//!
//! Invariants:
//! - a call that ends before its turn takes its key out of the line, whether its client went away, its time
//!   ran out or this member stops. Its transaction is waited for even when nobody waits for the call any
//!   more, so that no key is left of which nobody knows. What it does after an error is its own affair;
//! - a call takes away no key but that of the creation it saw: what another call made since stays.

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use tonic::Status;

use super::Rpc;
use super::status::status;
use crate::apply::Reply;
use crate::mailbox::{Mailbox, WatchResponses};
use crate::member::{self, MemberView, WatchCommand};
use crate::mvcc::range::{self, RangeQuery};
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, ResponseOp,
    TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse,
};
use crate::proto::{EncodedKeyValue, KeyValue};
use crate::rt;
use crate::types::{Error, KeyRange, RequestError};

/// Seconds that a lease lives which a call without one is granted (etcd). Nobody keeps it alive.
const GRANTED_SECONDS: i64 = 60;

/// The keys of one lock or one election.
pub(super) struct Line {
    prefix: Bytes,
}

impl Line {
    /// The line of a name.
    pub(super) fn of(name: &[u8]) -> Self {
        Self { prefix: [name, b"/"].concat().into() }
    }

    /// The key of a lease: the name and the lease's id in hex. Ids may be negative, as etcd prints them.
    fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        [&self.prefix[..], format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
    }

    /// All keys of the line.
    pub(super) fn keys(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    /// Asks for who came first.
    pub(super) fn first(&self) -> RangeQuery {
        RangeQuery {
            limit: 1,
            sort_target: if planted::is(Bug::LeaderByKey) { SortTarget::Key } else { SortTarget::Create },
            sort_order: SortOrder::Ascend,
            ..RangeQuery::new(self.keys())
        }
    }

    /// The same question as an operation of a transaction.
    pub(super) fn first_in_txn(&self) -> RequestOp {
        let keys = self.keys();
        operation(Request::RequestRange(RangeRequest {
            range_end: keys.wire_end(),
            key: keys.start,
            limit: 1,
            sort_target: SortTarget::Create as i32,
            sort_order: SortOrder::Ascend as i32,
            ..RangeRequest::default()
        }))
    }

    /// Asks for who came last among those who came before the creation of a key.
    fn next_before(&self, created: i64) -> RangeQuery {
        RangeQuery {
            sort_order: SortOrder::Descend,
            // Never 0, which would be no bound: the first key of a store is created at revision 2.
            max_create_revision: created - 1,
            ..self.first()
        }
    }
}

/// A key that stands in line for a call. Dropped before [`Place::keep`], it may leave the line.
pub(super) struct Place {
    /// The key.
    pub(super) key: Bytes,
    /// Its creation, by which it is told from a later key of the same name.
    pub(super) created: i64,
    leaves_with_call: bool,
    mailbox: Mailbox,
}

impl Place {
    /// Lets the key stand, whatever becomes of the call.
    pub(super) fn keep(mut self) -> Bytes {
        self.leaves_with_call = false;
        self.key.clone()
    }

    /// Leaves the line, and waits until that is done. What stands in the way is for the lease to solve.
    pub(super) async fn leave(mut self) {
        // Until it is done: the call may still end before.
        self.leaves_with_call = true;
        let _ = self.mailbox.ask_log(self.departure()).await;
        self.leaves_with_call = false;
    }

    fn departure(&self) -> member::Request {
        member::Request::Txn(if_created(self.key.clone(), self.created, deletion(self.key.clone())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.leaves_with_call {
            self.mailbox.tell(self.departure());
        }
    }
}

impl Rpc {
    /// The lease that a call stands in line with: the one that it names, or a new one when it names none.
    pub(super) async fn session_lease(&self, named: i64) -> Result<i64, Status> {
        if named != 0 {
            return Ok(named);
        }
        let grant = LeaseGrantRequest { ttl: GRANTED_SECONDS, id: 0 };
        match self.mailbox.ask_log(member::Request::LeaseGrant(grant)).await.map_err(within)? {
            Reply::LeaseGrant(granted) => Ok(granted.id),
            other => Err(unexpected(&other)),
        }
    }

    /// Puts the key of `lease` in line with `value`; a key that is there already stays as it is. Gives the
    /// place and what the transaction answered: to the write, or to a read of what was there, then to `also`.
    pub(super) async fn stand_in_line(
        &self,
        line: &Line,
        lease: i64,
        value: Bytes,
        also: Option<RequestOp>,
    ) -> Result<(Place, TxnResponse), Status> {
        let key = line.key(lease);
        let write = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
        let read = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let mut txn = if_created(key.clone(), 0, Request::RequestPut(write));
        txn.failure.push(operation(Request::RequestRange(read)));
        txn.success.extend(also.clone());
        txn.failure.extend(also);
        let (rpc, (sender, receiver)) = (self.clone(), rt::sync::oneshot::channel());
        // In a task of its own: the transaction may take effect after its caller has gone. Then nobody takes
        // the place, and it leaves the line.
        rt::spawn(async move {
            let _ = sender.send(rpc.take_place(key, txn).await);
        });
        receiver.await.unwrap_or_else(|_| Err(status(RequestError::Stopped)))
    }

    async fn take_place(&self, key: Bytes, txn: TxnRequest) -> Result<(Place, TxnResponse), Status> {
        let response = self.commit(txn).await?;
        let created = if response.succeeded {
            response.header.as_ref().map_or(0, |header| header.revision)
        } else {
            record_in(response.responses.first())?.create_revision
        };
        // What was there before is another call's to take away, until this one waits with it.
        let leaves_with_call = response.succeeded;
        let mailbox = self.mailbox.clone();
        Ok((Place { key, created, leaves_with_call, mailbox }, response))
    }

    /// Waits until nobody is in front of `place` any more. Whether the place itself still stands then is not
    /// looked at.
    pub(super) async fn wait_for_turn(&self, line: &Line, place: &mut Place) -> Result<(), Status> {
        place.leaves_with_call = true;
        loop {
            let (view, in_front) = self.find_now(&line.next_before(place.created)).await?;
            let Some(in_front) = in_front else { return Ok(()) };
            let after = view.store.revision() + 1 + i64::from(planted::is(Bug::WaiterMissesDeletion));
            let next = KeyRange::single(in_front.key);
            let mut deletion = self.watch_within(&next, after, Some(FilterType::Noput)).await?;
            // A deletion, or the end of a watch whose start was compacted away: look again.
            next_change(&mut deletion).await?;
            if planted::is(Bug::WaiterLooksOnce) {
                return Ok(());
            }
        }
    }

    /// The first record that `query` finds in a linearizable view, and that view.
    pub(super) async fn find_now(
        &self,
        query: &RangeQuery,
    ) -> Result<(Arc<MemberView>, Option<KeyValue>), Status> {
        let view = self.mailbox.linearizable_view().await.map_err(within)?;
        let found = range::range(&view.store, query).map_err(|error| match error {
            Error::Request(error) => within(error),
            Error::Local(fault) => self.faulted(fault),
        })?;
        let record = found.kvs.first().map(decode).transpose()?;
        Ok((view, record))
    }

    /// Watches what happens to `keys` from a revision on, leaving out one kind of event if asked to.
    pub(super) async fn watch_within(
        &self,
        keys: &KeyRange,
        start_revision: i64,
        without: Option<FilterType>,
    ) -> Result<WatchResponses, Status> {
        let create = WatchCreateRequest {
            key: keys.start.clone(),
            range_end: keys.wire_end(),
            start_revision,
            filters: without.map(|kind| kind as i32).into_iter().collect(),
            ..WatchCreateRequest::default()
        };
        let (session, responses) = self.mailbox.open_watch().await.map_err(within)?;
        session.say(WatchCommand::Create(create)).await.map_err(within)?;
        Ok(responses)
    }

    /// Runs a transaction.
    pub(super) async fn commit(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        match self.mailbox.ask_log(member::Request::Txn(txn)).await.map_err(within)? {
            Reply::Txn(mut response) => {
                self.complete(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// The next response of a watch that tells of events; none when the watch has ended for want of history.
///
/// # Errors
/// `Stopped` when this member stops.
pub(super) async fn next_change(responses: &mut WatchResponses) -> Result<Option<WatchResponse>, Status> {
    while let Some(response) = responses.next().await {
        if response.canceled {
            return Ok(None);
        }
        if !response.events.is_empty() {
            return Ok(Some(response));
        }
    }
    Err(status(RequestError::Stopped))
}

/// The status of an error that met a call on its way. etcd meets it as a client of its own, which keeps the
/// text and loses the code, save where the call's time ran out. That this member stops is no answer to
/// the call but the end of it.
pub(super) fn within(error: RequestError) -> Status {
    match error {
        RequestError::Stopped | RequestError::DeadlineExceeded => status(error),
        error => Status::unknown(error.text()),
    }
}

/// A transaction that does one thing if `key` is that of this creation; 0 stands for no key.
pub(super) fn if_created(key: Bytes, created: i64, then: Request) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(created)),
    };
    TxnRequest { compare: vec![compare], success: vec![operation(then)], failure: Vec::new() }
}

/// The deletion of one key.
pub(super) fn deletion(key: Bytes) -> Request {
    Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() })
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The one record in the answer to a read that must find one.
pub(super) fn record_in(answer: Option<&ResponseOp>) -> Result<KeyValue, Status> {
    match answer.and_then(|answer| answer.response.as_ref()) {
        Some(Response::ResponseRange(range)) if !range.kvs.is_empty() => decode(&range.kvs[0]),
        other => Err(unexpected(&other)),
    }
}

/// The fields of a record.
pub(super) fn decode(record: &EncodedKeyValue) -> Result<KeyValue, Status> {
    record.decode().map_err(|error| unexpected(&error))
}

/// An answer of another kind than its request is a bug of ours, not of anybody's request.
pub(super) fn unexpected(answer: &impl Debug) -> Status {
    Status::internal(format!("unexpected answer {answer:?}"))
}
