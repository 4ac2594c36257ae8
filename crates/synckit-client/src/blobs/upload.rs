//! Uploading: hash, seal while sending, confirm. Where the server needs the hash of the sealed bytes first, a file is sealed
//! once more to know it. Large files go in parts (`parts.rs`).

use std::{
    fs::File,
    io::{self, Read, Seek as _, Write as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Method;
use synckit_crypto::blob::BlobHash;
use synckit_protocol::{ProblemCode, SealedHash, UploadId, limits};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::mpsc,
};

use super::{
    movement::{BlobProgress, Movement},
    parts::{abandon_refused, forget_confirmed, upload_in_parts},
    seal::{CHUNKS_WAITING, Measured, Plan, SealStop, Sealing},
    urls::{
        PresignedPut, UploadAnswer, UploadUrl, WhenThere, confirm, given_out_by, is_expired, no_upload_url,
        presigned_error, presigned_put, unsafe_url,
    },
};
use crate::{
    connection::{
        api::problem,
        retry::RETRIES_MAX,
        transport::{BodyStream, RequestBody, read_body},
    },
    error::{Error, Result},
    runtime,
    stream::handle::Stream,
};

/// The largest answer to a `PUT` from an object store.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The source of an upload.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// use synckit_client::BlobSource;
///
/// let from_memory = client.blob_put(b"a photo".to_vec(), |_| {}).await?;
/// let from_a_stream = client.blob_put(BlobSource::reader(&b"a photo"[..]), |_| {}).await?;
/// assert_eq!(from_memory, from_a_stream); // one file, stored once
/// # Ok(())
/// # });
/// ```
pub struct BlobSource(Origin);

enum Origin {
    Path(PathBuf),
    Memory(Bytes),
    Reader(Pin<Box<dyn AsyncRead + Send>>),
}

impl BlobSource {
    /// An async stream, read to its end.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # std::fs::write(world.path("photo.jpg"), b"a photo")?;
    /// use synckit_client::{BlobHash, BlobSource};
    ///
    /// let file = tokio::fs::File::open(world.path("photo.jpg")).await?;
    /// let hash = client.blob_put(BlobSource::reader(file), |_| {}).await?;
    /// assert_eq!(hash, BlobHash::of(b"a photo"));
    /// # Ok(())
    /// # });
    /// ```
    pub fn reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Self(Origin::Reader(Box::pin(reader)))
    }
}

impl std::fmt::Debug for BlobSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Origin::Path(_) => "BlobSource(path)",
            Origin::Memory(_) => "BlobSource(memory)",
            Origin::Reader(_) => "BlobSource(reader)",
        })
    }
}

impl From<PathBuf> for BlobSource {
    fn from(path: PathBuf) -> Self {
        Self(Origin::Path(path))
    }
}

impl From<&Path> for BlobSource {
    fn from(path: &Path) -> Self {
        Self(Origin::Path(path.to_owned()))
    }
}

impl From<&PathBuf> for BlobSource {
    fn from(path: &PathBuf) -> Self {
        Self(Origin::Path(path.clone()))
    }
}

impl From<Bytes> for BlobSource {
    fn from(bytes: Bytes) -> Self {
        Self(Origin::Memory(bytes))
    }
}

impl From<Vec<u8>> for BlobSource {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Origin::Memory(bytes.into()))
    }
}

/// A source that can be read again for every attempt.
#[derive(Clone)]
pub(super) enum Rereadable {
    Path(PathBuf),
    Memory(Bytes),
    /// A private file without a name.
    Spool(Arc<File>),
}

impl Rereadable {
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Path(path) => Box::new(File::open(path)?),
            Self::Memory(bytes) => Box::new(io::Cursor::new(bytes.clone())),
            Self::Spool(file) => {
                // The attempts run one after the other, so no other clone moves the shared position of the file.
                let mut file = file.try_clone()?;
                file.rewind()?;
                Box::new(file)
            }
        })
    }

    async fn measured(&self) -> Result<Measured> {
        let this = self.clone();
        Ok(runtime::blocking(move || this.open().and_then(Measured::read)).await??)
    }
}

pub(super) async fn put(
    stream: &Stream,
    source: BlobSource,
    when_there: WhenThere,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
) -> Result<BlobHash> {
    let source = rereadable(source).await?;
    let measured = source.measured().await?;
    let Measured { hash, size, .. } = measured;
    let url = UploadUrl::new(stream, &hash, size, when_there)?;
    let when_hashed = WhenHashed::AtConfirm;
    let uploaded = upload_measured(stream, &url, &source, (Some(measured), when_hashed), progress).await?;
    if let Some((upload_id, sealed_hash)) = uploaded {
        confirm_upload(stream, &url, Some(upload_id), Some(sealed_hash)).await?;
    }
    progress(BlobProgress {
        done_bytes: size,
        total_bytes: size,
    });
    Ok(hash)
}

