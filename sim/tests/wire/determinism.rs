//! The same seed gives the same story: every input, output and message of every member's loop, and every
//! byte on every connection, at the same simulated times. In one process, and in two.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use detcd::rt;
use rand::Rng;
use sim::connections::{Conditions, Connects};
use sim::random::{self, Draw};

use super::cluster::{Cluster, MEMBERS, Story, client_ip, ip, simulate};

const SEEDS: Range<u64> = 0..20;

/// Asks a process of this test to print its stories, in this order of the seeds.
const ORDER: &str = "WIRE_STORIES";

/// Puts, and faults that the seed draws, one after the other.
async fn run(seed: u64, mut cluster: Cluster) {
    let mut random = random::stream(seed, "story");
    cluster.connections.set_usual(Conditions::draw(&mut random));
    cluster.leader().await;
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
    for seed in SEEDS.take(3) {
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
fn twenty_seeds_give_the_same_stories_in_two_processes_in_any_order() {
    let upwards = stories_elsewhere("up");
    let downwards = stories_elsewhere("down");
    assert_eq!(upwards.len(), SEEDS.count());
    for (seed, story) in &upwards {
        assert_eq!(Some(story), downwards.get(seed), "seed {seed}");
    }
}

#[test]
#[ignore = "a part of the test above, which starts it in a process of its own"]
fn prints_its_stories() {
    let order = std::env::var(ORDER).unwrap_or_default();
    let mut seeds: Vec<u64> = SEEDS.collect();
    if order == "down" {
        seeds.reverse();
    }
    for seed in seeds {
        let story = story(seed);
        println!("story {seed} {:016x} {:?}", story.digest(), story.lines());
    }
}
