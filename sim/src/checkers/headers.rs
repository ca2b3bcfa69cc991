//! Claim: headers tell the truth. There is one cluster; an id is one member's; a revision in a header had
//! been committed by then; and one run of a member never goes back, in revision or in term.
//!
//! Source: etcd 1.3; invariants 7 and 9 of the simulation's list.
//!
//! How it decides: header by header. What one run of a member tells is compared in the order in which its
//! calls ended and began; that needs to know when members started ([`Evidence::starts`]). A call that was
//! under way while its member started again says nothing of either run. After a restart a member may tell
//! of an older state until it has caught up: that is legal for reads that are serializable, and a term that
//! was not yet on disk may come back lower.
//!
//! [`Evidence::starts`]: crate::evidence::Evidence::starts

use std::collections::BTreeMap;

use detcd::proto::etcdserverpb as pb;

use super::attribution::Place;
use super::reads::header_of;
use super::{Case, words};
use crate::evidence::Violation;
use crate::history::{Answer, MemberNumber, Operation, Outcome, Time, Word};

const CLAIM: &str = "headers";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut names = Names::default();
    let mut found = Vec::new();
    for operation in &case.evidence.operations {
        let Outcome::Answered(answer) = &operation.outcome else { continue };
        let text = wrong_header(case, operation, answer, &mut names);
        found.extend(text.map(|text| {
            let text = format!("{}: {text}", words::operation(operation));
            Violation::new(CLAIM, text).shown_by([operation.number])
        }));
    }
    for stream in &case.evidence.streams {
        let mut term = 0;
        for (at, word) in &stream.words {
            let Word::Heard(response) = word else { continue };
            let text = match &response.header {
                None => Some("a response without a header".to_owned()),
                Some(header) => {
                    let went_back = header.raft_term < term;
                    let backwards = went_back.then(|| format!("term {} after {term}", header.raft_term));
                    term = header.raft_term;
                    names.contradicts(stream.member, header).or(backwards).or(not_yet(case, header, *at))
                }
            };
            let place = format!("watch stream {} on m{} at {at} ns", stream.number, stream.member);
            found.extend(text.map(|text| Violation::new(CLAIM, format!("{place}: {text}"))));
        }
    }
    found.extend(backwards(case));
    found
}

fn wrong_header(
    case: &Case<'_>,
    operation: &Operation,
    answer: &Answer,
    names: &mut Names,
) -> Option<String> {
    let Some(header) = header_of(answer) else {
        // The one answer without a header, as in etcd.
        return (!matches!(answer, Answer::MoveLeader(_))).then(|| "an answer without a header".to_owned());
    };
    if let Some(text) = names.contradicts(operation.member, header) {
        return Some(text);
    }
    if matches!(answer, Answer::MemberList(_)) {
        return (header.revision != 0).then(|| format!("revision {} in a list of members", header.revision));
    }
    if header.revision < 1 {
        return Some(format!("revision {}", header.revision));
    }
    if let Some(text) = not_yet(case, header, operation.returned.unwrap_or_default()) {
        return Some(text);
    }
    let Place::At(place) = case.attribution.places[operation.number] else { return None };
    let entry = place.checked_sub(1).and_then(|entry| case.evidence.committed.get(entry))?;
    (header.raft_term < entry.term).then(|| {
        format!("term {}, though its entry {} is of term {}", header.raft_term, entry.index, entry.term)
    })
}

fn not_yet(case: &Case<'_>, header: &pb::ResponseHeader, at: Time) -> Option<String> {
    let known = case.position_by(at).revision;
    (header.revision > known)
        .then(|| format!("revision {}, when no more than {known} was known to be committed", header.revision))
}

/// Which ids there are.
#[derive(Default)]
struct Names {
    cluster: Option<u64>,
    members: BTreeMap<u64, MemberNumber>,
}

