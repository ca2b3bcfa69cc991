//! The accept loop, the connection and the client's channel against each other, over loopback sockets and
//! over pipes that count.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::{Request as HttpRequest, Response as HttpResponse, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use tonic::body::Body;
use tonic::{Code, Request, Response, Status, Streaming};
use tower_service::Service;

use super::frames::kind::DATA;
use super::frames::{FrameHead, Frames};
use super::inline::{Driver, InlineExecutor, Until};
use super::io::Io;
use super::*;
use crate::client::{Channel, Endpoint, Options as ClientOptions};
use crate::proto::etcdserverpb::watch_client::WatchClient;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::watch_server::{Watch, WatchServer};
use crate::proto::etcdserverpb::{WatchCancelRequest, WatchRequest, WatchResponse};
use crate::proto::health::health_client::HealthClient;
use crate::proto::health::health_server::{Health, HealthServer};
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use crate::rt::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use crate::rt::{self, AsyncRead, AsyncWrite, HyperTimer, ReadBuf, ShutdownTrigger, TcpListener, TcpStream};

/// Answers with what the request's service name asks for, and knows how many calls it is working on.
#[derive(Clone, Default)]
struct TestService {
    working: Arc<AtomicUsize>,
}

struct Working(Arc<AtomicUsize>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl Health for TestService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.working.fetch_add(1, Ordering::SeqCst);
        let _working = Working(self.working.clone());
        match request.into_inner().service.as_str() {
            "slow" => rt::sleep(Duration::from_millis(50)).await,
            "pool" => rt::blocking(|| ()).await,
            "never" => std::future::pending().await,
            "error" => return Err(Status::failed_precondition("as asked")),
            _ => {}
        }
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Ok(Response::new(HealthListResponse::default()))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(stream::iter((0..3).map(|status| Ok(HealthCheckResponse { status }))).boxed()))
    }
}

#[tonic::async_trait]
impl Watch for TestService {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        requests: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let echo = requests.into_inner().map(|request| match request?.request_union {
            Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id, .. })) => {
                Ok(WatchResponse { watch_id, ..Default::default() })
            }
            _ => Err(Status::invalid_argument("only numbers")),
        });
        Ok(Response::new(echo.boxed()))
    }
}

async fn hello(request: HttpRequest<Incoming>) -> Result<HttpResponse<Body>, Infallible> {
    let text = format!("hello {} over {:?}", request.uri().path(), request.version());
    Ok(HttpResponse::new(Body::new(http_body_util::Full::from(text))))
}

fn services(service: TestService) -> Services<impl Handler + Sync, impl Handler + Sync> {
    let health = HealthServer::new(service.clone());
    let watch = WatchServer::new(service);
    let grpc = HandlerFn(move |request: HttpRequest<Incoming>| {
        if request.uri().path().starts_with("/etcdserverpb.Watch/") {
            watch.clone().call(request)
        } else {
            health.clone().call(request)
        }
    });
    Services { grpc, http: HandlerFn(hello) }
}

/// A served listener on a port of the system's choice.
struct TestServer {
    address: SocketAddr,
    service: TestService,
    traffic: Arc<Traffic>,
    trigger: ShutdownTrigger,
    served: rt::JoinHandle<()>,
}

