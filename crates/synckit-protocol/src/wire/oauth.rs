//! `/oauth`: sign-in by browser (RFC 6749 with PKCE, RFC 7636), also for machines without one (RFC 8628). The answers to apps are those of the RFCs, always in JSON.

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{AppId, ByteString, SecretText, UserId};

/// `POST /oauth/sign-in`: the last message of a login that the sign-in page ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BrowserSignIn {
    /// The page's sealed authorization request.
    pub request: ByteString,
    /// The server's sealed state of the login.
    pub login: ByteString,
    /// The OPAQUE KE3 message.
    pub ke3: ByteString,
}

/// The answer to [`BrowserSignIn`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BrowserSignedIn {
    /// The authorization request of an account that has proven its password, sealed: what the person is asked to consent to.
    pub grant: ByteString,
    /// The account.
    pub user_id: UserId,
}

/// `POST /account/sign-in/start`: the first message of a login to the server's own pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PageLoginStart {
    /// The e-mail address of the account.
    pub email: String,
    /// The number of the login suite.
    pub suite: u16,
    /// The OPAQUE KE1 message.
    pub ke1: ByteString,
}

/// `POST /account/sign-in`: its last message. The answer sets the cookie of the browser's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PageLoginFinish {
    /// The server's sealed state of the login.
    pub login: ByteString,
    /// The OPAQUE KE3 message.
    pub ke3: ByteString,
}

/// The answer to [`PageLoginFinish`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PageSignedIn {
    /// The account.
    pub user_id: UserId,
    /// The token for `/api/account`, valid for five minutes.
    pub account_token: SecretText,
}

/// The answer of `POST /oauth/device_authorization` (RFC 8628, section 3.2).
///
/// # Examples
/// ```
/// use synckit_protocol::wire::oauth::DeviceAuthorization;
///
/// let json = r#"{"device_code":"d","user_code":"BCDF-GHJK","verification_uri":"https://sync.example.com/oauth/device",
///     "verification_uri_complete":"https://sync.example.com/oauth/device?user_code=BCDF-GHJK","expires_in":600,
///     "interval":5}"#;
/// let asked: DeviceAuthorization = serde_json::from_str(json)?;
/// assert_eq!(asked.interval, 5);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceAuthorization {
    /// What the machine polls `POST /oauth/token` with.
    pub device_code: SecretText,
    /// What the person types: eight letters of `BCDFGHJKLMNPQRSTVWXZ`, with a hyphen in the middle.
    pub user_code: String,
    /// Where the person types it.
    pub verification_uri: String,
    /// The same with the code in it, for links and QR codes.
    pub verification_uri_complete: String,
    /// Seconds until both codes expire.
    pub expires_in: u64,
    /// Seconds between two polls.
    pub interval: u64,
}

/// The answer of `POST /oauth/token` (RFC 6749, section 5.1).
///
/// # Examples
/// ```
/// use synckit_protocol::wire::oauth::OAuthTokens;
///
/// let json = r#"{"access_token":"a","token_type":"Bearer","expires_in":604800,"expires_at":1767830400,
///     "refresh_token":"r","user_id":"00000000-0000-0000-0000-000000000001",
///     "app_id":"00000000-0000-0000-0000-000000000002"}"#;
/// let tokens: OAuthTokens = serde_json::from_str(json)?;
/// assert_eq!(tokens.expires_in, 604_800);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OAuthTokens {
    /// The token for `/api/sync`.
    pub access_token: SecretText,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds until the token expires.
    pub expires_in: u64,
    /// When the token expires.
    pub expires_at: UnixSeconds,
    /// The refresh secret, for `POST /oauth/token` and for `POST /api/sync/auth/refresh`.
    pub refresh_token: SecretText,
    /// The account.
    pub user_id: UserId,
    /// The app.
    pub app_id: AppId,
}

/// A refusal of `/oauth/token` and `/oauth/revoke` (RFC 6749, section 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OAuthError {
    /// The code of the RFC.
    pub error: String,
    /// What was wrong, for developers.
    pub error_description: String,
}

/// The answer of `GET /.well-known/oauth-authorization-server` (RFC 8414).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OAuthMetadata {
    /// The public URL of the server; `iss` of every redirect (RFC 9207).
    pub issuer: String,
    /// Where a browser begins.
    pub authorization_endpoint: String,
    /// Where a code is exchanged.
    pub token_endpoint: String,
    /// Where a machine without a browser asks for codes (RFC 8628).
    pub device_authorization_endpoint: String,
    /// Where a session is ended.
    pub revocation_endpoint: String,
    /// `code`.
    pub response_types_supported: Vec<String>,
    /// `query`.
    pub response_modes_supported: Vec<String>,
    /// `authorization_code`, `refresh_token` and `urn:ietf:params:oauth:grant-type:device_code`.
    pub grant_types_supported: Vec<String>,
    /// `S256`.
    pub code_challenge_methods_supported: Vec<String>,
    /// `none`: apps keep no secret.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// `none`.
    pub revocation_endpoint_auth_methods_supported: Vec<String>,
    /// `true`.
    pub authorization_response_iss_parameter_supported: bool,
    /// `create`: the page begins with a new account (Initiating User Registration via OpenID Connect 1.0).
    pub prompt_values_supported: Vec<String>,
}
