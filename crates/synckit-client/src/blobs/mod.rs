//! Files: sealed on this device, stored once per user, verified before anything of them is released.
//!
//! `hash` is the SHA-256 of the file, as the app knows it. The server sees a keyed hash of it (the blob id), so that
//! nobody without the key can ask whether a known file is there. Memory stays constant whatever the size, except in
//! [`SyncKitClient::blob_upload`] and [`SyncKitClient::blob_download`], which take and return bytes.

mod download;
mod partial;
mod seal;
mod upload;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use synckit_crypto::blob::BlobHash;
use synckit_protocol::{
    BlobId, KeyId, SecretText, UploadId, limits,
    wire::blobs::{BlobConfirm, BlobDownload, BlobDownloadAnswer, BlobInfo, BlobList, BlobUpload, BlobUploadAnswer},
};
use url::Url;

pub use self::{download::BlobTarget, upload::BlobSource};
use crate::{
    SyncKitClient,
    client::Inner,
    config::check_transport_security,
    connection::api::Call,
    error::{Error, Result},
};

/// How many uploads may be between `blob_upload_url` and `blob_confirm` before the oldest is forgotten. A forgotten one
/// is still confirmed, by its size.
const PENDING_UPLOADS_MAX: usize = 256;

/// How far a transfer has come, in bytes of the file.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use synckit_client::BlobProgress;
///
/// let percent = AtomicU64::new(0);
/// let show = |progress: BlobProgress| {
///     percent.store(progress.done_bytes * 100 / progress.total_bytes, Ordering::Relaxed);
/// };
/// client.blob_put(vec![7; 100_000], show).await?;
/// assert_eq!(percent.into_inner(), 100);
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobProgress {
    /// Bytes that were moved, in the attempt that is running.
    pub done_bytes: u64,
    /// Bytes of the file.
    pub total_bytes: u64,
}

/// What [`SyncKitClient::blob_upload_url`] answers.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// use synckit_client::BlobHash;
///
/// let photo = b"a photo";
/// let hash = BlobHash::of(photo);
/// let ticket = client.blob_upload_url(&hash, photo.len() as u64).await?;
/// assert!(!ticket.already_exists);
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BlobUploadTicket {
    /// Whether the file is on the server already. Then there is nothing to upload.
    pub already_exists: bool,
    /// Where to upload, for [`SyncKitClient::blob_upload`].
    pub upload_url: UploadUrl,
}

/// A presigned URL for one upload, with everything that the upload must agree with. Nothing is ever read back from the
/// text of the URL.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// use synckit_client::BlobHash;
///
/// let hash = BlobHash::of(b"a photo");
/// let ticket = client.blob_upload_url(&hash, 7).await?;
/// assert!(!format!("{:?}", ticket.upload_url).contains("http")); // a secret while it is valid
/// client.blob_upload(&ticket.upload_url, &b"a photo"[..]).await?;
/// # Ok(())
/// # });
/// ```
#[derive(Clone)]
pub struct UploadUrl {
    hash: BlobHash,
    blob_id: BlobId,
    size: u64,
    /// What a fresh URL for another attempt is asked for with.
    when_there: WhenThere,
    /// Absent if the file is on the server already.
    put: Option<PresignedPut>,
}

/// What to do with a file that the server has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenThere {
    /// Nothing is sent.
    Skip,
    /// Another object takes its place.
    Replace,
}

#[derive(Clone)]
struct PresignedPut {
    url: SecretText,
    headers: BTreeMap<String, String>,
    upload_id: UploadId,
}

impl fmt::Debug for UploadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A presigned URL is a secret for as long as it is valid.
        f.debug_struct("UploadUrl")
            .field("hash", &self.hash)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A presigned URL for one download, with everything that the download must agree with.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// let hash = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
/// let url = client.blob_download_url(&hash).await?;
/// assert_eq!(client.blob_download(&url).await?, b"a photo");
/// # Ok(())
/// # });
/// ```
#[derive(Clone)]
pub struct DownloadUrl {
    /// Absent where only the id is known, from the server's list.
    hash: Option<BlobHash>,
    blob_id: BlobId,
    key_id: KeyId,
    sealed_size: u64,
    url: SecretText,
}

