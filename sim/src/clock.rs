//! The clocks of the members: one each, beside the one true time of the world.
//!
//! A clock drifts (it runs faster or slower than true time), its wall time is off and is stepped now and
//! then, and it freezes, as the clock of a machine does that is being moved. What a member's monotonic
//! time never does is go back.
//!
//! Timers of the runtime run on true time; `Clock::timer` tells the member for how long to set them, so that
//! its ticks agree with its clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use detcd::rt::Clock;
use detcd::types::Now;
use madsim::time::TimeHandle;

use crate::history::Time;

/// Parts per million that make an exact clock.
pub const EXACT: u64 = 1_000_000;

/// How far off, in parts per million, a clock runs at most: ten times as far as that of poor hardware. What
/// the claims on leases assume.
pub const MOST_DRIFT: u64 = 50_000;

/// Wall time at the beginning of a world, in milliseconds since 1970: some day in 2026.
const BEGINNING: i64 = 1_790_000_000_000;

/// True time: nanoseconds since the world began.
pub fn true_time() -> Time {
    TimeHandle::current().elapsed().as_nanos() as Time
}

/// The clock of one member, over all its runs. Clones are the same clock.
#[derive(Clone)]
pub struct SimClock {
    state: Arc<Mutex<State>>,
}

struct State {
    /// How fast it runs.
    rate: u64,
    /// True time at which the rate last changed, and what the clock had counted by then.
    anchor: (Time, u64),
    /// True time since which it stands still.
    frozen: Option<Time>,
    /// Milliseconds that its wall time is off.
    wall_offset: i64,
    /// What the clock had counted when the member's current run began.
    run_began: u64,
    /// What it last said.
    last: u64,
}

impl SimClock {
    /// A clock that runs at `rate` parts per million of true time and whose wall time is off by so many
    /// milliseconds.
    pub fn new(rate: u64, wall_offset: i64) -> Self {
        let state = State { rate, anchor: (0, 0), frozen: None, wall_offset, run_began: 0, last: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A new run of the member begins: its monotonic time starts at zero.
    pub fn begin_run(&self) {
        let mut state = self.lock();
        state.run_began = state.counted(true_time());
        state.last = 0;
    }

    /// Steps the wall time by so many milliseconds.
    pub fn step_wall(&self, milliseconds: i64) {
        self.lock().wall_offset += milliseconds;
    }

    /// Stops the clock.
    pub fn freeze(&self) {
        self.lock().frozen.get_or_insert(true_time());
    }

    /// Lets a frozen clock go on. It has lost the time in between, or makes up for it at once.
    pub fn thaw(&self, catches_up: bool) {
        let mut state = self.lock();
        let now = true_time();
        if !catches_up && state.frozen.is_some() {
            state.anchor = (now, state.counted(now));
        }
        state.frozen = None;
    }

    /// How fast it runs, in parts per million of true time.
    pub fn rate(&self) -> u64 {
        self.lock().rate
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Nanoseconds that the clock has counted at a true time.
    fn counted(&self, at: Time) -> u64 {
        let at = self.frozen.map_or(at, |frozen| frozen.min(at));
        let passed = u128::from(at.saturating_sub(self.anchor.0));
        self.anchor.1 + (passed * u128::from(self.rate) / u128::from(EXACT)) as u64
    }
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        let mut state = self.lock();
        let counted = state.counted(true_time());
        state.last = state.last.max(counted.saturating_sub(state.run_began));
        let wall = BEGINNING + state.wall_offset + (counted / Now::MILLISECOND) as i64;
        Now { mono: state.last, wall: wall.max(0) as u64 }
    }

    fn timer(&self, span: Duration) -> Duration {
        let nanoseconds = span.as_nanos() * u128::from(EXACT) / u128::from(self.rate());
        Duration::from_nanos(nanoseconds as u64)
    }
}
