//! `move-leader`.

use clap::{ArgMatches, Command};

use super::failure::Failure;
use super::flags::{texts_of, words};
use super::golang::parse_uint;
use super::output::Answer;
use super::session::{Clients, Session};
use crate::proto::etcdserverpb::{MoveLeaderRequest, StatusRequest};

/// The command line of `move-leader`.
pub fn command() -> Command {
    Command::new("move-leader")
        .about("Hands the leadership to another member")
        .override_usage("etcdctl move-leader <member id>")
        .arg(words())
}

/// Runs the command: looks for the leader among the endpoints and asks it.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let words = texts_of(matches);
    let [target] = words.as_slice() else {
        return Err(Failure::arguments("move-leader command needs 1 argument"));
    };
    let to = parse_uint(target, 16).map_err(Failure::arguments)?;
    let session = Session::open(matches)?;
    for endpoint in &session.settings().endpoints {
        let session = session.at(endpoint)?;
        let call = |clients: Clients| async move { clients.maintenance().status(StatusRequest {}).await };
        let status = session.read(session.limit(), call).await?;
        if status.header.unwrap_or_default().member_id == status.leader {
            let request = MoveLeaderRequest { target_id: to };
            let call = |clients: Clients| async move { clients.maintenance().move_leader(request).await };
            let response = session.write(session.limit(), call).await?;
            return session.print(&Answer::MoveLeader { from: status.leader, to, response });
        }
    }
    let endpoints = session.settings().endpoints.join(" ");
    Err(Failure::arguments(format!("no leader endpoint given at [{endpoints}]")))
}
