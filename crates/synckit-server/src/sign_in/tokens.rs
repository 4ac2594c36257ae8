//! Access tokens: JSON Web Tokens (RFC 7519) after RFC 9068 and the best practices of RFC 8725.
//!
//! HMAC-SHA256 and nothing else; the key is chosen by `kid` among the server's own. A token for the app and a token for
//! the account differ in `typ` and in `aud`, so that neither passes for the other.
//!
//! Every request carries a token for the app, and its verification is the most expensive computation of a small
//! request. So verified tokens are cached whole; claims that depend on the time are checked each time.
//!
//! Invariant: `iss`, `aud`, `sub`, `sid`, `iat`, `exp` and `typ` are all checked before a claim is believed.

use std::{collections::HashMap, fmt};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use synckit_protocol::{AppId, SecretText, SessionId, UserId, limits, wire::UnixSeconds};
use synckit_store::StreamId;

use crate::startup::TokenKey;

/// `typ` of a token for everything under `/api/sync`.
const TYPE_APP: &str = "at+jwt";
/// `typ` of a token for `/api/account`.
const TYPE_ACCOUNT: &str = "account+jwt";
/// `aud` of a token for `/api/account`; for the app it is the app's id.
const AUDIENCE_ACCOUNT: &str = "account";
/// No token of this server is longer; a longer text is not worth decoding.
const TOKEN_BYTES_MAX: usize = 2048;
/// Tokens that are remembered, some 700 bytes each.
const REMEMBERED_MAX: usize = 8192;

/// The claims of a token for the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppClaims {
    pub(crate) stream: StreamId,
    pub(crate) session_id: SessionId,
}

/// The claims of a token for the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AccountClaims {
    pub(crate) user_id: UserId,
    pub(crate) session_id: SessionId,
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// It is not one of this server's.
    Invalid,
    /// It is one of this server's, for something else.
    OtherAudience,
    /// Its time is over.
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: UnixSeconds,
    exp: UnixSeconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_time: Option<UnixSeconds>,
}

/// Signs and verifies tokens.
pub(crate) struct Tokens {
    issuer: String,
    signing_id: String,
    signing_key: EncodingKey,
    verifying_keys: HashMap<String, DecodingKey>,
    validation: Validation,
    /// Tokens for the app whose signature was good. Nobody without a signing key gets anything in here.
    verified: Mutex<HashMap<Box<str>, VerifiedToken>>,
}

/// The claims of an app's token, and its validity.
#[derive(Debug, Clone, Copy)]
struct VerifiedToken {
    claims: AppClaims,
    issued_at: UnixSeconds,
    expires_at: UnixSeconds,
}

