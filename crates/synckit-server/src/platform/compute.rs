//! Computations of milliseconds, off the threads that answer requests.

use std::{num::NonZero, sync::LazyLock, thread::available_parallelism};

use synckit_store::TaskLost;
use tokio::sync::Semaphore;

/// Half of the cores, which belong to the process as a whole: the other half answers requests meanwhile.
static CORES: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new((available_parallelism().map_or(1, NonZero::get) / 2).max(1)));

/// Runs a computation when it is its turn. Those who wait are served in the order in which they came.
///
/// # Errors
/// [`TaskLost`] if it panicked.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TaskLost> {
    // It is never closed.
    let turn = CORES.acquire().await;
    tokio::task::spawn_blocking(move || {
        let result = work();
        drop(turn);
        result
    })
    .await
    .map_err(TaskLost::from)
}
