//! The server's program: reads the configuration, begins logging, runs the server until it is told to
//! stop. Under the name `etcd` it is the same.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use detcd::rt::{self, ShutdownTrigger};
use detcd::server::config::{self, ConfigError, ServerConfig, Start};
use detcd::server::event_loop::Ended;
use detcd::server::{logging, start};
use detcd::types::LocalFault;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let program = program_name(arguments.next());
    let arguments: Vec<String> = arguments.collect();
    match config::load(&arguments, &environment()) {
        Ok(Start::Print(text)) => {
            // Nobody may be reading, as behind `| head -1`.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Start::Serve(config)) => match serve(&config, &arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("{program}: {fault}");
                ExitCode::FAILURE
            }
        },
        Err(ConfigError { message, exit_code }) => {
            eprintln!("{program}: {message}");
            if exit_code == 2 {
                eprintln!("Run '{program} --help' for usage.");
            }
            ExitCode::from(exit_code)
        }
    }
}

/// The name that the program was started by, without its folder.
fn program_name(argument: Option<String>) -> String {
    let name = argument.as_deref().and_then(|path| Path::new(path).file_name());
    name.map_or_else(|| "detcd".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The variables of the process that are texts; others cannot be the server's.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Serves until the operator or the cluster says to stop.
fn serve(config: &ServerConfig, arguments: &[String]) -> Result<(), LocalFault> {
    // Dropped last: the lines of the end are written too.
    let _log = logging::init(config)?;
    tracing::info!(?arguments, version = env!("CARGO_PKG_VERSION"), "starting");
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let ended = rt::run(async {
        let (trigger, shutdown) = rt::shutdown_channel();
        rt::spawn(stop_on_signal(trigger));
        start::run(config, shutdown).await
    })
    .map_err(|error| LocalFault::new(format!("the system refuses to run a server: {error}")))
    .flatten();
    match &ended {
        Ok(Ended::Shutdown) => tracing::info!("stopped"),
        Ok(Ended::Removed) => tracing::warn!("stopped: the member was removed from its cluster"),
        Err(fault) => tracing::error!(error = %fault, "the server failed"),
    }
    ended.map(drop)
}

/// Passes the first signal on, and ends the process at the second: the operator has no more patience.
async fn stop_on_signal(trigger: ShutdownTrigger) {
    match rt::terminated().await {
        Ok(signal) => tracing::info!(signal, "received signal; shutting down"),
        Err(error) => {
            // Without the trigger the server would stop at once: keep it, and leave the end to SIGKILL.
            tracing::error!(%error, "signals cannot be received");
            std::future::pending().await
        }
    }
    trigger.trigger();
    if let Ok(signal) = rt::terminated().await {
        eprintln!("received {signal} again: ending without cleaning up");
        std::process::exit(1);
    }
}
