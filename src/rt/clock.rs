//! What time it is, for the parts that may ask. The core may not: it is handed a [`Now`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::types::Now;

/// The time of the machine, for what belongs to the process and not to a member, such as log lines.
pub fn wall_time() -> SystemTime {
    SystemTime::now()
}

/// The clock of one member. The simulator skews, drifts and steps it for each member on its own.
pub trait Clock: Send + Sync + 'static {
    /// The time of this member. Its monotonic part never goes back between two calls.
    fn now(&self) -> Now;

    /// For how long a timer of the runtime must be set so that this much time passes on this clock. The
    /// machine's timers and its clock agree; in the simulator timers run on true time.
    fn timer(&self, span: Duration) -> Duration {
        span
    }
}

/// The clock of the machine; monotonic time counts from when this value was made.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts at zero.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // 584 years of nanoseconds fit; a wall clock before 1970 reads as 1970.
        let mono = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono, wall: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }
}
