//! `lease grant`, `revoke`, `timetolive`, `list` and `keep-alive`.

use clap::{ArgMatches, Command};
use tonic::Response;

use super::failure::{Exit, Failure};
use super::flags::{is_on, switch, texts_of, words};
use super::golang::parse_int;
use super::output::{Answer, Format, lease_id};
use super::renewal;
use super::session::{Clients, Session, print};
use crate::proto::etcdserverpb as pb;

/// The command line of `lease`.
pub fn command() -> Command {
    Command::new("lease").about("Grants, renews and revokes leases").arg(words()).subcommands([
        Command::new("grant")
            .about("Grants a lease for some seconds")
            .override_usage("etcdctl lease grant <ttl>")
            .arg(words()),
        Command::new("revoke")
            .about("Revokes a lease and deletes its keys")
            .override_usage("etcdctl lease revoke <lease id>")
            .arg(words()),
        Command::new("timetolive")
            .about("Shows how long a lease lives")
            .override_usage("etcdctl lease timetolive [options] <lease id>")
            .args([switch("keys", "show the keys attached to it"), words()]),
        Command::new("list").about("Lists all leases").arg(words()),
        Command::new("keep-alive")
            .about("Renews a lease until it ends")
            .override_usage("etcdctl lease keep-alive [options] <lease id>")
            .args([switch("once", "renew it once and exit"), words()]),
    ])
}

/// Runs the command.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("grant", matches)) => grant(matches).await,
        Some(("revoke", matches)) => revoke(matches).await,
        Some(("timetolive", matches)) => time_to_live(matches).await,
        Some(("list", matches)) => list(matches).await,
        Some(("keep-alive", matches)) => keep_alive(matches).await,
        _ => super::help(&["lease"]),
    }
}

async fn grant(matches: &ArgMatches) -> Result<(), Failure> {
    let words = texts_of(matches);
    let [ttl] = words.as_slice() else {
        return Err(Failure::arguments("lease grant command needs TTL argument"));
    };
    let ttl = parse_int(ttl, 10).map_err(|error| Failure::arguments(format!("bad TTL ({error})")))?;
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let session = Session::open(matches)?;
    let call = |clients: Clients| async move { clients.lease().lease_grant(request).await };
    let granted = session.write(session.limit(), call).await;
    session.print(&Answer::LeaseGrant(granted.map_err(|error| error.within("failed to grant lease"))?))
}

async fn revoke(matches: &ArgMatches) -> Result<(), Failure> {
    let id = id_of(matches, "lease revoke command needs 1 argument")?;
    let request = pb::LeaseRevokeRequest { id };
    let session = Session::open(matches)?;
    let call = |clients: Clients| async move { clients.lease().lease_revoke(request).await };
    let revoked = session.write(session.limit(), call).await;
    let response = revoked.map_err(|error| error.within("failed to revoke lease"))?;
    session.print(&Answer::LeaseRevoke { id, response })
}

/// Like the other questions about leases it waits for the cluster as long as it takes, as etcdctl does.
async fn time_to_live(matches: &ArgMatches) -> Result<(), Failure> {
    let id = id_of(matches, "lease timetolive command needs lease ID as argument")?;
    let keys = is_on(matches, "keys");
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    let session = Session::open(matches)?;
    let call = |clients: Clients| async move { clients.lease().lease_time_to_live(request).await };
    let answered = session.read(None, call).await;
    let response = answered.map_err(|failure| failure.with_exit(Exit::BadConnection))?;
    session.print(&Answer::LeaseTimeToLive { response, keys })
}

async fn list(matches: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(matches)?;
    let request = pb::LeaseLeasesRequest {};
    let call = |clients: Clients| async move { clients.lease().lease_leases(request).await };
    let answered = session.read(None, call).await;
    session.print(&Answer::LeaseList(answered.map_err(|failure| failure.with_exit(Exit::BadConnection))?))
}

async fn keep_alive(matches: &ArgMatches) -> Result<(), Failure> {
    let id = id_of(matches, "lease keep-alive command needs lease ID as argument")?;
    let session = Session::open(matches)?;
    if is_on(matches, "once") {
        return keep_alive_once(&session, id).await;
    }
    renewal::keep_alive(&session, id, |renewed| session.print(&Answer::LeaseKeepAlive(renewed))).await?;
    if session.settings().format == Format::Simple {
        print(format!("lease {} expired or revoked.\n", lease_id(id)).as_bytes())?;
    }
    Ok(())
}

async fn keep_alive_once(session: &Session, id: i64) -> Result<(), Failure> {
    let call = |clients: Clients| async move { renewal::once(&clients, id).await.map(Response::new) };
    let answered = session.read(None, call).await;
    let renewed = answered.map_err(|failure| failure.with_exit(Exit::BadConnection))?;
    if renewed.ttl <= 0 {
        return Err(Failure::new(Exit::BadConnection, "etcdserver: requested lease not found"));
    }
    session.print(&Answer::LeaseKeepAlive(renewed))
}

/// The lease id that is the only word.
fn id_of(matches: &ArgMatches, missing: &str) -> Result<i64, Failure> {
    let words = texts_of(matches);
    let [id] = words.as_slice() else { return Err(Failure::arguments(missing)) };
    parse_int(id, 16)
        .map_err(|error| Failure::arguments(format!("bad lease ID arg ({error}), expecting ID in Hex")))
}
