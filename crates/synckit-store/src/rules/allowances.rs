//! Allowances: token buckets whose state is two numbers.

use synckit_protocol::wire::UnixSeconds;

/// Parts in a token. What is left of an allowance is counted in these, so that it grows back evenly.
const TOKEN: u64 = 1_000_000;

/// How large an allowance is, and how fast it grows back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The tokens of a whole one; at least 1.
    pub tokens: u32,
    /// How long a used-up one takes to be whole again, in seconds; at least 1.
    pub window_seconds: u64,
}

/// What was left of an allowance, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// Millionths of a token.
    pub micro_tokens: u64,
    /// When it was counted.
    pub at: UnixSeconds,
}

impl Allowance {
    /// What is left now. An allowance that nobody drew on is whole.
    ///
    /// The clocks of nodes differ. A rest that was counted later than now, by up to a window, keeps its time and has not grown: if
    /// each node counted from its own time, the seconds between two clocks would grow back again with every second attempt.
    /// One that was counted later still grows from now on: a clock that was far ahead must not shut people out until its time
    /// has come.
    pub fn left(self, rest: Option<Rest>, now: UnixSeconds) -> Rest {
        let Some(rest) = rest else {
            return Rest {
                micro_tokens: self.whole(),
                at: now,
            };
        };
        let is_far_ahead = rest.at > now.saturating_add(self.window());
        let elapsed = u128::from(now.saturating_sub(rest.at));
        // Rounded up, so that a token is there when the wait for it has passed.
        let grown = (elapsed * u128::from(self.whole())).div_ceil(self.window().into());
        let left = grown.saturating_add(rest.micro_tokens.into());
        Rest {
            micro_tokens: left.min(self.whole().into()) as u64,
            at: if is_far_ahead { now } else { rest.at.max(now) },
        }
    }

    /// Seconds from now until a token is left; `None` if one is.
    pub fn wait(self, left: Rest, now: UnixSeconds) -> Option<u64> {
        let missing = TOKEN.checked_sub(left.micro_tokens).filter(|missing| *missing > 0)?;
        let ahead = left.at.saturating_sub(now);
        Some(self.seconds_for(missing).saturating_add(ahead))
    }

    /// What is left after a token was drawn.
    pub const fn drawn(self, left: Rest) -> Rest {
        Rest {
            micro_tokens: left.micro_tokens.saturating_sub(TOKEN),
            at: left.at,
        }
    }

    /// What is left after a token was given back.
    pub fn given_back(self, left: Rest) -> Rest {
        Rest {
            micro_tokens: left.micro_tokens.saturating_add(TOKEN).min(self.whole()),
            at: left.at,
        }
    }

    /// Until when something need be known of it: a window after it is whole, for nodes whose clocks are behind. One that was
    /// forgotten earlier would be counted from their time, and grow by what the clocks differ.
    pub fn kept_until(self, left: Rest) -> UnixSeconds {
        let missing = self.whole().saturating_sub(left.micro_tokens);
        left.at
            .saturating_add(self.seconds_for(missing))
            .saturating_add(self.window())
    }

    fn whole(self) -> u64 {
        u64::from(self.tokens.max(1)) * TOKEN
    }

    fn window(self) -> u64 {
        self.window_seconds.max(1)
    }

    /// The time in which so much grows back, in whole seconds, rounded up.
    fn seconds_for(self, micro_tokens: u64) -> u64 {
        let seconds = (u128::from(micro_tokens) * u128::from(self.window())).div_ceil(self.whole().into());
        u64::try_from(seconds).unwrap_or(u64::MAX)
    }
}

/// Addresses that are familiar to one account; those that were used last.
pub const FAMILIAR_PER_ACCOUNT_MAX: u32 = 8;

