//! Settings that are legal and that nobody would choose: the smallest of everything.
//!
//! They are how rare behaviour reaches the core, which draws nothing itself (see the head of
//! [`crate::rt`]): a store that has to read the database, watchers that get one revision at a time, a log
//! whose files are used up in no time. A simulated member is given some of them each time it starts;
//! production leaves all settings as they are.
//!
//! Nothing in here may change what members must agree on, such as the shortest time of a lease.

use crate::member::MemberConfig;
use crate::rt;
use crate::wal::WalConfig;
use crate::watch::BatchLimits;

/// Bytes of a very small segment of the log: some batches of a few entries.
const SMALL_SEGMENT: u64 = 8 * 1024;

/// Bytes above which a watch response is split: two or three events.
const SMALL_FRAGMENT: usize = 256;

/// The settings of a member.
pub(super) fn member(mut config: MemberConfig) -> MemberConfig {
    if rt::buggify("settings: one entry in an append") {
        config.driver.max_message_bytes = 1;
    }
    if rt::buggify("settings: one append on its way") {
        config.driver.max_inflight = 1;
    }
    if rt::buggify("settings: no entries for who lags") {
        config.driver.log_memory_bytes = 0;
        config.catchup_entries = 0;
    }
    if rt::buggify("settings: nothing recent in memory") {
        config.machine.store.recent_bytes = 0;
    }
    if rt::buggify("settings: the database is read two records at a time") {
        config.machine.store.page_records = 2;
    }
    if rt::buggify("settings: no values in memory") {
        config.machine.store.value_cache_bytes = 0;
    }
    if rt::buggify("settings: a compaction looks at one key at a time") {
        config.compaction_batch = 1;
    }
    if rt::buggify("settings: one revision in a watch response") {
        config.watch.batch = BatchLimits { revisions: 1, bytes: 1, events: 1 };
    }
    if rt::buggify("settings: small fragments") {
        config.watch.max_response_bytes = SMALL_FRAGMENT;
    }
    if rt::buggify("settings: the database commits every operation") {
        config.backend_batch_operations = 1;
    }
    if rt::buggify("settings: the database commits seldom") {
        config.backend_interval = config.backend_interval.saturating_mul(20);
    }
    config
}

/// The settings of a log.
pub(super) fn log(mut config: WalConfig) -> WalConfig {
    if rt::buggify("settings: small segments") {
        config.segment_bytes = config.segment_bytes.min(SMALL_SEGMENT);
    }
    if rt::buggify("settings: no spare segments") {
        config.spare_segments = 0;
    }
    config
}
