//! What must hold between the values of a configuration, in etcd's order and words, and what follows
//! from them.

use std::time::Duration;

use super::draft::Draft;
use super::gates::{GATES, Support};
use super::urls::join;
use super::{ConfigError, Scheme, ServerConfig, Url};
use crate::limits;

/// Election timeouts from here on are taken for a slip (etcd).
const MAX_ELECTION_MS: u64 = 50_000;

/// Requests above this are accepted, with a warning (etcd).
const RECOMMENDED_REQUEST_BYTES: usize = 10 << 20;

/// The time between two commits of the database that 0 stands for (etcd).
const BACKEND_BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Checks a draft and completes it.
///
/// # Errors
/// With exit code 1: what does not fit together, or what is not supported by this version.
pub(super) fn finish(mut draft: Draft) -> Result<ServerConfig, ConfigError> {
    check_listen_urls(&draft.config)?;
    check_advertised_urls(&draft.config)?;
    check_discovery(&draft)?;
    check_timing(&draft.config)?;
    if draft.was_given("listen-client-urls") && !draft.was_given("advertise-client-urls") {
        return Err(ConfigError::invalid(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    check_gates(&mut draft)?;
    check_schemes(&mut draft);
    check_bounds(&draft.config)?;
    if !draft.unbuilt.is_empty() {
        let what = draft.unbuilt.join(", ");
        return Err(ConfigError::invalid(format!("not supported by this version yet: {what}")));
    }
    complete(&mut draft);
    Ok(draft.config)
}

fn check_listen_urls(config: &ServerConfig) -> Result<(), ConfigError> {
    let urls = config.listen_peer_urls.iter().chain(&config.listen_client_urls);
    let urls = urls.chain(&config.listen_client_http_urls).chain(&config.listen_metrics_urls);
    for url in urls.filter(|url| matches!(url.scheme(), Scheme::Http | Scheme::Https)) {
        let local_or_address = url.host() == "localhost" || url.host().parse::<std::net::IpAddr>().is_ok();
        if !local_or_address {
            return Err(ConfigError::invalid(format!("expected IP in URL for binding ({url})")));
        }
    }
    Ok(())
}

fn check_advertised_urls(config: &ServerConfig) -> Result<(), ConfigError> {
    let without_host = |urls: &[Url]| urls.iter().find(|url| url.host().is_empty()).cloned();
    if let Some(url) = without_host(&config.initial_advertise_peer_urls) {
        let all = join(&config.initial_advertise_peer_urls);
        return Err(ConfigError::invalid(format!(
            "--initial-advertise-peer-urls {all:?} must be \"host:port\" (unexpected empty host ({url}))"
        )));
    }
    if let Some(url) = without_host(&config.advertise_client_urls) {
        let all = join(&config.advertise_client_urls);
        return Err(ConfigError::invalid(format!(
            "--advertise-client-urls {all:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" (unexpected empty host ({url}))"
        )));
    }
    Ok(())
}

fn check_discovery(draft: &Draft) -> Result<(), ConfigError> {
    let (token, endpoints) = (draft.is_unbuilt("discovery-token"), draft.is_unbuilt("discovery-endpoints"));
    let ways = [!draft.config.initial_cluster.is_empty(), endpoints, draft.is_unbuilt("discovery-srv")];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return Err(ConfigError::invalid(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ));
    }
    if token != endpoints {
        return Err(ConfigError::invalid("both --discovery-token and --discovery-endpoints must be set"));
    }
    Ok(())
}

fn check_timing(config: &ServerConfig) -> Result<(), ConfigError> {
    let (heartbeat, election) = (config.heartbeat_interval_ms, config.election_timeout_ms);
    let problem = if heartbeat == 0 {
        "--heartbeat-interval must be >0 (set to 0ms)".to_owned()
    } else if election == 0 {
        "--election-timeout must be >0 (set to 0ms)".to_owned()
    } else if heartbeat.saturating_mul(5) > election {
        format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat}ms]"
        )
    } else if election > MAX_ELECTION_MS {
        format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms"
        )
    } else {
        return Ok(());
    };
    Err(ConfigError::invalid(problem))
}

