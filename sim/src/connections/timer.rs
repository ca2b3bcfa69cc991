//! Simulated time, and waking who waits for it.

use std::task::{Context, Waker};
use std::time::Duration;

use super::pipe::Pipe;
use crate::history::Time;

/// Simulated time; none when there is no world any more and the last sockets are dropped.
pub(super) fn now() -> Option<Time> {
    madsim::time::TimeHandle::try_current().map(|time| nanoseconds(time.elapsed()))
}

pub(super) fn nanoseconds(duration: Duration) -> Time {
    u64::try_from(duration.as_nanos()).unwrap_or(Time::MAX)
}

pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Wakes at a time, without a task: a sleep that was polled once leaves a timer behind.
pub(super) fn wake_at(waker: &Waker, at: Time, now: Time) {
    if at <= now {
        waker.wake_by_ref();
        return;
    }
    let mut sleep = std::pin::pin!(madsim::time::sleep(Duration::from_nanos(at - now)));
    let _ = sleep.as_mut().poll(&mut Context::from_waker(waker));
}

/// Lets the reader of a pipe be woken, now or when there is something to be seen.
pub(super) fn wait_for(pipe: &mut Pipe, next: Option<Time>, now: Time, context: &Context<'_>) {
    if !pipe.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
        pipe.reader = Some(context.waker().clone());
        pipe.armed = 0;
    }
    arm(pipe, next, now);
}

/// Wakes the reader of a pipe, if there is one, when there is something to be seen.
pub(super) fn wake_reader(pipe: &mut Pipe, now: Time) {
    arm(pipe, pipe.next_event().map(|at| at.max(pipe.paced_until)), now);
}

/// Sets a timer, unless an earlier one is set: the reader looks again then.
fn arm(pipe: &mut Pipe, next: Option<Time>, now: Time) {
    let (Some(reader), Some(next)) = (&pipe.reader, next) else {
        return;
    };
    if pipe.armed > now && pipe.armed <= next {
        return;
    }
    wake_at(reader, next, now);
    pipe.armed = next;
}
