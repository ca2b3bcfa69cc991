//! `cargo sim`: see `sim/README.md`.

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    sim::cli::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!("the simulator needs its own build: run `cargo sim`");
    std::process::ExitCode::FAILURE
}
