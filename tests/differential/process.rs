//! Server processes of either kind, with data folders and ports of their own.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
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

/// A member of a cluster: a process that ends when this is dropped.
pub struct Server {
    kind: Kind,
    arguments: Vec<String>,
    /// Of the whole cluster.
    folder: Arc<TempDir>,
    log: PathBuf,
    client: String,
    peer: String,
    process: Option<Child>,
}

impl Server {
    /// Starts a cluster of one new member, with more flags if there are any.
    pub async fn start(kind: Kind, flags: &[&str]) -> Self {
        Self::start_cluster(kind, 1, flags).await.pop().expect("one member")
    }

    /// Starts new members on empty folders and waits until each answers a linearizable read.
    pub async fn start_cluster(kind: Kind, size: usize, flags: &[&str]) -> Vec<Self> {
        for _ in 0..10 {
            let mut members = Self::lay_out(kind, size, flags);
            match Self::serve(&mut members).await {
                Ok(()) => return members,
                // Somebody was faster to take a port.
                Err(log) if log.contains("address already in use") => {}
                Err(log) => panic!("{kind:?} does not serve:\n{log}"),
            }
        }
        panic!("no free ports")
    }

    /// The members of a cluster that was never started.
    fn lay_out(kind: Kind, size: usize, flags: &[&str]) -> Vec<Self> {
        let folder = Arc::new(tempfile::tempdir().expect("a folder for the data"));
        let (clients, peers) = (free_addresses(size), free_addresses(size));
        let names: Vec<String> = (1..=size).map(|number| format!("m{number}")).collect();
        let cluster: Vec<String> =
            names.iter().zip(&peers).map(|(name, peer)| format!("{name}=http://{peer}")).collect();
        let member = |number: usize| {
            let (name, client, peer) = (&names[number], &clients[number], &peers[number]);
            let pairs = [
                ("--name", name.clone()),
                ("--log-level", "warn".to_owned()),
                ("--data-dir", folder.path().join(name).display().to_string()),
                ("--listen-client-urls", format!("http://{client}")),
                ("--advertise-client-urls", format!("http://{client}")),
                ("--listen-peer-urls", format!("http://{peer}")),
                ("--initial-advertise-peer-urls", format!("http://{peer}")),
                ("--initial-cluster", cluster.join(",")),
            ];
            let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
            Self {
                kind,
                arguments: pairs.chain(flags.iter().map(|&flag| flag.to_owned())).collect(),
                folder: folder.clone(),
                log: folder.path().join(format!("{name}.log")),
                client: client.clone(),
                peer: peer.clone(),
                process: None,
            }
        };
        (0..size).map(member).collect()
    }

    async fn serve(members: &mut [Self]) -> Result<(), String> {
        for member in &mut *members {
            member.spawn();
        }
        for member in members {
            member.wait_ready().await?;
        }
        Ok(())
    }

    fn spawn(&mut self) {
        let program = self.kind.program();
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let process = Command::new(&program)
            .args(&self.arguments)
            // A setting of the caller's environment must not reach one of the two.
            .env_clear()
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap_or_else(|error| panic!("{}: {error}", program.display())));
    }

    /// Ends the process as a power cut of this process alone would.
    pub fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself: then there is nothing to do, and nobody to tell.
            let _ = process.kill();
            let _ = process.wait();
        }
        self.process = None;
    }

    /// Starts the process again on the data that it has.
    pub async fn restart(&mut self) {
        self.kill();
        Self::serve(std::slice::from_mut(self))
            .await
            .unwrap_or_else(|log| panic!("it does not come back:\n{log}"));
    }

    /// Where it serves clients.
    pub fn address(&self) -> &str {
        &self.client
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
            let ended = self.process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if ended || begun.elapsed() > READY_TIMEOUT {
                let log = std::fs::read(&self.log).expect("a log");
                return Err(String::from_utf8_lossy(&log).into_owned());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Addresses that nobody listens on and that this process has not given out before.
fn free_addresses(count: usize) -> Vec<String> {
    static GIVEN_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given_out = GIVEN_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    // Held until all are found, so that none is found twice.
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    while addresses.len() < count {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        if given_out.insert(address.port()) {
            addresses.push(address.to_string());
        }
        listeners.push(listener);
    }
    addresses
}
