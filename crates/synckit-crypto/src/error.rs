//! Failures of operations on keys and sealed bytes.

/// The failure of an operation on a vault, an envelope or a key ring.
///
/// # Examples
/// ```
/// use synckit_crypto::{Envelope, KeyError};
///
/// match Envelope::decode(&[9, 0, 0]) {
///     Err(KeyError::UnsupportedFormat { found, .. }) => assert_eq!(found, 9), // ask the user to update the app
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key does not open this, or the bytes were changed. The two are one error on purpose: a caller that could
    /// distinguish them could test keys.
    #[error("the key does not open this, or it was tampered with")]
    WrongKey,

    /// The bytes do not have the expected format.
    #[error("not a valid {what}")]
    Malformed {
        /// The expected format.
        what: &'static str,
    },

    /// The bytes are in a newer format than this library knows.
    #[error("{what} is of format {found}, which needs a newer version of this library")]
    UnsupportedFormat {
        /// The expected format.
        what: &'static str,
        /// The claimed number of the format.
        found: u8,
    },

    /// The vault has no recovery code.
    #[error("this account has no recovery code")]
    NoRecoverySlot,

    /// The key was rotated [`synckit_protocol::limits::RETIRED_KEYS_MAX`] times, and an envelope has no space for more.
    #[error("the key cannot be rotated any more: an envelope holds at most {max} retired keys",
        max = synckit_protocol::limits::RETIRED_KEYS_MAX)]
    RotationLimit,

    /// The vault was replaced 2^32 - 1 times in one generation, the end of its count.
    #[error("the account vault was replaced too often: its count is at its end")]
    VaultLimit,

    /// The position lies before one that the key ring already knows.
    #[error("the position lies before one that this key ring knows")]
    PositionBehindFloor,
}

/// Sealed bytes that do not open: a batch, a part or manifest of a snapshot, or a blob.
///
/// In each variant, no honest device sealed these bytes for this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The authentication tag is wrong: another key, another place, or changed bytes.
    #[error("authentication failed: wrong key, wrong place, or changed bytes")]
    Authentication,

    /// The bytes are authentic but break a rule of the format, which no honest device does.
    #[error("malformed plaintext: {reason}")]
    Malformed {
        /// The rule.
        reason: &'static str,
    },
}

/// A text that is not a recovery code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryCodeError {
    /// The number of words is not 24.
    #[error("a recovery code has 24 words, this has {found}")]
    WordCount {
        /// The number of words found.
        found: usize,
    },

    /// A word is not in the list. The error omits the word itself, because errors end up in logs.
    #[error("word {position} is not a word of a recovery code")]
    UnknownWord {
        /// Which word, counted from 1.
        position: usize,
    },

    /// All words exist, but their checksum is wrong: one word is wrong, or two are swapped.
    #[error("the words do not belong together: one is wrong, or two are swapped")]
    Checksum,
}
