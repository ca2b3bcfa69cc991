//! Messages and services of the wire, generated from `proto/`, and the two messages that are not.
//!
//! A key-value is stored as the protobuf bytes of `mvccpb.KeyValue`, and those very bytes go into a
//! range response, a `prev_kv` and a watch event: they are gathered, never decoded and encoded again.
//! So wherever a generated message holds an `mvccpb.KeyValue` or an `mvccpb.Event`, it holds an
//! [`EncodedKeyValue`] or an [`EncodedEvent`] here. On the wire the two forms are the same bytes.
//!
//! Invariants:
//! - the bytes of an `EncodedKeyValue` made by the server are a canonical encoding (fields in order,
//!   zero fields absent), as [`KeyValue::encode_to_bytes`] writes them;
//! - nothing in here decides anything: this room knows formats, not meanings.

// Generated code is not ours to document or restyle.
#![allow(clippy::all, missing_docs)]

mod encoded;

pub use encoded::{EncodedEvent, EncodedKeyValue, Event, EventType, KeyValue};

/// What all messages and services consist of, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}
pub mod detcdpb {
    include!(concat!(env!("OUT_DIR"), "/detcdpb.rs"));
}
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}
pub mod leasepb {
    include!(concat!(env!("OUT_DIR"), "/leasepb.rs"));
}
pub mod membershippb {
    include!(concat!(env!("OUT_DIR"), "/membershippb.rs"));
}
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}
