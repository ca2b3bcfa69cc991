//! One signal that reaches every part of a server once: stop.

use tokio::sync::watch;

/// Gives the two ends of a stop signal.
pub fn shutdown_channel() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger { sender }, Shutdown { receiver })
}

/// The end that stops. Dropping it stops too, so that nothing outlives a lost owner.
#[derive(Debug)]
pub struct ShutdownTrigger {
    sender: watch::Sender<bool>,
}

impl ShutdownTrigger {
    /// Tells every holder of a [`Shutdown`] to stop. Doing so again changes nothing.
    pub fn trigger(&self) {
        self.sender.send_replace(true);
    }
}

/// The end that is told. Clones are cheap and see the same signal.
#[derive(Clone, Debug)]
pub struct Shutdown {
    receiver: watch::Receiver<bool>,
}

impl Shutdown {
    /// Waits for the signal; returns at once when it was given before.
    pub async fn wait(&mut self) {
        // An error means that the trigger is gone, which is the signal as well.
        let _ = self.receiver.wait_for(|stop| *stop).await;
    }

    /// Whether the signal was given.
    pub fn is_triggered(&self) -> bool {
        *self.receiver.borrow() || self.receiver.has_changed().is_err()
    }
}
