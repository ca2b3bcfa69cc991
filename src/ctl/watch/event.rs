//! One answer of a watch: shown, and its events handed to the user's command.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use tonic::Status;

use crate::ctl::failure::{Exit, Failure, describe};
use crate::ctl::golang::quote;
use crate::ctl::output::Answer;
use crate::ctl::process::{Unsuccessful, run};
use crate::ctl::session::{Session, print};
use crate::proto::etcdserverpb::WatchResponse;
use crate::proto::{EncodedEvent, EventType};

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
            if let Err(Unsuccessful { error, .. }) = run(process).await {
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
    fn a_command_is_told_as_go_prints_a_list() {
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
