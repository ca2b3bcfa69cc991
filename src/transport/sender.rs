//! The stream of messages to one peer: dial, send what gathers, and begin anew when it breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::activity::Counters;
use super::dial::{Addresses, Backoff};
use super::outbox::{Batch, Outbox};
use super::wire::{Connection, Frame, PING, PeerError};
use super::{BATCH_BYTES, PeerEvent, Shared};
use crate::proto::detcdpb::peer_hello::Purpose;
use crate::rt::{self, MissedTickBehavior, TcpStream};
use crate::types::{MemberId, Now};

/// Sends one peer its messages.
pub(super) struct Sender {
    pub(super) shared: Arc<Shared>,
    pub(super) to: MemberId,
    pub(super) addresses: Arc<Addresses>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) counters: Arc<Counters>,
}

impl Sender {
    /// Runs until dropped, or until nobody listens to this member's events any more.
    pub(super) async fn run(self) {
        let config = &self.shared.config;
        let mut backoff = Backoff::new(config, self.to);
        // What went wrong last, to write each new trouble to the log once.
        let mut trouble = None;
        loop {
            let dialled =
                self.addresses.dial(config, self.to, Purpose::Messages, config.silence_timeout).await;
            let error = match dialled {
                Ok(connection) => {
                    tracing::info!(peer = %self.to, "connected");
                    backoff.reset();
                    trouble = None;
                    let _connected = self.counters.connected(self.shared.clock.now());
                    self.stream(connection).await
                }
                Err(error) => error,
            };
            if self.report(&error, trouble.is_none()).await.is_err() {
                return;
            }
            let text = error.to_string();
            if trouble.as_ref() == Some(&text) {
                tracing::debug!(peer = %self.to, %error, "still not connected");
            } else {
                tracing::warn!(peer = %self.to, %error, "not connected");
                trouble = Some(text);
            }
            rt::sleep(backoff.pause()).await;
        }
    }

    /// Tells of a connection that broke or did not come about. What is queued goes with it: behind a gap
    /// it is of little use, and after a long outage it would be old.
    async fn report(&self, error: &PeerError, first: bool) -> Result<(), PeerError> {
        let lost = self.outbox.clear();
        self.counters.lost_messages.fetch_add(lost, Ordering::Relaxed);
        if first || lost > 0 {
            self.shared.tell(PeerEvent::Unreachable(self.to)).await?;
        }
        if matches!(error, PeerError::Refused { removed: true, .. }) {
            self.shared.tell(PeerEvent::Removed).await?;
        }
        Ok(())
    }

    /// Sends until the connection breaks, and says why it did.
    async fn stream(&self, mut connection: Connection<TcpStream>) -> PeerError {
        let config = &self.shared.config;
        let batch_bytes = BATCH_BYTES.min(config.max_frame_bytes);
        let mut ticks = rt::interval(config.ping_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let patience = config.silence_timeout.as_nanos().div_ceil(config.ping_interval.as_nanos());
        let mut ping = Ping::default();
        loop {
            if rt::buggify("transport: breaks a stream") {
                return PeerError::Closed;
            }
            let most = if rt::buggify("transport: sends message by message") { 1 } else { batch_bytes };
            let done = rt::select! {
                frame = connection.next() => frame.and_then(|frame| {
                    let took = ping.answered(&frame, self.shared.clock.now())?;
                    self.counters.round_trip(took);
                    Ok(())
                }),
                _ = ticks.tick() => match ping.tick(self.shared.clock.now(), patience) {
                    Tick::Send => connection.write(&PING).await,
                    Tick::Wait => Ok(()),
                    Tick::Dead => {
                        Err(PeerError::TimedOut("waiting for the answer to a ping", config.silence_timeout))
                    }
                },
                batch = self.outbox.batch(most) => self.send(&mut connection, batch).await,
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    async fn send(&self, connection: &mut Connection<TcpStream>, batch: Batch) -> Result<(), PeerError> {
        match connection.send(&batch.frame).await {
            Ok(bytes) => {
                self.counters.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.counters.lost_messages.fetch_add(batch.count, Ordering::Relaxed);
                Err(error)
            }
        }
    }
}

/// The ping that is on its way, if one is.
#[derive(Default)]
struct Ping {
    sent: Option<Now>,
    /// Ticks since it was sent. Counted, since clocks may be off.
    ticks: u128,
}

enum Tick {
    Send,
    Wait,
    Dead,
}

impl Ping {
    fn tick(&mut self, now: Now, patience: u128) -> Tick {
        if self.sent.is_none() {
            self.sent = Some(now);
            self.ticks = 0;
            return Tick::Send;
        }
        self.ticks += 1;
        if self.ticks < patience { Tick::Wait } else { Tick::Dead }
    }

    /// How many nanoseconds the answer took.
    fn answered(&mut self, frame: &Frame, now: Now) -> Result<u64, PeerError> {
        match self.sent.take() {
            Some(sent) if *frame == Frame::Ping => Ok(now.since(sent)),
            _ => Err(PeerError::Protocol("a frame that answers no ping")),
        }
    }
}
