//! `member list`. The commands that change the membership are not built yet.

use clap::{ArgMatches, Command};

use super::failure::Failure;
use super::flags::{is_serializable, text, words};
use super::output::Answer;
use super::session::{Clients, Session};
use super::unsupported;
use crate::proto::etcdserverpb::MemberListRequest;

/// The command line of `member`.
pub fn command() -> Command {
    Command::new("member").about("Shows the members of the cluster").arg(words()).subcommands([
        Command::new("list")
            .about("Lists all members")
            .arg(text("consistency", "l", "l: linearizable, s: serializable (may be stale)"))
            .arg(words()),
        unsupported::command("add", "Adds a member"),
        unsupported::command("remove", "Removes a member"),
        unsupported::command("update", "Changes the peer URLs of a member"),
        unsupported::command("promote", "Makes a learner a voter"),
    ])
}

/// Runs the command.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        None => super::help(&["member"]),
        Some(("list", matches)) => list(matches).await,
        Some((name, _)) => Err(Failure::unsupported(&format!("member {name}"))),
    }
}

async fn list(matches: &ArgMatches) -> Result<(), Failure> {
    let request = MemberListRequest { linearizable: !is_serializable(matches)? };
    let session = Session::open(matches)?;
    let call = |clients: Clients| async move { clients.cluster().member_list(request).await };
    session.print(&Answer::MemberList(session.read(session.limit(), call).await?))
}
