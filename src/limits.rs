//! Every bound of a queue, batch or size that more than one room must agree on, with its reason.
//!
//! A bound that only one room knows stands at the top of that room.

/// Default of `--max-request-bytes`: the marshalled size of one replicated request (etcd).
pub const MAX_REQUEST_BYTES: usize = 1_572_864;

/// What gRPC accepts above `--max-request-bytes`, and what a watch response may hold above it before
/// it is split (etcd).
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// Default of `--max-txn-ops` (etcd).
pub const MAX_TXN_OPS: usize = 128;

/// Entries committed but not applied above which proposals are refused (etcd).
pub const MAX_UNAPPLIED_ENTRIES: u64 = 5000;

/// Default of `--snapshot-count`: applied entries between two releases of the log (etcd).
pub const SNAPSHOT_COUNT: u64 = 10_000;

/// Default of `--snapshot-catchup-entries`: entries kept for followers that lag a little (etcd).
pub const SNAPSHOT_CATCHUP_ENTRIES: u64 = 5000;

/// Bytes of log that may stay in memory for followers; beyond it they get a snapshot.
pub const LOG_MEMORY_BYTES: usize = 4 << 20;

/// Bytes proposed and not yet committed above which the leader refuses more.
pub const MAX_UNCOMMITTED_BYTES: u64 = 64 << 20;

/// Largest batch of entries in one append message (etcd: 1 MiB).
pub const MAX_APPEND_BYTES: u64 = 1 << 20;

/// Append messages on the way to one follower (etcd).
pub const MAX_INFLIGHT_APPENDS: usize = 512;

/// Operations gathered before the backend commits ahead of its interval (etcd).
pub const BACKEND_BATCH_OPERATIONS: usize = 10_000;

/// Bytes gathered before the backend commits ahead of its interval: they are memory until then.
pub const BACKEND_BATCH_BYTES: usize = 2 << 20;

/// Requests that the event loop takes from its mailbox before it looks at the disk and peers again.
pub const MAILBOX_BATCH: usize = 1024;

/// Requests that may wait in the mailbox; more callers wait for room.
pub const MAILBOX_CAPACITY: usize = 16 * 1024;

/// Bytes of watch responses queued for one stream before its watchers fall back to history.
pub const WATCH_STREAM_BYTES: usize = 4 << 20;

/// Leases that one pass proposes to revoke (etcd).
pub const LEASE_REVOKES_PER_PASS: usize = 500;

/// Lease checkpoints in one entry (etcd).
pub const LEASE_CHECKPOINTS_PER_ENTRY: usize = 1000;

/// Bytes in one chunk of a large answer: large writes are what makes it cheap.
pub const ANSWER_CHUNK_BYTES: usize = 64 * 1024;

/// A range answer above this many bytes is encoded lazily while it is sent.
pub const LAZY_ANSWER_BYTES: u64 = 64 * 1024;

const _: () = assert!(LAZY_ANSWER_BYTES >= ANSWER_CHUNK_BYTES as u64);
const _: () = assert!(MAILBOX_BATCH <= MAILBOX_CAPACITY);
const _: () = assert!(SNAPSHOT_CATCHUP_ENTRIES <= SNAPSHOT_COUNT);
const _: () = assert!(MAX_APPEND_BYTES as usize >= 64 * 1024 && MAX_UNCOMMITTED_BYTES > MAX_APPEND_BYTES);
