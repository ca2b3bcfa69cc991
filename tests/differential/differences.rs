//! The differences that are meant, all of them. `docs/differences.md` gives the reason for each under the
//! name that stands here; a test holds the two together.

use std::collections::BTreeSet;

use bytes::Bytes;
use detcd::proto::etcdserverpb::alarm_request::AlarmAction;
use detcd::proto::etcdserverpb::range_request::SortTarget;
use detcd::proto::etcdserverpb::request_op::Request;
use detcd::proto::etcdserverpb::{RangeRequest, TxnRequest};

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
                    detcd.lines[0].contains("etcdserver: mvcc: required revision has been compacted")
                }
        },
    },
];

/// A number in an answer of one line.
fn number(answer: &Answer, field: &str) -> Option<i64> {
    let (_, behind) = answer.lines.last()?.split_once(&format!(" {field}: "))?;
    behind.split([',', ' ']).next()?.parse().ok()
}

/// What is not asked: it ends etcd, leaves the two in different states, or has no right answer.
pub const NOT_ASKED: &[&str] = &[
    COMPACTION_AT_0,
    UNKNOWN_ALARM_ACTION,
    CHANGED_TWICE,
    KEPT_OF_DELETED,
    STREAM_WITHOUT_ORDER,
    EQUAL_IN_ORDER,
];
const COMPACTION_AT_0: &str = "Nothing is compacted at revision 0";
const UNKNOWN_ALARM_ACTION: &str = "An unknown action on alarms lists them";
const CHANGED_TWICE: &str = "A key may change twice in one revision";

const KEPT_OF_DELETED: &str = "Nothing can be kept of a key that the transaction has deleted";

const STREAM_WITHOUT_ORDER: &str = "A stream without order comes in the order of keys";

const EQUAL_IN_ORDER: &str = "What is equal comes in the order of keys";

/// So many records etcd sorts so that those which are equal keep their order.
const SORTED_IN_ORDER: usize = 12;

fn sorts_by_field(range: &RangeRequest) -> bool {
    range.sort_target != SortTarget::Key as i32
}

/// Whether a transaction deletes an open range and has a put that keeps part of what there is.
fn keeps_of_deleted(txn: &TxnRequest) -> bool {
    let deletes = |request: &Request| matches!(request, Request::RequestDeleteRange(delete) if delete.range_end == b"\0"[..]);
    let keeps = |request: &Request| matches!(request, Request::RequestPut(put) if put.ignore_value || put.ignore_lease);
    any(txn, &deletes) && any(txn, &keeps)
}

/// Whether an operation is a range that is sorted by another field than the key.
fn sorts(request: &Request) -> bool {
    matches!(request, Request::RequestRange(range) if sorts_by_field(range))
}

/// Whether an operation of a transaction is such a one, at any depth.
fn any(txn: &TxnRequest, is_such: &dyn Fn(&Request) -> bool) -> bool {
    txn.success.iter().chain(&txn.failure).any(|operation| match &operation.request {
        Some(Request::RequestTxn(nested)) => any(nested, is_such),
        Some(request) => is_such(request),
        None => false,
    })
}

/// Whether a key may be deleted and put in a transaction.
pub fn may_change_twice(txn: &TxnRequest) -> bool {
    any(txn, &|request| matches!(request, Request::RequestPut(_)))
        && any(txn, &|request| matches!(request, Request::RequestDeleteRange(_)))
}

/// What of the store's past decides whether a request may be asked.
#[derive(Debug)]
pub struct Past {
    /// The store's revision.
    pub revision: i64,
    /// The last compacted revision, -1 for none.
    pub compacted: i64,
    /// Revisions in which a key may have changed twice.
    pub changed_twice: BTreeSet<i64>,
    /// The keys that were put since the key space was last emptied.
    pub keys: BTreeSet<Bytes>,
}

impl Past {
    /// A store that nothing was asked of.
    pub fn new() -> Self {
        Self { revision: 1, compacted: -1, changed_twice: BTreeSet::new(), keys: BTreeSet::new() }
    }

    /// Whether there may be more keys than etcd sorts in a known order.
    pub fn has_many_keys(&self) -> bool {
        self.keys.len() > SORTED_IN_ORDER
    }

    /// Takes note of the keys that a request may put.
    pub fn note_keys(&mut self, call: &Call) {
        match call {
            Call::Put(put) => drop(self.keys.insert(put.key.clone())),
            Call::Txn(txn) => self.note_keys_of(txn),
            // Their keys end with the lease.
            Call::Lock(lock) => drop(self.keys.insert(format!("{lock:?}").into())),
            Call::Campaign(campaign) => drop(self.keys.insert(format!("{campaign:?}").into())),
            _ => {}
        }
    }

    fn note_keys_of(&mut self, txn: &TxnRequest) {
        for operation in txn.success.iter().chain(&txn.failure) {
            match &operation.request {
                Some(Request::RequestPut(put)) => drop(self.keys.insert(put.key.clone())),
                Some(Request::RequestTxn(nested)) => self.note_keys_of(nested),
                _ => {}
            }
        }
    }

    /// Whether both may be asked for this.
    pub fn allows(&self, call: &Call) -> bool {
        match call {
            Call::Compact(request) if request.revision == 0 => self.compacted >= 0,
            Call::Compact(request) => !self.changed_twice.contains(&request.revision),
            Call::HashKv(request) if request.revision == 0 => !self.changed_twice.contains(&self.revision),
            Call::HashKv(request) => !self.changed_twice.contains(&request.revision),
            Call::RangeStream(request) => request.sort_order != 0 || request.sort_target == 0,
            Call::Range(request) => !self.has_many_keys() || !sorts_by_field(request),
            Call::Txn(request) if self.has_many_keys() && any(request, &sorts) => false,
            Call::Txn(request) => !keeps_of_deleted(request),
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
