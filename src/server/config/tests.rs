//! Tables of what an operator writes and what becomes of it. The texts were taken from etcd 3.7.1.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::values::{FlagValue, ValueError};
use super::*;
use crate::limits;

/// Loads from arguments with spaces between them, and variables as `NAME=value`.
fn load_from(arguments: &str, variables: &[&str]) -> Result<Start, ConfigError> {
    let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    let environment: BTreeMap<String, String> = variables
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    load(&arguments, &environment)
}

fn config(arguments: &str, variables: &[&str]) -> ServerConfig {
    match load_from(arguments, variables) {
        Ok(Start::Serve(config)) => *config,
        other => panic!("{arguments} {variables:?}: {other:?}"),
    }
}

/// Loads a configuration file with this text.
#[expect(clippy::disallowed_methods, reason = "a test of real files")]
fn load_file(text: &str) -> Result<Start, ConfigError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("etcd.yml");
    std::fs::write(&path, text).expect("a file in it");
    load_from(&format!("--config-file={}", path.display()), &["ETCD_NAME=ignored"])
}

fn file_config(text: &str) -> ServerConfig {
    match load_file(text) {
        Ok(Start::Serve(config)) => *config,
        other => panic!("{text}: {other:?}"),
    }
}

/// Checks that the start fails with this exit code and exactly this line.
fn check_error(arguments: &str, exit_code: u8, message: &str) {
    let error = load_from(arguments, &[]).expect_err(arguments);
    assert_eq!((error.exit_code, error.message.as_str()), (exit_code, message), "{arguments}");
}

fn check_warning(config: &ServerConfig, part: &str) {
    assert!(config.warnings.iter().any(|warning| warning.contains(part)), "{part}: {:?}", config.warnings);
}

fn urls(urls: &[Url]) -> Vec<&str> {
    urls.iter().map(Url::as_str).collect()
}

#[test]
fn without_flags_everything_has_etcds_default() {
    let config = config("", &[]);
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(config.wal_dir, None);
    assert_eq!(urls(&config.listen_peer_urls), ["http://localhost:2380"]);
    assert_eq!(urls(&config.listen_client_urls), ["http://localhost:2379"]);
    assert_eq!(urls(&config.advertise_client_urls), ["http://localhost:2379"]);
    assert_eq!(config.initial_cluster, "default=http://localhost:2380");
    assert_eq!(config.initial_cluster_state, ClusterState::New);
    assert_eq!(config.initial_cluster_token, "etcd-cluster");
    assert_eq!((config.heartbeat_interval_ms, config.election_timeout_ms), (100, 1000));
    assert_eq!(config.snapshot_catchup_entries, limits::SNAPSHOT_CATCHUP_ENTRIES);
    assert_eq!(config.max_request_bytes, limits::MAX_REQUEST_BYTES);
    assert_eq!(config.max_txn_ops, limits::MAX_TXN_OPS);
    assert_eq!(config.max_concurrent_streams, u32::MAX);
    assert_eq!(config.backend_batch_interval, Duration::from_millis(100));
    assert_eq!(config.backend_batch_limit, limits::BACKEND_BATCH_OPERATIONS);
    assert_eq!(config.grpc_keepalive_interval, Duration::from_secs(7200));
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!((config.log_level, config.log_format), (LogLevel::Info, LogFormat::Json));
    assert_eq!(config.log_outputs, [LogOutput::Stderr]);
    assert!(config.pre_vote && config.enable_grpc_gateway);
    assert!(!config.feature_gates.lease_checkpoint());
    check_warning(&config, "it isn't recommended to use default name");
    check_warning(&config, "'data-dir' was empty; using default: default.etcd");
}

#[test]
fn flags_are_written_as_in_go() {
    for line in [
        "--name m1 --pre-vote=false",
        "-name m1 -pre-vote=false",
        "--name=m1 -pre-vote=F",
        "-name=m1 --pre-vote=0 --",
        "--name m0 --name m1 --pre-vote --pre-vote=false",
    ] {
        let config = config(line, &[]);
        assert_eq!((config.name.as_str(), config.pre_vote), ("m1", false), "{line}");
        assert_eq!(config.data_dir, PathBuf::from("m1.etcd"));
        assert_eq!(config.initial_cluster, "m1=http://localhost:2380");
    }
    // What follows a flag that needs a value is its value.
    assert_eq!(config("--quota-backend-bytes -1", &[]).quota_backend_bytes, -1);
    assert_eq!(config("--name --pre-vote", &[]).name, "--pre-vote");
}

