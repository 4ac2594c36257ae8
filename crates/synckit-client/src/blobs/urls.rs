//! Presigned URLs: requested, checked, and confirmed.

use std::{collections::BTreeMap, fmt};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use synckit_crypto::blob::BlobHash;
use synckit_protocol::{
    BlobId, KeyId, Parts, ProblemCode, SealedHash, SecretText, UploadId, limits,
    wire::blobs::{
        BlobConfirm, BlobDownload, BlobDownloadAnswer, BlobUpload, BlobUploadAnswer, UploadPart, UploadPartAnswer,
    },
};
use url::Url;

use super::seal::Plan;
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

/// Permission for the upload of one file, with its hash and size. [`crate::SyncKitClient::blob_upload`] requests the
/// presigned URL itself, because that URL is for the sealed bytes of one attempt.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// use synckit_client::BlobHash;
///
/// let hash = BlobHash::of(b"a photo");
/// let ticket = client.blob_upload_url(&hash, 7).await?;
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
    /// Whether the server already has the file.
    already_exists: bool,
}

/// How to treat a file that the server already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenThere {
    /// Send nothing.
    Skip,
    /// Replace it with a new object.
    Replace,
}

pub(super) struct PresignedPut {
    pub(super) url: SecretText,
    pub(super) headers: HeaderMap,
    pub(super) upload_id: UploadId,
}

impl UploadUrl {
    /// For a file that is uploaded now.
    pub(super) fn new(stream: &Stream, hash: &BlobHash, size: u64, when_there: WhenThere) -> Result<Self> {
        sealed_size(size)?;
        Ok(Self {
            hash: *hash,
            blob_id: stream.keys()?.ring.blob_id_key().blob_id(hash),
            size,
            when_there,
            already_exists: false,
        })
    }

    /// The file to seal.
    pub(super) fn plan(&self) -> Plan {
        Plan {
            hash: self.hash,
            blob_id: self.blob_id,
            size: self.size,
        }
    }

    /// The parts of a large file.
    pub(super) fn parts(&self) -> Option<Parts> {
        Parts::of(self.size + limits::SEAL_OVERHEAD_BYTES as u64)
    }

    /// Whether the file need not be uploaded.
    pub(super) fn is_done(&self) -> bool {
        self.already_exists
    }
}

impl fmt::Debug for UploadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        // A presigned URL is a secret for as long as it is valid.
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

/// Asks whether a file must be uploaded.
pub(super) async fn upload_url(
    stream: &Stream,
    hash: &BlobHash,
    size: u64,
    when_there: WhenThere,
) -> Result<BlobUploadTicket> {
    let mut upload_url = UploadUrl::new(stream, hash, size, when_there)?;
    let key_id = stream.keys()?.current().key_id;
    let answer = request_upload(stream, &upload_url, (None, false), key_id).await?;
    upload_url.already_exists = answer.already_exists;
    Ok(BlobUploadTicket {
        already_exists: answer.already_exists,
        upload_url,
    })
}

/// The answer to a request for an upload URL.
pub(super) enum UploadAnswer {
    /// The server already has the file.
    AlreadyExists,
    /// A URL needs the hash of the sealed bytes.
    HashFirst,
    /// The server takes the file in parts.
    InParts(UploadId),
    Url(PresignedPut),
}

/// Requests a URL for the sealed bytes of one attempt. Without their hash, the confirmation names it.
pub(super) async fn presigned_put(
    stream: &Stream,
    url: &UploadUrl,
    sealed_hash: Option<SealedHash>,
    key_id: KeyId,
) -> Result<UploadAnswer> {
    let hash_at_confirm = sealed_hash.is_none();
    let answer = request_upload(stream, url, (sealed_hash, hash_at_confirm), key_id).await?;
    match (answer.already_exists, answer.upload_url, answer.upload_id) {
        (true, _, _) => Ok(UploadAnswer::AlreadyExists),
        (false, Some(put_url), Some(upload_id)) => {
            check_presigned(stream, &put_url)?;
            let headers = signed_headers(&answer.headers)?;
            stream.uploads.insert(url.hash, upload_id);
            Ok(UploadAnswer::Url(PresignedPut {
                url: SecretText::new(put_url),
                headers,
                upload_id,
            }))
        }
        (false, None, Some(upload_id)) => {
            stream.uploads.insert(url.hash, upload_id);
            Ok(UploadAnswer::InParts(upload_id))
        }
        (false, None, None) if hash_at_confirm => Ok(UploadAnswer::HashFirst),
        _ => Err(no_upload_url()),
    }
}

/// Requests a URL for one part of an upload.
pub(super) async fn presigned_part(stream: &Stream, upload_id: UploadId, part: &UploadPart) -> Result<PresignedPut> {
    let path = format!("/api/sync/blobs/uploads/{upload_id}/parts");
    let answer: UploadPartAnswer = stream
        .connection
        .authorized(Call::post(path).body(part)?)
        .await?
        .decode()?;
    check_presigned(stream, &answer.upload_url)?;
    Ok(PresignedPut {
        url: SecretText::new(answer.upload_url),
        headers: signed_headers(&answer.headers)?,
        upload_id,
    })
}

/// The error of an answer that should have brought a URL.
pub(super) fn no_upload_url() -> Error {
    Error::Protocol {
        status: 200,
        reason: "an upload URL and its id",
    }
}

async fn request_upload(
    stream: &Stream,
    url: &UploadUrl,
    (sealed_hash, hash_at_confirm): (Option<SealedHash>, bool),
    key_id: KeyId,
) -> Result<BlobUploadAnswer> {
    let request = BlobUpload {
        hash: url.blob_id,
        size: sealed_size(url.size)?,
        sealed_hash,
        hash_at_confirm,
        key_id,
        replace: url.when_there == WhenThere::Replace,
    };
    stream
        .connection
        .authorized(Call::post("/api/sync/blobs/upload").body(&request)?)
        .await?
        .decode()
}

/// Confirms an uploaded object.
pub(super) async fn confirm(
    stream: &Stream,
    hash: &BlobHash,
    size: u64,
    upload_id: Option<UploadId>,
    sealed_hash: Option<SealedHash>,
) -> Result<()> {
    let sealed_size = sealed_size(size)?;
    let blob_id = stream.keys()?.ring.blob_id_key().blob_id(hash);
    let request = BlobConfirm {
        hash: blob_id,
        size: sealed_size,
        upload_id,
        sealed_hash,
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

/// Whether a fresh URL may help. Stores of others refuse an expired URL with 403 and a document of their own.
pub(super) fn is_expired(error: &Error) -> bool {
    error.is_problem(ProblemCode::UrlExpired) || matches!(error, Error::Protocol { status: 403, .. })
}

pub(super) fn unsafe_url(reason: &'static str) -> Error {
    Error::Tampering(Tampering::UnsafeUrl { reason })
}
