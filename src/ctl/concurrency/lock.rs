//! `lock`: holds a lock until it is told to end, or while a program runs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::pin::pin;
use std::process::{Command as Program, Stdio};

use clap::{ArgMatches, Command};

use super::line::{Line, Place};
use super::{Lease, cancelled, interrupted};
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::flags::{number, number_of, words, words_of};
use crate::ctl::output::Answer;
use crate::ctl::process;
use crate::ctl::session::Session;
use crate::proto::etcdserverpb::RangeResponse;
use crate::rt;

/// The command line of `lock`.
pub fn command() -> Command {
    Command::new("lock")
        .about("Holds a lock until it is interrupted, or while a program runs")
        .override_usage("etcdctl lock [options] <lockname> [exec-command arg1 arg2 ...]")
        .after_help("The program finds ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment.")
        .args([
            number("ttl", "seconds after which the lock of a process that died is free")
                .default_value("10")
                .hide_default_value(false),
            words(),
        ])
}

/// Runs `lock`.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let words = words_of(matches);
    let [name, program @ ..] = words.as_slice() else {
        let text = "lock takes a lock name argument and an optional command to execute";
        return Err(Failure::arguments(text));
    };
    let session = Session::open(matches)?;
    let mut lease = Lease::grant(&session, number_of(matches, "ttl")).await?;
    let mut asked = pin!(interrupted());
    let line = Line::new(name);
    let place = rt::select! {
        place = line.enter(&session, lease.id, b"") => place?,
        asked = &mut asked => return asked.and(Err(cancelled())),
    };
    let held = rt::select! {
        held = turn(&session, &line, &place) => held?,
        asked = &mut asked => {
            asked?;
            // If it fails the key goes with its lease.
            let _ = place.delete(&session).await;
            return Err(cancelled());
        }
    };
    if let [program, arguments @ ..] = program {
        let ended = execute(program, arguments, &place, &held).await;
        let unlocked = place.delete(&session).await;
        return ended.and(unlocked);
    }
    session.print(&Answer::Get { response: held, values_only: false })?;
    rt::select! {
        asked = &mut asked => {
            asked?;
            place.delete(&session).await
        }
        () = lease.gone() => Err(Failure::new(Exit::Error, "session expired")),
    }
}

/// Waits for the lock; gives its key as it is then.
async fn turn(session: &Session, line: &Line, place: &Place) -> Result<RangeResponse, Failure> {
    let waited = async {
        line.turn(session, place).await?;
        place.look(session).await
    };
    match waited.await {
        Ok(held) if held.kvs.is_empty() => Err(Failure::new(Exit::Error, "mutex: session is expired")),
        Ok(held) => Ok(held),
        Err(failure) => {
            // The failure is what the user has to know; the key goes with its lease if not now.
            let _ = place.delete(session).await;
            Err(failure)
        }
    }
}

/// Runs the user's program while the lock is held.
async fn execute(
    program: &[u8],
    arguments: &[Vec<u8>],
    place: &Place,
    held: &RangeResponse,
) -> Result<(), Failure> {
    let mut command = Program::new(OsStr::from_bytes(program));
    command
        .args(arguments.iter().map(|argument| OsStr::from_bytes(argument)))
        .stdin(Stdio::null())
        .env("ETCD_LOCK_KEY", OsStr::from_bytes(&place.key))
        .env("ETCD_LOCK_REV", held.header.unwrap_or_default().revision.to_string());
    process::run(command).await.map_err(|ended| Failure::new(ended.exit, ended.error))
}
