//! The plan of an app developer: gigabytes stored, and how often they may move in a month.
//!
//! Pure: a price is a function of the plan alone, so it is known before the period begins and no usage can change it.
//!
//! Invariant: nothing is rounded. One hundredth of a multiplier of one gigabyte costs 300 micro-dollars, a whole number, so
//! every price of every plan is exact.

mod money;

use std::{fmt, str::FromStr};

pub use money::MicroDollars;

/// Bytes in a gigabyte: decimal, as disks and networks are sold.
pub const GIGABYTE: u64 = 1_000_000_000;

/// The price of one stored gigabyte for a month.
pub const STORAGE_PRICE: MicroDollars = MicroDollars::new(150_000);

/// The price of moving a gigabyte once a month.
pub const TRANSFER_PRICE: MicroDollars = MicroDollars::new(30_000);

/// The smallest amount that is paid by the month. A smaller plan is paid by the year, because cards take a fixed fee of each
/// payment: 1 GB in simple mode costs 0.30 dollars a month.
pub const MONTHLY_PAYMENT_MIN: MicroDollars = MicroDollars::new(3_000_000);

/// How often all that is stored may move in a month: a number with two decimals.
///
/// # Examples
/// ```
/// use synckit_server::billing::{Burst, PlanError};
///
/// let burst: Burst = "2.5".parse()?;
/// assert_eq!(burst.hundredths(), 250);
/// assert_eq!(burst.to_string(), "2.5");
/// assert_eq!("0.005".parse::<Burst>(), Err(PlanError::Burst));
/// # Ok::<(), PlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Burst {
    hundredths: u32,
}

impl Burst {
    /// The multiplier of simple mode: 5.
    pub const SIMPLE: Self = Self { hundredths: 500 };
    /// The smallest multiplier: 0.01.
    pub const MIN: Self = Self { hundredths: 1 };
    /// The largest multiplier: 1,000.
    pub const MAX: Self = Self { hundredths: 100_000 };

    /// A multiplier in hundredths: 500 means 5.
    ///
    /// # Errors
    /// [`PlanError::Burst`] below [`Burst::MIN`] or above [`Burst::MAX`].
    pub const fn from_hundredths(hundredths: u32) -> Result<Self, PlanError> {
        if hundredths < Self::MIN.hundredths || hundredths > Self::MAX.hundredths {
            return Err(PlanError::Burst);
        }
        Ok(Self { hundredths })
    }

    /// The multiplier in hundredths.
    #[must_use]
    pub const fn hundredths(self) -> u32 {
        self.hundredths
    }
}

impl FromStr for Burst {
    type Err = PlanError;

    /// Reads digits, and a point with one or two more. No sign, no exponent, no space.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let has_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !has_digits(whole) || !has_digits(decimals) || decimals.len() > 2 {
            return Err(PlanError::Burst);
        }
        let hundredths = format!("{whole}{decimals:0<2}").parse().map_err(|_| PlanError::Burst)?;
        Self::from_hundredths(hundredths)
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.hundredths / 100, self.hundredths % 100);
        match (rest, rest % 10) {
            (0, _) => write!(formatter, "{whole}"),
            (_, 0) => write!(formatter, "{whole}.{}", rest / 10),
            _ => write!(formatter, "{whole}.{rest:02}"),
        }
    }
}

/// How much a plan stores: whole gigabytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gigabytes(u32);

impl Gigabytes {
    /// The smallest plan: 1.
    pub const MIN: Self = Self(1);
    /// The largest plan: 1,000,000, which is a petabyte.
    pub const MAX: Self = Self(1_000_000);