#[test]
fn a_command_line_that_cannot_be_read_exits_with_2() {
    check_error("--nosuch", 2, "flag provided but not defined: -nosuch");
    check_error("--name", 2, "flag needs an argument: -name");
    check_error("---x", 2, "bad flag syntax: ---x");
    check_error("-=x", 2, "bad flag syntax: -=x");
    check_error("--pre-vote=maybe", 2, "invalid boolean value \"maybe\" for -pre-vote: parse error");
    check_error(
        "--heartbeat-interval=-1",
        2,
        "invalid value \"-1\" for flag -heartbeat-interval: parse error",
    );
    check_error(
        "--max-learners=4294967296",
        2,
        "invalid value \"4294967296\" for flag -max-learners: value out of range",
    );
    check_error("--corrupt-check-time=5", 2, "invalid value \"5\" for flag -corrupt-check-time: parse error");
    check_error(
        "--listen-client-urls=localhost:2379",
        2,
        "invalid value \"localhost:2379\" for flag -listen-client-urls: URL scheme must be http, https, unix, \
         or unixs: localhost:2379",
    );
    check_error(
        "--listen-client-urls=http://127.0.0.1",
        2,
        "invalid value \"http://127.0.0.1\" for flag -listen-client-urls: URL address does not have the form \
         \"host:port\": http://127.0.0.1",
    );
    check_error(
        "--initial-cluster-state=foo",
        2,
        "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
    );
    check_error(
        "--feature-gates=Foo=true",
        2,
        "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
    );
    check_error(
        "--feature-gates=LeaseCheckpoint",
        2,
        "invalid value \"LeaseCheckpoint\" for flag -feature-gates: missing bool value for LeaseCheckpoint",
    );
    check_error(
        "--v2-deprecation=foo",
        2,
        "invalid value \"foo\" for flag -v2-deprecation: invalid value \"foo\"",
    );
}

#[test]
fn what_does_not_fit_together_exits_with_1() {
    check_error("foo", 1, "\"foo\" is not a valid flag");
    check_error("--pre-vote false", 1, "\"false\" is not a valid flag");
    check_error("--name x -", 1, "\"-\" is not a valid flag");
    check_error("-- x", 1, "\"x\" is not a valid flag");
    check_error("--version foo", 1, "\"foo\" is not a valid flag");
    check_error(
        "--listen-client-urls=http://127.0.0.1:1",
        1,
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    );
    for (flag, host) in [
        ("listen-client-urls", "a.b"),
        ("listen-client-urls", ""),
        ("listen-peer-urls", "LOCALHOST"),
        ("listen-metrics-urls", "a.b"),
    ] {
        let line = format!("--{flag}=http://{host}:1");
        check_error(&line, 1, &format!("expected IP in URL for binding (http://{host}:1)"));
    }
    check_error(
        "--initial-advertise-peer-urls=http://:1",
        1,
        "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))",
    );
    check_error(
        "--advertise-client-urls=http://:1",
        1,
        "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \
         \"unixs:/path/to/socket\" (unexpected empty host (http://:1))",
    );
    check_error(
        "--discovery-srv=a --initial-cluster=default=http://localhost:2380",
        1,
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery-endpoints\" or \"discovery-srv\"",
    );
    check_error("--discovery-token=a", 1, "both --discovery-token and --discovery-endpoints must be set");
    check_error("--heartbeat-interval=0", 1, "--heartbeat-interval must be >0 (set to 0ms)");
    check_error("--election-timeout=0", 1, "--election-timeout must be >0 (set to 0ms)");
    check_error(
        "--election-timeout=499",
        1,
        "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
    );
    check_error(
        "--election-timeout=50001",
        1,
        "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
    );
    check_error("--auto-compaction-mode=x", 1, "unknown auto-compaction-mode \"x\"");
    check_error("--compact-hash-check-time=0s", 1, "--compact-hash-check-time must be >0 (set to 0s)");
    check_error("--log-format=foo", 1, "unknown log format: foo, supported values json, console");
    check_error("--logger=foo", 1, "unknown logger option \"foo\"");
    check_error(
        "--discovery-fallback=proxy",
        1,
        "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
    );
    check_error(
        "--tls-min-version=TLS1.9",
        1,
        "unexpected TLS version \"TLS1.9\" (must be one of: TLS1.2, TLS1.3)",
    );
    check_error(
        "--feature-gates=LeaseCheckpointPersist=true",
        1,
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
    );
    check_error("--max-txn-ops=0", 1, "--max-txn-ops must be >0 (set to 0)");
}

