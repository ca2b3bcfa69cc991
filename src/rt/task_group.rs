//! The tasks of one owner, which end with it.
//!
//! A detached task outlives the server that started it: it keeps a port bound, a file open, a member
//! half alive. So whoever starts tasks owns a [`TaskGroup`], and dropping the group aborts what still
//! runs. Parts further down get a [`TaskSpawner`], which can add tasks but cannot keep the group alive.
//!
//! Invariants:
//! - after the group is dropped or stopped, no task of it is started any more;
//! - the lock is never held while a task is started, polled, aborted or dropped, because each of these
//!   can run a task's destructor, which takes the lock.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Owns tasks: dropping it aborts them.
#[derive(Debug, Default)]
pub struct TaskGroup {
    spawner: TaskSpawner,
}

/// Adds tasks to a [`TaskGroup`] that someone else owns.
#[derive(Clone, Debug, Default)]
pub struct TaskSpawner {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    tasks: Mutex<Tasks>,
    /// Told each time a task ends.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Tasks {
    stopped: bool,
    next: u64,
    /// Empty for the moment between the start of a task and the arrival of its handle.
    running: BTreeMap<u64, Option<AbortHandle>>,
}

impl TaskGroup {
    /// A group without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task of this group.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawner.spawn(future);
    }

    /// A handle that adds tasks to this group.
    pub fn spawner(&self) -> TaskSpawner {
        self.spawner.clone()
    }

    /// Number of tasks that have not ended.
    pub fn len(&self) -> usize {
        self.spawner.shared.lock().running.len()
    }

    /// Whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until every task has ended, those included that start meanwhile.
    pub async fn drained(&self) {
        loop {
            let mut ended = std::pin::pin!(self.spawner.shared.ended.notified());
            // Listen before looking, or the last end could fall in between.
            ended.as_mut().enable();
            if self.is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Aborts every task and starts no more.
    pub fn stop(&self) {
        let handles: Vec<AbortHandle> = {
            let mut tasks = self.spawner.shared.lock();
            tasks.stopped = true;
            tasks.running.values_mut().filter_map(Option::take).collect()
        };
        for handle in handles {
            handle.abort();
        }
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        self.stop();
    }
}

impl TaskSpawner {
    /// Starts a task of the group; once the group has been stopped, drops `future` instead.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(id) = self.shared.reserve() else {
            return;
        };
        let ending = Ending { shared: self.shared.clone(), id };
        let handle = tokio::spawn(async move {
            // Moved in: reports the end also when the task is dropped before its first poll.
            let _ending = ending;
            future.await;
        });
        if let Some(unwanted) = self.shared.started(id, handle.abort_handle()) {
            unwanted.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more task, or nothing when the group has been stopped.
    fn reserve(&self) -> Option<u64> {
        let mut tasks = self.lock();
        if tasks.stopped {
            return None;
        }
        let id = tasks.next;
        tasks.next += 1;
        tasks.running.insert(id, None);
        Some(id)
    }

    /// Keeps the handle of task `id`, or gives it back when the group was stopped in between.
    fn started(&self, id: u64, handle: AbortHandle) -> Option<AbortHandle> {
        let mut tasks = self.lock();
        if tasks.stopped {
            return Some(handle);
        }
        if let Some(place) = tasks.running.get_mut(&id) {
            *place = Some(handle);
        }
        None
    }
}

/// Takes a task off the list when the task ends, whichever way.
struct Ending {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let handle = self.shared.lock().running.remove(&self.id);
        drop(handle);
        self.shared.ended.notify_waiters();
    }
}
