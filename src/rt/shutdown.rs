//! One signal that reaches every part of a server once: stop.
//!
//! It is a flag and a queue of who waits. A `watch` channel would do as much, but it spreads those who wait
//! over several queues by chance, from a generator of the process: the order in which they are woken would
//! differ from run to run, and no seed could repeat one.
//!
//! Invariants:
//! - who waits is woken in the order of the waiting;
//! - a signal that was given stays given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Gives the two ends of a stop signal.
pub fn shutdown_channel() -> (ShutdownTrigger, Shutdown) {
    let signal = Arc::new(Signal::default());
    (ShutdownTrigger { signal: signal.clone() }, Shutdown { signal })
}

#[derive(Debug, Default)]
struct Signal {
    is_given: AtomicBool,
    given: Notify,
}

/// The end that stops. Dropping it stops too, so that nothing outlives a lost owner.
#[derive(Debug)]
pub struct ShutdownTrigger {
    signal: Arc<Signal>,
}

impl ShutdownTrigger {
    /// Tells every holder of a [`Shutdown`] to stop. Doing so again changes nothing.
    pub fn trigger(&self) {
        if !self.signal.is_given.swap(true, Ordering::AcqRel) {
            self.signal.given.notify_waiters();
        }
    }
}

impl Drop for ShutdownTrigger {
    fn drop(&mut self) {
        self.trigger();
    }
}

/// The end that is told. Clones are cheap and see the same signal.
#[derive(Clone, Debug)]
pub struct Shutdown {
    signal: Arc<Signal>,
}

impl Shutdown {
    /// Waits for the signal; returns at once when it was given before.
    pub async fn wait(&mut self) {
        // Made before the look: a signal in between is not missed.
        let given = self.signal.given.notified();
        if !self.is_triggered() {
            given.await;
        }
    }

    /// Whether the signal was given.
    pub fn is_triggered(&self) -> bool {
        self.signal.is_given.load(Ordering::Acquire)
    }
}
