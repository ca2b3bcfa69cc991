//! The differences that are meant, all of them. `docs/differences.md` gives the reason for each under the
//! name that stands here; a test holds the two together.

use crate::call::Answer;

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
];

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
    let known: Vec<&str> = DIFFERENCES.iter().map(|difference| difference.name).collect();
    assert_eq!(named, known, "headings of docs/differences.md, and differences that the test lets pass");
    for section in sections {
        assert!(section.lines().skip(1).any(|line| !line.trim().is_empty()), "no reason for {section:?}");
    }
}
