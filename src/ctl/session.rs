//! A command's connection to the cluster: whom to ask, how long, and what to ask again.
//!
//! ```text
//!   read:   ask ── Unavailable ──> pause ──> ask again ... until the time is up
//!   write:  wait until some endpoint takes a connection, then ask exactly once
//! ```
//!
//! Invariant: a request that changes something is sent at most once. Whether one that broke on its way
//! was carried out, nobody knows; the user decides.

use std::future::Future;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use clap::ArgMatches;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use super::environment;
use super::failure::{Exit, Failure};
use super::flags::Settings;
use super::output::{Answer, render};
use crate::client::{Channel, Endpoint};
use crate::proto::etcdserverpb::cluster_client::ClusterClient;
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::lease_client::LeaseClient;
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::proto::etcdserverpb::watch_client::WatchClient;
use crate::rt;

/// Between two attempts to reach the cluster.
pub const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The endpoints of one command and what the options say.
#[derive(Clone, Debug)]
pub struct Session {
    settings: Settings,
    endpoints: Vec<Endpoint>,
    channel: Channel,
}

impl Session {
    /// The session of a command. Nothing is connected yet.
    ///
    /// # Errors
    /// When the options do not fit together, or an endpoint is none.
    pub fn open(matches: &ArgMatches) -> Result<Self, Failure> {
        Self::new(environment::settings(matches)?)
    }

    fn new(settings: Settings) -> Result<Self, Failure> {
        if settings.endpoints.is_empty() {
            return Err(Failure::new(Exit::BadConnection, "etcdclient: no available endpoints"));
        }
        let endpoints: Vec<Endpoint> =
            settings.endpoints.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let channel = Channel::new(endpoints.clone(), settings.connect.clone());
        Ok(Self { settings, endpoints, channel })
    }

    /// The same options with only this endpoint.
    ///
    /// # Errors
    /// When the endpoint is none.
    pub fn at(&self, endpoint: &str) -> Result<Self, Failure> {
        Self::new(Settings { endpoints: vec![endpoint.to_owned()], ..self.settings.clone() })
    }

    /// What the options say.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The time limit of short commands.
    pub fn limit(&self) -> Option<Duration> {
        Some(self.settings.command_timeout)
    }

    /// Sends a request that may be repeated, until it is answered, within `limit` if there is one.
    ///
    /// # Errors
    /// The server's error, or that the time is up.
    pub async fn read<T, F>(&self, limit: Option<Duration>, call: impl Fn(Clients) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        within(limit, async {
            loop {
                match call(self.clients()).await {
                    Err(status) if status.code() == Code::Unavailable => rt::sleep(RETRY_PAUSE).await,
                    Err(status) => return Err(status.into()),
                    Ok(response) => return Ok(response.into_inner()),
                }
            }
        })
        .await
    }

    /// Waits for the cluster, then sends a request once, all within `limit` if there is one.
    ///
    /// # Errors
    /// The server's error, or that the time is up.
    pub async fn write<T, F>(
        &self,
        limit: Option<Duration>,
        call: impl FnOnce(Clients) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        within(limit, async {
            self.reachable().await;
            Ok(call(self.clients()).await?.into_inner())
        })
        .await
    }

    /// Refuses a request that is larger than the options allow. Requests that grow with the user's input
    /// are asked about here, before the transport breaks them off without a good word.
    ///
    /// # Errors
    /// That is the refusal.
    pub fn admit(&self, request: &impl Message) -> Result<(), Failure> {
        let (size, limit) = (request.encoded_len(), self.settings.request_limit);
        if size > limit {
            let text = format!("trying to send message larger than max ({size} vs. {limit})");
            return Err(Status::resource_exhausted(text).into());
        }
        Ok(())
    }

    /// Waits until an endpoint takes connections. The channel cannot tell a request that was never sent
    /// from one that was lost; after this it is hardly ever the former.
    async fn reachable(&self) {
        loop {
            for endpoint in &self.endpoints {
                let connecting = rt::TcpStream::connect((endpoint.host(), endpoint.port()));
                if let Ok(Ok(_)) = rt::timeout(self.settings.connect.connect_timeout, connecting).await {
                    return;
                }
            }
            rt::sleep(RETRY_PAUSE).await;
        }
    }

    /// The services' clients on this session's channel.
    pub fn clients(&self) -> Clients {
        Clients {
            channel: self.channel.clone(),
            request_limit: self.settings.request_limit,
            answer_limit: self.settings.answer_limit,
        }
    }

    /// Prints an answer in the format that was asked for.
    ///
    /// # Errors
    /// When the format has no form for it, or standard output is closed.
    pub fn print(&self, answer: &Answer) -> Result<(), Failure> {
        let format = self.settings.format;
        let bytes = render(answer, format, self.settings.hex).map_err(|error| error.failure(format))?;
        print(&bytes)
    }
}

/// Writes to standard output.
///
/// # Errors
/// When it is closed.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        // Whoever reads has seen enough: that needs no words.
        ErrorKind::BrokenPipe => Failure::new(Exit::Io, ""),
        _ => Failure::new(Exit::Io, error.to_string()),
    })
}

async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match limit {
        None => work.await,
        Some(limit) => rt::timeout(limit, work).await.unwrap_or_else(|_| Err(Failure::deadline())),
    }
}

/// Makes a stream fail when its member loses the leader, instead of going silent.
pub fn require_leader<T>(mut request: Request<T>) -> Request<T> {
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}

/// Makes the clients of the services, with the limits of the options.
#[derive(Clone, Debug)]
pub struct Clients {
    channel: Channel,
    request_limit: usize,
    answer_limit: usize,
}

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $client:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> $client<Channel> {
            $client::new(self.channel.clone())
                .max_encoding_message_size(self.request_limit)
                .max_decoding_message_size(self.answer_limit)
        }
    )*};
}

impl Clients {
    clients! {
        /// The key space.
        kv: KvClient;
        /// Watches.
        watch: WatchClient;
        /// Leases.
        lease: LeaseClient;
        /// Members.
        cluster: ClusterClient;
        /// Upkeep.
        maintenance: MaintenanceClient;
    }
}
