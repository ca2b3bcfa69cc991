//! The format of fields: `"Name" : value`, one a line, strings quoted as Go does.

use std::fmt::Display;

use super::{Answer, RenderError, lease_id};
use crate::ctl::golang::quote;
use crate::proto::etcdserverpb::{self as pb, response_op::Response};
use crate::proto::{EncodedKeyValue, EventType, KeyValue};

/// The answer as fields.
pub fn render(answer: &Answer, hex: bool) -> Result<String, RenderError> {
    let mut page = Page { out: String::new(), hex };
    match answer {
        Answer::Put(response) => page.put(response)?,
        Answer::Get { response, .. } => page.get(response)?,
        Answer::Delete(response) => page.delete(response)?,
        Answer::Txn(response) => page.txn(response)?,
        Answer::Watch(response) => page.watch(response)?,
        Answer::LeaseGrant(pb::LeaseGrantResponse { header, id, ttl, .. })
        | Answer::LeaseKeepAlive(pb::LeaseKeepAliveResponse { header, id, ttl }) => {
            page.header(header);
            page.lease("ID", *id);
            page.field("TTL", ttl);
        }
        Answer::LeaseRevoke { response, .. } => page.header(&response.header),
        Answer::LeaseTimeToLive { response, .. } => {
            page.header(&response.header);
            page.lease("ID", response.id);
            page.field("TTL", response.ttl);
            page.field("GrantedTTL", response.granted_ttl);
            response.keys.iter().for_each(|key| page.field("Key", quote(key)));
        }
        Answer::LeaseList(response) => {
            page.header(&response.header);
            response.leases.iter().for_each(|lease| page.lease("ID", lease.id));
        }
        Answer::MemberList(response) => page.members(response),
        Answer::Alarm(response) => {
            page.header(&response.header);
            for alarm in &response.alarms {
                page.id("MemberID", alarm.member_id);
                page.field("AlarmType", alarm.alarm().as_str_name());
                page.blank();
            }
        }
        Answer::EndpointHealth(endpoints) => {
            for one in endpoints {
                page.text("Endpoint", &one.endpoint);
                page.field("Health", one.error.is_empty());
                page.field("Took", &one.took);
                page.field("Error", &one.error);
                page.blank();
            }
        }
        Answer::EndpointStatus(endpoints) => {
            endpoints.iter().for_each(|(endpoint, status)| page.status(endpoint, status));
        }
        Answer::EndpointHashKv(endpoints) => {
            for (endpoint, hash) in endpoints {
                page.header(&hash.header);
                page.text("Endpoint", endpoint);
                page.field("Hash", hash.hash);
                page.field("HashRevision", hash.hash_revision);
                page.blank();
            }
        }
        Answer::MoveLeader { .. } => return Err(RenderError::Unsupported),
    }
    Ok(page.out)
}

struct Page {
    out: String,
    hex: bool,
}

impl Page {
    fn field(&mut self, name: &str, value: impl Display) {
        self.out.push_str(&format!("\"{name}\" : {value}\n"));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.field(name, quote(value.as_bytes()));
    }

    fn blank(&mut self) {
        self.out.push('\n');
    }

    /// The id of a member or a cluster.
    fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    fn lease(&mut self, name: &str, id: i64) {
        if self.hex { self.field(name, lease_id(id)) } else { self.field(name, id) }
    }

    fn header(&mut self, header: &Option<pb::ResponseHeader>) {
        let header = header.unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        // Answers that are not about keys carry no revision.
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    fn key_value(&mut self, prefix: &str, kv: &KeyValue) {
        self.field(&format!("{prefix}Key"), quote(&kv.key));
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.field(&format!("{prefix}Value"), quote(&kv.value));
        self.lease(&format!("{prefix}Lease"), kv.lease);
    }

    fn put(&mut self, response: &pb::PutResponse) -> Result<(), RenderError> {
        self.header(&response.header);
        if let Some(previous) = &response.prev_kv {
            self.key_value("Prev", &previous.decode()?);
        }
        Ok(())
    }

    fn get(&mut self, response: &pb::RangeResponse) -> Result<(), RenderError> {
        self.header(&response.header);
        super::decode_all(&response.kvs)?.iter().for_each(|kv| self.key_value("", kv));
        self.field("More", response.more);
        self.field("Count", response.count);
        Ok(())
    }

    fn delete(&mut self, response: &pb::DeleteRangeResponse) -> Result<(), RenderError> {
        self.header(&response.header);
        self.field("Deleted", response.deleted);
        super::decode_all(&response.prev_kvs)?.iter().for_each(|kv| self.key_value("Prev", kv));
        Ok(())
    }

    fn txn(&mut self, response: &pb::TxnResponse) -> Result<(), RenderError> {
        self.header(&response.header);
        self.field("Succeeded", response.succeeded);
        for operation in &response.responses {
            match &operation.response {
                Some(Response::ResponsePut(put)) => self.put(put)?,
                Some(Response::ResponseRange(range)) => self.get(range)?,
                Some(Response::ResponseDeleteRange(delete)) => self.delete(delete)?,
                // The tool sends no nested transactions, so none are answered.
                Some(Response::ResponseTxn(_)) | None => self.text("Unknown", "unexpected response"),
            }
        }
        Ok(())
    }

    fn watch(&mut self, response: &pb::WatchResponse) -> Result<(), RenderError> {
        self.header(&response.header);
        for event in &response.events {
            let event = event.decode()?;
            self.field("Type", if event.r#type() == EventType::Put { "PUT" } else { "DELETE" });
            if let Some(previous) = &event.prev_kv {
                self.key_value("Prev", &previous.decode()?);
            }
            let kv = event.kv.as_ref().map(EncodedKeyValue::decode).transpose()?.unwrap_or_default();
            self.key_value("", &kv);
        }
        Ok(())
    }

    fn members(&mut self, response: &pb::MemberListResponse) {
        self.header(&response.header);
        for member in &response.members {
            self.id("ID", member.id);
            self.text("Name", &member.name);
            member.peer_ur_ls.iter().for_each(|url| self.text("PeerURL", url));
            member.client_ur_ls.iter().for_each(|url| self.text("ClientURL", url));
            self.field("IsLearner", member.is_learner);
            self.blank();
        }
    }

    fn status(&mut self, endpoint: &str, status: &pb::StatusResponse) {
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        self.header(&status.header);
        self.text("Version", &status.version);
        self.text("StorageVersion", &status.storage_version);
        self.field("DBSize", status.db_size);
        self.field("DBSizeInUse", status.db_size_in_use);
        self.field("DBSizeQuota", status.db_size_quota);
        self.field("Leader", status.leader);
        self.field("IsLearner", status.is_learner);
        self.field("RaftIndex", status.raft_index);
        self.field("RaftTerm", status.raft_term);
        self.field("RaftAppliedIndex", status.raft_applied_index);
        self.field("Errors", format_args!("[{}]", status.errors.join(" ")));
        self.text("Endpoint", endpoint);
        self.text("DowngradeTargetVersion", &downgrade.target_version);
        self.field("DowngradeEnabled", downgrade.enabled);
        self.blank();
    }
}
