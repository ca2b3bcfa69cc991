//! The Rust `etcd-client` against a member started from the binary in `DETCD_BIN`, else from this
//! repository's own build. Every test has a member of its own and asserts contents.

mod server;

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, EventType, GetOptions, LeaseTimeToLiveOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use server::Server;

/// Longer than any answer takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn kv() {
    let server = Server::start();
    let mut client = server.client().await;

    let first = client.put("kv/a", "1", None).await.unwrap().header().unwrap().revision();
    let second = client.put("kv/b", "2", None).await.unwrap().header().unwrap().revision();
    assert_eq!(second, first + 1);
    client.put("kv/c", "3", None).await.unwrap();
    let replaced = client.put("kv/a", "4", Some(PutOptions::new().with_prev_key())).await.unwrap();
    let previous = replaced.prev_key().unwrap();
    assert_eq!((previous.value(), previous.mod_revision(), previous.version()), (&b"1"[..], first, 1));

    let one = client.get("kv/a", None).await.unwrap();
    let kv = &one.kvs()[0];
    assert_eq!((kv.key(), kv.value()), (&b"kv/a"[..], &b"4"[..]));
    assert_eq!((kv.create_revision(), kv.mod_revision(), kv.version()), (first, first + 3, 2));

    let top = GetOptions::new().with_prefix().with_limit(2).with_sort(SortTarget::Key, SortOrder::Descend);
    let limited = client.get("kv/", Some(top)).await.unwrap();
    assert_eq!(pairs(limited.kvs()), [("kv/c", "3"), ("kv/b", "2")]);
    assert_eq!((limited.count(), limited.more()), (3, true));

    let past = client.get("kv/", Some(GetOptions::new().with_prefix().with_revision(second))).await.unwrap();
    assert_eq!(pairs(past.kvs()), [("kv/a", "1"), ("kv/b", "2")]);

    let deleted =
        client.delete("kv/", Some(DeleteOptions::new().with_range("kv/c").with_prev_key())).await.unwrap();
    assert_eq!(deleted.deleted(), 2);
    assert_eq!(pairs(deleted.prev_kvs()), [("kv/a", "4"), ("kv/b", "2")]);
    let left = client.get("kv/", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(pairs(left.kvs()), [("kv/c", "3")]);

    let refused = client.get("kv/a", Some(GetOptions::new().with_revision(1_000_000))).await.unwrap_err();
    assert!(refused.to_string().contains("required revision is a future revision"), "{refused}");
}

#[tokio::test]
async fn txn() {
    let server = Server::start();
    let mut client = server.client().await;
    client.put("txn/a", "old", None).await.unwrap();

    let swap = |from: &'static str, to: &'static str| {
        Txn::new()
            .when([
                Compare::value("txn/a", CompareOp::Equal, from),
                Compare::version("txn/b", CompareOp::Equal, 0),
            ])
            .and_then([TxnOp::put("txn/a", to, None), TxnOp::get("txn/a", None)])
            .or_else([TxnOp::get("txn/a", None)])
    };
    let done = client.txn(swap("old", "new")).await.unwrap();
    assert!(done.succeeded());
    let [TxnOpResponse::Put(put), TxnOpResponse::Get(get)] = &done.op_responses()[..] else {
        panic!("not a put and a get: {done:?}");
    };
    assert_eq!(put.header().unwrap().revision(), done.header().unwrap().revision());
    assert_eq!(pairs(get.kvs()), [("txn/a", "new")]);
    assert_eq!(get.kvs()[0].mod_revision(), done.header().unwrap().revision());

    let refused = client.txn(swap("old", "newer")).await.unwrap();
    assert!(!refused.succeeded());
    assert_eq!(refused.header().unwrap().revision(), done.header().unwrap().revision());
    let [TxnOpResponse::Get(get)] = &refused.op_responses()[..] else {
        panic!("not one get: {refused:?}");
    };
    assert_eq!(pairs(get.kvs()), [("txn/a", "new")]);
}

#[tokio::test]
async fn watch() {
    let server = Server::start();
    let mut client = server.client().await;
    let first = client.put("watch/a", "1", None).await.unwrap().header().unwrap().revision();
    client.put("watch/a", "2", None).await.unwrap();

    let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(first);
    let mut stream = client.watch("watch/", Some(options)).await.unwrap();
    client.delete("watch/a", None).await.unwrap();
    client.put("watch/b", "3", None).await.unwrap();

    let events = next_events(&mut stream, 4).await;
    assert_eq!(
        events,
        [
            ("put", "watch/a", "1", None, first),
            ("put", "watch/a", "2", Some("1"), first + 1),
            ("delete", "watch/a", "", Some("2"), first + 2),
            ("put", "watch/b", "3", None, first + 3),
        ]
        .map(|(kind, key, value, previous, revision)| Event {
            kind,
            key: key.into(),
            value: value.into(),
            previous: previous.map(str::to_owned),
            revision
        })
    );

    stream.request_progress().await.unwrap();
    let progress = next_message(&mut stream).await;
    assert!(progress.events().is_empty() && !progress.canceled());
    assert_eq!(progress.header().unwrap().revision(), first + 3);

    // The server numbers the watchers of a stream from 0.
    stream.cancel(0).await.unwrap();
    assert!(next_message(&mut stream).await.canceled());
}