impl TestServer {
    async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let service = TestService::default();
        let traffic = options.traffic.clone();
        let (trigger, shutdown) = rt::shutdown_channel();
        let served = rt::spawn(serve(listener, services(service.clone()), options, shutdown));
        Self { address, service, traffic, trigger, served }
    }

    fn channel(&self) -> Channel {
        channel(&[self.address])
    }

    async fn until_working(&self, calls: usize) {
        while self.service.working.load(Ordering::SeqCst) != calls {
            rt::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn channel(addresses: &[SocketAddr]) -> Channel {
    let endpoints: Vec<Endpoint> =
        addresses.iter().map(|address| address.to_string().parse().expect("an endpoint")).collect();
    Channel::new(endpoints, ClientOptions::default())
}

fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// Runs a test with a bound on its time.
fn check<F: Future<Output = ()>>(test: F) {
    rt::run(async { rt::timeout(Duration::from_secs(20), test).await.expect("the test hangs") })
        .expect("a runtime");
}

#[test]
fn unary_and_streaming_calls() {
    check(async {
        let server = TestServer::start(Options::default()).await;
        let mut health = HealthClient::new(server.channel());
        assert_eq!(health.check(ask("")).await.expect("an answer").into_inner().status, 1);
        let error = health.check(ask("error")).await.expect_err("a status");
        assert_eq!((error.code(), error.message()), (Code::FailedPrecondition, "as asked"));

        let updates = health.watch(ask("")).await.expect("a stream").into_inner();
        let statuses: Vec<i32> = updates.map(|update| update.expect("an update").status).collect().await;
        assert_eq!(statuses, [0, 1, 2]);
        assert_eq!(server.traffic.connections.load(Ordering::SeqCst), 1);
        assert!(server.traffic.received.load(Ordering::SeqCst) > 0);
        assert!(server.traffic.sent.load(Ordering::SeqCst) > 0);
    });
}

#[test]
fn a_bidirectional_stream_answers_each_message_at_once() {
    check(async {
        let server = TestServer::start(Options::default()).await;
        let (sender, receiver) = rt::sync::mpsc::channel::<i64>(1);
        let requests = stream::unfold(receiver, |mut receiver| async {
            let watch_id = receiver.recv().await?;
            let cancel = WatchCancelRequest { watch_id };
            let request = WatchRequest { request_union: Some(RequestUnion::CancelRequest(cancel)) };
            Some((request, receiver))
        });
        let mut client = WatchClient::new(server.channel());
        let mut answers = client.watch(requests).await.expect("a stream").into_inner();
        for number in 1..=20 {
            sender.send(number).await.expect("the stream is open");
            let answer = answers.message().await.expect("no error").expect("an answer");
            assert_eq!(answer.watch_id, number);
        }
        drop(sender);
        assert_eq!(answers.message().await.expect("no error"), None);
    });
}

#[test]
fn many_calls_share_one_connection() {
    check(async {
        let server = TestServer::start(Options::default()).await;
        let health = HealthClient::new(server.channel());
        // More than the runtime lets one task do in one poll.
        let calls = (0..500).map(|call| {
            let mut health = health.clone();
            // Woken by a timer, woken from another thread, and answered at once.
            async move { health.check(ask(["slow", "pool", ""][call % 3])).await }
        });
        for answer in futures::future::join_all(calls).await {
            assert_eq!(answer.expect("an answer").into_inner().status, 1);
        }
        assert_eq!(server.traffic.connections.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn http1_is_served_on_the_same_port() {
    check(async {
        let server = TestServer::start(Options::default()).await;
        let mut socket = TcpStream::connect(server.address).await.expect("a connection");
        // Begins as the preface of HTTP/2 does, and arrives in two parts.
        socket.write_all(b"P").await.expect("sent");
        socket.flush().await.expect("sent");
        rt::sleep(Duration::from_millis(5)).await;
        socket.write_all(b"UT /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
        socket.flush().await.expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("hello /health over HTTP/1.1"), "{answer}");
    });
}

#[test]
fn silent_clients_block_nobody_and_are_closed() {
    check(async {
        let options = Options { first_bytes_timeout: Duration::from_millis(100), ..Options::default() };
        let server = TestServer::start(options).await;
        let mut silent = TcpStream::connect(server.address).await.expect("a connection");
        let mut half = TcpStream::connect(server.address).await.expect("a connection");
        half.write_all(b"PRI * HTTP").await.expect("sent");
        half.flush().await.expect("sent");
        HealthClient::new(server.channel()).check(ask("")).await.expect("an answer");

        let mut nothing = Vec::new();
        for socket in [&mut silent, &mut half] {
            let _ = socket.read_to_end(&mut nothing).await;
        }
        assert!(nothing.is_empty());
    });
}

#[test]
fn clients_beyond_the_limit_wait_for_their_turn() {
    check(async {
        let server = TestServer::start(Options { max_connections: 1, ..Options::default() }).await;
        let first = server.channel();
        HealthClient::new(first.clone()).check(ask("")).await.expect("an answer");
        let mut second = HealthClient::new(server.channel());
        let mut waiting = pin!(second.check(ask("")));
        assert!(rt::timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err());
        drop(first);
        waiting.await.expect("an answer");
    });
}

#[test]
fn a_cancelled_call_drops_its_handler() {
    check(async {
        let server = TestServer::start(Options::default()).await;
        let mut health = HealthClient::new(server.channel());
        assert!(rt::timeout(Duration::from_millis(20), health.check(ask("never"))).await.is_err());
        server.until_working(0).await;
        health.check(ask("")).await.expect("the connection is still good");
        assert_eq!(server.traffic.connections.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_shutdown_finishes_what_was_begun() {
    check(async {
        let server = TestServer::start(Options::default()).await;
        let mut health = HealthClient::new(server.channel());
        let begun = rt::spawn({
            let mut health = health.clone();
            async move { health.check(ask("slow")).await }
        });
        let _silent = TcpStream::connect(server.address).await.expect("a connection");
        server.until_working(1).await;
        server.trigger.trigger();
        begun.await.expect("no panic").expect("an answer");
        server.served.await.expect("the server ends");
        let error = health.check(ask("")).await.expect_err("nobody listens");
        assert_eq!(error.code(), Code::Unavailable, "{error}");
    });
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    check(async {
        let options = Options { grace: Duration::from_millis(50), ..Options::default() };
        let server = TestServer::start(options).await;
        let call = rt::spawn({
            let mut health = HealthClient::new(server.channel());
            async move { health.check(ask("never")).await }
        });
        server.until_working(1).await;
        server.trigger.trigger();
        server.served.await.expect("the server ends");
        let error = call.await.expect("no panic").expect_err("the call was cut off");
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert_eq!(server.service.working.load(Ordering::SeqCst), 0, "the handler was dropped");
    });
}

// On the simulated network a client takes the port that the first server freed, and reaches itself.
#[test]
#[cfg_attr(madsim, ignore)]
fn the_channel_goes_on_with_another_endpoint() {
    check(async {
        let first = TestServer::start(Options::default()).await;
        let second = TestServer::start(Options::default()).await;
        let mut health = HealthClient::new(channel(&[first.address, second.address]));
        for _ in 0..4 {
            health.check(ask("")).await.expect("an answer");
        }
        for server in [&first, &second] {
            assert_eq!(server.traffic.connections.load(Ordering::SeqCst), 1, "taken in turn");
        }
        first.trigger.trigger();
        first.served.await.expect("the server ends");
        // A request that goes out before the client knows is lost: it is never sent twice.
        rt::sleep(Duration::from_millis(20)).await;
        for _ in 0..4 {
            health.check(ask("")).await.expect("an answer of the other");
        }
    });
}

#[test]
fn the_channel_connects_again() {
    check(async {
        let server = TestServer::start(Options { grace: Duration::ZERO, ..Options::default() }).await;
        let address = server.address;
        let mut health = HealthClient::new(server.channel());
        health.check(ask("")).await.expect("an answer");
        server.trigger.trigger();
        server.served.await.expect("the server ends");
        health.check(ask("")).await.expect_err("nobody listens");

        let listener = TcpListener::bind(address).await.expect("the same port");
        let (_trigger, shutdown) = rt::shutdown_channel();
        rt::spawn(serve(listener, services(TestService::default()), Options::default(), shutdown));
        health.check(ask("")).await.expect("an answer of the new server");
    });
}

/// A pipe that counts the writes it takes.
struct Counting {
    pipe: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.pipe).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}

/// A client's end of a pipe of 64 KB, whose driver is the test's to poll.
async fn client_over(
    pipe: DuplexStream,
) -> (http2::SendRequest<Body>, impl Future<Output = Result<(), ConnectionError>>) {
    let io = Io::new(pipe, Bytes::new(), Arc::default());
    let executor = InlineExecutor::default();
    let (sender, connection) = http2::Builder::new(executor.clone())
        .timer(HyperTimer)
        .initial_stream_window_size(1 << 30)
        .initial_connection_window_size(1 << 30)
        .handshake(io.clone())
        .await
        .expect("a handshake");
    (sender, Driver::new(connection, io, executor, Until::StreamsEnd, None, None))
}

fn post(path: &str) -> HttpRequest<Body> {
    let uri = format!("http://test{path}");
    let request = HttpRequest::post(uri).header(header::CONTENT_TYPE, "application/grpc");
    request.body(Body::empty()).expect("a request")
}

/// Serves the other end of a pipe with one handler; gives the client's end and the server's writes.
fn serve_pipe(handler: impl Handler + Sync) -> (DuplexStream, Arc<AtomicUsize>, rt::JoinHandle<()>) {
    let (near, far) = duplex(64 * 1024);
    let writes = Arc::new(AtomicUsize::new(0));
    let socket = Counting { pipe: far, writes: writes.clone() };
    let (trigger, shutdown) = rt::shutdown_channel();
    let served = rt::spawn(async move {
        let _trigger = trigger;
        let services = Services { grpc: handler, http: HandlerFn(hello) };
        let _ = serve_connection(socket, services, &Options::default(), shutdown).await;
    });
    (near, writes, served)
}

#[test]
fn the_replies_of_a_poll_leave_in_one_write() {
    check(async {
        // A payload of this size would be a write of its own on a vectored socket.
        let payload = Bytes::from_static(&[7; 600]);
        let reply = move |_| {
            let payload = http_body_util::Full::from(payload.clone());
            async move { Ok(HttpResponse::new(Body::new(payload))) }
        };
        let (pipe, writes, _) = serve_pipe(HandlerFn(reply));
        let (sender, driver) = client_over(pipe).await;
        rt::spawn(async move { driver.await.expect("no error") });
        let call = async || {
            let answer = sender.clone().send_request(post("/x")).await.expect("an answer");
            answer.into_body().collect().await.expect("a body").to_bytes().len()
        };
        assert_eq!(call().await, 600);
        rt::sleep(Duration::from_millis(5)).await;
        let before = writes.load(Ordering::SeqCst);
        let sizes = futures::future::join_all((0..50).map(|_| call())).await;
        assert_eq!(sizes, [600; 50]);
        let writes = writes.load(Ordering::SeqCst) - before;
        assert!(writes <= 3, "{writes} writes for 50 replies");
    });
}

#[test]
fn any_authority_is_served_however_its_bytes_arrive() {
    const END_OF_STREAM: u8 = 0x1;
    check(async {
        let tell = |request: HttpRequest<Incoming>| async move {
            let authority = request.uri().authority().expect("an authority").to_string();
            Ok(HttpResponse::new(Body::new(http_body_util::Full::from(authority))))
        };
        // No read takes more than a byte.
        let (near, far) = duplex(1);
        let (trigger, shutdown) = rt::shutdown_channel();
        let served = rt::spawn(async move {
            let services = Services { grpc: HandlerFn(tell), http: HandlerFn(hello) };
            serve_connection(far, services, &Options::default(), shutdown).await
        });
        let (mut read, mut write) = rt::io::split(near);
        rt::spawn(async move {
            // POST, http, a path and a URL for an authority; the end of the request.
            let block = [&[0x83, 0x86, 0x44, 2][..], b"/a", &[0x41, 10], b"http://a:1"].concat();
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            let headers = [0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1];
            let all = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &headers, &block].concat();
            write.write_all(&all).await.expect("the server reads");
            std::future::pending::<()>().await;
        });
        let (mut frames, mut answer) = (Frames::default(), Vec::new());
        let mut last: Option<FrameHead> = None;
        let has_ended = |last: &FrameHead| last.stream == 1 && last.flags & END_OF_STREAM != 0;
        while !(last.as_ref().is_some_and(has_ended) && frames.is_between()) {
            let byte = read.read_u8().await.expect("the server answers");
            if last.is_some_and(|last| last.kind == DATA) && !frames.is_between() {
                answer.push(byte);
            }
            frames.pass(&[byte], |head| last = Some(head));
        }
        assert_eq!(answer, b"http---a-1", "{last:?}");
        drop(trigger);
        served.abort();
    });
}

#[test]
fn a_large_answer_waits_for_a_slow_reader() {
    const CHUNK: usize = 16 * 1024;
    const CHUNKS: usize = 640;
    check(async {
        let produced = Arc::new(AtomicUsize::new(0));
        let counter = produced.clone();
        let large = move |_| {
            let produced = counter.clone();
            let chunks = stream::iter(0..CHUNKS).map(move |_| {
                produced.fetch_add(CHUNK, Ordering::SeqCst);
                Ok::<_, Status>(Frame::data(Bytes::from(vec![1; CHUNK])))
            });
            async move { Ok(HttpResponse::new(Body::new(StreamBody::new(chunks)))) }
        };
        let (pipe, _, served) = serve_pipe(HandlerFn(large));
        let (mut sender, driver) = client_over(pipe).await;
        let mut driver = pin!(driver);
        // The client's windows are wide open; only the socket holds the server back.
        let answer = rt::select! {
            answer = sender.send_request(post("/large")) => answer.expect("an answer"),
            _ = driver.as_mut() => panic!("the connection ended"),
        };
        for _ in 0..100 {
            rt::yield_now().await;
        }
        let ahead = produced.load(Ordering::SeqCst);
        assert!(ahead < 1024 * 1024, "{ahead} bytes were produced for a reader that stands still");

        let read = async {
            let mut body = answer.into_body();
            let mut size = 0;
            while let Some(frame) = body.frame().await {
                size += frame.expect("a frame").into_data().map_or(0, |data| data.len());
            }
            drop(sender);
            size
        };
        let (size, ended) = futures::future::join(read, driver).await;
        assert_eq!(size, CHUNK * CHUNKS);
        ended.expect("a clean end");
        served.await.expect("the server's side ends");
    });
}

#[test]
fn a_socket_that_takes_nothing_is_given_up() {
    check(async {
        let (near, far) = duplex(1024);
        let io = Io::new(far, Bytes::new(), Arc::default());
        let mut writer = io.clone();
        let wrote = std::future::poll_fn(|context| {
            hyper::rt::Write::poll_write(Pin::new(&mut writer), context, &[0; 4096])
        });
        assert_eq!(wrote.await.expect("gathered"), 4096);
        let connection = std::future::pending::<hyper::Result<()>>();
        let timeout = Some(Duration::from_millis(30));
        let driver =
            Driver::new(connection, io, InlineExecutor::default(), Until::ConnectionEnds, timeout, None);
        let error = driver.await.expect_err("the reader stands still");
        assert!(
            matches!(error, ConnectionError::Socket(error) if error.kind() == std::io::ErrorKind::TimedOut)
        );
        drop(near);
    });
}