    /// A number of gigabytes.
    ///
    /// # Errors
    /// [`PlanError::Gigabytes`] below [`Gigabytes::MIN`] or above [`Gigabytes::MAX`].
    pub const fn new(number: u32) -> Result<Self, PlanError> {
        if number < Self::MIN.0 || number > Self::MAX.0 {
            return Err(PlanError::Gigabytes);
        }
        Ok(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for Gigabytes {
    type Err = PlanError;

    /// Reads digits. No sign, no separator, no space.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PlanError::Gigabytes);
        }
        Self::new(text.parse().map_err(|_| PlanError::Gigabytes)?)
    }
}

/// What an app developer pays for.
///
/// # Examples
/// ```
/// use synckit_server::billing::{Burst, Gigabytes, Plan};
///
/// let plan = Plan::new(Gigabytes::new(25)?, Burst::SIMPLE);
/// assert_eq!(plan.monthly_cost().to_string(), "$7.50");
/// assert_eq!(plan.transfer_bytes(), 125_000_000_000);
/// # Ok::<(), synckit_server::billing::PlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    gigabytes: Gigabytes,
    burst: Burst,
}

impl Plan {
    /// A plan.
    #[must_use]
    pub const fn new(gigabytes: Gigabytes, burst: Burst) -> Self {
        Self { gigabytes, burst }
    }

    /// Gigabytes that may be stored.
    #[must_use]
    pub const fn gigabytes(self) -> Gigabytes {
        self.gigabytes
    }

    /// How often they may move in a month.
    #[must_use]
    pub const fn burst(self) -> Burst {
        self.burst
    }

    /// Bytes that may be stored.
    #[must_use]
    pub const fn storage_bytes(self) -> u64 {
        self.gigabytes.0 as u64 * GIGABYTE
    }

    /// Bytes that may move in a month.
    #[must_use]
    pub const fn transfer_bytes(self) -> u64 {
        self.hundredths() * (GIGABYTE / 100)
    }

    /// The part of the monthly cost that pays for storage.
    #[must_use]
    pub const fn storage_cost(self) -> MicroDollars {
        MicroDollars::new(self.gigabytes.0 as u64 * STORAGE_PRICE.amount())
    }

    /// The part of the monthly cost that pays for transfer.
    #[must_use]
    pub const fn transfer_cost(self) -> MicroDollars {
        MicroDollars::new(self.hundredths() * (TRANSFER_PRICE.amount() / 100))
    }

    /// What a month costs, whatever is used: `GB × $0.15 + burst × GB × $0.03`.
    #[must_use]
    pub const fn monthly_cost(self) -> MicroDollars {
        MicroDollars::new(self.storage_cost().amount() + self.transfer_cost().amount())
    }

    /// What a year costs: twelve months.
    #[must_use]
    pub const fn yearly_cost(self) -> MicroDollars {
        MicroDollars::new(12 * self.monthly_cost().amount())
    }

    /// How the plan may be paid.
    #[must_use]
    pub const fn terms(self) -> &'static [Term] {
        if self.monthly_cost().amount() < MONTHLY_PAYMENT_MIN.amount() {
            &[Term::Year]
        } else {
            &[Term::Month, Term::Year]
        }
    }

    /// Hundredths of gigabytes that may move in a month; at most 10¹¹.
    const fn hundredths(self) -> u64 {
        self.burst.hundredths as u64 * self.gigabytes.0 as u64
    }
}

/// How long a payment lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// One month.
    Month,
    /// Twelve months.
    Year,
}

impl fmt::Display for Term {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Month => "month",
            Self::Year => "year",
        })
    }
}

/// A plan that nobody can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The size.
    #[error("a plan holds whole gigabytes, from {} to {}: round up what you store", Gigabytes::MIN.0, Gigabytes::MAX.0)]
    Gigabytes,
    /// The limit of each user.
    #[error(
        "a user may store whole megabytes, from {} to {}",
        super::Megabytes::MIN.number(),
        super::Megabytes::MAX.number()
    )]
    Megabytes,
    /// The multiplier.
    #[error(
        "the burst is a number with at most two decimals, from {} to {}",
        Burst::MIN,
        Burst::MAX
    )]
    Burst,
}
