//! One answer of a watch: shown, and its events handed to the user's command.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitStatus};

use tonic::Status;

use crate::ctl::failure::{Exit, Failure, describe};
use crate::ctl::golang::quote;
use crate::ctl::output::Answer;
use crate::ctl::session::{Session, print};
use crate::proto::etcdserverpb::WatchResponse;
use crate::proto::{EncodedEvent, EventType};
use crate::rt;

/// Shows an answer, then runs `command`, if there is one, for each of its events.
///
/// # Errors
/// When it cannot be shown, or the command fails.
pub async fn show(session: &Session, answer: &WatchResponse, command: &[OsString]) -> Result<(), Failure> {
    let revision = answer.header.unwrap_or_default().revision;
    if answer.events.is_empty() && answer.compact_revision == 0 && revision != 0 {
        print(format!("progress notify: {revision}\n").as_bytes())?;
    }
    session.print(&Answer::Watch(answer.clone()))?;
    if let [program, arguments @ ..] = command {
        for event in &answer.events {
            let mut process = Command::new(program);
            process.args(arguments).envs(variables(event, revision)?);
            if let Some(error) = error_of(program, rt::blocking(move || process.status()).await) {
                eprintln!("command {} error ({error})", words(command));
                return Err(Failure::new(Exit::Error, ""));
            }
        }
    }
    Ok(())
}

/// Shows that the server ended a watch.
///
/// # Errors
/// When it cannot be shown.
pub fn show_cancelled(session: &Session, answer: WatchResponse) -> Result<(), Failure> {
    eprintln!("watch was canceled ({})", reason(&answer));
    session.print(&Answer::Watch(WatchResponse { created: false, ..answer }))
}

/// Why a watch was cancelled. A server need not say so when the revision tells it.
fn reason(answer: &WatchResponse) -> String {
    if answer.compact_revision != 0 {
        return "etcdserver: mvcc: required revision has been compacted".to_owned();
    }
    if answer.cancel_reason.is_empty() {
        return "etcdserver: mvcc: required revision is a future revision".to_owned();
    }
    describe(&Status::failed_precondition(&answer.cancel_reason))
}

/// What the command's environment tells about an event. Texts are quoted, quotes included.
fn variables(event: &EncodedEvent, revision: i64) -> Result<[(&'static str, String); 4], Failure> {
    let malformed = |error: prost::DecodeError| Failure::from(Status::internal(error.to_string()));
    let event = event.decode().map_err(malformed)?;
    let name = if event.r#type() == EventType::Put { "PUT" } else { "DELETE" };
    let kv = event.kv.unwrap_or_default().decode().map_err(malformed)?;
    Ok([
        ("ETCD_WATCH_REVISION", revision.to_string()),
        ("ETCD_WATCH_EVENT_TYPE", quote(name.as_bytes())),
        ("ETCD_WATCH_KEY", quote(&kv.key)),
        ("ETCD_WATCH_VALUE", quote(&kv.value)),
    ])
}

/// What went wrong with a command, as Go says it.
fn error_of(program: &OsStr, result: io::Result<ExitStatus>) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    let error = match result {
        Ok(status) if status.success() => return None,
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("signal: {}", signal.unwrap_or_default()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && !program.as_bytes().contains(&b'/') => {
            format!("exec: {}: executable file not found in $PATH", quote(program.as_bytes()))
        }
        Err(error) => error.to_string(),
    };
    Some(error)
}

/// A command as Go prints a list of quoted strings.
fn words(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| quote(word.as_bytes())).collect();
    format!("[{}]", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Event, KeyValue};

    #[test]
    fn commands_are_told_what_happened() {
        let kv = KeyValue { key: "w".into(), value: "a\"b\nc".into(), ..KeyValue::default() };
        let event = Event { r#type: 0, kv: Some((&kv).into()), prev_kv: None };
        let expected = [
            ("ETCD_WATCH_REVISION", "76".to_owned()),
            ("ETCD_WATCH_EVENT_TYPE", "\"PUT\"".to_owned()),
            ("ETCD_WATCH_KEY", "\"w\"".to_owned()),
            ("ETCD_WATCH_VALUE", "\"a\\\"b\\nc\"".to_owned()),
        ];
        assert_eq!(variables(&event.into(), 76).unwrap(), expected);
    }

    #[test]
    fn failed_commands_are_told_as_go_does() {
        use std::os::unix::process::ExitStatusExt;
        let status = |raw| error_of(OsStr::new("x"), Ok(ExitStatus::from_raw(raw)));
        assert_eq!(status(0), None);
        assert_eq!(status(3 << 8).as_deref(), Some("exit status 3"));
        assert_eq!(status(9).as_deref(), Some("signal: 9"));
        let missing = error_of(OsStr::new("x"), Err(io::ErrorKind::NotFound.into()));
        assert_eq!(missing.as_deref(), Some("exec: \"x\": executable file not found in $PATH"));
        assert_eq!(words(&["sh".into(), "-c".into(), "exit 3".into()]), "[\"sh\" \"-c\" \"exit 3\"]");
    }

    #[test]
    fn reasons_are_told() {
        let answer = |compact_revision, reason: &str| WatchResponse {
            compact_revision,
            cancel_reason: reason.to_owned(),
            ..WatchResponse::default()
        };
        assert_eq!(reason(&answer(5, "")), "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(reason(&answer(0, "")), "etcdserver: mvcc: required revision is a future revision");
        assert_eq!(reason(&answer(0, "etcdserver: permission denied")), "etcdserver: permission denied");
        let foreign = "rpc error: code = FailedPrecondition desc = other";
        assert_eq!(reason(&answer(0, "other")), foreign);
    }
}
