//! Who stands in line, seen from the mailbox: the tests play the member.

use std::time::Duration;

use futures::poll;
use tonic::Code;

use super::*;
use crate::mailbox::{Mail, MailboxReceiver, mailbox};
use crate::metrics::testing;
use crate::mvcc::testing::MemoryBackend;
use crate::mvcc::{Store, StoreConfig};
use crate::proto::etcdserverpb::{RangeResponse, ResponseHeader};
use crate::proto::v3lockpb::lock_server::Lock;
use crate::proto::v3lockpb::{LockRequest, LockResponse};
use crate::rpc::RpcConfig;

/// The revision of the one key in the store, `lock/1`.
const HELD: i64 = 2;

/// Services of a member whose store holds the key of somebody who has the lock, and the member's mail.
fn held() -> (Rpc, MailboxReceiver) {
    let (mut store, _) =
        Store::restore(MemoryBackend::default().snapshot(), StoreConfig::default()).expect("an empty store");
    let mut write = store.write();
    write.put("lock/1".into(), Bytes::new(), 1);
    write.finish();
    let view = MemberView { store: store.view(), ..testing::view() };
    let (mailbox, receiver) = mailbox(view.into());
    let config =
        RpcConfig { max_request_bytes: 1024, max_txn_ops: 8, election_timeout: Duration::from_secs(1) };
    (Rpc::new(mailbox, config), receiver)
}

/// A call for the lock by lease 2.
fn lock(rpc: &Rpc) -> impl Future<Output = Result<tonic::Response<LockResponse>, Status>> {
    rpc.lock(tonic::Request::new(LockRequest { name: "lock".into(), lease: 2 }))
}

async fn next_mail(receiver: &mut MailboxReceiver) -> Option<Mail> {
    let mut mail = Vec::new();
    receiver.receive(&mut mail, 1).await;
    mail.pop()
}

/// Takes the transaction that puts a key in line, and answers that it made the key at revision 3, or that
/// the key was there.
async fn answer(receiver: &mut MailboxReceiver, made: bool) {
    let Some(Mail::Request { request: member::Request::Txn(txn), reply }) = next_mail(receiver).await else {
        panic!("no transaction");
    };
    assert_eq!(txn.compare[0].key, "lock/2");
    let record = |key: &'static str, create_revision| {
        let kv = KeyValue { key: key.into(), create_revision, ..KeyValue::default() };
        let range = RangeResponse { kvs: vec![kv.into()], ..RangeResponse::default() };
        ResponseOp { response: Some(Response::ResponseRange(range)) }
    };
    let response = TxnResponse {
        header: Some(ResponseHeader { revision: 3, ..ResponseHeader::default() }),
        succeeded: made,
        // The first is not looked at when the key was made.
        responses: vec![record("lock/2", 3), record("lock/1", HELD)],
    };
    let _ = reply.send(Ok(member::Reply::Applied(Reply::Txn(response))));
}

/// Whether mail deletes the key of lease 2, as it was made at revision 3.
fn is_departure(mail: &Mail) -> bool {
    let Mail::Request { request: member::Request::Txn(txn), .. } = mail else { return false };
    *txn == if_created("lock/2".into(), 3, deletion("lock/2".into()))
}

#[test]
fn a_key_ends_with_the_lease_in_hex() {
    let check = |name: &[u8], lease, key: &'static [u8]| assert_eq!(Line::of(name).key(lease), key);
    check(b"n", 0x1a2b, b"n/1a2b");
    check(b"", 1, b"/1");
    check(b"a/\xff", -1, b"a/\xff/-1");
    check(b"n", i64::MIN, b"n/-8000000000000000");
}

#[tokio::test]
async fn a_call_that_ends_before_its_transaction_leaves_no_key() {
    for made in [true, false] {
        let (rpc, mut receiver) = held();
        let mut call = Box::pin(lock(&rpc));
        assert!(poll!(&mut call).is_pending());
        rt::yield_now().await;
        drop(call);
        drop(rpc);
        answer(&mut receiver, made).await;
        // A key that was there is not this call's to take away.
        let mail = next_mail(&mut receiver).await;
        assert_eq!(mail.as_ref().is_some_and(is_departure), made);
        assert_eq!(mail.is_some(), made);
    }
}

#[tokio::test]
async fn a_waiter_that_goes_away_leaves_the_line() {
    for made in [true, false] {
        let (rpc, mut receiver) = held();
        let mut call = Box::pin(lock(&rpc));
        assert!(poll!(&mut call).is_pending());
        answer(&mut receiver, made).await;
        rt::yield_now().await;
        assert!(poll!(&mut call).is_pending());
        let opened = next_mail(&mut receiver).await;
        assert!(matches!(opened, Some(Mail::WatchOpen { .. })));
        let Some(Mail::Watch { command: WatchCommand::Create(create), .. }) = next_mail(&mut receiver).await
        else {
            panic!("nothing is watched");
        };
        assert_eq!((&create.key[..], create.start_revision), (&b"lock/1"[..], HELD + 1));
        drop(call);
        let mail = [next_mail(&mut receiver).await, next_mail(&mut receiver).await];
        let closed = |mail: &Mail| matches!(mail, Mail::Watch { command: WatchCommand::Close, .. });
        assert_eq!(mail.iter().flatten().filter(|mail| closed(mail)).count(), 1);
        assert_eq!(mail.iter().flatten().filter(|mail| is_departure(mail)).count(), 1);
    }
}

#[tokio::test]
async fn a_waiter_leaves_a_member_that_stops() {
    let (rpc, mut receiver) = held();
    let mut call = Box::pin(lock(&rpc));
    assert!(poll!(&mut call).is_pending());
    answer(&mut receiver, true).await;
    rt::yield_now().await;
    assert!(poll!(&mut call).is_pending());
    let opened = next_mail(&mut receiver).await;
    next_mail(&mut receiver).await;
    // The loop lets go of the stream's responses.
    drop(opened);
    assert!(poll!(&mut call).is_pending());
    let closed = next_mail(&mut receiver).await;
    assert!(matches!(closed, Some(Mail::Watch { command: WatchCommand::Close, .. })));
    let departure = next_mail(&mut receiver).await;
    assert!(departure.as_ref().is_some_and(is_departure));
    drop(departure);
    let status = call.await.expect_err("the member stops");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, RequestError::Stopped.text()));
}

#[test]
fn an_error_on_the_way_loses_its_code() {
    let check = |error: RequestError, code| {
        let status = within(error);
        assert_eq!((status.code(), status.message()), (code, error.text()));
    };
    check(RequestError::LeaseNotFound, Code::Unknown);
    check(RequestError::Timeout, Code::Unknown);
    check(RequestError::DeadlineExceeded, Code::DeadlineExceeded);
    check(RequestError::Stopped, Code::Unavailable);
}
