//! The programs as operators start them: a server on ports of the system's choice and a folder of its
//! own, driven by the command line tool. What is checked is what a script sees: standard output, exit
//! codes, signals, and what a restart keeps.
//!
//! Every test has its own server, so they run side by side and in any order. The programs see an empty
//! environment, and both end with the test, however it ends.
#![cfg(not(madsim))]
#![expect(clippy::disallowed_methods, reason = "a test of real processes waits and reads their files")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const DETCD: &str = env!("CARGO_BIN_EXE_detcd");
const DETCDCTL: &str = env!("CARGO_BIN_EXE_detcdctl");

/// What one step may take on a busy machine. A step that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at something that takes a moment.
const PAUSE: Duration = Duration::from_millis(5);

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.env_clear().spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// How it ended, which must come soon.
    fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "{:?} does not end", self.0);
            std::thread::sleep(PAUSE);
        }
    }
}

/// How a program ended and what it wrote.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a program to its end. What it writes must fit into a pipe.
fn run(command: &mut Command, input: &str) -> Ran {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::start(piped);
    let mut stdin = process.0.stdin.take().expect("piped");
    // A program that refuses its flags does not read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let code = process.ended().code();
    let (mut out, mut err) = (String::new(), String::new());
    process.0.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    process.0.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    Ran { code, out, err }
}

/// A running server.
struct Server {
    process: Process,
    client: String,
    peer: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        Self::start_as(Path::new(DETCD), folder)
    }

    /// Starts `program` on the data in `folder`, and again with other ports if somebody was faster to
    /// take one.
    fn start_as(program: &Path, folder: &Path) -> Self {
        for _ in 0..10 {
            if let Some(server) = Self::try_start(program, folder) {
                return server;
            }
        }
        panic!("no free ports")
    }

    fn try_start(program: &Path, folder: &Path) -> Option<Self> {
        let [client, peer] = free_addresses();
        let log = folder.join("log");
        let mut command = serve(program, folder, &client, &peer);
        command.stdout(Stdio::null()).stderr(File::create(&log).expect("a file"));
        let mut server = Self { process: Process::start(&mut command), client, peer };
        let begun = Instant::now();
        while !server.is_healthy() {
            let text = || std::fs::read_to_string(&log).expect("a log");
            if let Some(status) = server.process.0.try_wait().expect("a child") {
                assert!(text().contains("address already in use"), "{status}: {}", text());
                return None;
            }
            assert!(begun.elapsed() < PATIENCE, "not healthy: {}", text());
            std::thread::sleep(PAUSE);
        }
        Some(server)
    }

    fn is_healthy(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(&self.client) else { return false };
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.client);
        let mut answer = String::new();
        let asked = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
        asked.is_ok() && answer.starts_with("HTTP/1.1 200 ")
    }

    /// The tool on this server.
    fn tool(&self, line: &str) -> Command {
        tool(&self.client, line)
    }

    /// The tool succeeds with a line of words; what it answers.
    #[track_caller]
    fn answer(&self, line: &str) -> String {
        self.answer_to(line, "")
    }

    #[track_caller]
    fn answer_to(&self, line: &str, input: &str) -> String {
        let ran = run(&mut self.tool(line), input);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{line}: {ran:?}");
        ran.out
    }

    #[track_caller]
    fn check(&self, line: &str, answer: &str) {
        assert_eq!(self.answer(line), answer, "{line}");
    }

    #[track_caller]
    fn check_fails(&self, line: &str, code: i32, error: &str) {
        check_fails(&mut self.tool(line), code, error);
    }

    /// Tells it to stop; how it ended.
    fn stop(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.process.0), Signal::TERM).expect("a process");
        self.process.ended()
    }
}

/// Two addresses that nobody listens on; no two calls in this process share one. The system may offer a
/// port again while the server that it was given to has not bound it yet.
fn free_addresses() -> [String; 2] {
    static HANDED_OUT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    [(); 2].map(|()| {
        loop {
            // Not 127.0.0.1: outgoing connections come from there and could take the port.
            let listener = TcpListener::bind("127.0.0.2:0").expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            if HANDED_OUT.lock().expect("no test panicked in here").insert(address.clone()) {
                return address;
            }
        }
    })
}

/// The command line of a server that is a cluster of its own.
fn serve(program: &Path, folder: &Path, client: &str, peer: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--name", "solo", "--data-dir"]).arg(folder.join("data"));
    for (flag, address) in [
        ("listen-client-urls", client),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer),
        ("initial-advertise-peer-urls", peer),
    ] {
        command.arg(format!("--{flag}=http://{address}"));
    }
    command.arg(format!("--initial-cluster=solo=http://{peer}"));
    command
}

/// The tool with a line of words.
fn tool(endpoint: &str, line: &str) -> Command {
    let mut command = Command::new(DETCDCTL);
    command.args(["--endpoints", endpoint]).args(line.split_whitespace());
    command
}

