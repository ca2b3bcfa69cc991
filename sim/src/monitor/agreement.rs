//! Claim `agreement`: one leader a term; logs match; what is committed is on a durable majority, stays, and
//! is in the log of every later leader (Raft, figure 3).

use detcd::member::{MemberStatus, Persist};
use detcd::types::log::SnapshotPoint;

use super::shadow::{Slot, point_text};
use super::{FIRST_INDEX, State, rare};
use crate::clock::true_time;
use crate::history::MemberNumber;
use crate::trace::What;

/// The claim's name.
const CLAIM: &str = "agreement";

/// Notes what a member gives to its log, and holds it against all other logs.
pub fn check_persist(state: &mut State, member: MemberNumber, persist: &Persist) {
    let chain = persist.snapshot.as_ref().map_or(0, |point| base_chain(state, member, point));
    if let Some(first) = persist.entries.first() {
        let last = state.shadow(member).volatile.last_index();
        if first.index <= last {
            rare::overwrites(state, member, first.index);
        }
        if first.index <= state.committed_index()
            && state
                .shadow(member)
                .volatile
                .chain_at(first.index)
                .is_some_and(|chain| state.committed_chain(first.index) == Some(chain))
        {
            let text = format!("m{member} replaces entry {}, which is committed", first.index);
            state.violated(CLAIM, text);
        }
    }
    state.shadow(member).gives(persist, chain);
    for entry in &persist.entries {
        let Some(chain) = state.shadow(member).volatile.chain_at(entry.index) else { continue };
        let known = *state.chains.entry((entry.index, entry.term)).or_insert(chain);
        if known != chain {
            let text = format!(
                "entry {} of term {} in the log of m{member} differs from that of another member, or the \
                 entries before it do",
                entry.index, entry.term
            );
            state.violated(CLAIM, text);
        }
    }
}

/// The chain at a point at which a log begins anew.
fn base_chain(state: &mut State, member: MemberNumber, point: &SnapshotPoint) -> u64 {
    let known = state
        .committed_chain(point.index)
        .or_else(|| state.chains.get(&(point.index, point.term)).copied())
        .or_else(|| state.shadow(member).volatile.chain_at(point.index));
    known.unwrap_or_else(|| {
        let text = format!("m{member} restarts its log behind {}, which no log holds", point_text(point));
        state.violated(CLAIM, text);
        0
    })
}

/// Looks at what a member says of itself.
pub fn check_published(state: &mut State, member: MemberNumber, status: &MemberStatus) {
    let at = true_time();
    let before = state.shadow(member).status.replace(*status);
    note(state, member, before.as_ref(), status);
    rare::published(state, member, before.as_ref(), status);
    if let Some(before) = before {
        for (what, was, is) in [
            ("term", before.term, status.term),
            ("commit index", before.commit, status.commit),
            ("applied index", before.applied, status.applied),
        ] {
            if is < was {
                state.violated(CLAIM, format!("the {what} of m{member} goes back from {was} to {is}"));
            }
        }
    }
    if status.applied > status.commit {
        let (applied, commit) = (status.applied, status.commit);
        state.violated(CLAIM, format!("m{member} has applied {applied} and knows {commit} to be committed"));
    }
    if status.is_leader {
        let leader = *state.leaders.entry(status.term).or_insert(member);
        if leader != member {
            state.violated(CLAIM, format!("m{leader} and m{member} both lead term {}", status.term));
        }
        let is_new = before.is_none_or(|before| !before.is_leader || before.term != status.term);
        if is_new {
            rare::leads(state, member, status.term);
            check_complete(state, member, status.term);
        }
    }
    check_committed(state, member, before.map_or(0, |before| before.commit), status.commit);
    let commit = status.commit.max(status.applied);
    state.commit(member, commit, at);
}

/// A new leader has everything that was committed in earlier terms. A leader of an old term may come late:
/// it owes nothing that later leaders have committed since.
fn check_complete(state: &mut State, member: MemberNumber, term: u64) {
    let Some(place) = state.committed_in.iter().rposition(|known_in| *known_in < term) else { return };
    let committed = FIRST_INDEX + 1 + place as u64;
    let Some(chain) = state.committed_chain(committed) else { return };
    if !state.shadow(member).volatile.covers(committed, chain) {
        let text = format!("m{member} leads term {term} without entry {committed}, which is committed");
        state.violated(CLAIM, text);
    }
}

/// What a member holds to be committed is what others do.
fn check_committed(state: &mut State, member: MemberNumber, from: u64, to: u64) {
    for index in from + 1..=to.min(state.committed_index()) {
        let Some(chain) = state.committed_chain(index) else { continue };
        let shadow = state.shadow(member);
        let other = shadow.volatile.chain_at(index).filter(|own| *own != chain);
        if other.is_some() && index >= shadow.volatile.base.0 {
            let text = format!("m{member} holds another entry {index} to be committed than others do");
            state.violated(CLAIM, text);
            return;
        }
    }
}

/// An entry may only be committed when it is durable on a majority.
pub fn check_durable_quorum(state: &mut State, member: MemberNumber, index: u64, slot: &Slot) {
    if state.members.values().any(|shadow| shadow.excused) {
        return;
    }
    let holders = state.members.values().filter(|shadow| shadow.durable.covers(index, slot.chain)).count();
    if holders < state.quorum() {
        let text = format!(
            "m{member} holds entry {index} of term {} to be committed, but it is durable on {holders} of {} \
             members",
            slot.term,
            state.members.len()
        );
        state.violated(CLAIM, text);
    }
}

fn note(state: &mut State, member: MemberNumber, before: Option<&MemberStatus>, status: &MemberStatus) {
    let at = true_time();
    let role = |status: &MemberStatus| {
        if status.is_leader {
            "leader"
        } else if status.is_learner {
            "learner"
        } else if status.leader.0 == 0 {
            "candidate"
        } else {
            "follower"
        }
    };
    let changed = before.is_none_or(|before| {
        (role(before), before.term, before.leader) != (role(status), status.term, status.leader)
    });
    if changed {
        let leader = state.ids.get(&status.leader.0).copied().unwrap_or_default();
        state.trace.note(at, member, What::Role { role: role(status), term: status.term, leader });
    }
}
