//! `endpoint health`, `endpoint status` and `endpoint hashkv`: each endpoint asked on its own.

use std::io::Write;
use std::time::Duration;

use clap::{ArgMatches, Command};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::failure::{Exit, Failure};
use super::flags::{is_on, number, number_of, switch, words};
use super::golang::format_duration;
use super::output::{Answer, EndpointHealth, Format, unhealthy};
use super::session::{Clients, Session};
use crate::proto::etcdserverpb as pb;
use crate::rt::{Clock, SystemClock};

/// What the server says to a user who may not read the probed key. The question went through the cluster
/// all the same.
const PERMISSION_DENIED: &str = "etcdserver: permission denied";

/// The command line of `endpoint`.
pub fn command() -> Command {
    Command::new("endpoint")
        .about("Asks endpoints how they are")
        .arg(switch("cluster", "ask all members' endpoints instead of --endpoints").global(true))
        .arg(words())
        .subcommands([
            Command::new("health").about("Tells whether endpoints serve requests").arg(words()),
            Command::new("status").about("Prints the state of endpoints").arg(words()),
            Command::new("hashkv")
                .about("Prints a hash over the history that endpoints hold")
                .arg(number("rev", "hash up to this revision (0: the latest)"))
                .arg(words()),
        ])
}

/// Runs the command.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else { return super::help(&["endpoint"]) };
    let session = Session::open(matches)?;
    let endpoints = if is_on(matches, "cluster") {
        members_endpoints(&session).await?
    } else {
        session.settings().endpoints.clone()
    };
    match name {
        "health" => health(&session, &endpoints).await,
        "status" => status(&session, &endpoints).await,
        _ => hash_kv(&session, &endpoints, number_of(matches, "rev")).await,
    }
}

async fn members_endpoints(session: &Session) -> Result<Vec<String>, Failure> {
    let request = pb::MemberListRequest { linearizable: true };
    let call = |clients: Clients| async move { clients.cluster().member_list(request).await };
    let listed = session.read(session.limit(), call).await.map_err(|failure| Failure {
        message: format!("failed to fetch endpoints from etcd cluster member list: {}", failure.message),
        ..failure
    })?;
    Ok(listed.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

/// Asks all endpoints at once; the answers stand in the order in which they came.
async fn health(session: &Session, endpoints: &[String]) -> Result<(), Failure> {
    let sessions: Vec<Session> = endpoints.iter().map(|one| session.at(one)).collect::<Result<_, _>>()?;
    let checks: FuturesUnordered<_> =
        endpoints.iter().zip(&sessions).map(|(endpoint, session)| check(session, endpoint)).collect();
    let checks: Vec<EndpointHealth> = checks.collect().await;
    session.print(&Answer::EndpointHealth(checks.clone()))?;
    if session.settings().format == Format::Simple {
        // Nothing can be done about a standard error that is closed.
        let _ = std::io::stderr().write_all(unhealthy(&checks).as_bytes());
    }
    if checks.iter().any(|check| !check.error.is_empty()) {
        return Err(Failure::new(Exit::Error, "unhealthy cluster"));
    }
    Ok(())
}

/// An endpoint is healthy when it answers a linearizable read and no alarm is raised.
async fn check(session: &Session, endpoint: &str) -> EndpointHealth {
    let clock = SystemClock::new();
    let begun = clock.now();
    let request = pb::RangeRequest { key: "health".into(), ..pb::RangeRequest::default() };
    let call = |clients: Clients| {
        let request = request.clone();
        async move { clients.kv().range(request).await }
    };
    let answered = session.read(session.limit(), call).await;
    let took = format_duration(Duration::from_nanos(clock.now().since(begun)));
    let error = match answered {
        Err(failure) if failure.message != PERMISSION_DENIED => failure.message,
        _ => alarms(session).await,
    };
    EndpointHealth { endpoint: endpoint.to_owned(), took, error }
}

/// What is wrong according to the alarms; empty when nothing is.
async fn alarms(session: &Session) -> String {
    let request = pb::AlarmRequest::default();
    let call = |clients: Clients| async move { clients.maintenance().alarm(request).await };
    match session.read(session.limit(), call).await {
        Err(_) => "Unable to fetch the alarm list".to_owned(),
        Ok(response) => alarm_error(&response),
    }
}

fn alarm_error(response: &pb::AlarmResponse) -> String {
    if response.alarms.is_empty() {
        return String::new();
    }
    let names = response.alarms.iter().map(|alarm| match alarm.alarm() {
        pb::AlarmType::Nospace => "NOSPACE ",
        pb::AlarmType::Corrupt => "CORRUPT ",
        pb::AlarmType::None => "UNKNOWN ",
    });
    format!("Active Alarm(s): {}", names.collect::<String>())
}

async fn status(session: &Session, endpoints: &[String]) -> Result<(), Failure> {
    let call = |clients: Clients| async move { clients.maintenance().status(pb::StatusRequest {}).await };
    let (answers, failed) = ask_each(session, endpoints, "status", call).await?;
    session.print(&Answer::EndpointStatus(answers))?;
    match failed {
        // All that can be said about it was said with the endpoint.
        Some(_) => Err(Failure::new(Exit::Error, "")),
        None => Ok(()),
    }
}

async fn hash_kv(session: &Session, endpoints: &[String], revision: i64) -> Result<(), Failure> {
    let request = pb::HashKvRequest { revision };
    let call = |clients: Clients| async move { clients.maintenance().hash_kv(request).await };
    let (answers, failed) = ask_each(session, endpoints, "hash", call).await?;
    session.print(&Answer::EndpointHashKv(answers))?;
    failed.map_or(Ok(()), Err)
}

/// Asks one endpoint after the other. Gives the answers and the last failure; each was told.
async fn ask_each<T, F>(
    session: &Session,
    endpoints: &[String],
    what: &str,
    call: impl Fn(Clients) -> F,
) -> Result<(Vec<(String, T)>, Option<Failure>), Failure>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    let mut answers = Vec::new();
    let mut failed = None;
    for endpoint in endpoints {
        match session.at(endpoint)?.read(session.limit(), &call).await {
            Ok(answer) => answers.push((endpoint.clone(), answer)),
            Err(failure) => {
                eprintln!("Failed to get the {what} of endpoint {endpoint} ({})", failure.message);
                failed = Some(failure);
            }
        }
    }
    Ok((answers, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_alarms_are_an_error() {
        let alarms = |alarms: &[pb::AlarmType]| {
            let member = |alarm: &pb::AlarmType| pb::AlarmMember { member_id: 1, alarm: (*alarm).into() };
            alarm_error(&pb::AlarmResponse { header: None, alarms: alarms.iter().map(member).collect() })
        };
        assert_eq!(alarms(&[]), "");
        let both = [pb::AlarmType::Nospace, pb::AlarmType::Corrupt];
        assert_eq!(alarms(&both), "Active Alarm(s): NOSPACE CORRUPT ");
    }
}
