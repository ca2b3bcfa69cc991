//! The entry of every gRPC call of a listener: counts it, bounds it by its deadline, and sends it to its
//! service.
//!
//! ```text
//!   request --> Call::begin --+-- Range --> Rpc::serve_range --+--> status in the headers: counted here
//!   (found by path)           |                                |
//!                             '-- others --> its service ------'--> CountedAnswer: counted at the trailers
//! ```
//!
//! Invariants:
//! - counting a call costs a binary search, a few atomics and, for its answer, one small box: no lock,
//!   no look-up of labels;
//! - the count of a call ends with its trailers, or with its client;
//! - no handler and no stream goes on after the deadline of its call.

use std::convert::Infallible;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::call_head::CallHead;
use super::counted::CountedAnswer;
use super::deadline::Deadline;
use super::request_body::{RequestBody, Source};
use super::services::{self, AllServices};
use super::status::{status, status_in};
use super::{RANGE_PATH, Rpc, call_head, undecodable};
use crate::metrics::{Call, CallKind, Metrics, methods};
use crate::types::RequestError;

/// Where a client says its version.
const CLIENT_VERSION: HeaderName = HeaderName::from_static("client-api-version");

/// The gRPC handler of a listener.
#[derive(Clone)]
pub struct Instrumented {
    entry: Arc<Entry>,
}

struct Entry {
    rpc: Rpc,
    services: AllServices,
    metrics: Arc<Metrics>,
}

impl Instrumented {
    /// Serves the services of `rpc`, counted in `metrics`.
    pub fn new(rpc: Rpc, metrics: Arc<Metrics>) -> Self {
        let services = AllServices::new(&rpc);
        Self { entry: Arc::new(Entry { rpc, services, metrics }) }
    }

    /// Largest message that a call takes, in bytes.
    pub fn receive_limit(&self) -> usize {
        self.entry.rpc.receive_limit()
    }

    /// Serves a call that begins in this process: the same call in all but the socket.
    pub fn call_within(&self, request: Request<Body>) -> Answering {
        self.serve(request.map(Either::Right))
    }

    fn serve(&self, mut request: Request<Source>) -> Answering {
        let CallHead { deadline, content_type } = match CallHead::read(&request) {
            Ok(head) => head,
            Err(refusal) => return Answering::refused(refusal.into_response(), None),
        };
        // gRPC knows no query: what looks like one is a part of the method's name.
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        let Some(call) = Call::begin(&self.entry.metrics, path) else {
            return Answering::refused(unknown(path), content_type);
        };
        count_version(&call, request.headers());
        let is_range = path == RANGE_PATH;
        let answer = match call_head::packing(request.headers_mut()) {
            Err(refusal) => Answer::refused(refusal.into_response()),
            Ok(_) if deadline.is_past() => {
                Answer::refused(status(RequestError::DeadlineExceeded).into_http())
            }
            Ok(packing) => {
                let kind = call.kind();
                let counter = (kind == CallKind::BidiStream).then(|| call.requests());
                let limit = self.entry.rpc.receive_limit();
                self.ask(is_range, request.map(|body| RequestBody::new(body, kind, packing, limit, counter)))
            }
        };
        Answering { answer, call: Some(call), deadline: Some(deadline), content_type }
    }

    /// Passes a call on to its service.
    fn ask(&self, is_range: bool, request: Request<RequestBody>) -> Answer {
        if is_range {
            let entry = self.entry.clone();
            Answer::Range(Box::pin(async move { entry.rpc.serve_range(request).await }))
        } else {
            Answer::Routed(self.entry.services.call(request))
        }
    }
}

impl Service<Request<Incoming>> for Instrumented {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answering {
        self.serve(request.map(Either::Left))
    }
}

/// The answer to a path that names no method, in the words of gRPC for Go.
fn unknown(path: &str) -> Response<Body> {
    let text = match methods::split_path(path) {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if methods::is_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    };
    Status::unimplemented(text).into_http()
}

/// Counts a client's version; one that is no text is refused by the service and counts for nothing.
fn count_version(call: &Call, headers: &HeaderMap) {
    match headers.get(CLIENT_VERSION).map(|version| version.to_str()) {
        None => call.client_version(None),
        Some(Ok(version)) => call.client_version(Some(version)),
        Some(Err(_)) => {}
    }
}

/// A call on its way to its answer.
pub struct Answering {
    answer: Answer,
    /// None for a call of no method, and once the answer is there.
    call: Option<Call>,
    /// As above.
    deadline: Option<Deadline>,
    /// The content type of the answer, where it is not that of gRPC alone.
    content_type: Option<HeaderValue>,
}

