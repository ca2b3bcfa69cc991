use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake};
use std::time::Duration;

use super::*;

/// Counts itself down when dropped.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn check<F: Future<Output = ()>>(test: F) {
    run(async { timeout(Duration::from_secs(5), test).await.expect("the test hangs") }).expect("a runtime");
}

#[test]
fn a_dropped_group_leaves_no_task() {
    check(async {
        let count = Arc::new(AtomicUsize::new(0));
        let group = TaskGroup::new();
        let spawner = group.spawner();
        for _ in 0..10 {
            let alive = Alive::new(&count);
            group.spawn(async move {
                let _alive = alive;
                std::future::pending().await
            });
        }
        assert_eq!(group.len(), 10);
        yield_now().await;
        drop(group);
        while count.load(Ordering::SeqCst) > 0 {
            yield_now().await;
        }
        let alive = Alive::new(&count);
        spawner.spawn(async move { drop(alive) });
        assert_eq!(count.load(Ordering::SeqCst), 0, "a stopped group drops what it is given");
    });
}

#[test]
fn a_group_drains_when_its_tasks_end() {
    check(async {
        let group = TaskGroup::new();
        group.drained().await;
        for milliseconds in 1..5 {
            group.spawn(sleep(Duration::from_millis(milliseconds)));
        }
        assert_eq!(group.len(), 4);
        group.drained().await;
        assert!(group.is_empty());
    });
}

#[test]
fn shutdown_reaches_everyone_also_by_a_lost_trigger() {
    check(async {
        let (trigger, shutdown) = shutdown_channel();
        assert!(!shutdown.is_triggered());
        let mut waiting = shutdown.clone();
        let waiter = spawn(async move { waiting.wait().await });
        yield_now().await;
        trigger.trigger();
        waiter.await.expect("the waiter ends");
        assert!(shutdown.is_triggered());

        let (trigger, mut shutdown) = shutdown_channel();
        drop(trigger);
        shutdown.wait().await;
        assert!(shutdown.is_triggered());
    });
}

#[test]
fn who_waits_for_the_shutdown_is_woken_in_the_order_of_the_waiting() {
    struct Woken(usize, Mutex<Sender<usize>>);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.1.lock().expect("one thread").send(self.0).expect("the test listens");
        }
    }
    let (trigger, shutdown) = shutdown_channel();
    let (woken, order) = channel();
    let mut waiting = Vec::new();
    for number in 0..20 {
        let mut shutdown = shutdown.clone();
        let mut wait = Box::pin(async move { shutdown.wait().await });
        let waker = Arc::new(Woken(number, Mutex::new(woken.clone()))).into();
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        waiting.push(wait);
    }
    trigger.trigger();
    assert!(order.try_iter().eq(0..20), "a run could not be repeated");
}

#[test]
fn blocking_work_gives_its_value() {
    check(async { assert_eq!(blocking(|| 6 * 7).await, 42) });
}

#[test]
fn select_prefers_the_first_branch() {
    check(async {
        for _ in 0..50 {
            let first = select! {
                _ = std::future::ready(()) => true,
                _ = std::future::ready(()) => false,
            };
            assert!(first);
        }
    });
}

#[test]
fn the_system_clock_goes_forward() {
    let clock = SystemClock::new();
    let first = clock.now();
    let second = clock.now();
    assert!(second.mono >= first.mono);
    assert!(second.wall > 1_600_000_000_000, "milliseconds since 1970, got {}", second.wall);
}
