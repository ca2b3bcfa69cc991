//! What one client does, request by request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use detcd::client::Channel;
use detcd::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use detcd::proto::etcdserverpb::lease_client::LeaseClient;
use detcd::proto::etcdserverpb::request_op::Request;
use detcd::proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest, RangeRequest,
    RangeResponse, RequestOp, TxnRequest, TxnResponse,
};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use tonic::{Status, Streaming};

use crate::fan_out::FanOut;
use crate::{Failure, wire};

/// What all keys begin with, and the first key behind them.
const PREFIX: &str = "/registry/bench/";
const PREFIX_END: &str = "/registry/bench0";

/// Keys of a page, Kubernetes' choice.
const PAGE: u64 = 500;

/// By how much two answers to the same range may differ in size: their headers hold the revision and
/// the term. In bytes.
const HEADER_SLACK: usize = 64;

/// Time to live of the leases, in seconds: longer than a scenario.
const LEASE_TTL: i64 = 3600;

/// Random bytes that values are cut from, so that no server can compress them. Clones share them.
#[derive(Clone)]
pub struct Noise {
    bytes: Bytes,
}

/// One client.
pub struct Client {
    channel: Channel,
    random: SmallRng,
    noise: Noise,
    work: Work,
}

/// What a client asks for, and where it is with it.
pub enum Work {
    /// Puts of every key once, shared among all clients.
    Fill { next: Arc<AtomicU64>, keys: u64, size: usize },
    /// Puts to random keys.
    Put { keys: u64, size: usize },
    /// Gets of random keys.
    Get { keys: u64, serializable: bool },
    /// Updates of own keys, from `first` on, each with its last known revision.
    Update { first: u64, revisions: Vec<i64>, next: usize },
    /// Ranges, one after the other.
    List { pages: Arc<[Page]>, next: usize },
    /// Renewals of one lease on one stream.
    KeepAlive {
        lease: i64,
        requests: UnboundedSender<LeaseKeepAliveRequest>,
        answers: Streaming<LeaseKeepAliveResponse>,
    },
    /// Puts that many watchers see.
    FanOut(FanOut),
}

/// A range request, and the least size of a right answer.
pub struct Page {
    framed: Bytes,
    least: usize,
}

/// How a list is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    All,
    KeysOnly,
    CountOnly,
    Pages,
}

impl Noise {
    pub fn new() -> Self {
        let mut bytes = vec![0; 1 << 20];
        SmallRng::seed_from_u64(0).fill_bytes(&mut bytes);
        Self { bytes: bytes.into() }
    }

    fn value(&self, random: &mut SmallRng, size: usize) -> Bytes {
        let begin = random.random_range(0..self.bytes.len() - size);
        self.bytes.slice(begin..begin + size)
    }
}

impl Client {
    pub fn new(channel: Channel, seed: u64, noise: Noise, work: Work) -> Self {
        Self { channel, random: SmallRng::seed_from_u64(seed), noise, work }
    }

    /// Sends the next request and waits for its answer. Gives the number of the scenario's units that
    /// it was; 0 when there was nothing left to do.
    pub async fn request(&mut self) -> Result<u64, Status> {
        match &mut self.work {
            Work::Fill { next, keys, size } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= *keys {
                    return Ok(0);
                }
                let value = self.noise.value(&mut self.random, *size);
                put(&mut self.channel, number, value).await?;
            }
            Work::Put { keys, size } => {
                let number = self.random.random_range(0..*keys);
                let value = self.noise.value(&mut self.random, *size);
                put(&mut self.channel, number, value).await?;
            }
            Work::Get { keys, serializable } => {
                let key = key(self.random.random_range(0..*keys));
                let range = RangeRequest { key, serializable: *serializable, ..Default::default() };
                get(&mut self.channel, range).await?;
            }
            Work::Update { first, revisions, next } => {
                let key = key(*first + *next as u64);
                let value = self.noise.value(&mut self.random, crate::scenario::SMALL_VALUE);
                revisions[*next] = swap(&mut self.channel, key, revisions[*next], value).await?;
                *next = (*next + 1) % revisions.len();
            }
            Work::List { pages, next } => {
                let page = &pages[*next];
                let size = wire::call_for_size(&mut self.channel, wire::RANGE, page.framed.clone()).await?;
                if size < page.least {
                    return Err(Status::data_loss(format!("{size} bytes instead of {}", page.least)));
                }
                *next = (*next + 1) % pages.len();
            }
            Work::KeepAlive { lease, requests, answers } => {
                let ended = || Status::unavailable("the stream of keepalives ended");
                requests.unbounded_send(LeaseKeepAliveRequest { id: *lease }).map_err(|_| ended())?;
                let answer = answers.message().await?.ok_or_else(ended)?;
                if answer.ttl <= 0 {
                    return Err(Status::not_found("the lease is gone"));
                }
            }
            Work::FanOut(fan_out) => {
                let value = self.noise.value(&mut self.random, crate::scenario::SMALL_VALUE);
                return fan_out.put(&mut self.channel, value).await;
            }
        }
        Ok(1)
    }
}

