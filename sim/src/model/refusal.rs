//! The errors that follow from the replicated state and the request: code and text, as etcd sends them.
//!
//! Written down here once more, apart from the server's own table, so that a changed text is seen.

use crate::history::Failure;

/// Defines [`Refusal`] with code and text of every variant in one table.
macro_rules! refusals {
    ($($variant:ident, $code:literal, $text:literal;)*) => {
        /// Why a request is refused, on every member alike.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Refusal { $($variant,)* }

        impl Refusal {
            /// All of them.
            pub const ALL: &[Refusal] = &[$(Refusal::$variant,)*];

            /// The gRPC code, by number.
            pub fn code(self) -> i32 {
                match self { $(Refusal::$variant => $code,)* }
            }

            /// The text.
            pub fn text(self) -> &'static str {
                match self { $(Refusal::$variant => $text,)* }
            }
        }
    };
}

refusals! {
    EmptyKey, 3, "etcdserver: key is not provided";
    KeyNotFound, 3, "etcdserver: key not found";
    ValueProvided, 3, "etcdserver: value is provided";
    LeaseProvided, 3, "etcdserver: lease is provided";
    TooManyOperations, 3, "etcdserver: too many operations in txn request";
    DuplicateKey, 3, "etcdserver: duplicate key given in txn request";
    InvalidSort, 3, "etcdserver: invalid sort option";
    StreamSort, 12, "RangeStream does not support custom sort orders";
    StreamFilter, 12, "RangeStream does not support revision filters";
    Compacted, 11, "etcdserver: mvcc: required revision has been compacted";
    Future, 11, "etcdserver: mvcc: required revision is a future revision";
    LeaseTooLong, 11, "etcdserver: too large lease TTL";
    LeaseNotFound, 5, "etcdserver: requested lease not found";
    LeaseExists, 9, "etcdserver: lease already exists";
    NoSpace, 8, "etcdserver: mvcc: database space exceeded";
    Corrupt, 15, "etcdserver: corrupt cluster";
    NoElectionLeader, 2, "election: no leader";
    NotElectionLeader, 2, "election: not leader";
    LeaderMissing, 2, "\"leader\" field must be provided";
    SessionExpired, 2, "mutex: session is expired";
}

impl Refusal {
    /// Whether the refused request has left no trace. A lock that came to nothing had a key in between.
    pub fn leaves_nothing(self) -> bool {
        self != Refusal::SessionExpired
    }

    /// The refusal that a client heard; none when it heard something else.
    pub fn heard(failure: &Failure) -> Option<Self> {
        let same = |refusal: &&Refusal| (refusal.code(), refusal.text()) == (failure.code, &*failure.message);
        Self::ALL.iter().find(same).copied()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code(), message: refusal.text().to_owned() }
    }
}
