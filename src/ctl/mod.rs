//! `detcdctl`: the operator's command line. It takes etcdctl 3.7's commands, flags and environment, prints
//! what etcdctl prints, and ends with etcdctl's exit codes, so that scripts written for one run with the
//! other, also under the name `etcdctl`.
//!
//! ```text
//!   command line ──> clap ──> one file a command family ──> request ──> session ──> cluster
//!                    flags      put get del txn watch ...                  │
//!                    usage      parse: lines of txn and watch -i           v
//!                               golang: how Go reads and writes values   Answer ──> output ──> stdout
//! ```
//!
//! A command turns words into a request by a pure function, sends it over its [`session`], and hands the
//! answer to [`output`]. What etcdctl has and this version has not is listed in [`unsupported`].
//!
//! Invariants:
//! - this room knows the wire and nothing of the server;
//! - standard output carries answers only; everything else goes to standard error;
//! - a request that changes something is sent at most once.

mod alarm;
mod compaction;
mod concurrency;
mod del;
mod endpoint;
mod environment;
mod failure;
mod flags;
mod get;
mod golang;
mod lease;
mod member;
mod move_leader;
mod output;
mod parse;
mod process;
mod put;
mod renewal;
mod session;
mod span;
mod txn;
mod unsupported;
mod usage;
mod watch;

use std::ffi::OsString;

use clap::{ArgMatches, Command};

use self::failure::Failure;
use crate::types::version::{API_VERSION, ETCD_VERSION};

/// What `-h` ends with.
const HELP_END: &str = "Use \"etcdctl options\" for the flags that every command takes.";

/// Runs one command line, `arguments[0]` being the program; gives the exit code.
pub async fn run(arguments: Vec<OsString>) -> u8 {
    let matches = match command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => {
            print!("{error}");
            return 0;
        }
        Err(error) => {
            eprintln!("Error: {}\n{}", usage::describe(&error), usage::hint(&error));
            return failure::Exit::Error.code();
        }
    };
    match dispatch(&matches, &arguments).await {
        Ok(()) => 0,
        Err(Failure { exit, message }) => {
            if !message.is_empty() {
                eprintln!("Error: {message}");
            }
            exit.code()
        }
    }
}

/// All commands and flags.
fn command() -> Command {
    Command::new("etcdctl")
        .about("Talks to a detcd or etcd cluster")
        .infer_subcommands(true)
        .args_override_self(true)
        .args(flags::globals())
        .after_help(HELP_END)
        .subcommands([
            put::command(),
            get::command(),
            del::command(),
            txn::command(),
            watch::command(),
            compaction::command(),
            lease::command(),
            concurrency::lock::command(),
            concurrency::elect::command(),
            endpoint::command(),
            member::command(),
            alarm::command(),
            move_leader::command(),
            Command::new("version").about("Prints the versions of the tool and of the API"),
            Command::new("options").about("Lists the flags that every command takes"),
        ])
        .subcommands(unsupported::commands())
}

async fn dispatch(matches: &ArgMatches, arguments: &[OsString]) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else { return help(&[]) };
    match name {
        "put" => put::run(matches).await,
        "get" => get::run(matches).await,
        "del" => del::run(matches).await,
        "txn" => txn::run(matches).await,
        "watch" => watch::run(matches, arguments).await,
        "compaction" => compaction::run(matches).await,
        "lease" => lease::run(matches).await,
        "lock" => concurrency::lock::run(matches).await,
        "elect" => concurrency::elect::run(matches).await,
        "endpoint" => endpoint::run(matches).await,
        "member" => member::run(matches).await,
        "alarm" => alarm::run(matches).await,
        "move-leader" => move_leader::run(matches).await,
        "version" => {
            let text = format!("etcdctl version: {ETCD_VERSION}\nAPI version: {API_VERSION}\n");
            session::print(text.as_bytes())
        }
        "options" => options(),
        _ => Err(Failure::unsupported(name)),
    }
}

/// Prints the help of the command that these names lead to.
fn help(path: &[&str]) -> Result<(), Failure> {
    let mut root = command();
    root.build();
    let command = path.iter().try_fold(&mut root, |command, name| command.find_subcommand_mut(name));
    let text = command.map(|command| command.render_help().to_string()).unwrap_or_default();
    session::print(text.as_bytes())
}

fn options() -> Result<(), Failure> {
    let flags = flags::globals().into_iter().map(|flag| flag.hide(false));
    let mut list = Command::new("options")
        .disable_help_flag(true)
        .help_template("These flags go with every command:\n\n{options}\n")
        .args(flags);
    session::print(list.render_help().to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_tree_is_sound() {
        super::command().debug_assert();
    }

    #[test]
    fn commands_may_be_abbreviated() {
        for (line, name) in
            [("ge a", "get"), ("le li", "lease"), ("compa 1", "compaction"), ("ver", "version")]
        {
            let line = std::iter::once("etcdctl").chain(line.split(' '));
            let matches = super::command().try_get_matches_from(line).unwrap();
            assert_eq!(matches.subcommand_name(), Some(name));
        }
    }
}