pub(super) async fn upload(
    stream: &Stream,
    url: &UploadUrl,
    source: BlobSource,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
) -> Result<()> {
    let source = rereadable(source).await?;
    // The app confirms later, perhaps in another process, which does not know the hash.
    upload_measured(stream, url, &source, (None, WhenHashed::First), progress)
        .await
        .map(|_| ())
}

/// Confirms an upload, and forgets it. One in parts that can never be confirmed is ended: the next attempt begins again.
pub(super) async fn confirm_upload(
    stream: &Stream,
    url: &UploadUrl,
    upload_id: Option<UploadId>,
    sealed_hash: Option<SealedHash>,
) -> Result<()> {
    let confirmed = confirm(stream, &url.hash, url.size, upload_id, sealed_hash).await;
    let Some(parts) = url.parts() else {
        confirmed?;
        stream.uploads.remove(&url.hash);
        return Ok(());
    };
    match confirmed {
        Ok(()) => {
            stream.uploads.remove(&url.hash);
            forget_confirmed(stream, url, upload_id).await
        }
        Err(refused) if refused.is_problem(ProblemCode::UploadIncomplete) => {
            abandon_refused(stream, url, parts).await?;
            Err(refused)
        }
        Err(error) => Err(error),
    }
}

/// When the server is told the hash of the sealed bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenHashed {
    /// In the request for the URL, for which the file is sealed once more than to be sent.
    First,
    /// In the confirmation, unless the server needs it first.
    AtConfirm,
}

/// Uploads; returns the upload that arrived and its hash, or `None` if the server already has the file. A large file goes in
/// parts; only those read what was measured, and a source that was not measured yet is.
async fn upload_measured(
    stream: &Stream,
    url: &UploadUrl,
    source: &Rereadable,
    (measured, when_hashed): (Option<Measured>, WhenHashed),
    progress: &(impl Fn(BlobProgress) + Send + Sync),
) -> Result<Option<(UploadId, SealedHash)>> {
    if url.is_done() {
        return Ok(None);
    }
    let Some(parts) = url.parts() else {
        return upload_whole(stream, url, source, when_hashed, progress).await;
    };
    let measured = match measured {
        Some(measured) => measured,
        None => source.measured().await?,
    };
    upload_in_parts(stream, url, source, (measured, parts, when_hashed), progress).await
}

/// Each attempt has a fresh nonce and a fresh URL.
async fn upload_whole(
    stream: &Stream,
    url: &UploadUrl,
    source: &Rereadable,
    mut when_hashed: WhenHashed,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
) -> Result<Option<(UploadId, SealedHash)>> {
    let plan = url.plan();
    for attempt in 0.. {
        let keys = Arc::clone(stream.keys()?.current());
        let mut sealing = Sealing::new(&keys, &plan);
        let mut answer = match when_hashed {
            WhenHashed::First => UploadAnswer::HashFirst,
            WhenHashed::AtConfirm => presigned_put(stream, url, None, keys.key_id).await?,
        };
        if matches!(answer, UploadAnswer::HashFirst) {
            when_hashed = WhenHashed::First;
            let sealed_hash;
            (sealing, sealed_hash) = hash_sealed(sealing, plan, source.clone()).await?;
            answer = presigned_put(stream, url, Some(sealed_hash), keys.key_id).await?;
        }
        let target = match answer {
            UploadAnswer::AlreadyExists => return Ok(None),
            UploadAnswer::HashFirst | UploadAnswer::InParts(_) => return Err(no_upload_url()),
            UploadAnswer::Url(target) => target,
        };
        let error = match put_once(stream, (plan, sealing), &target, source, progress).await {
            Ok(sealed_hash) => return Ok(Some((target.upload_id, sealed_hash))),
            Err(error) => error,
        };
        pause_or_fail(stream, error, attempt).await?;
    }
    Ok(None)
}

/// Waits until another attempt at a presigned URL may succeed; fails if none will.
pub(super) async fn pause_or_fail(stream: &Stream, error: Error, attempt: u32) -> Result<()> {
    let wait = if is_expired(&error) && attempt < RETRIES_MAX {
        Some(Duration::ZERO)
    } else {
        stream.connection.api().jitter.wait_after(&error, attempt)
    };
    let Some(wait) = wait else { return Err(error) };
    runtime::sleep(wait).await;
    Ok(())
}

