//! The command line tool; everything is in `detcd::ctl`.

use std::process::exit;

fn main() {
    let arguments = std::env::args_os().collect();
    // Exits inside: the end of the runtime would wait for a thread that reads standard input.
    let Err(error) = detcd::rt::run(async { exit(detcd::ctl::run(arguments).await.into()) });
    eprintln!("Error: cannot start: {error}");
    exit(1);
}
