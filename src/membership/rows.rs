//! Membership in the database: one row a member, one a removed id, one for the cluster's version and one
//! for its id.

use bytes::Bytes;
use prost::Message;

use super::{Member, Membership};
use crate::proto::membershippb;
use crate::types::backend::Table;
use crate::types::{ClusterId, LocalFault, MemberId};

/// Row of [`Table::Meta`] that holds the cluster id, as u64 big endian.
const CLUSTER_ID: &[u8] = b"cluster_id";
/// Row of [`Table::Cluster`] that holds the cluster version, as text.
const CLUSTER_VERSION: &[u8] = b"clusterVersion";

/// The rows that a membership is restored from. Rows of other rooms among them are ignored.
#[derive(Clone, Debug, Default)]
pub struct MembershipRows {
    /// Those of [`Table::Meta`].
    pub meta: Vec<(Bytes, Bytes)>,
    /// Those of [`Table::Members`].
    pub members: Vec<(Bytes, Bytes)>,
    /// Those of [`Table::MembersRemoved`].
    pub removed: Vec<(Bytes, Bytes)>,
    /// Those of [`Table::Cluster`].
    pub cluster: Vec<(Bytes, Bytes)>,
}

impl Membership {
    /// The membership that the rows describe; none in a database that never had one.
    ///
    /// # Errors
    /// When a row is not what this module wrote, or members are there without a cluster id.
    pub fn restore(rows: MembershipRows) -> Result<Option<Self>, LocalFault> {
        let Some((_, value)) = rows.meta.into_iter().find(|(key, _)| key == CLUSTER_ID) else {
            if rows.members.is_empty() && rows.removed.is_empty() {
                return Ok(None);
            }
            return Err(LocalFault::new("member tables: there are members, but no cluster id"));
        };
        let mut membership = Self::without_rows(ClusterId(read_u64("cluster id", &value)?));
        for (key, value) in rows.members {
            let member = read_member(&key, value)?;
            membership.members.insert(member.id, member);
        }
        for (key, _) in rows.removed {
            let id = MemberId(read_u64("removed member", &key)?);
            if membership.members.contains_key(&id) {
                return Err(LocalFault::new(format!("member tables: member {id} is there and removed")));
            }
            membership.removed.insert(id);
        }
        if let Some((_, value)) = rows.cluster.into_iter().find(|(key, _)| key == CLUSTER_VERSION) {
            let version = String::from_utf8(value.into())
                .map_err(|error| LocalFault::new(format!("member tables: cluster version: {error}")))?;
            membership.cluster_version = Some(version);
        }
        Ok(Some(membership))
    }
}

pub(super) fn of_cluster_id(id: ClusterId) -> (Table, Bytes, Option<Bytes>) {
    (Table::Meta, Bytes::from_static(CLUSTER_ID), Some(u64_bytes(id.0)))
}

pub(super) fn of_cluster_version(version: &str) -> (Table, Bytes, Option<Bytes>) {
    let value = Bytes::copy_from_slice(version.as_bytes());
    (Table::Cluster, Bytes::from_static(CLUSTER_VERSION), Some(value))
}

pub(super) fn of_member(member: &Member) -> (Table, Bytes, Option<Bytes>) {
    let row = membershippb::Member {
        id: member.id.0,
        raft_attributes: Some(membershippb::RaftAttributes {
            peer_urls: member.peer_urls.clone(),
            is_learner: member.is_learner,
        }),
        member_attributes: Some(membershippb::Attributes {
            name: member.name.clone(),
            client_urls: member.client_urls.clone(),
        }),
    };
    (Table::Members, u64_bytes(member.id.0), Some(row.encode_to_vec().into()))
}

pub(super) fn of_removal(id: MemberId) -> [(Table, Bytes, Option<Bytes>); 2] {
    let key = u64_bytes(id.0);
    [(Table::Members, key.clone(), None), (Table::MembersRemoved, key, Some(Bytes::new()))]
}

fn u64_bytes(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn read_u64(what: &str, bytes: &Bytes) -> Result<u64, LocalFault> {
    let number = bytes.as_ref().try_into().map(u64::from_be_bytes);
    number.map_err(|_| LocalFault::new(format!("member tables: {what} {bytes:02x?} is not eight bytes")))
}

fn read_member(key: &Bytes, value: Bytes) -> Result<Member, LocalFault> {
    let id = read_u64("member", key)?;
    let fault = |why: &str| LocalFault::new(format!("member tables: member {id:x}: {why}"));
    let row = membershippb::Member::decode(value).map_err(|error| fault(&error.to_string()))?;
    if row.id != id || id == 0 {
        return Err(fault(&format!("the row holds id {:x}", row.id)));
    }
    let raft = row.raft_attributes.unwrap_or_default();
    let own = row.member_attributes.unwrap_or_default();
    Ok(Member {
        id: MemberId(id),
        peer_urls: raft.peer_urls,
        is_learner: raft.is_learner,
        name: own.name,
        client_urls: own.client_urls,
    })
}