/// Seals only for the hash.
pub(super) async fn hash_sealed(sealing: Sealing, plan: Plan, source: Rereadable) -> Result<(Sealing, SealedHash)> {
    let hashed = runtime::blocking(move || {
        let file = source.open().map_err(SealStop::Io)?;
        sealing.hash(&plan, file).map(|hash| (sealing, hash))
    });
    hashed.await?.map_err(|stop| stop.error().unwrap_or(Error::FileChanged))
}

/// Sends the sealed bytes, and returns their hash.
async fn put_once(
    stream: &Stream,
    (plan, sealing): (Plan, Sealing),
    target: &PresignedPut,
    source: &Rereadable,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
) -> Result<SealedHash> {
    let stop = Arc::new(OnceLock::new());
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let (file, stopped) = (source.clone(), Arc::clone(&stop));
    let sealed = runtime::blocking(move || {
        let sealed = file
            .open()
            .map_err(SealStop::Io)
            .and_then(|file| sealing.send(&plan, file, &sender));
        sealed
            .map_err(|reason| {
                let _ = stopped.set(reason);
                // Aborts the request: the server must not accept a truncated body as a whole one.
                let _ = sender.blocking_send(Err(io::Error::other("the upload was stopped")));
            })
            .ok()
    });
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let report = |moved: u64| {
        progress(BlobProgress {
            done_bytes: moved.min(plan.size),
            total_bytes: plan.size,
        });
    };
    let length = plan.size + limits::SEAL_OVERHEAD_BYTES as u64;
    let result = send(stream, target, (length, Box::pin(chunks)), report).await;
    // No join on a failure: the thread ends as soon as it finds nobody to take its pieces.
    result.map_err(|error| stop.get().and_then(SealStop::error).unwrap_or(error))?;
    match runtime::timeout(stream.connection.api().request_timeout, sealed).await {
        Some(Ok(Some(sealed_hash))) => Ok(sealed_hash),
        _ => Err(Error::Protocol {
            status: 200,
            reason: "success after the last byte of an upload",
        }),
    }
}

/// Sends a body to a presigned URL, as long as it moves.
pub(super) async fn send(
    stream: &Stream,
    target: &PresignedPut,
    (length, chunks): (u64, BodyStream<io::Error>),
    report: impl Fn(u64),
) -> Result<()> {
    let movement = Arc::new(Movement::default());
    let moved = Arc::clone(&movement);
    let chunks = chunks.inspect(move |chunk| moved.add(chunk.as_ref().map_or(0, Bytes::len)));
    let mut request = http::Request::builder()
        .method(Method::PUT)
        .uri(target.url.expose())
        .extension(given_out_by(stream)?);
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(RequestBody::Stream {
            length,
            chunks: Box::pin(chunks),
        })
        .map_err(|_| unsafe_url("it is not a valid URL"))?;
    let api = stream.connection.api();
    let exchange = async {
        let response = api.transport()?.send(request).await.map_err(presigned_error)?;
        let status = response.status();
        let body = read_body(response.into_body(), ANSWER_BYTES_MAX, api.request_timeout)
            .await
            .map_err(Error::Network)?;
        check_put_answer(status.as_u16(), &body)
    };
    movement.watch(api.request_timeout, report, exchange).await
}

/// Whether an object store accepted the object. Our own store answers with problems, others with their own documents.
fn check_put_answer(status: u16, body: &[u8]) -> Result<()> {
    // Stores answer with various success statuses, but never with a page, as a proxy or a captive portal does.
    if (200..300).contains(&status) && body.is_empty() {
        return Ok(());
    }
    match problem(status, body) {
        // An earlier attempt at this URL has already stored the whole object.
        Some(problem) if problem.known_code() == Some(ProblemCode::ObjectExists) => Ok(()),
        Some(problem) => Err(Error::from_problem(problem)),
        None => Err(Error::Protocol {
            status,
            reason: "success at the presigned URL",
        }),
    }
}

/// Makes a source that can be read again, by writing a stream to a private temporary file.
async fn rereadable(source: BlobSource) -> Result<Rereadable> {
    let mut reader = match source.0 {
        Origin::Path(path) => return Ok(Rereadable::Path(path)),
        Origin::Memory(bytes) => return Ok(Rereadable::Memory(bytes)),
        Origin::Reader(reader) => reader,
    };
    let mut file = runtime::blocking(tempfile::tempfile).await??;
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return Ok(Rereadable::Spool(Arc::new(file)));
        }
        size += length as u64;
        if size > limits::BLOB_BYTES_MAX {
            return Err(Error::InvalidArgument {
                argument: "source",
                reason: format!("a file may have at most {} bytes", limits::BLOB_BYTES_MAX),
            });
        }
        (file, buffer) =
            runtime::blocking(move || file.write_all(&buffer[..length]).map(|()| (file, buffer))).await??;
    }
}
