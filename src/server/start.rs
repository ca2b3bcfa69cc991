//! From an operator's configuration to a running member, on the machine's own disk, clock and randomness.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::config::{ClusterState, Metrics, ServerConfig, Stage, Url};
use super::event_loop::Ended;
use super::node::{self, Environment, NodeConfig};
use super::reach::Reach;
use crate::disk::real::RealDisk;
use crate::metrics::Feature;
use crate::net;
use crate::rt::{Shutdown, SystemClock};
use crate::types::LocalFault;

/// File descriptors that connections of clients leave to the log, the database and peers (etcd).
const RESERVED_DESCRIPTORS: u64 = 150;

/// Distance that a client's pings must keep where none is set (gRPC for Go).
const GRPC_PING_DISTANCE: Duration = Duration::from_secs(5 * 60);

/// Runs a member until `shutdown`, or until it cannot or may not go on.
///
/// # Errors
/// One sentence for the operator: why it did not start, or why it stopped.
pub async fn run(config: &ServerConfig, shutdown: Shutdown) -> Result<Ended, LocalFault> {
    let environment = Environment {
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock::new()),
        seed: rand::random(),
        reach: Reach::Ports,
        observer: None,
    };
    node::run(node_config(config)?, environment, shutdown).await
}

fn node_config(config: &ServerConfig) -> Result<NodeConfig, LocalFault> {
    Ok(NodeConfig {
        name: config.name.clone(),
        data_dir: config.data_dir.clone(),
        wal_dir: config.wal_dir.clone(),
        initial_cluster: config.initial_cluster.clone(),
        initial_cluster_token: config.initial_cluster_token.clone(),
        new_cluster: config.initial_cluster_state == ClusterState::New,
        advertise_peer_urls: texts(&config.initial_advertise_peer_urls),
        advertise_client_urls: texts(&config.advertise_client_urls),
        listen_client: addresses(&config.listen_client_urls)?,
        listen_peer: addresses(&config.listen_peer_urls)?,
        listen_client_http: addresses(&config.listen_client_http_urls)?,
        listen_metrics: addresses(&config.listen_metrics_urls)?,
        net: net_options(config),
        heartbeat: Duration::from_millis(config.heartbeat_interval_ms),
        election: Duration::from_millis(config.election_timeout_ms),
        pre_vote: config.pre_vote,
        elect_alone_at_once: config.initial_election_tick_advance,
        catchup_entries: config.snapshot_catchup_entries,
        quota_backend_bytes: config.quota_backend_bytes,
        backend_interval: config.backend_batch_interval,
        backend_batch_operations: config.backend_batch_limit,
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        compaction_batch: config.compaction_batch_limit,
        compaction_pause: config.compaction_sleep_interval,
        watch_progress_interval: config.watch_progress_notify_interval,
        lease_checkpoint: config.feature_gates.lease_checkpoint(),
        enable_gateway: config.enable_grpc_gateway,
        extensive_metrics: config.metrics == Metrics::Extensive,
        features: features(config),
        ..NodeConfig::default()
    })
}

fn features(config: &ServerConfig) -> Vec<Feature> {
    let gates = config.feature_gates.all();
    gates
        .map(|(name, stage, enabled)| {
            let stage = match stage {
                Stage::Alpha => "ALPHA",
                Stage::Beta => "BETA",
            };
            Feature { name, stage, enabled }
        })
        .collect()
}

fn net_options(config: &ServerConfig) -> net::Options {
    let interval = config.grpc_keepalive_interval;
    let ping_distance = config.grpc_keepalive_min_time;
    let defaults = net::Options::default();
    net::Options {
        max_connections: max_connections(),
        max_concurrent_streams: config.max_concurrent_streams,
        keep_alive_interval: (!interval.is_zero()).then_some(interval),
        keep_alive_timeout: config.grpc_keepalive_timeout,
        min_ping_distance: if ping_distance.is_zero() { GRPC_PING_DISTANCE } else { ping_distance },
        ..defaults
    }
}

/// What the process's limit of open files leaves to clients; one at least.
fn max_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(RESERVED_DESCRIPTORS).max(1)).unwrap_or(usize::MAX)
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

/// What to bind. The configuration has been checked: every URL has an address.
fn addresses(urls: &[Url]) -> Result<Vec<SocketAddr>, LocalFault> {
    let address = |url: &Url| {
        url.listen_address().ok_or_else(|| LocalFault::new(format!("expected IP in URL for binding ({url})")))
    };
    urls.iter().map(address).collect()
}
