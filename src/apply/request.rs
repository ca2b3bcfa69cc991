//! A replicated request, and its form in the log: `InternalRaftRequest`, as etcd writes it.

use bytes::Bytes;
use prost::Message;

use crate::proto::{etcdserverpb as pb, membershippb};
use crate::types::RequestId;

/// Everything that can go through the log as a normal entry.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Command {
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    Alarm(pb::AlarmRequest),
    /// A member tells its name and the addresses where clients find it.
    MemberAttributes(membershippb::ClusterMemberAttrSetRequest),
    /// The version that the whole cluster speaks.
    ClusterVersion(String),
}

/// Writes a command as the payload of an entry.
pub fn encode(id: RequestId, command: Command) -> Bytes {
    let mut request = pb::InternalRaftRequest {
        header: Some(pb::RequestHeader { id: id.0, ..Default::default() }),
        ..Default::default()
    };
    match command {
        Command::Put(put) => request.put = Some(put),
        Command::DeleteRange(delete) => request.delete_range = Some(delete),
        Command::Txn(txn) => request.txn = Some(txn),
        Command::Compact(compaction) => request.compaction = Some(compaction),
        Command::LeaseGrant(grant) => request.lease_grant = Some(grant),
        Command::LeaseRevoke(revoke) => request.lease_revoke = Some(revoke),
        Command::LeaseCheckpoint(checkpoint) => request.lease_checkpoint = Some(checkpoint),
        Command::Alarm(alarm) => request.alarm = Some(alarm),
        Command::MemberAttributes(attributes) => request.cluster_member_attr_set = Some(attributes),
        Command::ClusterVersion(ver) => {
            request.cluster_version_set = Some(membershippb::ClusterVersionSetRequest { ver });
        }
    }
    request.encode_to_vec().into()
}

/// Reads the payload of an entry.
///
/// # Errors
/// A sentence on what is wrong with it.
pub fn decode(data: &Bytes) -> Result<(RequestId, Command), String> {
    let request = pb::InternalRaftRequest::decode(data.clone()).map_err(|error| error.to_string())?;
    let id = RequestId(request.header.as_ref().map_or(request.id, |header| header.id));
    let command = if let Some(put) = request.put {
        Command::Put(put)
    } else if let Some(txn) = request.txn {
        Command::Txn(txn)
    } else if let Some(delete) = request.delete_range {
        Command::DeleteRange(delete)
    } else if let Some(compaction) = request.compaction {
        Command::Compact(compaction)
    } else if let Some(grant) = request.lease_grant {
        Command::LeaseGrant(grant)
    } else if let Some(revoke) = request.lease_revoke {
        Command::LeaseRevoke(revoke)
    } else if let Some(checkpoint) = request.lease_checkpoint {
        Command::LeaseCheckpoint(checkpoint)
    } else if let Some(alarm) = request.alarm {
        Command::Alarm(alarm)
    } else if let Some(attributes) = request.cluster_member_attr_set {
        Command::MemberAttributes(attributes)
    } else if let Some(version) = request.cluster_version_set {
        Command::ClusterVersion(version.ver)
    } else {
        return Err("no request is set".into());
    };
    Ok((id, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_the_log() {
        let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        for command in [Command::Put(put), Command::ClusterVersion("3.7.0".into())] {
            let data = encode(RequestId(7), command.clone());
            assert_eq!(decode(&data), Ok((RequestId(7), command)));
        }
    }

    #[test]
    fn an_entry_without_a_request_is_refused() {
        let empty = pb::InternalRaftRequest { id: 3, ..Default::default() }.encode_to_vec();
        assert!(decode(&empty.into()).is_err());
        assert!(decode(&Bytes::from_static(b"\xff\xff\xff")).is_err());
    }
}
