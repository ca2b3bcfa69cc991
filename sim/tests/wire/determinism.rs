//! The same seed gives the same story: every input, output and message of every member's loop, and every
//! byte on every connection, at the same simulated times. In one process, and in two.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use detcd::proto::etcdserverpb::kv_client::KvClient;
use detcd::proto::etcdserverpb::lease_client::LeaseClient;
use detcd::proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
use detcd::rt;
use futures::FutureExt;
use rand::Rng;
use sim::connections::{Conditions, Connects};
use sim::full;
use sim::random::{self, Draw};

use super::cluster::{Cluster, MEMBERS, Story, channel, client_ip, in_time, ip, seeds, simulate, watch};

/// Asks a process of this test to print its stories, in this order of the seeds.
const ORDER: &str = "WIRE_STORIES";

/// Watches everything, at one member after the other, and tells what it hears.
async fn watch_all(story: Story) {
    let mut next = 1;
    for member in (1..=MEMBERS).cycle() {
        let mut stream = match watch(&channel(&[member]), "", next).await {
            Ok(stream) => stream,
            Err(status) => {
                story.tell(format!("watch: {:?}", status.code()));
                rt::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let ended = loop {
            match stream.heard.message().await {
                Ok(Some(heard)) => {
                    next = heard.header.as_ref().map_or(next, |header| header.revision + 1);
                    story.tell(format!("watch: {} events, next {next}", heard.events.len()));
                }
                ended => break ended,
            }
        };
        story.tell(format!("watch ended: {:?}", ended.map_err(|status| status.code())));
    }
}

/// Grants leases of two seconds, with a key each, and lets them run out.
async fn grant_leases(story: Story) {
    let channel = channel(&[1, 2, 3]);
    for number in 1.. {
        let grant = LeaseGrantRequest { ttl: 2, id: number };
        let granted = in_time(LeaseClient::new(channel.clone()).lease_grant(grant)).await;
        story.tell(format!("lease {number}: {:?}", granted.map(|_| ()).map_err(|status| status.code())));
        let key = format!("leased/{number}").into();
        let put = PutRequest { key, lease: number, ..Default::default() };
        let put = in_time(KvClient::new(channel.clone()).put(put)).await;
        story.tell(format!("its key: {:?}", put.map(|_| ()).map_err(|status| status.code())));
        rt::sleep(Duration::from_millis(700)).await;
    }
}

/// Puts, and faults that the seed draws, one after the other, while others watch and lease.
async fn run(seed: u64, mut cluster: Cluster) {
    let mut random = random::stream(seed, "story");
    cluster.connections.set_usual(Conditions::draw(&mut random));
    cluster.leader().await;
    for (number, task) in
        [(2, watch_all(cluster.story.clone()).boxed()), (3, grant_leases(cluster.story.clone()).boxed())]
    {
        full::client(&cluster.connections, number).spawn(task);
    }
    cluster.goes_on("first").await;
    for key in ["second", "third", "fourth"] {
        let member = random.random_range(1..=MEMBERS);
        let other = member % MEMBERS + 1;
        match random.random_range(0..7) {
            0 => drop(cluster.connections.reset(ip(member), ip(other))),
            1 => drop(cluster.connections.half_open(ip(member), client_ip())),
            2 => cluster.connections.isolate(ip(member), random.percent(70), random.percent(70)),
            3 => cluster.connections.set_connects(client_ip(), ip(member), Connects::Refused),
            4 => cluster.connections.cut(ip(member), ip(other)),
            fault => {
                if fault == 5 {
                    cluster.power_cut(member)
                } else {
                    cluster.kill(member)
                }
                rt::sleep(Duration::from_millis(random.random_range(1..3000))).await;
                cluster.start(member);
            }
        }
        cluster.goes_on(key).await;
        // More than the log keeps: who is away may need a snapshot.
        cluster.twenty_tries(key).await;
        rt::sleep(Duration::from_millis(random.random_range(1..3000))).await;
        cluster.connections.mend_all();
        for member in 1..=MEMBERS {
            cluster.connections.rejoin(ip(member));
        }
        cluster.all_have(key).await;
    }
    cluster.story.tell(format!("{:?}", cluster.connections.statistics()));
}

fn story(seed: u64) -> Story {
    simulate(seed, move |cluster| run(seed, cluster))
}

#[test]
fn the_same_seed_gives_the_same_story_in_one_process() {
    for seed in seeds(3).take(3) {
        let (first, second) = (story(seed), story(seed));
        assert_eq!(first.parts_from(&second), None, "seed {seed}: {:#?}", first.lines());
        assert_eq!(first.lines(), second.lines(), "seed {seed}");
    }
    assert_ne!(story(0).digest(), story(1).digest(), "the digest tells stories apart");
}

/// What another process has to say of each seed, asked in this order.
fn stories_elsewhere(order: &str) -> BTreeMap<u64, String> {
    let myself = std::env::current_exe().expect("this test is a file");
    let output = Command::new(myself)
        .args(["--exact", "determinism::prints_its_stories", "--ignored", "--nocapture"])
        .env(ORDER, order)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let stories = text.lines().filter_map(|line| line.strip_prefix("story "));
    stories
        .filter_map(|line| line.split_once(' '))
        .map(|(seed, story)| (seed.parse().expect("a number"), story.to_owned()))
        .collect()
}

#[test]
fn seeds_give_the_same_stories_in_two_processes_in_any_order() {
    let upwards = stories_elsewhere("up");
    let downwards = stories_elsewhere("down");
    assert_eq!(upwards.len(), seeds(20).count());
    for (seed, story) in &upwards {
        assert_eq!(Some(story), downwards.get(seed), "seed {seed}");
    }
}

#[test]
#[ignore = "a part of the test above, which starts it in a process of its own"]
fn prints_its_stories() {
    let order = std::env::var(ORDER).unwrap_or_default();
    let mut seeds: Vec<u64> = seeds(20).collect();
    if order == "down" {
        seeds.reverse();
    }
    for seed in seeds {
        let story = story(seed);
        println!("story {seed} {:016x} {:?}", story.digest(), story.lines());
    }
}
