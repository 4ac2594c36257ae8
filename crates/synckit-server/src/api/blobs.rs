//! `/api/sync/blobs`: which blobs a user has, and URLs to move them by. On the wire `hash` is the blob id.

use std::{collections::BTreeMap, io, sync::Arc};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use serde::Deserialize;
use synckit_protocol::{
    BlobId, ObjectKey, Parts, ProblemCode, SealedHash, UploadId, limits,
    wire::{
        UnixSeconds,
        blobs::{
            BlobConfirm, BlobDownload, BlobDownloadAnswer, BlobInfo, BlobList, BlobUpload, BlobUploadAnswer,
            UploadPart, UploadPartAnswer, UploadStatus,
        },
    },
};
use synckit_store::{Blob, NewUpload, PendingUpload, StoreError, StreamId, UploadBegin, rules::quotas::Quota};

use super::{access::AppAccess, problems};
use crate::{
    http::{ApiError, PathText, Received, Reply},
    metering::{AppMeter, Reach, Way},
    platform::{ToTheEnd, random_bytes, random_id},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `POST /api/sync/blobs/upload`.
pub(super) async fn upload(
    State(state): Server,
    access: AppAccess,
    Received { value: body, reply }: Received<BlobUpload>,
) -> Result<Response, ApiError> {
    check_size(body.size)?;
    let pace = state.meter.may_move(&access.app, access.stream, Way::Upload, 0)?;
    let now = state.config.clock.now();
    let is_in_parts = Parts::of(body.size).is_some();
    // A whole object's URL for a bucket is signed with the hash.
    let needs_hash_first = !is_in_parts && state.objects.needs_hash_first();
    let lifetime = if is_in_parts {
        limits::UPLOAD_IN_PARTS_SECONDS
    } else {
        limits::PRESIGNED_URL_SECONDS
    };
    let new = NewUpload {
        stream: access.stream,
        upload_id: UploadId::from_bytes(random_id()),
        // Never the blob id alone: two uploads of one blob must not meet in one object.
        object_key: ObjectKey::from_bytes(random_bytes()),
        blob_id: body.hash,
        size: body.size,
        sealed_hash: body.sealed_hash,
        only_asks: body.sealed_hash.is_none() && (!body.hash_at_confirm || needs_hash_first),
        key_id: body.key_id,
        replace: body.replace,
        brings_back: false,
        // The bytes count when they are confirmed.
        room: access.app.room_later(body.size),
        expires_at: now.saturating_add(lifetime),
    };
    let mut begun = state.store.begin_upload(new).await?;
    if let UploadBegin::Deleted(size) = begun {
        begun = bring_back(&state, &access.app, new, size).await?;
    }
    if begun == UploadBegin::AlreadyExists && !is_stored(&state, access.stream, body.hash).await? {
        // The device that has the file replaces the object that was lost.
        begun = state.store.begin_upload(NewUpload { replace: true, ..new }).await?;
    }
    if begun == UploadBegin::Begun {
        // Before a byte is there, so that the next upload waits. They count as moved when they are confirmed.
        state.meter.hold(access.stream, Way::Upload, new.size, pace);
    }
    let size_and_hash = (new.size, new.sealed_hash);
    let presigned = match begun {
        UploadBegin::OverQuota(quota) => return Err(problems::over_quota(quota)),
        UploadBegin::AlreadyExists | UploadBegin::Needed => None,
        // The store was told to bring it back.
        UploadBegin::Deleted(_) => {
            return Err(ApiError::internal(io::Error::other(
                "a deleted blob was not brought back",
            )));
        }
        UploadBegin::Begun if is_in_parts => {
            begin_parts(&state, &new).await?;
            return reply.ok(&BlobUploadAnswer {
                already_exists: false,
                upload_url: None,
                headers: BTreeMap::new(),
                upload_id: Some(new.upload_id),
                expires_at: Some(new.expires_at),
            });
        }
        UploadBegin::Begun => state
            .objects
            .upload(new.object_key, size_and_hash, access.stream.user_id, now),
    };
    let begun_id = presigned.is_some().then_some(new.upload_id);
    let (url, headers, expires_at) = presigned.map_or((None, BTreeMap::new(), None), |presigned| {
        (Some(presigned.url), presigned.headers, Some(presigned.expires_at))
    });
    reply.ok(&BlobUploadAnswer {
        already_exists: begun == UploadBegin::AlreadyExists,
        upload_url: url,
        headers,
        upload_id: begun_id,
        expires_at,
    })
}

/// Brings a deleted blob of this size back. It counts from then on, so that it takes its room first: many at once do not overlook each
/// other.
async fn bring_back(
    state: &Arc<ServerState>,
    app: &Arc<AppMeter>,
    new: NewUpload,
    size: u64,
) -> Result<UploadBegin, ApiError> {
    let (of_plan, room) = app.room(size, Reach::Plan);
    let new = NewUpload {
        brings_back: true,
        room,
        ..new
    };
    let state = Arc::clone(state);
    let brought = ToTheEnd::new(async move {
        let begun = state.store.begin_upload(new).await?;
        if let (Some(of_plan), UploadBegin::AlreadyExists) = (of_plan, begun) {
            of_plan.keep();
        }
        Ok::<_, StoreError>(begun)
    });
    Ok(brought.await?)
}

/// Begins the parts of an upload that the store has noted: in this order, nothing begins in a bucket that no row names.
async fn begin_parts(state: &ServerState, new: &NewUpload) -> Result<(), ApiError> {
    let now = state.config.clock.now();
    let multipart_id = match state.objects.begin_parts(new.object_key, now).await {
        Ok(Some(multipart_id)) => multipart_id,
        Ok(None) => return Ok(()),
        Err(error) => {
            // It would count against the account for a week.
            state.store.abandon_upload(new.stream, new.upload_id, now).await?;
            return Err(error.into());
        }
    };
    let named = state.store.name_multipart(new.stream, new.upload_id, multipart_id);
    if named.await? {
        Ok(())
    } else {
        // The account was deleted meanwhile, which condemns the object.
        Err(ProblemCode::UploadNotFound.into())
    }
}

/// Whether the time of an upload in parts is over, or the client has ended it. One as a whole waits for its confirmation until the
/// sweep.
fn is_over(upload: &PendingUpload, now: UnixSeconds) -> bool {
    Parts::of(upload.size).is_some() && upload.expires_at <= now
}

/// An upload in parts whose time is not over.
async fn upload_in_parts(
    state: &ServerState,
    stream: StreamId,
    upload_id: &str,
) -> Result<(PendingUpload, Parts), ApiError> {
    let upload_id: UploadId = upload_id.parse().map_err(|_| ProblemCode::UploadNotFound)?;
    let now = state.config.clock.now();
    let upload = state.store.upload(stream, upload_id).await?;
    upload
        .filter(|upload| !is_over(upload, now))
        .and_then(|upload| Parts::of(upload.size).map(|parts| (upload, parts)))
        .ok_or_else(|| ProblemCode::UploadNotFound.into())
}

/// `POST /api/sync/blobs/uploads/{upload_id}/parts`.
pub(super) async fn part(
    State(state): Server,
    access: AppAccess,
    PathText(upload_id): PathText,
    Received { value: body, reply }: Received<UploadPart>,
) -> Result<Response, ApiError> {
    let (upload, parts) = upload_in_parts(&state, access.stream, &upload_id).await?;
    let size = parts
        .size_of(body.number)
        .ok_or_else(|| ApiError::invalid("number", format!("is from 1 to {}", parts.count())))?;
    let now = state.config.clock.now();
    let part = (body.number, size, body.sealed_hash);
    let presigned = state
        .objects
        .part(&upload, part, access.stream.user_id, now)
        .ok_or(ProblemCode::UploadNotFound)?;
    reply.ok(&UploadPartAnswer {
        upload_url: presigned.url,
        headers: presigned.headers,
        expires_at: presigned.expires_at,
    })
}

/// `GET /api/sync/blobs/uploads/{upload_id}`.
pub(super) async fn upload_status(
    State(state): Server,
    access: AppAccess,
    PathText(upload_id): PathText,
    reply: Reply,
) -> Result<Response, ApiError> {
    let (upload, _) = upload_in_parts(&state, access.stream, &upload_id).await?;
    let found = state.objects.parts(&upload, state.config.clock.now()).await?;
    let parts = found.ok_or(ProblemCode::UploadNotFound)?.into_iter();
    reply.ok(&UploadStatus {
        already_exists: is_stored(&state, access.stream, upload.blob_id).await?,
        parts: parts
            .map(|part| UploadPart {
                number: part.number,
                sealed_hash: part.hash,
            })
            .collect(),
        expires_at: upload.expires_at,
    })
}

/// `DELETE /api/sync/blobs/uploads/{upload_id}`.
pub(super) async fn end_upload(
    State(state): Server,
    access: AppAccess,
    PathText(upload_id): PathText,
) -> Result<Response, ApiError> {
    let upload_id: UploadId = upload_id.parse().map_err(|_| ProblemCode::UploadNotFound)?;
    // No URL can be taken back, so that the bytes count on until the last one has expired.
    let now = state.config.clock.now();
    if state.store.end_upload(access.stream, upload_id, now).await? {
        Ok(Reply::empty())
    } else {
        Err(ProblemCode::UploadNotFound.into())
    }
}

/// `POST /api/sync/blobs/confirm`.
pub(super) async fn confirm(
    State(state): Server,
    access: AppAccess,
    Received { value: body, .. }: Received<BlobConfirm>,
) -> Result<Response, ApiError> {
    check_size(body.size)?;
    let mut uploads = state
        .store
        .pending_uploads(access.stream, body.hash, body.size, body.upload_id)
        .await?;
    uploads.retain(|upload| !is_over(upload, state.config.clock.now()));
    let mut has_room = !access.app.room_later(body.size).app_is_full;
    let pending = !uploads.is_empty();
    let mut joined = None;
    // Each look is a request to the store, if that is a bucket.
    let may_confirm = if has_room { limits::CONFIRM_UPLOADS_MAX } else { 0 };
    for upload in uploads.into_iter().take(may_confirm) {
        let now = state.config.clock.now();
        let Some(hash) = agreed(upload.sealed_hash, body.sealed_hash) else {
            continue;
        };
        let room = {
            let state = Arc::clone(&state);
            move || {
                let reserved = state.disk.reserve(body.size);
                reserved.map_err(|full| io::Error::new(io::ErrorKind::StorageFull, full))
            }
        };
        if !state.objects.complete(&upload, (hash, room), now).await? {
            continue;
        }
        // Only now that the bytes are there.
        let (Some(of_plan), _) = access.app.room(body.size, Reach::Plan) else {
            has_room = false;
            break;
        };
        // The transaction decides: an upload that was ended or swept meanwhile is not confirmed, and its key never comes back.
        let now = state.config.clock.now();
        // A client that goes away has stored the bytes all the same.
        let (at_end, app) = (Arc::clone(&state), Arc::clone(&access.app));
        let confirmed = ToTheEnd::new(async move {
            let confirmed = at_end
                .store
                .confirm_upload(access.stream, upload.upload_id, hash, now)
                .await?;
            if confirmed {
                of_plan.keep();
                at_end.meter.moved(&app, access.stream, body.size);
            }
            Ok::<_, StoreError>(confirmed)
        });
        if confirmed.await? {
            return Ok(Reply::empty());
        }
        joined = Some(upload.object_key);
    }
    // A request with an upload id means that upload, which another confirmation may have confirmed meanwhile; without one, an
    // existing blob is already confirmed.
    let blob = state.store.blob(access.stream, body.hash).await?;
    let confirmed = blob.is_some_and(|blob| {
        let may_be_another = !pending || body.upload_id.is_none();
        blob.size == body.size && (may_be_another || joined == Some(blob.object_key))
    });
    if confirmed {
        return Ok(Reply::empty());
    }
    if !has_room && pending {
        return Err(problems::over_quota(Quota::AppStorage));
    }
    Err(ApiError::new(ProblemCode::UploadIncomplete)
        .with_detail("the server has no complete upload of this blob and size"))
}

/// The hash that a client named when its upload began, or when it confirms, or both times the same.
fn agreed(at_begin: Option<SealedHash>, at_confirm: Option<SealedHash>) -> Option<SealedHash> {
    let contradict = at_begin.is_some() && at_confirm.is_some() && at_begin != at_confirm;
    at_begin.or(at_confirm).filter(|_| !contradict)
}

/// `POST /api/sync/blobs/download`.
pub(super) async fn download(
    State(state): Server,
    access: AppAccess,
    Received { value: body, reply }: Received<BlobDownload>,
) -> Result<Response, ApiError> {
    let blob = state
        .store
        .blob(access.stream, body.hash)
        .await?
        .ok_or(ProblemCode::BlobNotFound)?;
    if !is_whole(&state, &blob).await? {
        return Err(ProblemCode::BlobNotFound.into());
    }
    let pace = state.meter.may_move(&access.app, access.stream, Way::Download, 0)?;
    state.meter.moved(&access.app, access.stream, blob.size);
    state.meter.hold(access.stream, Way::Download, blob.size, pace);
    let now = state.config.clock.now();
    let user_id = access.stream.user_id;
    let presigned = state.objects.download(blob.object_key, blob.size, user_id, now);
    reply.ok(&BlobDownloadAnswer {
        download_url: presigned.url,
        size: blob.size,
        key_id: blob.key_id,
        expires_at: presigned.expires_at,
    })
}

/// Whether a blob is known, and its object is whole.
async fn is_stored(state: &ServerState, stream: StreamId, blob_id: BlobId) -> Result<bool, ApiError> {
    match state.store.blob(stream, blob_id).await? {
        Some(blob) => is_whole(state, &blob).await,
        None => Ok(false),
    }
}

/// Whether the object of a blob exists with its size.
async fn is_whole(state: &ServerState, blob: &Blob) -> Result<bool, ApiError> {
    let found = state.objects.size(blob.object_key, state.config.clock.now()).await?;
    let is_whole = found == Some(blob.size);
    if !is_whole {
        tracing::error!(object_key = %blob.object_key, expected = blob.size, ?found, "the object of a blob is not whole");
    }
    Ok(is_whole)
}

/// The query of `GET /api/sync/blobs`.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    after: Option<String>,
}

