//! `alarm list` and `alarm disarm`.

use clap::{ArgMatches, Command};

use super::failure::Failure;
use super::flags::{words, words_of};
use super::output::Answer;
use super::session::{Clients, Session};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmResponse};

/// The command line of `alarm`.
pub fn command() -> Command {
    Command::new("alarm").about("Lists and disarms alarms").arg(words()).subcommands([
        Command::new("list").about("Lists all alarms").arg(words()),
        Command::new("disarm").about("Disarms all alarms").arg(words()),
    ])
}

/// Runs the command.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else { return super::help(&["alarm"]) };
    if !words_of(matches).is_empty() {
        return Err(Failure::arguments(format!("alarm {name} command accepts no arguments")));
    }
    let session = Session::open(matches)?;
    let list = AlarmRequest { action: AlarmAction::Get.into(), ..AlarmRequest::default() };
    let call = |clients: Clients| async move { clients.maintenance().alarm(list).await };
    let mut response = session.read(session.limit(), call).await?;
    if name == "disarm" {
        response = disarm(&session, response).await?;
    }
    session.print(&Answer::Alarm(response))
}

/// Disarms what is raised, one by one. The answers are gathered into one without a header.
async fn disarm(session: &Session, raised: AlarmResponse) -> Result<AlarmResponse, Failure> {
    let mut disarmed = AlarmResponse::default();
    for alarm in raised.alarms {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        let call = |clients: Clients| async move { clients.maintenance().alarm(request).await };
        disarmed.alarms.extend(session.write(session.limit(), call).await?.alarms);
    }
    Ok(disarmed)
}