impl DownloadUrl {
    /// The size of the file in bytes, as the server claims it; the download checks it.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// let hash = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
    /// assert_eq!(client.blob_download_url(&hash).await?.size_bytes(), 7);
    /// # Ok(())
    /// # });
    /// ```
    pub fn size_bytes(&self) -> u64 {
        self.sealed_size - limits::SEAL_OVERHEAD_BYTES as u64
    }
}

impl fmt::Debug for DownloadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadUrl")
            .field("hash", &self.hash)
            .field("size", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

/// Uploads that were begun on this client and not confirmed.
#[derive(Debug, Default)]
pub(crate) struct PendingUploads(VecDeque<(BlobHash, UploadId)>);

impl PendingUploads {
    fn insert(&mut self, hash: BlobHash, upload_id: UploadId) {
        self.0.retain(|(pending, _)| *pending != hash);
        if self.0.len() == PENDING_UPLOADS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((hash, upload_id));
    }

    fn find(&self, hash: &BlobHash) -> Option<UploadId> {
        self.0
            .iter()
            .find(|(pending, _)| pending == hash)
            .map(|(_, upload_id)| *upload_id)
    }

    fn remove(&mut self, hash: &BlobHash) {
        self.0.retain(|(pending, _)| pending != hash);
    }
}

impl SyncKitClient {
    /// Asks for a URL to upload a file to. `hash` is its SHA-256 ([`BlobHash::of`]), `size` its length in bytes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] above 500 MB.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// use synckit_client::BlobHash;
    ///
    /// let photo = b"a photo".to_vec();
    /// let (hash, size) = (BlobHash::of(&photo), photo.len() as u64);
    /// let ticket = client.blob_upload_url(&hash, size).await?;
    /// if !ticket.already_exists {
    ///     client.blob_upload(&ticket.upload_url, photo).await?;
    /// }
    /// client.blob_confirm(&hash, size).await?;
    /// assert!(client.blob_upload_url(&hash, size).await?.already_exists);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_upload_url(&self, hash: &BlobHash, size: u64) -> Result<BlobUploadTicket> {
        self.inner.upload_url(hash, size, WhenThere::Skip).await
    }

    /// Encrypts a file in memory and uploads it. A retry goes to a fresh URL under a fresh nonce. If the file was on the
    /// server already, nothing is sent.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `data` is not what the URL was asked for.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// use synckit_client::{BlobHash, Error};
    ///
    /// let ticket = client.blob_upload_url(&BlobHash::of(b"a photo"), 7).await?;
    /// let error = client.blob_upload(&ticket.upload_url, &b"another"[..]).await.unwrap_err();
    /// assert!(matches!(error, Error::InvalidArgument { .. })); // not the file that the URL is for
    /// client.blob_upload(&ticket.upload_url, &b"a photo"[..]).await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_upload(&self, url: &UploadUrl, data: impl Into<Bytes>) -> Result<()> {
        let data: Bytes = data.into();
        if data.len() as u64 != url.size || BlobHash::of(&data) != url.hash {
            return Err(Error::InvalidArgument {
                argument: "data",
                reason: "its hash or its size is not the one that the URL was asked for".to_owned(),
            });
        }
        self.inner
            .upload(url, BlobSource::from(data), &(|_| {}))
            .await
            .map(|_| ())
    }

    /// Makes an uploaded file count. Idempotent.
    ///
    /// # Errors
    /// [`Error::Problem`] with `upload_incomplete` if the bytes have not arrived.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// use synckit_client::{BlobHash, ProblemCode};
    ///
    /// let hash = BlobHash::of(b"a photo");
    /// let error = client.blob_confirm(&hash, 7).await.unwrap_err();
    /// assert_eq!(error.problem_code(), Some(ProblemCode::UploadIncomplete)); // nothing has arrived yet
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_confirm(&self, hash: &BlobHash, size: u64) -> Result<()> {
        let upload_id = self.inner.uploads.lock().find(hash);
        self.inner.confirm(hash, size, upload_id).await?;
        self.inner.uploads.lock().remove(hash);
        Ok(())
    }

    /// Asks for a URL to download a file from.
    ///
    /// # Errors
    /// [`Error::Problem`] with `blob_not_found`.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// use synckit_client::{BlobHash, ProblemCode};
    ///
    /// let error = client.blob_download_url(&BlobHash::of(b"never uploaded")).await.unwrap_err();
    /// assert_eq!(error.problem_code(), Some(ProblemCode::BlobNotFound));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_download_url(&self, hash: &BlobHash) -> Result<DownloadUrl> {
        self.inner.download_url(self.blob_id(hash)?, Some(*hash)).await
    }

    /// Downloads and decrypts a file into memory. For large files use [`SyncKitClient::blob_get`].
    ///
    /// # Errors
    /// [`Error::BlobForged`] if it is not the file that was asked for; nothing of it is returned.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// let hash = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
    /// let url = client.blob_download_url(&hash).await?;
    /// let photo = client.blob_download(&url).await?;
    /// assert_eq!(photo, b"a photo");
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_download(&self, url: &DownloadUrl) -> Result<Vec<u8>> {
        self.inner.download_to_memory(url).await
    }

    /// Encrypts and uploads a file, or an async stream, in constant memory, unless the server has it; returns its hash.
    /// A stream is written to a private temporary file first, because the hash must be known before the upload.
    /// `progress` is called as bytes leave; a retry starts from zero again. Use `|_| {}` for none.
    ///
    /// # Errors
    /// [`Error::FileChanged`] if the file changed while it was uploaded; [`Error::Io`]; [`Error::InvalidArgument`] above
    /// 500 MB.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// let photo = world.path("photo.jpg");
    /// # std::fs::write(&photo, b"a photo")?;
    /// let hash = client.blob_put(photo, |progress| println!("{} bytes", progress.done_bytes)).await?;
    /// // The hash belongs into the row that shows the photo.
    /// assert_eq!(client.blob_get(&hash, world.path("copy.jpg"), |_| {}).await?, 7);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_put(
        &self,
        source: impl Into<BlobSource>,
        progress: impl Fn(BlobProgress) + Send + Sync,
    ) -> Result<BlobHash> {
        self.inner.put(source.into(), WhenThere::Skip, &progress).await
    }

    /// As [`SyncKitClient::blob_put`], but uploads even if the server says that it has the file: to mend an object that
    /// [`SyncKitClient::blob_get`] found damaged, from a device that still has the file.
    ///
    /// # Errors
    /// As [`SyncKitClient::blob_put`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # let hash = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
    /// # let destination = world.path("photo.jpg");
    /// use synckit_client::Error;
    ///
    /// match client.blob_get(&hash, destination, |_| {}).await {
    ///     // The server's copy is damaged, and this device still has the file.
    ///     Err(Error::BlobForged { .. }) => drop(client.blob_replace(b"a photo".to_vec(), |_| {}).await?),
    ///     other => assert_eq!(other?, 7),
    /// }
    /// # assert_eq!(client.blob_replace(b"a photo".to_vec(), |_| {}).await?, hash);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_replace(
        &self,
        source: impl Into<BlobSource>,
        progress: impl Fn(BlobProgress) + Send + Sync,
    ) -> Result<BlobHash> {
        self.inner.put(source.into(), WhenThere::Replace, &progress).await
    }

    /// Downloads and decrypts a file in constant memory, to a path or into an async stream, and returns its size. The
    /// target sees nothing before everything was verified: a path appears whole, by rename; a stream is written after
    /// the last byte arrived and agreed. Until then the bytes are in a hidden file beside the path
    /// (`.<name>.<random>.synckit-part`), which the next download to the same path removes if the process was killed.
    ///
    /// # Errors
    /// [`Error::BlobForged`], [`Error::Io`], [`Error::Problem`] with `blob_not_found`.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # let hash = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
    /// let destination = world.path("photo.jpg");
    /// let size = client.blob_get(&hash, destination.as_path(), |_| {}).await?;
    /// assert_eq!(size, 7);
    /// assert_eq!(std::fs::read(destination)?, b"a photo"); // it appeared whole and verified
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_get(
        &self,
        hash: &BlobHash,
        target: impl Into<BlobTarget<'_>>,
        progress: impl Fn(BlobProgress) + Send + Sync,
    ) -> Result<u64> {
        let url = self.blob_download_url(hash).await?;
        self.inner.get(&url, target.into(), &progress).await
    }

    /// Downloads and decrypts a file of which only the id is known, from [`SyncKitClient::blobs`], into a directory, where
    /// it appears whole and verified, named by its SHA-256. Returns that hash and the size in bytes. An app that knows
    /// its hashes needs [`SyncKitClient::blob_get`]; this is for taking everything along.
    ///
    /// # Errors
    /// As [`SyncKitClient::blob_get`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # let directory = tempfile::tempdir()?;
    /// let photo = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
    /// let (listed, _) = client.blobs(None).await?;
    /// let (hash, size) = client.blob_get_by_id(listed[0].hash, directory.path(), |_| {}).await?;
    /// assert_eq!((hash, size), (photo, 7));
    /// assert_eq!(std::fs::read(directory.path().join(hash.to_string()))?, b"a photo");
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_get_by_id(
        &self,
        blob_id: BlobId,
        directory: impl Into<std::path::PathBuf>,
        progress: impl Fn(BlobProgress) + Send + Sync,
    ) -> Result<(BlobHash, u64)> {
        let url = self.inner.download_url(blob_id, None).await?;
        let hash = self.inner.get_named_by_hash(&url, directory.into(), &progress).await?;
        Ok((hash, url.size_bytes()))
    }

    /// Deletes a file from the server; an upload within 30 days brings it back. Only the app knows what still refers to
    /// it.
    ///
    /// # Errors
    /// [`Error::Problem`] with `blob_not_found`.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// let hash = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
    /// client.blob_delete(&hash).await?;
    /// assert!(client.blob_download_url(&hash).await.is_err());
    /// // Not too late: nothing is sent again.
    /// assert!(client.blob_upload_url(&hash, 7).await?.already_exists);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_delete(&self, hash: &BlobHash) -> Result<()> {
        let blob_id = self.inner.keys()?.ring.blob_id_key().blob_id(hash);
        self.inner
            .authorized_unit(Call::new(Method::DELETE, format!("/api/sync/blobs/{blob_id}")))
            .await
    }

    /// What the server holds of the user's files: keyed ids and sealed sizes, in order of the ids, after `after`.
    /// [`SyncKitClient::blob_id`] tells which id a hash has.
    ///
    /// # Errors
    /// Those of any call.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # for photo in [b"one", b"two"] {
    /// #     client.blob_put(photo.to_vec(), |_| {}).await?;
    /// # }
    /// let (mut after, mut stored_bytes) = (None, 0);
    /// loop {
    ///     let (blobs, has_more) = client.blobs(after).await?;
    ///     stored_bytes += blobs.iter().map(|blob| blob.size).sum::<u64>();
    ///     after = blobs.last().map(|blob| blob.hash);
    ///     if !has_more {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(stored_bytes, 2 * (3 + 40));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blobs(&self, after: Option<BlobId>) -> Result<(Vec<BlobInfo>, bool)> {
        let path = match after {
            None => "/api/sync/blobs".to_owned(),
            Some(after) => format!("/api/sync/blobs?after={after}"),
        };
        let list: BlobList = self.inner.authorized(Call::get(path)).await?.decode()?;
        Ok((list.blobs, list.has_more))
    }

    /// The id under which the server files a hash.
    ///
    /// # Errors
    /// [`Error::EncryptionNotSetUp`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// let hash = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
    /// let (blobs, _) = client.blobs(None).await?;
    /// assert_eq!(blobs[0].hash, client.blob_id(&hash)?);
    /// # Ok(())
    /// # });
    /// ```
    pub fn blob_id(&self, hash: &BlobHash) -> Result<BlobId> {
        Ok(self.inner.keys()?.ring.blob_id_key().blob_id(hash))
    }
}

