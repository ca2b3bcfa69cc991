//! How raft stands: roles, members, progress.

use ::raft::{ProgressState, StateRole};

use super::convert;
use super::driver::Driver;
use crate::types::MemberId;

/// The part that a member plays in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader or waits for one; learners too.
    #[default]
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Who leads, as this member sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleChange {
    /// This member's part.
    pub role: Role,
    /// The leader of the term, if known.
    pub leader: Option<MemberId>,
    /// The term.
    pub term: u64,
}

/// The members that raft counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Those with a vote, ascending.
    pub voters: Vec<u64>,
    /// Those without, ascending.
    pub learners: Vec<u64>,
}

/// How replication to one member stands, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The member.
    pub id: MemberId,
    /// Highest entry known to be durable there.
    pub matched: u64,
    /// Next entry to send.
    pub next: u64,
    /// How it is being sent to.
    pub state: PeerState,
    /// Heard of within the last election timeout.
    pub recent_active: bool,
}

/// How a leader sends to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// One message at a time until the logs are found to match.
    Probe,
    /// As fast as the window allows.
    Replicate,
    /// Nothing until the snapshot has arrived.
    Snapshot,
}

/// How raft stands, for status answers, metrics and decisions above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// Current term.
    pub term: u64,
    /// Whom this member voted for in the term, if anybody.
    pub vote: Option<MemberId>,
    /// This member's part.
    pub role: Role,
    /// The leader, if known.
    pub leader: Option<MemberId>,
    /// Highest entry known to be committed.
    pub commit: u64,
    /// Highest entry that was reported as applied.
    pub applied: u64,
    /// Highest entry in the log, durable or not.
    pub last_index: u64,
    /// Highest entry of the log that is durable here.
    pub persisted: u64,
    /// Oldest entry still in memory.
    pub first_index: u64,
    /// Memory that the log takes, in bytes.
    pub log_bytes: u64,
    /// The members.
    pub configuration: Configuration,
    /// To whom leadership is being handed over.
    pub transferee: Option<MemberId>,
    /// On a leader: every member, itself included, ascending by id. Empty elsewhere.
    pub progress: Vec<PeerProgress>,
}

impl Driver {
    /// How raft stands now.
    pub fn status(&self) -> RaftStatus {
        let raft = &self.node.raft;
        let role = self.current_role();
        RaftStatus {
            term: raft.term,
            vote: member(raft.vote),
            role: role.role,
            leader: role.leader,
            commit: raft.raft_log.committed,
            applied: raft.raft_log.applied,
            last_index: raft.raft_log.last_index(),
            persisted: raft.raft_log.persisted,
            first_index: raft.raft_log.first_index(),
            log_bytes: self.node.store().bytes(),
            configuration: self.configuration(),
            transferee: raft.lead_transferee.and_then(member),
            progress: if self.is_leader() { self.progress() } else { Vec::new() },
        }
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// Highest entry known to be committed.
    pub fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Oldest entry still in memory.
    pub fn first_index(&self) -> u64 {
        self.node.raft.raft_log.first_index()
    }

    fn progress(&self) -> Vec<PeerProgress> {
        let mut progress: Vec<_> = self
            .node
            .raft
            .prs()
            .iter()
            .map(|(&id, peer)| PeerProgress {
                id: MemberId(id),
                matched: peer.matched,
                next: peer.next_idx,
                state: match peer.state {
                    ProgressState::Probe => PeerState::Probe,
                    ProgressState::Replicate => PeerState::Replicate,
                    ProgressState::Snapshot => PeerState::Snapshot,
                },
                recent_active: peer.recent_active || id == self.node.raft.id,
            })
            .collect();
        progress.sort_unstable_by_key(|peer| peer.id);
        progress
    }

    pub(super) fn configuration(&self) -> Configuration {
        let conf_state = self.node.raft.prs().conf().to_conf_state();
        Configuration {
            voters: convert::sorted(conf_state.get_voters()),
            learners: convert::sorted(conf_state.get_learners()),
        }
    }

    pub(super) fn current_role(&self) -> RoleChange {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        };
        RoleChange { role, leader: member(raft.leader_id), term: raft.term }
    }
}

fn member(id: u64) -> Option<MemberId> {
    (id != 0).then_some(MemberId(id))
}