#[test]
fn what_is_not_built_yet_stops_the_start_when_it_is_asked_for() {
    let check = |line: &str, what: &str| {
        check_error(line, 1, &format!("not supported by this version yet: {what}"));
    };
    check("--force-new-cluster", "--force-new-cluster");
    check("--auto-compaction-retention=1", "--auto-compaction-retention");
    check("--auto-compaction-mode=revision --auto-compaction-retention=1h30m", "--auto-compaction-retention");
    check("--experimental-corrupt-check-time=1h", "--corrupt-check-time");
    check("--auth-token=jwt,pub-key=a", "--auth-token");
    check("--cors=http://a.b", "--cors");
    check("--feature-gates=CompactHashCheck=true", "feature gate CompactHashCheck");
    check("--enable-v2=true", "--enable-v2");
    check("--enable-distributed-tracing", "--enable-distributed-tracing");
    check("--discovery-srv=a.b", "--discovery-srv");
    check(
        "--listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://a:2379 --cert-file=a --key-file=b",
        "--cert-file, --key-file, --listen-client-urls=https://127.0.0.1:2379 (only http:// is)",
    );
    check(
        "--initial-cluster=a=http://b:1,c=https://d:1",
        "--initial-cluster=c=https://d:1 (only http:// is)",
    );
    check("--listen-peer-urls=unix://localhost:1", "--listen-peer-urls=unix://localhost:1 (only http:// is)");
    // Written out at their defaults they ask for nothing.
    config(
        "--force-new-cluster=false --auto-compaction-retention=0 --corrupt-check-time=0s --auth-token=simple \
         --client-cert-auth=false --peer-auto-tls=0 --cors=* --host-whitelist=* --proxy=off --enable-v2=false \
         --feature-gates=CompactHashCheck=false --cert-file= --auto-compaction-mode=revision",
        &[],
    );
}

#[test]
fn what_kubeadm_and_tutorials_write_starts() {
    let config = config(
        "--advertise-client-urls=http://10.0.0.1:2379 --data-dir=/var/lib/etcd \
         --feature-gates=InitialCorruptCheck=true --initial-advertise-peer-urls=http://10.0.0.1:2380 \
         --initial-cluster=master=http://10.0.0.1:2380 --listen-client-urls=http://127.0.0.1:2379,http://10.0.0.1:2379 \
         --listen-metrics-urls=http://127.0.0.1:2381 --listen-peer-urls=http://10.0.0.1:2380 --name=master \
         --snapshot-count=10000 --watch-progress-notify-interval=5s",
        &["ETCD_UNSUPPORTED_ARCH=arm"],
    );
    assert_eq!(urls(&config.listen_client_urls), ["http://127.0.0.1:2379", "http://10.0.0.1:2379"]);
    assert_eq!(urls(&config.listen_metrics_urls), ["http://127.0.0.1:2381"]);
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!(config.warnings, ["feature gate InitialCorruptCheck has no effect on this server"]);
}

#[test]
fn older_names_still_work_and_are_warned_of() {
    let config = config(
        "--name=a --data-dir=b --experimental-watch-progress-notify-interval=5s \
         --experimental-enable-lease-checkpoint --experimental-max-learners=3 --max-snapshots=9 \
         --cluster-active-size=3 -v --snapshot=true",
        &["ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK=true"],
    );
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    assert!(config.feature_gates.lease_checkpoint());
    assert_eq!(
        config.warnings,
        [
            "--experimental-watch-progress-notify-interval is deprecated: use --watch-progress-notify-interval",
            "--experimental-enable-lease-checkpoint is deprecated: use --feature-gates=LeaseCheckpoint=true",
            "--max-learners has no effect on this server",
            "--experimental-max-learners is deprecated: use --max-learners",
            "--max-snapshots has no effect on this server",
            "--experimental-initial-corrupt-check is deprecated: use --feature-gates=InitialCorruptCheck=true",
            "feature gate InitialCorruptCheck has no effect on this server",
        ]
    );
}

#[test]
fn gates_follow_their_stage_unless_named() {
    let check = |text: &str, expected: &[&str]| {
        let gates = FeatureGates::from_text(text).expect(text);
        let on: Vec<_> = gates.all().filter(|(_, _, on)| *on).map(|(name, _, _)| name).collect();
        assert_eq!(on, expected, "{text}");
    };
    check("", &["FastLeaseKeepAlive", "TxnModeWriteWithSharedBuffer"]);
    check("AllBeta=false", &[]);
    check("LeaseCheckpoint=true, AllBeta=false", &["LeaseCheckpoint"]);
    check("FastLeaseKeepAlive=true,AllBeta=0", &["FastLeaseKeepAlive"]);
    assert_eq!(
        FeatureGates::from_text("AllAlpha=1").expect("a stage").all().filter(|gate| gate.2).count(),
        9
    );
}

