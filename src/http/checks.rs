//! `/livez` and `/readyz`: the checks that Kubernetes asks for, together or one by one.
//!
//! `?verbose` lists the checks, `?exclude=name` leaves one out of the list of all.

use http::StatusCode;

use super::page::{Page, text};
use super::query::Query;
use super::read::{self, ReadKind};
use crate::mailbox::Mailbox;
use crate::metrics::HealthCounters;
use crate::proto::etcdserverpb::AlarmType;

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// Runs the check. Its error is what the page shows.
    async fn run(self, mailbox: &Mailbox) -> Result<(), String> {
        let view = mailbox.view();
        let read = |kind| async move {
            read::one_key(mailbox, kind).await.map_err(|error| format!("range error: {error}"))
        };
        match self {
            Check::DataCorruption => {
                let corrupt = view.alarms.iter().any(|alarm| alarm.alarm() == AlarmType::Corrupt);
                if corrupt { Err("alarm activated: CORRUPT".to_owned()) } else { Ok(()) }
            }
            Check::NonLearner if view.status.is_learner => Err("not supported for learner".to_owned()),
            Check::NonLearner => Ok(()),
            Check::SerializableRead => read(ReadKind::Serializable).await,
            Check::LinearizableRead => read(ReadKind::Linearizable).await,
        }
    }
}

/// An endpoint and its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Livez,
    Readyz,
}

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Endpoint::Livez => "livez",
            Endpoint::Readyz => "readyz",
        }
    }

    fn checks(self) -> &'static [Check] {
        match self {
            Endpoint::Livez => &[Check::SerializableRead],
            Endpoint::Readyz => {
                &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner]
            }
        }
    }
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    endpoint: Endpoint,
    /// One check, or all.
    only: Option<Check>,
}

impl Asked {
    /// Reads `/livez`, `/readyz`, `/livez/<check>` or `/readyz/<check>`; none for any other path.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let (endpoint, check) = match path.split_once('/') {
            Some((endpoint, check)) => (endpoint, Some(check)),
            None => (path, None),
        };
        let endpoint = [Endpoint::Livez, Endpoint::Readyz].into_iter().find(|one| one.name() == endpoint)?;
        let only = match check {
            None => None,
            Some(name) => Some(*endpoint.checks().iter().find(|check| check.name() == name)?),
        };
        Some(Self { endpoint, only })
    }

    /// The checks to run. A single check cannot be excluded (etcd).
    fn checks(self, query: &Query) -> Vec<Check> {
        match self.only {
            Some(check) => vec![check],
            None => {
                let excluded = |check: &Check| query.all("exclude").any(|name| name == check.name());
                self.endpoint.checks().iter().copied().filter(|check| !excluded(check)).collect()
            }
        }
    }
}

/// Answers what was asked.
pub(super) async fn checks(mailbox: &Mailbox, counters: &HealthCounters, asked: Asked, query: &str) -> Page {
    let query = Query::parse(query);
    let mut outcomes = Vec::new();
    for check in asked.checks(&query) {
        let outcome = check.run(mailbox).await;
        counters.check(asked.endpoint.name(), check.name(), outcome.is_ok());
        if let Err(error) = &outcome {
            tracing::warn!(
                endpoint = asked.endpoint.name(),
                check = check.name(),
                error,
                "health check failed"
            );
        }
        outcomes.push((check, outcome));
    }
    answer(&outcomes, query.first("verbose").is_some())
}

/// The page of the outcomes: details when they were asked for or when something failed.
fn answer(outcomes: &[(Check, Result<(), String>)], verbose: bool) -> Page {
    let failed = outcomes.iter().any(|(_, outcome)| outcome.is_err());
    let mut body = String::new();
    if failed || verbose {
        for (check, outcome) in outcomes {
            body += &match outcome {
                Ok(()) => format!("[+]{} ok\n", check.name()),
                Err(error) => format!("[-]{} failed: {error}\n", check.name()),
            };
        }
    }
    if failed {
        // Go ends the body of an error with a newline of its own.
        return text(StatusCode::SERVICE_UNAVAILABLE, body + "\n");
    }
    text(StatusCode::OK, body + "ok\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::show;

    #[test]
    fn a_path_names_an_endpoint_and_one_of_its_checks() {
        let asked = |endpoint, only| Some(Asked { endpoint, only });
        assert_eq!(Asked::parse("/livez"), asked(Endpoint::Livez, None));
        assert_eq!(Asked::parse("/readyz/non_learner"), asked(Endpoint::Readyz, Some(Check::NonLearner)));
        for path in ["/livez/", "/livez/non_learner", "/livezz", "/readyz/data_corruption/x", "livez", "/"] {
            assert_eq!(Asked::parse(path), None, "{path}");
        }
    }

    #[test]
    fn checks_can_be_excluded_from_all_but_not_one_by_one() {
        let check = |path: &str, query: &str, expected: &[&str]| {
            let asked = Asked::parse(path).unwrap();
            let names: Vec<_> = asked.checks(&Query::parse(query)).into_iter().map(Check::name).collect();
            assert_eq!(names, expected, "{path}?{query}");
        };
        check("/livez", "", &["serializable_read"]);
        check(
            "/readyz",
            "exclude=nope&exclude=linearizable_read",
            &["data_corruption", "serializable_read", "non_learner"],
        );
        check("/livez", "exclude=serializable_read", &[]);
        check("/livez/serializable_read", "exclude=serializable_read", &["serializable_read"]);
    }

    #[test]
    fn the_body_is_that_of_etcd() {
        let good = (Check::SerializableRead, Ok(()));
        let bad = (Check::DataCorruption, Err("alarm activated: CORRUPT".to_owned()));
        let head = "content-type: text/plain; charset=utf-8\nx-content-type-options: nosniff\n";
        let check = |outcomes: &[(Check, Result<(), String>)], verbose, expected: &str| {
            assert_eq!(show(&answer(outcomes, verbose)).replacen(head, "", 1), expected);
        };
        check(std::slice::from_ref(&good), false, "200\n\nok\n");
        check(std::slice::from_ref(&good), true, "200\n\n[+]serializable_read ok\nok\n");
        check(&[], true, "200\n\nok\n");
        let details =
            "503\n\n[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\n";
        check(&[bad.clone(), good.clone()], false, details);
        check(&[bad, good], true, details);
    }
}
