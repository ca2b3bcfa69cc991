//! The gRPC services, one file each: they translate between the wire and the member, and decide nothing.
//!
//! A write goes to the member's loop through the mailbox. A read runs in the request's own task on the
//! view that the member published, after a read index if it must be linearizable.
//!
//! Invariants:
//! - every error that a client sees has etcd's code and text (`types::RequestError`);
//! - a fault of this member's disk is reported to the loop, which stops the member, and never becomes
//!   an answer;
//! - what is not built yet answers `UNIMPLEMENTED` and says so.

mod admit;
mod auth;
mod call_head;
mod cluster;
mod counted;
mod deadline;
mod election;
mod health;
mod instrument;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod messages;
mod observe;
mod range_body;
mod request_body;
mod services;
mod status;
mod stream_end;
mod unbuilt;
mod undecodable;
mod waiting;
mod watch;

use std::time::Duration;

use crate::limits;
use crate::mailbox::Mailbox;
use crate::member::MemberView;
use crate::proto::etcdserverpb as pb;

pub use call_head::check_binary;
pub use instrument::Instrumented;
use kv::RANGE_PATH;
pub use services::{AllServices, Answer};

/// What the services need to answer.
#[derive(Clone)]
pub struct Rpc {
    mailbox: Mailbox,
    max_request_bytes: usize,
    max_txn_ops: usize,
    election_timeout: Duration,
}

/// Bounds of what the services take.
#[derive(Clone, Copy, Debug)]
pub struct RpcConfig {
    /// Largest marshalled request in bytes.
    pub max_request_bytes: usize,
    /// Most operations of a transaction.
    pub max_txn_ops: usize,
    /// One election timeout.
    pub election_timeout: Duration,
}

impl Rpc {
    /// Services that ask through `mailbox`.
    pub fn new(mailbox: Mailbox, config: RpcConfig) -> Self {
        Self {
            mailbox,
            max_request_bytes: config.max_request_bytes,
            max_txn_ops: config.max_txn_ops,
            election_timeout: config.election_timeout,
        }
    }

    /// Largest message that is read, in bytes (etcd: the largest request and 512 KiB).
    pub fn receive_limit(&self) -> usize {
        self.max_request_bytes + limits::GRPC_OVERHEAD_BYTES
    }

    /// The way to the member.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// The header of an answer at `revision`.
    fn header(&self, view: &MemberView, revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: view.status.cluster_id.0,
            member_id: view.status.member_id.0,
            revision,
            raft_term: view.status.term,
        }
    }

    /// Completes the header of an answer that so far holds its revision only.
    fn complete(&self, header: &mut Option<pb::ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header(&self.mailbox.view(), revision));
    }
}
