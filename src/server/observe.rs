//! Looking on while a member works: what its loop takes in and what it gives out.
//!
//! The simulator checks claims that no client can see, such as "a promise survives a crash", from what
//! passes here. Production has no observer.

use crate::member::{Input, Output, Recovered};
use crate::types::MemberId;
use crate::types::log::PeerMessage;

/// Someone who looks on. Calls come from the member's loop, in the order in which things happen.
pub trait Observer: Send + Sync {
    /// The member begins with what its disk held.
    fn begins(&self, member: MemberId, recovered: &Recovered);

    /// The member is about to take this in.
    fn takes(&self, input: &Input);

    /// This is about to be done.
    fn gives(&self, output: &Output);

    /// These leave for peers now.
    fn sends(&self, messages: &[PeerMessage]);
}
