//! Rare paths that only the members' loops show: no claim, only markers ([`crate::markers`]).
//!
//! What is remembered of a member here lasts for one of its runs.

use std::collections::{BTreeMap, BTreeSet};

use ::raft::eraftpb::Message;
use bytes::Bytes;
use detcd::apply::Command;
use detcd::member::{Input, MemberStatus, Output, Recovered, Request, Ticket, WatchCommand};
use detcd::raft::{self, MessageKind};
use detcd::types::StreamId;
use detcd::types::backend::{BackendSnapshot, Table};
use detcd::types::log::PeerMessage;

use super::shadow::Slot;
use super::{FIRST_INDEX, State};
use crate::clock::true_time;
use crate::history::MemberNumber;
use crate::markers;
use crate::random::fnv;

/// What is remembered.
#[derive(Default)]
pub struct Rare {
    members: BTreeMap<MemberNumber, Seen>,
    /// The members that were told to campaign at once, by the term in which they would lead.
    handed_over: BTreeMap<u64, u64>,
    /// Members whose last snapshot did not arrive, by id.
    without_snapshot: BTreeSet<u64>,
    /// Entries of earlier terms that were seen on a majority: index and chain.
    old_on_majority: BTreeSet<(u64, u64)>,
    /// What was committed when no member had power.
    dark: Option<u64>,
}

/// What is remembered of one run of a member.
#[derive(Default)]
struct Seen {
    /// The revision that it has published.
    revision: i64,
    /// Streams on which somebody watches.
    watching: BTreeSet<StreamId>,
    /// Forwarded proposals that came, by hash.
    proposals: BTreeSet<u64>,
    /// The question for a read index that is open, by its context.
    asked: Option<Bytes>,
    /// Reads that came while another member led a later term, with the term that this one led.
    deposed: BTreeMap<Ticket, u64>,
}

impl State {
    fn seen(&mut self, member: MemberNumber) -> &mut Seen {
        self.rare.members.entry(member).or_default()
    }

    fn mark(&self, member: MemberNumber, name: &'static str) {
        self.trace.mark(true_time(), member, name);
    }
}

/// A run begins with this.
pub fn begins(state: &mut State, member: MemberNumber, recovered: &Recovered) {
    state.rare.members.remove(&member);
    let last = recovered.entries.last().map_or(0, |entry| entry.index);
    let shadow = state.shadow(member);
    shadow.dark = false;
    if shadow.known
        && !shadow.excused
        && last < shadow.volatile.last_index()
        && last >= shadow.volatile.base.0
    {
        state.mark(member, markers::UNSYNCED_LOST);
    }
    let applied = recovered.backend.snapshot.applied().ok().flatten().map_or(0, |applied| applied.index);
    if last > applied {
        state.mark(member, markers::REPLAYED);
    }
    if has_unfinished_compaction(&*recovered.backend.snapshot) {
        state.mark(member, markers::COMPACTION_UNFINISHED);
    }
}

/// Whether a compaction was begun that is not done (etcd's rows: both hold a revision, or are not there).
fn has_unfinished_compaction(database: &dyn BackendSnapshot) -> bool {
    let rows = database.rows(Table::Meta).unwrap_or_default();
    let row = |name: &[u8]| rows.iter().find(|(key, _)| key == name).map(|(_, revision)| revision);
    row(b"scheduledCompactRev") > row(b"finishedCompactRev")
}

/// A run ends.
pub fn ended(state: &mut State, member: MemberNumber, power_cut: bool) {
    let shadow = state.shadow(member);
    let (wanted, durable) = (shadow.volatile.hard_state, shadow.durable.hard_state);
    let vote_is_open =
        shadow.up && wanted.vote != 0 && (wanted.term, wanted.vote) != (durable.term, durable.vote);
    shadow.dark = power_cut;
    if vote_is_open {
        state.mark(member, markers::VOTE_NOT_DURABLE);
    }
    let committed = state.committed_index();
    if committed > FIRST_INDEX && state.members.values().all(|shadow| shadow.dark) {
        state.rare.dark = Some(committed);
    }
}

/// An entry is known to be committed, by a member that is in this term.
pub fn committed(state: &mut State, member: MemberNumber, index: u64, slot: &Slot, term: u64) {
    if slot.term < term {
        state.mark(member, markers::OLD_ENTRY_COMMITTED);
    }
    let shadow = state.shadow(member);
    let leads = shadow.status.is_some_and(|status| status.is_leader);
    if leads && !shadow.durable.covers(index, slot.chain) {
        state.mark(member, markers::LEADER_NOT_DURABLE);
    }
    if state.rare.dark.take_if(|before| index > *before).is_some() {
        state.mark(member, markers::ALL_LOST_POWER);
    }
    let request = state
        .model
        .position(index)
        .and_then(|position| position.applied.answer.is_ok().then_some(&position.request.as_ref()?.command));
    if matches!(request, Some(Command::Compact(_))) {
        state.mark(member, markers::COMPACTION);
    }
}

/// A member begins to lead.
pub fn leads(state: &mut State, member: MemberNumber, term: u64) {
    let committed = state.committed_index();
    let has_old_tail =
        |slots: &BTreeMap<u64, Slot>| slots.range(committed + 1..).any(|(_, slot)| slot.term < term);
    if state.members.values().any(|shadow| has_old_tail(&shadow.volatile.entries)) {
        state.mark(member, markers::UNCOMMITTED_TAIL);
    }
    let id = state.shadow(member).id;
    if state.rare.handed_over.get(&term) == Some(&id) {
        state.mark(member, markers::LEADER_TRANSFERRED);
    }
}

