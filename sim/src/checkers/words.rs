//! Operations in a few words, for the texts of violations.

use bytes::Bytes;
use detcd::proto::etcdserverpb as pb;

use crate::history::{Answer, Operation, Outcome, Request, key_text};

/// An operation: who asked which member for what.
pub(super) fn operation(operation: &Operation) -> String {
    let Operation { number, client, member, .. } = operation;
    format!("operation {number} (client {client} on m{member}: {})", request(&operation.request))
}

/// A request.
pub(super) fn request(request: &Request) -> String {
    match request {
        Request::Put(put) => {
            let lease = if put.lease == 0 { String::new() } else { format!(" lease {}", put.lease) };
            format!("put {}={}{lease}", key_text(&put.key), value(&put.value))
        }
        Request::Range(range) => format!("range {}", range_text(range)),
        Request::RangeStream(range) => format!("range stream {}", range_text(range)),
        Request::DeleteRange(delete) => format!("delete {}", interval(&delete.key, &delete.range_end)),
        Request::Txn(txn) => {
            let (compares, then, otherwise) = (txn.compare.len(), txn.success.len(), txn.failure.len());
            format!("txn of {compares} compares, {then} and {otherwise} operations")
        }
        Request::Compact(compact) => format!("compact at {}", compact.revision),
        Request::LeaseGrant(grant) => format!("grant lease {} for {} s", grant.id, grant.ttl),
        Request::LeaseRevoke(revoke) => format!("revoke lease {}", revoke.id),
        Request::LeaseKeepAlive(id) => format!("keep lease {id} alive"),
        Request::LeaseTimeToLive(request) => format!("time to live of lease {}", request.id),
        Request::HashKv(request) => format!("hash at {}", request.revision),
        Request::Lock(lock) => format!("lock {} with lease {}", key_text(&lock.name), lock.lease),
        Request::Unlock(unlock) => format!("unlock {}", key_text(&unlock.key)),
        Request::Campaign(campaign) => {
            format!("campaign in {} with lease {}", key_text(&campaign.name), campaign.lease)
        }
        Request::Leader(leader) => format!("who leads {}", key_text(&leader.name)),
        other => format!("{other:?}"),
    }
}

/// An outcome. Long answers are cut.
pub(super) fn outcome(outcome: &Outcome) -> String {
    let text = match outcome {
        Outcome::Open => "no answer".to_owned(),
        Outcome::Answered(answer) => answer_text(answer),
        Outcome::Failed(failure) => format!("failure {}: {}", failure.code, failure.message),
        Outcome::Unknown(failure) => format!("unknown {}: {}", failure.code, failure.message),
    };
    cut(text)
}

/// An answer of any kind.
pub(super) fn answer_text(answer: &Answer) -> String {
    cut(format!("{answer:?}"))
}

fn cut(mut text: String) -> String {
    const MOST: usize = 600;
    if text.len() > MOST {
        let end = (0..=MOST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn range_text(range: &pb::RangeRequest) -> String {
    let revision = if range.revision == 0 { String::new() } else { format!(" at {}", range.revision) };
    let serializable = if range.serializable { " serializable" } else { "" };
    format!("{}{revision}{serializable}", interval(&range.key, &range.range_end))
}

fn interval(key: &Bytes, range_end: &Bytes) -> String {
    if range_end.is_empty() { key_text(key) } else { format!("[{}, {})", key_text(key), key_text(range_end)) }
}

fn value(value: &Bytes) -> String {
    const MOST: usize = 24;
    if value.len() > MOST { format!("({} bytes)", value.len()) } else { key_text(value) }
}
