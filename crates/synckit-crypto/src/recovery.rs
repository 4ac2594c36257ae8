//! The recovery code: 256 random bits as 24 words of the English BIP39 list. The last word contains a checksum.

use std::fmt;

use bip39::{Language, Mnemonic};
use rand::{CryptoRng, RngCore};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{error::RecoveryCodeError, keys::random_bytes};

/// How many words a recovery code has.
const WORDS: usize = 24;

/// A code that a person writes down, to regain access without the password.
///
/// Only the entropy is stored, and only it enters the key derivation, because BIP39's own stretching is for short
/// phrases. Erased when dropped, redacted in `Debug`, compared in constant time.
///
/// # Examples
/// ```
/// use rand::rngs::OsRng;
/// use synckit_crypto::RecoveryCode;
///
/// let code = RecoveryCode::generate(&mut OsRng);
/// let words = code.words(); // for paper
/// assert_eq!(words.split(' ').count(), 24);
/// assert_eq!(RecoveryCode::parse(&words.to_uppercase())?, code);
/// # Ok::<(), synckit_crypto::RecoveryCodeError>(())
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode([u8; 32]);

impl RecoveryCode {
    /// Draws a new code.
    pub fn generate(rng: &mut (impl CryptoRng + RngCore)) -> Self {
        Self(random_bytes(rng))
    }

    /// Wraps 32 bytes of entropy.
    pub const fn from_entropy(entropy: [u8; 32]) -> Self {
        Self(entropy)
    }

    /// The 32 bytes of entropy behind the words. The name makes every place that reads them easy to find.
    pub const fn expose_entropy(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a typed code: any case, any white space, commas and line numbers ("7. word", "7) word") between the words.
    ///
    /// # Errors
    /// [`RecoveryCodeError`], which tells the user how to correct the code.
    pub fn parse(text: &str) -> Result<Self, RecoveryCodeError> {
        let mut words = Zeroizing::new(String::with_capacity(text.len()));
        let mut count = 0;
        // All characters except letters separate words. A letter beyond ASCII stays, and makes its word unknown.
        for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
            if count > 0 {
                words.push(' ');
            }
            words.extend(word.chars().map(|c| c.to_ascii_lowercase()));
            count += 1;
        }
        if count != WORDS {
            return Err(RecoveryCodeError::WordCount { found: count });
        }
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &words).map_err(|error| match error {
            bip39::Error::UnknownWord(index) => RecoveryCodeError::UnknownWord { position: index + 1 },
            _ => RecoveryCodeError::Checksum,
        })?;
        let (mut entropy, _) = mnemonic.to_entropy_array();
        let mut code = Self([0; 32]);
        for (to, from) in code.0.iter_mut().zip(&entropy) {
            *to = *from;
        }
        entropy.zeroize();
        Ok(code)
    }

    /// The 24 words, lower case, one space between.
    #[expect(
        clippy::expect_used,
        reason = "BIP39 takes exactly 16, 20, 24, 28 or 32 bytes of entropy, and these are 32"
    )]
    pub fn words(&self) -> Zeroizing<String> {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, &self.0).expect("32 bytes of entropy");
        // The longest word has 8 letters.
        let mut text = Zeroizing::new(String::with_capacity(WORDS * 9));
        for word in mnemonic.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(redacted)")
    }
}

impl PartialEq for RecoveryCode {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for RecoveryCode {}
