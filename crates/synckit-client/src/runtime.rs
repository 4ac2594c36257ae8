//! The async runtime and the clocks. No other file names them, so a change of the runtime changes one file.

use std::{
    future::Future,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use synckit_protocol::wire::UnixSeconds;
pub(crate) use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Id as RuntimeId,
    sync::watch,
    time::Instant,
};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
};

/// The clock that measures time on this machine. On most machines it stops while they sleep.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall clock, in the wire's unit. Used only to refresh early: a wrong clock costs one request.
pub(crate) fn unix_now() -> UnixSeconds {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits for a future until `limit` has passed; then `None`.
pub(crate) async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// The runtime that drives the caller. Tasks, timers and connections make progress only while the runtime that created
/// them is driven, and an app may have several: for example, a current-thread runtime for each call.
pub(crate) fn id() -> RuntimeId {
    tokio::runtime::Handle::current().id()
}

/// How long a caller waits for its turn.
pub(crate) const TURN_WAIT_MAX: Duration = Duration::from_secs(300);

/// Turns that callers take one after the other, because callers in parallel would only cause each other's retries.
/// Correctness must not depend on a turn: other processes of the device take none. A caller whose runtime is no longer
/// driven never ends its turn, so after [`TURN_WAIT_MAX`] the next caller continues without one.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<()>);

impl Turns {
    pub(crate) async fn next(&self) -> Option<MutexGuard<'_, ()>> {
        timeout(TURN_WAIT_MAX, self.0.lock()).await
    }
}

/// Runs blocking or long computations off the async threads. The work starts at once, and continues if its caller is
/// dropped.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = io::Result<T>> + Send {
    let handle = tokio::task::spawn_blocking(work);
    async move { handle.await.map_err(io::Error::other) }
}

/// Starts a future that runs beside its caller.
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    Task {
        handle: tokio::spawn(future),
        runtime: id(),
    }
}

/// Starts a future that runs beside its caller, and waits for its first poll: on every runtime and under every load,
/// its request is sent before the caller's next action.
pub(crate) async fn start<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    let task = spawn(future);
    first_poll().await;
    task
}

/// Waits for the first poll of a future that was just started.
pub(crate) async fn first_poll() {
    tokio::task::yield_now().await;
}

/// A future that runs beside its caller and ends with this value.
#[derive(Debug)]
pub(crate) struct Task<T> {
    handle: JoinHandle<T>,
    runtime: RuntimeId,
}

impl<T> Task<T> {
    /// Waits for the result. Fails if the task panicked, if its runtime ended, or if the caller is on another runtime:
    /// a task on a runtime that nobody drives would never end.
    pub(crate) async fn join(mut self) -> io::Result<T> {
        if self.runtime != id() {
            return Err(io::Error::other("the task began on another runtime"));
        }
        (&mut self.handle).await.map_err(io::Error::other)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
