//! Commands of etcdctl that this version does not have. Help lists them, and they say so when they are run,
//! so that nobody takes a missing feature for a mistyped command.

use clap::{Arg, Command};

/// The commands of the top level.
pub fn commands() -> Vec<Command> {
    [
        ("defrag", "Gives free space of the members' files back to the system"),
        ("downgrade", "Prepares the cluster for an older release"),
        ("snapshot", "Saves a snapshot of a member"),
        ("auth", "Turns authentication on and off"),
        ("role", "Manages roles"),
        ("user", "Manages users"),
        ("check", "Checks what the cluster can do"),
        ("make-mirror", "Copies keys to another cluster"),
        ("completion", "Prints a script that completes command lines"),
    ]
    .into_iter()
    .map(|(name, about)| command(name, about))
    .collect()
}

/// A command that takes any words and flags and does nothing.
pub fn command(name: &'static str, about: &str) -> Command {
    let anything =
        Arg::new("anything").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true).hide(true);
    Command::new(name).about(format!("{about} (not supported by this version)")).arg(anything)
}
