//! Claim `promises`: a vote and an acknowledgement leave a member only when they are durable there, and
//! nothing that was durable is missing after a crash.
//!
//! From Raft, figure 2 (persistent state is updated before responding). A crash may keep more than was
//! durable, never less: so what a member begins with must hold every entry that it had heard to be durable,
//! unless the log task had been given something that replaces it. What it begins with is a log that was
//! written, not parts of two.

use detcd::member::Recovered;
use detcd::raft::MessageKind;
use raft::eraftpb::Message;

use super::State;
use super::shadow::Log;
use crate::history::MemberNumber;

/// The claim's name.
const CLAIM: &str = "promises";

/// Looks at a message that is about to leave.
pub fn check_message(state: &mut State, member: MemberNumber, message: &Message) {
    match message.get_msg_type() {
        MessageKind::MsgAppendResponse if !message.reject => {
            let durable = state.shadow(member).durable.last_index();
            if message.index > durable {
                let text = format!(
                    "m{member} acknowledges entry {} to {:x} in term {}, but only {durable} is durable there",
                    message.index, message.to, message.term
                );
                state.violated(CLAIM, text);
            }
        }
        MessageKind::MsgRequestVoteResponse if !message.reject => {
            check_vote(state, member, message.term, message.to);
        }
        MessageKind::MsgRequestVote => {
            let own = state.shadow(member).id;
            check_vote(state, member, message.term, own);
        }
        _ => {}
    }
}

fn check_vote(state: &mut State, member: MemberNumber, term: u64, candidate: u64) {
    let shadow = state.shadow(member);
    let hard_state = shadow.durable.hard_state;
    let is_durable = hard_state.term > term || (hard_state.term, hard_state.vote) == (term, candidate);
    let earlier = *shadow.votes.entry(term).or_insert(candidate);
    if earlier != candidate && !shadow.excused {
        let text = format!("m{member} votes in term {term} for {candidate:x} and for {earlier:x}");
        state.violated("one-vote", text);
    }
    if !is_durable {
        let text = format!(
            "m{member} votes for {candidate:x} in term {term}, but what is durable there is term {}, vote {:x}",
            hard_state.term, hard_state.vote
        );
        state.violated(CLAIM, text);
    }
}

/// Holds what a member begins with against what was durable when it ended.
pub fn check_recovered(state: &mut State, member: MemberNumber, id: u64, recovered: &Recovered) {
    let applied = match recovered.backend.snapshot.applied() {
        Ok(applied) => applied.unwrap_or_default(),
        Err(_) => return,
    };
    let first = recovered.entries.first().map_or(applied.index + 1, |entry| entry.index);
    let base_index = first - 1;
    let shadow = state.members.get(&member);
    let base_chain = state
        .committed_chain(base_index)
        .or_else(|| shadow.and_then(|shadow| shadow.volatile.chain_at(base_index)))
        .unwrap_or_default();
    let log = Log::new(recovered.hard_state, (base_index, base_chain), &recovered.entries);
    let mixed = state.committed_chain(base_index).and_then(|_| mixed(state, &log));
    let complaint = shadow
        .filter(|shadow| shadow.known && !shadow.excused)
        .and_then(|shadow| missing(&shadow.durable, &shadow.volatile, shadow.database, &log, applied.index));
    if let Some(what) = complaint {
        state.violated(CLAIM, format!("m{member} begins again without {what}"));
    }
    if let Some(what) = mixed.filter(|_| !state.shadow(member).excused) {
        state.violated(CLAIM, format!("m{member} begins again with {what}"));
    }
    let shadow = state.shadow(member);
    shadow.id = id;
    shadow.begins(log);
    shadow.database = applied.index;
}

/// An entry that stands behind others than in the log that first held it.
fn mixed(state: &State, found: &Log) -> Option<String> {
    found.entries.iter().find_map(|(index, slot)| {
        let known = state.chains.get(&(*index, slot.term))?;
        (*known != slot.chain)
            .then(|| format!("entry {index} of term {} behind others than its own", slot.term))
    })
}

/// What was durable and is not there.
fn missing(durable: &Log, volatile: &Log, database: u64, found: &Log, applied: u64) -> Option<String> {
    let (was, is) = (durable.hard_state, found.hard_state);
    if is.term < was.term {
        return Some(format!("its term: it was {}, it is {}", was.term, is.term));
    }
    if is.term == was.term && was.vote != 0 && is.vote != was.vote {
        return Some(format!("its vote in term {}: it was {:x}, it is {:x}", was.term, was.vote, is.vote));
    }
    if applied < database {
        return Some(format!("what its database held: up to entry {database} before, up to {applied} now"));
    }
    for (index, slot) in durable.entries.range(applied + 1..) {
        let replaced = volatile.get(*index).is_none_or(|newer| newer.chain != slot.chain);
        if !replaced && found.get(*index).is_none_or(|found| found.chain != slot.chain) {
            return Some(format!("entry {index} of term {}, which was durable", slot.term));
        }
    }
    None
}
