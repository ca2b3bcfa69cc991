//! A cluster of server processes, of either kind: found, started, restarted and always stopped.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use detcd::client::{self, Channel, Endpoint};
use detcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use detcd::proto::etcdserverpb::{RangeRequest, StatusRequest};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Memory, Usage, disk_usage};
use crate::{Failure, wire};

/// Where servers listen. Outgoing connections come from 127.0.0.1, so none of them can take the port
/// of a member that is down.
const HOST: &str = "127.0.0.2";

/// A cluster that does not answer after this time never will.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A member that has not ended this long after SIGTERM is reported, and killed at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a starting member is asked: often enough for restart times of a few ten milliseconds.
const POLL: Duration = Duration::from_millis(2);

/// A server program.
#[derive(Clone, Debug)]
pub struct Program {
    /// `etcd` or `detcd`.
    pub label: &'static str,
    pub path: PathBuf,
    /// The first line of what `--version` prints.
    pub version: String,
}

/// Running members with data folders of their own.
#[derive(Debug)]
pub struct Cluster {
    /// The member that was elected at the start comes first.
    members: Vec<Member>,
    dir: PathBuf,
}

#[derive(Debug)]
struct Member {
    name: String,
    client_address: String,
    command: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

impl Program {
    /// Asks the program for its version, which also shows that it can be run.
    pub fn find(label: &'static str, path: PathBuf) -> Result<Self, Failure> {
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .map_err(|error| format!("cannot run {label} ({}): {error}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next().unwrap_or("unknown").trim().to_owned();
        Ok(Self { label, path, version })
    }
}

impl Cluster {
    /// Starts `size` members with data below `dir` and waits until each answers a linearizable read.
    pub async fn start(program: &Program, size: usize, dir: PathBuf, quota: u64) -> Result<Self, Failure> {
        let mut cluster = Self { members: Member::lay_out(program, size, &dir, quota)?, dir };
        for member in &mut cluster.members {
            member.spawn()?;
        }
        cluster.wait_ready().await?;
        let leader = cluster.leader().await?;
        cluster.members.rotate_left(leader);
        Ok(cluster)
    }

    /// Connections, one to a channel, to the members in turn, the leader first: with a single client it
    /// must not be luck whether its requests are forwarded.
    pub fn channels(&self, count: usize) -> Result<Vec<Channel>, Failure> {
        self.members.iter().cycle().take(count).map(Member::channel).collect()
    }

    /// Ends all members in order and starts them again. The time is from the start of the first process
    /// until every member has answered a linearizable read.
    pub async fn restart(&mut self) -> Result<Duration, Failure> {
        for member in &mut self.members {
            member.stop().await?;
        }
        let started = Instant::now();
        for member in &mut self.members {
            member.spawn()?;
        }
        self.wait_ready().await?;
        Ok(started.elapsed())
    }

    /// What the processes have used since they were started, together.
    pub fn usage(&self) -> Result<Usage, Failure> {
        self.members.iter().try_fold(Usage::default(), |sum, member| Ok(sum.plus(Usage::of(&member.id()?)?)))
    }

    /// What the processes hold, together.
    pub fn memory(&self) -> Result<Memory, Failure> {
        self.members
            .iter()
            .try_fold(Memory::default(), |sum, member| Ok(sum.plus(Memory::of(&member.id()?)?)))
    }

    /// Bytes of disk in use by all members.
    pub fn disk_usage(&self) -> Result<u64, Failure> {
        Ok(disk_usage(&self.dir)?)
    }

    /// The place of the leader among the members.
    async fn leader(&self) -> Result<usize, Failure> {
        for (place, member) in self.members.iter().enumerate() {
            let mut client = MaintenanceClient::new(member.channel()?);
            let status = client.status(StatusRequest::default()).await?.into_inner();
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(place);
            }
        }
        Err("no member is the leader".into())
    }

    async fn wait_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_TIMEOUT;
        for member in &mut self.members {
            member.wait_ready(deadline).await?;
        }
        Ok(())
    }
}

impl Member {
    /// The members of a cluster that was never started.
    fn lay_out(program: &Program, size: usize, dir: &Path, quota: u64) -> Result<Vec<Self>, Failure> {
        fs::create_dir_all(dir)?;
        // All are held until all are found, so that none is found twice.
        let listeners = (0..2 * size).map(|_| TcpListener::bind((HOST, 0))).collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.to_string()))
            .collect::<Result<Vec<_>, Failure>>()?;
        let (clients, peers) = addresses.split_at(size);
        let names: Vec<String> = (1..=size).map(|number| format!("m{number}")).collect();
        let initial: Vec<String> =
            names.iter().zip(peers).map(|(name, peer)| format!("{name}=http://{peer}")).collect();

        let member = |place: usize| {
            let (name, client, peer) = (&names[place], &clients[place], &peers[place]);
            let flags = [
                ("--name", name.clone()),
                ("--data-dir", dir.join(name).display().to_string()),
                ("--listen-client-urls", format!("http://{client}")),
                ("--advertise-client-urls", format!("http://{client}")),
                ("--listen-peer-urls", format!("http://{peer}")),
                ("--initial-advertise-peer-urls", format!("http://{peer}")),
                ("--initial-cluster", initial.join(",")),
                ("--quota-backend-bytes", quota.to_string()),
                ("--log-level", "error".to_owned()),
            ];
            Self {
                name: name.clone(),
                client_address: client.clone(),
                command: program.path.clone(),
                arguments: flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect(),
                log: dir.join(format!("{name}.log")),
                process: None,
            }
        };
        Ok((0..size).map(member).collect())
    }

    fn spawn(&mut self) -> Result<(), Failure> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let process = Command::new(&self.command)
            .args(&self.arguments)
            // A setting of the caller's environment must not reach one of the two.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends the process in order.
    async fn stop(&mut self) -> Result<(), Failure> {
        let Some(process) = &mut self.process else { return Ok(()) };
        kill_process(Pid::from_child(process), Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(format!("{} runs on after SIGTERM", self.name).into());
            }
            tokio::time::sleep(POLL).await;
        }
        self.process = None;
        Ok(())
    }

    async fn wait_ready(&mut self, deadline: Instant) -> Result<(), Failure> {
        let mut channel = self.channel()?;
        let question = wire::frame(&RangeRequest { key: Bytes::from_static(b"ready"), ..Default::default() });
        loop {
            let answer = wire::call_for_size(&mut channel, wire::RANGE, question.clone());
            let failure = match tokio::time::timeout(Duration::from_secs(5), answer).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(status)) => status.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            let ended = self.process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                return Err(self.failure(if ended { "it ended" } else { &failure }));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn channel(&self) -> Result<Channel, Failure> {
        let endpoint: Endpoint = self.client_address.parse()?;
        // No probes: a round must hold nothing but its requests.
        let options = client::Options { keep_alive_interval: None, ..client::Options::default() };
        Ok(Channel::new(vec![endpoint], options))
    }

    fn id(&self) -> Result<String, Failure> {
        let process = self.process.as_ref().ok_or_else(|| format!("{} is not running", self.name))?;
        Ok(process.id().to_string())
    }

    /// Why the member does not serve, with the end of its log.
    fn failure(&self, reason: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(5)..].join("\n  ");
        format!("{} of {} does not serve: {reason}\n  {end}", self.name, self.command.display()).into()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself: then there is nothing to do, and nobody to tell.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
