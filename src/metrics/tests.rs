//! The page as a whole, against the families of a real etcd.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;
use crate::proto::etcdserverpb::AlarmType;
use crate::transport::{PeerActivity, RoundTrips};
use crate::types::{MemberId, Now};

/// Type, name and labels of every family that members of a three-member etcd 3.7.1 showed.
const ETCD: &str = include_str!("testdata/etcd-3.7.1-families.txt");

/// Families that etcd has and this server cannot measure.
const LEFT_OUT: &[&str] = &[
    "etcd_debugging_auth_revision",
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
    "etcd_debugging_disk_backend_commit_spill_duration_seconds",
    "etcd_debugging_disk_backend_commit_write_duration_seconds",
    "etcd_debugging_lease_ttl_total",
    "etcd_debugging_mvcc_db_compaction_last",
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
    "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
    "etcd_debugging_snap_save_marshalling_duration_seconds",
    "etcd_debugging_snap_save_total_duration_seconds",
    "etcd_disk_backend_defrag_duration_seconds",
    "etcd_disk_backend_snapshot_duration_seconds",
    "etcd_disk_defrag_inflight",
    "etcd_disk_wal_write_duration_seconds",
    "etcd_mvcc_db_open_read_transactions",
    "etcd_mvcc_hash_duration_seconds",
    "etcd_mvcc_hash_rev_duration_seconds",
    "etcd_server_apply_duration_seconds",
    "etcd_server_heartbeat_send_failures_total",
    "etcd_server_learner_promote_successes",
    "etcd_server_range_duration_seconds",
    "etcd_server_request_duration_seconds",
    "etcd_server_slow_apply_total",
    "etcd_server_snapshot_apply_in_progress_total",
    "etcd_snap_db_fsync_duration_seconds",
    "etcd_snap_db_save_total_duration_seconds",
    "etcd_snap_fsync_duration_seconds",
    "process_network_receive_bytes_total",
    "process_network_transmit_bytes_total",
    "process_virtual_memory_max_bytes",
    "promhttp_metric_handler_requests_in_flight",
];

/// A clock that a test moves.
#[derive(Default)]
struct HandClock(Mutex<u64>);

impl Clock for HandClock {
    fn now(&self) -> Now {
        Now { mono: *self.0.lock().unwrap(), wall: 0 }
    }
}

fn peer(member: u64, connected_since: Option<u64>) -> PeerActivity {
    let mut round_trips = RoundTrips { nanoseconds: 7_500_000_000, ..RoundTrips::default() };
    round_trips.buckets[..2].copy_from_slice(&[3, 4]);
    round_trips.buckets[16] = 1;
    PeerActivity {
        member: MemberId(member),
        connected_since,
        sent_bytes: 10,
        received_bytes: 20,
        lost_messages: 3,
        disconnects: 2,
        round_trips,
    }
}

/// The families of a page as the listing of etcd's has them.
fn listing(families: &[MetricFamily]) -> Vec<String> {
    let line = |family: &MetricFamily| {
        let metrics = family.get_metric().iter();
        let labels: BTreeSet<_> =
            metrics.flat_map(|metric| metric.get_label().iter().map(|pair| pair.name().to_owned())).collect();
        let labels = labels.into_iter().collect::<Vec<_>>().join(",");
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        format!("{kind} {} {labels}", family.name()).trim_end().to_owned()
    };
    families.iter().map(line).collect()
}

#[track_caller]
fn check_lines(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|found| found == *line), "{line} is missing in\n{page}");
    }
}

