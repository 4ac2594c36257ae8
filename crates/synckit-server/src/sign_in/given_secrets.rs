//! Secrets that the server gives out once and must recognise later: API keys, invitations, mailed codes.
//!
//! Each holds at least 16 random bytes, so the server stores its plain SHA-256: nobody can guess them.

use synckit_protocol::{ApiKey, AppId, KeyKind, SecretText};
use zeroize::Zeroizing;

use crate::platform::random_bytes;

/// Characters at the end of an API key that are stored, so that people can tell the keys of an app apart: its checksum.
const ENDING_CHARS: usize = 8;

/// A fresh secret as text: 32 hexadecimal digits. People type it and pass it to programs as an argument, so it has no capitals
/// and no hyphen: an argument that begins with one is an option.
pub(crate) fn fresh_secret() -> SecretText {
    let number = Zeroizing::new(u128::from_be_bytes(random_bytes()));
    SecretText::new(format!("{:032x}", *number))
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