#[tokio::test]
async fn lease() {
    let server = Server::start();
    let mut client = server.client().await;

    let granted = client.lease_grant(60, None).await.unwrap();
    let id = granted.id();
    assert_eq!(granted.ttl(), 60);
    client.put("lease/a", "1", Some(PutOptions::new().with_lease(id))).await.unwrap();
    assert_eq!(client.get("lease/a", None).await.unwrap().kvs()[0].lease(), id);

    let (mut keeper, mut answers) = client.lease_keep_alive(id).await.unwrap();
    for _ in 0..2 {
        keeper.keep_alive().await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
        assert_eq!((answer.id(), answer.ttl()), (id, 60));
    }

    let left = client.lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys())).await.unwrap();
    assert_eq!((left.granted_ttl(), left.keys()), (60, &[b"lease/a".to_vec()][..]));
    assert!((55..=60).contains(&left.ttl()), "{left:?}");
    let leases = client.leases().await.unwrap();
    assert_eq!(leases.leases().iter().map(|lease| lease.id()).collect::<Vec<_>>(), [id]);

    client.lease_revoke(id).await.unwrap();
    assert_eq!(client.get("lease/a", None).await.unwrap().kvs().len(), 0);
    let missing = client.lease_revoke(id).await.unwrap_err();
    assert!(missing.to_string().contains("requested lease not found"), "{missing}");
    assert_eq!(client.lease_time_to_live(id, None).await.unwrap().ttl(), -1);
}

#[tokio::test]
async fn lease_expiry_deletes_its_keys() {
    let server = Server::start();
    let mut client = server.client().await;
    let granted = client.lease_grant(2, None).await.unwrap();
    client.put("lease/b", "1", Some(PutOptions::new().with_lease(granted.id()))).await.unwrap();

    let mut stream = client.watch("lease/b", None).await.unwrap();
    let events = next_events(&mut stream, 1).await;
    assert_eq!((events[0].kind, events[0].key.as_str()), ("delete", "lease/b"));
    assert_eq!(client.get("lease/b", None).await.unwrap().kvs().len(), 0);
}

#[tokio::test]
async fn data_survives_a_restart() {
    let mut server = Server::start();
    let mut client = server.client().await;
    let revision = client.put("restart/a", "1", None).await.unwrap().header().unwrap().revision();
    server.restart();

    let mut client = server.client().await;
    let kept = client.get("restart/a", None).await.unwrap();
    assert_eq!(pairs(kept.kvs()), [("restart/a", "1")]);
    assert_eq!(kept.kvs()[0].mod_revision(), revision);
}

#[tokio::test]
async fn members_and_status() {
    let server = Server::start();
    let mut client: Client = server.client().await;
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members().len(), 1);
    let member = &members.members()[0];
    assert_eq!((member.name(), member.client_urls()), ("interop", &[server.client_url()][..]));
    let status = client.status().await.unwrap();
    assert_eq!((status.leader(), status.version()), (member.id(), "3.7.1"));
}

#[tokio::test]
async fn three_members() {
    let mut servers = Server::start_three();
    let [mut one, mut two, mut three] =
        [servers[0].client().await, servers[1].client().await, servers[2].client().await];
    assert_eq!(one.member_list().await.unwrap().members().len(), 3);
    let put = one.put("three/a", "1", None).await.unwrap().header().unwrap().revision();
    for client in [&mut two, &mut three] {
        let read = client.get("three/a", None).await.unwrap();
        assert_eq!((pairs(read.kvs()), read.kvs()[0].mod_revision()), (vec![("three/a", "1")], put));
    }
    // A lease granted on one member lives by renewals on another, and its keys are seen on a third.
    let lease = one.lease_grant(60, None).await.unwrap().id();
    two.put("three/b", "2", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let (mut keeper, mut renewals) = three.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(renewals.message().await.unwrap().unwrap().ttl(), 60);
    two.lease_revoke(lease).await.unwrap();
    assert_eq!(three.get("three/b", None).await.unwrap().count(), 0);

    let watched = WatchOptions::new().with_start_revision(put).with_prefix();
    let mut stream = three.watch("three/", Some(watched)).await.unwrap();
    let events = next_events(&mut stream, 3).await;
    let seen: Vec<_> = events.iter().map(|event| (event.kind, event.key.as_str())).collect();
    assert_eq!(seen, [("put", "three/a"), ("put", "three/b"), ("delete", "three/b")]);

    servers[0].restart();
    let mut back = servers[0].client().await;
    assert_eq!(pairs(back.get("three/a", None).await.unwrap().kvs()), [("three/a", "1")]);
}

/// One watch event, as text.
#[derive(Debug, PartialEq)]
struct Event {
    kind: &'static str,
    key: String,
    value: String,
    previous: Option<String>,
    revision: i64,
}

/// The next `count` events, however many messages bring them.
async fn next_events(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        for event in next_message(stream).await.events() {
            let kv = event.kv().unwrap();
            events.push(Event {
                kind: if event.event_type() == EventType::Put { "put" } else { "delete" },
                key: kv.key_str().unwrap().into(),
                value: kv.value_str().unwrap().into(),
                previous: event.prev_kv().map(|previous| previous.value_str().unwrap().into()),
                revision: kv.mod_revision(),
            });
        }
    }
    events
}

async fn next_message(stream: &mut WatchStream) -> etcd_client::WatchResponse {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("an answer in time").unwrap().unwrap()
}

fn pairs(kvs: &[etcd_client::KeyValue]) -> Vec<(&str, &str)> {
    kvs.iter().map(|kv| (kv.key_str().unwrap(), kv.value_str().unwrap())).collect()
}
