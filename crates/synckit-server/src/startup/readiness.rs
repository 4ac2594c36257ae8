//! What `/readyz` answers.
//!
//! The check of the store writes to the disk, and `/readyz` is open to everybody: without a memory, whoever can reach it
//! could force a write for each request.

use std::time::Duration;

use synckit_protocol::ProblemCode;
use synckit_store::Store;
use tokio::{sync::Mutex, time::Instant};

use crate::http::ApiError;

/// How long an answer of the store stands.
const CHECK_STANDS: Duration = Duration::from_secs(1);

/// What the last check of the store said.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// Held while the store is asked, so that requests at the same time share one check.
    last: Mutex<Option<(Instant, Result<(), ProblemCode>)>>,
}

impl Readiness {
    /// Answers whether the store reads and writes, as it was within the last second.
    pub(crate) async fn check(&self, store: &dyn Store) -> Result<(), ApiError> {
        let mut last = self.last.lock().await;
        if let Some((at, outcome)) = *last
            && at.elapsed() < CHECK_STANDS
        {
            return outcome.map_err(ApiError::from);
        }
        let outcome = store.check().await.map_err(ApiError::from);
        let remembered = match &outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(error.problem().known_code().unwrap_or(ProblemCode::Internal)),
        };
        *last = Some((Instant::now(), remembered));
        outcome
    }
}
