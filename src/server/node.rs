//! One running member: opens its state, wires its rooms together, serves until it is told to stop.
//!
//! The same function runs in production and in the simulator; what differs comes in as an
//! [`Environment`] and through `rt`.
//!
//! Order of the start: listeners are bound first, so that a port in use is found before anything is
//! touched; then the state is opened or made; clients are served once everything is in place. At the
//! end it goes backwards: connections drain while the loop still answers, then the loop ends, then the
//! disk tasks finish what they were given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::data_dir::{self, DataDir};
use super::disk_tasks::{self, DatabaseHome, DiskTimes};
use super::event_loop::{Ended, EventLoop, Wiring};
use super::listeners::{self, Handlers, Listeners};
use super::observe::Observer;
use super::peers::{self, Imports, Peers};
use super::rare;
use super::reach::{Direct, Inbox, Reach};
use super::recovery::{self, Home, Opened};
use crate::apply::StateMachineConfig;
use crate::disk::Disk;
use crate::gateway::Gateway;
use crate::http::{self, Cors};
use crate::lease::LessorConfig;
use crate::limits;
use crate::mailbox::{Mailbox, mailbox};
use crate::member::{Member, MemberConfig, MemberView};
use crate::membership::InitialCluster;
use crate::metrics::{Feature, Metrics, MetricsConfig};
use crate::mvcc::StoreConfig;
use crate::net;
use crate::quota::Quota;
use crate::raft::DriverConfig;
use crate::rpc::{AllServices, Instrumented, Rpc, RpcConfig};
use crate::rt::sync::mpsc;
use crate::rt::{self, Clock, Shutdown, TaskGroup};
use crate::storage::StorageConfig;
use crate::transport::{PeerNetwork, Transport, TransportConfig};
use crate::types::version::ETCD_VERSION;
use crate::types::{ClusterId, LocalFault, MemberId, Now};
use crate::wal::{self, WalConfig};
use crate::watch::{BatchLimits, HubConfig};

/// Messages of peers that may wait for the loop; more wait in their connections.
const PEER_EVENTS: usize = 1024;

/// How much longer than a revoke usually takes a lease waits for it before it is asked for again.
const REVOKE_RETRY: u64 = 7 * Now::SECOND;

/// What a member gets from the world that it runs in.
#[derive(Clone)]
pub struct Environment {
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Where its randomness starts.
    pub seed: u64,
    /// How peers and clients reach it.
    pub reach: Reach,
    /// Who looks on, if anybody does.
    pub observer: Option<Arc<dyn Observer>>,
}

/// How one member is set up, in plain values.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// The folder of its log, when it is not in the data folder.
    pub wal_dir: Option<PathBuf>,
    /// The members of a new cluster, as `name=url,...`.
    pub initial_cluster: String,
    /// Tells clusters with the same URLs apart.
    pub initial_cluster_token: String,
    /// Whether the cluster is new; if not, this member joins it.
    pub new_cluster: bool,
    /// Its own peer URLs, as the others know them.
    pub advertise_peer_urls: Vec<String>,
    /// Its own client URLs, as it publishes them.
    pub advertise_client_urls: Vec<String>,
    /// Where clients connect.
    pub listen_client: Vec<SocketAddr>,
    /// Where peers connect.
    pub listen_peer: Vec<SocketAddr>,
    /// Where HTTP clients connect, when not where the others do: then those speak gRPC only.
    pub listen_client_http: Vec<SocketAddr>,
    /// Where only metrics and health are served.
    pub listen_metrics: Vec<SocketAddr>,
    /// How connections are served.
    pub net: net::Options,
    /// Time between two heartbeats of a leader, which is one tick.
    pub heartbeat: Duration,
    /// Time without a leader's word before an election.
    pub election: Duration,
    /// Ask whether an election could be won before raising the term.
    pub pre_vote: bool,
    /// Whether a member that is its cluster's only voter begins to lead without waiting for an election.
    pub elect_alone_at_once: bool,
    /// Entries kept in the log for followers that lag.
    pub catchup_entries: u64,
    /// Bytes of the database: 0 for the default, negative for no bound.
    pub quota_backend_bytes: i64,
    /// Time between two commits of the database.
    pub backend_interval: Duration,
    /// Operations that make the database commit earlier.
    pub backend_batch_operations: usize,
    /// Largest request in bytes.
    pub max_request_bytes: usize,
    /// Most operations of a transaction.
    pub max_txn_ops: usize,
    /// Bytes of log entries in one message to a peer; one entry at least.
    pub max_append_bytes: u64,
    /// Such messages on the way to one peer.
    pub max_inflight_appends: usize,
    /// Past revisions that one step of a compaction looks at.
    pub compaction_batch: usize,
    /// Time between two such steps.
    pub compaction_pause: Duration,
    /// Time between two progress notifications of a watcher.
    pub watch_progress_interval: Duration,
    /// Bounds of what watchers are told in one go.
    pub watch_batch: BatchLimits,
    /// Bytes above which a watch response is split for a watcher that asked for it; none for what follows
    /// from `max_request_bytes` (etcd).
    pub watch_response_bytes: Option<usize>,
    /// Bytes of watch responses queued for one stream before its watchers fall back to history.
    pub watch_stream_bytes: usize,
    /// Whether the rest of long leases is written to the log from time to time.
    pub lease_checkpoint: bool,
    /// Time between two such notes; shorter leases have none.
    pub lease_checkpoint_interval: Duration,
    /// Whether client ports serve the JSON gateway.
    pub enable_gateway: bool,
    /// Whether histograms of every call are kept.
    pub extensive_metrics: bool,
    /// The feature gates, for the metrics page.
    pub features: Vec<Feature>,
    /// Bytes of one segment of the log.
    pub wal_segment_bytes: u64,
}

