//! The format for people: keys and values as they are, sentences for the rest.

use super::{Answer, EndpointHealth, RenderError, lease_id, table};
use crate::proto::etcdserverpb::{self as pb, response_op::Response};
use crate::proto::{EncodedKeyValue, EventType, KeyValue};

/// The answer for people. Endpoints that are not healthy are left out: see [`unhealthy`].
pub fn render(answer: &Answer, hex: bool) -> Result<Vec<u8>, RenderError> {
    let mut page = Page { out: Vec::new(), hex };
    match answer {
        Answer::Put(response) => page.put(response)?,
        Answer::Get { response, values_only } => page.get(response, *values_only)?,
        Answer::Delete(response) => page.delete(response)?,
        Answer::Txn(response) => page.txn(response)?,
        Answer::Watch(response) => page.watch(response)?,
        Answer::LeaseGrant(pb::LeaseGrantResponse { id, ttl, .. }) => {
            page.line(format!("lease {} granted with TTL({ttl}s)", lease_id(*id)));
        }
        Answer::LeaseRevoke { id, .. } => page.line(format!("lease {} revoked", lease_id(*id))),
        Answer::LeaseKeepAlive(pb::LeaseKeepAliveResponse { id, ttl, .. }) => {
            page.line(format!("lease {} keepalived with TTL({ttl})", lease_id(*id)));
        }
        Answer::LeaseTimeToLive { response, keys } => page.time_to_live(response, *keys),
        Answer::LeaseList(response) => {
            page.line(format!("found {} leases", response.leases.len()));
            response.leases.iter().for_each(|lease| page.line(lease_id(lease.id)));
        }
        Answer::Alarm(response) => {
            for alarm in &response.alarms {
                page.line(alarm_text(alarm));
            }
        }
        Answer::MoveLeader { from, to, .. } => {
            page.line(format!("Leadership transferred from {from:x} to {to:x}"));
        }
        Answer::EndpointHealth(endpoints) => {
            for EndpointHealth { endpoint, took, .. } in endpoints.iter().filter(|one| one.error.is_empty()) {
                let what = "is healthy: successfully committed proposal";
                page.line(format!("{endpoint} {what}: took = {took}"));
            }
        }
        Answer::MemberList(_) | Answer::EndpointStatus(_) | Answer::EndpointHashKv(_) => {
            let (_, rows) = table::content(answer).ok_or(RenderError::Unsupported)?;
            rows.iter().for_each(|row| page.line(row.join(", ")));
        }
    }
    Ok(page.out)
}

/// What goes to standard error about the endpoints that are not healthy.
pub fn unhealthy(endpoints: &[EndpointHealth]) -> String {
    let ill = endpoints.iter().filter(|one| !one.error.is_empty());
    ill.map(|EndpointHealth { endpoint, error, .. }| {
        format!("{endpoint} is unhealthy: failed to commit proposal: {error}\n")
    })
    .collect()
}

/// An alarm in Go's text form of a message, which leaves out zero fields.
fn alarm_text(alarm: &pb::AlarmMember) -> String {
    let member = (alarm.member_id != 0).then(|| format!("memberID:{}", alarm.member_id));
    let kind = (alarm.alarm != 0).then(|| format!("alarm:{}", alarm.alarm().as_str_name()));
    member.into_iter().chain(kind).collect::<Vec<_>>().join(" ")
}

struct Page {
    out: Vec<u8>,
    hex: bool,
}

impl Page {
    fn line(&mut self, text: impl AsRef<[u8]>) {
        self.out.extend_from_slice(text.as_ref());
        self.out.push(b'\n');
    }

    /// A key or a value.
    fn bytes(&mut self, bytes: &[u8]) {
        if self.hex {
            self.line(bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
        } else {
            self.line(bytes);
        }
    }

    fn key_value(&mut self, kv: &KeyValue) {
        self.bytes(&kv.key);
        self.bytes(&kv.value);
    }

    fn put(&mut self, response: &pb::PutResponse) -> Result<(), RenderError> {
        self.line("OK");
        if let Some(previous) = &response.prev_kv {
            self.key_value(&previous.decode()?);
        }
        Ok(())
    }

    fn get(&mut self, response: &pb::RangeResponse, values_only: bool) -> Result<(), RenderError> {
        for kv in super::decode_all(&response.kvs)? {
            if values_only {
                self.bytes(&kv.value);
            } else {
                self.key_value(&kv);
            }
        }
        Ok(())
    }

    fn delete(&mut self, response: &pb::DeleteRangeResponse) -> Result<(), RenderError> {
        self.line(response.deleted.to_string());
        super::decode_all(&response.prev_kvs)?.iter().for_each(|kv| self.key_value(kv));
        Ok(())
    }

    fn txn(&mut self, response: &pb::TxnResponse) -> Result<(), RenderError> {
        self.line(if response.succeeded { "SUCCESS" } else { "FAILURE" });
        for operation in &response.responses {
            self.line("");
            match &operation.response {
                Some(Response::ResponsePut(put)) => self.put(put)?,
                Some(Response::ResponseRange(range)) => self.get(range, false)?,
                Some(Response::ResponseDeleteRange(delete)) => self.delete(delete)?,
                // The tool sends no nested transactions, so none are answered.
                Some(Response::ResponseTxn(_)) | None => self.line("unexpected response"),
            }
        }
        Ok(())
    }

    fn watch(&mut self, response: &pb::WatchResponse) -> Result<(), RenderError> {
        for event in &response.events {
            let event = event.decode()?;
            self.line(if event.r#type() == EventType::Put { "PUT" } else { "DELETE" });
            if let Some(previous) = &event.prev_kv {
                self.key_value(&previous.decode()?);
            }
            let kv = event.kv.as_ref().map(EncodedKeyValue::decode).transpose()?.unwrap_or_default();
            self.key_value(&kv);
        }
        Ok(())
    }

    fn time_to_live(&mut self, response: &pb::LeaseTimeToLiveResponse, keys: bool) {
        let id = lease_id(response.id);
        if response.granted_ttl == 0 && response.ttl == -1 {
            return self.line(format!("lease {id} already expired"));
        }
        let (granted, remaining) = (response.granted_ttl, response.ttl);
        let mut text =
            format!("lease {id} granted with TTL({granted}s), remaining({remaining}s)").into_bytes();
        if keys {
            text.extend_from_slice(b", attached keys([");
            text.extend_from_slice(&response.keys.join(&b' '));
            text.extend_from_slice(b"])");
        }
        self.line(text);
    }
}
