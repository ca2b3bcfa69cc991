//! The JSON format: the structs of etcd's Go client, field by field, on one line.
//!
//! This is not protojson. Numbers are numbers whatever their size, bytes are base64, zero fields are left
//! out of messages (but not of the client's own structs), enums are numbers. The types here mirror those
//! structs: their fields stand in the order in which they are printed.

mod zero;

use serde::Serialize;
use serde_json::Value;

use self::zero::is_zero;
use super::{Answer, RenderError};
use crate::ctl::golang::base64;
use crate::proto::etcdserverpb::{self as pb, response_op::Response};
use crate::proto::{EncodedEvent, EncodedKeyValue};

/// The answer as one line of JSON. Only members have ids in `hex`.
pub fn render(answer: &Answer, hex: bool) -> Result<String, RenderError> {
    match answer {
        Answer::Put(response) => line(&Put::new(response)?),
        Answer::Get { response, .. } => line(&Range::new(response)?),
        Answer::Delete(response) => line(&Delete::new(response)?),
        Answer::Txn(response) => line(&Txn::new(response)?),
        Answer::Watch(response) => line(&Watch::new(response)?),
        Answer::LeaseGrant(response) => line(&LeaseGrant {
            header: Header::inline(&response.header),
            id: response.id,
            ttl: response.ttl,
            error: &response.error,
        }),
        Answer::LeaseRevoke { response, .. } => line(&Alone { header: Header::new(&response.header) }),
        Answer::LeaseKeepAlive(response) => line(&LeaseKeepAlive {
            header: Header::inline(&response.header),
            id: response.id,
            ttl: response.ttl,
        }),
        Answer::LeaseTimeToLive { response, .. } => line(&TimeToLive {
            header: Header::inline(&response.header),
            id: response.id,
            ttl: response.ttl,
            granted: response.granted_ttl,
            keys: (!response.keys.is_empty()).then(|| response.keys.iter().map(|key| base64(key)).collect()),
        }),
        Answer::LeaseList(response) => line(&Leases {
            header: Header::inline(&response.header),
            leases: response.leases.iter().map(|lease| Lease { id: lease.id }).collect(),
        }),
        Answer::MemberList(response) if hex => line(&Members {
            header: response.header.as_ref().map(HexHeader::new),
            members: response.members.iter().map(HexMember::new).collect(),
        }),
        Answer::MemberList(response) => line(&Members {
            header: Header::new(&response.header),
            members: response.members.iter().map(Member::new).collect(),
        }),
        Answer::Alarm(response) => line(&Alarms {
            header: Header::new(&response.header),
            alarms: response.alarms.iter().map(Alarm::new).collect(),
        }),
        Answer::MoveLeader { response, .. } => line(&Alone { header: Header::new(&response.header) }),
        Answer::EndpointHealth(endpoints) => list(endpoints, |one| Health {
            endpoint: &one.endpoint,
            health: one.error.is_empty(),
            took: &one.took,
            error: &one.error,
        }),
        Answer::EndpointStatus(endpoints) => {
            list(endpoints, |(endpoint, status)| EndpointStatus { endpoint, status: Status::new(status) })
        }
        Answer::EndpointHashKv(endpoints) => list(endpoints, |(endpoint, response)| EndpointHashKv {
            endpoint,
            hash_kv: HashKv {
                header: Header::new(&response.header),
                hash: response.hash,
                compact_revision: response.compact_revision,
                hash_revision: response.hash_revision,
            },
        }),
    }
}

/// Go writes a list without items as null, unless somebody made an empty one.
fn list<'a, T, S: Serialize>(items: &'a [T], show: impl Fn(&'a T) -> S) -> Result<String, RenderError> {
    if items.is_empty() { line(&Value::Null) } else { line(&items.iter().map(show).collect::<Vec<_>>()) }
}

/// One line of JSON. Go escapes what might end a script element; these characters stand in strings only.
fn line(value: &impl Serialize) -> Result<String, RenderError> {
    let json = serde_json::to_string(value).expect("these structs have string keys and cannot fail");
    let mut text = String::with_capacity(json.len() + 1);
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => text.push(character),
        }
    }
    text.push('\n');
    Ok(text)
}

