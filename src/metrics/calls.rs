//! Calls of gRPC, counted as they come and go.
//!
//! Each method has its counters in one place, found once for a call by its path. All combinations of
//! labels exist from the start with 0, so that a rate over the first error is not missed.
//!
//! Invariants:
//! - a call that has begun is counted as handled exactly once, also when its client goes away;
//! - counting takes no lock and no memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Histogram, HistogramVec};

use super::Metrics;
use super::family;
use super::methods::{self, CallKind, METHODS, Method};
use crate::rt::Clock;
use crate::types::Now;

/// Names of the status codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

const OK: usize = 0;
const CANCELED: usize = 1;
const UNKNOWN: usize = 2;

/// What is counted for one method.
#[derive(Debug, Default)]
struct MethodCounters {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; CODES.len()],
}

/// How long the calls of each method took, kept with `--metrics=extensive` only.
struct HandlingTimes {
    clock: Arc<dyn Clock>,
    all: HistogramVec,
    by_method: Vec<Histogram>,
}

/// The calls of one server.
pub(super) struct Calls {
    methods: Vec<MethodCounters>,
    times: Option<HandlingTimes>,
}

impl Calls {
    /// Nothing counted yet. With a clock, handling times are kept too.
    pub(super) fn new(clock: Option<Arc<dyn Clock>>) -> Self {
        let methods = METHODS.iter().map(|_| MethodCounters::default()).collect();
        Self { methods, times: clock.map(HandlingTimes::new) }
    }

    /// Calls of a method that succeeded.
    pub(super) fn succeeded(&self, path: &str) -> u64 {
        methods::find(path).map_or(0, |place| self.methods[place].handled[OK].load(Ordering::Relaxed))
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let per_method = |name, help, counter: fn(&MethodCounters) -> &AtomicU64| {
            let samples = self.methods.iter().zip(&METHODS);
            family::labelled(
                MetricType::COUNTER,
                name,
                help,
                ["grpc_method", "grpc_service", "grpc_type"],
                samples.map(|(counters, method)| {
                    (labels(method), counter(counters).load(Ordering::Relaxed) as f64)
                }),
            )
        };
        let mut families = vec![
            per_method(
                "grpc_server_started_total",
                "Total number of RPCs started on the server.",
                |counters| &counters.started,
            ),
            per_method(
                "grpc_server_msg_received_total",
                "Total number of RPC stream messages received on the server.",
                |counters| &counters.received,
            ),
            per_method(
                "grpc_server_msg_sent_total",
                "Total number of gRPC stream messages sent by the server.",
                |counters| &counters.sent,
            ),
            self.handled(),
        ];
        families.extend(self.times.iter().flat_map(|times| family::of_histogram(&times.all)));
        families
    }

    fn handled(&self) -> MetricFamily {
        let samples = self.methods.iter().zip(&METHODS).flat_map(|(counters, method)| {
            counters.handled.iter().zip(CODES).map(|(count, code)| {
                let [name, service, kind] = labels(method);
                ([code.to_owned(), name, service, kind], count.load(Ordering::Relaxed) as f64)
            })
        });
        family::labelled(
            MetricType::COUNTER,
            "grpc_server_handled_total",
            "Total number of RPCs completed on the server, regardless of success or failure.",
            ["grpc_code", "grpc_method", "grpc_service", "grpc_type"],
            samples,
        )
    }
}

fn labels(method: &Method) -> [String; 3] {
    let (service, name) = method.names();
    [name.to_owned(), service.to_owned(), method.kind.label().to_owned()]
}

impl HandlingTimes {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let all = family::labelled_durations(
            "grpc_server_handling_seconds",
            "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
            &["grpc_method", "grpc_service", "grpc_type"],
        );
        let by_method = METHODS.iter().map(|method| all.with_label_values(&labels(method))).collect();
        Self { clock, all, by_method }
    }
}

/// A call in progress. It is counted as cancelled when it is dropped before it was finished.
pub struct Call {
    metrics: Arc<Metrics>,
    place: usize,
    started: Now,
    finished: bool,
}

impl Call {
    /// Counts the start of the call of `path`; nothing when there is no such method.
    pub fn begin(metrics: &Arc<Metrics>, path: &str) -> Option<Self> {
        let place = methods::find(path)?;
        let started = metrics.calls.times.as_ref().map(|times| times.clock.now()).unwrap_or_default();
        let call = Self { metrics: metrics.clone(), place, started, finished: false };
        call.counters().started.fetch_add(1, Ordering::Relaxed);
        if call.kind() != CallKind::BidiStream {
            call.counters().received.fetch_add(1, Ordering::Relaxed);
        }
        Some(call)
    }

    /// The shape of the call.
    pub fn kind(&self) -> CallKind {
        METHODS[self.place].kind
    }

    /// Counts the client's version; none when it did not say.
    pub fn client_version(&self, version: Option<&str>) {
        self.metrics.versions.count(version, self.kind() == CallKind::Unary);
    }

    /// Where messages of a client's stream are counted. The one request of other calls is counted with
    /// their start.
    pub fn requests(&self) -> Requests {
        Requests { metrics: self.metrics.clone(), place: self.place }
    }

    /// Counts messages of a server's stream. The one answer of a unary call is counted with its success.
    pub fn sent(&self, messages: u64) {
        self.counters().sent.fetch_add(messages, Ordering::Relaxed);
    }

    /// Counts the end of the call with a status code. Only the first end counts.
    pub fn finish(&mut self, code: i32) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let code = usize::try_from(code).ok().filter(|&code| code < CODES.len()).unwrap_or(UNKNOWN);
        let counters = self.counters();
        counters.handled[code].fetch_add(1, Ordering::Relaxed);
        if code == OK && self.kind() == CallKind::Unary {
            counters.sent.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(times) = &self.metrics.calls.times {
            let took = times.clock.now().since(self.started);
            times.by_method[self.place].observe(took as f64 / Now::SECOND as f64);
        }
    }

    fn counters(&self) -> &MethodCounters {
        &self.metrics.calls.methods[self.place]
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.finish(CANCELED as i32);
    }
}

/// Counts the messages of a client's stream, which may end before or after its call.
pub struct Requests {
    metrics: Arc<Metrics>,
    place: usize,
}

impl Requests {
    /// Counts messages that came.
    pub fn received(&self, messages: u64) {
        self.metrics.calls.methods[self.place].received.fetch_add(messages, Ordering::Relaxed);
    }
}
