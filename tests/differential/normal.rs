//! What two servers may say differently about the same thing, made equal. Nothing but this is:
//!
//! - **ids** of the cluster, of the member and of leases that a server chose. One that is not the
//!   server's own stays as it is, and so does 0: only the right id passes for the right one;
//! - **raft's terms and indexes**, of which a start consumes some: only whether there is one is compared;
//! - **sizes** of the database, its **version**, and what is left of a **time** to live;
//! - **blanks** between the words of an error in Status, of which Go prints one or two, by the build;
//! - **addresses** of the servers, which differ for having both on one machine;
//! - **the order** of a lease's keys and of alarms, which etcd takes from hash maps.

use std::fmt::Debug;

use bytes::Bytes;
use detcd::proto::etcdserverpb::response_op::Response;
use detcd::proto::{EncodedEvent, EncodedKeyValue, Event, KeyValue};
use detcd::proto::{etcdserverpb as pb, health, v3electionpb, v3lockpb};
use prost::Message;

/// The id that stands for a server's own cluster or member.
const OWN: u64 = 1;

/// Added to the number of a lease that the server chose. Such an id has 16 digits in hex.
const GIVEN: i64 = 0x6000_0000_0000_0000;

/// Ids below this are from scripts, others were chosen by a server.
const CHOSEN: i64 = 1 << 40;

/// How far a time to live may have run down, in seconds, and count as just begun.
const JUST_BEGUN: i64 = 60;

/// By what a server's own names are known.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub cluster: u64,
    pub member: u64,
    /// Leases whose ids the server chose, in the order in which they came.
    pub given: Vec<i64>,
    pub client_url: String,
    pub peer_url: String,
    /// Records with ids that the server chose are in the history: a hash of it cannot be compared.
    pub hash_differs: bool,
}

impl Identity {
    fn cluster(&self, id: &mut u64) {
        if *id == self.cluster {
            *id = OWN;
        }
    }

    fn member(&self, id: &mut u64) {
        if *id == self.member {
            *id = OWN;
        }
    }

    pub fn header(&self, header: &mut Option<pb::ResponseHeader>) {
        if let Some(header) = header {
            self.cluster(&mut header.cluster_id);
            self.member(&mut header.member_id);
            header.raft_term = header.raft_term.min(1);
        }
    }

    fn lease(&self, id: &mut i64) {
        if let Some(number) = self.given.iter().position(|given| given == id) {
            *id = GIVEN + number as i64;
        }
    }

    /// Takes note of a lease whose id the server chose.
    fn learn(&mut self, id: i64) {
        if id >= CHOSEN && !self.given.contains(&id) {
            self.given.push(id);
        }
    }

    /// A key may end with the id of a lease in hex.
    fn key(&self, key: &Bytes) -> Bytes {
        for (number, given) in self.given.iter().enumerate() {
            let id = format!("{given:x}");
            if let Some(front) = key.strip_suffix(id.as_bytes()) {
                return [front, format!("{:x}", GIVEN + number as i64).as_bytes()].concat().into();
            }
        }
        key.clone()
    }

    fn record(&self, record: &mut EncodedKeyValue) {
        if self.given.is_empty() {
            return;
        }
        // What cannot be decoded stays, and shows as that.
        if let Ok(KeyValue { key, mut lease, .. }) = record.decode() {
            self.lease(&mut lease);
            let plain = record.decode().expect("it was decoded");
            *record = KeyValue { key: self.key(&key), lease, ..plain }.into();
        }
    }

    fn records(&self, records: &mut [EncodedKeyValue]) {
        for record in records {
            self.record(record);
        }
    }

    fn members(&self, members: &mut [pb::Member]) {
        for member in members {
            self.member(&mut member.id);
            for url in member.client_ur_ls.iter_mut().chain(&mut member.peer_ur_ls) {
                *url = self.text(url);
            }
        }
    }

    /// A text that may name the member or its addresses.
    pub fn text(&self, text: &str) -> String {
        text.replace(&self.member.to_string(), "<member>")
            .replace(&format!("{:x}", self.member), "<member>")
            .replace(&self.client_url, "<client URL>")
            .replace(&self.peer_url, "<peer URL>")
    }

    /// One event of a watch.
    pub fn event(&self, event: &EncodedEvent) -> String {
        let Ok(mut event) = Event::decode(event.as_bytes().clone()) else { return format!("{event:?}") };
        for record in event.kv.iter_mut().chain(&mut event.prev_kv) {
            self.record(record);
        }
        format!("{event:?}")
    }
}

/// A message of an answer.
pub trait Normal: Debug {
    /// Takes out what may differ.
    fn normalise(&mut self, of: &mut Identity);

    /// The store's revision, where the answer says it.
    fn revision(&self) -> Option<i64>;
}

