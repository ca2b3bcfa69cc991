//! How a command fails: what it says and the exit code, which scripts read.

use tonic::{Code, Status};

use crate::client::EndpointError;

/// The text of a command that ran out of time.
const DEADLINE: &str = "context deadline exceeded";

/// Exit codes of etcdctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The request failed, or the command line was not understood.
    Error,
    /// No connection, and what etcdctl counts as such.
    BadConnection,
    /// A line of a transaction or an interactive watch was not understood.
    InvalidInput,
    /// A known option with a value that is not supported, or a part of etcdctl that is not built.
    BadFeature,
    /// The server ended what should have gone on.
    Interrupted,
    /// Standard output is gone.
    Io,
    /// Wrong arguments.
    BadArguments,
    /// A program that the tool ran ended with this code.
    Program(u8),
}

impl Exit {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::BadConnection => 2,
            Self::InvalidInput => 3,
            Self::BadFeature => 4,
            Self::Interrupted => 5,
            Self::Io => 6,
            Self::BadArguments => 128,
            Self::Program(code) => code,
        }
    }
}

/// Why a command ends without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is printed after `Error: `. Empty when everything was said before.
    pub message: String,
}

impl Failure {
    /// A failure with its message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Wrong arguments.
    pub fn arguments(message: impl Into<String>) -> Self {
        Self::new(Exit::BadArguments, message)
    }

    /// What the user asked for exists in etcdctl, but not here.
    pub fn unsupported(what: &str) -> Self {
        Self::new(Exit::BadFeature, format!("{what} is not supported by this version"))
    }

    /// The command's time ran out.
    pub fn deadline() -> Self {
        Self::new(Exit::Error, DEADLINE)
    }

    /// The same with another exit code.
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same inside `text (...)`, as `lease grant` says it.
    pub fn within(self, text: &str) -> Self {
        Self { message: format!("{text} ({})", self.message), ..self }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::new(Exit::Error, describe(&status))
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        let exit = match error {
            EndpointError::Unsupported { .. } => Exit::BadFeature,
            EndpointError::Malformed { .. } => Exit::BadArguments,
        };
        Self::new(exit, error.to_string())
    }
}

/// An error of the server as etcdctl prints it: its own texts alone, others with their code.
pub fn describe(status: &Status) -> String {
    let text = status.message();
    if text.starts_with("etcdserver: ") {
        return text.to_owned();
    }
    let code = match status.code() {
        // Go spells it with one l.
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    };
    format!("rpc error: code = {code} desc = {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: Failure, exit: u8, message: &str) {
        assert_eq!((failure.exit.code(), failure.message.as_str()), (exit, message));
    }

    #[test]
    fn failures_have_etcdctls_exit_codes() {
        check(Failure::deadline(), 1, "context deadline exceeded");
        check(Failure::arguments("x"), 128, "x");
        check(Failure::unsupported("TLS"), 4, "TLS is not supported by this version");
        check(Failure::deadline().with_exit(Exit::BadConnection), 2, "context deadline exceeded");
        check(Failure::new(Exit::InvalidInput, "EOF"), 3, "EOF");
        check(Failure::new(Exit::Interrupted, "over"), 5, "over");
        check(Failure::new(Exit::Io, "pipe"), 6, "pipe");
        check(Failure::new(Exit::Program(9), "exit status 9"), 9, "exit status 9");
        let lost = Status::not_found("etcdserver: requested lease not found");
        check(
            Failure::from(lost).within("failed to revoke lease"),
            1,
            "failed to revoke lease (etcdserver: requested lease not found)",
        );
    }

    #[test]
    fn foreign_errors_keep_their_code() {
        check(Status::unavailable("gone").into(), 1, "rpc error: code = Unavailable desc = gone");
        check(Status::cancelled("x").into(), 1, "rpc error: code = Canceled desc = x");
    }

    #[test]
    fn endpoints_fail_as_arguments_or_features() {
        let failure = |text: &str| Failure::from(text.parse::<crate::client::Endpoint>().unwrap_err());
        assert_eq!(failure("https://h:1").exit, Exit::BadFeature);
        assert_eq!(failure("nonsense").exit, Exit::BadArguments);
    }
}
