//! Downloading: opened while it arrives, released after every check passed.

use std::{
    fs::File,
    io::{self, Seek as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use synckit_crypto::blob::BlobHash;
use synckit_protocol::limits;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use super::{
    movement::{BlobProgress, Movement},
    partial::PartialFile,
    seal::{CHUNKS_WAITING, open_into},
    urls::{DownloadUrl, download_url, given_out_by, is_expired, presigned_error, unsafe_url},
};
use crate::{
    connection::{
        api::problem,
        retry::RETRIES_MAX,
        transport::{RequestBody, read_body},
    },
    error::{Error, Result},
    runtime,
    stream::handle::Stream,
    tampering::Tampering,
};

/// The most bytes of an error document that an object store sends in place of an object.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

/// The most memory reserved for a download before any of it has arrived.
const TRUSTED_ROOM_BYTES: usize = 1024 * 1024;

/// The destination of a download.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// use synckit_client::BlobTarget;
///
/// # let hash = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
/// let mut decoder = Vec::new(); // anything that is AsyncWrite
/// client.blob_get(&hash, BlobTarget::writer(&mut decoder), |_| {}).await?;
/// assert_eq!(decoder, b"a photo");
/// # Ok(())
/// # });
/// ```
pub struct BlobTarget<'a>(Destination<'a>);

enum Destination<'a> {
    Path(PathBuf),
    Writer(Pin<Box<dyn AsyncWrite + Send + 'a>>),
}

impl<'a> BlobTarget<'a> {
    /// An async stream, written after every check passed, and flushed.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// use synckit_client::BlobTarget;
    ///
    /// # let hash = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
    /// let file = tokio::fs::File::create(world.path("photo.jpg")).await?;
    /// client.blob_get(&hash, BlobTarget::writer(file), |_| {}).await?;
    /// assert_eq!(std::fs::read(world.path("photo.jpg"))?, b"a photo");
    /// # Ok(())
    /// # });
    /// ```
    pub fn writer(writer: impl AsyncWrite + Send + 'a) -> Self {
        Self(Destination::Writer(Box::pin(writer)))
    }
}

impl std::fmt::Debug for BlobTarget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Destination::Path(_) => "BlobTarget(path)",
            Destination::Writer(_) => "BlobTarget(writer)",
        })
    }
}

impl From<PathBuf> for BlobTarget<'_> {
    fn from(path: PathBuf) -> Self {
        Self(Destination::Path(path))
    }
}

impl From<&Path> for BlobTarget<'_> {
    fn from(path: &Path) -> Self {
        Self(Destination::Path(path.to_owned()))
    }
}

impl From<&PathBuf> for BlobTarget<'_> {
    fn from(path: &PathBuf) -> Self {
        Self(Destination::Path(path.clone()))
    }
}

pub(super) async fn download_to_memory(stream: &Stream, url: &DownloadUrl) -> Result<Vec<u8>> {
    // Until the bytes arrive, the size is only the server's claim, which must not cost 500 MB of memory.
    let room = usize::try_from(url.size_bytes()).map_or(0, |size| size.min(TRUSTED_ROOM_BYTES));
    let (bytes, _) = download(stream, url, &|_| {}, move || Ok(Vec::with_capacity(room))).await?;
    Ok(bytes)
}

pub(super) async fn get(
    stream: &Stream,
    url: &DownloadUrl,
    target: BlobTarget<'_>,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
) -> Result<u64> {
    match target.0 {
        Destination::Path(path) => {
            let (file, _) = download_beside(stream, url, progress, path.clone()).await?;
            runtime::blocking(move || file.publish(&path)).await??;
        }
        Destination::Writer(mut writer) => {
            let (mut file, _): (File, _) = download(stream, url, progress, tempfile::tempfile).await?;
            file.rewind()?;
            tokio::io::copy(&mut tokio::fs::File::from_std(file), &mut writer).await?;
            writer.flush().await?;
        }
    }
    Ok(url.size_bytes())
}

/// Downloads a file into a directory, under its hash.
pub(super) async fn get_named_by_hash(
    stream: &Stream,
    url: &DownloadUrl,
    directory: PathBuf,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
) -> Result<BlobHash> {
    // The name is known only after the last byte.
    let (file, hash) = download_beside(stream, url, progress, directory.join("download")).await?;
    runtime::blocking(move || file.publish(&directory.join(hash.to_string()))).await??;
    Ok(hash)
}

