//! How fast the line to the server takes bytes, as the last pushes found.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use synckit_protocol::limits::SLOWEST_LINE_BYTES_PER_SECOND;

/// A smaller body tells more of the time that an answer takes than of the line.
const MEASURED_BYTES_MIN: usize = 64 * 1024;
/// How long a batch should take at most: what a broken line makes useless has to be sent again.
const BATCH_SECONDS: u64 = 20;
/// The smallest bound of a batch.
const BATCH_BYTES_MIN: u64 = 64 * 1024;

/// The speed of the line to the server.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Zero while it is unknown.
    bytes_per_second: AtomicU64,
}

impl Line {
    /// The most bytes that a batch should have; `None` if nothing is known.
    pub(crate) fn batch_bytes(&self) -> Option<usize> {
        let speed = self.bytes_per_second.load(Ordering::Relaxed);
        let bytes = speed.saturating_mul(BATCH_SECONDS).max(BATCH_BYTES_MIN);
        (speed > 0).then(|| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// A body of this size was sent and answered.
    pub(crate) fn sent(&self, bytes: usize, elapsed: Duration) {
        if bytes >= MEASURED_BYTES_MIN {
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
            let speed = (bytes as u64).saturating_mul(1000) / millis;
            self.bytes_per_second.store(speed.max(1), Ordering::Relaxed);
        }
    }

    /// A body of this size did not arrive.
    pub(crate) fn broke(&self, bytes: usize) {
        if bytes >= MEASURED_BYTES_MIN {
            self.bytes_per_second
                .store(SLOWEST_LINE_BYTES_PER_SECOND, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_slow_line_gets_small_batches() {
        let line = Line::default();
        assert_eq!(line.batch_bytes(), None);
        line.sent(1_000_000, 200 * SECOND);
        assert_eq!(line.batch_bytes(), Some(100_000));
        line.sent(100_000, 100 * SECOND);
        assert_eq!(line.batch_bytes(), Some(64 * 1024));
        line.sent(64 * 1024, SECOND);
        assert_eq!(line.batch_bytes(), Some(20 * 64 * 1024));
    }

    #[test]
    fn a_small_body_tells_nothing_of_the_line() {
        let line = Line::default();
        line.sent(300, SECOND);
        line.broke(300);
        assert_eq!(line.batch_bytes(), None);
    }

    #[test]
    fn a_broken_line_gets_small_batches() {
        let line = Line::default();
        line.sent(4_000_000, SECOND);
        line.broke(4_000_000);
        assert_eq!(line.batch_bytes(), Some(20 * 4096));
    }

    #[test]
    fn absurd_times_are_no_absurd_sizes() {
        let line = Line::default();
        line.sent(usize::MAX, Duration::ZERO);
        assert_eq!(line.batch_bytes(), Some(usize::MAX));
        line.sent(64 * 1024, Duration::MAX);
        assert_eq!(line.batch_bytes(), Some(64 * 1024));
    }
}
