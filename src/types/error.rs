//! Errors, in the two kinds that must never become one another.
//!
//! A [`RequestError`] is an answer: it follows from the replicated state and the request, and its text
//! and code are an interface (etcd's, to the letter). A [`LocalFault`] is news about this member alone,
//! such as a failing disk: it stops the member and never becomes an answer.

use std::fmt;

/// Status codes of gRPC, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Code {
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Defines [`RequestError`] with the code and text of every variant in one table.
macro_rules! request_errors {
    ($($variant:ident, $code:ident, $text:literal;)*) => {
        /// An error that is the answer to a request. Texts and codes are etcd's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum RequestError { $($variant,)* }

        impl RequestError {
            /// Every variant, for tables and tests.
            pub const ALL: &[RequestError] = &[$(RequestError::$variant,)*];

            /// The gRPC status code that etcd sends with this error.
            pub fn code(self) -> Code {
                match self { $(RequestError::$variant => Code::$code,)* }
            }

            /// The text that clients compare.
            pub fn text(self) -> &'static str {
                match self { $(RequestError::$variant => $text,)* }
            }
        }
    };
}

request_errors! {
    EmptyKey, InvalidArgument, "etcdserver: key is not provided";
    KeyNotFound, InvalidArgument, "etcdserver: key not found";
    ValueProvided, InvalidArgument, "etcdserver: value is provided";
    LeaseProvided, InvalidArgument, "etcdserver: lease is provided";
    TooManyOps, InvalidArgument, "etcdserver: too many operations in txn request";
    DuplicateKey, InvalidArgument, "etcdserver: duplicate key given in txn request";
    InvalidClientApiVersion, InvalidArgument, "etcdserver: invalid client api version";
    InvalidSortOption, InvalidArgument, "etcdserver: invalid sort option";
    RequestTooLarge, InvalidArgument, "etcdserver: request is too large";
    Compacted, OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FutureRevision, OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    LeaseTtlTooLarge, OutOfRange, "etcdserver: too large lease TTL";
    NoSpace, ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    // etcd declares ResourceExhausted for this one and sends Unknown; clients map on the text.
    TooManyRequests, Unknown, "etcdserver: too many requests";
    LeaseNotFound, NotFound, "etcdserver: requested lease not found";
    LeaseExists, FailedPrecondition, "etcdserver: lease already exists";
    WatchCanceled, Canceled, "etcdserver: watch canceled";
    RangeStreamSort, Unimplemented, "RangeStream does not support custom sort orders";
    RangeStreamFilter, Unimplemented, "RangeStream does not support revision filters";

    NoLeader, Unavailable, "etcdserver: no leader";
    LeaderChanged, Unavailable, "etcdserver: leader changed";
    Stopped, Unavailable, "etcdserver: server stopped";
    Timeout, Unavailable, "etcdserver: request timed out";
    TimeoutLeaderFailure, Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutConnectionLost, Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    TimeoutLeaderTransfer, Unknown, "etcdserver: request timed out, leader transfer took too long";
    TimeoutWaitApplied, Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
    UnhealthyCluster, Unavailable, "etcdserver: unhealthy cluster";
    NotLeader, FailedPrecondition, "etcdserver: not leader";
    NotCapable, FailedPrecondition, "etcdserver: not capable";
    LearnerNotSupported, FailedPrecondition, "etcdserver: rpc not supported for learner";
    BadLeaderTransferee, FailedPrecondition, "etcdserver: bad leader transferee";
    Corrupt, DataLoss, "etcdserver: corrupt cluster";
    Canceled, Canceled, "etcdserver: request canceled";
    // What no leader ever took: etcd's own name for this one, with "etcdserver: ", is never sent.
    DeadlineExceeded, DeadlineExceeded, "context deadline exceeded";

    MemberIdExists, FailedPrecondition, "etcdserver: member ID already exist";
    PeerUrlExists, FailedPrecondition, "etcdserver: Peer URLs already exists";
    MemberNotLearner, FailedPrecondition, "etcdserver: can only promote a learner member";
    LearnerNotReady, FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners, FailedPrecondition, "etcdserver: too many learner members in cluster";
    ClusterIdMismatch, FailedPrecondition, "etcdserver: cluster ID mismatch";
    // As TooManyRequests: declared FailedPrecondition, sent as Unknown.
    NotEnoughStarted, Unknown, "etcdserver: re-configuration failed due to not enough started members";
    BadMemberUrls, InvalidArgument, "etcdserver: given member URLs are invalid";
    MemberNotFound, NotFound, "etcdserver: member not found";
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for RequestError {}

/// Something is wrong with this member itself: its disk, its data, its memory.
///
/// It carries a sentence for the operator, who reads it at three in the morning: what failed, on which
/// file and offset, and what the system said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalFault {
    message: String,
}

impl LocalFault {
    /// A fault with its sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for LocalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LocalFault {}

/// What can go wrong where both kinds are possible. They stay apart: a caller that answers requests must
/// take the two arms separately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The answer to the request.
    Request(RequestError),
    /// This member must stop.
    Local(LocalFault),
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Error::Request(error)
    }
}

impl From<LocalFault> for Error {
    fn from(fault: LocalFault) -> Self {
        Error::Local(fault)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Request(error) => error.fmt(f),
            Error::Local(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Error {}
