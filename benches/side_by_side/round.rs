//! One round: clients at work for a while, and what it took.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::Failure;
use crate::clients::Client;
use crate::cluster::Cluster;
use crate::process::Usage;

/// A server that leaves a request without an answer this long after the round's end has lost it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that is not filled after this time hangs.
const FILL_TIMEOUT: Duration = Duration::from_secs(600);

/// Rest of a client after an error, so that a broken server does not turn a round into a busy loop.
const REST: Duration = Duration::from_millis(10);

const MEGABYTE: f64 = 1e6;

/// What one round showed. Of what is counted, see the scenario's unit.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Units done, and how long that took in all.
    pub units: u64,
    pub seconds: f64,
    /// Units a second.
    pub per_second: f64,
    /// Latency of requests.
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// CPU of the server processes for one unit, in microseconds.
    pub cpu_us: f64,
    /// CPU of this program for one unit, in microseconds.
    pub generator_us: f64,
    /// Memory of the server processes at the end of the round, the most since they began, and the part
    /// that is not file pages.
    pub resident_mb: f64,
    pub peak_mb: f64,
    pub anonymous_mb: f64,
    /// Disk in use at the end of the round.
    pub disk_mb: f64,
    /// Bytes that the servers caused to be written to the disk for one unit.
    pub written_bytes: f64,
    pub errors: u64,
    pub first_error: Option<String>,
}

/// What the clients of one round have done so far.
struct Tally {
    /// In nanoseconds.
    latency: Histogram<u64>,
    units: u64,
    errors: u64,
    first_error: Option<String>,
}

/// Puts the clients to work for `length`, or until they have nothing left to do, and gives them back.
pub async fn run(
    cluster: &Cluster,
    clients: Vec<Client>,
    length: Option<Duration>,
) -> Result<(Vec<Client>, Figures), Failure> {
    let tally = Arc::new(Mutex::new(Tally::new()?));
    let (server, generator) = (cluster.usage()?, Usage::of("self")?);
    let started = Instant::now();
    let deadline = length.map(|length| started + length);

    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(work(client, deadline, tally.clone()));
    }
    let limit = length.unwrap_or(FILL_TIMEOUT) + DRAIN_TIMEOUT;
    let clients = tokio::time::timeout(limit, tasks.join_all());
    let clients = clients.await.map_err(|_| "the server left requests without an answer")?;

    let elapsed = started.elapsed();
    let (server, generator) = (cluster.usage()?.since(server), Usage::of("self")?.since(generator));
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((clients, figures(cluster, &tally, elapsed, server, generator)?))
}

/// One round of one restart.
pub async fn restart(cluster: &mut Cluster) -> Result<Figures, Failure> {
    let generator = Usage::of("self")?;
    let elapsed = cluster.restart().await?;
    let mut tally = Tally::new()?;
    tally.latency.saturating_record(nanoseconds(elapsed));
    tally.units = 1;
    // The processes are new: all that they have used is for the restart.
    let (server, generator) = (cluster.usage()?, Usage::of("self")?.since(generator));
    figures(cluster, &tally, elapsed, server, generator)
}

async fn work(mut client: Client, deadline: Option<Instant>, tally: Arc<Mutex<Tally>>) -> Client {
    let mut started = Instant::now();
    while deadline.is_none_or(|deadline| started < deadline) {
        let outcome = client.request().await;
        let ended = Instant::now();
        let failed = {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            match &outcome {
                Ok(0) => break,
                Ok(units) => tally.succeeded(*units, ended - started),
                Err(status) => tally.failed(status),
            }
            outcome.is_err()
        };
        started = ended;
        if failed {
            tokio::time::sleep(REST).await;
            started = Instant::now();
        }
    }
    client
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        // From a microsecond to ten minutes with three digits.
        let latency = Histogram::new_with_bounds(1_000, 600_000_000_000, 3)?;
        Ok(Self { latency, units: 0, errors: 0, first_error: None })
    }

    fn succeeded(&mut self, units: u64, latency: Duration) {
        self.units += units;
        self.latency.saturating_record(nanoseconds(latency));
    }

    fn failed(&mut self, status: &tonic::Status) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{:?}: {}", status.code(), status.message()));
    }
}

fn figures(
    cluster: &Cluster,
    tally: &Tally,
    elapsed: Duration,
    server: Usage,
    generator: Usage,
) -> Result<Figures, Failure> {
    let memory = cluster.memory()?;
    let units = tally.units as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / units;
    let millis = |nanos: f64| nanos / 1e6;
    Ok(Figures {
        units: tally.units,
        seconds: elapsed.as_secs_f64(),
        per_second: units / elapsed.as_secs_f64(),
        mean_ms: millis(tally.latency.mean()),
        p50_ms: millis(tally.latency.value_at_quantile(0.5) as f64),
        p99_ms: millis(tally.latency.value_at_quantile(0.99) as f64),
        cpu_us: micros(server.cpu),
        generator_us: micros(generator.cpu),
        resident_mb: memory.resident as f64 / MEGABYTE,
        peak_mb: memory.peak as f64 / MEGABYTE,
        anonymous_mb: memory.anonymous as f64 / MEGABYTE,
        disk_mb: cluster.disk_usage()? as f64 / MEGABYTE,
        written_bytes: server.written as f64 / units,
        errors: tally.errors,
        first_error: tally.first_error.clone(),
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
