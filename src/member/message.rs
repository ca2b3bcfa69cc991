//! The words in which the shell and the member talk: what happened ([`Input`]), what is to be done
//! ([`Output`]), what a client asks ([`Request`]) and what it hears ([`Reply`]).

use std::sync::Arc;

use bytes::Bytes;

use crate::apply;
use crate::proto::detcdpb::{LeaseAnswer, LeaseCall};
use crate::proto::etcdserverpb as pb;
use crate::types::backend::{BackendBatch, BackendSnapshot};
use crate::types::log::{HardState, LogEntry, PeerMessage, SnapshotPoint};
use crate::types::{LeaseId, MemberId, RequestError, StreamId};

use super::view::MemberView;

/// Names a caller that waits for a reply. Chosen by the shell, meaningless to the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
pub enum Input {
    /// A heartbeat interval has passed.
    Tick,
    /// A client asks for something.
    Request {
        /// Who waits for the reply.
        ticket: Ticket,
        /// What is asked.
        request: Request,
    },
    /// A marshalled raft message came from a peer.
    Peer(Bytes),
    /// A peer asks about a lease.
    LeaseCall {
        /// The asking member.
        from: MemberId,
        /// Its question.
        call: LeaseCall,
    },
    /// The leader answered a question about a lease.
    LeaseAnswer(LeaseAnswer),
    /// A message to this peer could not be delivered.
    Unreachable(MemberId),
    /// How the snapshot sent to a peer fared.
    SnapshotSent {
        /// The receiving member.
        to: MemberId,
        /// Whether it arrived whole.
        ok: bool,
    },
    /// The [`Persist`] of this number and all before it are on stable storage.
    Persisted(u64),
    /// The oldest [`Output::Commit`] is in the database.
    BackendCommitted(Committed),
    /// The database received from the leader is in place, as asked by [`Output::Install`]. Comes after
    /// the answer to an earlier [`Output::Commit`].
    Installed(Committed),
    /// A client's watch stream has news.
    Watch {
        /// The stream.
        stream: StreamId,
        /// What it says.
        command: WatchCommand,
    },
    /// The time asked for by [`super::Member::next_wakeup`] has come.
    Wakeup,
}

/// What the database looks like after a commit.
pub struct Committed {
    /// The database as this commit left it.
    pub snapshot: Arc<dyn BackendSnapshot>,
    /// Bytes of the database file.
    pub size: u64,
    /// Bytes of it that hold data.
    pub size_in_use: u64,
}

/// What a client's watch stream says.
#[derive(Debug)]
pub enum WatchCommand {
    /// The stream began.
    Open,
    /// Open a watcher.
    Create(pb::WatchCreateRequest),
    /// Cancel a watcher.
    Cancel(i64),
    /// Ask for a progress notification.
    Progress,
    /// The client took this many bytes of responses.
    Drained(usize),
    /// The stream ended.
    Close,
}

/// What a client asks of the member's loop. Reads are not among them: they run on a published view,
/// after a [`Request::ReadIndex`] if they must be linearizable.
#[derive(Clone, Debug)]
pub enum Request {
    /// Write one key.
    Put(pb::PutRequest),
    /// Delete keys.
    DeleteRange(pb::DeleteRangeRequest),
    /// Run a transaction that may write.
    Txn(pb::TxnRequest),
    /// Compact the history.
    Compact(pb::CompactionRequest),
    /// Grant a lease.
    LeaseGrant(pb::LeaseGrantRequest),
    /// Revoke a lease.
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// Renew a lease.
    LeaseKeepAlive(LeaseId),
    /// Ask how long a lease lives.
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    /// List the leases of this member's table.
    LeaseLeases,
    /// Raise or clear an alarm. Listing needs no loop.
    Alarm(pb::AlarmRequest),
    /// Answered as soon as this member's published view holds everything that was acknowledged before
    /// the request (Raft, 6.4: read index).
    ReadIndex,
    /// Hand the leadership to another member.
    MoveLeader(MemberId),
}

/// The answer to a [`Request`]. Headers carry the revision only; the edge fills in the rest.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// What the state machine answered.
    Applied(apply::Reply),
    /// The granted time to live in seconds, 0 for a lease that is not there.
    LeaseKeepAlive(i64),
    /// What is known of a lease.
    LeaseTimeToLive(pb::LeaseTimeToLiveResponse),
    /// The leases of this member's table.
    LeaseLeases(pb::LeaseLeasesResponse),
    /// The published view is good to read from.
    ReadIndex,
    /// Another member leads now.
    MoveLeader,
}

/// Whom an answer goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReplyTo {
    /// A caller of the shell.
    Ticket(Ticket),
    /// A member that asked about a lease.
    Peer {
        /// The member.
        member: MemberId,
        /// Its question's id.
        call: u64,
    },
    /// Nobody waits.
    Nobody,
}

/// What is to be done. Order matters: see each variant.
pub enum Output {
    /// Send to peers, at once.
    Send(Vec<PeerMessage>),
    /// Write to the log and sync, in order; then [`Input::Persisted`], then send `send_after`.
    Persist(Persist),
    /// Commit to the database, in order; then [`Input::BackendCommitted`]. One is outstanding at a time.
    Commit(BackendBatch),
    /// Put the received database at this point in place of the own one, before any later
    /// [`Output::Persist`]; then [`Input::Installed`]. One is outstanding at a time.
    Install(SnapshotPoint),
    /// The database holds everything up to `standing`, and nobody needs the log up to `through`.
    ReleaseLog {
        /// How far the database is.
        standing: SnapshotPoint,
        /// The last index that may go, at most that of `standing`.
        through: u64,
    },
    /// Publish this view before any later reply.
    Publish(Arc<MemberView>),
    /// Answer a caller.
    Reply {
        /// Who waits.
        ticket: Ticket,
        /// What it hears.
        result: Result<Reply, RequestError>,
    },
    /// Queue responses on a client's watch stream.
    Watch {
        /// The stream.
        stream: StreamId,
        /// The responses, with whole headers, in order.
        responses: Vec<pb::WatchResponse>,
    },
    /// Ask a peer about a lease.
    LeaseCall {
        /// The member to ask.
        to: MemberId,
        /// The question.
        call: LeaseCall,
    },
    /// Answer a peer's question about a lease.
    LeaseAnswer {
        /// The member that asked.
        to: MemberId,
        /// The answer.
        answer: LeaseAnswer,
    },
    /// The members of the cluster or their addresses are now these.
    MembersChanged(Arc<Vec<pb::Member>>),
    /// This member was removed from the cluster and must stop.
    Removed,
}

/// What must be on stable storage before anybody hears of it.
#[derive(Debug, Default)]
pub struct Persist {
    /// Number to acknowledge by [`Input::Persisted`], ascending. Without one nobody waits: it may be
    /// written together with whatever comes next.
    pub number: Option<u64>,
    /// Entries to append; one whose index exists already replaces the log from there on.
    pub entries: Vec<LogEntry>,
    /// The promises to remember, when they changed.
    pub hard_state: Option<HardState>,
    /// The log restarts behind this point: the database that stands there is in place.
    pub snapshot: Option<SnapshotPoint>,
    /// Messages that tell of the above (votes, append responses): only to be sent once it is durable.
    pub send_after: Vec<PeerMessage>,
}

/// Everything a member knows when it starts: read from its disk, or made by bootstrap.
pub struct Recovered {
    /// The database, with at least the initial membership in it.
    pub backend: Committed,
    /// The promises made before.
    pub hard_state: HardState,
    /// The entries of the log; they begin at or before the one behind what the database holds.
    pub entries: Vec<LogEntry>,
}