#[test]
fn families_are_those_of_etcd() {
    let mut view = testing::view();
    view.alarms = testing::alarms(&[AlarmType::Nospace]);
    let peers = vec![peer(7, Some(1))];
    let (metrics, _mailbox, _receiver) = testing::metrics(view, peers, Some(Arc::new(HandClock::default())));
    Call::begin(&metrics, "/etcdserverpb.KV/Put").unwrap().client_version(None);
    metrics.health().check("livez", "serializable_read", true);

    let ours: BTreeSet<String> = listing(&metrics.families(&metrics.mailbox.view())).into_iter().collect();
    let theirs: BTreeSet<String> = ETCD.lines().map(str::to_owned).collect();
    let name = |line: &&String| line.split(' ').nth(1).unwrap_or_default().to_owned();
    let missing: BTreeSet<_> = theirs.difference(&ours).map(|line| name(&line)).collect();
    let own: Vec<_> = ours.difference(&theirs).collect();
    assert_eq!(missing, LEFT_OUT.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(own, ["gauge detcd_build_info version"]);
}

#[test]
fn the_view_is_read_at_the_scrape() {
    let mut view = testing::view();
    view.status.quota = 2_147_483_648;
    view.status.commit = 9;
    view.status.applied = 8;
    view.statistics.puts = 5;
    view.alarms = testing::alarms(&[AlarmType::Corrupt]);
    let (metrics, _mailbox, receiver) =
        testing::metrics(view.clone(), vec![peer(7, Some(1)), peer(8, None)], None);
    let own = testing::MEMBER;
    check_lines(
        &metrics.render().unwrap(),
        &[
            "# TYPE etcd_server_has_leader gauge",
            "etcd_server_has_leader 1",
            "etcd_server_is_leader 1",
            "etcd_server_is_learner 0",
            "etcd_server_quota_backend_bytes 2147483648",
            "etcd_server_proposals_committed_total 9",
            "etcd_server_proposals_applied_total 8",
            "etcd_mvcc_put_total 5",
            "etcd_debugging_mvcc_current_revision 1",
            "etcd_debugging_mvcc_compact_revision -1",
            r#"etcd_cluster_version{cluster_version="3.7"} 1"#,
            r#"etcd_server_version{server_version="3.7.1"} 1"#,
            &format!("etcd_server_id{{server_id=\"{own}\"}} 1"),
            r#"etcd_debugging_server_alarms{alarm_type="CORRUPT",server_id="1"} 1"#,
            r#"etcd_server_feature_enabled{name="LeaseCheckpoint",stage="ALPHA"} 1"#,
            r#"etcd_network_peer_sent_bytes_total{To="7"} 10"#,
            r#"etcd_network_peer_received_bytes_total{From="8"} 20"#,
            r#"etcd_network_peer_sent_failures_total{To="7"} 3"#,
            "# TYPE etcd_network_peer_round_trip_time_seconds histogram",
            r#"etcd_network_peer_round_trip_time_seconds_bucket{To="7",le="0.0001"} 3"#,
            r#"etcd_network_peer_round_trip_time_seconds_bucket{To="7",le="0.0002"} 7"#,
            r#"etcd_network_peer_round_trip_time_seconds_bucket{To="7",le="3.2768"} 7"#,
            r#"etcd_network_peer_round_trip_time_seconds_bucket{To="7",le="+Inf"} 8"#,
            r#"etcd_network_peer_round_trip_time_seconds_sum{To="7"} 7.5"#,
            r#"etcd_network_peer_round_trip_time_seconds_count{To="7"} 8"#,
            &format!("etcd_network_disconnected_peers_total{{Local=\"{own}\",Remote=\"8\"}} 2"),
            &format!("etcd_network_active_peers{{Local=\"{own}\",Remote=\"7\"}} 1"),
            &format!("etcd_network_active_peers{{Local=\"{own}\",Remote=\"8\"}} 0"),
            &format!("etcd_network_known_peers{{Local=\"{own}\",Remote=\"{own}\"}} 1"),
        ],
    );
    view.status.leader = MemberId(0);
    view.cluster_version = None;
    receiver.publish(Arc::new(view));
    let page = metrics.render().unwrap();
    check_lines(
        &page,
        &["etcd_server_has_leader 0", r#"promhttp_metric_handler_requests_total{code="200"} 1"#],
    );
    assert!(!page.contains("etcd_cluster_version"));
}

#[test]
fn a_call_is_counted_once_from_start_to_end() {
    let clock = Arc::new(HandClock::default());
    let (metrics, _mailbox, _receiver) = testing::metrics(testing::view(), Vec::new(), Some(clock.clone()));
    let labels = |method: &str, service: &str, kind: &str| {
        format!("grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\",grpc_type=\"{kind}\"")
    };
    let put = labels("Put", "KV", "unary");
    let watch = labels("Watch", "Watch", "bidi_stream");
    check_lines(
        &metrics.render().unwrap(),
        &[
            &format!("grpc_server_started_total{{{put}}} 0"),
            &format!("grpc_server_handled_total{{grpc_code=\"DataLoss\",{put}}} 0"),
            &format!("grpc_server_msg_sent_total{{{watch}}} 0"),
            &format!("grpc_server_handling_seconds_count{{{put}}} 0"),
        ],
    );
    let mut good = Call::begin(&metrics, "/etcdserverpb.KV/Put").unwrap();
    *clock.0.lock().unwrap() += 20 * Now::MILLISECOND;
    good.finish(0);
    good.finish(14);
    drop(good);
    Call::begin(&metrics, "/etcdserverpb.KV/Put").unwrap().finish(8);
    Call::begin(&metrics, "/etcdserverpb.KV/Put").unwrap().finish(99);
    let stream = Call::begin(&metrics, "/etcdserverpb.Watch/Watch").unwrap();
    stream.client_version(Some("3.7"));
    stream.requests().received(2);
    stream.sent(3);
    drop(stream);
    assert!(Call::begin(&metrics, "/etcdserverpb.KV/Nope").is_none());
    check_lines(
        &metrics.render().unwrap(),
        &[
            &format!("grpc_server_started_total{{{put}}} 3"),
            &format!("grpc_server_msg_received_total{{{put}}} 3"),
            &format!("grpc_server_msg_sent_total{{{put}}} 1"),
            &format!("grpc_server_handled_total{{grpc_code=\"OK\",{put}}} 1"),
            &format!("grpc_server_handled_total{{grpc_code=\"Unavailable\",{put}}} 0"),
            &format!("grpc_server_handled_total{{grpc_code=\"ResourceExhausted\",{put}}} 1"),
            &format!("grpc_server_handled_total{{grpc_code=\"Unknown\",{put}}} 1"),
            &format!("grpc_server_handling_seconds_bucket{{{put},le=\"0.01\"}} 2"),
            &format!("grpc_server_handling_seconds_bucket{{{put},le=\"0.025\"}} 3"),
            &format!("grpc_server_handled_total{{grpc_code=\"Canceled\",{watch}}} 1"),
            &format!("grpc_server_msg_received_total{{{watch}}} 2"),
            &format!("grpc_server_msg_sent_total{{{watch}}} 3"),
            r#"etcd_server_client_requests_total{client_api_version="3.7",type="stream"} 1"#,
        ],
    );
}

#[test]
fn the_disk_is_timed_in_buckets_that_double() {
    let (metrics, _mailbox, _receiver) = testing::metrics(testing::view(), Vec::new(), None);
    metrics.log_synced(480, Duration::from_millis(3));
    metrics.committed(Duration::from_secs(9));
    check_lines(
        &metrics.render().unwrap(),
        &[
            "# TYPE etcd_disk_wal_write_bytes_total gauge",
            "etcd_disk_wal_write_bytes_total 480",
            r#"etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 0"#,
            r#"etcd_disk_wal_fsync_duration_seconds_bucket{le="0.004"} 1"#,
            r#"etcd_disk_backend_commit_duration_seconds_bucket{le="8.192"} 0"#,
            r#"etcd_disk_backend_commit_duration_seconds_bucket{le="+Inf"} 1"#,
            "etcd_disk_backend_commit_duration_seconds_sum 9",
        ],
    );
}
