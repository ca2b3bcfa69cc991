//! Where a server is: a host and a port.

use std::fmt;
use std::str::FromStr;

use http::uri::Authority;

/// The address of a server, as operators write it: `host:port` or `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    authority: Authority,
    port: u16,
}

/// Why an endpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The scheme is known, but there is no transport for it.
    #[error("endpoint {endpoint:?}: {scheme} is not supported")]
    Unsupported {
        /// The endpoint as given.
        endpoint: String,
        /// Its scheme.
        scheme: String,
    },
    /// The text is not an address.
    #[error("endpoint {endpoint:?} is not of the form host:port or http://host:port")]
    Malformed {
        /// The endpoint as given.
        endpoint: String,
    },
}

impl Endpoint {
    /// The host: a name or an address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as an HTTP request names them.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed { endpoint: text.to_owned() };
        let address = match text.split_once("://") {
            None if text.starts_with("unix:") => return Err(unsupported(text, "unix")),
            None => text,
            Some(("http", address)) => address,
            Some((scheme @ ("https" | "unix" | "unixs"), _)) => return Err(unsupported(text, scheme)),
            Some(_) => return Err(malformed()),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let authority: Authority = address.parse().map_err(|_| malformed())?;
        let port = authority.port_u16().ok_or_else(malformed)?;
        if authority.host().is_empty() || address.contains('@') {
            return Err(malformed());
        }
        Ok(Self { authority, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

fn unsupported(endpoint: &str, scheme: &str) -> EndpointError {
    EndpointError::Unsupported { endpoint: endpoint.to_owned(), scheme: scheme.to_owned() }
}
