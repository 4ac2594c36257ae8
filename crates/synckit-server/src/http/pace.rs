//! How slowly something may move: a minimum rate, with patience for a while without any.

use std::time::Duration;

use synckit_protocol::limits::SLOWEST_LINE_BYTES_PER_SECOND;
use tokio::time::Instant;

/// The time that a transfer has left. It starts with a whole window, waiting uses it up, and each byte brings back as much
/// as it takes on the slowest line that is waited for, up to the window. A transfer that stops ends after a window; one
/// that trickles ends soon, too; one at the minimum rate never does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    window: Duration,
    left: Duration,
}

impl Pace {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, left: window }
    }

    /// When a wait that begins now has lasted too long.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.left
    }

    /// Notes that so many bytes came after a wait.
    pub(crate) fn moved(&mut self, waited: Duration, bytes: usize) {
        let millis = (bytes as u64).saturating_mul(1000) / SLOWEST_LINE_BYTES_PER_SECOND;
        let left = self.left.saturating_sub(waited);
        self.left = left.saturating_add(Duration::from_millis(millis)).min(self.window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn trickle_runs_out_of_time() {
        let mut pace = Pace::new(WINDOW);
        for _ in 0..30 {
            pace.moved(SECOND, 8);
        }
        assert!(pace.left < SECOND);
    }

    #[test]
    fn slowest_line_never_runs_out_of_time() {
        let mut pace = Pace::new(WINDOW);
        for _ in 0..10_000 {
            pace.moved(SECOND, SLOWEST_LINE_BYTES_PER_SECOND as usize);
        }
        assert_eq!(pace.left, WINDOW);
    }

    #[test]
    fn fast_start_saves_nothing_up() {
        let mut pace = Pace::new(WINDOW);
        pace.moved(Duration::ZERO, 100 << 20);
        assert_eq!(pace.left, WINDOW);
    }
}
