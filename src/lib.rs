//! detcd: a strongly consistent key-value store that speaks etcd v3's API.
//!
//! ARCHITECTURE.md draws the rooms, says what each must not know, and follows a request through them.

#![warn(missing_docs)]

pub mod alarm;
pub mod apply;
pub mod client;
pub mod ctl;
pub mod disk;
pub mod gateway;
pub mod http;
pub mod lease;
pub mod limits;
pub mod mailbox;
pub mod member;
pub mod membership;
pub mod metrics;
pub mod mvcc;
pub mod net;
pub mod planted;
pub mod proto;
pub mod quota;
pub mod raft;
pub mod rpc;
pub mod rt;
pub mod server;
pub mod storage;
pub mod transport;
pub mod txn;
pub mod types;
pub mod wal;
pub mod watch;