#[test]
fn variables_are_read_unless_a_flag_says_the_same() {
    let config = config(
        "--election-timeout=2000",
        &[
            "ETCD_NAME=m1",
            "ETCD_PRE_VOTE=0",
            "ETCD_HEARTBEAT_INTERVAL=",
            "ETCD_FOO=1",
            "ETCD_VERSION=3",
            "OTHER=1",
        ],
    );
    assert_eq!((config.name.as_str(), config.pre_vote), ("m1", false));
    assert_eq!((config.heartbeat_interval_ms, config.election_timeout_ms), (100, 2000));
    check_warning(&config, "unrecognized environment variable: ETCD_FOO=1");
    check_warning(&config, "unrecognized environment variable: ETCD_VERSION=3");
    assert!(!config.warnings.iter().any(|warning| warning.contains("OTHER")));

    let check = |arguments: &str, variable: &str, message: &str| {
        let error = load_from(arguments, &[variable]).expect_err(message);
        assert_eq!((error.exit_code, error.message.as_str()), (1, message));
    };
    check(
        "--name=y",
        "ETCD_NAME=x",
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
         environment variable or disable flag)): ETCD_NAME",
    );
    check("", "ETCD_PRE_VOTE=yes", "invalid value \"yes\" for ETCD_PRE_VOTE: parse error");
    check(
        "",
        "ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:1",
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    );
}