/// A member replaces its log from this index on. To be called while the old entries are still there.
pub fn overwrites(state: &mut State, member: MemberNumber, index: u64) {
    state.mark(member, markers::TAIL_OVERWRITTEN);
    let Some(chain) = state.shadow(member).volatile.chain_at(index) else { return };
    if durable_on(state, index, chain) >= state.quorum() {
        state.mark(member, markers::MAJORITY_OVERWRITTEN);
    }
}

/// On how many members this very entry is durable.
fn durable_on(state: &State, index: u64, chain: u64) -> usize {
    let holds = |slot: Option<&Slot>| slot.is_some_and(|slot| slot.chain == chain);
    state.members.values().filter(|shadow| holds(shadow.durable.get(index))).count()
}

/// Something became durable on a member: perhaps entries of earlier terms are now on a majority.
fn look_for_old_entries(state: &mut State, member: MemberNumber) {
    let Some((&newest, _)) = state.leaders.last_key_value() else { return };
    let next = state.committed_index() + 1;
    let entries = state.shadow(member).durable.entries.range(next..);
    let old: Vec<(u64, u64)> = entries
        .take_while(|(_, slot)| slot.term < newest)
        .map(|(index, slot)| (*index, slot.chain))
        .collect();
    for (index, chain) in old {
        if durable_on(state, index, chain) >= state.quorum()
            && state.rare.old_on_majority.insert((index, chain))
        {
            state.mark(member, markers::OLD_ENTRY_ON_MAJORITY);
        }
    }
}

/// Looks at what a member takes in.
pub fn takes(state: &mut State, member: MemberNumber, input: &Input) {
    match input {
        Input::Peer(message) => takes_message(state, member, message),
        Input::Request { ticket, request: Request::ReadIndex } => {
            let status = state.shadow(member).status.filter(|status| status.is_leader);
            let Some(term) = status.map(|status| status.term) else { return };
            if state.leaders.range(term + 1..).next().is_some() {
                state.seen(member).deposed.insert(*ticket, term);
            }
        }
        Input::Persisted(_) => look_for_old_entries(state, member),
        Input::LeaseCall { .. } => state.mark(member, markers::LEASE_QUESTION),
        Input::SnapshotSent { to, ok: false } => {
            state.rare.without_snapshot.insert(to.0);
            state.mark(member, markers::SNAPSHOT_INTERRUPTED);
        }
        Input::Installed(_) => {
            let id = state.shadow(member).id;
            state.rare.without_snapshot.remove(&id);
            state.mark(member, markers::SNAPSHOT_INSTALLED);
            if !state.seen(member).watching.is_empty() {
                state.mark(member, markers::INSTALLED_UNDER_WATCHERS);
            }
        }
        Input::Watch { stream, command: WatchCommand::Create(create) } => {
            let seen = state.seen(member);
            seen.watching.insert(*stream);
            if (1..=seen.revision).contains(&create.start_revision) {
                state.mark(member, markers::OPENED_BEHIND);
            }
        }
        Input::Watch { stream, command: WatchCommand::Close } => {
            state.seen(member).watching.remove(stream);
        }
        _ => {}
    }
}

fn takes_message(state: &mut State, member: MemberNumber, message: &Bytes) {
    match raft::peek(message).map(|head| head.kind) {
        Some(MessageKind::MsgPropose) => {
            let is_new = state.seen(member).proposals.insert(fnv(message));
            if !is_new {
                state.mark(member, markers::PROPOSAL_TWICE);
            }
        }
        Some(MessageKind::MsgReadIndexResp) => {
            let answered = crate::wire::message(message).and_then(|message| context(&message));
            state.seen(member).asked.take_if(|asked| Some(&*asked) == answered.as_ref());
        }
        _ => {}
    }
}

/// What a question for a read index, or its answer, names itself.
fn context(message: &Message) -> Option<Bytes> {
    message.entries.first().map(|entry| entry.data.clone())
}

/// Looks at what a member gives out.
pub fn gives(state: &mut State, member: MemberNumber, output: &Output) {
    match output {
        Output::Reply { ticket, result } => {
            let Some(term) = state.seen(member).deposed.remove(ticket) else { return };
            let status = state.shadow(member).status;
            let still_leads = status.is_some_and(|status| status.is_leader && status.term == term);
            if result.is_err() || !still_leads {
                state.mark(member, markers::DEPOSED_READ);
            }
        }
        Output::Publish(view) => state.seen(member).revision = view.store.revision(),
        _ => {}
    }
}

/// A member publishes what it is.
pub fn published(
    state: &mut State,
    member: MemberNumber,
    before: Option<&MemberStatus>,
    status: &MemberStatus,
) {
    let changed = before.is_some_and(|before| (before.leader, before.term) != (status.leader, status.term));
    if changed && state.seen(member).asked.take().is_some() {
        state.mark(member, markers::READ_LOST);
    }
}

/// Looks at a message that is about to leave.
pub fn sends(state: &mut State, member: MemberNumber, sent: &PeerMessage, message: &Message) {
    if sent.snapshot.is_some() {
        state.mark(member, markers::SNAPSHOT_SENT);
        if state.rare.without_snapshot.remove(&sent.to) {
            state.mark(member, markers::SNAPSHOT_AGAIN);
        }
    }
    match message.get_msg_type() {
        MessageKind::MsgAppendResponse if message.reject => state.mark(member, markers::CONFLICT_REFUSED),
        MessageKind::MsgTimeoutNow => {
            state.rare.handed_over.insert(message.term + 1, message.to);
        }
        MessageKind::MsgReadIndex => {
            let context = context(message);
            if context.is_some() && state.seen(member).asked == context {
                state.mark(member, markers::READ_RETRIED);
            }
            state.seen(member).asked = context;
        }
        _ => {}
    }
}