/// Downloads into a file beside the result.
async fn download_beside(
    stream: &Stream,
    url: &DownloadUrl,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
    target: PathBuf,
) -> Result<(PartialFile, BlobHash)> {
    download(stream, url, progress, move || PartialFile::create(&target)).await
}

/// Downloads into a destination that `create` makes for each attempt, and returns it verified.
async fn download<W, C>(
    stream: &Stream,
    url: &DownloadUrl,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
    create: C,
) -> Result<(W, BlobHash)>
where
    W: io::Write + Send + 'static,
    C: Fn() -> io::Result<W> + Send + Sync + 'static,
{
    let create = Arc::new(create);
    let mut url = url.clone();
    for attempt in 0.. {
        let error = match download_once(stream, &url, progress, Arc::clone(&create)).await {
            Ok(out) => return Ok(out),
            Err(error) => error,
        };
        let has_expired = is_expired(&error);
        let wait = if has_expired && attempt < RETRIES_MAX {
            Some(Duration::ZERO)
        } else {
            stream.connection.api().jitter.wait_after(&error, attempt)
        };
        let Some(wait) = wait else { return Err(error) };
        runtime::sleep(wait).await;
        if has_expired {
            // The machine slept between the two requests, or the URL expired during the download.
            url = download_url(stream, url.blob_id, url.hash).await?;
        }
    }
    Err(Error::Tampering(Tampering::BlobForged {
        reason: "its bytes never arrived",
    }))
}

async fn download_once<W, C>(
    stream: &Stream,
    url: &DownloadUrl,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
    create: Arc<C>,
) -> Result<(W, BlobHash)>
where
    W: io::Write + Send + 'static,
    C: Fn() -> io::Result<W> + Send + Sync + 'static,
{
    let all_keys = stream.keys()?;
    let Some(keys) = all_keys.find(&url.key_id) else {
        let forged = Error::Tampering(Tampering::BlobForged {
            reason: "no device of this user ever had its key",
        });
        return Err(stream.unknown_key(&all_keys, Some(forged)).await);
    };
    let keys = Arc::clone(keys);
    let (blob_id, size) = (url.blob_id, url.size_bytes());
    let request = http::Request::get(url.url.expose())
        .extension(given_out_by(stream)?)
        .body(RequestBody::Empty)
        .map_err(|_| unsafe_url("it is not a valid URL"))?;
    let api = stream.connection.api();
    let movement = Movement::default();
    let transfer = async {
        let response = api.transport()?.send(request).await.map_err(presigned_error)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        if status != 200 {
            let body = read_body(body, PROBLEM_BYTES_MAX, api.request_timeout)
                .await
                .map_err(Error::Network)?;
            return Err(match problem(status, &body) {
                Some(problem) => Error::from_problem(problem),
                None => Error::Protocol {
                    status,
                    reason: "the object of the presigned URL",
                },
            });
        }
        let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
        let opening = runtime::blocking(move || {
            let mut out = create()?;
            let hash = open_into(&keys, &blob_id, size, &mut receiver, &mut out)?;
            Ok((out, hash))
        });
        let receiving = async {
            while let Some(chunk) = body.next().await.transpose().map_err(Error::Network)? {
                movement.add(chunk.len());
                // The receiver ended with an error of its own, which its caller reports.
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
            drop(sender);
            Ok(())
        };
        let (received, opened): (Result<()>, io::Result<Result<(W, BlobHash)>>) = tokio::join!(receiving, opening);
        // A broken connection truncates the object; report the connection, which is the cause.
        received?;
        let (out, hash) = opened??;
        let is_asked_for = url.hash.is_none_or(|wanted| wanted == hash);
        // A device of this user always seals a file under the id of its hash.
        if !is_asked_for || all_keys.ring.blob_id_key().blob_id(&hash) != blob_id {
            return Err(Error::Tampering(Tampering::BlobForged {
                reason: "it is not the requested file",
            }));
        }
        Ok((out, hash))
    };
    let overhead = limits::SEAL_OVERHEAD_BYTES as u64;
    let report = |moved: u64| {
        let done_bytes = moved.saturating_sub(overhead).min(url.size_bytes());
        progress(BlobProgress {
            done_bytes,
            total_bytes: url.size_bytes(),
        });
    };
    movement.watch(api.request_timeout, report, transfer).await
}