/// Defines structs whose fields are all left out when they are zero, false or empty, as in messages.
macro_rules! messages {
    ($($name:ident $(<$life:lifetime>)? { $($(#[$meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(Serialize)]
        struct $name $(<$life>)? {
            $($(#[$meta])* #[serde(skip_serializing_if = "is_zero")] $field: $type,)*
        }
    )*};
}

messages! {
    Alone { header: Option<Header>, }
    KeyValue {
        key: String,
        create_revision: i64,
        mod_revision: i64,
        version: i64,
        value: String,
        lease: i64,
    }
    Put { header: Option<Header>, prev_kv: Option<KeyValue>, }
    Range { header: Option<Header>, kvs: Vec<KeyValue>, more: bool, count: i64, }
    Delete { header: Option<Header>, deleted: i64, prev_kvs: Vec<KeyValue>, }
    Txn { header: Option<Header>, succeeded: bool, responses: Vec<Operation>, }
    Union {
        response_range: Option<Range>,
        response_put: Option<Put>,
        response_delete_range: Option<Delete>,
        response_txn: Option<Box<Txn>>,
    }
    Event { r#type: i32, kv: Option<KeyValue>, prev_kv: Option<KeyValue>, }
    Member<'a> {
        #[serde(rename = "ID")]
        id: u64,
        name: &'a str,
        #[serde(rename = "peerURLs")]
        peer_urls: &'a [String],
        #[serde(rename = "clientURLs")]
        client_urls: &'a [String],
        #[serde(rename = "isLearner")]
        is_learner: bool,
    }
    Alarms { header: Option<Header>, alarms: Vec<Alarm>, }
    Alarm { #[serde(rename = "memberID")] member_id: u64, alarm: i32, }
    HashKv { header: Option<Header>, hash: u32, compact_revision: i64, hash_revision: i64, }
    Downgrade<'a> {
        enabled: bool,
        #[serde(rename = "targetVersion")]
        target_version: &'a str,
    }
    Status<'a> {
        header: Option<Header>,
        version: &'a str,
        #[serde(rename = "dbSize")]
        db_size: i64,
        leader: u64,
        #[serde(rename = "raftIndex")]
        raft_index: u64,
        #[serde(rename = "raftTerm")]
        raft_term: u64,
        #[serde(rename = "raftAppliedIndex")]
        raft_applied_index: u64,
        errors: &'a [String],
        #[serde(rename = "dbSizeInUse")]
        db_size_in_use: i64,
        #[serde(rename = "isLearner")]
        is_learner: bool,
        #[serde(rename = "storageVersion")]
        storage_version: &'a str,
        #[serde(rename = "dbSizeQuota")]
        db_size_quota: i64,
        #[serde(rename = "downgradeInfo")]
        downgrade_info: Option<Downgrade<'a>>,
    }
}

/// The header of every answer.
#[derive(Serialize, Default)]
struct Header {
    #[serde(skip_serializing_if = "is_zero")]
    cluster_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    member_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    raft_term: u64,
}

/// The header with ids in hex, which are always there.
#[derive(Serialize)]
struct HexHeader {
    cluster_id: String,
    member_id: String,
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    raft_term: u64,
}

/// A member with its id in hex.
#[derive(Serialize)]
struct HexMember<'a> {
    #[serde(rename = "ID")]
    id: String,
    #[serde(flatten)]
    rest: Member<'a>,
}

#[derive(Serialize)]
struct Members<H: Serialize, M: Serialize> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<H>,
    members: Vec<M>,
}

#[derive(Serialize)]
struct Operation {
    #[serde(rename = "Response")]
    response: Union,
}

/// The client's own struct for a watch: nothing is left out.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Watch<'a> {
    header: Option<Header>,
    events: Option<Vec<Event>>,
    compact_revision: i64,
    canceled: bool,
    created: bool,
    cancel_reason: &'a str,
}

#[derive(Serialize)]
struct LeaseGrant<'a> {
    #[serde(flatten)]
    header: Header,
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "TTL")]
    ttl: i64,
    #[serde(rename = "Error")]
    error: &'a str,
}

#[derive(Serialize)]
struct LeaseKeepAlive {
    #[serde(flatten)]
    header: Header,
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "TTL")]
    ttl: i64,
}

#[derive(Serialize)]
struct TimeToLive {
    #[serde(flatten)]
    header: Header,
    id: i64,
    ttl: i64,
    #[serde(rename = "granted-ttl")]
    granted: i64,
    keys: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Leases {
    #[serde(flatten)]
    header: Header,
    leases: Vec<Lease>,
}

#[derive(Serialize)]
struct Lease {
    id: i64,
}

#[derive(Serialize)]
struct Health<'a> {
    endpoint: &'a str,
    health: bool,
    took: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointStatus<'a> {
    endpoint: &'a str,
    status: Status<'a>,
}

#[derive(Serialize)]
struct EndpointHashKv<'a> {
    #[serde(rename = "Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "HashKV")]
    hash_kv: HashKv,
}

impl Header {
    fn new(header: &Option<pb::ResponseHeader>) -> Option<Self> {
        header.as_ref().map(|header| Self {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: header.revision,
            raft_term: header.raft_term,
        })
    }

    fn inline(header: &Option<pb::ResponseHeader>) -> Self {
        Self::new(header).unwrap_or_default()
    }
}

impl HexHeader {
    fn new(header: &pb::ResponseHeader) -> Self {
        Self {
            cluster_id: format!("{:x}", header.cluster_id),
            member_id: format!("{:x}", header.member_id),
            revision: header.revision,
            raft_term: header.raft_term,
        }
    }
}

