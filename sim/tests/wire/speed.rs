//! How many simulated seconds a second of this machine gives. Run it alone, by name, with `--ignored
//! --nocapture`: it prints figures and asserts nothing about them.
#![expect(clippy::disallowed_methods, reason = "this measures the machine's time")]

use std::time::{Duration, Instant};

use detcd::rt;
use sim::full;

use super::cluster::{Cluster, channel, has, put, simulate};

const SECONDS: u64 = 60;

/// Five clients, each with a put or a get every 0.6 s: 500 calls in a minute.
async fn light_load(cluster: Cluster) {
    cluster.leader().await;
    let clients = (2..7_u32).map(|number| {
        let client = full::client(&cluster.connections, number);
        let calls = client.spawn(async move {
            let channel = channel(&[(number % 3) as u8 + 1]);
            for call in 0..SECONDS * 10 / 6 {
                if call % 2 == 0 {
                    put(&channel, &format!("{number}/{}", call % 10), "value").await.expect("a put");
                } else {
                    has(&channel, &format!("{number}/{}", call % 10)).await.expect("a get");
                }
                rt::sleep(Duration::from_millis(600)).await;
            }
        });
        (client, calls)
    });
    for (_, calls) in clients.collect::<Vec<_>>() {
        calls.await.expect("a client");
    }
    cluster.story.tell(format!("{:?}", cluster.connections.statistics()));
}

async fn idle(cluster: Cluster) {
    cluster.leader().await;
    rt::sleep(Duration::from_secs(SECONDS)).await;
    cluster.story.tell(format!("{:?}", cluster.connections.statistics()));
}

fn measure<F: Future<Output = ()>>(what: &str, run: impl Fn(Cluster) -> F + Copy + Send + 'static) {
    let mut best = f64::MAX;
    let mut lines = Vec::new();
    for seed in 0..5 {
        let begun = Instant::now();
        lines = simulate(seed, run).lines();
        best = best.min(begun.elapsed().as_secs_f64());
    }
    println!("{what}: {:.3} s of this machine for {SECONDS} s, {:.0} times", best, SECONDS as f64 / best);
    println!("{lines:#?}");
}

#[test]
#[ignore = "prints figures"]
fn how_fast() {
    measure("idle", idle);
    measure("light load", light_load);
}
