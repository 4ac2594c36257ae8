//! The answer of `/readyz`.
//!
//! The check of the store writes to the disk, and `/readyz` is public: without a cache, every request to it would force a
//! write.

use std::time::Duration;

use synckit_store::{Store, StoreError, Unavailable};
use tokio::{sync::Mutex, time::Instant};

/// How long an answer of the store is reused.
const REUSE_MAX: Duration = Duration::from_secs(1);

/// The result of the last check of the store.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// Held while the store is asked, so that requests at the same time share one check.
    last: Mutex<Option<(Instant, Result<(), Trouble>)>>,
}

/// Why the store does no work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    /// The store failed just now.
    #[error(transparent)]
    Checked(StoreError),
    /// The store failed within the last second; the log has the error.
    #[error("the store failed within the last second")]
    Remembered(Trouble),
}

/// The cached kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Full,
    Busy,
    Unavailable(Unavailable),
    Failed,
}

impl Readiness {
    /// Answers whether the store reads and writes, as it was within the last second.
    pub(crate) async fn check(&self, store: &dyn Store) -> Result<(), NotReady> {
        let mut last = self.last.lock().await;
        if let Some((at, outcome)) = *last
            && at.elapsed() < REUSE_MAX
        {
            return outcome.map_err(NotReady::Remembered);
        }
        let outcome = store.check().await;
        let remembered = match &outcome {
            Ok(()) => Ok(()),
            Err(StoreError::Full(_)) => Err(Trouble::Full),
            Err(StoreError::Busy) => Err(Trouble::Busy),
            Err(StoreError::Unavailable { step, .. }) => Err(Trouble::Unavailable(*step)),
            Err(_) => Err(Trouble::Failed),
        };
        *last = Some((Instant::now(), remembered));
        outcome.map_err(NotReady::Checked)
    }
}
