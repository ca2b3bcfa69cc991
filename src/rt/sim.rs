//! The simulator's half of what the two worlds do not share. Its twin is `real.rs`.

use std::future::Future;
use std::io;
use std::time::Instant;

use tokio::time::Sleep;

pub use super::sim_tcp::{TcpListener, TcpStream};

/// Runs blocking work inline, as the simulator has one thread. It takes no virtual time.
pub async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    // As in production, others may run between the request and its result.
    tokio::task::yield_now().await;
    let value = work();
    tokio::task::yield_now().await;
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
