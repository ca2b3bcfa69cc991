//! URLs of members, in parts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::membership;

/// How a URL is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Over TCP.
    Http,
    /// Over TCP with TLS.
    Https,
    /// Over a socket of the file system.
    Unix,
    /// The same with TLS.
    Unixs,
}

/// A URL that is a scheme, a host and a port, nothing else. It displays as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Url {
    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Name or address, IPv6 without its brackets; the path when the scheme is `unix` or `unixs`. It may
    /// be empty.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 for a socket of the file system.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What to bind to listen at this URL. Names other than `localhost` have no such address: they may
    /// mean another one tomorrow.
    pub fn listen_address(&self) -> Option<SocketAddr> {
        if !matches!(self.scheme, Scheme::Http | Scheme::Https) {
            return None;
        }
        let address = match self.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().ok()?,
        };
        Some(SocketAddr::new(address, self.port))
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The member's own rule: what is accepted here must be accepted by the cluster.
        membership::parse_urls([text])?;
        let unreadable = || format!("URL cannot be read: {text}");
        let (scheme, rest) = text.split_once("://").ok_or_else(unreadable)?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            _ => Scheme::Unixs,
        };
        let (host, port) = match scheme {
            Scheme::Http | Scheme::Https => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(unreadable)?;
                let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                (bracketed.unwrap_or(host), port.parse().map_err(|_| unreadable())?)
            }
            Scheme::Unix | Scheme::Unixs => (rest, 0),
        };
        Ok(Self { text: text.to_owned(), scheme, host: host.to_owned(), port })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads URLs with commas between them and drops repetitions. An empty text has none.
pub(super) fn parse_urls(text: &str) -> Result<Vec<Url>, String> {
    let mut urls = Vec::new();
    if text.is_empty() {
        return Ok(urls);
    }
    for url in text.split(',') {
        let url = Url::parse(url.trim())?;
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    Ok(urls)
}

/// The URLs with commas between them.
pub(super) fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}
