//! Compiles `proto/` with a pure-Rust protobuf compiler, so that a build needs no system `protoc`.

#![expect(clippy::disallowed_methods, reason = "a build has no disk but the system's")]

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use protox::prost::Message;
use protox::prost_reflect::prost_types::FileDescriptorSet;

/// Files that name everything else by import.
const ROOTS: &[&str] = &[
    "etcdserverpb/raft_internal.proto",
    "etcdserverpb/kv.proto",
    "etcdserverpb/watch.proto",
    "etcdserverpb/lease.proto",
    "etcdserverpb/cluster.proto",
    "etcdserverpb/maintenance.proto",
    "etcdserverpb/auth.proto",
    "leasepb/lease.proto",
    "membershippb/membership.proto",
    "v3lockpb/lock.proto",
    "v3electionpb/election.proto",
    "health/v1/health.proto",
    "detcdpb/peer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let files = protox::compile(ROOTS, ["proto"])?;
    write_descriptors(files.clone())?;
    let mut prost = tonic_prost_build::Config::new();
    prost.bytes(["."]);
    // The order of a hash map differs from run to run.
    prost.btree_map(["."]);
    tonic_prost_build::configure()
        .build_transport(false)
        // A key-value and an event travel as the bytes they are stored as: see `src/proto`.
        .extern_path(".mvccpb.KeyValue", "crate::proto::EncodedKeyValue")
        .extern_path(".mvccpb.Event", "crate::proto::EncodedEvent")
        .compile_fds_with_config(files, prost)?;
    Ok(())
}

/// Writes what the messages consist of, without comments: the JSON gateway reads it when it starts.
fn write_descriptors(mut files: FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    for file in &mut files.file {
        file.source_code_info = None;
    }
    let folder = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    fs::write(Path::new(&folder).join("descriptors.bin"), files.encode_to_vec())?;
    Ok(())
}
