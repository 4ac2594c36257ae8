//! Presigned URLs of objects: `{public_url}/blobs/{object key}?op=…&size=…&expires=…&by=…&sig=…`.
//!
//! `sig = base64url(HMAC-SHA256(key, op || 0 || object key (32) || size (u64 BE) || expires (u64 BE) || by (16)))`. A
//! holder of the URL may do the one operation that it names, until it expires, without a token. `by` is a pseudonym of
//! the account that requested the URL, so that transfers count against its share.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use synckit_protocol::{ObjectKey, UserId, limits, wire::UnixSeconds};

use crate::startup::MacKey;

/// The distance by which a clock may be set back without invalidating URLs.
const CLOCK_SLACK_SECONDS: u64 = 300;

/// The operation of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UrlMethod {
    /// `GET` and `HEAD`.
    Get,
    /// `PUT`.
    Put,
}

impl UrlMethod {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
        }
    }
}

/// The signed fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectUrl {
    pub(crate) method: UrlMethod,
    pub(crate) key: ObjectKey,
    /// The exact length of the object, in bytes.
    pub(crate) size: u64,
    pub(crate) expires_at: UnixSeconds,
    /// The account that asked for it: see [`UrlSigner::tag`].
    pub(crate) owner: [u8; 16],
}

/// Why a URL does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlError {
    /// It was changed, or is for something else.
    Invalid,
    /// Its time is over.
    Expired,
}

#[derive(Deserialize)]
struct Query {
    op: UrlMethod,
    size: u64,
    expires: UnixSeconds,
    by: String,
    sig: String,
}

/// Signs and verifies the URLs of objects.
pub(crate) struct UrlSigner {
    base: String,
    key: MacKey,
}

impl UrlSigner {
    /// URLs begin with `public_url`, which has no slash at its end.
    pub(crate) fn new(public_url: &str, key: MacKey) -> Self {
        Self {
            base: format!("{public_url}/blobs"),
            key,
        }
    }

    /// The pseudonym of an account in its URLs: the same in all of them, and meaningless without the key.
    pub(crate) fn tag(&self, account: UserId) -> [u8; 16] {
        let mac = self.key.sign(&[b"owner", &[0], account.as_bytes()]);
        std::array::from_fn(|index| mac[index])
    }

    pub(crate) fn sign(&self, url: &ObjectUrl) -> String {
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(&parts(url).each_ref().map(Vec::as_slice)));
        let ObjectUrl {
            method,
            key,
            size,
            expires_at,
            owner,
        } = url;
        let owner = URL_SAFE_NO_PAD.encode(owner);
        format!(
            "{}/{key}?op={}&size={size}&expires={expires_at}&by={owner}&sig={signature}",
            self.base,
            method.as_str()
        )
    }

    /// A URL to read a stored object, and when it expires.
    pub(crate) fn download(
        &self,
        key: ObjectKey,
        size: u64,
        owner: [u8; 16],
        now: UnixSeconds,
    ) -> (String, UnixSeconds) {
        let expires_at = now + limits::PRESIGNED_URL_SECONDS;
        let url = ObjectUrl {
            method: UrlMethod::Get,
            key,
            size,
            expires_at,
            owner,
        };
        (self.sign(&url), expires_at)
    }

    /// Verifies a request for an object: its path, its query, and the method that it must be signed for.
    pub(crate) fn verify(
        &self,
        method: UrlMethod,
        key: &str,
        query: Option<&str>,
        now: UnixSeconds,
    ) -> Result<ObjectUrl, UrlError> {
        let key: ObjectKey = key.parse().map_err(|_| UrlError::Invalid)?;
        let query: axum::extract::Query<Query> = axum::extract::Query::try_from_uri(
            &format!("/?{}", query.unwrap_or_default())
                .parse()
                .map_err(|_| UrlError::Invalid)?,
        )
        .map_err(|_| UrlError::Invalid)?;
        let owner = URL_SAFE_NO_PAD
            .decode(&query.by)
            .ok()
            .and_then(|tag| tag.try_into().ok())
            .ok_or(UrlError::Invalid)?;
        let url = ObjectUrl {
            method: query.op,
            key,
            size: query.size,
            expires_at: query.expires,
            owner,
        };
        let signature = URL_SAFE_NO_PAD.decode(&query.sig).map_err(|_| UrlError::Invalid)?;
        if !self.key.verify(&parts(&url).each_ref().map(Vec::as_slice), &signature) || url.method != method {
            return Err(UrlError::Invalid);
        }
        // After the signature, so that an altered time is an altered URL and not an old one.
        // One that would be valid for longer than any is was signed by a clock that was ahead, and would be good for as
        // long as it was ahead; a client asks for another.
        let lives_too_long = url.expires_at > now + limits::PRESIGNED_URL_SECONDS + CLOCK_SLACK_SECONDS;
        if now >= url.expires_at || lives_too_long {
            return Err(UrlError::Expired);
        }
        Ok(url)
    }
}

fn parts(url: &ObjectUrl) -> [Vec<u8>; 6] {
    [
        url.method.as_str().as_bytes().to_vec(),
        vec![0],
        url.key.as_bytes().to_vec(),
        url.size.to_be_bytes().to_vec(),
        url.expires_at.to_be_bytes().to_vec(),
        url.owner.to_vec(),
    ]
}

impl fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSigner")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}
