//! The names by which a store finds secrets and logs.

use sha2::{Digest as _, Sha256};
use synckit_protocol::{AppId, UserId};

/// SHA-256 of a secret that the server gave out and must recognise: an API key, an invitation, a mailed code. The secrets
/// are random and long, so a fast hash is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// The hash by which the server recognises `secret`.
    pub fn of(secret: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

/// The app that the sessions of the server's own pages belong to: nobody's, without a key, an address or data. Its row is made
/// by the first such session, has no name, and is in no list of apps.
pub const PAGES_APP: AppId = AppId::from_bytes([0; 16]);

/// The name of an app, as it is shown.
pub(crate) fn app_name(app_id: AppId, stored: String) -> String {
    if app_id == PAGES_APP {
        "Account page".to_owned()
    } else {
        stored
    }
}

/// The log of one account in one app: the unit that every token is confined to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId {
    /// The app.
    pub app_id: AppId,
    /// The account.
    pub user_id: UserId,
}
