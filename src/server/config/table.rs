//! Every flag of etcd 3.7, and those of 3.5 and 3.6 that are still in use.

use std::time::Duration;

use super::checked::{
    CheckTime, CompactionMode, DiscoveryFallback, Logger, Retention, TlsVersion, V2Deprecation, Whitelist,
};
use super::flags::{Flag, Topic, alias, control, gate, no_effect, obsolete, put, sets, unbuilt};

/// Finds a flag by its name without dashes.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// Every flag.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    TOPICS.iter().flat_map(|topic| topic.flags)
}

/// The flags by topic, in the order of `--help`.
pub(super) static TOPICS: &[Topic] = &[
    Topic { heading: "Member", flags: MEMBER },
    Topic { heading: "Clustering", flags: CLUSTERING },
    Topic { heading: "Security", flags: SECURITY },
    Topic { heading: "Auth", flags: AUTH },
    Topic { heading: "Profiling and Monitoring", flags: MONITORING },
    Topic { heading: "Logging", flags: LOGGING },
    Topic { heading: "Distributed tracing", flags: TRACING },
    Topic { heading: "Features", flags: FEATURES },
    Topic { heading: "Unsafe (these may break the guarantees of consensus)", flags: UNSAFE },
    Topic { heading: "", flags: OLDER },
];

const MEMBER: &[Flag] = &[
    sets("name", "default", "Name of this member, for people.", |c, v| put(&mut c.name, v)),
    sets("data-dir", "", "Folder of the data; <name>.etcd when empty.", |c, v| put(&mut c.data_dir, v)),
    sets("wal-dir", "", "Folder of the log, when it is to be on a disk of its own.", |c, v| {
        put(&mut c.wal_dir, v)
    }),
    no_effect::<u64>("snapshot-count", "10000", "Applied entries between two releases of the log."),
    sets(
        "snapshot-catchup-entries",
        "5000",
        "Entries of the log kept for followers that lag a little.",
        |c, v| put(&mut c.snapshot_catchup_entries, v),
    ),
    sets("heartbeat-interval", "100", "Time between two heartbeats of a leader, in milliseconds.", |c, v| {
        put(&mut c.heartbeat_interval_ms, v)
    }),
    sets("election-timeout", "1000", "Time without a leader before an election, in milliseconds.", |c, v| {
        put(&mut c.election_timeout_ms, v)
    }),
    sets(
        "initial-election-tick-advance",
        "true",
        "Shorten the first wait for an election after a start.",
        |c, v| put(&mut c.initial_election_tick_advance, v),
    ),
    sets("listen-peer-urls", "http://localhost:2380", "URLs to listen on for peers.", |c, v| {
        put(&mut c.listen_peer_urls, v)
    }),
    sets(
        "listen-client-urls",
        "http://localhost:2379",
        "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is given.",
        |c, v| put(&mut c.listen_client_urls, v),
    ),
    sets("listen-client-http-urls", "", "URLs to listen on for HTTP clients only.", |c, v| {
        put(&mut c.listen_client_http_urls, v)
    }),
    no_effect::<u64>("max-snapshots", "5", "Snapshot files to keep."),
    no_effect::<u64>("max-wals", "5", "Log files to keep."),
    no_effect::<bool>("memory-mlock", "false", "Keep the database's pages in memory."),
    sets(
        "quota-backend-bytes",
        "0",
        "Size of the database above which writes are refused: 0 is 2 GiB.",
        |c, v| put(&mut c.quota_backend_bytes, v),
    ),
    no_effect::<String>("backend-bbolt-freelist-type", "map", "How etcd's database keeps its free pages."),
    sets(
        "backend-batch-interval",
        "0s",
        "Longest time between two commits of the database: 0 is 100ms.",
        |c, v| put(&mut c.backend_batch_interval, v),
    ),
    sets(
        "backend-batch-limit",
        "0",
        "Most operations between two commits of the database: 0 is 10000.",
        |c, v| put(&mut c.backend_batch_limit, v),
    ),
    sets("max-txn-ops", "128", "Most operations of a transaction.", |c, v| put(&mut c.max_txn_ops, v)),
    sets("max-request-bytes", "1572864", "Largest request of a client in bytes.", |c, v| {
        put(&mut c.max_request_bytes, v)
    }),
    sets("max-concurrent-streams", "4294967295", "Most requests at once on one connection.", |c, v| {
        put(&mut c.max_concurrent_streams, v)
    }),
    sets("grpc-keepalive-min-time", "5s", "Shortest time between two pings of a client: 0 is 5m.", |c, v| {
        put(&mut c.grpc_keepalive_min_time, v)
    }),
    sets("grpc-keepalive-interval", "2h", "Silence after which a client is pinged: 0 is never.", |c, v| {
        put(&mut c.grpc_keepalive_interval, v)
    }),
    sets(
        "grpc-keepalive-timeout",
        "20s",
        "Time for the answer to a ping before the connection is closed.",
        |c, v| put(&mut c.grpc_keepalive_timeout, v),
    ),
    no_effect::<bool>("socket-reuse-port", "false", "Set SO_REUSEPORT on listeners."),
    no_effect::<bool>("socket-reuse-address", "false", "Set SO_REUSEADDR on listeners. It is always set."),
    sets("enable-grpc-gateway", "true", "Serve the JSON gateway.", |c, v| put(&mut c.enable_grpc_gateway, v)),
    no_effect::<Duration>("raft-read-timeout", "5s", "Longest read from a peer's connection."),
    no_effect::<Duration>("raft-write-timeout", "5s", "Longest write to a peer's connection."),
    sets("feature-gates", "", "Features in trial, as Name=true,Name=false,...", |c, v| {
        put(&mut c.feature_gates, v)
    }),
    control("config-file", "", "File to read everything from."),
    control("version", "false", "Show the versions and exit."),
];

