//! The read that health checks make: one key, without its value.

use bytes::Bytes;

use crate::mailbox::Mailbox;
use crate::mvcc::range::{self, RangeQuery};
use crate::types::{Error, KeyRange, RequestError};

/// How far a read must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadKind {
    /// This member alone.
    Serializable,
    /// A quorum confirms that nothing newer was acknowledged.
    Linearizable,
}

/// Reads one key, whichever is the first. An empty store is as good as any.
pub(super) async fn one_key(mailbox: &Mailbox, kind: ReadKind) -> Result<(), RequestError> {
    let view = match kind {
        ReadKind::Serializable => mailbox.view(),
        ReadKind::Linearizable => mailbox.linearizable_view().await?,
    };
    let every_key = KeyRange::from_wire(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    let query = RangeQuery { limit: 1, keys_only: true, ..RangeQuery::new(every_key) };
    match range::range(&view.store, &query) {
        Ok(_) => Ok(()),
        Err(Error::Request(error)) => Err(error),
        Err(Error::Local(fault)) => {
            mailbox.report_fault(fault);
            Err(RequestError::Stopped)
        }
    }
}
