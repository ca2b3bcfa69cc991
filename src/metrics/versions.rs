//! Requests by the version that the client says it has.
//!
//! The label's values come from clients, so their number is bounded, and so is their length: what does
//! not fit is counted as one. A version is looked up by comparing it with the few that were seen, the
//! first of which is almost always the one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::{MetricFamily, MetricType};

use super::family;

/// Versions that are told apart.
const MOST_VERSIONS: usize = 32;

/// Longest version in bytes.
const LONGEST_VERSION: usize = 32;

/// What clients without a version count as (etcd).
const UNKNOWN: &str = "unknown";

/// What counts for every version that does not fit.
const OTHER: &str = "other";

/// Requests of one version.
#[derive(Debug, Default)]
struct Requests {
    unary: AtomicU64,
    stream: AtomicU64,
}

/// Requests by version.
#[derive(Debug)]
pub(super) struct ClientVersions {
    unknown: Requests,
    other: Requests,
    seen: [(OnceLock<Box<str>>, Requests); MOST_VERSIONS],
}

impl ClientVersions {
    pub(super) fn new() -> Self {
        Self { unknown: Requests::default(), other: Requests::default(), seen: Default::default() }
    }

    /// Counts a request.
    pub(super) fn count(&self, version: Option<&str>, is_unary: bool) {
        let requests = version.map_or(&self.unknown, |version| self.of(version));
        let counter = if is_unary { &requests.unary } else { &requests.stream };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, version: &str) -> &Requests {
        if version.len() > LONGEST_VERSION {
            return &self.other;
        }
        let found = self.seen.iter().find(|(name, _)| **name.get_or_init(|| version.into()) == *version);
        found.map_or(&self.other, |(_, requests)| requests)
    }

    pub(super) fn family(&self) -> MetricFamily {
        let seen = self.seen.iter().filter_map(|(name, requests)| Some((&**name.get()?, requests)));
        let all = seen.chain([(UNKNOWN, &self.unknown), (OTHER, &self.other)]);
        let samples = all.flat_map(|(version, requests)| {
            [("stream", &requests.stream), ("unary", &requests.unary)].into_iter().filter_map(
                move |(kind, count)| {
                    let count = count.load(Ordering::Relaxed);
                    // Go shows a combination of labels once it was counted.
                    (count > 0).then(|| ([version.to_owned(), kind.to_owned()], count as f64))
                },
            )
        });
        family::labelled(
            MetricType::COUNTER,
            "etcd_server_client_requests_total",
            "The total number of client requests per client version.",
            ["client_api_version", "type"],
            samples,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_bounded_in_number_and_length() {
        let versions = ClientVersions::new();
        versions.count(None, true);
        versions.count(Some("3.7"), true);
        versions.count(Some("3.7"), false);
        versions.count(Some(&"9".repeat(LONGEST_VERSION + 1)), true);
        for number in 0..MOST_VERSIONS {
            versions.count(Some(&format!("1.{number}")), true);
        }
        let family = versions.family();
        let counts: Vec<_> = family
            .get_metric()
            .iter()
            .map(|metric| {
                let labels: Vec<_> = metric.get_label().iter().map(|pair| pair.value()).collect();
                format!("{} {}", labels.join(" "), metric.get_counter().get_value())
            })
            .collect();
        assert_eq!(counts[..3], ["3.7 stream 1", "3.7 unary 1", "1.0 unary 1"]);
        assert_eq!(counts[counts.len() - 2..], ["unknown unary 1", "other unary 2"]);
        assert_eq!(counts.len(), MOST_VERSIONS + 3);
    }
}
