//! Claim `applied-once`: what a member publishes is the committed log, applied once and in order, and
//! nothing else: its store stands at the revision that the model has after the same entry.

use detcd::member::MemberView;

use super::State;
use crate::clock::true_time;
use crate::history::MemberNumber;
use crate::trace::What;

/// Looks at a view that a member publishes.
pub fn check_view(state: &mut State, member: MemberNumber, view: &MemberView) {
    let (applied, revision) = (view.status.applied, view.store.revision());
    let progress = What::Progress { commit: view.status.commit, applied, revision };
    state.trace.note(true_time(), member, progress);
    if applied > state.committed_index() {
        // Held against the model when the entries are known.
        return;
    }
    let Some(expected) = state.model.revision_at(applied) else { return };
    if revision != expected {
        let text = format!(
            "m{member} has applied entry {applied} and stands at revision {revision}; after that entry it \
             must be {expected}"
        );
        state.violated("applied-once", text);
    }
}