impl Inner {
    async fn download_url(&self, blob_id: BlobId, hash: Option<BlobHash>) -> Result<DownloadUrl> {
        let answer: BlobDownloadAnswer = self
            .authorized(Call::post("/api/sync/blobs/download").body(&BlobDownload { hash: blob_id })?)
            .await?
            .decode()?;
        if !(limits::SEAL_OVERHEAD_BYTES as u64..=limits::BLOB_SEALED_BYTES_MAX).contains(&answer.size) {
            return Err(Error::Protocol {
                status: 200,
                reason: "a size that a sealed blob can have",
            });
        }
        check_presigned(&answer.download_url)?;
        Ok(DownloadUrl {
            hash,
            blob_id,
            key_id: answer.key_id,
            sealed_size: answer.size,
            url: SecretText::new(answer.download_url),
        })
    }

    async fn upload_url(&self, hash: &BlobHash, size: u64, when_there: WhenThere) -> Result<BlobUploadTicket> {
        if size > limits::BLOB_BYTES_MAX {
            return Err(Error::InvalidArgument {
                argument: "size",
                reason: format!("a file may have {} bytes, this one has {size}", limits::BLOB_BYTES_MAX),
            });
        }
        let keys = self.keys()?;
        let blob_id = keys.ring.blob_id_key().blob_id(hash);
        let request = BlobUpload {
            hash: blob_id,
            size: size + limits::SEAL_OVERHEAD_BYTES as u64,
            key_id: keys.current().key_id,
            replace: when_there == WhenThere::Replace,
        };
        let answer: BlobUploadAnswer = self
            .authorized(Call::post("/api/sync/blobs/upload").body(&request)?)
            .await?
            .decode()?;
        let put = match (answer.already_exists, answer.upload_url, answer.upload_id) {
            (true, _, _) => None,
            (false, Some(url), Some(upload_id)) => {
                check_presigned(&url)?;
                self.uploads.lock().insert(*hash, upload_id);
                Some(PresignedPut {
                    url: SecretText::new(url),
                    headers: answer.headers,
                    upload_id,
                })
            }
            _ => {
                return Err(Error::Protocol {
                    status: 200,
                    reason: "an upload URL and its id",
                });
            }
        };
        Ok(BlobUploadTicket {
            already_exists: answer.already_exists,
            upload_url: UploadUrl {
                hash: *hash,
                blob_id,
                size,
                when_there,
                put,
            },
        })
    }

