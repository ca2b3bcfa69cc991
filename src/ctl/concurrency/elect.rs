//! `elect`: stands for election and leads until it is told to end, or shows who leads.

use std::pin::pin;

use bytes::Bytes;
use clap::{ArgMatches, Command};

use super::events::{Change, Events};
use super::line::{Line, only};
use super::{DEFAULT_TTL, Lease, cancelled, interrupted};
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::flags::{is_on, switch, words, words_of};
use crate::ctl::output::Answer;
use crate::ctl::session::Session;
use crate::proto::KeyValue;
use crate::proto::etcdserverpb::{RangeResponse, ResponseHeader};
use crate::rt;

/// The command line of `elect`.
pub fn command() -> Command {
    Command::new("elect")
        .about("Stands for election and leads until it is interrupted, or shows who leads")
        .override_usage("etcdctl elect [options] <election-name> [proposal]")
        .args([switch("listen", "show who leads").short('l'), words()])
}

/// Runs `elect`.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let words = words_of(matches);
    match (words.as_slice(), is_on(matches, "listen")) {
        ([name], true) => observe(&Session::open(matches)?, name).await,
        ([name, proposal], false) => campaign(&Session::open(matches)?, name, proposal).await,
        ([_], false) => Err(Failure::arguments("no proposal argument but -l not set")),
        ([_, _], true) => Err(Failure::arguments("proposal given but -l is set")),
        _ => Err(Failure::arguments(
            "elect takes one election name argument and an optional proposal argument",
        )),
    }
}

async fn campaign(session: &Session, name: &[u8], proposal: &[u8]) -> Result<(), Failure> {
    let mut lease = Lease::grant(session, DEFAULT_TTL).await?;
    let mut asked = pin!(interrupted());
    let line = Line::new(name);
    let place = rt::select! {
        place = line.enter(session, lease.id, proposal) => place?,
        asked = &mut asked => return asked.and(Err(cancelled())),
    };
    rt::select! {
        won = line.turn(session, &place) => won?,
        asked = &mut asked => {
            asked?;
            // If it fails the key goes with its lease.
            let _ = place.resign(session).await;
            return Err(cancelled());
        }
    }
    show(session, place.look(session).await?)?;
    rt::select! {
        asked = &mut asked => {
            asked?;
            place.resign(session).await
        }
        () = lease.gone() => Err(Failure::new(Exit::Error, "elect: session expired")),
    }
}

/// Shows who leads, and every change of it, until it is interrupted.
async fn observe(session: &Session, name: &[u8]) -> Result<(), Failure> {
    let line = Line::new(name);
    rt::select! {
        lost = follow(session, &line) => match lost {
            // What was wrong with standard output is worth its own words.
            Err(failure) if failure.exit == Exit::Io => Err(failure),
            _ => Err(Failure::new(Exit::Error, "elect: observer lost")),
        },
        asked = interrupted() => asked,
    }
}

async fn follow(session: &Session, line: &Line) -> Result<(), Failure> {
    loop {
        let (header, leader) = leader(session, line).await?;
        show(session, found(header, &leader))?;
        let mut events = Events::new(session, (leader.key, Bytes::new()), header.revision + 1);
        loop {
            let Change { header, deleted, kv } = events.next().await?;
            if deleted {
                break;
            }
            show(session, found(header, &kv))?;
        }
    }
}

/// The first key of the line, waiting for one. Its header's revision is one at which it was first.
async fn leader(session: &Session, line: &Line) -> Result<(ResponseHeader, KeyValue), Failure> {
    let answer = line.first(session).await?;
    let header = answer.header.unwrap_or_default();
    if let Some(kv) = only(&answer)? {
        return Ok((header, kv));
    }
    let mut events = Events::new(session, line.keys(), header.revision);
    loop {
        let Change { header, deleted, kv } = events.next().await?;
        if !deleted {
            return Ok((ResponseHeader { revision: kv.mod_revision, ..header }, kv));
        }
    }
}

fn found(header: ResponseHeader, kv: &KeyValue) -> RangeResponse {
    RangeResponse { header: Some(header), kvs: vec![kv.into()], ..RangeResponse::default() }
}

fn show(session: &Session, response: RangeResponse) -> Result<(), Failure> {
    session.print(&Answer::Get { response, values_only: false })
}
