//! The edition of an account vault: the part of a vault that the server reads.

use std::fmt;

/// Order of two vaults of an account: the greater edition replaced the other.
///
/// A device remembers the newest edition that it has opened. A server that answers with a smaller one restores an old
/// vault, with a password or a recovery code that the user has replaced. An honest server stores only a vault whose edition
/// follows the current one: devices would refuse any other for ever.
///
/// # Examples
/// ```
/// use synckit_protocol::VaultEdition;
///
/// let vault = [1, 0, 0, 0, 2, 0, 0, 0, 7, 1]; // the beginning of a vault
/// let edition = VaultEdition::of(&vault).expect("a vault");
/// assert_eq!((edition.generation, edition.count), (2, 7));
/// assert!(edition > VaultEdition::FIRST);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VaultEdition {
    /// Counts the account keys of the account, from 1. A reset of a forgotten password starts a new generation.
    pub generation: u32,
    /// Counts the vaults of one generation, from 1.
    pub count: u32,
}

impl VaultEdition {
    /// The edition of the first vault of an account.
    pub const FIRST: Self = Self {
        generation: 1,
        count: 1,
    };

    /// The edition in the bytes of a vault, which begin in every format with the format, the generation and the count.
    /// `None` if they are no vault. Unauthenticated: only a holder of the account key can check it.
    pub fn of(vault: &[u8]) -> Option<Self> {
        let (format, rest) = vault.split_first()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (count, _) = rest.split_first_chunk()?;
        let edition = Self {
            generation: u32::from_be_bytes(*generation),
            count: u32::from_be_bytes(*count),
        };
        // All three count from 1.
        (*format > 0 && edition.generation > 0 && edition.count > 0).then_some(edition)
    }

    /// The edition after this one, of the same generation.
    pub fn next_count(self) -> Option<Self> {
        let count = self.count.checked_add(1)?;
        Some(Self { count, ..self })
    }

    /// The first edition of the generation after this one.
    pub fn next_generation(self) -> Option<Self> {
        let generation = self.generation.checked_add(1)?;
        Some(Self { generation, count: 1 })
    }
}

impl fmt::Display for VaultEdition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.count)
    }
}
