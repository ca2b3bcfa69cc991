//! The ids of members and clusters: the first eight bytes of a SHA-1, so that every member computes the
//! same from the same configuration, without asking anybody.

use sha1::{Digest, Sha1};

use crate::types::{ClusterId, MemberId};

/// The id of a member of a new cluster, from its peer URLs and the cluster's token.
pub fn bootstrap_member_id(peer_urls: &[String], token: &str) -> MemberId {
    member_id(peer_urls, token)
}

/// The id of a member added to a running cluster, from its peer URLs and the time in seconds since the
/// Unix epoch: the same URLs, removed and added again, make another member.
pub fn added_member_id(peer_urls: &[String], unix_seconds: u64) -> MemberId {
    member_id(peer_urls, &unix_seconds.to_string())
}

/// The id of a new cluster, from the ids of its first members.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<_> = members.into_iter().collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.0.to_be_bytes());
    }
    ClusterId(leading_bytes(hash))
}

/// Never 0, which is no member.
fn member_id(peer_urls: &[String], suffix: &str) -> MemberId {
    let mut urls: Vec<_> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(suffix);
    MemberId(leading_bytes(hash).max(1))
}

fn leading_bytes(hash: Sha1) -> u64 {
    hash.finalize().iter().take(8).fold(0, |id, &byte| id << 8 | u64::from(byte))
}
