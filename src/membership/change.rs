//! Changes of membership: what a conf change means, when it is refused, and what it does.
//!
//! A conf change in the raft log names a node and carries a context. The context here is etcd's JSON of a
//! member with one field more that tells what happens to it: raft has no word for a change of URLs, and
//! adds a node that it promotes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Member, Membership, json, rows};
use crate::types::{LocalFault, MemberId, RequestError};

/// One change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member joins.
    Add {
        /// The member, without name when it has not started.
        member: Member,
        /// How many learners there may be with it. The proposer's setting travels in the log, because
        /// every member must decide alike. Of no meaning for a voter.
        max_learners: u32,
    },
    /// A member leaves for good.
    Remove(MemberId),
    /// A member has new peer URLs; its role stays.
    Update {
        /// The member.
        id: MemberId,
        /// All its peer URLs from now on.
        peer_urls: Vec<String>,
    },
    /// A learner becomes a voter.
    Promote(MemberId),
}

/// The context as JSON.
#[derive(Serialize, Deserialize)]
struct Context {
    #[serde(flatten)]
    member: Member,
    #[serde(rename = "isPromote", default, skip_serializing_if = "std::ops::Not::not")]
    is_promote: bool,
    #[serde(rename = "isUpdate", default, skip_serializing_if = "std::ops::Not::not")]
    is_update: bool,
    #[serde(rename = "isRemove", default, skip_serializing_if = "std::ops::Not::not")]
    is_remove: bool,
    /// Absent stands for no limit: in a list of first members nobody asked for one.
    #[serde(rename = "maxLearners", default, skip_serializing_if = "Option::is_none")]
    max_learners: Option<u32>,
}

impl MemberChange {
    /// The member that the change is about.
    pub fn id(&self) -> MemberId {
        match self {
            Self::Add { member, .. } => member.id,
            Self::Update { id, .. } | Self::Remove(id) | Self::Promote(id) => *id,
        }
    }

    /// The context of the conf change that proposes this change.
    pub fn to_context(&self) -> Vec<u8> {
        let about = |id| Member { id, ..Member::default() };
        let (member, limit) = match self {
            Self::Add { member, max_learners } => (member.clone(), Some(*max_learners)),
            Self::Update { id, peer_urls } => (Member { peer_urls: peer_urls.clone(), ..about(*id) }, None),
            Self::Remove(id) | Self::Promote(id) => (about(*id), None),
        };
        let context = Context {
            is_promote: matches!(self, Self::Promote(_)),
            is_update: matches!(self, Self::Update { .. }),
            is_remove: matches!(self, Self::Remove(_)),
            max_learners: limit.filter(|_| member.is_learner),
            member,
        };
        json::to_json(&context).into_bytes()
    }

    /// Reads the context of a committed conf change.
    ///
    /// # Errors
    /// When it is none: the log holds what no member proposes.
    pub fn from_context(context: &[u8]) -> Result<Self, LocalFault> {
        let fault = |why: &str| {
            let context = String::from_utf8_lossy(context);
            LocalFault::new(format!("conf change context {context:?}: {why}"))
        };
        let read: Context = serde_json::from_slice(context).map_err(|error| fault(&error.to_string()))?;
        let Context { member, is_promote, is_update, is_remove, max_learners } = read;
        if member.id == MemberId(0) {
            return Err(fault("member id 0 is no member"));
        }
        match (is_promote, is_update, is_remove) {
            (false, false, false) => Ok(Self::Add { member, max_learners: max_learners.unwrap_or(u32::MAX) }),
            (true, false, false) => Ok(Self::Promote(member.id)),
            (false, true, false) => Ok(Self::Update { id: member.id, peer_urls: member.peer_urls }),
            (false, false, true) => Ok(Self::Remove(member.id)),
            _ => Err(fault("it means two things at once")),
        }
    }
}

impl Membership {
    /// Whether a change can be applied as the members are now.
    ///
    /// # Errors
    /// - `MemberNotFound`: there is no such member, or the id was removed and cannot come back;
    /// - `MemberIdExists`, `PeerUrlExists`: of a new member; the latter also of new URLs;
    /// - `TooManyLearners`: of a new learner;
    /// - `MemberNotLearner`: of a promotion.
    pub fn validate(&self, change: &MemberChange) -> Result<(), RequestError> {
        if self.is_removed(change.id()) {
            return Err(RequestError::MemberNotFound);
        }
        let existing = self.member(change.id());
        match change {
            MemberChange::Add { member, max_learners } => {
                if existing.is_some() {
                    return Err(RequestError::MemberIdExists);
                }
                self.check_peer_urls_free(member.id, &member.peer_urls)?;
                if member.is_learner && self.learners().count() >= *max_learners as usize {
                    return Err(RequestError::TooManyLearners);
                }
            }
            MemberChange::Remove(_) => {
                existing.ok_or(RequestError::MemberNotFound)?;
            }
            MemberChange::Update { id, peer_urls } => {
                existing.ok_or(RequestError::MemberNotFound)?;
                self.check_peer_urls_free(*id, peer_urls)?;
            }
            MemberChange::Promote(_) => {
                if !existing.ok_or(RequestError::MemberNotFound)?.is_learner {
                    return Err(RequestError::MemberNotLearner);
                }
            }
        }
        Ok(())
    }

    /// Applies a committed change.
    ///
    /// # Errors
    /// As [`Membership::validate`]; then nothing has changed, and raft must be told of no change either.
    pub fn apply(&mut self, change: MemberChange) -> Result<(), RequestError> {
        self.validate(&change)?;
        let id = change.id();
        match change {
            MemberChange::Add { member, .. } => {
                self.members.insert(id, member);
            }
            MemberChange::Remove(_) => {
                self.members.remove(&id);
                self.removed.insert(id);
                self.changed_rows.extend(rows::of_removal(id));
            }
            MemberChange::Update { mut peer_urls, .. } => {
                if let Some(member) = self.members.get_mut(&id) {
                    peer_urls.sort();
                    member.peer_urls = peer_urls;
                }
            }
            MemberChange::Promote(_) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.is_learner = false;
                }
            }
        }
        if let Some(member) = self.members.get(&id) {
            self.changed_rows.push(rows::of_member(member));
        }
        Ok(())
    }

    fn check_peer_urls_free(&self, id: MemberId, peer_urls: &[String]) -> Result<(), RequestError> {
        let others = self.members().filter(|member| member.id != id);
        let taken: BTreeSet<_> = others.flat_map(|member| &member.peer_urls).collect();
        if peer_urls.iter().any(|url| taken.contains(url)) {
            return Err(RequestError::PeerUrlExists);
        }
        Ok(())
    }
}
