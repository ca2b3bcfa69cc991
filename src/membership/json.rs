//! Members as JSON, as etcd's peers exchange them.

use serde::{Deserialize, Deserializer, Serializer};

use super::Member;
use crate::types::{LocalFault, MemberId};

/// The body of `GET /members`: an array of members, in the order given.
pub fn members_to_json<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    to_json(&members.into_iter().collect::<Vec<_>>())
}

/// Reads the body of `GET /members`.
///
/// # Errors
/// When it is no such thing.
pub fn members_from_json(body: &[u8]) -> Result<Vec<Member>, LocalFault> {
    serde_json::from_slice(body)
        .map_err(|error| LocalFault::new(format!("a peer's list of members cannot be read: {error}")))
}

/// Members are plain strings, numbers and lists: there is nothing that JSON could not hold.
pub(super) fn to_json(value: &impl serde::Serialize) -> String {
    match serde_json::to_string(value) {
        Ok(text) => text,
        Err(error) => panic!("a member cannot be written as JSON: {error}"),
    }
}

pub(super) fn id<S: Serializer>(id: &MemberId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(id.0)
}

pub(super) fn read_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MemberId, D::Error> {
    u64::deserialize(deserializer).map(MemberId)
}

/// Go writes a list that was never set as `null`.
pub(super) fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
