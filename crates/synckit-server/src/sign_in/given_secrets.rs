//! Secrets that the server gives out once and must recognise later: API keys, invitations, mailed codes.
//!
//! Each holds 32 random bytes, so a plain SHA-256 is enough to store it by: there is nothing to guess.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use synckit_protocol::SecretText;
use zeroize::Zeroizing;

use crate::platform::random_bytes;

/// What an API key begins with, so that people and scanners for leaked secrets recognise one.
const API_KEY_PREFIX: &str = "sk_";
/// How much of an API key is stored for people to tell keys apart.
const SHOWN_PREFIX_CHARS: usize = 9;

/// A fresh secret as text: 43 characters of base64url.
pub(crate) fn fresh_secret() -> SecretText {
    let bytes = Zeroizing::new(random_bytes::<32>());
    SecretText::new(URL_SAFE_NO_PAD.encode(*bytes))
}

/// A fresh API key, and the part of it that may be shown again.
pub(crate) fn fresh_api_key() -> (SecretText, String) {
    let key = SecretText::new(format!("{API_KEY_PREFIX}{}", fresh_secret().expose()));
    let shown = key.expose().chars().take(SHOWN_PREFIX_CHARS).collect();
    (key, shown)
}
