//! The safety code: words to compare on two screens, which show whether two devices hold the same keys.
//!
//! A device that joins knows only the password, so a server can show it an earlier envelope. A revoked device could
//! then read everything that the new device writes. The code is a hash of the current key's id and of the floor; it is
//! no secret.

use std::fmt;

use bip39::Language;
use sha2::{Digest as _, Sha256};

use crate::{KeyRing, StreamScope};

/// Words of a code.
const WORDS: usize = 6;
/// Bits of each word.
const WORD_BITS: usize = 11;

/// Six words, equal on all devices that took their keys from the same envelope.
///
/// 66 bits: too many for finding another envelope with the same words.
///
/// # Examples
/// ```
/// use rand::rngs::OsRng;
/// use synckit_crypto::{KeyRing, StreamScope};
/// use synckit_protocol::{AppId, UserId};
///
/// let scope = StreamScope { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// let ring = KeyRing::generate(&scope, &mut OsRng);
/// let code = ring.safety_code(&scope);
/// assert_eq!(code.to_string().split(' ').count(), 6);
/// // On a device that was shown another envelope.
/// assert_ne!(KeyRing::generate(&scope, &mut OsRng).safety_code(&scope), code);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafetyCode([u16; WORDS]);

impl KeyRing {
    /// The safety code of this ring: the first 66 bits of SHA-256(`"synckit/1 safety code" || 0 || app_id || user_id ||
    /// key_version (u32 BE) || key_id || floor_seq (u64 BE) || floor_head (32)`), as six words of the English BIP 39 list.
    pub fn safety_code(&self, scope: &StreamScope) -> SafetyCode {
        let digest = Sha256::new()
            .chain_update(b"synckit/1 safety code\0")
            .chain_update(scope.to_bytes())
            .chain_update(self.key_version().to_be_bytes())
            .chain_update(self.key_id().as_bytes())
            .chain_update(self.floor().seq.to_be_bytes())
            .chain_update(self.floor().head.as_bytes())
            .finalize();
        let mut bits = digest
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| u16::from((byte >> bit) & 1)));
        let mut words = [0; WORDS];
        for word in &mut words {
            *word = bits.by_ref().take(WORD_BITS).fold(0, |word, bit| (word << 1) | bit);
        }
        SafetyCode(words)
    }
}

impl fmt::Display for SafetyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            // Eleven bits number every word of the list.
            let word = Language::English.word_list().get(usize::from(*word)).unwrap_or(&"");
            write!(f, "{separator}{word}")?;
        }
        Ok(())
    }
}
