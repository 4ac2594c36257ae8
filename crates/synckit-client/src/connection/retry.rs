//! The only list of retried failures, and the pauses between retries.
//!
//! A request is repeated only after a temporary failure. Every request of the protocol may be repeated: a write carries
//! an id or a version, so it is stored once.

use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use synckit_protocol::ProblemCode;

use super::transport::TransportError;
use crate::error::Error;

/// Retries after the first attempt.
pub(crate) const RETRIES_MAX: u32 = 3;
/// Time limit for all retries of one call.
pub(crate) const RETRY_BUDGET: Duration = Duration::from_secs(60);
/// The first pause is random, from zero to this; the range doubles with each further pause ("full jitter").
const PAUSE_BASE: Duration = Duration::from_millis(200);

/// The first pause of something that is repeated for ever.
const BACKOFF_BASE: Duration = Duration::from_millis(500);

/// Whether a status means a temporary failure: too slow (408), too many (429), a fault of a gateway or an
/// object store (500), a gateway that did not reach the server (502 to 504; 520 to 530 at Cloudflare).
pub(crate) fn is_retried(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=504 | 520..=530)
}

/// Whether another attempt may succeed.
pub(crate) fn is_temporary(error: &Error) -> bool {
    match error {
        Error::Network(TransportError::Connection(_) | TransportError::Timeout(_)) => true,
        Error::RetryLater { retry_after, .. } => *retry_after < RETRY_BUDGET,
        // The server's own `internal` is a fault that it logged, and that would occur again.
        Error::Problem(problem) => is_retried(problem.status) && problem.known_code() != Some(ProblemCode::Internal),
        _ => false,
    }
}

/// The random source of the pauses between retries: never of a secret.
#[derive(Debug)]
pub(crate) struct Jitter(Mutex<StdRng>);

impl Jitter {
    /// Seeded by the operating system, or by a simulation.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(Mutex::new(
            seed.map_or_else(StdRng::from_entropy, StdRng::seed_from_u64),
        ))
    }

    /// The pause after an error, or `None` if another attempt is useless.
    pub(crate) fn wait_after(&self, error: &Error, attempt: u32) -> Option<Duration> {
        if attempt >= RETRIES_MAX || !is_temporary(error) {
            return None;
        }
        Some(match error {
            Error::RetryLater { retry_after, .. } => *retry_after,
            _ => self.pause(attempt),
        })
    }

    /// A pause that doubles with each attempt, from half a second up to `most`: a random time of at least half of it.
    pub(crate) fn backoff(&self, attempt: u32, most: Duration) -> Duration {
        let whole = BACKOFF_BASE.saturating_mul(1 << attempt.min(16)).min(most);
        self.0.lock().gen_range(whole / 2..=whole)
    }

    /// A pause with full jitter: from zero to twice the previous maximum.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let most = PAUSE_BASE.saturating_mul(1 << attempt.min(5));
        self.0.lock().gen_range(Duration::ZERO..=most)
    }
}
