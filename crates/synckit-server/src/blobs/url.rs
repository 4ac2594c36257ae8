//! Presigned URLs of objects: `{public_url}/blobs/{object key}?op=…&size=…&expires=…&by=…&sig=…`, with `&hash=…` for an
//! upload whose hash was named before, and `&part=…` for one part of an upload.
//!
//! `sig = base64url(HMAC-SHA256(key, op || 0 || object key (32) || size (u64 BE) || expires (u64 BE) || by (16) || hash || part))`,
//! where `hash` is that SHA-256 or empty, and `part` is the number (u32 BE) or empty. A holder of the URL may do the one operation that it
//! names, until it expires, without a token. `by` is a pseudonym of the account that requested the URL, so that transfers
//! count against its share.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use synckit_protocol::{ObjectKey, SealedHash, UserId, limits, wire::UnixSeconds};

use crate::startup::MacKey;

/// The distance by which a clock may be set back without invalidating URLs.
const CLOCK_SLACK_SECONDS: u64 = 300;

/// What a URL allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlAction {
    /// `GET` and `HEAD`.
    Get,
    /// `PUT`, of the bytes with this hash if there is one.
    Put(Option<SealedHash>),
    /// `PUT` of the part with this number and hash.
    Part(u32, SealedHash),
}

/// The name of an action in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Get,
    Put,
    Part,
}

/// The signed fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectUrl {
    pub(crate) action: UrlAction,
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
    op: Op,
    size: u64,
    expires: UnixSeconds,
    by: String,
    hash: Option<SealedHash>,
    part: Option<u32>,
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
            action,
            key,
            size,
            expires_at,
            owner,
        } = url;
        let owner = URL_SAFE_NO_PAD.encode(owner);
        let (op, hash) = match action {
            UrlAction::Get => ("get", String::new()),
            UrlAction::Put(None) => ("put", String::new()),
            UrlAction::Put(Some(hash)) => ("put", format!("&hash={hash}")),
            UrlAction::Part(number, hash) => ("part", format!("&hash={hash}&part={number}")),
        };
        format!(
            "{}/{key}?op={op}&size={size}&expires={expires_at}&by={owner}{hash}&sig={signature}",
            self.base
        )
    }

    /// Verifies a request for an object: its path and its query. The caller checks the action.
    pub(crate) fn verify(&self, key: &str, query: Option<&str>, now: UnixSeconds) -> Result<ObjectUrl, UrlError> {
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
        let action = match (query.op, query.hash, query.part) {
            (Op::Get, None, None) => UrlAction::Get,
            (Op::Put, hash, None) => UrlAction::Put(hash),
            (Op::Part, Some(hash), Some(number)) => UrlAction::Part(number, hash),
            _ => return Err(UrlError::Invalid),
        };
        let url = ObjectUrl {
            action,
            key,
            size: query.size,
            expires_at: query.expires,
            owner,
        };
        let signature = URL_SAFE_NO_PAD.decode(&query.sig).map_err(|_| UrlError::Invalid)?;
        if !self.key.verify(&parts(&url).each_ref().map(Vec::as_slice), &signature) {
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

fn parts(url: &ObjectUrl) -> [Vec<u8>; 8] {
    let (op, hash, part) = match &url.action {
        UrlAction::Get => ("get", Vec::new(), Vec::new()),
        UrlAction::Put(hash) => (
            "put",
            hash.map_or(Vec::new(), |hash| hash.as_bytes().to_vec()),
            Vec::new(),
        ),
        UrlAction::Part(number, hash) => ("part", hash.as_bytes().to_vec(), number.to_be_bytes().to_vec()),
    };
    [
        op.as_bytes().to_vec(),
        vec![0],
        url.key.as_bytes().to_vec(),
        url.size.to_be_bytes().to_vec(),
        url.expires_at.to_be_bytes().to_vec(),
        url.owner.to_vec(),
        hash,
        part,
    ]
}

impl fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSigner")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}
