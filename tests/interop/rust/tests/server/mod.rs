//! Members that run while a test needs them.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use etcd_client::Client;
use tempfile::TempDir;

/// How long a member may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// One running member, killed when the value is dropped.
pub struct Server {
    process: Child,
    folder: TempDir,
    member: Member,
}

/// How a member is started.
struct Member {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    cluster: String,
}

impl Server {
    /// Starts a member with an empty data folder.
    pub fn start() -> Self {
        let peer = free_address();
        Self::launch("interop".into(), peer, format!("interop=http://{peer}"))
    }

    /// Starts a cluster of three.
    pub fn start_three() -> [Self; 3] {
        let peers = [free_address(), free_address(), free_address()];
        let name = |number: usize| format!("interop{number}");
        let members: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(number, peer)| format!("{}=http://{peer}", name(number)))
            .collect();
        [0, 1, 2].map(|number| Self::launch(name(number), peers[number], members.join(",")))
    }

    fn launch(name: String, peer: SocketAddr, cluster: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let member = Member { name, client: free_address(), peer, cluster };
        Self { process: launch(folder.path(), &member), folder, member }
    }

    /// Kills the member and starts it again on its data.
    pub fn restart(&mut self) {
        self.kill();
        self.process = launch(self.folder.path(), &self.member);
    }

    /// A new connection to the member; waits until it serves.
    pub async fn client(&self) -> Client {
        let mut client = Client::connect([self.client_url()], None).await.unwrap();
        let asked = Instant::now();
        while let Err(error) = client.get("ready", None).await {
            assert!(asked.elapsed() < START_TIMEOUT, "the member does not serve: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        client
    }

    pub fn client_url(&self) -> String {
        format!("http://{}", self.member.client)
    }

    fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(log_file(self.folder.path())).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of the member's log:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

fn launch(folder: &Path, member: &Member) -> Child {
    let Member { name, client, peer, cluster } = member;
    let log = std::fs::File::options().create(true).append(true).open(log_file(folder)).unwrap();
    let mut process = Command::new(binary())
        .args(["--name", name])
        .args(["--data-dir", folder.join("data").to_str().unwrap()])
        .args(["--listen-client-urls", &format!("http://{client}")])
        .args(["--advertise-client-urls", &format!("http://{client}")])
        .args(["--listen-peer-urls", &format!("http://{peer}")])
        .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
        .args(["--initial-cluster", cluster])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let started = Instant::now();
    while TcpStream::connect(client).is_err() {
        if let Some(status) = process.try_wait().unwrap() {
            panic!("the member ended: {status}\n{}", std::fs::read_to_string(log_file(folder)).unwrap());
        }
        if started.elapsed() > START_TIMEOUT {
            let _ = process.kill();
            panic!("the member does not listen");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}

/// `DETCD_BIN`, else this repository's release or debug build.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DETCD_BIN") {
        return path.into();
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target");
    let built = ["release", "debug"].map(|profile| target.join(profile).join("detcd"));
    built.into_iter().find(|path| path.exists()).expect("build detcd or set DETCD_BIN")
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// An address that nobody listens on; no two calls in this process get the same one. The system may offer
/// a port again while the member that it was given to has not bound it yet.
fn free_address() -> SocketAddr {
    static HANDED_OUT: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    loop {
        // Not 127.0.0.1: outgoing connections come from there and could take the port of a member that
        // is down.
        let address = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
        if HANDED_OUT.lock().unwrap().insert(address) {
            return address;
        }
    }
}