/// The program fails, says nothing on standard output, and its first line of error is this one.
#[track_caller]
fn check_fails(command: &mut Command, code: i32, error: &str) {
    let ran = run(command, "");
    let first = ran.err.lines().next().unwrap_or_default();
    assert_eq!((ran.code, ran.out.as_str(), first), (Some(code), "", error), "{command:?}");
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn keys_are_put_read_and_deleted() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.check("get a", "");
    server.check("put a 1", "OK\n");
    server.check("put a 2 --prev-kv", "OK\na\n1\n");
    assert_eq!(server.answer_to("put ab", "from standard input"), "OK\n");
    server.check("get a", "a\n2\n");
    server.check("get a --rev 2", "a\n1\n");
    server.check("get a --prefix", "a\n2\nab\nfrom standard input\n");
    server.check("get a --prefix --limit 1 --order descend --print-value-only", "from standard input\n");

    let json: Value = serde_json::from_str(&server.answer("get a -w json")).expect("JSON");
    assert_eq!(json["header"]["revision"], 4);
    assert_eq!(json["count"], 1);
    let stored = serde_json::json!({
        "key": "YQ==", "value": "Mg==", "create_revision": 2, "mod_revision": 3, "version": 2,
    });
    assert_eq!(json["kvs"], Value::Array(vec![stored]));
    let fields = server.answer("get a -w fields");
    for field in [r#""Revision" : 4"#, r#""Key" : "a""#, r#""Value" : "2""#, r#""Count" : 1"#] {
        assert!(fields.lines().any(|line| line == field), "{field} is missing in {fields}");
    }

    server.check("del a", "1\n");
    server.check("del a", "0\n");
    server.check("del a --prefix", "1\n");
    server.check("compaction 4", "compacted revision 4\n");
    let compacted = "Error: etcdserver: mvcc: required revision has been compacted";
    server.check_fails("get a --rev 3", 1, compacted);
    server.check_fails("compaction 4", 1, compacted);
    server.check("get ab --rev 4", "ab\nfrom standard input\n");
}

#[test]
fn transactions_come_from_standard_input() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.check("put k old", "OK\n");
    let swap = "value(\"k\") = \"old\"\n\nput k new\nget k\n\nget k\ndel k\n\n";
    assert_eq!(server.answer_to("txn", swap), "SUCCESS\n\nOK\n\nk\nnew\n");
    assert_eq!(server.answer_to("txn", swap), "FAILURE\n\nk\nnew\n\n1\n");
    server.check("get k", "");
    let ran = run(&mut server.tool("txn"), "nonsense\n\n");
    assert_eq!((ran.code, ran.out.as_str()), (Some(3), ""), "{ran:?}");
}

#[test]
fn a_watch_prints_what_happened_and_what_happens() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.check("put w1 before", "OK\n");
    server.check("put other x", "OK\n");
    let mut watch = Process::start(server.tool("watch w --prefix --rev 2").stdout(Stdio::piped()));
    let stdout = BufReader::new(watch.0.stdout.take().expect("piped"));
    let (lines, events) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        // The test may have ended.
        stdout.lines().map_while(Result::ok).take_while(|line| lines.send(line.clone()).is_ok()).count()
    });
    let check = |event: [&str; 3]| {
        let line = |_| events.recv_timeout(PATIENCE).expect("a line");
        assert_eq!([0, 1, 2].map(line), event);
    };
    check(["PUT", "w1", "before"]);
    server.check("put w2 now", "OK\n");
    check(["PUT", "w2", "now"]);
    server.check("put other y", "OK\n");
    server.check("del w1", "1\n");
    check(["DELETE", "w1", ""]);
    drop(watch);
    assert_eq!(reader.join().expect("no panic"), 9, "lines in all");
}

#[test]
fn leases_are_granted_renewed_and_revoked() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.check("lease list", "found 0 leases\n");
    let granted = server.answer("lease grant 1000");
    let id = granted.split(' ').nth(1).expect("an id");
    assert_eq!(granted, format!("lease {id} granted with TTL(1000s)\n"));
    server.check("lease list", &format!("found 1 leases\n{id}\n"));
    server.check(&format!("put --lease={id} k v"), "OK\n");
    server
        .check(&format!("lease keep-alive --once {id}"), &format!("lease {id} keepalived with TTL(1000)\n"));
    let lives = server.answer(&format!("lease timetolive --keys {id}"));
    let left = lives.strip_prefix(&format!("lease {id} granted with TTL(1000s), remaining("));
    let left = left.and_then(|rest| rest.strip_suffix("s), attached keys([k])\n")).expect(&lives);
    assert!((900..=1000).contains(&left.parse::<u32>().expect("seconds")), "{lives}");

    server.check(&format!("lease revoke {id}"), &format!("lease {id} revoked\n"));
    server.check("get k", "");
    server.check(&format!("lease timetolive {id}"), &format!("lease {id} already expired\n"));
    let unknown = "etcdserver: requested lease not found";
    server.check_fails(
        &format!("lease revoke {id}"),
        1,
        &format!("Error: failed to revoke lease ({unknown})"),
    );
    server.check_fails(&format!("lease keep-alive --once {id}"), 2, &format!("Error: {unknown}"));
}

