//! How long the disk takes, in virtual time.
//!
//! An operation of the disk cannot sleep: it is a plain call. It adds to what its thread owes instead,
//! and whoever runs blocking work sleeps that off when the work is done: see
//! `detcd::rt::set_blocking_delay`, which [`charge_blocking_work`] registers with.

use std::cell::Cell;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Kind;
use crate::random::{Draw, Random};

thread_local! {
    static OWED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Least and most nanoseconds of each kind of operation; between them, short ones are likelier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Of a read.
    pub read: (u64, u64),
    /// Of a write, a change of length or name.
    pub write: (u64, u64),
    /// Of a sync of a file or folder.
    pub sync: (u64, u64),
}

impl Latency {
    /// Draws how long an operation takes and charges it, `slowdown` times.
    pub(super) fn charge(&self, kind: Kind, slowdown: u32, random: &mut Random) {
        let (least, most) = match kind {
            Kind::Read => self.read,
            Kind::Write | Kind::SetLength | Kind::Name => self.write,
            Kind::Sync | Kind::SyncFolder => self.sync,
        };
        if most > 0 {
            let took = Duration::from_nanos(random.log_uniform(least, most));
            OWED.set(OWED.get() + took * slowdown);
        }
    }
}

/// What disks have taken on this thread since the last call.
pub fn take_pending_delay() -> Duration {
    OWED.take()
}

/// Lets blocking work on this thread take as long as its disk operations do.
pub fn charge_blocking_work() {
    detcd::rt::set_blocking_delay(take_pending_delay);
}
