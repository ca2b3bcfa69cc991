//! What every call passes before its handler: the client's version, the wish for a leader, and what a
//! learner may serve (etcd's interceptors, in their order).

use tonic::Status;
use tonic::metadata::MetadataMap;

use super::Rpc;
use super::status::status;
use crate::types::{MemberId, RequestError};

/// Which members serve a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// Voters only: a learner refuses it.
    Voters,
    /// Every member.
    All,
}

impl Rpc {
    /// Says whether the call may go on to its handler.
    pub(super) fn admit(&self, metadata: &MetadataMap, serves: Serves) -> Result<(), Status> {
        let view = self.mailbox.view();
        if serves == Serves::Voters && view.status.is_learner {
            return Err(status(RequestError::LearnerNotSupported));
        }
        if metadata.get("client-api-version").is_some_and(|version| version.to_str().is_err()) {
            return Err(status(RequestError::InvalidClientApiVersion));
        }
        if requires_leader(metadata) && view.status.leader == MemberId(0) {
            return Err(status(RequestError::NoLeader));
        }
        Ok(())
    }
}

/// Whether the client wants an error rather than silence while nobody leads.
pub(super) fn requires_leader(metadata: &MetadataMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value.as_bytes() == b"true")
}
