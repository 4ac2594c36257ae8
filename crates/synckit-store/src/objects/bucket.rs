//! A bucket of an S3-compatible store: presigned URLs, and the few requests that a node makes itself.
//!
//! The bytes of objects go between clients and the store. A URL for an upload is signed with the exact length and the
//! SHA-256 of the object, so that its holder can store that object and no other, however often.
//!
//! Invariant: an object counts only after the store itself named its length and SHA-256.

use std::{collections::BTreeMap, fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use rusty_s3::{Credentials, S3Action};
use synckit_protocol::{ObjectKey, SealedHash, SealedHasher, SecretText, wire::UnixSeconds};

use super::{BucketAddress, BucketAddressError};

/// Time limit for connecting to the store.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Time limit for a request to the store. None of them carries an object.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How long a URL that a node uses at once is valid.
pub(super) const OWN_URL: Duration = Duration::from_secs(60);
/// The header of the SHA-256 of an object.
pub(super) const CHECKSUM: &str = "x-amz-checksum-sha256";
/// The header by which a request asks for that of a stored object.
const CHECKSUM_MODE: (&str, &str) = ("x-amz-checksum-mode", "ENABLED");

/// A bucket. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    pub(super) bucket: rusty_s3::Bucket,
    pub(super) credentials: Credentials,
    prefix: String,
    pub(super) http: reqwest::Client,
}

/// How a bucket is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAccess {
    /// Its address.
    pub address: BucketAddress,
    /// Its keys.
    pub keys: BucketKeys,
}

/// The keys of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketKeys {
    /// The access key id.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: SecretText,
}

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// The store did not answer.
    #[error("the object store cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The store refused a request, or failed.
    #[error("the object store answered with status {0}")]
    Status(u16),
    /// The store answered with something else than the protocol says.
    #[error("the object store answered with another document than expected")]
    Answer,
    /// The HTTP client cannot be set up.
    #[error("requests to the object store cannot be made")]
    Client(#[source] reqwest::Error),
    /// The address is not one of a bucket.
    #[error(transparent)]
    Address(#[from] BucketAddressError),
}

/// What [`Bucket::check`] found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketCheckError {
    /// A request failed.
    #[error("the bucket cannot be used: {step}")]
    Request {
        /// The step.
        step: &'static str,
        /// Why it failed.
        source: BucketError,
    },
    /// The store does not do what the blobs of a server rely on.
    #[error("the bucket does not keep blobs safe: {0}")]
    Unfit(&'static str),
}

/// What a store says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketObject {
    /// Its size in bytes.
    pub size: u64,
    /// Its hash; `None` if the store has none.
    pub hash: Option<SealedHash>,
}

