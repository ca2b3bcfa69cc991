//! `compaction`.

use clap::{ArgMatches, Command};

use super::failure::{Exit, Failure};
use super::flags::{is_on, switch, texts_of, words};
use super::golang::parse_int;
use super::session::{Clients, Session, print};
use crate::proto::etcdserverpb::CompactionRequest;

/// The command line of `compaction`.
pub fn command() -> Command {
    Command::new("compaction")
        .about("Forgets the history up to a revision")
        .override_usage("etcdctl compaction [options] <revision>")
        .args([switch("physical", "wait until the old revisions are gone from the disk"), words()])
}

/// Runs `compaction`. It prints the same in every format.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let words = texts_of(matches);
    let [revision] = words.as_slice() else {
        return Err(Failure::arguments("compaction command needs 1 argument"));
    };
    let revision = parse_int(revision, 10).map_err(|error| Failure::new(Exit::Error, error))?;
    let request = CompactionRequest { revision, physical: is_on(matches, "physical") };
    let session = Session::open(matches)?;
    let call = |clients: Clients| async move { clients.kv().compact(request).await };
    session.write(session.limit(), call).await?;
    print(format!("compacted revision {revision}\n").as_bytes())
}
