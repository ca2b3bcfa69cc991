//! The simulator's half of rare behaviour: whoever runs the simulation decides when it happens. Its twin
//! is `rare_real.rs`.
//!
//! The decision is a function that is installed for the running thread, which is the thread of all
//! members of a simulated world. Without one nothing rare happens.

use std::cell::RefCell;
use std::time::Duration;

/// Says whether something rare happens at a site now, and if so gives a random number with it.
pub type Decide = Box<dyn FnMut(&'static str) -> Option<u64>>;

thread_local! {
    static DECIDE: RefCell<Option<Decide>> = const { RefCell::new(None) };
}

/// Has rare behaviour on this thread decided by `decide` from now on; by nobody for `None`.
pub fn set_buggify(decide: Option<Decide>) {
    DECIDE.set(decide);
}

/// Whether something rare but legal happens now at this site; see the head of [`crate::rt`].
pub fn buggify(site: &'static str) -> bool {
    draw(site).is_some()
}

/// Waits a while at this site if something rare happens there: a millisecond mostly, a tenth of a second
/// at most.
pub async fn dawdle(site: &'static str) {
    if let Some(number) = draw(site) {
        // As many zeros behind the number as a coin falls on the same side in a row.
        let doublings = number.trailing_zeros().min(6);
        super::sleep(Duration::from_millis(1 << doublings)).await;
    }
}

fn draw(site: &'static str) -> Option<u64> {
    DECIDE.with_borrow_mut(|decide| decide.as_mut().and_then(|decide| decide(site)))
}
