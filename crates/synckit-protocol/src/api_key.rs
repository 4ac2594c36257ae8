//! API keys as text: the kind, the app, a secret, and a checksum.
//!
//! ```text
//! skp_ ‖ hex(app id 16 ‖ secret 16 ‖ checksum 4)
//! checksum = first 4 bytes of SHA-256("synckit/1 api key" ‖ 0x00 ‖ prefix ‖ app id ‖ secret)
//! ```
//!
//! The prefix tells people and secret scanners which keys may be published. The checksum distinguishes a mistyped key
//! from an unknown one, and helps scanners to skip texts that only resemble a key. It proves nothing: anybody can make
//! a well-formed key, and only the server knows which ones it issued.
//!
//! A key is deliberately not a permission: the server decides what it opens.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::{AppId, SecretText, ids::decode_hex};

const LABEL: &[u8] = b"synckit/1 api key\0";
const ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
const KEY_BYTES: usize = ID_BYTES + SECRET_BYTES + CHECKSUM_BYTES;

/// Declares the kinds once: name, prefix.
macro_rules! key_kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $prefix:literal;)*) => {
        /// The purpose of an API key. Only publishable keys exist today; the other prefixes are reserved, so that no
        /// server accepts such a key as another kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum KeyKind {
            $($(#[doc = $doc])* $name,)*
        }

        impl KeyKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The first characters of every key of this kind.
            pub const fn prefix(self) -> &'static str {
                match self { $(Self::$name => $prefix,)* }
            }
        }
    };
}

key_kinds! {
    /// Names an app. Every copy of the app contains it, so it is no secret.
    Publishable = "skp_";
    /// Authenticates a server of the app's developer. Secret; reserved.
    ServerSecret = "sks_";
    /// Authenticates a person at the administration of an app. Secret; reserved.
    PersonalToken = "skt_";
    /// Authenticates the webhooks of an app. Secret; reserved.
    WebhookSecret = "skw_";
}

impl fmt::Display for KeyKind {
    /// The name for people: `publishable key`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publishable => "publishable key",
            Self::ServerSecret => "server secret",
            Self::PersonalToken => "personal token",
            Self::WebhookSecret => "webhook secret",
        })
    }
}

/// A well-formed API key.
///
/// # Examples
/// ```
/// use synckit_protocol::{ApiKey, ApiKeyError, AppId, KeyKind};
///
/// let key = ApiKey::new(KeyKind::Publishable, AppId::from_bytes([0xa1; 16]), [7; 16]);
/// let text = key.to_text();
/// assert!(text.expose().starts_with("skp_a1a1a1a1"));
/// assert_eq!(ApiKey::publishable(text.expose())?.app_id(), key.app_id());
///
/// // One character was lost in transit.
/// assert_eq!(ApiKey::publishable(&text.expose()[..75]), Err(ApiKeyError::Malformed));
/// // An app must not contain the developer's secret.
/// let secret = ApiKey::new(KeyKind::ServerSecret, key.app_id(), [7; 16]).to_text();
/// assert_eq!(ApiKey::publishable(secret.expose()), Err(ApiKeyError::Kind(KeyKind::ServerSecret)));
/// # Ok::<(), ApiKeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    kind: KeyKind,
    app_id: AppId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// The reason why a text is not the expected API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiKeyError {
    /// It is not an API key, or a character is missing or wrong.
    #[error("the API key is incomplete or mistyped: its checksum does not match")]
    Malformed,
    /// It is an API key of another kind.
    #[error("this is a {0}; an app takes a publishable key, which begins with skp_")]
    Kind(KeyKind),
}

impl ApiKey {
    /// Makes a key of an app. `secret` is 16 random bytes.
    pub fn new(kind: KeyKind, app_id: AppId, secret: [u8; SECRET_BYTES]) -> Self {
        Self {
            kind,
            app_id,
            secret: Zeroizing::new(secret),
        }
    }

    /// Reads a publishable key.
    ///
    /// # Errors
    /// [`ApiKeyError::Malformed`], and [`ApiKeyError::Kind`] for a well-formed key of another kind.
    pub fn publishable(text: &str) -> Result<Self, ApiKeyError> {
        let key: Self = text.parse()?;
        match key.kind {
            KeyKind::Publishable => Ok(key),
            other => Err(ApiKeyError::Kind(other)),
        }
    }

    /// The kind.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The app that the key claims to belong to.
    pub const fn app_id(&self) -> AppId {
        self.app_id
    }

    /// The key as text.
    pub fn to_text(&self) -> SecretText {
        use fmt::Write as _;

        let prefix = self.kind.prefix();
        let mut text = String::with_capacity(prefix.len() + 2 * KEY_BYTES);
        text.push_str(prefix);
        let checksum = checksum(self.kind, self.app_id.as_bytes(), &self.secret);
        for byte in self.app_id.as_bytes().iter().chain(self.secret.iter()).chain(&checksum) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        SecretText::new(text)
    }
}

impl FromStr for ApiKey {
    type Err = ApiKeyError;

    /// Accepts exactly the output of [`ApiKey::to_text`], so that a key has one text.
    fn from_str(text: &str) -> Result<Self, ApiKeyError> {
        let (kind, hex) = KeyKind::ALL
            .iter()
            .find_map(|kind| Some((*kind, text.strip_prefix(kind.prefix())?)))
            .ok_or(ApiKeyError::Malformed)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if !decode_hex(hex.as_bytes(), bytes.as_mut_slice()) {
            return Err(ApiKeyError::Malformed);
        }
        let mut app_id = [0; ID_BYTES];
        let mut secret = [0; SECRET_BYTES];
        let (id_part, rest) = bytes.split_at(ID_BYTES);
        let (secret_part, checksum_part) = rest.split_at(SECRET_BYTES);
        app_id.copy_from_slice(id_part);
        secret.copy_from_slice(secret_part);
        let matches = checksum(kind, &app_id, &secret) == *checksum_part;
        let key = Self::new(kind, AppId::from_bytes(app_id), secret);
        secret.zeroize();
        if matches { Ok(key) } else { Err(ApiKeyError::Malformed) }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("kind", &self.kind)
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

/// Includes the prefix, so that a key whose kind was changed by hand is malformed.
fn checksum(kind: KeyKind, app_id: &[u8; ID_BYTES], secret: &[u8; SECRET_BYTES]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::new()
        .chain_update(LABEL)
        .chain_update(kind.prefix())
        .chain_update(app_id)
        .chain_update(secret)
        .finalize();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&hash[..CHECKSUM_BYTES]);
    checksum
}
