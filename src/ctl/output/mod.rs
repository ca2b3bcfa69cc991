//! What a command prints: an answer of the cluster in one of etcdctl's five formats.
//!
//! ```text
//!   command ──> Answer ──> render ──┬─ simple     for people
//!                                   ├─ json       Go's structs, not protojson
//!                                   ├─ fields     one "Name" : value a line
//!                                   ├─ table      lists of members and endpoints
//!                                   └─ protobuf   the message itself
//! ```
//!
//! Each format has one file with one `render` over every [`Answer`].
//!
//! Invariants:
//! - rendering is pure: the same answer gives the same bytes, and nothing is printed here;
//! - the bytes are etcdctl 3.7's; the tests hold what it printed.

mod fields;
mod json;
mod protobuf;
mod simple;
mod table;

use prost::DecodeError;

use super::failure::{Exit, Failure};
use crate::proto::EncodedKeyValue;
use crate::proto::etcdserverpb as pb;

pub(super) use simple::unhealthy;

/// A way to print answers (`--write-out`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Simple,
    /// Go's structs as JSON.
    Json,
    /// One field a line.
    Fields,
    /// Boxes.
    Table,
    /// The message as it is on the wire.
    Protobuf,
}

impl Format {
    /// The format's name, as `--write-out` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Simple => "simple",
            Format::Json => "json",
            Format::Fields => "fields",
            Format::Table => "table",
            Format::Protobuf => "protobuf",
        }
    }

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Format::Simple, Format::Json, Format::Fields, Format::Table, Format::Protobuf]
            .into_iter()
            .find(|format| format.name() == name)
    }
}

/// What a command has to show.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `put`.
    Put(pb::PutResponse),
    /// `get`.
    Get {
        /// What was found.
        response: pb::RangeResponse,
        /// Print no keys; simple only.
        values_only: bool,
    },
    /// `del`.
    Delete(pb::DeleteRangeResponse),
    /// `txn`.
    Txn(pb::TxnResponse),
    /// One response of a `watch`.
    Watch(pb::WatchResponse),
    /// `lease grant`.
    LeaseGrant(pb::LeaseGrantResponse),
    /// `lease revoke`.
    LeaseRevoke {
        /// The lease.
        id: i64,
        /// The answer.
        response: pb::LeaseRevokeResponse,
    },
    /// One renewal of `lease keep-alive`.
    LeaseKeepAlive(pb::LeaseKeepAliveResponse),
    /// `lease timetolive`.
    LeaseTimeToLive {
        /// The answer.
        response: pb::LeaseTimeToLiveResponse,
        /// Whether the keys were asked for.
        keys: bool,
    },
    /// `lease list`.
    LeaseList(pb::LeaseLeasesResponse),
    /// `member list`.
    MemberList(pb::MemberListResponse),
    /// `alarm list` and `alarm disarm`.
    Alarm(pb::AlarmResponse),
    /// `move-leader`.
    MoveLeader {
        /// Who led before.
        from: u64,
        /// Who leads now.
        to: u64,
        /// The answer.
        response: pb::MoveLeaderResponse,
    },
    /// `endpoint health`.
    EndpointHealth(Vec<EndpointHealth>),
    /// `endpoint status`: endpoint and its answer.
    EndpointStatus(Vec<(String, pb::StatusResponse)>),
    /// `endpoint hashkv`: endpoint and its answer.
    EndpointHashKv(Vec<(String, pb::HashKvResponse)>),
}

/// The health of one endpoint.
#[derive(Clone, Debug)]
pub struct EndpointHealth {
    /// The endpoint as the user wrote it.
    pub endpoint: String,
    /// How long the check took, as Go writes durations.
    pub took: String,
    /// What is wrong. Empty when it is healthy.
    pub error: String,
}

/// Why an answer cannot be printed.
#[derive(Debug, PartialEq, Eq)]
pub enum RenderError {
    /// The format has no form for this answer.
    Unsupported,
    /// A key-value or event in the answer is not one.
    Malformed(DecodeError),
}

impl From<DecodeError> for RenderError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl RenderError {
    /// The command's failure.
    pub fn failure(self, format: Format) -> Failure {
        match self {
            Self::Unsupported => {
                Failure::new(Exit::BadFeature, format!("{} not supported as output format", format.name()))
            }
            Self::Malformed(error) => Failure::new(Exit::Error, format!("malformed answer: {error}")),
        }
    }
}

/// The bytes to print for `answer`. With `hex`, ids (and simple's keys and values) are hexadecimal.
///
/// # Errors
/// When the format has no form for this answer, or the answer holds garbage.
pub fn render(answer: &Answer, format: Format, hex: bool) -> Result<Vec<u8>, RenderError> {
    match format {
        Format::Simple => simple::render(answer, hex),
        Format::Json => json::render(answer, hex).map(String::into_bytes),
        Format::Fields => fields::render(answer, hex).map(String::into_bytes),
        Format::Table => table::render(answer).map(String::into_bytes),
        Format::Protobuf => protobuf::render(answer),
    }
}

/// The key-values of an answer, decoded.
fn decode_all(kvs: &[EncodedKeyValue]) -> Result<Vec<crate::proto::KeyValue>, DecodeError> {
    kvs.iter().map(EncodedKeyValue::decode).collect()
}

/// A lease id as etcdctl writes it: 16 hex digits, of which a minus takes one.
pub(super) fn lease_id(id: i64) -> String {
    if id < 0 { format!("-{:015x}", id.unsigned_abs()) } else { format!("{id:016x}") }
}

#[cfg(test)]
mod tests;
