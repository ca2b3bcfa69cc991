//! A member's view and metrics of it, for tests of this room and of those above.

use std::sync::Arc;

use super::{Feature, Metrics, MetricsConfig, PeerFigures};
use crate::mailbox::{Mailbox, MailboxReceiver, mailbox};
use crate::member::{MemberStatistics, MemberStatus, MemberView};
use crate::mvcc::testing::MemoryBackend;
use crate::mvcc::{Store, StoreConfig};
use crate::proto::etcdserverpb::{self as pb, AlarmType};
use crate::rt::Clock;
use crate::transport::PeerActivity;
use crate::types::{ClusterId, MemberId};

/// The id of the member.
pub(crate) const MEMBER: MemberId = MemberId(0x2e12_59d4_15f2_a040);

/// The only voter of a cluster, leading, with an empty store.
pub(crate) fn view() -> MemberView {
    let member = pb::Member {
        id: MEMBER.0,
        name: "m1".to_owned(),
        peer_ur_ls: vec!["http://127.0.0.1:2380".to_owned()],
        client_ur_ls: vec!["http://127.0.0.1:2379".to_owned()],
        is_learner: false,
    };
    let store = Store::restore(MemoryBackend::default().snapshot(), StoreConfig::default()).unwrap().0;
    MemberView {
        store: store.view(),
        status: MemberStatus {
            cluster_id: ClusterId(0x0482_76a8_f75b_6a87),
            member_id: MEMBER,
            leader: MEMBER,
            is_leader: true,
            reads_need_no_round: true,
            ..MemberStatus::default()
        },
        alarms: Arc::default(),
        members: Arc::new(vec![member]),
        cluster_version: Some("3.7.0".into()),
        statistics: MemberStatistics::default(),
    }
}

/// Alarms of member 1.
pub(crate) fn alarms(types: &[AlarmType]) -> Arc<Vec<pb::AlarmMember>> {
    Arc::new(types.iter().map(|&alarm| pb::AlarmMember { member_id: 1, alarm: alarm as i32 }).collect())
}

/// The activity of the same peers for ever.
pub(crate) struct FixedPeers(pub(crate) Vec<PeerActivity>);

impl PeerFigures for FixedPeers {
    fn activity(&self) -> Vec<PeerActivity> {
        self.0.clone()
    }
}

/// Metrics of a member that shows `view` and has no loop behind it.
pub(crate) fn metrics(
    view: MemberView,
    peers: Vec<PeerActivity>,
    handling_clock: Option<Arc<dyn Clock>>,
) -> (Arc<Metrics>, Mailbox, MailboxReceiver) {
    let (mailbox, receiver) = mailbox(Arc::new(view));
    let config = MetricsConfig {
        server_version: "3.7.1",
        handling_clock,
        traffic: Arc::default(),
        peers: Arc::new(FixedPeers(peers)),
        features: vec![Feature { name: "LeaseCheckpoint", stage: "ALPHA", enabled: true }],
    };
    (Arc::new(Metrics::new(mailbox.clone(), config)), mailbox, receiver)
}