    async fn confirm(&self, hash: &BlobHash, size: u64, upload_id: Option<UploadId>) -> Result<()> {
        let blob_id = self.keys()?.ring.blob_id_key().blob_id(hash);
        let request = BlobConfirm {
            hash: blob_id,
            size: size + limits::SEAL_OVERHEAD_BYTES as u64,
            upload_id,
        };
        self.authorized_unit(Call::post("/api/sync/blobs/confirm").body(&request)?)
            .await
    }
}

/// Refuses a presigned URL that would send sealed bytes, and the URL itself, in the clear over a network.
fn check_presigned(url: &str) -> Result<()> {
    let url = Url::parse(url).map_err(|_| Error::UnsafeUrl {
        reason: "it is not a URL",
    })?;
    check_transport_security(&url).map_err(|reason| Error::UnsafeUrl { reason })
}

/// Counts what moved, so that a transfer that stands still can be told from a slow one.
#[derive(Debug, Default)]
struct Movement(std::sync::atomic::AtomicU64);

impl Movement {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Waits for a transfer, and reports what moves, until it ends or nothing has moved for `idle`.
    async fn watch<T>(
        &self,
        idle: Duration,
        report: impl Fn(u64),
        transfer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        /// How often the caller hears of progress.
        const TICK: Duration = Duration::from_millis(50);
        tokio::pin!(transfer);
        let mut last = (self.total(), tokio::time::Instant::now());
        loop {
            match tokio::time::timeout(TICK, &mut transfer).await {
                Ok(result) => {
                    report(self.total());
                    return result;
                }
                Err(_) => {
                    let total = self.total();
                    if total != last.0 {
                        last = (total, tokio::time::Instant::now());
                        report(total);
                    } else if last.1.elapsed() >= idle {
                        return Err(Error::Network(crate::transport::TransportError::Timeout(idle)));
                    }
                }
            }
        }
    }
}