impl Names {
    fn contradicts(&mut self, member: MemberNumber, header: &pb::ResponseHeader) -> Option<String> {
        let cluster = *self.cluster.get_or_insert(header.cluster_id);
        if header.cluster_id != cluster {
            return Some(format!("cluster {:x} and cluster {cluster:x}", header.cluster_id));
        }
        let owner = *self.members.entry(header.member_id).or_insert(member);
        (owner != member)
            .then(|| format!("the id {:x} of m{owner} in a header of m{member}", header.member_id))
    }
}

/// What one run of one member has told so far, with the operation that told it.
#[derive(Clone, Copy, Default)]
struct Told {
    revision: (i64, usize),
    term: (u64, usize),
}

/// Runs of members that go back.
fn backwards(case: &Case<'_>) -> Vec<Violation> {
    if case.evidence.starts.is_empty() {
        return Vec::new();
    }
    let runs = Runs::new(&case.evidence.starts);
    let mut calls: Vec<Call<'_>> =
        case.evidence.operations.iter().filter_map(|operation| Call::new(&runs, operation)).collect();
    calls.sort_by_key(|call| (call.operation.called, call.operation.number));
    let mut ended: Vec<Call<'_>> = calls.clone();
    ended.sort_by_key(|call| (call.operation.returned, call.operation.number));
    let mut ended = ended.into_iter().peekable();
    let mut told: BTreeMap<(MemberNumber, usize), Told> = BTreeMap::new();
    let mut found = Vec::new();
    for call in calls {
        while let Some(before) =
            ended.next_if(|before| before.operation.returned < Some(call.operation.called))
        {
            let told = told.entry(before.run).or_default();
            told.revision = told.revision.max((before.header.revision, before.operation.number));
            told.term = told.term.max((before.header.raft_term, before.operation.number));
        }
        let Some(told) = told.get(&call.run) else { continue };
        let (what, number) = (words::operation(call.operation), call.operation.number);
        if call.header.revision < told.revision.0 {
            let text = format!(
                "{what}: revision {}, though the same run of the member had told {} to operation {}",
                call.header.revision, told.revision.0, told.revision.1
            );
            found.push(Violation::new(CLAIM, text).shown_by([told.revision.1, number]));
        }
        if call.header.raft_term < told.term.0 {
            let text = format!(
                "{what}: term {}, though the same run of the member had told {} to operation {}",
                call.header.raft_term, told.term.0, told.term.1
            );
            found.push(Violation::new(CLAIM, text).shown_by([told.term.1, number]));
        }
    }
    found
}

/// An answer that one run of a member gave.
#[derive(Clone, Copy)]
struct Call<'a> {
    run: (MemberNumber, usize),
    operation: &'a Operation,
    header: &'a pb::ResponseHeader,
}

impl<'a> Call<'a> {
    fn new(runs: &Runs, operation: &'a Operation) -> Option<Self> {
        let Outcome::Answered(answer) = &operation.outcome else { return None };
        if matches!(answer, Answer::Campaign(_)) {
            // Its header is that of its first step, however long ago that was (etcd 6.12).
            return None;
        }
        let header = header_of(answer).filter(|header| header.revision > 0)?;
        let run = runs.run_of(operation.member, operation.called, operation.returned?)?;
        Some(Self { run, operation, header })
    }
}

/// The runs of all members.
pub(super) struct Runs {
    starts: BTreeMap<MemberNumber, Vec<Time>>,
}

impl Runs {
    /// The runs that begin with these starts.
    pub(super) fn new(starts: &[(Time, MemberNumber)]) -> Self {
        let mut by_member: BTreeMap<MemberNumber, Vec<Time>> = BTreeMap::new();
        for (at, member) in starts {
            by_member.entry(*member).or_default().push(*at);
        }
        by_member.values_mut().for_each(|starts| starts.sort_unstable());
        Self { starts: by_member }
    }

    /// The run of a member that was on from one moment to the other; none if it started in between.
    pub(super) fn run_of(&self, member: MemberNumber, from: Time, to: Time) -> Option<(MemberNumber, usize)> {
        let starts = self.starts.get(&member)?;
        let number = |time: Time| starts.partition_point(|start| *start <= time);
        (number(from) == number(to)).then(|| (member, number(to)))
    }
}
