//! The offline tool, with etcdutl's commands. This version knows its own version and nothing more: what
//! is not built yet says so and fails.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use detcd::types::version::{API_VERSION, ETCD_VERSION};

/// A tool for files of a detcd server that does not run.
#[derive(Parser)]
#[command(name = "detcdutl", disable_version_flag = true)]
struct Cli {
    /// How answers are written: fields, json, protobuf, simple or table.
    #[arg(short = 'w', long, global = true, default_value = "simple")]
    write_out: String,
    /// How long to wait for the lock of a file; 0 waits without end.
    #[arg(long, global = true, default_value = "10s")]
    timeout: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Generate a completion script. Not supported by this version.
    Completion(Unbuilt),
    /// Defragment the database. Not supported by this version.
    Defrag(Unbuilt),
    /// Print the hash of a database's history. Not supported by this version.
    Hashkv(Unbuilt),
    /// Change a data folder for another version. Not supported by this version.
    Migrate(Unbuilt),
    /// Look at snapshots and restore them.
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum Snapshot {
    /// Make a data folder of a snapshot. Not supported by this version.
    Restore(Unbuilt),
    /// Print what a snapshot holds. Not supported by this version.
    Status(Unbuilt),
}

/// Whatever etcdutl takes here.
#[derive(Args)]
struct Unbuilt {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<String>,
}

fn main() -> ExitCode {
    let unbuilt = match Cli::parse().command {
        Command::Version => {
            println!("detcdutl version: {}", env!("CARGO_PKG_VERSION"));
            println!("etcdutl version: {ETCD_VERSION}");
            println!("API version: {API_VERSION}");
            return ExitCode::SUCCESS;
        }
        Command::Completion(_) => "completion",
        Command::Defrag(_) => "defrag",
        Command::Hashkv(_) => "hashkv",
        Command::Migrate(_) => "migrate",
        Command::Snapshot(Snapshot::Restore(_)) => "snapshot restore",
        Command::Snapshot(Snapshot::Status(_)) => "snapshot status",
    };
    eprintln!("detcdutl: {unbuilt} is not supported by this version");
    ExitCode::FAILURE
}
