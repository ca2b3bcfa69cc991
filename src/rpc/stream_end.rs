//! Why a stream ends that its client would keep open for ever.

use futures::future::BoxFuture;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::Rpc;
use super::admit::requires_leader;
use super::status::status;
use crate::rt;
use crate::types::{MemberId, RequestError};

/// Election timeouts without a leader after which a stream that requires one ends (etcd).
const ELECTIONS_WITHOUT_LEADER: u32 = 3;

impl Rpc {
    /// Waits until this member stops, or has seen no leader for too long for a client that wants one. Gives
    /// what the client is to hear.
    pub(super) fn stream_end(&self, metadata: &MetadataMap) -> BoxFuture<'static, Status> {
        let mut stopping = self.mailbox.stopping();
        let lost = self.leader_lost(metadata);
        Box::pin(async move {
            rt::select! {
                () = stopping.wait() => status(RequestError::Stopped),
                lost = lost => lost,
            }
        })
    }

    /// Waits until no leader was seen for long enough, and for ever if the client does not mind.
    pub(super) fn leader_lost(&self, metadata: &MetadataMap) -> impl Future<Output = Status> + Send + use<> {
        let (rpc, minds) = (self.clone(), requires_leader(metadata));
        async move {
            if !minds {
                return std::future::pending().await;
            }
            let mut missed = 0;
            while missed < ELECTIONS_WITHOUT_LEADER {
                rt::sleep(rpc.election_timeout).await;
                let leads = rpc.mailbox.view().status.leader != MemberId(0);
                missed = if leads { 0 } else { missed + 1 };
            }
            status(RequestError::NoLeader)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mailbox::{MailboxReceiver, mailbox};
    use crate::metrics::testing;
    use crate::rpc::RpcConfig;

    /// Services whose election timeout is this, of a member that sees no leader.
    fn leaderless(election_timeout: Duration) -> (Rpc, MailboxReceiver) {
        let mut view = testing::view();
        view.status.leader = MemberId(0);
        let (mailbox, receiver) = mailbox(view.into());
        (Rpc::new(mailbox, RpcConfig { max_request_bytes: 1024, max_txn_ops: 8, election_timeout }), receiver)
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_member_stops() {
        let (rpc, receiver) = leaderless(Duration::from_secs(3600));
        let (open, late) = (rpc.stream_end(&MetadataMap::new()), rpc.clone());
        receiver.announce_stop();
        assert_eq!(open.await.message(), RequestError::Stopped.text());
        assert_eq!(late.stream_end(&MetadataMap::new()).await.message(), RequestError::Stopped.text());
    }

    #[tokio::test]
    async fn only_who_wants_a_leader_hears_that_there_is_none() {
        let (rpc, receiver) = leaderless(Duration::from_millis(1));
        let mut wants = MetadataMap::new();
        wants.insert("hasleader", "true".parse().expect("a value"));
        assert_eq!(rpc.stream_end(&wants).await.message(), RequestError::NoLeader.text());
        let content = rt::timeout(Duration::from_millis(20), rpc.stream_end(&MetadataMap::new())).await;
        assert!(content.is_err());
        drop(receiver);
    }
}
