//! `/api/sync/push`, `pull`, `chain`, `status`: the log.
//!
//! The hot path. Nothing here is done per entry; a batch is opaque bytes from the socket to the disk and back.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    response::Response,
};
use serde::Deserialize;
use synckit_protocol::{
    BatchDigest, Behind, ByteString, Cursor, Position, ProblemCode, SealedHash, limits,
    wire::{
        log::{Chain, Limits, Page, Pull, PulledBatch, Push, Pushed, Status},
        snapshots::SnapshotInfo,
    },
};
use synckit_store::{
    Append, ChainPage, ChainRead, NewBatch, PageRead, PageRequest, StoredBatch, rules::quotas::PlanRoom,
};

use super::{
    access::AppAccess,
    append::append_and_announce,
    log_codec::{PushBody, decode_push, encode_page},
    problems,
};
use crate::{
    http::{ApiError, Format, Received, Reply, content_format, decode, malformed, read_body},
    limits::{Permit, kib},
    metering::{Pace, Way},
    platform::compute,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// How long a request waits for memory before it is shed.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(5);
/// Larger batches are hashed apart, so that other requests do not wait behind them.
const HASH_INLINE_BYTES_MAX: usize = 256 * 1024;

/// `POST /api/sync/push`.
pub(super) async fn push(State(state): Server, access: AppAccess, request: Request) -> Result<Response, ApiError> {
    let reply = Reply::wanted_by(request.headers());
    let format = content_format(request.headers())?;
    let body = read_body(request, limits::PUSH_BODY_BYTES_MAX, &state).await?;
    let push = match format {
        Format::Cbor => decode_push(&body).map_err(|error| malformed(&error.to_string()))?,
        Format::Json => PushBody::from(decode::<Push>(Format::Json, &body)?),
    };
    access.require_device(&state, push.device_id).await?;
    check_batch(&push)?;
    let sealed_bytes = push.sealed.len() as u64;
    state
        .meter
        .may_move(&access.app, access.stream, Way::Push, sealed_bytes)?;
    // Once in the write-ahead log, and once in the database.
    let room = state.disk.reserve(2 * push.sealed.len() as u64)?;
    let digest = BatchDigest {
        batch_id: push.batch_id,
        device_id: push.device_id,
        key_id: push.key_id,
        count: push.count,
        sealed_hash: hash(&push).await?,
    };
    let entries = u64::from(push.count);
    let batch = NewBatch {
        stream: access.stream,
        parent: push.parent,
        digest,
        sealed: push.sealed,
        room: PlanRoom::default(),
        now: state.config.clock.now(),
    };
    let appended = append_and_announce(&state, &access.app, batch, room).await?;
    match appended {
        Append::Stored {
            first_seq,
            position,
            repeated,
        } => {
            if !repeated {
                state.metrics.pushed_entries.inc_by(entries);
                state.metrics.pushed_bytes.inc_by(sealed_bytes);
            }
            reply.ok(&Pushed {
                first_seq,
                last_seq: position.seq,
                head: position.head,
            })
        }
        Append::DeviceNotFound => Err(ProblemCode::DeviceMismatch.into()),
        Append::DeviceRevoked => Err(ProblemCode::DeviceRevoked.into()),
        Append::NoEnvelope => Err(ProblemCode::NoEnvelope.into()),
        Append::KeyMismatch => Err(ProblemCode::KeyMismatch.into()),
        Append::OverQuota(quota) => Err(problems::over_quota(quota)),
        Append::Behind(page) => Err(behind(page)),
        Append::Compacted(snapshot) => Err(compacted(snapshot)),
        Append::Diverged { latest } => Err(diverged(latest)),
    }
}

fn check_batch(push: &PushBody) -> Result<(), ApiError> {
    if push.count == 0 {
        return Err(ApiError::invalid("count", "a batch holds at least one entry"));
    }
    if push.count > limits::BATCH_ENTRIES_MAX || push.sealed.len() > limits::BATCH_SEALED_BYTES_MAX {
        return Err(ApiError::new(ProblemCode::BatchTooLarge).with_detail(format!(
            "a batch holds at most {} entries and {} sealed bytes",
            limits::BATCH_ENTRIES_MAX,
            limits::BATCH_SEALED_BYTES_MAX
        )));
    }
    if push.sealed.len() <= limits::SEAL_OVERHEAD_BYTES {
        return Err(ApiError::invalid("sealed", "too short to be a sealed batch"));
    }
    Ok(())
}

async fn hash(push: &PushBody) -> Result<SealedHash, ApiError> {
    if push.sealed.len() <= HASH_INLINE_BYTES_MAX {
        return Ok(SealedHash::of(&push.sealed));
    }
    let sealed = push.sealed.clone();
    compute(move || SealedHash::of(&sealed))
        .await
        .map_err(ApiError::internal)
}

/// `POST /api/sync/pull`.
pub(super) async fn pull(
    State(state): Server,
    access: AppAccess,
    Received { value: body, reply }: Received<Pull>,
) -> Result<Response, ApiError> {
    let max_bytes = body
        .max_bytes
        .unwrap_or(limits::PAGE_BYTES_DEFAULT)
        .min(limits::PAGE_BYTES_MAX);
    if body.cursor.snapshot().is_some() {
        return Err(ApiError::invalid(
            "cursor",
            "is a place inside a snapshot, whose parts are read one by one",
        ));
    }
    // Also because a page reports how far the device has read: nobody else may report that.
    access.require_device(&state, body.device_id).await?;
    let pace = state.meter.may_move(&access.app, access.stream, Way::Pull, 0)?;
    let max_bytes = match pace {
        Pace::Free => max_bytes,
        Pace::Floor => max_bytes.min(FLOOR_PAGE_BYTES),
    };
    // The first batch of a page is returned whole even if it exceeds the requested size.
    let mut memory = page_memory(&state, &access, u64::from(max_bytes).max(FIRST_BATCH_BYTES_MAX)).await?;
    let request = PageRequest {
        stream: access.stream,
        device_id: body.device_id,
        cursor: body.cursor,
        max_bytes,
        ahead: body.ahead,
        avoid_snapshot: body.avoid_snapshot,
        now: state.config.clock.now(),
    };
    match state.store.page(request).await? {
        PageRead::Page {
            batches,
            cursor,
            has_more,
        } => {
            let sealed_bytes = batches.iter().map(|batch| batch.sealed.len() as u64).sum();
            memory.keep_only(kib(sealed_bytes));
            let entries = batches.iter().map(|batch| u64::from(batch.count)).sum();
            state.metrics.pulled_entries.inc_by(entries);
            state.metrics.pulled_bytes.inc_by(sealed_bytes);
            state.meter.moved(&access.app, access.stream, sealed_bytes);
            state.meter.hold(access.stream, Way::Pull, sealed_bytes, pace);
            match reply.0 {
                Format::Cbor => {
                    let page = encode_page(batches, &cursor, has_more, memory).map_err(ApiError::internal)?;
                    Ok(reply.raw(Body::new(page)))
                }
                Format::Json => {
                    let page = Page {
                        batches: batches.into_iter().map(on_the_wire).collect(),
                        cursor,
                        has_more,
                        snapshot: None,
                    };
                    reply.ok_holding(&page, memory)
                }
            }
        }
        PageRead::Snapshot(snapshot) => reply.ok(&Page {
            batches: Vec::new(),
            cursor: Cursor::at(snapshot.position),
            has_more: true,
            snapshot: Some(snapshot),
        }),
        PageRead::Compacted(snapshot) => Err(compacted(snapshot)),
        PageRead::DeviceNotFound => Err(ProblemCode::DeviceMismatch.into()),
        PageRead::DeviceRevoked => Err(ProblemCode::DeviceRevoked.into()),
        PageRead::Diverged { latest } => Err(diverged(latest)),
    }
}

/// A page over the transfer budget: what a minute has.
const FLOOR_PAGE_BYTES: u32 = limits::FLOOR_BYTES_A_MINUTE as u32;
const FIRST_BATCH_BYTES_MAX: u64 = limits::BATCH_SEALED_BYTES_MAX as u64;

fn on_the_wire(batch: StoredBatch) -> PulledBatch {
    PulledBatch {
        batch_id: batch.batch_id,
        device_id: batch.device_id,
        key_id: batch.key_id,
        first_seq: batch.first_seq,
        count: batch.count,
        sealed: ByteString(batch.sealed.into()),
    }
}

/// The query of `GET /api/sync/chain`.
#[derive(Debug, Deserialize)]
pub(super) struct ChainQuery {
    from: String,
}

/// `GET /api/sync/chain`.
pub(super) async fn chain(
    State(state): Server,
    access: AppAccess,
    query: Result<Query<ChainQuery>, QueryRejection>,
    reply: Reply,
) -> Result<Response, ApiError> {
    let invalid = || ApiError::invalid("from", "the query must be ?from= and a cursor");
    let Query(query) = query.map_err(|_| invalid())?;
    let from: Cursor = query.from.parse().map_err(|_| invalid())?;
    if from.snapshot().is_some() {
        return Err(invalid());
    }
    match state
        .store
        .chain(access.stream, from, limits::CHAIN_PAGE_DIGESTS_MAX)
        .await?
    {
        ChainRead::Page(page) => reply.ok(&Chain {
            digests: page.digests,
            latest: page.latest,
            has_more: page.has_more,
        }),
        ChainRead::Compacted(snapshot) => Err(compacted(snapshot)),
        ChainRead::Diverged { latest } => Err(diverged(latest)),
    }
}

/// `GET /api/sync/status`.
pub(super) async fn status(State(state): Server, access: AppAccess, reply: Reply) -> Result<Response, ApiError> {
    let status = state.store.status(access.stream).await?;
    reply.ok(&Status {
        change_count: status.latest.seq,
        latest: status.latest,
        snapshot: status.snapshot,
        stored_bytes: status.stored_bytes,
        devices: status.devices,
        limits: Limits {
            batch_entries_max: limits::BATCH_ENTRIES_MAX,
            batch_sealed_bytes_max: limits::BATCH_SEALED_BYTES_MAX as u64,
            blob_sealed_bytes_max: limits::BLOB_SEALED_BYTES_MAX,
            devices_max: limits::DEVICES_MAX,
        },
    })
}

/// The problem for a write that names a position before the stream's head.
pub(super) fn behind(page: ChainPage) -> ApiError {
    ApiError::new(ProblemCode::Behind).with(|problem| {
        problem.behind = Some(Behind {
            latest: page.latest,
            digests: page.digests,
            has_more: page.has_more,
        });
    })
}

/// The problem for a position that is not on the chain.
pub(super) fn diverged(latest: Position) -> ApiError {
    ApiError::new(ProblemCode::HistoryDiverged).with(|problem| problem.latest = Some(latest))
}

/// The problem for a position that the log no longer holds.
pub(super) fn compacted(snapshot: SnapshotInfo) -> ApiError {
    ApiError::new(ProblemCode::CursorCompacted).with(|problem| problem.snapshot = Some(snapshot))
}

/// Waits for memory of a page of so many bytes; sheds the request if that takes too long.
pub(super) async fn page_memory(state: &ServerState, access: &AppAccess, bytes: u64) -> Result<Permit, ApiError> {
    let pages = &state.capacity.pages;
    Ok(pages.take(access.owners(), kib(bytes), MEMORY_WAIT_MAX).await?)
}