impl Default for NodeConfig {
    /// A single member as etcd starts one without flags, on the loopback ports 2379 and 2380.
    fn default() -> Self {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            name: "default".into(),
            data_dir: "default.etcd".into(),
            wal_dir: None,
            initial_cluster: "default=http://localhost:2380".into(),
            initial_cluster_token: "etcd-cluster".into(),
            new_cluster: true,
            advertise_peer_urls: vec!["http://localhost:2380".into()],
            advertise_client_urls: vec!["http://localhost:2379".into()],
            listen_client: vec![address(2379)],
            listen_peer: vec![address(2380)],
            listen_client_http: Vec::new(),
            listen_metrics: Vec::new(),
            net: net::Options::default(),
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(1000),
            pre_vote: true,
            elect_alone_at_once: true,
            catchup_entries: limits::SNAPSHOT_CATCHUP_ENTRIES,
            quota_backend_bytes: 0,
            backend_interval: Duration::from_millis(100),
            backend_batch_operations: limits::BACKEND_BATCH_OPERATIONS,
            max_request_bytes: limits::MAX_REQUEST_BYTES,
            max_txn_ops: limits::MAX_TXN_OPS,
            max_append_bytes: limits::MAX_APPEND_BYTES,
            max_inflight_appends: limits::MAX_INFLIGHT_APPENDS,
            compaction_batch: 1000,
            compaction_pause: Duration::from_millis(10),
            watch_progress_interval: Duration::from_secs(600),
            watch_batch: BatchLimits::default(),
            watch_response_bytes: None,
            watch_stream_bytes: limits::WATCH_STREAM_BYTES,
            lease_checkpoint: false,
            lease_checkpoint_interval: Duration::from_secs(300),
            enable_gateway: true,
            extensive_metrics: false,
            features: Vec::new(),
            wal_segment_bytes: wal::DEFAULT_SEGMENT_BYTES,
        }
    }
}

/// Runs a member until `shutdown`, or until it cannot or may not go on.
///
/// # Errors
/// One sentence for the operator: why it did not start, or why it stopped.
pub async fn run(
    config: NodeConfig,
    environment: Environment,
    shutdown: Shutdown,
) -> Result<Ended, LocalFault> {
    let entrance = match &environment.reach {
        Reach::Ports => Entrance::Ports(Listeners::bind(&config).await?),
        Reach::Direct(direct) => Entrance::Direct(direct.clone()),
    };
    let home = home(&config, &environment);
    let data_dir = DataDir::open(&*environment.disk, &config.data_dir, config.wal_dir.as_deref())?;
    peers::remove_old_imports(&*environment.disk, &home.database.path)?;
    let opened = open(&config, &home)?;
    let ended = serve(config, environment, home, opened, entrance, shutdown).await;
    drop(data_dir);
    ended
}

/// Where a member will be reached, found before anything is touched.
enum Entrance {
    Ports(Listeners),
    Direct(Arc<dyn Direct>),
}

/// The same, with the way to the peers in place.
enum Open {
    Ports(Listeners, Transport),
    Direct(Arc<dyn Direct>),
}

