//! Where the objects of a server are, and what it asks of either place.

use std::{collections::BTreeMap, io, time::Duration};

use http::header;
use synckit_protocol::{ObjectKey, Parts, SealedHash, UserId, limits, wire::UnixSeconds};
use synckit_store::{
    PendingUpload,
    objects::{Bucket, BucketError, ObjectDirectory, ObjectError, StoredPart},
};

use super::{ObjectUrl, UrlAction, UrlSigner};

/// The time from the signature of a URL to its end.
const URL_TIME: Duration = Duration::from_secs(limits::PRESIGNED_URL_SECONDS);

/// The objects of a server.
#[derive(Debug)]
pub(crate) enum Objects {
    /// Files of the data directory, which the server sends and receives itself.
    Directory { files: ObjectDirectory, urls: UrlSigner },
    /// Objects of an S3-compatible store. Their bytes pass no node.
    Bucket(Bucket),
}

/// A presigned URL.
#[derive(Debug)]
pub(crate) struct Presigned {
    pub(crate) url: String,
    /// Headers that its request must have.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) expires_at: UnixSeconds,
}

/// Why objects cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectFailure {
    #[error("the directory of objects failed")]
    Directory(#[from] io::Error),
    #[error("the disk is full")]
    Full(#[source] io::Error),
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl ObjectFailure {
    /// Whether there was no answer at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Bucket(BucketError::Unreachable(_)))
    }
}

impl Objects {
    /// Whether a URL for an upload needs the hash: a bucket compares it with the bytes as they come.
    pub(crate) fn needs_hash_first(&self) -> bool {
        matches!(self, Self::Bucket(_))
    }

    /// A URL for an upload of this many bytes, with this hash if it is known. `None` if the place needs the hash.
    pub(crate) fn upload(
        &self,
        key: ObjectKey,
        (size, hash): (u64, Option<SealedHash>),
        account: UserId,
        now: UnixSeconds,
    ) -> Option<Presigned> {
        let expires_at = now.saturating_add(limits::PRESIGNED_URL_SECONDS);
        let (url, headers) = match self {
            Self::Directory { urls, .. } => {
                let url = ObjectUrl {
                    action: UrlAction::Put(hash),
                    key,
                    size,
                    expires_at,
                    owner: urls.tag(account),
                };
                let length = (header::CONTENT_LENGTH.as_str().to_owned(), size.to_string());
                (urls.sign(&url), BTreeMap::from([length]))
            }
            Self::Bucket(bucket) => bucket.upload_url(key, size, hash?, now, URL_TIME),
        };
        Some(Presigned {
            url,
            headers,
            expires_at,
        })
    }

    /// Begins an upload in parts. Returns the bucket's name for it; the directory needs none.
    pub(crate) async fn begin_parts(&self, key: ObjectKey, now: UnixSeconds) -> Result<Option<String>, ObjectFailure> {
        Ok(match self {
            Self::Directory { .. } => None,
            Self::Bucket(bucket) => Some(bucket.begin_parts(key, now).await?),
        })
    }

    /// A URL for one part, with its number, size and hash; `None` if the upload never began in the bucket. It ends with the
    /// time of the upload, so that no part arrives after the sweep.
    pub(crate) fn part(
        &self,
        upload: &PendingUpload,
        part: (u32, u64, SealedHash),
        account: UserId,
        now: UnixSeconds,
    ) -> Option<Presigned> {
        let expires_at = upload.expires_at.min(now.saturating_add(limits::PRESIGNED_URL_SECONDS));
        let (url, headers) = match self {
            Self::Directory { urls, .. } => {
                let (number, size, hash) = part;
                let url = ObjectUrl {
                    action: UrlAction::Part(number, hash),
                    key: upload.object_key,
                    size,
                    expires_at,
                    owner: urls.tag(account),
                };
                let length = (header::CONTENT_LENGTH.as_str().to_owned(), size.to_string());
                (urls.sign(&url), BTreeMap::from([length]))
            }
            Self::Bucket(bucket) => {
                let valid = Duration::from_secs(expires_at.saturating_sub(now));
                let multipart_id = upload.multipart_id.as_deref()?;
                bucket.part_url(upload.object_key, multipart_id, part, now, valid)
            }
        };
        Some(Presigned {
            url,
            headers,
            expires_at,
        })
    }

    /// The parts of an upload that have arrived; `None` if the bucket has no such upload any more.
    pub(crate) async fn parts(
        &self,
        upload: &PendingUpload,
        now: UnixSeconds,
    ) -> Result<Option<Vec<StoredPart>>, ObjectFailure> {
        Ok(match (self, &upload.multipart_id) {
            (Self::Directory { files, .. }, _) => Some(files.parts(upload.object_key).await?),
            (Self::Bucket(_), None) => None,
            (Self::Bucket(bucket), Some(multipart_id)) => {
                let parts = bucket.parts(upload.object_key, multipart_id, now).await?;
                parts.map(|parts| parts.into_iter().map(|part| part.stored).collect())
            }
        })
    }

    /// Whether the object of an upload exists with this hash, once its parts are joined if it has parts. `room` reserves as much
    /// of the disk as the object takes.
    pub(crate) async fn complete<R>(
        &self,
        upload: &PendingUpload,
        (hash, room): (SealedHash, impl FnOnce() -> io::Result<R> + Send + 'static),
        now: UnixSeconds,
    ) -> Result<bool, ObjectFailure> {
        let (key, size_and_hash) = (upload.object_key, (upload.size, hash));
        if Parts::of(upload.size).is_none() {
            return self.has(key, size_and_hash, now).await;
        }
        if !self.has(key, size_and_hash, now).await? {
            match (self, &upload.multipart_id) {
                (Self::Directory { files, .. }, _) => match files.join_parts(key, size_and_hash, room).await {
                    Err(ObjectError::Full(error)) => return Err(ObjectFailure::Full(error)),
                    Err(ObjectError::Io(error)) => return Err(error.into()),
                    _ => {}
                },
                (Self::Bucket(_), None) => {}
                (Self::Bucket(bucket), Some(multipart_id)) => {
                    bucket.join(key, multipart_id, size_and_hash, now).await?;
                }
            }
            // Also where nothing was left to join: another confirmation may have joined it meanwhile.
            if !self.has(key, size_and_hash, now).await? {
                return Ok(false);
            }
        }
        if let Self::Directory { files, .. } = self {
            files.remove_parts(key).await?;
        }
        Ok(true)
    }

    /// A URL for a download.
    pub(crate) fn download(&self, key: ObjectKey, size: u64, account: UserId, now: UnixSeconds) -> Presigned {
        let expires_at = now.saturating_add(limits::PRESIGNED_URL_SECONDS);
        let url = match self {
            Self::Directory { urls, .. } => urls.sign(&ObjectUrl {
                action: UrlAction::Get,
                key,
                size,
                expires_at,
                owner: urls.tag(account),
            }),
            Self::Bucket(bucket) => bucket.download_url(key, now, URL_TIME),
        };
        Presigned {
            url,
            headers: BTreeMap::new(),
            expires_at,
        }
    }

    /// The size of an object; `None` if it does not exist.
    pub(crate) async fn size(&self, key: ObjectKey, now: UnixSeconds) -> Result<Option<u64>, ObjectFailure> {
        Ok(match self {
            Self::Directory { files, .. } => files.size(key).await?,
            Self::Bucket(bucket) => bucket.object(key, now).await?.map(|object| object.size),
        })
    }

    /// Whether an object exists with exactly this size and hash.
    pub(crate) async fn has(
        &self,
        key: ObjectKey,
        (size, hash): (u64, SealedHash),
        now: UnixSeconds,
    ) -> Result<bool, ObjectFailure> {
        Ok(match self {
            Self::Directory { files, .. } => {
                files.size(key).await? == Some(size) && files.hash(key).await? == Some(hash)
            }
            Self::Bucket(bucket) => {
                let found = bucket.object(key, now).await?;
                found.is_some_and(|found| (found.size, found.hash) == (size, Some(hash)))
            }
        })
    }

    /// Removes an object. Succeeds if it does not exist.
    pub(crate) async fn remove(&self, key: ObjectKey, now: UnixSeconds) -> Result<(), ObjectFailure> {
        match self {
            Self::Directory { files, .. } => files.remove(key).await?,
            Self::Bucket(bucket) => bucket.remove(key, now).await?,
        }
        Ok(())
    }
}
