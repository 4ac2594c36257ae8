//! Uploading in parts: each is sealed, sent and repeated by itself, and an upload that was cut goes on with the missing ones.
//!
//! The device notes key, nonce and upload id before the first part leaves it. The server tells which parts it has, each with
//! its hash; the device reads and seals the whole file again, and sends what differs.

use std::{collections::HashMap, io};

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use synckit_protocol::{
    Parts, ProblemCode, SealedHash, SealedHasher, UploadId,
    wire::blobs::{UploadPart, UploadStatus},
};

use super::{
    movement::BlobProgress,
    seal::{Measured, PartSealer, SealStop, Sealing},
    unfinished::{self, Unfinished},
    upload::{Rereadable, WhenHashed, hash_sealed, pause_or_fail, send},
    urls::{UploadAnswer, UploadUrl, WhenThere, no_upload_url, presigned_part, presigned_put},
};
use crate::{
    connection::call::Call,
    error::{Error, Result},
    runtime,
    stream::handle::Stream,
};

/// Bytes of a part that are handed to the connection at once.
const PIECE_BYTES: usize = 64 * 1024;
/// How often an upload is begun in one call: the server may end the first one while it is under way.
const BEGINNINGS_MAX: u32 = 2;

/// An upload that the server knows.
struct Begun {
    upload_id: UploadId,
    sealing: Sealing,
    /// The parts that the server has.
    there: HashMap<u32, SealedHash>,
}

/// Goes on with an upload, or begins one; returns it and the hash of the sealed file, or `None` if the server already has
/// the file.
pub(super) async fn upload_in_parts(
    stream: &Stream,
    url: &UploadUrl,
    source: &Rereadable,
    (measured, parts, when_hashed): (Measured, Parts, WhenHashed),
    progress: &(impl Fn(BlobProgress) + Send + Sync),
) -> Result<Option<(UploadId, SealedHash)>> {
    if (measured.hash, measured.size) != (url.hash, url.size) {
        return Err(Error::FileChanged);
    }
    for beginning in 1.. {
        let begun = match resume(stream, url, when_hashed).await? {
            Resumed::Done => return Ok(None),
            Resumed::From(begun) => Some(begun),
            Resumed::Nothing => begin(stream, url, source, when_hashed).await?,
        };
        let Some(begun) = begun else { return Ok(None) };
        let upload_id = begun.upload_id;
        match send_missing(stream, url, source, (&measured, parts), begun, progress).await {
            Ok(sealed_hash) => return Ok(Some((upload_id, sealed_hash))),
            Err(error) if error.is_problem(ProblemCode::UploadNotFound) && beginning < BEGINNINGS_MAX => {
                abandon(stream, upload_id).await?;
            }
            Err(error) => {
                if matches!(error, Error::FileChanged) {
                    // Nothing will ever go on with it.
                    abandon(stream, upload_id).await?;
                }
                return Err(error);
            }
        }
    }
    Ok(None)
}

enum Resumed {
    /// The server already has the file.
    Done,
    /// There is nothing to go on with.
    Nothing,
    From(Begun),
}

/// Finds the upload of this file that was cut, if it can go on.
async fn resume(stream: &Stream, url: &UploadUrl, when_hashed: WhenHashed) -> Result<Resumed> {
    let Some(found) = unfinished::find(stream, url.blob_id).await? else {
        return Ok(Resumed::Nothing);
    };
    let keys = stream.keys()?;
    let is_known_enough = found.names_hash || when_hashed == WhenHashed::AtConfirm;
    if keys.current().key_id != found.key_id || !is_known_enough {
        // A new file is sealed under the newest key only.
        abandon(stream, found.upload_id).await?;
        return Ok(Resumed::Nothing);
    }
    let status = match status(stream, found.upload_id).await {
        Ok(status) => status,
        Err(error) if error.is_problem(ProblemCode::UploadNotFound) => {
            // It has ended; or the bucket has lost it, and it counts all the same.
            abandon(stream, found.upload_id).await?;
            return Ok(Resumed::Nothing);
        }
        Err(error) => return Err(error),
    };
    if status.already_exists && url.when_there == WhenThere::Skip {
        abandon(stream, found.upload_id).await?;
        return Ok(Resumed::Done);
    }
    stream.uploads.insert(url.hash, found.upload_id);
    let there = status.parts.into_iter().map(|part| (part.number, part.sealed_hash));
    Ok(Resumed::From(Begun {
        upload_id: found.upload_id,
        sealing: Sealing::again(keys.current(), found.nonce),
        there: there.collect(),
    }))
}

/// Begins an upload under a fresh nonce, and notes it; `None` if the server already has the file.
async fn begin(
    stream: &Stream,
    url: &UploadUrl,
    source: &Rereadable,
    when_hashed: WhenHashed,
) -> Result<Option<Begun>> {
    let keys = stream.keys()?;
    let keys = keys.current();
    let mut sealing = Sealing::new(keys, &url.plan());
    let mut sealed_hash = None;
    if when_hashed == WhenHashed::First {
        let hash;
        (sealing, hash) = hash_sealed(sealing, url.plan(), source.clone()).await?;
        sealed_hash = Some(hash);
    }
    let upload_id = match presigned_put(stream, url, sealed_hash, keys.key_id).await? {
        UploadAnswer::AlreadyExists => return Ok(None),
        UploadAnswer::InParts(upload_id) => upload_id,
        UploadAnswer::HashFirst | UploadAnswer::Url(_) => return Err(no_upload_url()),
    };
    let new = Unfinished {
        blob_id: url.blob_id,
        key_id: keys.key_id,
        nonce: sealing.nonce(),
        upload_id,
        names_hash: sealed_hash.is_some(),
    };
    for forgotten in unfinished::note(stream, new).await? {
        // One that this client began may be under way.
        if !stream.uploads.has(forgotten.upload_id) {
            end(stream, forgotten.upload_id).await;
        }
    }
    Ok(Some(Begun {
        upload_id,
        sealing,
        there: HashMap::new(),
    }))
}

