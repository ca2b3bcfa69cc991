//! The probes of etcd's behaviour reference (its Appendix A): small questions with known answers, each
//! asked of both servers. The number in a probe's name is its number there.
//!
//! A probe that fails on etcd shows that the reference is wrong; one that fails on detcd alone, that detcd
//! is. Not here are the probes of what detcd does not have yet (18, 19, 21 and 23: users and roles, snapshots,
//! learners), and 17 and 25, the gateway's form and other programs, which are in `tests/interop`.

mod key_values;
mod leases;
mod limits;
mod upkeep;
mod watches;

use std::fmt::Debug;

use bytes::Bytes;
use detcd::client::Channel;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::kv_client::KvClient;
use detcd::proto::etcdserverpb::lease_client::LeaseClient;
use detcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use detcd::proto::etcdserverpb::request_op::Request;
use detcd::proto::etcdserverpb::watch_client::WatchClient;
use detcd::proto::etcdserverpb::watch_request::RequestUnion;
use detcd::proto::{EncodedKeyValue, Event, EventType, KeyValue};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use tonic::{Response, Status, Streaming};

use crate::call::PATIENCE;
use crate::process::{Kind, Server};

const COMPACTED: &str = "OutOfRange: etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "OutOfRange: etcdserver: mvcc: required revision is a future revision";

/// An answer, or the code and the text of an error.
type Answer<T> = Result<T, String>;

fn answer<T>(result: Result<Response<T>, Status>) -> Answer<T> {
    result.map(Response::into_inner).map_err(|status| format!("{:?}: {}", status.code(), status.message()))
}

/// Runs a probe on a new server of either kind.
fn ask_both(probe: impl AsyncFn(&mut Client)) {
    ask_both_with(&[], probe);
}

/// The same, on servers with more flags.
fn ask_both_with(flags: &[&str], probe: impl AsyncFn(&mut Client)) {
    crate::run(async {
        for kind in [Kind::Etcd, Kind::Detcd] {
            let _place = Place(kind);
            let mut client = Client::of(Server::start(kind, flags).await);
            probe(&mut client).await;
        }
    });
}

/// Names the server that a probe fails on.
struct Place(Kind);

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was on {:?}", self.0);
        }
    }
}

/// A client of a server, and the server.
struct Client {
    server: Server,
    channel: Channel,
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Client {
    fn of(server: Server) -> Self {
        let channel = server.channel();
        Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            channel,
            server,
        }
    }

    /// Puts a value; gives the revision.
    async fn put(&mut self, key: &str, value: &str) -> i64 {
        let put = pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() };
        revision(&self.try_put(put).await.expect("a put").header)
    }

    async fn try_put(&mut self, put: pb::PutRequest) -> Answer<pb::PutResponse> {
        answer(self.kv.put(put).await)
    }

    /// Deletes a range; gives the revision and how many keys went.
    async fn delete(&mut self, key: &str, range_end: &str) -> (i64, i64) {
        let delete = pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: false };
        let answer = answer(self.kv.delete_range(delete).await).expect("a delete");
        (revision(&answer.header), answer.deleted)
    }

    async fn range(&mut self, range: pb::RangeRequest) -> Answer<pb::RangeResponse> {
        answer(self.kv.range(range).await)
    }

    /// The record of a key, if there is one.
    async fn get(&mut self, key: &str) -> Option<KeyValue> {
        let found = self.range(interval(key, "")).await.expect("a range");
        found.kvs.first().map(decoded)
    }

    async fn txn(&mut self, txn: pb::TxnRequest) -> Answer<pb::TxnResponse> {
        answer(self.kv.txn(txn).await)
    }

    async fn compact(&mut self, revision: i64) -> Answer<pb::CompactionResponse> {
        answer(self.kv.compact(pb::CompactionRequest { revision, physical: true }).await)
    }

    async fn grant(&mut self, id: i64, ttl: i64) -> Answer<pb::LeaseGrantResponse> {
        answer(self.lease.lease_grant(pb::LeaseGrantRequest { ttl, id }).await)
    }

    /// A watch stream that begins with these requests. A server may wait for one that it answers.
    async fn watch(&self, first: impl IntoIterator<Item = RequestUnion>) -> Watching {
        let (requests, outgoing) = unbounded();
        for request in first {
            let request = pb::WatchRequest { request_union: Some(request) };
            requests.unbounded_send(request).expect("an open stream");
        }
        let mut client = WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let responses = answer(client.watch(outgoing).await).expect("a stream");
        Watching { requests, responses }
    }
}

/// A watch stream.
struct Watching {
    requests: UnboundedSender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Watching {
    fn say(&self, request: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.requests.unbounded_send(request).expect("an open stream");
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("a response in time").expect("no error").expect("an open stream")
    }

    /// Asks for a watcher; gives the answer.
    async fn create(&mut self, create: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.say(RequestUnion::CreateRequest(create));
        self.next().await
    }

    /// The next events, as words, from as many responses as they come in.
    async fn events(&mut self, count: usize) -> Vec<String> {
        let mut words = Vec::new();
        while words.len() < count {
            let response = self.next().await;
            assert!(!response.events.is_empty(), "no events: {response:?}");
            words.extend(told(&response));
        }
        words
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}

fn interval(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(range_end), ..Default::default() }
}

fn decoded(record: &EncodedKeyValue) -> KeyValue {
    record.decode().expect("a record")
}

/// The keys of an answer in its order, as one text.
fn keys(range: &pb::RangeResponse) -> String {
    let key = |record| String::from_utf8(decoded(record).key.to_vec()).expect("a text");
    range.kvs.iter().map(key).collect::<Vec<_>>().join(" ")
}

/// Key and value of each record of an answer, as one text.
fn records(range: &pb::RangeResponse) -> String {
    range.kvs.iter().map(|record| pair(&decoded(record))).collect::<Vec<_>>().join(" ")
}

fn pair(record: &KeyValue) -> String {
    format!("{}={}", record.key.escape_ascii(), record.value.escape_ascii())
}

/// What a response tells, event by event: `put a=1@5 was a=0`.
fn told(response: &pb::WatchResponse) -> Vec<String> {
    let word = |event: Event| {
        let kv = decoded(event.kv.as_ref().expect("a key"));
        let kind = if event.r#type == EventType::Delete as i32 { "delete" } else { "put" };
        let before = event.prev_kv.as_ref().map(decoded);
        let before = before.map_or(String::new(), |before| format!(" was {}", pair(&before)));
        format!("{kind} {}@{}{before}", pair(&kv), kv.mod_revision)
    };
    response.events.iter().map(|event| word(event.decode().expect("an event"))).collect()
}

fn put_op(key: &str, value: &str) -> pb::RequestOp {
    let put = pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

fn range_op(key: &str, range_end: &str) -> pb::RequestOp {
    pb::RequestOp { request: Some(Request::RequestRange(interval(key, range_end))) }
}

fn delete_op(key: &str, range_end: &str) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: false };
    pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

fn then(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success, ..Default::default() }
}

#[track_caller]
fn refused<T: Debug>(answer: Answer<T>, text: &str) {
    assert_eq!(answer.expect_err("it is refused"), text);
}
