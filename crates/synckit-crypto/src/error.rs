//! What can go wrong with keys and with sealed bytes.

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
    /// The key does not open this, or the bytes were changed. The two are one error on purpose: a caller that
    /// can tell them apart can test keys.
    #[error("the key does not open this, or it was tampered with")]
    WrongKey,

    /// The bytes are not in the format that they should be in.
    #[error("not a valid {what}")]
    Malformed {
        /// What the bytes should have been.
        what: &'static str,
    },

    /// The bytes are in a newer format than this library knows.
    #[error("{what} is of format {found}, which needs a newer version of this library")]
    UnsupportedFormat {
        /// What the bytes should have been.
        what: &'static str,
        /// The format that they claim.
        found: u8,
    },

    /// The vault has no recovery code.
    #[error("this account has no recovery code")]
    NoRecoverySlot,

    /// The key was rotated [`synckit_protocol::limits::RETIRED_KEYS_MAX`] times, and an envelope holds no more.
    #[error("the key cannot be rotated any more: an envelope holds at most {max} retired keys",
        max = synckit_protocol::limits::RETIRED_KEYS_MAX)]
    RotationLimit,

    /// The vault was replaced 2^32 - 1 times in one generation, and its count has no higher number.
    #[error("the account vault cannot be replaced any more")]
    VaultLimit,

    /// A position lies before one that the key ring already knows.
    #[error("the position lies before one that this key ring knows")]
    PositionBehindFloor,
}

/// Sealed bytes that do not open: a batch, a part or manifest of a snapshot, or a blob.
///
/// Whatever the variant, the bytes are not what an honest device sealed for this place.
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
    /// There are not 24 words.
    #[error("a recovery code has 24 words, this has {found}")]
    WordCount {
        /// How many words were found.
        found: usize,
    },

    /// A word is not in the list. The word itself is left out, because errors end up in logs.
    #[error("word {position} is not a word of a recovery code")]
    UnknownWord {
        /// Which word, counted from 1.
        position: usize,
    },

    /// All words exist, but their checksum is wrong: a word was mistaken for another, or two were swapped.
    #[error("the words do not belong together: one is wrong, or two are swapped")]
    Checksum,
}
