//! The runtime words of the shell: tasks, timers, sockets, signals and the clock.
//!
//! The shell imports scheduling, time and TCP from here and from nowhere else, so that one compiler
//! flag swaps all of them. `tokio` in `Cargo.toml` is a shim: a normal build gets the real tokio, a
//! build with `--cfg madsim` gets a seeded scheduler, virtual time and a simulated network under the
//! same names. The few words that exist on one side only live in twin files behind one name:
//!
//! ```text
//!   shell rooms ──> rt ──┬── tokio's shared words (spawn, sleep, channels, ...)
//!                        ├── platform = real.rs  (tokio's sockets, thread pool, SIGTERM, poll budget)
//!                        │            | sim.rs   (sockets with faults, inline, ctrl-c only, no budget)
//!                        └── rare     = rare_real.rs  (never)
//!                                     | rare_sim.rs   (when the simulator says so)
//! ```
//!
//! # Rare behaviour
//!
//! Some of what the shell may do at any time it hardly ever does: take one item of a full queue, let a
//! disk's answer wait, lose a message. At such a place it asks [`buggify`] with the name of the site, and
//! does so if that says yes; [`dawdle`] waits there. In production the first is a constant `false`, and
//! the second is over at once. A site does nothing that could not happen by itself, and draws nothing:
//! what happens follows from the seed of the simulation.
//!
//! Invariants:
//! - this room is the only one that asks whether it runs in the simulator;
//! - no `Instant` leaves this room: durations go in, [`Now`](crate::types::Now) comes out of a [`Clock`];
//! - [`select!`](crate::rt::select) always takes the first ready branch in source order. tokio's default draws
//!   the order from a counter of the process, so a simulated run could not be repeated.

#![expect(clippy::disallowed_methods, reason = "this room is where they are called for all others")]

mod clock;
#[cfg_attr(madsim, path = "sim.rs")]
#[cfg_attr(not(madsim), path = "real.rs")]
mod platform;
#[cfg_attr(madsim, path = "rare_sim.rs")]
#[cfg_attr(not(madsim), path = "rare_real.rs")]
mod rare;
mod shutdown;
#[cfg(madsim)]
pub mod sim_tcp;
mod task_group;

pub use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
pub use tokio::sync;
pub use tokio::task::{AbortHandle, JoinHandle, yield_now};
pub use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep, timeout};

pub use clock::{Clock, SystemClock, wall_time};
#[cfg(madsim)]
pub use platform::set_blocking_delay;
pub use platform::{TcpListener, TcpStream, blocking, has_budget, run, terminated};
#[cfg(madsim)]
pub use rare::{Decide, set_buggify};
pub use rare::{buggify, dawdle};
pub use shutdown::{Shutdown, ShutdownTrigger, shutdown_channel};
pub use task_group::{TaskGroup, TaskSpawner};

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

/// Starts a task. Dropping the handle detaches the task, it does not stop it.
///
/// A task that must end with its owner belongs into a [`TaskGroup`].
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Waits for the first of several futures, taking branches in source order when several are ready.
///
/// The grammar is `tokio::select!` without `biased;`, which is always on.
#[macro_export]
#[doc(hidden)]
macro_rules! __rt_select {
    ($($branches:tt)*) => {
        $crate::rt::__tokio_select! { biased; $($branches)* }
    };
}
#[doc(inline)]
pub use crate::__rt_select as select;
#[doc(hidden)]
pub use tokio::select as __tokio_select;

/// The timer that hyper is given: keep-alives and header time-outs run on this room's time.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperTimer;

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HyperSleep { inner: Box::pin(sleep(duration)) })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HyperSleep { inner: Box::pin(platform::sleep_until(deadline)) })
    }
}

/// A sleep that carries hyper's marker trait.
struct HyperSleep {
    inner: Pin<Box<Sleep>>,
}

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.inner.as_mut().poll(context)
    }
}

impl hyper::rt::Sleep for HyperSleep {}

#[cfg(test)]
mod tests;
