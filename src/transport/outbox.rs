//! What waits to be sent to one peer, bounded in bytes.
//!
//! Both ends take the lock once for a batch. Over the bound the newest messages are dropped: raft sends
//! again what matters, and what was queued earlier is what the peer needs next.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::PeerEvent;
use crate::proto::detcdpb::{LeaseAnswer, LeaseCall, PeerFrame};
use crate::rt::sync::{Notify, mpsc};
use crate::types::MemberId;

/// What an item costs beyond its content: its place in memory, and its tag and lengths in a frame.
const ITEM_BYTES: usize = 64;

/// One thing to send.
pub(super) enum Item {
    /// A marshalled raft message.
    Raft(Bytes),
    LeaseCall(LeaseCall),
    LeaseAnswer(LeaseAnswer),
}

impl Item {
    /// An upper bound of what it takes in memory and in a frame.
    fn cost(&self) -> usize {
        match self {
            Item::Raft(message) => ITEM_BYTES + message.len(),
            Item::LeaseCall(_) => ITEM_BYTES,
            Item::LeaseAnswer(answer) => {
                2 * ITEM_BYTES + answer.keys.iter().map(|key| ITEM_BYTES + key.len()).sum::<usize>()
            }
        }
    }
}

/// What goes out in one write.
pub(super) struct Batch {
    /// The frame to send.
    pub(super) frame: PeerFrame,
    /// How many items it carries.
    pub(super) count: u64,
}

/// The queue for one peer.
pub(super) struct Outbox {
    to: MemberId,
    capacity: usize,
    largest: usize,
    events: mpsc::Sender<PeerEvent>,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    cost: usize,
    /// Whether the loss of messages was reported since the queue was last half empty.
    reported: bool,
}

impl Outbox {
    /// An empty queue for `capacity` bytes of items, none of them above `largest`.
    pub(super) fn new(
        to: MemberId,
        capacity: usize,
        largest: usize,
        events: mpsc::Sender<PeerEvent>,
    ) -> Self {
        Self { to, capacity, largest, events, queue: Mutex::default(), filled: Notify::new() }
    }

    /// Queues what there is room for and returns how many items there was none for. Their loss is
    /// reported as [`PeerEvent::Unreachable`], once for each time the queue runs over.
    pub(super) fn push(&self, items: impl Iterator<Item = Item>) -> u64 {
        let mut dropped = 0;
        {
            let mut queue = self.lock();
            for item in items {
                let cost = item.cost();
                if cost > self.largest {
                    // Sending it again will not help, so somebody should know.
                    tracing::error!(peer = %self.to, bytes = cost, "a message is over the bound of a frame");
                    dropped += 1;
                } else if queue.cost + cost <= self.capacity || queue.items.is_empty() {
                    queue.cost += cost;
                    queue.items.push_back(item);
                } else {
                    dropped += 1;
                }
            }
            if dropped > 0 && !queue.reported {
                // The caller is the reader of these events and must not wait for room: with a full event
                // queue the next loss reports.
                queue.reported = self.events.try_send(PeerEvent::Unreachable(self.to)).is_ok();
            }
        }
        self.filled.notify_one();
        dropped
    }

