//! What is compared: the list of scenarios, and how each is set up.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use detcd::client::Channel;

use crate::Failure;
use crate::clients::{self, Client, Noise, Shape, Work};
use crate::cluster::Cluster;
use crate::fan_out::FanOut;
use crate::round;

/// Connections of the generator, as the published figures of etcd's tool have it.
const CONNECTIONS: usize = 10;

/// Clients that fill a store.
const FILLERS: usize = 100;

/// Size of a value where nothing else is said, in bytes.
pub const SMALL_VALUE: usize = 256;

/// Size of a value in lists and in the big store, in bytes.
const LARGE_VALUE: usize = 1024;

/// Keys that puts choose from.
const PUT_KEYS: u64 = 100_000;

/// Keys of a store for gets and lists.
const LIST_KEYS: u64 = 10_000;

/// Keys of the big store.
const BIG_KEYS: u64 = 100_000;

/// Keys that each updating client owns.
const KEYS_PER_UPDATER: u64 = 10;

/// One kind of load.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    /// What is counted: requests a second are these a second, CPU a request is CPU for one of these.
    pub unit: &'static str,
    pub clients: usize,
    pub load: Load,
}

/// What the clients do.
#[derive(Debug)]
pub enum Load {
    Put,
    Get { serializable: bool },
    Update,
    List(Shape),
    KeepAlive,
    FanOut,
    BigStore,
}

/// All scenarios, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    put("put-1", 1),
    put("put-100", 100),
    put("put-1000", 1000),
    get("get-linearizable", "linearizable get of random keys of 10,000", false),
    get("get-serializable", "serializable get of random keys of 10,000", true),
    Scenario {
        name: "cas-txn",
        about: "Kubernetes' update: if mod_revision is as read then put else range; own keys, no conflicts",
        unit: "txn",
        clients: 100,
        load: Load::Update,
    },
    list("list-10k", "unary range over 10,000 keys of 1 KB", 4, Shape::All),
    list("keys-only", "the keys of 10,000", 10, Shape::KeysOnly),
    list("count-only", "the count of 10,000 keys", 100, Shape::CountOnly),
    list("limit-500", "pages of 500 keys of 1 KB through 10,000, at one revision", 10, Shape::Pages),
    Scenario {
        name: "watch-fanout",
        about: "1,000 watchers of one key on 10 streams; a put waits until all have the one before",
        unit: "event",
        clients: 1,
        load: Load::FanOut,
    },
    Scenario {
        name: "lease-keepalive",
        about: "a lease and a stream for each client",
        unit: "keepalive",
        clients: 100,
        load: Load::KeepAlive,
    },
    Scenario {
        name: "big-store",
        about: "100,000 keys of 1 KB: filled once, then restarted until all members answer a linearizable get",
        unit: "restart",
        clients: FILLERS,
        load: Load::BigStore,
    },
];

const fn put(name: &'static str, clients: usize) -> Scenario {
    Scenario { name, about: "256 bytes to random keys of 100,000", unit: "put", clients, load: Load::Put }
}

const fn get(name: &'static str, about: &'static str, serializable: bool) -> Scenario {
    Scenario { name, about, unit: "get", clients: 100, load: Load::Get { serializable } }
}

const fn list(name: &'static str, about: &'static str, clients: usize, shape: Shape) -> Scenario {
    Scenario { name, about, unit: "range", clients, load: Load::List(shape) }
}

/// Fills the cluster as the scenario needs it and gives its clients.
pub async fn prepare(scenario: &Scenario, cluster: &Cluster) -> Result<Vec<Client>, Failure> {
    let works = match &scenario.load {
        Load::Put => repeat(scenario.clients, || Work::Put { keys: PUT_KEYS, size: SMALL_VALUE }),
        Load::Get { serializable } => {
            fill(cluster, LIST_KEYS, SMALL_VALUE).await?;
            repeat(scenario.clients, || Work::Get { keys: LIST_KEYS, serializable: *serializable })
        }
        Load::Update => {
            let keys = scenario.clients as u64 * KEYS_PER_UPDATER;
            fill(cluster, keys, SMALL_VALUE).await?;
            let mut channels = cluster.channels(1)?;
            let mut works = Vec::new();
            for first in (0..keys).step_by(KEYS_PER_UPDATER as usize) {
                works.push(clients::update(&mut channels[0], first, KEYS_PER_UPDATER).await?);
            }
            works
        }
        Load::List(shape) => {
            fill(cluster, LIST_KEYS, LARGE_VALUE).await?;
            let mut channels = cluster.channels(1)?;
            let pages = clients::pages(&mut channels[0], *shape, LIST_KEYS).await?;
            repeat(scenario.clients, || Work::List { pages: pages.clone(), next: 0 })
        }
        Load::KeepAlive => {
            let channels = connections(cluster, scenario.clients)?;
            let mut works = Vec::new();
            for channel in channels.iter().cycle().take(scenario.clients) {
                works.push(clients::keep_alive(channel).await?);
            }
            return Ok(share(channels, works));
        }
        Load::FanOut => {
            let channels = connections(cluster, CONNECTIONS)?;
            let works = vec![Work::FanOut(FanOut::start(&channels).await?)];
            return Ok(share(channels, works));
        }
        Load::BigStore => fill_works(BIG_KEYS, LARGE_VALUE),
    };
    Ok(share(connections(cluster, scenario.clients)?, works))
}

async fn fill(cluster: &Cluster, keys: u64, size: usize) -> Result<(), Failure> {
    let clients = share(connections(cluster, FILLERS)?, fill_works(keys, size));
    let (_, figures) = round::run(cluster, clients, None).await?;
    match figures.first_error {
        None => Ok(()),
        Some(error) => Err(format!("cannot fill: {} errors, first {error}", figures.errors).into()),
    }
}

fn fill_works(keys: u64, size: usize) -> Vec<Work> {
    let next = Arc::new(AtomicU64::new(0));
    repeat(FILLERS, || Work::Fill { next: next.clone(), keys, size })
}

fn repeat(count: usize, work: impl Fn() -> Work) -> Vec<Work> {
    (0..count).map(|_| work()).collect()
}

fn connections(cluster: &Cluster, clients: usize) -> Result<Vec<Channel>, Failure> {
    cluster.channels(clients.min(CONNECTIONS))
}

/// Clients that take the channels in turn. Client by client, both servers see the same random choices.
fn share(channels: Vec<Channel>, works: Vec<Work>) -> Vec<Client> {
    let noise = Noise::new();
    let channels = channels.iter().cycle();
    let numbered = works.into_iter().zip(channels).zip(0..);
    numbered.map(|((work, channel), seed)| Client::new(channel.clone(), seed, noise.clone(), work)).collect()
}
