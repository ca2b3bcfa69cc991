//! The differences that are meant, all of them. `docs/differences.md` gives the reason for each under the
//! name that stands here; a test holds the two together.

use std::collections::BTreeSet;

use detcd::proto::etcdserverpb::alarm_request::AlarmAction;

use crate::call::{Answer, Call};

/// A difference between the answers of the two servers.
pub struct Difference {
    /// The heading in the document.
    pub name: &'static str,
    /// Whether it is what sets these two answers to this method apart.
    applies: fn(&str, &Answer, &Answer) -> bool,
}

/// Methods that detcd has not, or not for all requests. README.md lists them as missing. One that is built
/// is compared from then on, whether it stands here or not.
const NOT_BUILT: &[&str] = &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"];

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "What is not built",
        applies: |method, detcd, _| NOT_BUILT.contains(&method) && detcd.is_unbuilt(),
    },
    Difference {
        name: "Hash is that of the key space",
        applies: |method, detcd, etcd| {
            method == "Hash" && detcd.is_ok && etcd.is_ok && detcd.revision == etcd.revision
        },
    },
    Difference {
        name: "HashKV does not remember compactions",
        applies: |method, detcd, etcd| {
            method == "HashKv"
                && etcd.is_ok
                && number(etcd, "compact_revision") < number(etcd, "hash_revision")
                && if detcd.is_ok {
                    number(detcd, "compact_revision") == number(etcd, "hash_revision")
                        && number(detcd, "hash_revision") == number(etcd, "hash_revision")
                } else {
                    detcd.lines == ["OutOfRange: etcdserver: mvcc: required revision has been compacted"]
                }
        },
    },
];

/// A number in an answer of one line.
fn number(answer: &Answer, field: &str) -> Option<i64> {
    let (_, behind) = answer.lines.first()?.split_once(&format!(" {field}: "))?;
    behind.split([',', ' ']).next()?.parse().ok()
}

/// What is not asked: all that follows would differ, or etcd's answer is a matter of time.
pub const NOT_ASKED: &[&str] = &[COMPACTION_AT_0, UNKNOWN_ALARM_ACTION, WATCH_FROM_COMPACTED];
const COMPACTION_AT_0: &str = "Nothing is compacted at revision 0";
const UNKNOWN_ALARM_ACTION: &str = "An unknown action on alarms does nothing";

const WATCH_FROM_COMPACTED: &str = "A watch from a compacted revision sees all of it";

/// Whether both may be asked for a watch from `start` on, when the last compaction was at `compacted` and a
/// key may have changed twice in these revisions.
pub fn may_watch(start: i64, compacted: i64, changed_twice: &BTreeSet<i64>) -> bool {
    start != compacted || !changed_twice.contains(&start)
}

/// Whether both may be asked for this, when the last compaction was at `compacted`.
pub fn may_ask(call: &Call, compacted: i64) -> bool {
    match call {
        Call::Compact(request) => request.revision != 0 || compacted >= 0,
        Call::Alarm(request) => AlarmAction::try_from(request.action).is_ok(),
        _ => true,
    }
}

/// The difference that is meant to be between these answers, if one is.
pub fn meant(method: &str, detcd: &Answer, etcd: &Answer) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|difference| (difference.applies)(method, detcd, etcd))
}

/// The document has the same differences, and none without a reason.
#[test]
fn the_document_lists_what_the_test_lets_pass() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/differences.md");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let sections: Vec<&str> = text.split("\n### ").skip(1).collect();
    let named: Vec<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
    let known = DIFFERENCES.iter().map(|difference| difference.name).chain(NOT_ASKED.iter().copied());
    assert_eq!(named, known.collect::<Vec<_>>(), "headings of docs/differences.md, and what stands here");
    for section in sections {
        assert!(section.lines().skip(1).any(|line| !line.trim().is_empty()), "no reason for {section:?}");
    }
}
