//! Golden scripts: `testdata/*.txt` holds commands, each followed by what it does, in lines that begin with
//! `  `. `REWRITE=1 cargo test raft` writes the files anew.
//!
//! ```text
//! members ID..             a new cluster          small                  small limits, before `members`
//! join ID                  a member that knows nobody
//! tick ID COUNT            campaign ID            read ID CONTEXT
//! propose ID TEXT..        one turn of proposals
//! fill ID COUNT SIZE       ... of COUNT payloads of SIZE bytes
//! transfer ID TO           conf ID KIND MEMBER    checkpoint ID KEEP     status ID
//! sync ID                  all writes of the member become durable
//! deliver [FROM>TO]        messages that are on their way now arrive
//! lose [FROM>TO]           ... or do not
//! settle                   syncs and delivers until nothing is left; shows no messages and writes
//! crash ID                 restart ID
//! ```

#![expect(clippy::disallowed_methods, reason = "golden scripts are files")]

use bytes::Bytes;

use super::super::*;
use super::cluster::{Cluster, Packet};
use crate::types::MemberId;

fn check(name: &str) {
    let path = format!("{}/testdata/{name}.txt", module_dir());
    let script = std::fs::read_to_string(&path).expect("the script");
    let actual = run(&script);
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, actual).expect("the script is writable");
    } else {
        assert_eq!(actual, script, "{path} (REWRITE=1 accepts the new output)");
    }
}

/// The folder of the raft room, wherever the crate's root is.
fn module_dir() -> String {
    let here = std::path::Path::new(file!());
    let dir = here.ancestors().nth(2).expect("src/raft/tests/scripts.rs");
    if dir.is_absolute() {
        return dir.display().to_string();
    }
    format!("{}/{}", env!("CARGO_MANIFEST_DIR"), dir.display())
}

fn run(script: &str) -> String {
    let mut cluster = None;
    let mut config: fn(&mut DriverConfig) = |_| {};
    let mut output = String::new();
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        output += &format!("{line}\n");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [word, ..] if word.starts_with('#') => {}
            ["small"] => {
                config = |config| {
                    config.max_message_bytes = 100;
                    config.max_uncommitted_bytes = 1000;
                    config.log_memory_bytes = 1000;
                }
            }
            ["members", ref ids @ ..] => {
                let ids: Vec<u64> = ids.iter().map(|id| number(id)).collect();
                cluster = Some(Cluster::new(&ids, 1, config));
            }
            _ => {
                let cluster = cluster.as_mut().expect("`members` comes first");
                command(cluster, &words);
                for line in cluster.trace.drain(..) {
                    output += &format!("  {line}\n");
                }
            }
        }
    }
    output
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn command(cluster: &mut Cluster, words: &[&str]) {
    match *words {
        ["join", id] => cluster.join(number(id)),
        ["tick", id, count] => (0..number(count)).for_each(|_| cluster.act(number(id), Driver::tick)),
        ["campaign", id] => cluster.act(number(id), Driver::campaign),
        ["propose", id, ref texts @ ..] => {
            propose(cluster, number(id), texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())));
        }
        ["fill", id, count, size] => {
            let data = Bytes::from(vec![b'x'; number(size) as usize]);
            propose(cluster, number(id), (0..number(count)).map(|_| data.clone()));
        }
        ["conf", id, kind, member] => {
            let kind = match kind {
                "add-voter" => ConfChangeKind::AddVoter,
                "add-learner" => ConfChangeKind::AddLearner,
                "remove" => ConfChangeKind::Remove,
                "update" => ConfChangeKind::Update,
                _ => panic!("no kind of change: {kind}"),
            };
            let change =
                ConfChange { kind, member: MemberId(number(member)), context: Bytes::from("context") };
            let mut result = Ok(());
            cluster.act(number(id), |driver| result = driver.propose_conf_change(&change));
            refused(cluster, result);
        }
        ["read", id, context] => {
            if !cluster.read(number(id), context) {
                cluster.trace.push("refused".to_owned());
            }
        }
        ["transfer", id, to] => {
            cluster.act(number(id), |driver| driver.transfer_leader(MemberId(number(to))));
        }
        ["checkpoint", id, keep] => cluster.checkpoint(number(id), number(keep)),
        ["sync", id] => cluster.sync(number(id), usize::MAX),
        ["deliver", ref link @ ..] => {
            for packet in take_packets(cluster, link) {
                cluster.deliver(packet);
            }
        }
        ["lose", ref link @ ..] => {
            for packet in take_packets(cluster, link) {
                cluster.lose(packet);
            }
        }
        ["settle"] => settle(cluster),
        ["crash", id] => cluster.crash(number(id)),
        ["restart", id] => {
            cluster.restart(number(id));
            cluster.pump(number(id));
        }
        ["status", id] => status(cluster, number(id)),
        _ => panic!("no command: {words:?}"),
    }
}

fn propose(cluster: &mut Cluster, id: u64, payloads: impl Iterator<Item = Bytes>) {
    let mut results = Vec::new();
    cluster.act(id, |driver| results = payloads.map(|data| driver.propose(data)).collect());
    results.into_iter().for_each(|result| refused(cluster, result));
}

fn refused(cluster: &mut Cluster, result: Result<(), ProposeRefused>) {
    if let Err(refused) = result {
        cluster.trace.push(format!("refused: {refused:?}"));
    }
}

fn take_packets(cluster: &mut Cluster, link: &[&str]) -> Vec<Packet> {
    let on_link = |packet: &Packet| {
        link.is_empty() || link.contains(&format!("{}>{}", packet.from, packet.message.to).as_str())
    };
    let (taken, rest) = std::mem::take(&mut cluster.network).into_iter().partition(on_link);
    cluster.network = rest;
    taken
}

fn settle(cluster: &mut Cluster) {
    let ids: Vec<u64> = cluster.nodes.keys().copied().collect();
    loop {
        let syncing: Vec<u64> = ids.iter().copied().filter(|&id| cluster.has_writes(id)).collect();
        for id in &syncing {
            cluster.sync(*id, usize::MAX);
        }
        let packets = take_packets(cluster, &[]);
        if packets.is_empty() && syncing.is_empty() {
            break;
        }
        packets.into_iter().for_each(|packet| cluster.deliver(packet));
    }
    let noise = |line: &String| line.contains('>') || line.contains("write #") || line.contains("synced #");
    cluster.trace.retain(|line| !noise(line));
}

fn status(cluster: &mut Cluster, id: u64) {
    let Some(driver) = cluster.driver(id) else { return };
    let s = driver.status();
    let mut lines = vec![
        format!("{:?} of term {}, log {}..={}", s.role, s.term, s.first_index, s.last_index),
        format!("commit {} applied {} persisted {}", s.commit, s.applied, s.persisted),
        format!("voters {:?} learners {:?}", s.configuration.voters, s.configuration.learners),
        format!("log within bound: {}", s.log_bytes <= 1000),
    ];
    for peer in s.progress {
        lines.push(format!("{}: {:?} matched {} next {}", peer.id, peer.state, peer.matched, peer.next));
    }
    cluster.trace.extend(lines);
}

macro_rules! scripts {
    ($($name:ident)*) => { $(#[test] fn $name() { check(stringify!($name)); })* };
}

scripts! {
    single_member
    three_members
    leader_crash
    persist_order
    read_index
    snapshot
    members
    remove_leader
    transfer
    bounds
    figure_8
}