/// Messages that have a header, and what is to be done to the rest of each.
macro_rules! normal {
    ($($type:ty, |$this:ident, $of:ident| $body:expr;)*) => {$(
        impl Normal for $type {
            fn normalise(&mut self, $of: &mut Identity) {
                let $this = self;
                $of.header(&mut $this.header);
                $body
            }

            fn revision(&self) -> Option<i64> {
                self.header.as_ref().map(|header| header.revision)
            }
        }
    )*};
}

normal! {
    pb::RangeResponse, |this, of| of.records(&mut this.kvs);
    pb::PutResponse, |this, of| of.records(this.prev_kv.as_mut_slice());
    pb::DeleteRangeResponse, |this, of| of.records(&mut this.prev_kvs);
    pb::TxnResponse, |this, of| operations(&mut this.responses, of);
    pb::CompactionResponse, |_this, _of| ();
    pb::LeaseGrantResponse, |this, of| {
        of.learn(this.id);
        of.lease(&mut this.id);
    };
    pb::LeaseRevokeResponse, |_this, _of| ();
    pb::LeaseKeepAliveResponse, |this, of| of.lease(&mut this.id);
    pb::LeaseTimeToLiveResponse, |this, of| time_to_live(this, of);
    pb::LeaseLeasesResponse, |this, of| this.leases.iter_mut().for_each(|lease| of.lease(&mut lease.id));
    pb::MemberListResponse, |this, of| of.members(&mut this.members);
    pb::MemberAddResponse, |this, of| {
        of.members(&mut this.members);
        of.members(this.member.as_mut_slice());
    };
    pb::MemberRemoveResponse, |this, of| of.members(&mut this.members);
    pb::MemberUpdateResponse, |this, of| of.members(&mut this.members);
    pb::MemberPromoteResponse, |this, of| of.members(&mut this.members);
    pb::AlarmResponse, |this, of| {
        this.alarms.iter_mut().for_each(|alarm| of.member(&mut alarm.member_id));
        this.alarms.sort_by_key(|alarm| (alarm.member_id, alarm.alarm));
    };
    pb::StatusResponse, |this, of| status(this, of);
    pb::HashKvResponse, |this, of| if of.hash_differs { this.hash = 0 };
    pb::HashResponse, |_this, _of| ();
    pb::MoveLeaderResponse, |_this, _of| ();
    pb::AuthStatusResponse, |_this, _of| ();
    v3lockpb::LockResponse, |this, of| {
        of.learn(lease_of(&this.key));
        this.key = of.key(&this.key);
    };
    v3lockpb::UnlockResponse, |_this, _of| ();
    v3electionpb::CampaignResponse, |this, of| if let Some(leader) = &mut this.leader {
        of.learn(leader.lease);
        leader.key = of.key(&leader.key);
        of.lease(&mut leader.lease);
    };
    v3electionpb::ProclaimResponse, |_this, _of| ();
    v3electionpb::LeaderResponse, |this, of| of.records(this.kv.as_mut_slice());
    v3electionpb::ResignResponse, |_this, _of| ();
}

impl Normal for health::HealthCheckResponse {
    fn normalise(&mut self, _: &mut Identity) {}

    fn revision(&self) -> Option<i64> {
        None
    }
}

/// The lease whose id a key in line ends with, 0 if there is none.
fn lease_of(key: &Bytes) -> i64 {
    let text = String::from_utf8_lossy(key);
    text.rsplit('/').next().and_then(|id| i64::from_str_radix(id, 16).ok()).unwrap_or(0)
}

fn operations(responses: &mut [pb::ResponseOp], of: &mut Identity) {
    for operation in responses {
        match &mut operation.response {
            Some(Response::ResponseRange(range)) => range.normalise(of),
            Some(Response::ResponsePut(put)) => put.normalise(of),
            Some(Response::ResponseDeleteRange(delete)) => delete.normalise(of),
            Some(Response::ResponseTxn(txn)) => txn.normalise(of),
            None => {}
        }
    }
}

fn time_to_live(answer: &mut pb::LeaseTimeToLiveResponse, of: &Identity) {
    of.lease(&mut answer.id);
    let run_down = answer.granted_ttl.saturating_sub(answer.ttl);
    if answer.ttl > 0 && (0..=JUST_BEGUN).contains(&run_down) {
        answer.ttl = answer.granted_ttl;
    }
    answer.keys = answer.keys.iter().map(|key| of.key(key)).collect();
    answer.keys.sort();
}

fn status(status: &mut pb::StatusResponse, of: &Identity) {
    of.member(&mut status.leader);
    status.version.clear();
    status.storage_version.clear();
    status.raft_term = status.raft_term.min(1);
    status.raft_index = status.raft_index.min(1);
    status.raft_applied_index = status.raft_applied_index.min(1);
    status.db_size = status.db_size.min(1);
    status.db_size_in_use = status.db_size_in_use.min(1);
    for error in &mut status.errors {
        *error = of.text(error).replace("  ", " ");
    }
    status.errors.sort();
}
