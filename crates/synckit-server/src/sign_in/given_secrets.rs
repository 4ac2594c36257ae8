//! What the server gives out and must recognise later: API keys, invitations, mailed codes.
//!
//! Each holds at least 16 random bytes: nobody can guess them. Of the secret ones the server stores the plain SHA-256.

use synckit_protocol::{ApiKey, AppId, KeyKind, SecretText};
use zeroize::Zeroizing;

use crate::platform::random_bytes;

/// A fresh secret as text: 32 hexadecimal digits. People type it and pass it to programs as an argument, so it has no capitals
/// and no hyphen: an argument that begins with one is an option.
pub(crate) fn fresh_secret() -> SecretText {
    let number = Zeroizing::new(u128::from_be_bytes(random_bytes()));
    SecretText::new(format!("{:032x}", *number))
}

/// A fresh publishable key of an app.
pub(crate) fn fresh_api_key(app_id: AppId) -> SecretText {
    ApiKey::new(KeyKind::Publishable, app_id, random_bytes()).to_text()
}
