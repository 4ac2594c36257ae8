//! The connections that read.
//!
//! Reads run on tokio's blocking threads, each with a connection from a small pool, each in one deferred transaction:
//! one snapshot, which the writer does not disturb and which does not disturb the writer.
//!
//! Invariant: a connection returns to the pool without an open transaction, even when a read panics. A snapshot that
//! was left open would keep the write-ahead log from ever starting over.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::failure::{Abandoned, Failure, database};
use crate::{StoreError, TaskLost};

/// Reads that may wait for a connection. Past it callers get [`StoreError::Busy`].
const WAITING_MAX: usize = 1024;

/// The pool.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    size: u32,
    waiting: AtomicUsize,
}

impl Readers {
    /// A pool of these connections.
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        let size = u32::try_from(connections.len()).unwrap_or(u32::MAX);
        Self {
            permits: Arc::new(Semaphore::new(connections.len())),
            idle: Arc::new(Mutex::new(connections)),
            size,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Runs a read in a snapshot of its own.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let permit = {
            let _place = Place::take(&self.waiting).ok_or(StoreError::Busy)?;
            Arc::clone(&self.permits)
                .acquire_owned()
                .await
                .map_err(|_| StoreError::Busy)?
        };
        let idle = Arc::clone(&self.idle);
        let task = tokio::task::spawn_blocking(move || {
            let lease = Lease::take(&idle);
            let result = lease
                .as_ref()
                .ok_or(StoreError::Busy)
                .and_then(|lease| lease.snapshot(work));
            // The connection is back before the next waiter is let in.
            drop(lease);
            drop(permit);
            result
        });
        task.await.map_err(|error| {
            tracing::error!(cause = %TaskLost::from(error), "a read of the store panicked");
            database(Abandoned)
        })?
    }

    /// Refuses new reads and waits for those that run.
    pub(super) async fn drain(&self) {
        // An error means that an earlier call has done it.
        if let Ok(permits) = self.permits.acquire_many(self.size).await {
            self.permits.close();
            permits.forget();
        }
    }

    /// Closes the connections that nobody uses.
    pub(super) fn disconnect(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }
}

/// A place in the bounded queue in front of the pool.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        // The guard exists before the check, so that it also corrects the count for a refused reader.
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that returns to the pool when it is dropped.
struct Lease<'a> {
    idle: &'a Mutex<Vec<Connection>>,
    connection: Option<Connection>,
}

impl<'a> Lease<'a> {
    fn take(idle: &'a Mutex<Vec<Connection>>) -> Option<Self> {
        let connection = idle.lock().pop()?;
        Some(Self {
            idle,
            connection: Some(connection),
        })
    }

    fn snapshot<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, StoreError> {
        let Some(connection) = &self.connection else {
            return Err(StoreError::Busy);
        };
        let snapshot = || -> Result<T, Failure> {
            connection.prepare_cached("BEGIN DEFERRED")?.execute([])?;
            let value = work(connection)?;
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(value)
        };
        snapshot().map_err(StoreError::from)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if connection.is_autocommit() {
            self.idle.lock().push(connection);
            return;
        }
        match connection.execute_batch("ROLLBACK") {
            Ok(()) => self.idle.lock().push(connection),
            Err(error) => tracing::error!(%error, "a read could not be ended: its connection is closed"),
        }
    }
}
