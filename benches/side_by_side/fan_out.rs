//! One key, many watchers: what an event costs the server for each watcher that gets it.
//!
//! ```text
//!   put ──> server ──> stream 1 (100 watchers) ─┐
//!                  ──> ...                      ├─ events ──> permits ──> next put when all are there
//!                  ──> stream 10               ─┘
//! ```
//!
//! A put counts as answered when its last event has arrived, so there is never a backlog of unknown
//! size, and the latency is that of the unluckiest watcher.

use std::sync::Arc;

use bytes::Bytes;
use detcd::client::Channel;
use detcd::proto::etcdserverpb::watch_request::RequestUnion;
use detcd::proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::{IntoStreamingRequest, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::{Failure, wire};

const KEY: &[u8] = b"/registry/bench/watched";

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Watchers on each stream; there is a stream for each channel.
const WATCHERS_PER_STREAM: u32 = 100;

/// The watchers, and the count of what they were given.
pub struct FanOut {
    watchers: u32,
    /// One permit for each event that has arrived and was not yet asked for. Closed when a stream ends.
    arrived: Arc<Semaphore>,
    /// Open as long as the watchers are wanted.
    _requests: Vec<UnboundedSender<WatchRequest>>,
    _readers: JoinSet<()>,
}

/// `WatchResponse` with events that are counted, not decoded.
#[derive(Clone, PartialEq, prost::Message)]
struct Notice {
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    events: Vec<Bytes>,
}

impl FanOut {
    /// Opens a stream on each channel and waits until all its watchers are there.
    pub async fn start(channels: &[Channel]) -> Result<Self, Failure> {
        let arrived = Arc::new(Semaphore::new(0));
        let mut fan_out = Self {
            watchers: WATCHERS_PER_STREAM * u32::try_from(channels.len())?,
            arrived: arrived.clone(),
            _requests: Vec::new(),
            _readers: JoinSet::new(),
        };
        for channel in channels {
            let (requests, notices) = watch(channel).await?;
            fan_out._requests.push(requests);
            fan_out._readers.spawn(count(notices, arrived.clone()));
        }
        Ok(fan_out)
    }

    /// Puts the key and waits until every watcher has seen it; gives the number of watchers.
    pub async fn put(&mut self, channel: &mut Channel, value: Bytes) -> Result<u64, Status> {
        let put = PutRequest { key: Bytes::from_static(KEY), value, ..Default::default() };
        wire::call_for_size(channel, wire::PUT, wire::frame(&put)).await?;
        let ended = |_| Status::unavailable("a stream of watchers ended");
        self.arrived.acquire_many(self.watchers).await.map_err(ended)?.forget();
        Ok(self.watchers.into())
    }
}

/// One stream with all its watchers created.
async fn watch(channel: &Channel) -> Result<(UnboundedSender<WatchRequest>, Streaming<Notice>), Failure> {
    let (requests, outgoing) = unbounded();
    let create = WatchCreateRequest { key: Bytes::from_static(KEY), ..Default::default() };
    for _ in 0..WATCHERS_PER_STREAM {
        let request = RequestUnion::CreateRequest(create.clone());
        requests.unbounded_send(WatchRequest { request_union: Some(request) })?;
    }
    let path = http::uri::PathAndQuery::from_static(WATCH);
    let codec = ProstCodec::<WatchRequest, Notice>::default();
    let answer = Grpc::new(channel.clone()).streaming(outgoing.into_streaming_request(), path, codec).await?;
    let mut notices = answer.into_inner();
    for _ in 0..WATCHERS_PER_STREAM {
        let notice = notices.message().await?.ok_or("the stream ended before its watchers were there")?;
        if !notice.created {
            return Err("a watcher was not created".into());
        }
    }
    Ok((requests, notices))
}

/// Counts the events of one stream until it ends.
async fn count(mut notices: Streaming<Notice>, arrived: Arc<Semaphore>) {
    while let Ok(Some(notice)) = notices.message().await {
        arrived.add_permits(notice.events.len());
    }
    arrived.close();
}
