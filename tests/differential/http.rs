//! The same calls over the JSON gateway, one request a connection.
//!
//! A request is written in one of the two spellings that the gateway takes for names. Of an answer the
//! status and the message are compared, as over gRPC, and whether its JSON is the one form that the message
//! has: names as in the protocol, 64-bit numbers as texts, nothing that is zero.

use std::sync::OnceLock;

use bytes::Bytes;
use detcd::proto::{DESCRIPTORS, etcdserverpb as pb, v3electionpb as election, v3lockpb as lock};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::call::{Answer, Call, PATIENCE, message};
use crate::normal::{Identity, Normal};

/// How a call is made over the gateway.
struct Route {
    path: &'static str,
    method: MethodDescriptor,
    request: Vec<u8>,
    read: fn(Bytes, &mut Identity) -> Answer,
}

impl Call {
    /// Makes the call over the gateway at an address; none when the gateway has no such call.
    pub async fn ask_over_http(&self, address: &str, of: &mut Identity) -> Option<Answer> {
        let route = self.route()?;
        let answered = tokio::time::timeout(PATIENCE, post(address, route.path, &route.body())).await;
        Some(match answered {
            Ok(Ok((status, body))) => route.answer(status, &body, of),
            Ok(Err(error)) => Answer::silence(&format!("{}: {error}", route.path)),
            Err(_) => Answer::silence(&format!("no answer from {}", route.path)),
        })
    }

    fn route(&self) -> Option<Route> {
        Some(match self {
            Self::Range(request) => route::<pb::RangeResponse>("/v3/kv/range", "KV", "Range", request),
            Self::Put(request) => route::<pb::PutResponse>("/v3/kv/put", "KV", "Put", request),
            Self::DeleteRange(request) => {
                route::<pb::DeleteRangeResponse>("/v3/kv/deleterange", "KV", "DeleteRange", request)
            }
            Self::Txn(request) => route::<pb::TxnResponse>("/v3/kv/txn", "KV", "Txn", request),
            Self::Compact(request) => {
                route::<pb::CompactionResponse>("/v3/kv/compaction", "KV", "Compact", request)
            }
            Self::LeaseGrant(request) => {
                route::<pb::LeaseGrantResponse>("/v3/lease/grant", "Lease", "LeaseGrant", request)
            }
            Self::LeaseRevoke(request) => {
                route::<pb::LeaseRevokeResponse>("/v3/lease/revoke", "Lease", "LeaseRevoke", request)
            }
            Self::LeaseTimeToLive(request) => route::<pb::LeaseTimeToLiveResponse>(
                "/v3/kv/lease/timetolive",
                "Lease",
                "LeaseTimeToLive",
                request,
            ),
            Self::LeaseLeases => route::<pb::LeaseLeasesResponse>(
                "/v3/lease/leases",
                "Lease",
                "LeaseLeases",
                &pb::LeaseLeasesRequest {},
            ),
            Self::MemberList(request) => {
                route::<pb::MemberListResponse>("/v3/cluster/member/list", "Cluster", "MemberList", request)
            }
            Self::MemberAdd(request) => {
                route::<pb::MemberAddResponse>("/v3/cluster/member/add", "Cluster", "MemberAdd", request)
            }
            Self::MemberRemove(request) => route::<pb::MemberRemoveResponse>(
                "/v3/cluster/member/remove",
                "Cluster",
                "MemberRemove",
                request,
            ),
            Self::Alarm(request) => {
                route::<pb::AlarmResponse>("/v3/maintenance/alarm", "Maintenance", "Alarm", request)
            }
            Self::Status => route::<pb::StatusResponse>(
                "/v3/maintenance/status",
                "Maintenance",
                "Status",
                &pb::StatusRequest {},
            ),
            Self::HashKv(request) => {
                route::<pb::HashKvResponse>("/v3/maintenance/hashkv", "Maintenance", "HashKV", request)
            }
            Self::MoveLeader(request) => route::<pb::MoveLeaderResponse>(
                "/v3/maintenance/transfer-leadership",
                "Maintenance",
                "MoveLeader",
                request,
            ),
            Self::AuthStatus => route::<pb::AuthStatusResponse>(
                "/v3/auth/status",
                "Auth",
                "AuthStatus",
                &pb::AuthStatusRequest {},
            ),
            Self::Lock(request) => route::<lock::LockResponse>("/v3/lock/lock", "Lock", "Lock", request),
            Self::Unlock(key) => {
                let request = lock::UnlockRequest { key: key.clone() };
                route::<lock::UnlockResponse>("/v3/lock/unlock", "Lock", "Unlock", &request)
            }
            Self::Campaign(request) => {
                route::<election::CampaignResponse>("/v3/election/campaign", "Election", "Campaign", request)
            }
            Self::Proclaim(leader, value) => {
                let request = election::ProclaimRequest { leader: leader.clone(), value: value.clone() };
                route::<election::ProclaimResponse>("/v3/election/proclaim", "Election", "Proclaim", &request)
            }
            Self::Resign(leader) => {
                let request = election::ResignRequest { leader: leader.clone() };
                route::<election::ResignResponse>("/v3/election/resign", "Election", "Resign", &request)
            }
            Self::Leader(name) => {
                let request = election::LeaderRequest { name: name.clone() };
                route::<election::LeaderResponse>("/v3/election/leader", "Election", "Leader", &request)
            }
            _ => return None,
        })
    }
}

