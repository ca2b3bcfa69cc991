//! Production's half of what the two worlds do not share. Its twin is `sim.rs`.

use std::future::Future;
use std::io;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Sleep;

pub use tokio::net::{TcpListener, TcpStream};

/// Runs blocking work (bcrypt, a commit to disk) on the thread pool and waits for its result.
///
/// A panic of `work` continues in the caller. Dropping the future does not stop work that has begun.
pub async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is going down and will drop this task too.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Waits until the operator asks the process to end, by SIGTERM or SIGINT; gives the signal's name.
///
/// # Errors
/// When the process may not install a handler.
pub async fn terminated() -> io::Result<&'static str> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    crate::rt::select! {
        _ = term.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// Sleeps until a time of the machine's clock. The runtime has a word of its own for it.
pub fn sleep_until(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(deadline.into())
}

/// Whether the running task may go on polling, or should let the others have the thread.
///
/// Once this is false every socket and channel of the runtime pretends to be pending, so a future that
/// polls other futures in a loop has to stop.
pub fn has_budget() -> bool {
    tokio::task::coop::has_budget_remaining()
}

/// Runs `main` to its end on a new runtime of one thread, which is how a network runtime is shaped.
///
/// # Errors
/// When the operating system refuses the runtime's resources.
pub fn run<F: Future>(main: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(main))
}
