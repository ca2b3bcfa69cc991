//! The simulator's half of what the two worlds do not share. Its twin is `real.rs`.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

pub use super::sim_tcp::{TcpListener, TcpStream};

thread_local! {
    static BLOCKING_DELAY: Cell<fn() -> Duration> = const { Cell::new(|| Duration::ZERO) };
}

/// Sets what says how long blocking work on this thread takes. It is asked before the work and after it;
/// the second answer, which is what has come together in between, is slept in virtual time.
pub fn set_blocking_delay(delay: fn() -> Duration) {
    BLOCKING_DELAY.set(delay);
}

/// Runs blocking work inline, as the simulator has one thread. It takes as much virtual time as
/// [`set_blocking_delay`] says, none otherwise.
pub async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    // As in production, others may run between the request and its result.
    tokio::task::yield_now().await;
    let delay = BLOCKING_DELAY.get();
    // What others owe is not this work's.
    delay();
    let value = work();
    match delay() {
        Duration::ZERO => tokio::task::yield_now().await,
        took => tokio::time::sleep(took).await,
    }
    value
}

/// Waits until the simulator sends its one signal to this node; gives the signal's name.
///
/// # Errors
/// None: the signature is production's.
pub async fn terminated() -> io::Result<&'static str> {
    tokio::signal::ctrl_c().await?;
    Ok("SIGINT")
}

/// Sleeps until a time of the simulator's clock, which speaks of time in the standard library's words.
pub fn sleep_until(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(deadline)
}

/// The simulated scheduler has no budget: whoever polls in a loop needs a bound of its own as well.
pub fn has_budget() -> bool {
    true
}

/// Runs `main` to its end in a simulated world of its own.
///
/// # Errors
/// None: the signature is production's.
pub fn run<F: Future>(main: F) -> io::Result<F::Output> {
    Ok(madsim::runtime::Runtime::new().block_on(main))
}