    /// Waits for items and takes those that came first: `size` bytes at most, but at least one item.
    /// Nothing is taken when the future is dropped.
    pub(super) async fn batch(&self, size: usize) -> Batch {
        loop {
            if let Some(batch) = self.take(size) {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    /// Drops everything and returns how many items that were.
    pub(super) fn clear(&self) -> u64 {
        let old = std::mem::take(&mut *self.lock());
        old.items.len() as u64
    }

    fn take(&self, size: usize) -> Option<Batch> {
        let mut queue = self.lock();
        let mut batch = Batch { frame: PeerFrame::default(), count: 0 };
        let mut taken = 0;
        while let Some(item) = queue.items.pop_front() {
            let cost = item.cost();
            if taken > 0 && taken + cost > size {
                queue.items.push_front(item);
                break;
            }
            taken += cost;
            batch.count += 1;
            match item {
                Item::Raft(message) => batch.frame.raft.push(message),
                Item::LeaseCall(call) => batch.frame.lease_calls.push(call),
                Item::LeaseAnswer(answer) => batch.frame.lease_answers.push(answer),
            }
        }
        queue.cost -= taken;
        if queue.cost <= self.capacity / 2 {
            queue.reported = false;
        }
        (taken > 0).then_some(batch)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: MemberId = MemberId(2);

    fn message(size: usize) -> Item {
        Item::Raft(vec![7; size].into())
    }

    fn outbox(capacity: usize, largest: usize, events: usize) -> (Outbox, mpsc::Receiver<PeerEvent>) {
        let (sender, receiver) = mpsc::channel(events);
        (Outbox::new(TO, capacity, largest, sender), receiver)
    }

    fn reports(events: &mut mpsc::Receiver<PeerEvent>) -> usize {
        let mut count = 0;
        while let Ok(event) = events.try_recv() {
            assert!(matches!(event, PeerEvent::Unreachable(TO)), "{event:?}");
            count += 1;
        }
        count
    }

    #[test]
    fn the_newest_are_dropped_and_reported_once() {
        let (outbox, mut events) = outbox(10_000, 8_000, 8);
        let item = 1000 - ITEM_BYTES;
        assert_eq!(outbox.push((0..12).map(|_| message(item))), 2);
        assert_eq!(outbox.push((0..3).map(|_| message(item))), 3);
        assert_eq!(reports(&mut events), 1);
        // Half empty again: the next overflow is news.
        assert_eq!(outbox.take(5_000).map(|batch| batch.count), Some(5));
        assert_eq!(outbox.push((0..6).map(|_| message(item))), 1);
        assert_eq!(reports(&mut events), 1);
        assert_eq!(outbox.clear(), 10);
        assert!(outbox.take(1).is_none());
    }

    #[test]
    fn a_loss_that_could_not_be_reported_is_reported_later() {
        let (outbox, mut events) = outbox(1_000, 1_000, 1);
        outbox.events.try_send(PeerEvent::Unreachable(TO)).expect("room for one");
        assert_eq!(outbox.push([message(900), message(900)].into_iter()), 1);
        assert_eq!(reports(&mut events), 1);
        assert_eq!(outbox.push([message(900)].into_iter()), 1);
        assert_eq!(reports(&mut events), 1);
    }

    #[test]
    fn an_item_above_the_frame_bound_never_enters() {
        let (outbox, mut events) = outbox(10_000, 500, 8);
        assert_eq!(outbox.push([message(500), message(100)].into_iter()), 1);
        assert_eq!(reports(&mut events), 1);
        assert_eq!(outbox.take(10_000).map(|batch| batch.count), Some(1));
    }

    #[test]
    fn a_batch_holds_at_least_one_and_keeps_the_order() {
        let (outbox, _events) = outbox(100_000, 50_000, 8);
        let answer = LeaseAnswer { id: 4, keys: vec![Bytes::from_static(b"k")], ..Default::default() };
        let items = [message(3), Item::LeaseCall(LeaseCall { id: 9, ..Default::default() }), message(5)];
        outbox.push(items.into_iter().chain([Item::LeaseAnswer(answer), message(40_000), message(7)]));
        let lengths = |batch: &Batch| batch.frame.raft.iter().map(Bytes::len).collect::<Vec<_>>();
        let first = outbox.take(1_000).expect("items");
        assert_eq!((first.count, lengths(&first)), (4, vec![3, 5]));
        assert_eq!((first.frame.lease_calls[0].id, first.frame.lease_answers[0].id), (9, 4));
        let second = outbox.take(1_000).expect("items");
        assert_eq!(lengths(&second), [40_000]);
        let third = outbox.take(1_000).expect("items");
        assert_eq!(lengths(&third), [7]);
        assert!(outbox.take(1_000).is_none());
        assert_eq!(outbox.lock().cost, 0);
    }
}
