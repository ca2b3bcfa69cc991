//! `/health`: whether the member can serve, as one word.
//!
//! An alarm comes first, then a missing leader, then a read through the whole cluster, or of this member
//! alone when the query says `serializable=true`. The query may `exclude` alarms by name.

use http::StatusCode;

use super::page::{Page, page, text};
use super::query::Query;
use super::read::{self, ReadKind};
use crate::mailbox::Mailbox;
use crate::member::MemberView;
use crate::proto::etcdserverpb::AlarmType;
use crate::types::MemberId;

/// What the client wants checked.
struct HealthQuery {
    exclude: Vec<String>,
    serializable: bool,
}

impl HealthQuery {
    fn parse(query: &str) -> Self {
        let query = Query::parse(query);
        Self {
            exclude: query.all("exclude").map(str::to_owned).collect(),
            serializable: query.first("serializable") == Some("true"),
        }
    }
}

#[derive(serde::Serialize)]
struct Health<'a> {
    health: &'a str,
    reason: &'a str,
}

/// Answers a probe, and says whether the member is healthy.
pub(super) async fn health(mailbox: &Mailbox, query: &str) -> (Page, bool) {
    let query = HealthQuery::parse(query);
    let verdict = match standing(&mailbox.view(), &query) {
        Ok(()) => {
            let kind = if query.serializable { ReadKind::Serializable } else { ReadKind::Linearizable };
            read::one_key(mailbox, kind).await.map_err(|error| format!("RANGE ERROR:{error}"))
        }
        Err(reason) => Err(reason),
    };
    if let Err(reason) = &verdict {
        tracing::warn!(reason, "/health is false");
    }
    (answer(&verdict), verdict.is_ok())
}

/// What the member's standing says, before any read.
fn standing(view: &MemberView, query: &HealthQuery) -> Result<(), String> {
    let name = |alarm: AlarmType| match alarm {
        AlarmType::Nospace | AlarmType::Corrupt => alarm.as_str_name(),
        AlarmType::None => "UNKNOWN",
    };
    let excluded = |alarm: AlarmType| query.exclude.iter().any(|name| name == alarm.as_str_name());
    let mut alarms = view.alarms.iter().map(|alarm| alarm.alarm());
    if let Some(alarm) = alarms.find(|&alarm| !excluded(alarm)) {
        return Err(format!("ALARM {}", name(alarm)));
    }
    if !query.serializable && view.status.leader == MemberId(0) {
        return Err("RAFT NO LEADER".to_owned());
    }
    Ok(())
}

/// The page of a verdict. Go ends a body that reports an error with a newline, and no other.
fn answer(verdict: &Result<(), String>) -> Page {
    match verdict {
        Ok(()) => page(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            super::to_json(&Health { health: "true", reason: "" }),
        ),
        Err(reason) => {
            text(StatusCode::SERVICE_UNAVAILABLE, super::to_json(&Health { health: "false", reason }) + "\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::show;
    use crate::metrics::testing::{alarms, view};

    #[test]
    fn an_alarm_comes_before_a_missing_leader() {
        let check = |raised: &[AlarmType], leader: u64, query: &str, expected: Result<(), &str>| {
            let mut view = view();
            view.alarms = alarms(raised);
            view.status.leader = MemberId(leader);
            let expected = expected.map_err(str::to_owned);
            assert_eq!(standing(&view, &HealthQuery::parse(query)), expected, "{raised:?} {query}");
        };
        let (no_space, corrupt) = (AlarmType::Nospace, AlarmType::Corrupt);
        check(&[], 1, "", Ok(()));
        check(&[no_space], 0, "", Err("ALARM NOSPACE"));
        check(&[corrupt], 1, "exclude=NOSPACE", Err("ALARM CORRUPT"));
        check(&[no_space, corrupt], 1, "exclude=NOSPACE", Err("ALARM CORRUPT"));
        check(&[no_space, corrupt], 1, "exclude=NOSPACE&exclude=CORRUPT", Ok(()));
        check(&[no_space], 1, "exclude=nospace", Err("ALARM NOSPACE"));
        check(&[AlarmType::None], 1, "", Err("ALARM UNKNOWN"));
        check(&[], 0, "", Err("RAFT NO LEADER"));
        check(&[], 0, "serializable=true", Ok(()));
        check(&[], 0, "serializable=1", Err("RAFT NO LEADER"));
        check(&[no_space], 0, "serializable=true", Err("ALARM NOSPACE"));
    }

    #[test]
    fn the_body_is_that_of_etcd() {
        assert_eq!(
            show(&answer(&Ok(()))),
            "200\ncontent-type: text/plain; charset=utf-8\n\n{\"health\":\"true\",\"reason\":\"\"}"
        );
        assert_eq!(
            show(&answer(&Err("ALARM NOSPACE".to_owned()))),
            "503\ncontent-type: text/plain; charset=utf-8\nx-content-type-options: nosniff\n\n\
             {\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"
        );
    }
}
