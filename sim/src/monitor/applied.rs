//! Claim `applied-once`: what a member publishes is the committed log, applied once and in order, and
//! nothing else. Its store stands at the revision that the model has after the same entry, compacted up to
//! the same one, with the same alarms; and of every so-manieth view, and of the first of each run, each key
//! that is alive is what it is in the model.

use std::collections::BTreeSet;

use detcd::member::MemberView;
use detcd::mvcc::LiveKey;
use detcd::proto::KeyValue;

use super::State;
use crate::clock::true_time;
use crate::history::{MemberNumber, key_text};
use crate::model::Position;
use crate::trace::What;

/// One in so many views of a member is compared key by key.
const WHOLE_VIEWS: u64 = 16;

/// Looks at a view that a member publishes.
pub fn check_view(state: &mut State, member: MemberNumber, view: &MemberView) {
    let (applied, revision) = (view.status.applied, view.store.revision());
    let progress = What::Progress { commit: view.status.commit, applied, revision };
    state.trace.note(true_time(), member, progress);
    if applied > state.committed_index() {
        // Held against the model when the entries are known.
        return;
    }
    let shadow = state.shadow(member);
    let is_new = shadow.views == 0 || shadow.seen_applied != applied;
    let is_whole = is_new && shadow.views.is_multiple_of(WHOLE_VIEWS);
    (shadow.views, shadow.seen_applied) = (shadow.views + u64::from(is_new), applied);
    let Some(position) = state.model.position(applied) else { return };
    let difference = difference(position, view)
        .or_else(|| if is_whole { different_key(&state.model.everything(revision).kvs, view) } else { None });
    if let Some(difference) = difference {
        let text = format!("m{member} has applied entry {applied} and {difference}");
        state.violated("applied-once", text);
    }
}

/// What is wrong with a view of this position, but for its keys.
fn difference(position: &Position, view: &MemberView) -> Option<String> {
    let (revision, compacted) = (view.store.revision(), view.store.compact_revision());
    if revision != position.revision {
        let expected = position.revision;
        return Some(format!("stands at revision {revision}; after that entry it must be {expected}"));
    }
    if compacted != position.compacted {
        let expected = position.compacted;
        return Some(format!("is compacted up to {compacted}; after that entry it must be {expected}"));
    }
    let alarms: BTreeSet<(i32, u64)> =
        view.alarms.iter().map(|alarm| (alarm.alarm, alarm.member_id)).collect();
    (alarms != *position.alarms)
        .then(|| format!("has the alarms {alarms:?}; after that entry they must be {:?}", position.alarms))
}

/// The first key in which the index of a view differs from what it must be.
fn different_key(expected: &[detcd::proto::EncodedKeyValue], view: &MemberView) -> Option<String> {
    let mut live = view.store.live().iter();
    for record in expected.iter().filter_map(|record| record.decode().ok()) {
        match live.next() {
            Some((key, found)) if key[..] == record.key && is_same(found, &record) => {}
            found => {
                let found = found.map(|(_, found)| found);
                return Some(format!("has {found:?} where {} is {record:?}", key_text(&record.key)));
            }
        }
    }
    let (key, found) = live.next()?;
    Some(format!("has {found:?} at {}, which is no key", key_text(&key.to_bytes())))
}

fn is_same(found: &LiveKey, record: &KeyValue) -> bool {
    let numbers = (found.create_revision, found.modified.main, found.version, found.lease);
    numbers == (record.create_revision, record.mod_revision, record.version, record.lease)
}