/// `GET /api/sync/blobs`.
pub(super) async fn list(
    State(state): Server,
    access: AppAccess,
    query: Result<Query<ListQuery>, QueryRejection>,
    reply: Reply,
) -> Result<Response, ApiError> {
    let invalid = || ApiError::invalid("after", "must be the hash of a blob");
    let Query(query) = query.map_err(|_| invalid())?;
    let after: Option<BlobId> = query
        .after
        .map(|text| text.parse().map_err(|_| invalid()))
        .transpose()?;
    // One more than a page says whether more follow.
    let mut blobs = state
        .store
        .blobs(access.stream, after, limits::BLOB_PAGE_MAX + 1)
        .await?;
    let has_more = blobs.len() > limits::BLOB_PAGE_MAX as usize;
    blobs.truncate(limits::BLOB_PAGE_MAX as usize);
    let blobs = blobs
        .into_iter()
        .map(|blob| BlobInfo {
            hash: blob.blob_id,
            size: blob.size,
            key_id: blob.key_id,
            created_at: blob.created_at,
        })
        .collect();
    reply.ok(&BlobList { blobs, has_more })
}

/// `DELETE /api/sync/blobs/{hash}`.
pub(super) async fn remove(
    State(state): Server,
    access: AppAccess,
    PathText(hash): PathText,
) -> Result<Response, ApiError> {
    let blob_id: BlobId = hash.parse().map_err(|_| ProblemCode::BlobNotFound)?;
    if state
        .store
        .delete_blob(access.stream, blob_id, state.config.clock.now())
        .await?
    {
        Ok(Reply::empty())
    } else {
        Err(ProblemCode::BlobNotFound.into())
    }
}

fn check_size(size: u64) -> Result<(), ApiError> {
    if size > limits::BLOB_SEALED_BYTES_MAX {
        return Err(ApiError::new(ProblemCode::BlobTooLarge).with_detail(format!(
            "a sealed blob has at most {} bytes",
            limits::BLOB_SEALED_BYTES_MAX
        )));
    }
    if size < limits::SEAL_OVERHEAD_BYTES as u64 {
        return Err(ApiError::invalid(
            "size",
            "is the sealed size: 40 bytes more than the file",
        ));
    }
    Ok(())
}
