//! Presigned URLs: requested, checked, and confirmed.

use std::{collections::BTreeMap, fmt};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use synckit_crypto::blob::BlobHash;
use synckit_protocol::{
    BlobId, KeyId, SecretText, UploadId, limits,
    wire::blobs::{BlobConfirm, BlobDownload, BlobDownloadAnswer, BlobUpload, BlobUploadAnswer},
};
use url::Url;

use crate::{
    connection::{
        call::Call,
        transport::{GivenOutBy, TransportError},
    },
    error::{Error, Result},
    stream::handle::Stream,
    tampering::Tampering,
};

/// The answer of [`crate::SyncKitClient::blob_upload_url`].
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
    /// Whether the server already has the file. Then no upload is needed.
    pub already_exists: bool,
    /// The URL for [`crate::SyncKitClient::blob_upload`].
    pub upload_url: UploadUrl,
}

/// A presigned URL for one upload, with the expected hash and size. The text of the URL is never parsed for them.
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
    pub(super) hash: BlobHash,
    pub(super) blob_id: BlobId,
    pub(super) size: u64,
    /// Whether a retry with a fresh URL replaces an existing file.
    pub(super) when_there: WhenThere,
    /// Absent if the server already has the file.
    pub(super) put: Option<PresignedPut>,
}

/// How to treat a file that the server already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenThere {
    /// Send nothing.
    Skip,
    /// Replace it with a new object.
    Replace,
}

#[derive(Clone)]
pub(super) struct PresignedPut {
    pub(super) url: SecretText,
    pub(super) headers: HeaderMap,
    pub(super) upload_id: UploadId,
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

/// A presigned URL for one download, with the expected id, hash and size.
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
    /// Absent if only the id is known, from the server's list.
    pub(super) hash: Option<BlobHash>,
    pub(super) blob_id: BlobId,
    pub(super) key_id: KeyId,
    pub(super) sealed_size: u64,
    pub(super) url: SecretText,
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

/// Requests a URL for a download. `hash` is absent if only the id is known.
pub(super) async fn download_url(stream: &Stream, blob_id: BlobId, hash: Option<BlobHash>) -> Result<DownloadUrl> {
    let answer: BlobDownloadAnswer = stream
        .connection
        .authorized(Call::post("/api/sync/blobs/download").body(&BlobDownload { hash: blob_id })?)
        .await?
        .decode()?;
    if !(limits::SEAL_OVERHEAD_BYTES as u64..=limits::BLOB_SEALED_BYTES_MAX).contains(&answer.size) {
        return Err(Error::Protocol {
            status: 200,
            reason: "a size that a sealed blob can have",
        });
    }
    check_presigned(stream, &answer.download_url)?;
    Ok(DownloadUrl {
        hash,
        blob_id,
        key_id: answer.key_id,
        sealed_size: answer.size,
        url: SecretText::new(answer.download_url),
    })
}

/// Requests a URL for an upload.
pub(super) async fn upload_url(
    stream: &Stream,
    hash: &BlobHash,
    size: u64,
    when_there: WhenThere,
) -> Result<BlobUploadTicket> {
    let sealed_size = sealed_size(size)?;
    let keys = stream.keys()?;
    let blob_id = keys.ring.blob_id_key().blob_id(hash);
    let request = BlobUpload {
        hash: blob_id,
        size: sealed_size,
        key_id: keys.current().key_id,
        replace: when_there == WhenThere::Replace,
    };
    let answer: BlobUploadAnswer = stream
        .connection
        .authorized(Call::post("/api/sync/blobs/upload").body(&request)?)
        .await?
        .decode()?;
    let put = match (answer.already_exists, answer.upload_url, answer.upload_id) {
        (true, _, _) => None,
        (false, Some(url), Some(upload_id)) => {
            check_presigned(stream, &url)?;
            let headers = signed_headers(&answer.headers)?;
            stream.uploads.insert(*hash, upload_id);
            Some(PresignedPut {
                url: SecretText::new(url),
                headers,
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

/// Confirms an uploaded object.
pub(super) async fn confirm(stream: &Stream, hash: &BlobHash, size: u64, upload_id: Option<UploadId>) -> Result<()> {
    let sealed_size = sealed_size(size)?;
    let blob_id = stream.keys()?.ring.blob_id_key().blob_id(hash);
    let request = BlobConfirm {
        hash: blob_id,
        size: sealed_size,
        upload_id,
    };
    stream
        .connection
        .authorized_unit(Call::post("/api/sync/blobs/confirm").body(&request)?)
        .await
}

/// The size of a file once it is sealed.
fn sealed_size(size: u64) -> Result<u64> {
    if size > limits::BLOB_BYTES_MAX {
        return Err(Error::InvalidArgument {
            argument: "size",
            reason: format!(
                "a file may have at most {} bytes, this one has {size}",
                limits::BLOB_BYTES_MAX
            ),
        });
    }
    Ok(size + limits::SEAL_OVERHEAD_BYTES as u64)
}

/// Refuses a presigned URL that would send sealed bytes, and the URL itself, unencrypted over a network, or lead to
/// addresses that are nearer than the server.
fn check_presigned(stream: &Stream, url: &str) -> Result<()> {
    let url = Url::parse(url).map_err(|_| unsafe_url("it is not a URL"))?;
    let server = stream.connection.api().server()?;
    server.check_given_out(&url).map_err(unsafe_url)
}

/// The headers that an upload must contain, because the object store's signature covers them. All others are refused: with
/// them a hostile server could send a request of its choice to a host of its choice.
fn signed_headers(named: &BTreeMap<String, String>) -> Result<HeaderMap> {
    const PREFIXES: [&str; 3] = ["x-amz-", "x-goog-", "x-ms-"];
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            return Err(unsafe_url("it comes with an invalid header"));
        };
        if name == header::CONTENT_LENGTH {
            // The transport sets the length of the body that it sends.
            continue;
        }
        let is_signed = name == header::CONTENT_TYPE
            || name == header::IF_NONE_MATCH
            || name == "content-md5"
            || PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
        if !is_signed {
            return Err(unsafe_url("it comes with a header that no object store signs"));
        }
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Marks a request to a presigned URL with the server that issued the URL.
pub(super) fn given_out_by(stream: &Stream) -> Result<GivenOutBy> {
    Ok(GivenOutBy(stream.connection.api().server()?.parsed().clone()))
}

/// The error of a failed request to a presigned URL.
pub(super) fn presigned_error(error: TransportError) -> Error {
    match error {
        TransportError::OutOfReach => {
            unsafe_url("it leads to this machine or into a local network, where the server itself is not")
        }
        error => Error::Network(error),
    }
}

pub(super) fn unsafe_url(reason: &'static str) -> Error {
    Error::Tampering(Tampering::UnsafeUrl { reason })
}
