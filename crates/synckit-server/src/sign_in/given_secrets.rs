//! Secrets that the server gives out once and must recognise later: API keys, invitations, mailed codes.
//!
//! Each holds at least 16 random bytes, so the server stores its plain SHA-256: nobody can guess them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use synckit_protocol::{ApiKey, AppId, KeyKind, SecretText};
use zeroize::Zeroizing;

use crate::platform::random_bytes;

/// Characters at the end of an API key that are stored, so that people can tell the keys of an app apart: its checksum.
const ENDING_CHARS: usize = 8;

/// A fresh secret as text: 43 characters of base64url.
pub(crate) fn fresh_secret() -> SecretText {
    let bytes = Zeroizing::new(random_bytes::<32>());
    SecretText::new(URL_SAFE_NO_PAD.encode(*bytes))
}

/// A fresh publishable key of an app, and its ending, which may be shown again.
pub(crate) fn fresh_api_key(app_id: AppId) -> (SecretText, String) {
    let key = ApiKey::new(KeyKind::Publishable, app_id, random_bytes()).to_text();
    let characters = key.expose().len();
    let ending = key
        .expose()
        .chars()
        .skip(characters.saturating_sub(ENDING_CHARS))
        .collect();
    (key, ending)
}