fn home(config: &NodeConfig, environment: &Environment) -> Home {
    Home {
        database: DatabaseHome {
            disk: environment.disk.clone(),
            path: data_dir::database_path(&config.data_dir),
            config: StorageConfig::default(),
        },
        wal_dir: data_dir::wal_path(&config.data_dir, config.wal_dir.as_deref()),
        wal: rare::log(WalConfig { segment_bytes: config.wal_segment_bytes, ..WalConfig::default() }),
    }
}

/// What the disk holds, or a new cluster.
fn open(config: &NodeConfig, home: &Home) -> Result<Opened, LocalFault> {
    if let Some(opened) = recovery::reopen(home)? {
        return Ok(opened);
    }
    if !config.new_cluster {
        return Err(LocalFault::new(
            "--initial-cluster-state=existing: joining a running cluster is not supported by this version",
        ));
    }
    let cluster = InitialCluster::parse(&config.initial_cluster, &config.initial_cluster_token)?;
    cluster.check_advertised(&config.name, &config.advertise_peer_urls)?;
    let member_id = cluster.local(&config.name)?.id;
    recovery::bootstrap(home, &cluster, member_id)
}

async fn serve(
    config: NodeConfig,
    environment: Environment,
    home: Home,
    opened: Opened,
    entrance: Entrance,
    shutdown: Shutdown,
) -> Result<Ended, LocalFault> {
    let Opened { cluster_id, member_id, wal, storage, recovered } = opened;
    let Environment { disk, clock, seed, observer, .. } = environment;
    let member_config = rare::member(member_config(&config, cluster_id, member_id, seed));
    if let Some(observer) = &observer {
        observer.begins(member_id, &recovered);
    }
    let mut member = Member::new(member_config, recovered, clock.now())?;
    let (mailbox, mailbox_receiver) = mailbox(member.view());
    let mailbox = mailbox.with_watch_budget(config.watch_stream_bytes);
    let tasks = TaskGroup::new();

    let (peer_events, peer_event_queue) = mpsc::channel(PEER_EVENTS);
    let imports = Imports::new(disk.clone(), home.database.path.clone(), home.database.config);
    let inbox = Inbox { member_id, events: peer_events, snapshots: Arc::new(imports) };
    let (network, entrance) = match entrance {
        Entrance::Ports(listeners) => {
            let transport = Transport::new(
                transport_config(&config, cluster_id, member_id, seed),
                inbox.events,
                inbox.snapshots,
                clock.clone(),
                tasks.spawner(),
            );
            let network: Arc<dyn PeerNetwork> = Arc::new(transport.clone());
            (network, Open::Ports(listeners, transport))
        }
        Entrance::Direct(direct) => (direct.join(inbox), Open::Direct(direct)),
    };
    let metrics = Arc::new(Metrics::new(
        mailbox.clone(),
        MetricsConfig {
            server_version: ETCD_VERSION,
            handling_clock: config.extensive_metrics.then(|| clock.clone()),
            traffic: config.net.traffic.clone(),
            peers: Arc::new(network.clone()),
            features: config.features.clone(),
        },
    ));
    let rpc = Rpc::new(
        mailbox.clone(),
        RpcConfig {
            max_request_bytes: config.max_request_bytes,
            max_txn_ops: config.max_txn_ops,
            election_timeout: config.election,
        },
    );
    let grpc = Instrumented::new(rpc.clone(), metrics.clone());
    let gateway = config.enable_gateway.then(|| Gateway::new(grpc.clone())).transpose();
    let gateway = gateway.map_err(|error| LocalFault::new(error.to_string()))?;
    let peers = Peers::new(network, member_id, storage.snapshot(), disk);

    let (log, log_jobs) = mpsc::unbounded_channel();
    let (database, database_jobs) = mpsc::unbounded_channel();
    let (disk_done, disk_events) = mpsc::unbounded_channel();
    let times: Arc<dyn DiskTimes> = metrics.clone();
    let log_task =
        rt::spawn(disk_tasks::log_task(wal, log_jobs, disk_done.clone(), clock.clone(), times.clone()));
    let database_task = rt::spawn(disk_tasks::database_task(
        storage,
        home.database,
        database_jobs,
        disk_done,
        clock.clone(),
        times,
    ));

    let ready =
        announce(mailbox.clone(), member_id, config.name.clone(), config.advertise_client_urls.clone());
    let serving = match entrance {
        Open::Ports(listeners, transport) => {
            let handlers = Handlers {
                grpc,
                client: http::client_handler(mailbox.clone(), metrics.clone(), gateway, Cors::any()),
                metrics: http::metrics_handler(mailbox.clone(), metrics),
                peer: http::peer_handler(mailbox.clone()),
            };
            let options = config.net.clone();
            rt::spawn(listeners::serve(listeners, handlers, transport, options, ready, shutdown.clone()))
        }
        Open::Direct(direct) => {
            let mut stopped = shutdown.clone();
            rt::spawn(async move {
                rt::select! {
                    () = ready => {}
                    () = stopped.wait() => {}
                }
                direct.serve(AllServices::new(&rpc), stopped).await;
            })
        }
    };
    let wiring = Wiring {
        mailbox: mailbox_receiver,
        peer_events: peer_event_queue,
        peers,
        log,
        database,
        disk_events,
        clock,
        heartbeat: config.heartbeat,
        observer,
    };
    // The loop outlives the connections, so that what they wait for is still answered.
    let drained = async {
        let _ = serving.await;
    };
    let ended = EventLoop::new(member, wiring).run(shutdown, drained).await;
    tasks.stop();
    // Both end when the loop has dropped its ends of their queues.
    let _ = log_task.await;
    let _ = database_task.await;
    ended
}

