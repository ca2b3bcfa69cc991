//! The message as it is on the wire, without a separator.
//!
//! etcdctl's client unpacks the answers about leases into structs of its own, of which only the header is
//! still a message; so that is all it prints of them, and so do we.

use prost::Message;

use super::{Answer, RenderError};
use crate::proto::etcdserverpb as pb;

/// The answer's message.
pub fn render(answer: &Answer) -> Result<Vec<u8>, RenderError> {
    let header = |header: &Option<pb::ResponseHeader>| header.unwrap_or_default().encode_to_vec();
    Ok(match answer {
        Answer::Put(response) => response.encode_to_vec(),
        Answer::Get { response, .. } => response.encode_to_vec(),
        Answer::Delete(response) => response.encode_to_vec(),
        Answer::Txn(response) => response.encode_to_vec(),
        Answer::Watch(response) => {
            // Which watcher it is, and why it was cancelled, are not passed on either.
            let shown = pb::WatchResponse { watch_id: 0, cancel_reason: String::new(), ..response.clone() };
            shown.encode_to_vec()
        }
        Answer::LeaseGrant(response) => header(&response.header),
        Answer::LeaseKeepAlive(response) => header(&response.header),
        Answer::LeaseTimeToLive { response, .. } => header(&response.header),
        Answer::LeaseList(response) => header(&response.header),
        Answer::MemberList(response) => response.encode_to_vec(),
        Answer::Alarm(response) => response.encode_to_vec(),
        Answer::MoveLeader { response, .. } => response.encode_to_vec(),
        Answer::LeaseRevoke { .. }
        | Answer::EndpointHealth(_)
        | Answer::EndpointStatus(_)
        | Answer::EndpointHashKv(_) => return Err(RenderError::Unsupported),
    })
}
