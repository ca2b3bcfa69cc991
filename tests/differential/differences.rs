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

/// What is not asked: it ends etcd, or leaves the two in different states.
pub const NOT_ASKED: &[&str] = &[COMPACTION_AT_0, UNKNOWN_ALARM_ACTION, CHANGED_TWICE];
const COMPACTION_AT_0: &str = "Nothing is compacted at revision 0";
const UNKNOWN_ALARM_ACTION: &str = "An unknown action on alarms lists them";
const CHANGED_TWICE: &str = "A key may change twice in one revision";

/// What of the store's past decides whether a request may be asked.
#[derive(Debug)]
pub struct Past {
    /// The store's revision.
    pub revision: i64,
    /// The last compacted revision, -1 for none.
    pub compacted: i64,
    /// Revisions in which a key may have changed twice.
    pub changed_twice: BTreeSet<i64>,
}

impl Past {
    /// Whether both may be asked for this.
    pub fn allows(&self, call: &Call) -> bool {
        match call {
            Call::Compact(request) if request.revision == 0 => self.compacted >= 0,
            Call::Compact(request) => !self.changed_twice.contains(&request.revision),
            Call::HashKv(request) if request.revision == 0 => !self.changed_twice.contains(&self.revision),
            Call::HashKv(request) => !self.changed_twice.contains(&request.revision),
            Call::Alarm(request) => AlarmAction::try_from(request.action).is_ok(),
            _ => true,
        }
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
