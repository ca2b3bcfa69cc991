//! Running a program of the user's, and saying what went wrong with it as Go does.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use super::failure::Exit;
use super::golang::quote;
use crate::rt;

/// A program that did not run, or that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuccessful {
    /// What Go calls it.
    pub error: String,
    /// The exit code for a tool that ends with the program's.
    pub exit: Exit,
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be run, or ends with another code than zero, or by a signal.
pub async fn run(mut program: Command) -> Result<(), Unsuccessful> {
    let name = program.get_program().as_bytes().to_vec();
    outcome(&name, rt::blocking(move || program.status()).await)
}

fn outcome(program: &[u8], result: io::Result<ExitStatus>) -> Result<(), Unsuccessful> {
    let (error, exit) = match result {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => match (status.code(), status.signal()) {
            // The system gives one byte of it.
            (Some(code), _) => (format!("exit status {code}"), Exit::Program(code as u8)),
            (None, signal) => {
                (format!("signal: {}", signal_name(signal.unwrap_or_default())), Exit::Program(u8::MAX))
            }
        },
        // A name without a path is looked up; a file that is found but may not be run does not count.
        Err(error) if !program.contains(&b'/') && is_missing(&error) => {
            let error = format!("exec: {}: executable file not found in $PATH", quote(program));
            (error, Exit::Error)
        }
        Err(error) => {
            let program = String::from_utf8_lossy(program);
            (format!("fork/exec {program}: {}", errno_text(&error)), Exit::Error)
        }
    };
    Err(Unsuccessful { error, exit })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// An error of the system as Go words it: in small letters and without its number.
fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_lowercase()
}

/// A signal as Go names it.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        6 => "aborted",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(result: io::Result<ExitStatus>, error: &str, exit: Exit) {
        assert_eq!(outcome(b"x", result), Err(Unsuccessful { error: error.to_owned(), exit }));
    }

    #[test]
    fn failed_programs_are_told_as_go_does() {
        assert_eq!(outcome(b"x", Ok(ExitStatus::from_raw(0))), Ok(()));
        check(Ok(ExitStatus::from_raw(3 << 8)), "exit status 3", Exit::Program(3));
        check(Ok(ExitStatus::from_raw(9)), "signal: killed", Exit::Program(255));
        check(Ok(ExitStatus::from_raw(12)), "signal: signal 12", Exit::Program(255));
        let missing = "exec: \"x\": executable file not found in $PATH";
        check(Err(io::Error::from_raw_os_error(2)), missing, Exit::Error);
        check(Err(io::Error::from_raw_os_error(13)), missing, Exit::Error);
        let with_path = |number| outcome(b"./x", Err(io::Error::from_raw_os_error(number)));
        let failed = |error: &str| Err(Unsuccessful { error: error.to_owned(), exit: Exit::Error });
        assert_eq!(with_path(2), failed("fork/exec ./x: no such file or directory"));
        assert_eq!(with_path(13), failed("fork/exec ./x: permission denied"));
    }
}
