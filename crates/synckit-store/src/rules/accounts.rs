//! Vaults.

use crate::VersionedWrite;

/// Earlier generations of a vault that are kept.
pub const EARLIER_VAULTS_KEPT: u32 = 10;

/// Whether a vault may be written over the `stored` version, and as which.
///
/// # Examples
/// ```
/// use synckit_store::{VersionedWrite, rules::accounts::next_vault};
///
/// assert_eq!(next_vault(Some(3), 3), VersionedWrite::Written(4));
/// assert_eq!(next_vault(Some(3), 2), VersionedWrite::Conflict(3));
/// ```
pub const fn next_vault(stored: Option<u64>, expected: u64) -> VersionedWrite {
    match stored {
        Some(stored) if stored == expected => VersionedWrite::Written(stored.saturating_add(1)),
        Some(stored) => VersionedWrite::Conflict(stored),
        None => VersionedWrite::Conflict(0),
    }
}