/// A place that was used at this time, or earlier, is familiar no more.
pub const fn familiar_since(now: UnixSeconds) -> UnixSeconds {
    now.saturating_sub(90 * 24 * 3600)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEN: Allowance = Allowance {
        tokens: 10,
        window_seconds: 900,
    };

    fn used_up(at: UnixSeconds) -> Rest {
        (0..10).fold(TEN.left(None, at), |left, _| TEN.drawn(left))
    }

    #[test]
    fn a_place_is_familiar_for_ninety_days() {
        assert_eq!(familiar_since(7_776_005), 5);
        assert_eq!(familiar_since(7), 0);
    }

    #[test]
    fn what_was_drawn_grows_back_evenly() {
        let rest = used_up(0);
        assert_eq!(TEN.wait(rest, 0), Some(90));
        assert_eq!(TEN.wait(TEN.left(Some(rest), 89), 89), Some(1));
        assert_eq!(TEN.wait(TEN.left(Some(rest), 90), 90), None);
        assert_eq!(TEN.kept_until(rest), 900 + 900);
        assert_eq!(TEN.left(Some(rest), 900), TEN.left(None, 900));
    }

    #[test]
    fn a_clock_that_was_ahead_shuts_nobody_out() {
        for at in [901, 8 * 24 * 3600, UnixSeconds::MAX] {
            let now = TEN.left(Some(used_up(at)), 0);
            assert_eq!(TEN.wait(now, 0), Some(90));
            assert_eq!(TEN.wait(TEN.left(Some(now), 90), 90), None);
        }
    }

    #[test]
    fn a_clock_a_little_behind_waits_for_the_other() {
        let rest = used_up(900);
        let now = TEN.left(Some(rest), 0);
        assert_eq!((now, TEN.wait(now, 0)), (rest, Some(990)));
        assert_eq!(TEN.wait(TEN.left(Some(now), 989), 989), Some(1));
        assert_eq!(TEN.wait(TEN.left(Some(now), 990), 990), None);
    }

    /// The node that is ahead forgets as early as it may, and the one behind guesses first.
    #[test]
    fn a_forgotten_allowance_gives_no_further_token() {
        const BEHIND: u64 = 600;
        for idle in [900, 1_800, 2_700] {
            let (mut rest, mut drawn, mut time) = (None, 0, 10_000);
            for _ in 0..20 {
                if rest.is_some_and(|rest| TEN.kept_until(rest) <= time) {
                    rest = None;
                }
                for now in [time - BEHIND, time] {
                    let mut left = TEN.left(rest, now);
                    while TEN.wait(left, now).is_none() {
                        left = TEN.drawn(left);
                        rest = Some(left);
                        drawn += 1;
                    }
                }
                time += idle;
            }
            let elapsed = BEHIND + 19 * idle;
            assert!(drawn <= 10 + elapsed * 10 / 900, "{drawn}, {idle} seconds apart");
        }
    }

    proptest! {
        /// Two nodes, of which one is behind, draw as often as they are let; each forgets what has ended by its clock.
        #[test]
        fn clocks_that_differ_give_no_further_token(
            tokens in 1..20_u32, window_seconds in 1..2_000_u64, behind in 0..2_000_u64,
            steps in prop::collection::vec((0..200_u64, any::<bool>(), any::<bool>(), 1..20_u32), 1..100),
        ) {
            let allowance = Allowance { tokens, window_seconds };
            let behind = behind.min(window_seconds);
            let (mut rest, mut drawn, mut time) = (None, 0_u64, 10_000);
            for (passed, is_behind, forgets, tries) in steps {
                time += passed;
                let now = if is_behind { time - behind } else { time };
                if forgets && rest.is_some_and(|rest| allowance.kept_until(rest) <= now) {
                    rest = None;
                }
                for _ in 0..tries {
                    let left = allowance.left(rest, now);
                    if allowance.wait(left, now).is_none() {
                        rest = Some(allowance.drawn(left));
                        drawn += 1;
                    }
                }
            }
            // From the first moment of the clock that is behind to the last one of the other. A part of a token is rounded up
            // at most once a second.
            let elapsed = time - (10_000 - behind);
            let grown = (elapsed * allowance.whole()).div_ceil(window_seconds) + elapsed;
            prop_assert!(drawn * TOKEN <= allowance.whole() + grown, "{drawn} in {elapsed} seconds");
        }

        #[test]
        fn no_allowance_is_more_than_whole(
            tokens in any::<u32>(), window_seconds in any::<u64>(),
            micro_tokens in any::<u64>(), at in any::<u64>(), now in any::<u64>(),
        ) {
            let allowance = Allowance { tokens, window_seconds };
            let whole = allowance.left(None, now);
            let left = allowance.left(Some(Rest { micro_tokens, at }), now);
            prop_assert!(left.micro_tokens <= whole.micro_tokens);
            prop_assert!(allowance.given_back(left).micro_tokens <= whole.micro_tokens);
            prop_assert!(left.at >= now && allowance.kept_until(left) >= left.at);
            prop_assert_eq!(allowance.wait(left, now).is_none(), left.micro_tokens >= TOKEN);
        }
    }
}