/// Waits until the cluster knows this member's name and addresses: clients that ask for the members must
/// find the one that they ask (etcd opens its client ports no earlier).
async fn announce(mailbox: Mailbox, member_id: MemberId, name: String, client_urls: Vec<String>) {
    let is_known = |view: &MemberView| {
        let mut members = view.members.iter();
        members.any(|member| {
            member.id == member_id.0 && member.name == name && member.client_ur_ls == client_urls
        })
    };
    mailbox.wait_for(is_known).await;
    let cluster_id = mailbox.view().status.cluster_id;
    tracing::info!(
        member_id = %member_id,
        cluster_id = %cluster_id,
        name,
        advertise_client_urls = ?client_urls,
        "ready to serve client requests"
    );
    let endpoints = client_urls.join(",");
    tracing::info!("to talk to it: etcdctl --endpoints={endpoints} put greeting hello");
}

fn transport_config(
    config: &NodeConfig,
    cluster_id: ClusterId,
    member_id: MemberId,
    seed: u64,
) -> TransportConfig {
    let defaults = TransportConfig::new(cluster_id, member_id, seed);
    TransportConfig {
        // A frame holds a batch of messages, and one entry may be as large as a request.
        max_frame_bytes: defaults.max_frame_bytes.max(2 * config.max_request_bytes),
        most_pause: defaults.most_pause.min(config.election / 2),
        silence_timeout: defaults.silence_timeout.max(3 * config.election),
        ..defaults
    }
}

fn member_config(config: &NodeConfig, cluster_id: ClusterId, member_id: MemberId, seed: u64) -> MemberConfig {
    let heartbeat_ms = config.heartbeat.as_millis().max(1) as u64;
    let election_ms = config.election.as_millis() as u64;
    MemberConfig {
        cluster_id,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.clone(),
        driver: DriverConfig {
            election_ticks: (election_ms / heartbeat_ms).max(2) as usize,
            heartbeat_ticks: 1,
            max_message_bytes: config.max_append_bytes,
            max_inflight: config.max_inflight_appends,
            max_uncommitted_bytes: limits::MAX_UNCOMMITTED_BYTES,
            log_memory_bytes: limits::LOG_MEMORY_BYTES as u64,
            pre_vote: config.pre_vote,
            ..DriverConfig::new(member_id, seed)
        },
        machine: StateMachineConfig {
            store: StoreConfig::default(),
            lessor: LessorConfig {
                min_ttl_seconds: crate::lease::min_ttl(election_ms, heartbeat_ms),
                checkpoint: config.lease_checkpoint,
                checkpoint_interval: nanoseconds(config.lease_checkpoint_interval),
                revoke_retry: REVOKE_RETRY,
            },
            quota: Quota::new(config.quota_backend_bytes),
        },
        watch: HubConfig {
            max_response_bytes: config
                .watch_response_bytes
                .unwrap_or(config.max_request_bytes + limits::GRPC_OVERHEAD_BYTES),
            stream_budget_bytes: config.watch_stream_bytes,
            progress_interval: nanoseconds(config.watch_progress_interval),
            batch: config.watch_batch,
        },
        election_timeout: nanoseconds(config.election),
        elect_alone_at_once: config.elect_alone_at_once,
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        catchup_entries: config.catchup_entries,
        backend_interval: nanoseconds(config.backend_interval),
        backend_batch_operations: config.backend_batch_operations,
        compaction_batch: config.compaction_batch,
        compaction_pause: nanoseconds(config.compaction_pause),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
