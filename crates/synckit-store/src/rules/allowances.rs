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
    /// A rest that was counted later than now grows from now on: a clock that was ahead must not shut people out until its
    /// time has come.
    pub fn left(self, rest: Option<Rest>, now: UnixSeconds) -> Rest {
        let micro_tokens = rest.map_or(self.whole(), |rest| {
            let elapsed = u128::from(now.saturating_sub(rest.at));
            // Rounded up, so that a token is there when the wait for it has passed.
            let grown = (elapsed * u128::from(self.whole())).div_ceil(self.window().into());
            let left = grown.saturating_add(rest.micro_tokens.into());
            left.min(self.whole().into()) as u64
        });
        Rest { micro_tokens, at: now }
    }

    /// Seconds until a token is left; `None` if one is.
    pub fn wait(self, left: Rest) -> Option<u64> {
        let missing = TOKEN.checked_sub(left.micro_tokens).filter(|missing| *missing > 0)?;
        Some(self.seconds_for(missing))
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

    /// From when on it is whole, so that nothing need be known of it.
    pub fn whole_at(self, left: Rest) -> UnixSeconds {
        let missing = self.whole().saturating_sub(left.micro_tokens);
        left.at.saturating_add(self.seconds_for(missing))
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
    fn what_was_drawn_grows_back_evenly() {
        let rest = used_up(0);
        assert_eq!(TEN.wait(rest), Some(90));
        assert_eq!(TEN.wait(TEN.left(Some(rest), 89)), Some(1));
        assert_eq!(TEN.wait(TEN.left(Some(rest), 90)), None);
        assert_eq!(TEN.whole_at(rest), 900);
        assert_eq!(TEN.left(Some(rest), 900), TEN.left(None, 900));
    }

    #[test]
    fn a_clock_that_was_ahead_shuts_nobody_out() {
        let ahead = used_up(8 * 24 * 3600);
        let now = TEN.left(Some(ahead), 0);
        assert_eq!(TEN.wait(now), Some(90));
        assert_eq!(TEN.wait(TEN.left(Some(now), 90)), None);
    }

    proptest! {
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
            prop_assert!(allowance.whole_at(left) >= now);
            prop_assert_eq!(allowance.wait(left).is_none(), left.micro_tokens >= TOKEN);
        }
    }
}