impl<'a> Member<'a> {
    fn new(member: &'a pb::Member) -> Self {
        Self {
            id: member.id,
            name: &member.name,
            peer_urls: &member.peer_ur_ls,
            client_urls: &member.client_ur_ls,
            is_learner: member.is_learner,
        }
    }
}

impl<'a> HexMember<'a> {
    fn new(member: &'a pb::Member) -> Self {
        // Without its number the member's own id is left out.
        Self { id: format!("{:x}", member.id), rest: Member { id: 0, ..Member::new(member) } }
    }
}

impl Alarm {
    fn new(alarm: &pb::AlarmMember) -> Self {
        Self { member_id: alarm.member_id, alarm: alarm.alarm }
    }
}

impl KeyValue {
    fn new(kv: &EncodedKeyValue) -> Result<Self, RenderError> {
        let kv = kv.decode()?;
        Ok(Self {
            key: base64(&kv.key),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: base64(&kv.value),
            lease: kv.lease,
        })
    }

    fn optional(kv: &Option<EncodedKeyValue>) -> Result<Option<Self>, RenderError> {
        kv.as_ref().map(Self::new).transpose()
    }

    fn all(kvs: &[EncodedKeyValue]) -> Result<Vec<Self>, RenderError> {
        kvs.iter().map(Self::new).collect()
    }
}

impl Put {
    fn new(response: &pb::PutResponse) -> Result<Self, RenderError> {
        Ok(Self { header: Header::new(&response.header), prev_kv: KeyValue::optional(&response.prev_kv)? })
    }
}

impl Range {
    fn new(response: &pb::RangeResponse) -> Result<Self, RenderError> {
        Ok(Self {
            header: Header::new(&response.header),
            kvs: KeyValue::all(&response.kvs)?,
            more: response.more,
            count: response.count,
        })
    }
}

impl Delete {
    fn new(response: &pb::DeleteRangeResponse) -> Result<Self, RenderError> {
        Ok(Self {
            header: Header::new(&response.header),
            deleted: response.deleted,
            prev_kvs: KeyValue::all(&response.prev_kvs)?,
        })
    }
}

impl Txn {
    fn new(response: &pb::TxnResponse) -> Result<Self, RenderError> {
        Ok(Self {
            header: Header::new(&response.header),
            succeeded: response.succeeded,
            responses: response.responses.iter().map(Operation::new).collect::<Result<_, _>>()?,
        })
    }
}

impl Operation {
    fn new(operation: &pb::ResponseOp) -> Result<Self, RenderError> {
        let mut response = Union {
            response_range: None,
            response_put: None,
            response_delete_range: None,
            response_txn: None,
        };
        match &operation.response {
            Some(Response::ResponseRange(range)) => response.response_range = Some(Range::new(range)?),
            Some(Response::ResponsePut(put)) => response.response_put = Some(Put::new(put)?),
            Some(Response::ResponseDeleteRange(delete)) => {
                response.response_delete_range = Some(Delete::new(delete)?);
            }
            Some(Response::ResponseTxn(txn)) => response.response_txn = Some(Box::new(Txn::new(txn)?)),
            None => {}
        }
        Ok(Self { response })
    }
}

impl<'a> Watch<'a> {
    fn new(response: &'a pb::WatchResponse) -> Result<Self, RenderError> {
        let events: Vec<Event> = response.events.iter().map(Event::new).collect::<Result<_, _>>()?;
        Ok(Self {
            header: Header::new(&response.header),
            events: (!events.is_empty()).then_some(events),
            compact_revision: response.compact_revision,
            canceled: response.canceled,
            created: response.created,
            cancel_reason: &response.cancel_reason,
        })
    }
}

impl Event {
    fn new(event: &EncodedEvent) -> Result<Self, RenderError> {
        let event = event.decode()?;
        Ok(Self {
            r#type: event.r#type,
            kv: KeyValue::optional(&event.kv)?,
            prev_kv: KeyValue::optional(&event.prev_kv)?,
        })
    }
}

impl<'a> Status<'a> {
    fn new(status: &'a pb::StatusResponse) -> Self {
        Self {
            header: Header::new(&status.header),
            version: &status.version,
            db_size: status.db_size,
            leader: status.leader,
            raft_index: status.raft_index,
            raft_term: status.raft_term,
            raft_applied_index: status.raft_applied_index,
            errors: &status.errors,
            db_size_in_use: status.db_size_in_use,
            is_learner: status.is_learner,
            storage_version: &status.storage_version,
            db_size_quota: status.db_size_quota,
            downgrade_info: status.downgrade_info.as_ref().map(|downgrade| Downgrade {
                enabled: downgrade.enabled,
                target_version: &downgrade.target_version,
            }),
        }
    }
}