fn check_gates(draft: &mut Draft) -> Result<(), ConfigError> {
    // The current name wins over the older switches.
    let mut gates = std::mem::take(&mut draft.older_gates);
    gates.merge(std::mem::take(&mut draft.config.feature_gates));
    if gates.is_enabled("LeaseCheckpointPersist") && !gates.lease_checkpoint() {
        return Err(ConfigError::invalid(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ));
    }
    for gate in &GATES {
        let switched = gates.state(gate) != gate.default();
        match gate.support {
            Support::Unbuilt if switched => draft.unbuilt.push(format!("feature gate {}", gate.name)),
            Support::NoEffect if switched || gates.was_said(gate) => {
                draft.warn(format!("feature gate {} has no effect on this server", gate.name));
            }
            _ => {}
        }
    }
    draft.config.feature_gates = gates;
    Ok(())
}

/// This version speaks plain HTTP over TCP only.
fn check_schemes(draft: &mut Draft) {
    let config = &draft.config;
    let mut unbuilt = Vec::new();
    for (flag, urls) in [
        ("listen-peer-urls", &config.listen_peer_urls),
        ("listen-client-urls", &config.listen_client_urls),
        ("listen-client-http-urls", &config.listen_client_http_urls),
        ("listen-metrics-urls", &config.listen_metrics_urls),
        ("initial-advertise-peer-urls", &config.initial_advertise_peer_urls),
    ] {
        let other = urls.iter().filter(|url| url.scheme() != Scheme::Http);
        unbuilt.extend(other.map(|url| format!("--{flag}={url} (only http:// is)")));
    }
    let entries = config.initial_cluster.split(',').filter_map(|entry| entry.split_once('='));
    let other =
        entries.filter(|(_, url)| ["https:", "unix:", "unixs:"].iter().any(|scheme| url.starts_with(scheme)));
    unbuilt.extend(other.map(|(name, url)| format!("--initial-cluster={name}={url} (only http:// is)")));
    draft.unbuilt.extend(unbuilt);
}

/// Values that etcd accepts and that no server can work with.
fn check_bounds(config: &ServerConfig) -> Result<(), ConfigError> {
    for (flag, value) in [
        ("max-request-bytes", config.max_request_bytes),
        ("max-txn-ops", config.max_txn_ops),
        ("compaction-batch-limit", config.compaction_batch_limit),
    ] {
        if value == 0 {
            return Err(ConfigError::invalid(format!("--{flag} must be >0 (set to 0)")));
        }
    }
    for (flag, urls) in [
        ("listen-client-urls", &config.listen_client_urls),
        ("listen-peer-urls", &config.listen_peer_urls),
        ("initial-advertise-peer-urls", &config.initial_advertise_peer_urls),
    ] {
        if urls.is_empty() {
            return Err(ConfigError::invalid(format!("--{flag} must name a URL")));
        }
    }
    Ok(())
}

/// Fills in what follows from other values, and warns of what is legal and unwise.
fn complete(draft: &mut Draft) {
    let config = &mut draft.config;
    let mut warnings = Vec::new();
    if config.name == "default" {
        warnings.push(
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might \
             run into issue when multiple members have the same default name"
                .to_owned(),
        );
    }
    if config.data_dir.as_os_str().is_empty() {
        config.data_dir = format!("{}.etcd", config.name).into();
        warnings.push(format!("'data-dir' was empty; using default: {}", config.data_dir.display()));
    }
    if config.initial_cluster.is_empty() {
        let of_url = |url: &Url| format!("{}={url}", config.name);
        let entries: Vec<_> = config.initial_advertise_peer_urls.iter().map(of_url).collect();
        config.initial_cluster = entries.join(",");
    }
    if config.backend_batch_interval.is_zero() {
        config.backend_batch_interval = BACKEND_BATCH_INTERVAL;
    }
    if config.backend_batch_limit == 0 {
        config.backend_batch_limit = limits::BACKEND_BATCH_OPERATIONS;
    }
    if config.max_request_bytes > RECOMMENDED_REQUEST_BYTES {
        warnings.push(format!(
            "exceeded recommended request limit: --max-request-bytes is {}, recommended are at most \
             {RECOMMENDED_REQUEST_BYTES}",
            config.max_request_bytes
        ));
    }
    config.warnings.append(&mut warnings);
}
