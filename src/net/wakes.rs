//! Which of the futures inside one task want to be polled.
//!
//! Each future has a place, a small number, and a waker of its own. A wake notes the place; the first wake
//! that finds the task asleep wakes the task, the others of the same batch cost no more than a note.
//! Wakers belong to places and are used again, so that a request that is answered at once allocates none.
//!
//! Invariants:
//! - a place is noted at most once until it is taken;
//! - a wake while the task is being polled wakes no task: [`Wakes::finish`] does, if a note is left;
//! - a wake may reach a place whose future is gone or was replaced: polling a future without need is
//!   allowed, missing a wake is not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The wakers and notes of one task.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    wakers: Vec<Waker>,
    board: Arc<Board>,
}

#[derive(Debug, Default)]
struct Board {
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    /// The noted places, in the order of their wakes.
    woken: Vec<usize>,
    /// By place: whether it is in `woken`.
    noted: Vec<bool>,
    /// Whether the task is being polled.
    polling: bool,
    task: Option<Waker>,
}

/// What the waker of one place knows.
struct Place {
    index: usize,
    board: Arc<Board>,
}

impl Wakes {
    /// The waker of a place. Places should be small numbers: memory is kept for the largest one.
    pub(super) fn waker(&mut self, index: usize) -> &Waker {
        if index >= self.wakers.len() {
            let board = &self.board;
            let places = self.wakers.len()..=index;
            self.wakers
                .extend(places.map(|index| Waker::from(Arc::new(Place { index, board: board.clone() }))));
            board.lock().noted.resize(index + 1, false);
        }
        &self.wakers[index]
    }

    /// Begins a poll of the task that `task` wakes.
    pub(super) fn begin(&self, task: &Waker) {
        let mut notes = self.board.lock();
        notes.polling = true;
        match &mut notes.task {
            Some(known) => known.clone_from(task),
            unknown => *unknown = Some(task.clone()),
        }
    }

    /// Moves the noted places to `batch`, which must be empty.
    pub(super) fn take(&self, batch: &mut Vec<usize>) {
        let mut notes = self.board.lock();
        std::mem::swap(&mut notes.woken, batch);
        for &index in batch.iter() {
            notes.noted[index] = false;
        }
    }

    /// Ends a poll of the task. What was noted since the last [`Wakes::take`] makes it run again soon.
    pub(super) fn finish(&self) {
        let task = {
            let mut notes = self.board.lock();
            notes.polling = false;
            if notes.woken.is_empty() { None } else { notes.task.clone() }
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, index: usize) {
        let task = {
            let mut notes = self.lock();
            if notes.noted[index] {
                return;
            }
            notes.noted[index] = true;
            notes.woken.push(index);
            let asleep = !notes.polling && notes.woken.len() == 1;
            if asleep { notes.task.clone() } else { None }
        };
        // Outside the lock: a waker is foreign code.
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.board.note(self.index);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.board.note(self.index);
    }
}