const CLUSTERING: &[Flag] = &[
    sets(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "URLs at which peers reach this member.",
        |c, v| put(&mut c.initial_advertise_peer_urls, v),
    ),
    sets(
        "initial-cluster",
        "",
        "The first members, as name=url,name=url,...; this one alone when empty.",
        |c, v| put(&mut c.initial_cluster, v),
    ),
    sets(
        "initial-cluster-state",
        "new",
        "'new' to found the cluster, 'existing' to join it. Ignored when there is data already.",
        |c, v| put(&mut c.initial_cluster_state, v),
    ),
    sets("initial-cluster-token", "etcd-cluster", "Keeps clusters apart that have the same URLs.", |c, v| {
        put(&mut c.initial_cluster_token, v)
    }),
    sets(
        "advertise-client-urls",
        "http://localhost:2379",
        "URLs at which clients reach this member.",
        |c, v| put(&mut c.advertise_client_urls, v),
    ),
    unbuilt::<String>("discovery", "", "URL of the v2 discovery service."),
    unbuilt::<String>("discovery-token", "", "Token of the cluster at the discovery service."),
    unbuilt::<Vec<String>>("discovery-endpoints", "", "Endpoints of the discovery service."),
    no_effect::<Duration>("discovery-dial-timeout", "2s", "Discovery: longest connection set-up."),
    no_effect::<Duration>("discovery-request-timeout", "5s", "Discovery: longest request."),
    no_effect::<Duration>("discovery-keepalive-time", "2s", "Discovery: time between pings."),
    no_effect::<Duration>(
        "discovery-keepalive-timeout",
        "6s",
        "Discovery: longest wait for a ping's answer.",
    ),
    no_effect::<bool>("discovery-insecure-transport", "true", "Discovery: connect without TLS."),
    no_effect::<bool>("discovery-insecure-skip-tls-verify", "false", "Discovery: trust any certificate."),
    unbuilt::<String>("discovery-cert", "", "Discovery: certificate to show."),
    unbuilt::<String>("discovery-key", "", "Discovery: key of that certificate."),
    unbuilt::<String>("discovery-cacert", "", "Discovery: authorities to trust."),
    unbuilt::<String>("discovery-user", "", "Discovery: user name."),
    unbuilt::<String>("discovery-password", "", "Discovery: password."),
    no_effect::<DiscoveryFallback>("discovery-fallback", "exit", "What to do when discovery fails."),
    unbuilt::<String>("discovery-proxy", "", "Proxy to the v2 discovery service."),
    unbuilt::<String>("discovery-srv", "", "DNS domain whose SRV records name the members."),
    no_effect::<String>("discovery-srv-name", "", "Suffix of the SRV records' names."),
    no_effect::<bool>(
        "strict-reconfig-check",
        "true",
        "Refuse changes of the membership that endanger the quorum.",
    ),
    sets("pre-vote", "true", "Ask whether an election could be won before beginning one.", |c, v| {
        put(&mut c.pre_vote, v)
    }),
    unbuilt::<Retention>(
        "auto-compaction-retention",
        "0",
        "History to keep when compacting on its own: 0 is off.",
    ),
    no_effect::<CompactionMode>(
        "auto-compaction-mode",
        "periodic",
        "Unit of the retention: periodic or revision.",
    ),
    no_effect::<V2Deprecation>("v2-deprecation", "write-only", "Phase of the v2 store's removal."),
];

