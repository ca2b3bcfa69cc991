//! `watch`: prints events as they happen, or runs a command for each.
//!
//! ```text
//!   command line, or lines of -i ──> Order ──> follow: one stream for all watches ──> print, run
//! ```
//!
//! A stream that breaks is opened again, and every watch goes on behind what it has shown: nothing is
//! missed, nothing is shown twice.

mod event;
mod stream;

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command};
use futures::channel::mpsc;

use self::stream::{Order, follow};
use super::failure::{Exit, Failure};
use super::flags::{is_on, number, switch, words};
use super::golang::quote;
use super::parse::{WatchKey, WatchLineError, interactive_watch, watch_line};
use super::session::Session;
use crate::rt;

/// The command line of `watch`.
pub fn command() -> Command {
    Command::new("watch")
        .about("Prints changes of keys as they happen")
        .override_usage("etcdctl watch [options] [key] [range_end] [-- command...]")
        .after_help("With a command, runs it for every event, with ETCD_WATCH_* in its environment.")
        .args([
            switch("interactive", "read watches from standard input").short('i'),
            switch("prefix", "watch all keys that begin with the key"),
            number("rev", "begin at this revision (0: now)"),
            switch("prev-kv", "print also the key-value from before"),
            switch("progress-notify", "print how far the watch got when nothing happens"),
            words(),
            Arg::new("command")
                .value_parser(clap::value_parser!(OsString))
                .num_args(0..)
                .last(true)
                .hide(true),
        ])
}

/// Runs `watch`; `arguments` is the whole command line.
pub async fn run(matches: &ArgMatches, arguments: &[OsString]) -> Result<(), Failure> {
    let environment = environment_key()?;
    let (orders, ordered) = mpsc::unbounded();
    if is_on(matches, "interactive") {
        let session = Session::open(matches)?;
        let following = follow(session, ordered, true);
        let reading = read_orders(&environment, orders);
        return rt::select! {
            result = following => result,
            result = reading => result,
        };
    }
    let separator_last = arguments.last().is_some_and(|word| word == "--");
    let line = watch_line(matches, separator_last, &environment).map_err(|error| match error {
        WatchLineError::Line(text) | WatchLineError::Watch(text) => Failure::arguments(text),
    })?;
    let session = Session::open(matches)?;
    // The receiver lives in the call below, so this cannot fail.
    let _ = orders.unbounded_send(Order::Watch(line));
    follow(session, ordered, false).await?;
    Err(Failure::new(Exit::Interrupted, "watch is canceled by the server"))
}

fn environment_key() -> Result<WatchKey, Failure> {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    let environment =
        WatchKey { key: variable("ETCDCTL_WATCH_KEY"), range_end: variable("ETCDCTL_WATCH_RANGE_END") };
    if environment.key.is_empty() && !environment.range_end.is_empty() {
        let range_end = quote(environment.range_end.to_string_lossy().as_bytes());
        return Err(Failure::arguments(format!(
            "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={range_end}"
        )));
    }
    Ok(environment)
}

/// Reads lines until the input or the command ends.
async fn read_orders(environment: &WatchKey, orders: mpsc::UnboundedSender<Order>) -> Result<(), Failure> {
    loop {
        let read = rt::blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        })
        .await;
        let failure = |reason: &str| {
            Failure::new(Exit::InvalidInput, format!("error reading watch request line: {reason}"))
        };
        let line = read.map_err(|error| failure(&error.to_string()))?;
        let Some(line) = line.strip_suffix('\n') else { return Err(failure("EOF")) };
        if let Some(order) = order(line, environment)? {
            // The other side lives as long as this one.
            let _ = orders.unbounded_send(order);
        }
    }
}

/// What a line orders; none after a complaint that does not end the command.
fn order(line: &str, environment: &WatchKey) -> Result<Option<Order>, Failure> {
    let words = super::parse::words(line).map_err(|error| Failure::new(Exit::InvalidInput, error))?;
    let complaint = match words.first().map(Vec::as_slice) {
        None => format!("Invalid command: {line} (watch and progress supported)"),
        Some(b"progress") => return Ok(Some(Order::Progress)),
        Some(b"watch") if words.len() < 2 && environment.key.is_empty() => {
            format!("Invalid command {line} (command type or key is not provided)")
        }
        Some(b"watch") => match interactive_watch(words, environment) {
            Ok(watch) => return Ok(Some(Order::Watch(watch))),
            Err(WatchLineError::Line(text)) => return Err(Failure::arguments(text)),
            Err(WatchLineError::Watch(text)) => format!("Invalid command {line} ({text})"),
        },
        Some(_) => format!("Invalid command {line} (only support watch)"),
    };
    eprintln!("{complaint}");
    Ok(None)
}
