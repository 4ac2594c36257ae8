//! What one user may have of an app.

use std::str::FromStr;

use super::{Burst, PlanError};

/// Bytes in a megabyte: decimal, as a gigabyte is.
const MEGABYTE: u64 = 1_000_000;

/// How much one user may store in an app: whole megabytes.
///
/// # Examples
/// ```
/// use synckit_server::billing::{Megabytes, PlanError};
///
/// assert_eq!("500".parse::<Megabytes>()?.number(), 500);
/// assert_eq!("0".parse::<Megabytes>(), Err(PlanError::Megabytes));
/// # Ok::<(), PlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Megabytes(u32);

impl Megabytes {
    /// The smallest limit: 1.
    pub const MIN: Self = Self(1);
    /// The largest limit: 1,000,000,000, which is a petabyte.
    pub const MAX: Self = Self(1_000_000_000);

    /// A number of megabytes.
    ///
    /// # Errors
    /// [`PlanError::Megabytes`] below [`Megabytes::MIN`] or above [`Megabytes::MAX`].
    pub const fn new(number: u32) -> Result<Self, PlanError> {
        if number < Self::MIN.0 || number > Self::MAX.0 {
            return Err(PlanError::Megabytes);
        }
        Ok(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for Megabytes {
    type Err = PlanError;

    /// Reads digits. No sign, no separator, no space.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PlanError::Megabytes);
        }
        Self::new(text.parse().map_err(|_| PlanError::Megabytes)?)
    }
}

/// What one user may have of an app, so that nobody uses it up for all: the app's developer chooses it.
///
/// # Examples
/// ```
/// use synckit_server::billing::{Burst, Megabytes, UserLimit};
///
/// let limit = UserLimit { megabytes: Megabytes::new(500)?, burst: Burst::SIMPLE };
/// assert_eq!(limit.storage_bytes(), 500_000_000);
/// assert_eq!(limit.transfer_bytes(), 2_500_000_000);
/// # Ok::<(), synckit_server::billing::PlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserLimit {
    /// Megabytes that may be stored.
    pub megabytes: Megabytes,
    /// How often they may move in 30 days.
    pub burst: Burst,
}

impl UserLimit {
    /// Bytes that may be stored.
    #[must_use]
    pub const fn storage_bytes(self) -> u64 {
        self.megabytes.0 as u64 * MEGABYTE
    }

    /// Bytes that may move in 30 days; at most 10¹⁸.
    #[must_use]
    pub const fn transfer_bytes(self) -> u64 {
        self.megabytes.0 as u64 * self.burst.hundredths() as u64 * (MEGABYTE / 100)
    }
}