const SECURITY: &[Flag] = &[
    unbuilt::<String>("cert-file", "", "Certificate to show to clients."),
    unbuilt::<String>("key-file", "", "Key of that certificate."),
    unbuilt::<bool>("client-cert-auth", "false", "Ask clients for a certificate."),
    unbuilt::<String>("client-cert-file", "", "Certificate to show as a client."),
    unbuilt::<String>("client-key-file", "", "Key of that certificate."),
    unbuilt::<String>("client-crl-file", "", "Clients' certificates that are revoked."),
    unbuilt::<String>("client-cert-allowed-hostname", "", "Names that clients' certificates may have."),
    unbuilt::<String>("trusted-ca-file", "", "Authorities to trust for clients."),
    unbuilt::<bool>("auto-tls", "false", "Make a certificate for clients."),
    unbuilt::<String>("peer-cert-file", "", "Certificate to show to peers."),
    unbuilt::<String>("peer-key-file", "", "Key of that certificate."),
    unbuilt::<bool>("peer-client-cert-auth", "false", "Ask peers for a certificate."),
    unbuilt::<String>("peer-client-cert-file", "", "Certificate to show when connecting to peers."),
    unbuilt::<String>("peer-client-key-file", "", "Key of that certificate."),
    unbuilt::<String>("peer-trusted-ca-file", "", "Authorities to trust for peers."),
    unbuilt::<String>("peer-cert-allowed-cn", "", "Common names that peers' certificates may have."),
    unbuilt::<String>("peer-cert-allowed-hostname", "", "Names that peers' certificates may have."),
    unbuilt::<bool>("peer-auto-tls", "false", "Make a certificate for peers."),
    unbuilt::<String>("peer-crl-file", "", "Peers' certificates that are revoked."),
    no_effect::<bool>(
        "peer-skip-client-san-verification",
        "false",
        "Do not check names in peers' certificates.",
    ),
    no_effect::<u64>("self-signed-cert-validity", "1", "Years that a certificate made here is valid."),
    no_effect::<Vec<String>>("cipher-suites", "", "TLS cipher suites to offer."),
    no_effect::<TlsVersion>("tls-min-version", "TLS1.2", "Oldest version of TLS to offer."),
    no_effect::<TlsVersion>("tls-max-version", "", "Newest version of TLS to offer."),
    unbuilt::<Whitelist>("cors", "*", "Origins that browsers may send requests from."),
    unbuilt::<Whitelist>("host-whitelist", "*", "Host names that HTTP requests may be addressed to."),
];

const AUTH: &[Flag] = &[
    unbuilt::<String>("auth-token", "simple", "Kind of tokens and its options."),
    no_effect::<u64>("auth-token-ttl", "300", "Seconds that a token is valid."),
    no_effect::<u64>("bcrypt-cost", "10", "Work that hashing a password takes, from 4 to 31."),
];

const MONITORING: &[Flag] = &[
    no_effect::<bool>("enable-pprof", "false", "Serve profiles of the process."),
    sets("metrics", "basic", "'extensive' to measure every kind of request.", |c, v| put(&mut c.metrics, v)),
    sets("listen-metrics-urls", "", "Further URLs to serve /metrics and the health checks on.", |c, v| {
        put(&mut c.listen_metrics_urls, v)
    }),
];

const LOGGING: &[Flag] = &[
    no_effect::<Logger>("logger", "zap", "Only 'zap', which names the shape of the lines."),
    sets("log-outputs", "default", "stderr, stdout, or paths of files, with commas between them.", |c, v| {
        put(&mut c.log_outputs, v)
    }),
    sets("log-level", "info", "debug, info, warn, error, panic or fatal.", |c, v| put(&mut c.log_level, v)),
    sets("log-format", "json", "json or console.", |c, v| put(&mut c.log_format, v)),
    unbuilt::<bool>("enable-log-rotation", "false", "Begin new log files from time to time."),
    no_effect::<String>(
        "log-rotation-config-json",
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "When to begin a new log file.",
    ),
    no_effect::<Duration>("warning-unary-request-duration", "300ms", "Requests that take longer are logged."),
];

const TRACING: &[Flag] = &[
    unbuilt::<bool>("enable-distributed-tracing", "false", "Send traces to a collector."),
    no_effect::<String>("distributed-tracing-address", "localhost:4317", "Address of the collector."),
    no_effect::<String>("distributed-tracing-service-name", "etcd", "Name of the service in traces."),
    no_effect::<String>("distributed-tracing-instance-id", "", "Name of this process in traces."),
    no_effect::<u64>("distributed-tracing-sampling-rate", "0", "Traces to send of a million."),
];