/// A client that updates `count` existing keys from `first` on.
pub async fn update(channel: &mut Channel, first: u64, count: u64) -> Result<Work, Failure> {
    let range = RangeRequest { key: key(first), range_end: key(first + count), ..Default::default() };
    let answer: RangeResponse = wire::call_for_message(channel, wire::RANGE, wire::frame(&range)).await?;
    let revisions =
        answer.kvs.iter().map(|kv| Ok(kv.decode()?.mod_revision)).collect::<Result<_, Failure>>()?;
    Ok(Work::Update { first, revisions, next: 0 })
}

/// The ranges of a list over all `keys`. Each is asked for once, to see that the answers are right.
pub async fn pages(channel: &mut Channel, shape: Shape, keys: u64) -> Result<Arc<[Page]>, Failure> {
    let all = RangeRequest { key: PREFIX.into(), range_end: PREFIX_END.into(), ..Default::default() };
    let requests = match shape {
        Shape::All => vec![(all, keys)],
        Shape::KeysOnly => vec![(RangeRequest { keys_only: true, ..all }, keys)],
        Shape::CountOnly => vec![(RangeRequest { count_only: true, ..all }, 0)],
        Shape::Pages => {
            let count = RangeRequest { count_only: true, ..all.clone() };
            let revision = range(channel, &count).await?.header.map_or(0, |header| header.revision);
            let page = |first| RangeRequest { key: key(first), limit: PAGE as i64, revision, ..all.clone() };
            (0..keys).step_by(PAGE as usize).map(|first| (page(first), PAGE.min(keys - first))).collect()
        }
    };
    let mut pages = Vec::new();
    for (request, expected) in requests {
        let answer = range(channel, &request).await?;
        if answer.kvs.len() as u64 != expected {
            return Err(format!("{} keys instead of {expected} for {request:?}", answer.kvs.len()).into());
        }
        if matches!(shape, Shape::CountOnly) && answer.count as u64 != keys {
            return Err(format!("a count of {} instead of {keys}", answer.count).into());
        }
        let least = answer.encoded_len().saturating_sub(HEADER_SLACK);
        pages.push(Page { framed: wire::frame(&request), least });
    }
    Ok(pages.into())
}

/// A client with a new lease and an open stream to renew it.
pub async fn keep_alive(channel: &Channel) -> Result<Work, Failure> {
    let mut client = LeaseClient::new(channel.clone());
    let lease = client.lease_grant(LeaseGrantRequest { ttl: LEASE_TTL, id: 0 }).await?.into_inner().id;
    let (requests, outgoing) = unbounded();
    // Some servers answer a stream only when they have its first message.
    requests.unbounded_send(LeaseKeepAliveRequest { id: lease })?;
    let mut answers = client.lease_keep_alive(outgoing).await?.into_inner();
    answers.message().await?.ok_or("the stream of keepalives ended")?;
    Ok(Work::KeepAlive { lease, requests, answers })
}

async fn range(channel: &mut Channel, range: &RangeRequest) -> Result<RangeResponse, Status> {
    wire::call_for_message(channel, wire::RANGE, wire::frame(range)).await
}

async fn put(channel: &mut Channel, number: u64, value: Bytes) -> Result<(), Status> {
    let put = PutRequest { key: key(number), value, ..Default::default() };
    wire::call_for_size(channel, wire::PUT, wire::frame(&put)).await.map(drop)
}

/// Gets a key that exists.
async fn get(channel: &mut Channel, range: RangeRequest) -> Result<(), Status> {
    let size = wire::call_for_size(channel, wire::RANGE, wire::frame(&range)).await?;
    if size < crate::scenario::SMALL_VALUE {
        return Err(Status::data_loss("the key is missing"));
    }
    Ok(())
}

/// Puts `value` if the key's revision is still `revision`; gives the new one.
async fn swap(channel: &mut Channel, key: Bytes, revision: i64, value: Bytes) -> Result<i64, Status> {
    let put = PutRequest { key: key.clone(), value, ..Default::default() };
    let range = RangeRequest { key: key.clone(), ..Default::default() };
    let txn = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key,
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(revision)),
        }],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(range)) }],
    };
    let answer: TxnResponse = wire::call_for_message(channel, wire::TXN, wire::frame(&txn)).await?;
    match answer.header {
        Some(header) if answer.succeeded => Ok(header.revision),
        _ => Err(Status::aborted("a conflict on a key that nobody else writes")),
    }
}

fn key(number: u64) -> Bytes {
    format!("{PREFIX}{number:08}").into()
}
