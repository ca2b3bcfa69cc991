//! The metrics page hears how long the disk took.

use std::time::Duration;

use super::disk_tasks::DiskTimes;
use crate::metrics::Metrics;

impl DiskTimes for Metrics {
    fn log_synced(&self, bytes: u64, took: Duration) {
        Metrics::log_synced(self, bytes, took);
    }

    fn committed(&self, took: Duration) {
        Metrics::committed(self, took);
    }
}
