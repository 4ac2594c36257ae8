//! Amounts of money.

use std::fmt;

/// Millionths of a US dollar.
///
/// Shown with two decimals, and with more where the amount has more: `$3.00`, `$0.1503`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroDollars(u64);

impl MicroDollars {
    const DOLLAR: u64 = 1_000_000;

    /// An amount in millionths of a dollar.
    #[must_use]
    pub const fn new(amount: u64) -> Self {
        Self(amount)
    }

    /// The amount in millionths of a dollar.
    #[must_use]
    pub const fn amount(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MicroDollars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", self.0 % Self::DOLLAR);
        let shown = decimals.trim_end_matches('0').len().max(2);
        let dollars = self.0 / Self::DOLLAR;
        write!(formatter, "${dollars}.{}", &decimals[..shown])
    }
}
