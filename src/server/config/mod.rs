//! The server's configuration: from what an operator writes to one plain struct.
//!
//! ```text
//!   command line ──┐
//!   ETCD_* ────────┼──> Draft ──> gates, validation ──> ServerConfig
//!   --config-file ─┘      ^
//!                    table of flags: name, default, help, what it sets
//! ```
//!
//! Names, defaults, precedence, texts and exit codes are etcd's 3.7, so that a command line, a manifest
//! or a file written for etcd starts this server. Three rules are worth knowing:
//! - a configuration file replaces everything else: flags and variables next to it are not read;
//! - a flag and its variable together are an error, not a question of precedence;
//! - a flag of etcd that this version does not honour never passes in silence. If ignoring it could hurt,
//!   the start fails and names it; if not, a warning says that it has no effect.
//!
//! Go's flag grammar (`-name`, `--name=false`, switches that take no further argument) is not what
//! argument parsers in Rust speak, hence the parser in `command_line`; the table drives it, the
//! environment, the file and the help.
//!
//! Invariants:
//! - defaults stand in the table of flags and nowhere else;
//! - nothing here reads the process's arguments or environment: both are handed in.

mod checked;
mod command_line;
mod draft;
mod environment;
mod file;
mod flags;
mod gates;
mod help;
mod table;
mod urls;
mod validate;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use command_line::CommandLine;
use draft::Draft;

pub use gates::{FeatureGates, Stage};
pub use urls::{Scheme, Url};

/// What the operator asked for by starting the program.
#[derive(Debug)]
pub enum Start {
    /// Serve.
    Serve(Box<ServerConfig>),
    /// Print this text and exit with code 0.
    Print(String),
}

/// Why the program does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// One sentence for the operator.
    pub message: String,
    /// The process's exit code: 2 when the command line cannot be read, 1 for everything else.
    pub exit_code: u8,
}

impl ConfigError {
    /// The command line cannot be read.
    fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 2 }
    }

    /// It can be read, but not started with.
    fn invalid(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 1 }
    }
}

/// Reads the configuration.
///
/// `arguments` are those after the program's name; `environment` may hold any variables, only those that
/// begin with `ETCD_` are looked at. A configuration file is read from the file system.
///
/// # Errors
/// A sentence and an exit code, both as etcd's where etcd has them.
pub fn load(arguments: &[String], environment: &BTreeMap<String, String>) -> Result<Start, ConfigError> {
    let command_line = CommandLine::parse(arguments)?;
    if command_line.help {
        return Ok(Start::Print(help::help()));
    }
    command_line.check_no_positional()?;
    if command_line.version {
        return Ok(Start::Print(help::version()));
    }
    let mut draft = Draft::new()?;
    let file = command_line.config_file.as_ref().filter(|path| !path.is_empty());
    match file.or_else(|| environment.get("ETCD_CONFIG_FILE").filter(|path| !path.is_empty())) {
        Some(path) => {
            file::read(Path::new(path), &mut draft)?;
            draft.warn(format!("flags and environment variables are ignored: {path} was given"));
        }
        None => {
            command_line.apply(&mut draft)?;
            environment::apply(environment, &command_line, &mut draft)?;
        }
    }
    validate::finish(draft).map(|config| Start::Serve(Box::new(config)))
}

/// Everything that a server can be told. [`load`] makes it; fields are named after their flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerConfig {
    /// Name of this member, for people and for `initial_cluster`.
    pub name: String,
    /// Folder of everything that the member keeps; `<name>.etcd` unless told otherwise.
    pub data_dir: PathBuf,
    /// Folder of the write-ahead log when it is not within `data_dir`.
    pub wal_dir: Option<PathBuf>,

    /// Where peers are listened to. Plain HTTP on an IP address or `localhost`, as all listen URLs.
    pub listen_peer_urls: Vec<Url>,
    /// Where clients are listened to: gRPC, and HTTP/1 unless `listen_client_http_urls` has it.
    pub listen_client_urls: Vec<Url>,
    /// Where HTTP/1 clients are listened to instead of at `listen_client_urls`; may be empty.
    pub listen_client_http_urls: Vec<Url>,
    /// Further places for `/metrics`, `/health`, `/livez` and `/readyz`; may be empty.
    pub listen_metrics_urls: Vec<Url>,
    /// Where peers reach this member.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// Where clients reach this member.
    pub advertise_client_urls: Vec<Url>,

    /// The first members as `name=url,name=url,…`, not checked yet: a member that restarts ignores it.
    pub initial_cluster: String,
    /// Whether the cluster is founded or joined.
    pub initial_cluster_state: ClusterState,
    /// Keeps clusters with equal URLs apart.
    pub initial_cluster_token: String,

    /// Time between two heartbeats of a leader, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// Time without a leader's word before an election, in milliseconds.
    pub election_timeout_ms: u64,
    /// Whether a member that starts skips most of its first wait for an election.
    pub initial_election_tick_advance: bool,
    /// Whether a member asks if an election could be won before it begins one.
    pub pre_vote: bool,
    /// Whether client ports serve the JSON gateway.
    pub enable_grpc_gateway: bool,
    /// Entries kept behind a release for followers that lag a little.
    pub snapshot_catchup_entries: u64,

    /// Size of the database in bytes above which writes are refused; 0 stands for 2 GiB, a negative
    /// number for no bound.
    pub quota_backend_bytes: i64,
    /// Longest time between two commits of the database under load.
    pub backend_batch_interval: Duration,
    /// Operations after which the database is committed ahead of its interval.
    pub backend_batch_limit: usize,
    /// Revisions that one step of a compaction removes at most.
    pub compaction_batch_limit: usize,
    /// Pause between two steps of a compaction.
    pub compaction_sleep_interval: Duration,

    /// Largest request in bytes, as it is replicated.
    pub max_request_bytes: usize,
    /// Most operations of a transaction.
    pub max_txn_ops: usize,
    /// Most requests in progress at once on one connection.
    pub max_concurrent_streams: u32,
    /// Shortest time between two pings of a client; zero for that of gRPC.
    pub grpc_keepalive_min_time: Duration,
    /// A silent connection is pinged after this time; zero for never.
    pub grpc_keepalive_interval: Duration,
    /// A ping that is not answered in this time closes the connection; zero for never.
    pub grpc_keepalive_timeout: Duration,
    /// Silence of a watch stream after which a progress notification is due.
    pub watch_progress_notify_interval: Duration,

    /// Least severe log lines that are written.
    pub log_level: LogLevel,
    /// Shape of log lines.
    pub log_format: LogFormat,
    /// Where log lines go; one at least.
    pub log_outputs: Vec<LogOutput>,
    /// How much the metrics page shows.
    pub metrics: Metrics,

    /// Features in trial, on or off.
    pub feature_gates: FeatureGates,

    /// What the operator should know, to be logged once at the start.
    pub warnings: Vec<String>,
}

/// Whether a member founds its cluster or joins it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterState {
    /// The members of `initial_cluster` found it together.
    #[default]
    New,
    /// It exists, and has added this member.
    Existing,
}

/// How much the metrics page shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metrics {
    /// Counters and gauges.
    #[default]
    Basic,
    /// Also how long every kind of request took.
    Extensive,
}

/// Severity of a log line, least severe first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the one who looks for a fault.
    Debug,
    /// What a healthy server tells.
    #[default]
    Info,
    /// Something an operator should look into.
    Warn,
    /// Something failed. The levels `panic` and `fatal` of etcd mean this too.
    Error,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    #[default]
    Json,
    /// Columns, for people.
    Console,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of a file, which is created when missing.
    File(PathBuf),
}
