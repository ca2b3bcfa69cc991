//! Claim: in a healed cluster, every watcher hears of everything: at the end, each watcher on a stream that
//! is still open has been told of all events up to the store's last revision, and every request on it
//! that gets an answer has one.
//!
//! Source: invariants 10 and 19 of the simulation's list.
//!
//! How it decides: the streams that were open when the cluster came to rest are named by whoever ran it
//! ([`Options::open_streams`]); after their replay nothing may be due. A watcher that asked to start in
//! the future is due nothing, one that compaction overtook must have been told so.
//!
//! [`Options::open_streams`]: crate::checkers::Options::open_streams

use super::stream;
use crate::checkers::Case;
use crate::evidence::Violation;
use crate::history::{Stream, key_text};

const CLAIM: &str = "watch-caught-up";

/// Checks the claim.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let is_open = |stream: &&Stream| case.options.open_streams.contains(&stream.number);
    case.evidence.streams.iter().filter(is_open).flat_map(|stream| left_behind(case, stream)).collect()
}

fn left_behind(case: &Case<'_>, stream: &Stream) -> Vec<Violation> {
    let replay = stream::replay(case, stream);
    if replay.is_over {
        return Vec::new();
    }
    let place = format!("stream {} on m{}", stream.number, stream.member);
    let mut texts = Vec::new();
    if !replay.creates.is_empty() {
        texts.push(format!("{place}: {} watchers were asked for and never opened", replay.creates.len()));
    }
    for (id, watcher) in &replay.watchers {
        if watcher.broken {
            continue;
        }
        if let Some(change) = watcher.due_until(case, case.options.caught_up) {
            texts.push(format!(
                "{place}: watcher {id} was never told of {} at revision {}, nor of what followed",
                key_text(&change.key),
                change.revision
            ));
        }
        if replay.cancels.get(id).is_some_and(|asked| !asked.is_empty()) {
            texts.push(format!("{place}: the end of watcher {id} was asked for and never told"));
        }
    }
    texts.into_iter().map(|text| Violation::new(CLAIM, text)).collect()
}