/// Seals the whole file, and sends the parts that the server lacks. Returns the hash of the sealed file.
async fn send_missing(
    stream: &Stream,
    url: &UploadUrl,
    source: &Rereadable,
    (measured, parts): (&Measured, Parts),
    begun: Begun,
    progress: &(impl Fn(BlobProgress) + Send + Sync),
) -> Result<SealedHash> {
    let (plan, source, measured) = (url.plan(), source.clone(), measured.clone());
    let Begun {
        upload_id,
        sealing,
        there,
    } = begun;
    let opened = runtime::blocking(move || {
        let file = source.open().map_err(SealStop::Io)?;
        Ok(PartSealer::new(&sealing, &plan, (measured, parts), file))
    });
    let mut next = Box::pin(sealed_next(opened.await?.map_err(stopped)?));
    let (mut hashes, mut done) = (Vec::new(), 0);
    let report = |done: u64| {
        progress(BlobProgress {
            done_bytes: done.min(url.size),
            total_bytes: url.size,
        });
    };
    loop {
        let (sealer, sealed) = next.await?;
        let Some((part, bytes)) = sealed.map_err(stopped)? else {
            return Ok(SealedHasher::of_parts(hashes));
        };
        // The next part is sealed while this one is sent: two are in memory, and no more.
        next = Box::pin(sealed_next(sealer));
        hashes.push(part.sealed_hash);
        if there.get(&part.number) != Some(&part.sealed_hash) {
            send_part(stream, upload_id, &part, &bytes, |moved| report(done + moved)).await?;
        }
        done += bytes.len() as u64;
        report(done);
    }
}

type SealedPart = Result<Option<(UploadPart, Bytes)>, SealStop>;

/// Begins to seal the next part, and resolves to it.
fn sealed_next(mut sealer: PartSealer) -> impl Future<Output = io::Result<(PartSealer, SealedPart)>> + Send {
    runtime::blocking(move || {
        let sealed = sealer.next_part().map(|part| {
            part.map(|(number, bytes)| {
                let sealed_hash = SealedHash::of(&bytes);
                (UploadPart { number, sealed_hash }, bytes)
            })
        });
        (sealer, sealed)
    })
}

/// Sends one part, again and again if need be: always the same bytes.
async fn send_part(
    stream: &Stream,
    upload_id: UploadId,
    part: &UploadPart,
    bytes: &Bytes,
    report: impl Fn(u64),
) -> Result<()> {
    for attempt in 0.. {
        let target = presigned_part(stream, upload_id, part).await?;
        let rest = bytes.clone();
        let pieces = stream::unfold(rest, |mut rest| async move {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            (!piece.is_empty()).then_some((Ok(piece), rest))
        });
        let body = (bytes.len() as u64, Box::pin(pieces) as _);
        match send(stream, &target, body, &report).await {
            Ok(()) => return Ok(()),
            Err(error) => pause_or_fail(stream, error, attempt).await?,
        }
    }
    Ok(())
}

/// Ends an unfinished upload, and forgets it.
async fn abandon(stream: &Stream, upload_id: UploadId) -> Result<()> {
    end(stream, upload_id).await;
    unfinished::forget(stream, upload_id).await
}

/// Ends the upload of a file that the server refused to confirm, if nothing can complete it: the server has every part, or
/// none any more. With parts missing, it goes on.
pub(super) async fn abandon_refused(stream: &Stream, url: &UploadUrl, parts: Parts) -> Result<()> {
    let Some(found) = unfinished::find(stream, url.blob_id).await? else {
        return Ok(());
    };
    let is_over = match status(stream, found.upload_id).await {
        Ok(status) => status.parts.len() as u64 >= parts.count(),
        Err(error) => error.is_problem(ProblemCode::UploadNotFound),
    };
    if is_over {
        abandon(stream, found.upload_id).await?;
    }
    Ok(())
}

/// Forgets the upload of a file that is stored now, and ends it if it was not the one that the server confirmed.
pub(super) async fn forget_confirmed(stream: &Stream, url: &UploadUrl, confirmed: Option<UploadId>) -> Result<()> {
    let Some(found) = unfinished::find(stream, url.blob_id).await? else {
        return Ok(());
    };
    if confirmed == Some(found.upload_id) {
        unfinished::forget(stream, found.upload_id).await
    } else {
        abandon(stream, found.upload_id).await
    }
}

/// What the server has of an upload.
async fn status(stream: &Stream, upload_id: UploadId) -> Result<UploadStatus> {
    let call = Call::get(format!("/api/sync/blobs/uploads/{upload_id}"));
    stream.connection.authorized(call).await?.decode()
}

/// If the server cannot be told, it ends the upload later by itself.
async fn end(stream: &Stream, upload_id: UploadId) {
    let call = Call::new(Method::DELETE, format!("/api/sync/blobs/uploads/{upload_id}"));
    if let Err(error) = stream.connection.authorized_unit(call).await {
        tracing::debug!(%error, "an unfinished upload is left to the server");
    }
}

/// The error of a file that could not be sealed.
fn stopped(stop: SealStop) -> Error {
    stop.error().unwrap_or(Error::FileChanged)
}
