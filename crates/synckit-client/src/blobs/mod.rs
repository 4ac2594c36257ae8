//! Files: sealed on this device, stored once per user, verified as a whole before any part is released.
//!
//! `hash` is the SHA-256 of the file, which the app knows. The server sees only a keyed hash of it (the blob id), so
//! nobody without the key can ask whether a known file exists. Memory stays constant whatever the size, except in
//! [`SyncKitClient::blob_upload`] and [`SyncKitClient::blob_download`], which take and return bytes. A file above 64 MiB is
//! uploaded in parts, of which two are in memory, and an upload that was cut goes on with the missing ones.

pub(crate) mod download;
pub(crate) mod movement;
mod partial;
mod parts;
mod seal;
mod unfinished;
pub(crate) mod upload;
pub(crate) mod urls;

use bytes::Bytes;
use http::Method;
use synckit_crypto::blob::BlobHash;
use synckit_protocol::{
    BlobId,
    wire::blobs::{BlobInfo, BlobList},
};

use self::{
    download::{BlobTarget, download_to_memory, get, get_named_by_hash},
    movement::BlobProgress,
    upload::{BlobSource, confirm_upload, put, upload},
    urls::{BlobUploadTicket, DownloadUrl, UploadUrl, WhenThere, download_url, upload_url},
};
use crate::{
    client::SyncKitClient,
    connection::call::Call,
    error::{Error, Result},
};

impl SyncKitClient {
    /// Asks whether a file must be uploaded, and for the permission to do so. `hash` is its SHA-256 ([`BlobHash::of`]), `size` its length in bytes.
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
        upload_url(&*self.stream()?, hash, size, WhenThere::Skip).await
    }

    /// Encrypts a file in memory and uploads it. Each attempt has a presigned URL and a nonce of its own; above 64 MiB, the next
    /// attempt goes on with the missing parts of the same file under the same nonce. Sends nothing if the server already has the
    /// file.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `data` is not the file of the URL.
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
                reason: "its hash or size is not that of the URL".to_owned(),
            });
        }
        upload(&*self.stream()?, url, BlobSource::from(data), &(|_| {})).await
    }

    /// Confirms an uploaded file, which makes it available. Idempotent.
    ///
    /// # Errors
    /// [`Error::Problem`] with `upload_incomplete` if the bytes have not arrived. Upload the file again; one above 64 MiB goes on
    /// with the missing parts, or from its beginning if the server has all of them and still refuses.
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
        let stream = self.stream()?;
        let url = UploadUrl::new(&stream, hash, size, WhenThere::Skip)?;
        confirm_upload(&stream, &url, stream.uploads.find(hash), None).await
    }

    /// Requests a URL for downloading a file.
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
        download_url(&*self.stream()?, self.blob_id(hash)?, Some(*hash)).await
    }

    /// Downloads and decrypts a file into memory. For large files use [`SyncKitClient::blob_get`].
    ///
    /// # Errors
    /// [`Tampering::BlobForged`](crate::Tampering::BlobForged) if it is not the requested file; nothing of it is
    /// returned.
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
        download_to_memory(&*self.stream()?, url).await
    }

    /// Encrypts and uploads a file, or an async stream, in constant memory, unless the server already has it; returns
    /// its hash. A stream is written to a private temporary file first, because the upload needs the hash. `progress`
    /// is called as bytes are sent; a retry starts from zero again, or from the part that failed. Use `|_| {}` for no progress.
    ///
    /// A file above 64 MiB goes in parts. If the upload is cut, or the app ends, call this again with the same file: it sends
    /// the parts that the server lacks, for up to 7 days.
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
    /// // Store the hash in the row that shows the photo.
    /// assert_eq!(client.blob_get(&hash, world.path("copy.jpg"), |_| {}).await?, 7);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_put(
        &self,
        source: impl Into<BlobSource>,
        progress: impl Fn(BlobProgress) + Send + Sync,
    ) -> Result<BlobHash> {
        put(&*self.stream()?, source.into(), WhenThere::Skip, &progress).await
    }

    /// Like [`SyncKitClient::blob_put`], but uploads even if the server claims to have the file: to replace an object
    /// that [`SyncKitClient::blob_get`] found damaged, from a device that still has the file.
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
    /// use synckit_client::{Error, Tampering};
    ///
    /// match client.blob_get(&hash, destination, |_| {}).await {
    ///     // The server's copy is damaged, and this device still has the file.
    ///     Err(Error::Tampering(Tampering::BlobForged { .. })) => {
    ///         client.blob_replace(b"a photo".to_vec(), |_| {}).await?;
    ///     }
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
        put(&*self.stream()?, source.into(), WhenThere::Replace, &progress).await
    }

    /// Downloads and decrypts a file in constant memory, to a path or into an async stream, and returns its size. The
    /// target receives nothing before the whole file is verified: a path appears whole, by rename; a stream is written
    /// after the last byte was verified. Until then the bytes are in a hidden file beside the path
    /// (`.<name>.<random>.synckit-part`). If the process is killed, the next download to the same path removes that
    /// file.
    ///
    /// # Errors
    /// [`Tampering::BlobForged`](crate::Tampering::BlobForged), [`Error::Io`], [`Error::Problem`] with `blob_not_found`.
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
        get(&*self.stream()?, &url, target.into(), &progress).await
    }

    /// Downloads and decrypts a file into a directory, by its id from [`SyncKitClient::blobs`]. The file appears whole
    /// and verified, and its name is its SHA-256. Returns that hash and the size in bytes. An app that knows its hashes
    /// needs [`SyncKitClient::blob_get`]; this call is for exporting every file.
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
        let stream = self.stream()?;
        let url = download_url(&stream, blob_id, None).await?;
        let hash = get_named_by_hash(&stream, &url, directory.into(), &progress).await?;
        Ok((hash, url.size_bytes()))
    }

    /// Deletes a file from the server; an upload within 30 days restores it. Only the app knows whether its rows still
    /// refer to the file.
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
    /// // Not too late: the upload sends no bytes.
    /// assert!(client.blob_upload_url(&hash, 7).await?.already_exists);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn blob_delete(&self, hash: &BlobHash) -> Result<()> {
        let stream = self.stream()?;
        let blob_id = stream.keys()?.ring.blob_id_key().blob_id(hash);
        stream
            .connection
            .authorized_unit(Call::new(Method::DELETE, format!("/api/sync/blobs/{blob_id}")))
            .await
    }

    /// The user's files on the server: keyed ids and sealed sizes, in order of the ids, after `after`.
    /// [`SyncKitClient::blob_id`] gives the id of a hash.
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
        let list: BlobList = self.stream()?.connection.authorized(Call::get(path)).await?.decode()?;
        Ok((list.blobs, list.has_more))
    }

    /// The server's id for a hash.
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
        Ok(self.stream()?.keys()?.ring.blob_id_key().blob_id(hash))
    }
}
