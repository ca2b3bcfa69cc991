//! Clients write while one fault follows the other. Then everything is mended, and must be well: members
//! elect, clients are served, and nothing that was acknowledged is missing anywhere.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use detcd::client::Channel;
use detcd::proto::etcdserverpb::RangeRequest;
use detcd::proto::etcdserverpb::kv_client::KvClient;
use detcd::rt;
use rand::Rng;
use sim::connections::{Conditions, Connects, Pace};
use sim::full;
use sim::random::{self, Draw, Random};

use tonic::Status;

use super::cluster::{Cluster, MEMBERS, channel, elapsed, in_time, ip, put, seeds, simulate};

const CLIENTS: u32 = 4;

/// How long faults go on.
const STORM: Duration = Duration::from_secs(20);

/// Clients that put unique keys until the storm is over, at a member each, and note what was acknowledged.
fn write(cluster: &Cluster) -> (Arc<Mutex<Vec<String>>>, Vec<madsim::task::JoinHandle<()>>) {
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let clients = 2..2 + CLIENTS;
    let tasks = clients.map(|number| {
        let client = full::client(&cluster.connections, number);
        let acknowledged = acknowledged.clone();
        client.spawn(async move {
            let members = [(number % u32::from(MEMBERS)) as u8 + 1];
            let channel = if number % 2 == 0 { channel(&members) } else { channel(&[1, 2, 3]) };
            for call in 0.. {
                let key = format!("{number}/{call}");
                if put(&channel, &key, &"v".repeat(call * 37 % 3000)).await.is_ok() {
                    acknowledged.lock().expect("one thread").push(key);
                }
                if elapsed() > STORM {
                    return;
                }
                rt::sleep(Duration::from_millis(50)).await;
            }
        })
    });
    let tasks = tasks.collect();
    (acknowledged, tasks)
}

/// One fault of connections between two hosts, of which the first is a member.
fn fault(cluster: &Cluster, random: &mut Random) {
    let one = ip(random.random_range(1..=MEMBERS));
    let hosts: Vec<_> = (1..=MEMBERS).map(ip).chain((2..2 + CLIENTS).map(full::client_ip)).collect();
    let other = *random.pick(&hosts);
    let (from, to) = if random.percent(50) { (one, other) } else { (other, one) };
    let connections = &cluster.connections;
    match random.random_range(0..10) {
        0 => drop(connections.reset(from, to)),
        1 => drop(connections.half_open(from, to)),
        2 => connections.cut(from, to),
        3 => connections.part(from, to),
        4 => connections.isolate(one, random.percent(60), random.percent(60)),
        5 => connections.set_connects(from, to, Connects::Swallowed),
        6 => connections.set_connects(from, to, Connects::Refused),
        7 => {
            let bytes = random.log_uniform(1, 10_000) as usize;
            connections.slow_reader(from, to, Pace { bytes, every: Duration::from_millis(50) });
        }
        8 => connections.set_capacity(from, to, random.log_uniform(1, 10_000) as usize),
        _ => connections.set_pieces(from, to, Some(3), Some(2)),
    }
}

/// A member's process or host goes and comes back.
async fn restart(cluster: &mut Cluster, random: &mut Random) {
    let member = random.random_range(1..=MEMBERS);
    let away = Duration::from_millis(random.random_range(1..4000));
    match random.random_range(0..4) {
        0 => cluster.kill(member),
        1 => cluster.power_cut(member),
        2 => {
            cluster.members[usize::from(member) - 1].pause();
            rt::sleep(away).await;
            return cluster.members[usize::from(member) - 1].resume();
        }
        _ => drop(cluster.stop(member).await),
    }
    rt::sleep(away).await;
    cluster.start(member);
}

async fn storm(seed: u64, mut cluster: Cluster) {
    let mut random = random::stream(seed, "storm");
    cluster.connections.set_usual(Conditions::draw(&mut random));
    let (acknowledged, clients) = write(&cluster);
    while elapsed() < STORM {
        rt::sleep(Duration::from_millis(random.random_range(1..1500))).await;
        match random.random_range(0..10) {
            0..6 => fault(&cluster, &mut random),
            6..8 => restart(&mut cluster, &mut random).await,
            _ => cluster.connections.mend_all(),
        }
    }
    cluster.connections.mend_all();
    for client in clients {
        client.await.expect("its host lives");
    }
    cluster.goes_on("calm").await;
    cluster.all_have("calm").await;
    let keys = acknowledged.lock().expect("one thread").clone();
    cluster.story.tell(format!("{} acknowledged, {:?}", keys.len(), cluster.connections.statistics()));
    assert!(keys.len() > 20, "only {} puts were acknowledged", keys.len());
    cluster
        .ask(async move {
            for member in 1..=MEMBERS {
                let held = keys_of(&channel(&[member])).await.expect("a range");
                let lost: Vec<&String> = keys.iter().filter(|key| !held.contains(*key)).collect();
                assert!(lost.is_empty(), "member {member} lacks {lost:?}");
            }
        })
        .await;
}

/// Every key, by the reading of one member.
async fn keys_of(channel: &Channel) -> Result<BTreeSet<String>, Status> {
    let everything = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        keys_only: true,
        ..Default::default()
    };
    let response = in_time(KvClient::new(channel.clone()).range(everything)).await?;
    let keys = response.into_inner().kvs.into_iter().map(|kv| kv.decode().expect("a key-value").key);
    Ok(keys.map(|key| String::from_utf8_lossy(&key).into_owned()).collect())
}

#[test]
fn nothing_acknowledged_is_lost_and_all_is_well_after_a_storm() {
    for seed in seeds(6) {
        simulate(seed, move |cluster| storm(seed, cluster));
    }
}