impl Tokens {
    /// With the server's keys, at least one. The last one signs.
    pub(crate) fn new(issuer: String, keys: &[TokenKey]) -> Self {
        let newest = keys.last();
        let signing_id = newest.map(|key| key.id.clone()).unwrap_or_default();
        let signing_key = EncodingKey::from_secret(newest.map_or(&[], |key| key.secret.as_slice()));
        let verifying_keys = keys
            .iter()
            .map(|key| (key.id.clone(), DecodingKey::from_secret(&key.secret)))
            .collect();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[&issuer]);
        // Audience and time are checked below: the one to tell the two kinds apart, the other by the server's clock.
        validation.validate_aud = false;
        validation.validate_exp = false;
        Self {
            issuer,
            signing_id,
            signing_key,
            verifying_keys,
            validation,
            verified: Mutex::default(),
        }
    }

    /// A token for the app, and when it stops working.
    pub(crate) fn sign_app(
        &self,
        claims: AppClaims,
        now: UnixSeconds,
    ) -> Result<(SecretText, UnixSeconds), SigningError> {
        let expires_at = now + limits::TOKEN_SECONDS;
        let token = self.sign(
            TYPE_APP,
            &Claims {
                iss: self.issuer.clone(),
                aud: claims.stream.app_id.to_string(),
                sub: claims.stream.user_id.to_string(),
                sid: claims.session_id.to_string(),
                iat: now,
                exp: expires_at,
                auth_time: None,
            },
        )?;
        Ok((token, expires_at))
    }

    /// A token for the account, after a password login at `now`.
    pub(crate) fn sign_account(&self, claims: AccountClaims, now: UnixSeconds) -> Result<SecretText, SigningError> {
        self.sign(
            TYPE_ACCOUNT,
            &Claims {
                iss: self.issuer.clone(),
                aud: AUDIENCE_ACCOUNT.to_owned(),
                sub: claims.user_id.to_string(),
                sid: claims.session_id.to_string(),
                iat: now,
                exp: now + limits::ACCOUNT_TOKEN_SECONDS,
                auth_time: Some(now),
            },
        )
    }

    /// Verifies a token for the app. Whether its session has ended, the store knows.
    pub(crate) fn verify_app(&self, token: &str, now: UnixSeconds) -> Result<AppClaims, TokenError> {
        let remembered = self.verified.lock().get(token).copied();
        if let Some(known) = remembered {
            check_time(known.issued_at, known.expires_at, now)?;
            return Ok(known.claims);
        }
        let claims = self.verify(TYPE_APP, token, now)?;
        let app_id: AppId = claims.aud.parse().map_err(|_| TokenError::OtherAudience)?;
        let known = VerifiedToken {
            claims: AppClaims {
                stream: StreamId {
                    app_id,
                    user_id: claims.sub.parse().map_err(|_| TokenError::Invalid)?,
                },
                session_id: claims.sid.parse().map_err(|_| TokenError::Invalid)?,
            },
            issued_at: claims.iat,
            expires_at: claims.exp,
        };
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED_MAX {
            // A forgotten token is verified again.
            verified.clear();
        }
        verified.insert(token.into(), known);
        Ok(known.claims)
    }

    /// Verifies a token for the account.
    pub(crate) fn verify_account(&self, token: &str, now: UnixSeconds) -> Result<AccountClaims, TokenError> {
        let claims = self.verify(TYPE_ACCOUNT, token, now)?;
        if claims.aud != AUDIENCE_ACCOUNT {
            return Err(TokenError::OtherAudience);
        }
        // The lifetime says so already; this holds even if a lifetime were ever set too long.
        let signed_in_at = claims.auth_time.ok_or(TokenError::Invalid)?;
        if now > signed_in_at.saturating_add(limits::ACCOUNT_TOKEN_SECONDS) {
            return Err(TokenError::Expired);
        }
        Ok(AccountClaims {
            user_id: claims.sub.parse().map_err(|_| TokenError::Invalid)?,
            session_id: claims.sid.parse().map_err(|_| TokenError::Invalid)?,
        })
    }

    fn sign(&self, typ: &str, claims: &Claims) -> Result<SecretText, SigningError> {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.signing_id.clone());
        encode(&header, claims, &self.signing_key)
            .map(SecretText::new)
            .map_err(SigningError)
    }

    fn verify(&self, typ: &str, token: &str, now: UnixSeconds) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        let key_id = header.kid.as_deref().ok_or(TokenError::Invalid)?;
        let key = self.verifying_keys.get(key_id).ok_or(TokenError::Invalid)?;
        let verified = decode::<Claims>(token, key, &self.validation).map_err(|_| TokenError::Invalid)?;
        match verified.header.typ.as_deref() {
            Some(found) if found == typ => {}
            Some(TYPE_APP | TYPE_ACCOUNT) => return Err(TokenError::OtherAudience),
            _ => return Err(TokenError::Invalid),
        }
        check_time(verified.claims.iat, verified.claims.exp, now)?;
        Ok(verified.claims)
    }
}

fn check_time(issued_at: UnixSeconds, expires_at: UnixSeconds, now: UnixSeconds) -> Result<(), TokenError> {
    if now >= expires_at {
        return Err(TokenError::Expired);
    }
    // A clock that was set back must not turn a token of the future into an error of every client: five minutes.
    if issued_at > now + 300 {
        return Err(TokenError::Invalid);
    }
    Ok(())
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// A token could not be signed, which only a defect can bring about.
#[derive(Debug, thiserror::Error)]
#[error("a token could not be signed")]
pub(crate) struct SigningError(#[source] jsonwebtoken::errors::Error);
