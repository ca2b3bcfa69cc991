//! What `--help` and `--version` print.

use std::fmt::Write;

use super::flags::Effect;
use super::gates::{GATES, Stage};
use super::table::TOPICS;
use crate::types::version::ETCD_VERSION;

const USAGE: &str = "\
Usage:

  detcd [flags]
    Start a server. Every flag has an environment variable: ETCD_NAME for --name.

  detcd --version
    Show the versions of detcd and of the etcd surface that it serves.

  detcd -h | --help
    Show this help.

  detcd --config-file FILE
    Read everything from a YAML or JSON file. Flags and environment variables are ignored then. Durations
    are whole nanoseconds in such a file (600000000000 for 10m); heartbeat-interval and election-timeout are
    milliseconds.
";

/// All flags by topic, with their defaults.
pub(super) fn help() -> String {
    let mut text = USAGE.to_owned();
    for topic in TOPICS.iter().filter(|topic| !topic.heading.is_empty()) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{}:\n", topic.heading);
        for flag in topic.flags {
            let note = match flag.effect {
                Effect::Ignored(_) => " (Accepted; has no effect on this server.)",
                Effect::Unbuilt(_) => " (Not supported by this version yet.)",
                _ => "",
            };
            let _ = write!(text, "  --{} '{}'\n    {}{note}\n", flag.name, flag.default, flag.help);
            if flag.name == "feature-gates" {
                gates_help(&mut text);
            }
        }
    }
    text
}

fn gates_help(text: &mut String) {
    for gate in &GATES {
        let stage = match gate.stage {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        };
        let _ = writeln!(text, "    {}=true|false ({stage} - default={})", gate.name, gate.default());
    }
}

/// The versions. Install scripts look for the line with etcd's.
pub(super) fn version() -> String {
    format!(
        "detcd Version: {}\netcd Version: {ETCD_VERSION}\nOS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