fn route<A: Normal + Message + Default>(
    path: &'static str,
    service: &str,
    method: &str,
    request: &impl Message,
) -> Route {
    let method = methods().find(|found| {
        let full_name = found.full_name();
        full_name.ends_with(&format!(".{service}.{method}"))
    });
    let read = |bytes: Bytes, of: &mut Identity| message(A::decode(bytes).expect("it was encoded"), of);
    Route { path, method: method.expect("a method"), request: request.encode_to_vec(), read }
}

/// All methods of all services.
fn methods() -> impl Iterator<Item = MethodDescriptor> {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(DESCRIPTORS).expect("descriptors"));
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>())
}

fn json(message: &DynamicMessage, proto_names: bool) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(proto_names);
    message.serialize_with_options(serde_json::value::Serializer, &options).expect("it has a JSON form")
}

fn dynamic(descriptor: MessageDescriptor, json: &Value) -> Result<DynamicMessage, String> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor, json, &options).map_err(|error| error.to_string())
}

impl Route {
    fn body(&self) -> String {
        let request = DynamicMessage::decode(self.method.input(), &self.request[..]).expect("it was encoded");
        // Either spelling, by something that every request has.
        json(&request, self.request.len().is_multiple_of(2)).to_string()
    }

    fn answer(&self, status: u16, body: &[u8], of: &mut Identity) -> Answer {
        let strange = |why: String| Answer {
            lines: vec![format!("HTTP {status}: {why}: {}", of.text(&String::from_utf8_lossy(body)))],
            ..Answer::default()
        };
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(error) => return strange(error.to_string()),
        };
        if status != 200 {
            let lines = vec![format!("HTTP {status}: {}", of.text(&value.to_string()))];
            return Answer { lines, ..Answer::default() };
        }
        match dynamic(self.method.output(), &value) {
            Ok(message) if json(&message, true) == value => {
                let mut answer = (self.read)(message.encode_to_vec().into(), of);
                answer.lines.insert(0, "HTTP 200".to_owned());
                answer
            }
            Ok(_) => strange("another form of the message".to_owned()),
            Err(error) => strange(error),
        }
    }
}

/// Posts JSON; gives the status and the body of the answer.
async fn post(address: &str, path: &str, body: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    parse(&answer).ok_or_else(|| {
        let text = String::from_utf8_lossy(&answer).into_owned();
        std::io::Error::other(format!("no answer of HTTP: {text:?}"))
    })
}

/// Takes an answer apart, whose end is that of the connection or of its last chunk.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut rest = &answer[end + 4..];
    if !head.contains("transfer-encoding: chunked") {
        return Some((status, rest.to_vec()));
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some((status, body));
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
