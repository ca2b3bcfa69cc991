//! A server process of either kind, with a data folder and ports of its own.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use detcd::client::{Channel, Options};
use detcd::proto::etcdserverpb::kv_client::KvClient;
use detcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use detcd::proto::etcdserverpb::{RangeRequest, StatusRequest};
use tempfile::TempDir;

use crate::normal::Identity;

/// A server that does not answer after this time never will.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at something that takes a moment.
const PAUSE: Duration = Duration::from_millis(10);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Detcd,
    Etcd,
}

impl Kind {
    /// The program, from the variable that names it.
    fn program(self) -> PathBuf {
        let variable = match self {
            Self::Detcd => "DETCD_BIN",
            Self::Etcd => "ETCD_BIN",
        };
        let path = std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
            panic!("{variable} must name the {self:?} program; .ci/run shows how both are built")
        });
        assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
        path
    }
}

/// A running server of one member. It ends when it is dropped.
pub struct Server {
    process: Child,
    folder: TempDir,
    client: String,
    peer: String,
}

impl Server {
    /// Starts a new member on an empty folder, with more flags if there are any, and waits until it
    /// answers a linearizable read.
    pub async fn start(kind: Kind, flags: &[&str]) -> Self {
        let program = kind.program();
        for _ in 0..10 {
            let folder = tempfile::tempdir().expect("a folder for the data");
            let [client, peer] = free_addresses();
            let process = spawn(&program, folder.path(), [&client, &peer], flags);
            let mut server = Self { process, folder, client, peer };
            match server.wait_ready().await {
                Ok(()) => return server,
                // Somebody was faster to take a port.
                Err(log) if log.contains("address already in use") => {}
                Err(log) => panic!("{kind:?} does not serve:\n{log}"),
            }
        }
        panic!("no free ports")
    }

    /// A new connection.
    pub fn channel(&self) -> Channel {
        // No probes: etcd does not want them.
        let options = Options { keep_alive_interval: None, ..Options::default() };
        Channel::new(vec![self.client.parse().expect("an address")], options)
    }

    /// By what the server is known.
    pub async fn identity(&self) -> Identity {
        let mut client = MaintenanceClient::new(self.channel());
        let status = client.status(StatusRequest {}).await.expect("it is ready").into_inner();
        let header = status.header.expect("a header");
        assert!(header.cluster_id != 0 && header.member_id != 0, "no ids in {header:?}");
        Identity {
            cluster: header.cluster_id,
            member: header.member_id,
            client_url: format!("http://{}", self.client),
            peer_url: format!("http://{}", self.peer),
            ..Identity::default()
        }
    }

    async fn wait_ready(&mut self) -> Result<(), String> {
        let mut client = KvClient::new(self.channel());
        let begun = Instant::now();
        loop {
            let range = RangeRequest { key: "ready".into(), ..RangeRequest::default() };
            if let Ok(Ok(_)) = tokio::time::timeout(READY_TIMEOUT, client.range(range)).await {
                return Ok(());
            }
            let ended = self.process.try_wait().expect("a child").is_some();
            if ended || begun.elapsed() > READY_TIMEOUT {
                let log = std::fs::read(self.folder.path().join("log")).expect("a log");
                return Err(String::from_utf8_lossy(&log).into_owned());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to do, and nobody to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(program: &Path, folder: &Path, [client, peer]: [&str; 2], flags: &[&str]) -> Child {
    let log = File::create(folder.join("log")).expect("a log");
    Command::new(program)
        .args(["--name", "m1", "--log-level", "warn"])
        .args(["--data-dir", &folder.join("data").display().to_string()])
        .args(["--listen-client-urls", &format!("http://{client}")])
        .args(["--advertise-client-urls", &format!("http://{client}")])
        .args(["--listen-peer-urls", &format!("http://{peer}")])
        .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
        .args(["--initial-cluster", &format!("m1=http://{peer}")])
        .args(flags)
        // A setting of the caller's environment must not reach one of the two.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Two addresses that nobody listens on and that this process has not given out before.
fn free_addresses() -> [String; 2] {
    static GIVEN_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given_out = GIVEN_OUT.lock().expect("no test fails while it holds this");
    // Held until all are found, so that none is found twice.
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    while addresses.len() < 2 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        if given_out.insert(address.port()) {
            addresses.push(address.to_string());
        }
        listeners.push(listener);
    }
    addresses.try_into().expect("two addresses")
}
