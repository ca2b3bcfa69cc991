//! Families that are read off the member's published view. Nothing is counted for them beside the member.

use prometheus::proto::{MetricFamily, MetricType};

use super::family::{labelled, single};
use crate::member::MemberView;
use crate::types::MemberId;

/// Everything that `view` says, in no order.
pub(super) fn families(view: &MemberView, server_version: &str) -> Vec<MetricFamily> {
    let mut families = server(view);
    families.extend(versions(view, server_version));
    families.extend(store(view));
    families.extend(watches_and_leases(view));
    families
}

fn gauge(name: &str, help: &str, value: impl Into<Number>) -> MetricFamily {
    single(MetricType::GAUGE, name, help, value.into().0)
}

fn counter(name: &str, help: &str, value: u64) -> MetricFamily {
    single(MetricType::COUNTER, name, help, Number::from(value).0)
}

/// A sample. Prometheus has floating point only.
struct Number(f64);

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self(f64::from(u8::from(value)))
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(value as f64)
    }
}

fn server(view: &MemberView) -> Vec<MetricFamily> {
    let (status, statistics) = (&view.status, &view.statistics);
    let alarms = view
        .alarms
        .iter()
        .map(|alarm| ([alarm.alarm().as_str_name().to_owned(), MemberId(alarm.member_id).to_string()], 1.0));
    vec![
        gauge(
            "etcd_server_has_leader",
            "Whether or not a leader exists. 1 is existence, 0 is not.",
            status.leader != MemberId(0),
        ),
        gauge(
            "etcd_server_is_leader",
            "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            status.is_leader,
        ),
        gauge(
            "etcd_server_is_learner",
            "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            status.is_learner,
        ),
        counter(
            "etcd_server_leader_changes_seen_total",
            "The number of leader changes seen.",
            statistics.leader_changes,
        ),
        gauge(
            "etcd_server_proposals_committed_total",
            "The total number of consensus proposals committed.",
            status.commit,
        ),
        gauge(
            "etcd_server_proposals_applied_total",
            "The total number of consensus proposals applied.",
            status.applied,
        ),
        gauge(
            "etcd_server_proposals_pending",
            "The current number of pending proposals to commit.",
            statistics.proposals_pending,
        ),
        counter(
            "etcd_server_proposals_failed_total",
            "The total number of failed proposals seen.",
            statistics.proposals_failed,
        ),
        counter(
            "etcd_server_read_indexes_failed_total",
            "The total number of failed read indexes seen.",
            statistics.read_indexes_failed,
        ),
        counter(
            "etcd_server_slow_read_indexes_total",
            "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
            statistics.slow_read_indexes,
        ),
        gauge(
            "etcd_server_quota_backend_bytes",
            "Current backend storage quota size in bytes.",
            status.quota,
        ),
        labelled(
            MetricType::GAUGE,
            "etcd_debugging_server_alarms",
            "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm",
            ["alarm_type", "server_id"],
            alarms,
        ),
    ]
}

/// Gauges of 1 whose label is what they say.
fn versions(view: &MemberView, server_version: &str) -> Vec<MetricFamily> {
    let says = |name, help, label, value: Option<String>| {
        labelled(MetricType::GAUGE, name, help, [label], value.map(|value| ([value], 1.0)))
    };
    vec![
        says(
            "etcd_server_version",
            "Which version is running. 1 for 'server_version' label with current version.",
            "server_version",
            Some(server_version.to_owned()),
        ),
        // Dashboards join on it; there is no Go in here.
        says(
            "etcd_server_go_version",
            "Which Go version server is running with. 1 for 'server_go_version' label with current version.",
            "server_go_version",
            Some("none".to_owned()),
        ),
        says(
            "detcd_build_info",
            "The version of detcd that is running, as a label.",
            "version",
            Some(env!("CARGO_PKG_VERSION").to_owned()),
        ),
        says(
            "etcd_server_id",
            "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
            "server_id",
            Some(view.status.member_id.to_string()),
        ),
        says(
            "etcd_cluster_version",
            "Which version is running. 1 for 'cluster_version' label with current cluster version",
            "cluster_version",
            view.cluster_version.as_deref().map(major_minor),
        ),
    ]
}

/// etcd shows the version of the cluster without its patch: `3.7` for `3.7.0`.
fn major_minor(version: &str) -> String {
    version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

fn store(view: &MemberView) -> Vec<MetricFamily> {
    let (store, status, statistics) = (&view.store, &view.status, &view.statistics);
    vec![
        gauge(
            "etcd_mvcc_db_total_size_in_bytes",
            "Total size of the underlying database physically allocated in bytes.",
            status.db_size,
        ),
        gauge(
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Total size of the underlying database logically in use in bytes.",
            status.db_size_in_use,
        ),
        counter("etcd_mvcc_put_total", "Total number of puts seen by this member.", statistics.puts),
        counter("etcd_mvcc_delete_total", "Total number of deletes seen by this member.", statistics.deletes),
        counter("etcd_mvcc_txn_total", "Total number of txns seen by this member.", statistics.txns),
        gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.", store.live().len() as u64),
        gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.", store.revision()),
        gauge(
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction in store.",
            store.compact_revision(),
        ),
        counter(
            "etcd_debugging_mvcc_db_compaction_keys_total",
            "Total number of db keys compacted.",
            statistics.compaction_keys,
        ),
    ]
}

fn watches_and_leases(view: &MemberView) -> Vec<MetricFamily> {
    let statistics = &view.statistics;
    vec![
        gauge(
            "etcd_debugging_mvcc_watch_stream_total",
            "Total number of watch streams.",
            statistics.watch_streams,
        ),
        gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", statistics.watchers),
        gauge(
            "etcd_debugging_mvcc_slow_watcher_total",
            "Total number of unsynced slow watchers.",
            statistics.slow_watchers,
        ),
        gauge(
            "etcd_debugging_mvcc_pending_events_total",
            "Total number of pending events to be sent.",
            statistics.pending_events,
        ),
        counter(
            "etcd_debugging_mvcc_events_total",
            "Total number of events sent by this member.",
            statistics.events,
        ),
        counter(
            "etcd_debugging_lease_granted_total",
            "The total number of granted leases.",
            statistics.leases_granted,
        ),
        counter(
            "etcd_debugging_lease_revoked_total",
            "The total number of revoked leases.",
            statistics.leases_revoked,
        ),
        counter(
            "etcd_debugging_lease_renewed_total",
            "The number of renewed leases seen by the leader.",
            statistics.leases_renewed,
        ),
        counter(
            "etcd_debugging_server_lease_expired_total",
            "The total number of expired leases.",
            statistics.leases_expired,
        ),
    ]
}