enum Answer {
    Routed(services::Answer),
    Range(BoxFuture<'static, Response<Body>>),
    Refused(future::Ready<Response<Body>>),
}

impl Answer {
    fn refused(response: Response<Body>) -> Self {
        Self::Refused(future::ready(response))
    }
}

impl Answering {
    fn refused(response: Response<Body>, content_type: Option<HeaderValue>) -> Self {
        Self { answer: Answer::refused(response), call: None, deadline: None, content_type }
    }
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.answer {
            Answer::Routed(answer) => answer.as_mut().poll(cx)?,
            Answer::Range(answer) => answer.as_mut().poll(cx),
            Answer::Refused(answer) => Pin::new(answer).poll(cx),
        };
        let mut response = match (answer, &mut self.deadline) {
            (Poll::Ready(response), _) => response,
            // Whoever polls this drops it when it is ready, and the handler with it.
            (Poll::Pending, Some(deadline)) => ready!(deadline.poll(cx)).into_http(),
            (Poll::Pending, None) => return Poll::Pending,
        };
        if let Some(content_type) = self.content_type.take() {
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        Poll::Ready(Ok(match (self.call.take(), self.deadline.take()) {
            (Some(call), Some(deadline)) => counted(response, call, deadline),
            _ => response,
        }))
    }
}

/// Counts the end of the call now, if the answer is a status alone, or lets its body do it.
fn counted(mut response: Response<Body>, mut call: Call, deadline: Deadline) -> Response<Body> {
    if let Some(code) = status_in(response.headers()) {
        undecodable::translate(response.headers_mut(), call.kind());
        call.finish(code);
        return response;
    }
    response.map(|body| Body::new(CountedAnswer::new(body, call, deadline)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures::{StreamExt, stream};
    use prost::Message;
    use tonic::Code;

    use super::*;
    use crate::client::{Channel, Options as ClientOptions};
    use crate::mailbox::MailboxReceiver;
    use crate::metrics::testing;
    use crate::net::{self, HandlerFn, Services};
    use crate::proto::etcdserverpb::kv_client::KvClient;
    use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
    use crate::proto::etcdserverpb::watch_client::WatchClient;
    use crate::proto::etcdserverpb::watch_request::RequestUnion;
    use crate::proto::etcdserverpb::{
        DefragmentRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchRequest,
    };
    use crate::proto::health::HealthCheckRequest;
    use crate::proto::health::health_client::HealthClient;
    use crate::proto::v3lockpb::LockRequest;
    use crate::proto::v3lockpb::lock_client::LockClient;
    use crate::rpc::RpcConfig;
    use crate::rt::{self, TcpListener};

    async fn no_http(_: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        Ok(Response::new(Body::empty()))
    }

    fn samples(page: &str, method: &str) -> Vec<String> {
        let of_method = format!("grpc_method=\"{method}\"");
        let lines = page.lines().filter(|line| line.contains(&of_method) && !line.ends_with(" 0"));
        lines
            .map(|line| {
                let code = line.split("grpc_code=\"").nth(1).and_then(|rest| rest.split('"').next());
                let name = line.split('{').next().unwrap_or_default();
                let value = line.rsplit(' ').next().unwrap_or_default();
                format!(
                    "{} {}{value}",
                    &name["grpc_server_".len()..],
                    code.map_or(String::new(), |c| format!("{c} "))
                )
            })
            .collect()
    }

    /// The page, once a method shows this sample.
    async fn until(metrics: &Metrics, method: &str, sample: &str) -> String {
        loop {
            let page = metrics.render().unwrap();
            if samples(&page, method).iter().any(|found| found == sample) {
                return page;
            }
            rt::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A listener of a member without a loop, and a client of it.
    struct Served {
        metrics: Arc<Metrics>,
        receiver: MailboxReceiver,
        channel: Channel,
        trigger: rt::ShutdownTrigger,
        served: rt::JoinHandle<()>,
    }

    async fn serve() -> Served {
        let (metrics, mailbox, receiver) = testing::metrics(testing::view(), Vec::new(), None);
        let config =
            RpcConfig { max_request_bytes: 1024, max_txn_ops: 8, election_timeout: Duration::from_secs(1) };
        let grpc = Instrumented::new(Rpc::new(mailbox, config), metrics.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (trigger, shutdown) = rt::shutdown_channel();
        let services = Services { grpc, http: HandlerFn(no_http) };
        let served = rt::spawn(net::serve(listener, services, net::Options::default(), shutdown));
        let channel = Channel::new(vec![endpoint], ClientOptions::default());
        Served { metrics, receiver, channel, trigger, served }
    }

    /// A request whose deadline only the server looks at.
    fn within<T>(timeout: &'static str, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        request
    }

    #[test]
    fn no_call_outlives_its_deadline() {
        rt::run(async {
            let Served { metrics, receiver: _quiet, channel, trigger, served } = serve().await;
            let late = |status: &Status| {
                assert_eq!(
                    (status.code(), status.message()),
                    (Code::DeadlineExceeded, "context deadline exceeded")
                );
            };
            let mut kv = KvClient::new(channel.clone());
            let put = PutRequest { key: "a".into(), ..Default::default() };
            late(&kv.put(within("20m", put.clone())).await.unwrap_err());
            let lock = LockRequest { lease: 1, ..Default::default() };
            late(&LockClient::new(channel.clone()).lock(within("20m", lock)).await.unwrap_err());
            // A stream that opens in time and then has nothing to say, and its client neither.
            let requests = within("20m", stream::pending::<WatchRequest>());
            let opened = WatchClient::new(channel.clone()).watch(requests).await.unwrap();
            late(&opened.into_inner().message().await.unwrap_err());
            until(&metrics, "Put", "handled_total DeadlineExceeded 1").await;
            until(&metrics, "Lock", "handled_total DeadlineExceeded 1").await;
            until(&metrics, "Watch", "handled_total DeadlineExceeded 1").await;

            let malformed = kv.put(within("soon", put)).await.unwrap_err();
            assert_eq!(malformed.code(), Code::Internal);
            assert!(malformed.message().starts_with("malformed grpc-timeout: "), "{malformed}");
            kv.range(within("9S", RangeRequest { key: "a".into(), ..Default::default() })).await.unwrap();
            trigger.trigger();
            served.await.unwrap();
        })
        .unwrap();
    }

    #[test]
    fn a_message_that_is_too_large_ends_its_call() {
        rt::run(async {
            let Served { receiver: _quiet, channel, trigger, served, .. } = serve().await;
            let check = |status: Status, length: usize| {
                // What may be sent beside the largest request.
                let limit = 1024 + crate::limits::GRPC_OVERHEAD_BYTES;
                let text = format!("grpc: received message larger than max ({length} vs. {limit})");
                assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, &text[..]));
            };
            let key = Bytes::from(vec![b'k'; 1 << 20]);
            let mut kv = KvClient::new(channel.clone());
            let put = PutRequest { key: key.clone(), ..Default::default() };
            let length = put.encoded_len();
            check(kv.put(put).await.unwrap_err(), length);
            let range = RangeRequest { key: key.clone(), ..Default::default() };
            check(kv.range(range).await.unwrap_err(), length);
            let create = WatchCreateRequest { key, ..Default::default() };
            let watch = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
            let length = watch.encoded_len();
            let requests = stream::iter([watch]).chain(stream::pending());
            let opened = WatchClient::new(channel).watch(requests).await.unwrap();
            check(opened.into_inner().message().await.unwrap_err(), length);
            trigger.trigger();
            served.await.unwrap();
        })
        .unwrap();
    }

    #[test]
    fn calls_over_a_connection_are_counted() {
        rt::run(async {
            let Served { metrics, mut receiver, channel, trigger, served } = serve().await;
            let mut kv = KvClient::new(channel.clone());

            // Through the routes, and through the way of its own that Range has.
            HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
            kv.range(RangeRequest { key: "a".into(), ..Default::default() }).await.unwrap();
            kv.range(RangeRequest::default()).await.unwrap_err();
            let mut maintenance = MaintenanceClient::new(channel.clone());
            let unbuilt = maintenance.defragment(DefragmentRequest::default()).await.unwrap_err();
            assert_eq!(unbuilt.code(), Code::Unimplemented);
            // A stream whose client goes away.
            let requests = stream::iter([WatchRequest::default(), WatchRequest::default()]);
            let opened = WatchClient::new(channel.clone()).watch(requests).await.unwrap();
            // The mail holds the other end of the stream.
            let mut mail = Vec::new();
            receiver.receive(&mut mail, 1).await;
            until(&metrics, "Watch", "msg_received_total 2").await;
            drop(opened);
            let page = until(&metrics, "Watch", "handled_total Canceled 1").await;
            assert_eq!(samples(&page, "Watch").len(), 3);
            // The loop is gone.
            drop(receiver);
            let put = kv.put(PutRequest { key: "a".into(), ..Default::default() }).await.unwrap_err();
            assert_eq!(put.code(), Code::Unavailable);

            let page = until(&metrics, "Put", "handled_total Unavailable 1").await;
            let check = |method: &str, expected: &[&str]| assert_eq!(samples(&page, method), expected);
            check(
                "Check",
                &["handled_total OK 1", "msg_received_total 1", "msg_sent_total 1", "started_total 1"],
            );
            check(
                "Range",
                &[
                    "handled_total OK 1",
                    "handled_total InvalidArgument 1",
                    "msg_received_total 2",
                    "msg_sent_total 1",
                    "started_total 2",
                ],
            );
            check(
                "Defragment",
                &["handled_total Unimplemented 1", "msg_received_total 1", "started_total 1"],
            );
            check("Watch", &["handled_total Canceled 1", "msg_received_total 2", "started_total 1"]);
            check("Put", &["handled_total Unavailable 1", "msg_received_total 1", "started_total 1"]);
            assert!(page.contains("etcd_mvcc_range_total 1\n"));
            assert!(page.contains(
                "etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"} 5\n"
            ));
            trigger.trigger();
            served.await.unwrap();
        })
        .unwrap();
    }

    #[test]
    fn an_unknown_path_is_told_in_the_words_of_go() {
        let check = |path: &str, expected: &str| {
            let response = unknown(path);
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!((status.code(), status.message()), (Code::Unimplemented, expected));
        };
        check("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV");
        check("/foo.Bar/Nope", "unknown service foo.Bar");
        check("/a/b/c", "unknown service a/b");
        check("/", "malformed method name: \"/\"");
    }
}
