//! When what the server refused, or did not have, is asked for again.

use std::{collections::BTreeSet, time::Duration};

use synckit_crypto::blob::BlobHash;
use tokio::time::Instant;

/// The first pause. It doubles up to [`PAUSE_MAX`], as long as something is refused.
const PAUSE_MIN: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// The longest pause between two folds of an account that stays full: each reads the log and sends the rows.
const FOLD_PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the server refused or did not have, and when it is asked again.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    until: Option<Instant>,
    length: Duration,
    /// Files that the server does not have.
    pub(crate) missing: BTreeSet<BlobHash>,
}

impl Pause {
    /// Whether all is asked for again now.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        let is_over = self.until.is_some_and(|until| now >= until);
        if is_over {
            self.until = None;
            self.missing.clear();
        }
        is_over
    }

    /// Whether a full account is folded now: at once the first time, and then after each pause.
    pub(crate) fn folds(&mut self, now: Instant) -> bool {
        let folds = self.until.is_none_or(|until| now >= until);
        if folds {
            self.length = self.length.saturating_mul(2).clamp(PAUSE_MIN, FOLD_PAUSE_MAX);
            self.until = Some(now + self.length);
        }
        folds
    }

    /// A sync has ended, and something was refused, or nothing.
    pub(crate) fn note(&mut self, is_refused: bool, now: Instant) {
        if !is_refused && self.missing.is_empty() {
            *self = Self::default();
        } else if self.until.is_none() {
            self.length = self.length.saturating_mul(2).clamp(PAUSE_MIN, PAUSE_MAX);
            self.until = Some(now + self.length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_time_is_at_once_and_the_next_after_a_pause() {
        let (mut pause, start) = (Pause::default(), Instant::now());
        let begins = [0, 59, 60, 61, 179, 180, 419, 420].map(|second| pause.folds(start + Duration::from_secs(second)));
        assert_eq!(begins, [true, false, true, false, false, true, false, true]);
        let mut day = 1_000_000;
        for _ in 0..20 {
            assert!(pause.folds(start + Duration::from_secs(day)));
            day += 24 * 3600;
        }
        assert!(!pause.folds(start + Duration::from_secs(day - 1)));
    }

    #[test]
    fn pause_doubles_up_to_an_hour() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        let mut minutes = Vec::new();
        for _ in 0..8 {
            pause.note(true, now);
            let mut length = 0;
            while !pause.is_over(now) {
                // What is refused meanwhile does not make it longer.
                pause.note(true, now);
                now += PAUSE_MIN;
                length += 1;
            }
            minutes.push(length);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60]);
        pause.note(false, now);
        pause.note(true, now);
        assert!(pause.is_over(now + PAUSE_MIN));
    }
}