#[test]
fn a_file_replaces_flags_and_variables() {
    let config = file_config(
        "name: m1\nheartbeat-interval: 50\nwatch-progress-notify-interval: 5000000000\n\
         listen-client-urls: http://127.0.0.1:1,http://[::1]:1\nlog-outputs: [stdout, /tmp/a.log]\n\
         pre-vote: false\nfeature-gates: LeaseCheckpoint=true\nauto-compaction-retention: 0\n\
         initial-cluster-state: existing\nquota-backend-bytes: -1\nsocket-options:\n  reuse-port: true\n\
         client-transport-security:\n  auto-tls: false\n  cert-file:\nbogus: 1\n",
    );
    assert_eq!((config.name.as_str(), config.heartbeat_interval_ms), ("m1", 50));
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!(urls(&config.listen_client_urls), ["http://127.0.0.1:1", "http://[::1]:1"]);
    assert_eq!(config.log_outputs, [LogOutput::Stdout, LogOutput::File("/tmp/a.log".into())]);
    assert!(!config.pre_vote && config.feature_gates.lease_checkpoint());
    assert_eq!((config.initial_cluster_state, config.quota_backend_bytes), (ClusterState::Existing, -1));
    check_warning(&config, "--socket-reuse-port has no effect");
    check_warning(&config, "unrecognized key in the configuration file: bogus");
    check_warning(&config, "flags and environment variables are ignored");
    assert_eq!(file_config("{\"name\": \"json\"}").name, "json");
    assert_eq!(file_config("").name, "default");
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_key() {
    let check = |text: &str, parts: &[&str]| {
        let error = load_file(text).expect_err(text);
        assert_eq!(error.exit_code, 1);
        assert!(parts.iter().all(|part| error.message.contains(part)), "{text}: {error}");
    };
    check("name: [foo\n", &["etcd.yml", "line 1"]);
    check("- a\n", &["must be a mapping"]);
    check(
        "watch-progress-notify-interval: 10m\n",
        &["watch-progress-notify-interval: must be a whole number"],
    );
    check("pre-vote: maybe\n", &["pre-vote: must be true or false"]);
    check("heartbeat-interval: '100'\n", &["heartbeat-interval: must be a number"]);
    check("name: [a]\n", &["name: must be a text"]);
    check("listen-client-urls: http://a.b:1\n", &["expected IP in URL for binding (http://a.b:1)"]);
    check(
        "peer-transport-security: {cert-file: a, allowed-cn: b}\n",
        &["--peer-cert-file, --peer-cert-allowed-cn"],
    );
    check(
        "discovery-config: {token: a, client: {endpoints: [b]}}\n",
        &["--discovery-token, --discovery-endpoints"],
    );
    let missing = load_from("--config-file=/nowhere/etcd.yml", &[]).expect_err("there is no such file");
    assert_eq!(missing.exit_code, 1);
    assert!(missing.message.starts_with("configuration file /nowhere/etcd.yml: "), "{missing}");
    assert_eq!(load_from("", &["ETCD_CONFIG_FILE=/nowhere/etcd.yml"]).expect_err("the same"), missing);
}

#[test]
fn durations_are_gos() {
    let check = |text: &str, nanoseconds: Option<u64>| {
        let expected =
            nanoseconds.map(Duration::from_nanos).ok_or(ValueError::Unreadable("parse error".into()));
        assert_eq!(Duration::from_text(text), expected, "{text}");
    };
    for (text, nanoseconds) in [
        ("0", 0),
        ("0s", 0),
        ("1ns", 1),
        ("1us", 1_000),
        ("1\u{b5}s", 1_000),
        ("100ms", 100_000_000),
        ("5s", 5_000_000_000),
        ("+3s", 3_000_000_000),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("5.s", 5_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1m0.000000001s", 60_000_000_001),
        ("9223372036s", 9_223_372_036_000_000_000),
    ] {
        check(text, Some(nanoseconds));
    }
    for text in [
        "",
        "s",
        "5",
        "5.",
        "1d",
        ".s",
        "1e3s",
        "1h-1m",
        "-5s",
        "1 s",
        "1..5s",
        "9223372037s",
        "99999999999999999999s",
    ] {
        check(text, None);
    }
}

#[test]
fn listen_urls_say_what_to_bind() {
    let check = |url: &str, address: Option<&str>| {
        let parsed = urls::parse_urls(url).expect(url);
        let found = parsed[0].listen_address().map(|address| address.to_string());
        assert_eq!(found.as_deref(), address, "{url}");
    };
    check("http://localhost:1", Some("127.0.0.1:1"));
    check("http://0.0.0.0:2379", Some("0.0.0.0:2379"));
    check("http://[::1]:2379", Some("[::1]:2379"));
    check("http://a.b:1", None);
    check("unix:///run/etcd.sock", None);
    let repeated = urls::parse_urls("http://a:1,http://b:1, http://a:1").expect("URLs");
    assert_eq!(urls(&repeated), ["http://a:1", "http://b:1"]);
    assert_eq!((repeated[0].host(), repeated[0].port()), ("a", 1));
}

#[test]
fn help_and_version_are_printed() {
    let print = |line: &str| match load_from(line, &[]) {
        Ok(Start::Print(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert!(print("--version").lines().any(|line| line == "etcd Version: 3.7.1"));
    let help = print("-h");
    assert_eq!(print("--name x -help"), help);
    assert!(help.contains("  --heartbeat-interval '100'\n"), "{help}");
    assert!(help.contains("LeaseCheckpoint=true|false (ALPHA - default=false)"));
    assert!(!help.contains("--experimental-"));
}

#[test]
fn the_table_names_every_flag_once_and_its_defaults_can_be_read() {
    let names: BTreeSet<_> = table::all().map(|flag| flag.name).collect();
    assert_eq!(names.len(), table::all().count());
    for flag in table::all() {
        let given = match flag.effect {
            flags::Effect::Alias(current) => {
                let current = table::find(current).expect(flag.name);
                assert_eq!(flag.is_switch(), current.is_switch(), "{}", flag.name);
                current.default
            }
            _ => flag.default,
        };
        let mut draft = Draft::new().expect("defaults");
        assert_eq!(draft.take(flag, values::Given::Text(given)), Ok(()), "{}", flag.name);
        assert_eq!(draft.unbuilt, [""; 0], "{}", flag.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands on the line, there is an answer.
    #[test]
    fn no_command_line_panics(arguments in proptest::collection::vec("[-]{0,2}(name|pre-vote|config|grpc-keepalive-interval|x)?[=]?[\\PC]{0,6}", 0..5)) {
        prop_assume!(!arguments.iter().any(|argument| argument.contains("config-file")));
        let _ = load(&arguments, &BTreeMap::new());
    }

    /// A duration that was written by its parts is read as their sum.
    #[test]
    fn durations_add_up(hours in 0_u64..100, minutes in 0_u64..100, milliseconds in 0_u64..5000) {
        let text = format!("{hours}h{minutes}m{milliseconds}ms");
        let expected = Duration::from_millis((hours * 60 + minutes) * 60_000 + milliseconds);
        prop_assert_eq!(Duration::from_text(&text), Ok(expected));
    }
}
