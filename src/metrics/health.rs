//! Outcomes of health checks.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::{MetricFamily, MetricType};

use super::family;

/// Every check of `/livez` and `/readyz`, as endpoint and name.
const CHECKS: [(&str, &str); 5] = [
    ("livez", "serializable_read"),
    ("readyz", "data_corruption"),
    ("readyz", "linearizable_read"),
    ("readyz", "non_learner"),
    ("readyz", "serializable_read"),
];

#[derive(Debug, Default)]
struct Outcomes {
    successes: AtomicU64,
    failures: AtomicU64,
    /// Whether the newest one was a success: 1 or 0.
    latest: AtomicU64,
}

/// Outcomes of health checks of one server.
#[derive(Debug, Default)]
pub struct HealthCounters {
    health: Outcomes,
    checks: [Outcomes; CHECKS.len()],
}

impl Outcomes {
    fn count(&self, ok: bool) {
        let counter = if ok { &self.successes } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
        self.latest.store(u64::from(ok), Ordering::Relaxed);
    }
}

impl HealthCounters {
    /// Counts an answer of `/health`.
    pub fn health(&self, ok: bool) {
        self.health.count(ok);
    }

    /// Counts a check of an endpoint, `livez` or `readyz`.
    pub fn check(&self, endpoint: &str, name: &str, ok: bool) {
        let place = CHECKS.iter().position(|&check| check == (endpoint, name));
        debug_assert!(place.is_some(), "no check {name} at {endpoint}");
        if let Some(place) = place {
            self.checks[place].count(ok);
        }
    }

    pub(super) fn families(&self) -> [MetricFamily; 4] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let done = |outcomes: &&Outcomes| load(&outcomes.successes) + load(&outcomes.failures) > 0;
        let checks = || CHECKS.iter().zip(&self.checks).filter(move |(_, outcomes)| done(outcomes));
        let latest = checks().map(|(&(endpoint, name), outcomes)| {
            ([name.to_owned(), endpoint.to_owned()], load(&outcomes.latest) as f64)
        });
        let totals = checks().flat_map(|(&(endpoint, name), outcomes)| {
            [("error", load(&outcomes.failures)), ("success", load(&outcomes.successes))]
                .into_iter()
                .filter(|&(_, count)| count > 0)
                .map(move |(status, count)| {
                    ([name.to_owned(), status.to_owned(), endpoint.to_owned()], count as f64)
                })
        });
        [
            family::single(
                MetricType::COUNTER,
                "etcd_server_health_success",
                "The total number of successful health checks",
                load(&self.health.successes) as f64,
            ),
            family::single(
                MetricType::COUNTER,
                "etcd_server_health_failures",
                "The total number of failed health checks",
                load(&self.health.failures) as f64,
            ),
            family::labelled(
                MetricType::GAUGE,
                "etcd_server_healthcheck",
                "The result of each kind of healthcheck.",
                ["name", "type"],
                latest,
            ),
            family::labelled(
                MetricType::COUNTER,
                "etcd_server_healthchecks_total",
                "The total number of each kind of healthcheck.",
                ["name", "status", "type"],
                totals,
            ),
        ]
    }
}