impl Bucket {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`BucketError::Client`] on a machine without trusted root certificates.
    pub fn new(access: &BucketAccess) -> Result<Self, BucketError> {
        let BucketAccess { address, keys } = access;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .timeout(REQUEST_MAX)
            // A redirect would take the signature elsewhere; a proxy would be one that nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let http = if address.endpoint().scheme() == "http" {
            // Loopback: works on a machine without certificates.
            http.tls_certs_only([])
        } else {
            http
        };
        Ok(Self {
            bucket: address.bucket()?,
            credentials: Credentials::new(keys.access_key.clone(), keys.secret_key.expose()),
            prefix: address.prefix().to_owned(),
            http: http.build().map_err(BucketError::Client)?,
        })
    }

    /// A URL for a `PUT` of exactly these bytes, and the headers that it is signed with.
    pub fn upload_url(
        &self,
        key: ObjectKey,
        size: u64,
        hash: SealedHash,
        now: UnixSeconds,
        valid: Duration,
    ) -> (String, BTreeMap<String, String>) {
        let key = self.key(key);
        let mut action = self.bucket.put_object(Some(&self.credentials), &key);
        let headers = BTreeMap::from([
            (header::CONTENT_LENGTH.as_str().to_owned(), size.to_string()),
            (CHECKSUM.to_owned(), STANDARD.encode(hash.as_bytes())),
        ]);
        for (name, value) in &headers {
            action.headers_mut().insert(name.clone(), value.clone());
        }
        (action.sign_with_time(valid, &timestamp(now)).into(), headers)
    }

    /// A URL for a `GET` of an object.
    pub fn download_url(&self, key: ObjectKey, now: UnixSeconds, valid: Duration) -> String {
        let key = self.key(key);
        let action = self.bucket.get_object(Some(&self.credentials), &key);
        action.sign_with_time(valid, &timestamp(now)).into()
    }

    /// What the store says of an object; `None` if it has none.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn object(&self, key: ObjectKey, now: UnixSeconds) -> Result<Option<BucketObject>, BucketError> {
        let key = self.key(key);
        let (name, value) = CHECKSUM_MODE;
        let mut action = self.bucket.head_object(Some(&self.credentials), &key);
        action.headers_mut().insert(name, value);
        let url = action.sign_with_time(OWN_URL, &timestamp(now));
        let request = self.http.head(url).header(name, value);
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(BucketObject {
                // A store that names no size has no object that could count.
                size: text(response.headers(), header::CONTENT_LENGTH.as_str())
                    .and_then(|size| size.parse().ok())
                    .unwrap_or(u64::MAX),
                hash: text(response.headers(), CHECKSUM).and_then(parsed_hash),
            })),
            status => Err(BucketError::Status(status.as_u16())),
        }
    }

    /// Removes an object, and ends its upload in parts. Succeeds if there is neither.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn remove(&self, key: ObjectKey, now: UnixSeconds) -> Result<(), BucketError> {
        let name = self.key(key);
        let action = self.bucket.delete_object(Some(&self.credentials), &name);
        let url = action.sign_with_time(OWN_URL, &timestamp(now));
        let response = self.http.delete(url).send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::NOT_FOUND => {}
            status if status.is_success() => {}
            status => return Err(BucketError::Status(status.as_u16())),
        }
        // Behind the object: keys that may not list uploads delete files all the same.
        self.remove_parts(key, now).await
    }

    /// Stores, reads and deletes an object under this key, which must be fresh, and tries what the store must refuse.
    ///
    /// # Errors
    /// [`BucketCheckError`].
    pub async fn check(&self, key: ObjectKey, now: UnixSeconds) -> Result<(), BucketCheckError> {
        let checked = self.try_everything(key, now).await;
        if checked.is_err() {
            // What a store took that it should have refused. If this fails, too, 32 random bytes are left over.
            let _ = self.remove(key, now).await;
        }
        checked
    }

    async fn try_everything(&self, key: ObjectKey, now: UnixSeconds) -> Result<(), BucketCheckError> {
        let during = |step| move |source| BucketCheckError::Request { step, source };
        let sealed = Bytes::copy_from_slice(key.as_bytes());
        let (size, hash) = (sealed.len() as u64, SealedHash::of(&sealed));
        let found = self.object(key, now).await.map_err(during(
            "asking for an object (the keys need the right to list the bucket: without it, a missing object is forbidden)",
        ))?;
        if found.is_some() {
            return Err(BucketCheckError::Unfit(
                "it has an object under a key that was just drawn",
            ));
        }
        let put = async |body: Bytes| {
            let (url, headers) = self.upload_url(key, size, hash, now, OWN_URL);
            // The signed headers, whatever the body.
            let checksum = headers.get(CHECKSUM).cloned().unwrap_or_default();
            self.send(Method::PUT, &url, Some((&checksum, body))).await
        };
        let trying = "storing an object";
        for (body, unfit) in [
            (
                Bytes::from(vec![0; sealed.len()]),
                "it stores other bytes than the signed ones",
            ),
            (
                Bytes::from(vec![0; sealed.len() + 1]),
                "it stores more bytes than the signed number",
            ),
        ] {
            if put(body).await.map_err(during(trying))?.0.is_success()
                || self.object(key, now).await.map_err(during(trying))?.is_some()
            {
                return Err(BucketCheckError::Unfit(unfit));
            }
        }
        match put(sealed.clone()).await.map_err(during(trying))?.0 {
            status if status.is_success() => {}
            status => return Err(during(trying)(BucketError::Status(status.as_u16()))),
        }
        let stored = self.object(key, now).await.map_err(during("asking for an object"))?;
        if stored != Some(BucketObject { size, hash: Some(hash) }) {
            return Err(BucketCheckError::Unfit("it does not keep the SHA-256 of an object"));
        }
        let url = self.download_url(key, now, OWN_URL);
        let (status, body) = self
            .send(Method::GET, &url, None)
            .await
            .map_err(during("reading an object"))?;
        if !status.is_success() {
            return Err(during("reading an object")(BucketError::Status(status.as_u16())));
        }
        if body != sealed {
            return Err(BucketCheckError::Unfit("it returns other bytes than it was given"));
        }
        self.remove(key, now).await.map_err(during("deleting an object"))?;
        if self
            .object(key, now)
            .await
            .map_err(during("deleting an object"))?
            .is_some()
        {
            return Err(BucketCheckError::Unfit("it still has an object that was deleted"));
        }
        self.try_parts(key, &sealed, now).await
    }

    /// An object of one part, and parts that never become an object.
    async fn try_parts(&self, key: ObjectKey, sealed: &Bytes, now: UnixSeconds) -> Result<(), BucketCheckError> {
        let during = |step| move |source| BucketCheckError::Request { step, source };
        let trying = "uploading in parts (the keys need the right to list the parts and the uploads of the bucket)";
        let hash = SealedHash::of(sealed);
        let put = async |multipart_id: &str, body: Bytes| {
            let part = (1, sealed.len() as u64, hash);
            let (url, headers) = self.part_url(key, multipart_id, part, now, OWN_URL);
            let checksum = headers.get(CHECKSUM).cloned().unwrap_or_default();
            self.send(Method::PUT, &url, Some((&checksum, body))).await
        };
        let multipart_id = self.begin_parts(key, now).await.map_err(during(trying))?;
        let other = Bytes::from(vec![0; sealed.len()]);
        if put(&multipart_id, other).await.map_err(during(trying))?.0.is_success() {
            return Err(BucketCheckError::Unfit(
                "it stores a part of other bytes than the signed ones",
            ));
        }
        match put(&multipart_id, sealed.clone()).await.map_err(during(trying))?.0 {
            status if status.is_success() => {}
            status => return Err(during(trying)(BucketError::Status(status.as_u16()))),
        }
        let parts = self.parts(key, &multipart_id, now).await.map_err(during(trying))?;
        let parts = parts.filter(|parts| parts.len() == 1 && parts.iter().all(|part| part.stored.hash == hash));
        let Some(parts) = parts else {
            return Err(BucketCheckError::Unfit("it does not keep the SHA-256 of a part"));
        };
        self.join_parts(key, &multipart_id, &parts, now)
            .await
            .map_err(during(trying))?;
        let joined = BucketObject {
            size: sealed.len() as u64,
            hash: Some(SealedHasher::of_parts([hash])),
        };
        if self.object(key, now).await.map_err(during(trying))? != Some(joined) {
            return Err(BucketCheckError::Unfit(
                "it does not keep the hash of an object of parts",
            ));
        }
        let multipart_id = self.begin_parts(key, now).await.map_err(during(trying))?;
        self.remove(key, now).await.map_err(during(trying))?;
        match self.parts(key, &multipart_id, now).await.map_err(during(trying))? {
            None => Ok(()),
            Some(_) => Err(BucketCheckError::Unfit("it still has an upload that was ended")),
        }
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<(&str, Bytes)>,
    ) -> Result<(StatusCode, Bytes), BucketError> {
        let mut request = self.http.request(method, url);
        if let Some((checksum, body)) = body {
            request = request.header(CHECKSUM, checksum).body(body);
        }
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        Ok((status, response.bytes().await.map_err(unreachable)?))
    }

    /// As in the directory of objects, so that one can be copied into the other.
    pub(super) fn key(&self, key: ObjectKey) -> String {
        let name = key.to_string();
        format!("{}{}/{name}", self.prefix, name.get(..2).unwrap_or_default())
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("url", &self.bucket.base_url().as_str())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Errors of the HTTP client contain the URL, which is a secret while it is valid.
pub(super) fn unreachable(error: reqwest::Error) -> BucketError {
    BucketError::Unreachable(error.without_url())
}

pub(super) fn timestamp(now: UnixSeconds) -> Timestamp {
    // A time that no calendar has gives a URL that no store accepts.
    let seconds = i64::try_from(now).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An object that was uploaded in parts has the hash of their hashes. Most stores name the number of parts behind a hyphen.
pub(super) fn parsed_hash(text: &str) -> Option<SealedHash> {
    let (hash, _) = text.split_once('-').unwrap_or((text, ""));
    let bytes = STANDARD.decode(hash).ok()?;
    Some(SealedHash::from_bytes(bytes.try_into().ok()?))
}