const FEATURES: &[Flag] = &[
    unbuilt::<Duration>("corrupt-check-time", "0s", "Time between two comparisons of members' data."),
    no_effect::<CheckTime>(
        "compact-hash-check-time",
        "1m",
        "Time between two comparisons of compacted data.",
    ),
    sets(
        "compaction-batch-limit",
        "1000",
        "Most revisions that one step of a compaction removes.",
        |c, v| put(&mut c.compaction_batch_limit, v),
    ),
    sets("compaction-sleep-interval", "10ms", "Pause between two steps of a compaction.", |c, v| {
        put(&mut c.compaction_sleep_interval, v)
    }),
    sets(
        "watch-progress-notify-interval",
        "10m",
        "Silence of a watch before its progress is notified.",
        |c, v| put(&mut c.watch_progress_notify_interval, v),
    ),
    no_effect::<Duration>(
        "warning-apply-duration",
        "100ms",
        "Entries whose application takes longer are logged.",
    ),
    no_effect::<u64>(
        "bootstrap-defrag-threshold-megabytes",
        "0",
        "Space to gain that makes a start defragment.",
    ),
    no_effect::<u32>("max-learners", "1", "Most learners at once."),
    no_effect::<Duration>("downgrade-check-time", "5s", "Time between two looks at a downgrade's progress."),
];

const UNSAFE: &[Flag] = &[
    unbuilt::<bool>("force-new-cluster", "false", "Become the only member of the cluster."),
    unbuilt::<bool>("unsafe-no-fsync", "false", "Never wait for the disk: a crash loses data."),
];

/// Names that etcd had before 3.7, and those of 0.4 that it never forgot. `--help` leaves them out.
const OLDER: &[Flag] = &[
    alias("experimental-corrupt-check-time", "", "corrupt-check-time"),
    alias("experimental-compact-hash-check-time", "", "compact-hash-check-time"),
    alias("experimental-compaction-batch-limit", "", "compaction-batch-limit"),
    alias("experimental-compaction-sleep-interval", "", "compaction-sleep-interval"),
    alias("experimental-watch-progress-notify-interval", "", "watch-progress-notify-interval"),
    alias("experimental-warning-apply-duration", "", "warning-apply-duration"),
    alias("experimental-warning-unary-request-duration", "", "warning-unary-request-duration"),
    alias("experimental-bootstrap-defrag-threshold-megabytes", "", "bootstrap-defrag-threshold-megabytes"),
    alias("experimental-memory-mlock", "false", "memory-mlock"),
    alias("experimental-downgrade-check-time", "", "downgrade-check-time"),
    alias("experimental-snapshot-catchup-entries", "", "snapshot-catchup-entries"),
    alias("experimental-max-learners", "", "max-learners"),
    alias("experimental-peer-skip-client-san-verification", "false", "peer-skip-client-san-verification"),
    alias("experimental-enable-distributed-tracing", "false", "enable-distributed-tracing"),
    alias("experimental-distributed-tracing-address", "", "distributed-tracing-address"),
    alias("experimental-distributed-tracing-service-name", "", "distributed-tracing-service-name"),
    alias("experimental-distributed-tracing-instance-id", "", "distributed-tracing-instance-id"),
    alias("experimental-distributed-tracing-sampling-rate", "", "distributed-tracing-sampling-rate"),
    gate("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    gate("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    gate("experimental-compact-hash-check-enabled", "CompactHashCheck"),
    gate("experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
    gate("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    gate("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    unbuilt::<bool>("enable-v2", "false", ""),
    unbuilt::<String>("experimental-enable-v2v3", "", ""),
    unbuilt::<String>("proxy", "off", ""),
    no_effect::<u64>("proxy-failure-wait", "5000", ""),
    no_effect::<u64>("proxy-refresh-interval", "30000", ""),
    no_effect::<u64>("proxy-dial-timeout", "1000", ""),
    no_effect::<u64>("proxy-write-timeout", "5000", ""),
    no_effect::<u64>("proxy-read-timeout", "0", ""),
    obsolete::<String>("cluster-active-size", ""),
    obsolete::<String>("cluster-remove-delay", ""),
    obsolete::<String>("cluster-sync-interval", ""),
    obsolete::<String>("config", ""),
    obsolete::<bool>("force", "false"),
    obsolete::<String>("max-result-buffer", ""),
    obsolete::<String>("max-retry-attempts", ""),
    obsolete::<String>("peer-heartbeat-interval", ""),
    obsolete::<String>("peer-election-timeout", ""),
    obsolete::<String>("retry-interval", ""),
    obsolete::<bool>("snapshot", "false"),
    obsolete::<bool>("v", "false"),
    obsolete::<bool>("vv", "false"),
];
