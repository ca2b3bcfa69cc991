//! Between raft's protobuf types and the plain words of [`crate::types::log`].
//!
//! Payloads are [`bytes::Bytes`] on both sides, so an entry is shared, never copied.

use ::raft::eraftpb::{ConfState, Entry, EntryType, HardState as WireHardState, SnapshotMetadata};

use crate::types::log::{EntryKind, HardState, LogEntry, SnapshotPoint};

pub(super) fn entry_from_raft(entry: &Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        kind: match entry.get_entry_type() {
            EntryType::EntryNormal => EntryKind::Normal,
            EntryType::EntryConfChange => EntryKind::ConfChange,
            EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
        },
        data: entry.data.clone(),
    }
}

pub(super) fn entry_to_raft(entry: &LogEntry) -> Entry {
    Entry {
        index: entry.index,
        term: entry.term,
        entry_type: match entry.kind {
            EntryKind::Normal => EntryType::EntryNormal,
            EntryKind::ConfChange => EntryType::EntryConfChange,
            EntryKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
        },
        data: entry.data.clone(),
        ..Entry::default()
    }
}

pub(super) fn hard_state_from_raft(state: &WireHardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}
pub(super) fn point_from_raft(metadata: &SnapshotMetadata) -> SnapshotPoint {
    SnapshotPoint {
        index: metadata.index,
        term: metadata.term,
        voters: sorted(metadata.get_conf_state().get_voters()),
        learners: sorted(metadata.get_conf_state().get_learners()),
    }
}

pub(super) fn point_to_raft(point: &SnapshotPoint) -> SnapshotMetadata {
    let mut metadata =
        SnapshotMetadata { index: point.index, term: point.term, ..SnapshotMetadata::default() };
    metadata.set_conf_state(conf_state_to_raft(point));
    metadata
}

pub(super) fn conf_state_to_raft(point: &SnapshotPoint) -> ConfState {
    ConfState { voters: point.voters.clone(), learners: point.learners.clone(), ..ConfState::default() }
}

/// Raft keeps its member sets in hash order; ours are ascending.
pub(super) fn sorted(members: &[u64]) -> Vec<u64> {
    let mut members = members.to_vec();
    members.sort_unstable();
    members
}
