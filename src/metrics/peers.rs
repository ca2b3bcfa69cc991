//! Families about the other members: what the transport counts, and who belongs to the cluster.

use std::sync::Arc;

use prometheus::proto::{MetricFamily, MetricType};

use super::family::{Durations, labelled, labelled_counts};
use crate::member::MemberView;
use crate::transport::{PeerActivity, PeerNetwork, RoundTrips};
use crate::types::MemberId;

/// Who knows how the connections with the peers do.
pub trait PeerFigures: Send + Sync {
    /// The figures of every peer now, this member not among them.
    fn activity(&self) -> Vec<PeerActivity>;
}

impl PeerFigures for Arc<dyn PeerNetwork> {
    fn activity(&self) -> Vec<PeerActivity> {
        PeerNetwork::activity(&**self)
    }
}

/// The times of pings in seconds; etcd measures the round trip with pings of its own, too.
fn durations(round_trips: &RoundTrips) -> Durations {
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    Durations {
        buckets: RoundTrips::bounds().map(seconds).into_iter().zip(round_trips.buckets).collect(),
        count: round_trips.count(),
        sum: seconds(round_trips.nanoseconds),
    }
}

pub(super) fn families(view: &MemberView, peers: &[PeerActivity]) -> Vec<MetricFamily> {
    let own = view.status.member_id;
    let pair = |remote: MemberId| [own.to_string(), remote.to_string()];
    let per_peer = |name, help, label, value: fn(&PeerActivity) -> u64| {
        let samples = peers.iter().map(|peer| ([peer.member.to_string()], value(peer) as f64));
        labelled(MetricType::COUNTER, name, help, [label], samples)
    };
    vec![
        per_peer(
            "etcd_network_peer_sent_bytes_total",
            "The total number of bytes sent to peers.",
            "To",
            |peer| peer.sent_bytes,
        ),
        per_peer(
            "etcd_network_peer_received_bytes_total",
            "The total number of bytes received from peers.",
            "From",
            |peer| peer.received_bytes,
        ),
        per_peer(
            "etcd_network_peer_sent_failures_total",
            "The total number of send failures from peers.",
            "To",
            |peer| peer.lost_messages,
        ),
        labelled_counts(
            "etcd_network_peer_round_trip_time_seconds",
            "Round-Trip-Time histogram between peers",
            ["To"],
            peers.iter().map(|peer| ([peer.member.to_string()], durations(&peer.round_trips))),
        ),
        labelled(
            MetricType::COUNTER,
            "etcd_network_disconnected_peers_total",
            "The total number of disconnected peers.",
            ["Local", "Remote"],
            peers.iter().map(|peer| (pair(peer.member), peer.disconnects as f64)),
        ),
        labelled(
            MetricType::GAUGE,
            "etcd_network_active_peers",
            "The current number of active peer connections.",
            ["Local", "Remote"],
            peers.iter().map(|peer| (pair(peer.member), f64::from(u8::from(peer.connected_since.is_some())))),
        ),
        // etcd counts the member itself as known.
        labelled(
            MetricType::GAUGE,
            "etcd_network_known_peers",
            "The current number of known peers.",
            ["Local", "Remote"],
            view.members.iter().map(|member| (pair(MemberId(member.id)), 1.0)),
        ),
    ]
}
