//! Metrics: what a server counts, and the page on which Prometheus reads it.
//!
//! ```text
//!   member's published view ----.
//!   transport, sockets, /proc ---+--- read at a scrape ---> Metrics::render ---> text
//!   calls, health checks, disk --'    (atomics counted as things happen)
//! ```
//!
//! Names, types, labels and buckets are etcd's, so that its dashboards and alerts go on working. What
//! this server cannot measure is left out: a family that is always zero would silence an alert.
//!
//! Invariants:
//! - nothing here is global: each server of a process has metrics of its own;
//! - counting takes no lock and looks up no label;
//! - the number of samples is bounded by the methods, the members and the figures of the code, never by
//!   what clients send.

mod calls;
mod family;
mod health;
mod member;
pub mod methods;
mod peers;
mod process;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Histogram, TextEncoder};

use crate::mailbox::Mailbox;
use crate::member::MemberView;
use crate::net::Traffic;
use crate::rt::Clock;

use calls::Calls;
use family::{labelled, of_histogram, single};
use versions::ClientVersions;

pub use calls::{Call, Requests};
pub use health::HealthCounters;
pub use methods::{CallKind, Method};
pub use peers::PeerFigures;

/// The content type of the page (etcd).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// A feature gate and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The name of the gate.
    pub name: &'static str,
    /// `ALPHA`, `BETA` or empty for a stable one.
    pub stage: &'static str,
    /// Whether it is on.
    pub enabled: bool,
}

/// Where metrics come from that the member's view does not hold.
pub struct MetricsConfig {
    /// The version of etcd whose surface the server has.
    pub server_version: &'static str,
    /// The clock that times calls with `--metrics=extensive`; none for the basic set.
    pub handling_clock: Option<Arc<dyn Clock>>,
    /// What went over the sockets of clients.
    pub traffic: Arc<Traffic>,
    /// What went to and came from peers.
    pub peers: Arc<dyn PeerFigures>,
    /// The feature gates.
    pub features: Vec<Feature>,
}

/// What one server counts. Shared by everything that counts.
pub struct Metrics {
    mailbox: Mailbox,
    server_version: &'static str,
    traffic: Arc<Traffic>,
    peers: Arc<dyn PeerFigures>,
    features: Vec<Feature>,
    calls: Calls,
    versions: ClientVersions,
    health: HealthCounters,
    disk: DiskFigures,
    scrapes: AtomicU64,
    failed_scrapes: AtomicU64,
}

/// How the disk does.
struct DiskFigures {
    log_syncs: Histogram,
    log_bytes: AtomicU64,
    commits: Histogram,
}

impl Metrics {
    /// Metrics of the member behind `mailbox`, with nothing counted yet.
    pub fn new(mailbox: Mailbox, config: MetricsConfig) -> Self {
        Self {
            mailbox,
            server_version: config.server_version,
            traffic: config.traffic,
            peers: config.peers,
            features: config.features,
            calls: Calls::new(config.handling_clock),
            versions: ClientVersions::new(),
            health: HealthCounters::default(),
            disk: DiskFigures::new(),
            scrapes: AtomicU64::new(0),
            failed_scrapes: AtomicU64::new(0),
        }
    }

    /// Where outcomes of health checks are counted.
    pub fn health(&self) -> &HealthCounters {
        &self.health
    }

    /// Counts a write to the log: its bytes, and the time of the write and the sync together.
    pub fn log_synced(&self, bytes: u64, took: Duration) {
        self.disk.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.disk.log_syncs.observe(took.as_secs_f64());
    }

    /// Counts a commit of the database.
    pub fn committed(&self, took: Duration) {
        self.disk.commits.observe(took.as_secs_f64());
    }

    /// The page as Prometheus reads it. It writes more than a thousand samples and reads small files of
    /// `/proc`, so it belongs off the network's thread.
    ///
    /// # Errors
    /// A sentence, when a family is malformed: a bug, which must not hide behind an empty page.
    pub fn render(&self) -> Result<String, String> {
        let page = TextEncoder::new().encode_to_string(&self.families(&self.mailbox.view()));
        let counter = if page.is_ok() { &self.scrapes } else { &self.failed_scrapes };
        counter.fetch_add(1, Ordering::Relaxed);
        page.map_err(|error| format!("error encoding metrics: {error}"))
    }

    /// Every family that has a sample, by name.
    fn families(&self, view: &MemberView) -> Vec<MetricFamily> {
        let mut families = member::families(view, self.server_version);
        families.extend(self.calls.families());
        families.push(self.versions.family());
        families.extend(self.health.families());
        families.extend(self.disk.families());
        families.extend(peers::families(view, &self.peers.activity()));
        families.extend(process::families());
        families.extend(self.of_the_server());
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }

    fn of_the_server(&self) -> [MetricFamily; 5] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let ranges = ["/etcdserverpb.KV/Range", "/etcdserverpb.KV/RangeStream"];
        let features = self.features.iter().map(|feature| {
            ([feature.name.to_owned(), feature.stage.to_owned()], f64::from(u8::from(feature.enabled)))
        });
        [
            labelled(
                MetricType::GAUGE,
                "etcd_server_feature_enabled",
                "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
                ["name", "stage"],
                features,
            ),
            // Reads never pass the member, so they are taken from the calls; etcd counts those inside of
            // transactions too.
            single(
                MetricType::COUNTER,
                "etcd_mvcc_range_total",
                "Total number of ranges seen by this member.",
                ranges.iter().map(|path| self.calls.succeeded(path)).sum::<u64>() as f64,
            ),
            // Bytes on the wire; etcd counts those of messages.
            single(
                MetricType::COUNTER,
                "etcd_network_client_grpc_received_bytes_total",
                "The total number of bytes received from grpc clients.",
                load(&self.traffic.received),
            ),
            single(
                MetricType::COUNTER,
                "etcd_network_client_grpc_sent_bytes_total",
                "The total number of bytes sent to grpc clients.",
                load(&self.traffic.sent),
            ),
            labelled(
                MetricType::COUNTER,
                "promhttp_metric_handler_requests_total",
                "Total number of scrapes by HTTP status code.",
                ["code"],
                [(["200".to_owned()], load(&self.scrapes)), (["500".to_owned()], load(&self.failed_scrapes))],
            ),
        ]
    }
}

impl DiskFigures {
    fn new() -> Self {
        Self {
            log_syncs: family::durations(
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by WAL.",
                0.001,
                14,
            ),
            log_bytes: AtomicU64::new(0),
            commits: family::durations(
                "etcd_disk_backend_commit_duration_seconds",
                "The latency distributions of commit called by backend.",
                0.001,
                14,
            ),
        }
    }

    fn families(&self) -> impl Iterator<Item = MetricFamily> {
        // A gauge in etcd, which queries may rely on.
        let bytes = single(
            MetricType::GAUGE,
            "etcd_disk_wal_write_bytes_total",
            "Total number of bytes written in WAL.",
            self.log_bytes.load(Ordering::Relaxed) as f64,
        );
        of_histogram(&self.log_syncs).chain(of_histogram(&self.commits)).chain([bytes])
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