#[test]
fn the_cluster_tells_how_it_is() {
    let folder = folder();
    let server = Server::start(folder.path());
    let (client, peer) = (&server.client, &server.peer);
    server.check("put a 1", "OK\n");
    let health = server.answer("endpoint health");
    assert!(
        health.starts_with(&format!("{client} is healthy: successfully committed proposal: took = ")),
        "{health}"
    );
    let members = server.answer("member list");
    let id = members.split(',').next().expect("an id");
    assert_eq!(members, format!("{id}, started, solo, http://{peer}, http://{client}, false\n"));
    let table = server.answer("endpoint status -w table");
    for cell in ["ENDPOINT", "IS LEADER", client, id, "3.7.1", "true"] {
        assert!(table.contains(&format!(" {cell} ")), "{cell} is missing in\n{table}");
    }
    let hash = server.answer("endpoint hashkv");
    let parts: Vec<&str> = hash.trim_end().split(", ").collect();
    assert_eq!((parts.len(), parts[0], parts[2]), (3, client.as_str(), "2"), "{hash}");
    assert!(parts[1].parse::<u32>().is_ok_and(|hash| hash != 0), "{hash}");
    server.check("endpoint hashkv", &hash);
    server.check("alarm list", "");
    server.check("version", "etcdctl version: 3.7.1\nAPI version: 3.7\n");
}

#[test]
fn mistakes_have_their_exit_codes() {
    // Nobody listens on port 1.
    let nobody = "127.0.0.1:1";
    let check = |line: &str, code, error: &str| check_fails(&mut tool(nobody, line), code, error);
    check("get --nosuch a", 1, "Error: unknown flag: --nosuch");
    check("nosuch", 1, "Error: unknown command \"nosuch\" for \"etcdctl\"");
    check("get", 128, "Error: get command needs one argument as key and an optional argument as range_end");
    check("get a -w nosuch", 4, "Error: unsupported output format");
    check("get a --command-timeout=100ms", 1, "Error: context deadline exceeded");
    check("put a b --command-timeout=100ms", 1, "Error: context deadline exceeded");
    let ill = format!("{nobody} is unhealthy: failed to commit proposal: context deadline exceeded");
    check("endpoint health --command-timeout=100ms", 1, &ill);
    check_fails(Command::new(DETCD).arg("--nosuch"), 2, "detcd: flag provided but not defined: -nosuch");
}

#[test]
fn a_data_folder_has_one_server() {
    let folder = folder();
    let server = Server::start(folder.path());
    let [client, peer] = free_addresses();
    let ran = run(&mut serve(Path::new(DETCD), folder.path(), &client, &peer), "");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    // The log's lines are JSON; this one is for the operator.
    let data = folder.path().join("data");
    let refusal = format!("detcd: the data folder {} is in use: another server runs on it", data.display());
    let told: Vec<&str> = ran.err.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(told, [refusal], "{ran:?}");
    server.check("put a 1", "OK\n");
}

#[test]
fn a_restart_keeps_the_data() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.check("put kept 1", "OK\n");
    server.check("put gone 1", "OK\n");
    server.check("del gone", "1\n");
    let lease = server.answer("lease grant 1000").split(' ').nth(1).expect("an id").to_owned();
    let hash =
        |server: &Server| server.answer("endpoint hashkv").split_once(", ").map(|hash| hash.1.to_owned());
    let before = hash(&server);
    assert_eq!(server.stop().code(), Some(0));

    let server = Server::start(folder.path());
    server.check("get a --from-key", "kept\n1\n");
    server.check("get gone --rev 3", "gone\n1\n");
    server.check("lease list", &format!("found 1 leases\n{lease}\n"));
    assert_eq!(hash(&server), before);
    server.check("put kept 2", "OK\n");
    // Killed without a word this time: what was acknowledged is there all the same.
    drop(server);
    Server::start(folder.path()).check("get kept", "kept\n2\n");
}

#[test]
fn the_programs_go_by_etcds_names() {
    let folder = folder();
    let link = |name: &str, program: &str| {
        let path = folder.path().join(name);
        std::os::unix::fs::symlink(program, &path).expect("a link");
        path
    };
    let (etcd, etcdctl) = (link("etcd", DETCD), link("etcdctl", DETCDCTL));
    let version = run(Command::new(&etcd).arg("--version"), "");
    assert_eq!(version.code, Some(0));
    assert!(version.out.lines().any(|line| line == "etcd Version: 3.7.1"), "{version:?}");
    check_fails(Command::new(&etcd).arg("--nosuch"), 2, "etcd: flag provided but not defined: -nosuch");

    let server = Server::start_as(&etcd, folder.path());
    let put = run(Command::new(&etcdctl).args(["--endpoints", &server.client, "put", "a", "1"]), "");
    assert_eq!((put.code, put.out.as_str()), (Some(0), "OK\n"), "{put:?}");
    server.check("get a", "a\n1\n");
}
