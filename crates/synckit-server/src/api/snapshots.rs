//! `/api/sync/snapshots`: the folded state of a stream, which the server cannot open.
//!
//! Its parts may exceed the quota of bytes by its whole amount, because a snapshot allows the server to free space; the same
//! holds for the plan of the app.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use serde::de::DeserializeOwned;
use synckit_protocol::{
    ByteString, ProblemCode, SnapshotId, limits,
    wire::snapshots::{PutSnapshot, PutSnapshotPart, SnapshotAnswer, SnapshotPartAnswer},
};
use synckit_store::{NewSnapshot, NewSnapshotPart, SnapshotPartWrite, SnapshotWrite, StoreError, StreamId};

use super::{
    access::AppAccess,
    log::{diverged, page_memory},
    problems,
};
use crate::{
    http::{ApiError, PathText, Reply, content_format, decode, read_body},
    limits::{Reservation, kib},
    metering::{Reach, Way},
    platform::ToTheEnd,
    sign_in::owner_proof,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;
type PartPath = Result<Path<(String, String)>, PathRejection>;

/// `PUT /api/sync/snapshots/{id}/parts/{part}`.
pub(super) async fn write_part(
    State(state): Server,
    access: AppAccess,
    path: PartPath,
    request: Request,
) -> Result<Response, ApiError> {
    let (snapshot_id, part) = part_of(path)?;
    if part >= limits::SNAPSHOT_PARTS_MAX {
        let max = limits::SNAPSHOT_PARTS_MAX;
        return Err(ApiError::invalid("part", format!("a snapshot has at most {max} parts")));
    }
    let (body, _room): (PutSnapshotPart, _) = receive(&state, request).await?;
    check_size("sealed", &body.sealed, limits::SNAPSHOT_PART_SEALED_BYTES_MAX)?;
    let bytes = body.sealed.0.len() as u64;
    state.meter.may_move(&access.app, access.stream, Way::Push, bytes)?;
    let (of_plan, room) = access.app.room(bytes, Reach::TwicePlan);
    let part = NewSnapshotPart {
        stream: access.stream,
        snapshot_id,
        part,
        sealed: body.sealed.0.into(),
        room,
        now: state.config.clock.now(),
    };
    // A client that goes away has moved the bytes all the same.
    let (at_end, app) = (Arc::clone(&state), Arc::clone(&access.app));
    let written = ToTheEnd::new(async move {
        let written = at_end.store.put_snapshot_part(part).await?;
        at_end.meter.moved(&app, access.stream, bytes);
        if let (Some(of_plan), SnapshotPartWrite::Stored) = (of_plan, &written) {
            of_plan.keep();
        }
        Ok::<_, StoreError>(written)
    });
    match written.await? {
        SnapshotPartWrite::Stored => Ok(Reply::empty()),
        SnapshotPartWrite::NoEnvelope => Err(ProblemCode::NoEnvelope.into()),
        SnapshotPartWrite::Stale => Err(ProblemCode::SnapshotStale.into()),
        SnapshotPartWrite::OverQuota(quota) => Err(problems::over_quota(quota)),
    }
}

/// `PUT /api/sync/snapshots/{id}`.
pub(super) async fn write(
    State(state): Server,
    access: AppAccess,
    PathText(id): PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let snapshot_id = snapshot_of(&id)?;
    let (body, _room): (PutSnapshot, _) = receive(&state, request).await?;
    check_size("manifest", &body.manifest, limits::SNAPSHOT_MANIFEST_SEALED_BYTES_MAX)?;
    if body.parts > limits::SNAPSHOT_PARTS_MAX {
        let max = limits::SNAPSHOT_PARTS_MAX;
        return Err(ApiError::invalid(
            "parts",
            format!("a snapshot has at most {max} parts"),
        ));
    }
    let bytes = body.manifest.0.len() as u64;
    state.meter.may_move(&access.app, access.stream, Way::Push, bytes)?;
    let (of_plan, room) = access.app.room(bytes, Reach::TwicePlan);
    let StreamId { app_id, user_id } = access.stream;
    let owner = state
        .store
        .envelope(access.stream)
        .await?
        .map(|envelope| envelope.owner);
    let message = body.claim(app_id, user_id, snapshot_id).message();
    let signed_by = owner.filter(|owner| owner_proof::is_valid(owner, &message, &body.signature));
    let now = state.config.clock.now();
    let snapshot = NewSnapshot {
        stream: access.stream,
        snapshot_id,
        key_id: body.key_id,
        position: body.position,
        parts: body.parts,
        manifest: body.manifest.0.into(),
        signed_by,
        room,
        settled_before: now.saturating_sub(state.config.retention.snapshot_settle.as_secs()),
        now,
    };
    let (at_end, app) = (Arc::clone(&state), Arc::clone(&access.app));
    let written = ToTheEnd::new(async move {
        let written = at_end.store.put_snapshot(snapshot).await?;
        at_end.meter.moved(&app, access.stream, bytes);
        if let (Some(of_plan), SnapshotWrite::Stored) = (of_plan, &written) {
            of_plan.keep();
        }
        Ok::<_, StoreError>(written)
    });
    match written.await? {
        SnapshotWrite::Stored => Ok(Reply::empty()),
        SnapshotWrite::OverQuota(quota) => Err(problems::over_quota(quota)),
        SnapshotWrite::NoEnvelope => Err(ProblemCode::NoEnvelope.into()),
        SnapshotWrite::KeyMismatch => Err(ProblemCode::KeyMismatch.into()),
        SnapshotWrite::NotProven => Err(ProblemCode::OwnerProofInvalid.into()),
        SnapshotWrite::Stale => Err(ProblemCode::SnapshotStale.into()),
        SnapshotWrite::Incomplete => Err(ProblemCode::SnapshotIncomplete.into()),
        SnapshotWrite::Diverged { latest } => Err(diverged(latest)),
    }
}

/// `GET /api/sync/snapshots/{id}`.
pub(super) async fn read(
    State(state): Server,
    access: AppAccess,
    PathText(id): PathText,
    reply: Reply,
) -> Result<Response, ApiError> {
    let snapshot_id = snapshot_of(&id)?;
    let pace = state.meter.may_move(&access.app, access.stream, Way::Pull, 0)?;
    let mut memory = page_memory(&state, &access, limits::SNAPSHOT_MANIFEST_SEALED_BYTES_MAX as u64).await?;
    let found = state.store.snapshot(access.stream, snapshot_id).await?;
    let snapshot = found.ok_or(ProblemCode::SnapshotNotFound)?;
    let bytes = snapshot.manifest.len() as u64;
    state.meter.moved(&access.app, access.stream, bytes);
    state.meter.hold(access.stream, Way::Pull, bytes, pace);
    memory.keep_only(kib(snapshot.manifest.len() as u64));
    let answer = SnapshotAnswer {
        snapshot: snapshot.info,
        manifest: ByteString(snapshot.manifest.into()),
    };
    reply.ok_holding(&answer, memory)
}

/// `GET /api/sync/snapshots/{id}/parts/{part}`.
pub(super) async fn read_part(
    State(state): Server,
    access: AppAccess,
    path: PartPath,
    reply: Reply,
) -> Result<Response, ApiError> {
    let (snapshot_id, part) = part_of(path)?;
    let pace = state.meter.may_move(&access.app, access.stream, Way::Pull, 0)?;
    let mut memory = page_memory(&state, &access, limits::SNAPSHOT_PART_SEALED_BYTES_MAX as u64).await?;
    let found = state.store.snapshot_part(access.stream, snapshot_id, part).await?;
    let sealed = found.ok_or(ProblemCode::SnapshotNotFound)?;
    state.meter.moved(&access.app, access.stream, sealed.len() as u64);
    state.meter.hold(access.stream, Way::Pull, sealed.len() as u64, pace);
    memory.keep_only(kib(sealed.len() as u64));
    let answer = SnapshotPartAnswer {
        sealed: ByteString(sealed.into()),
    };
    reply.ok_holding(&answer, memory)
}

/// Reads a body of up to the size of a push, with its share of the disk.
async fn receive<T: DeserializeOwned>(state: &ServerState, request: Request) -> Result<(T, Reservation), ApiError> {
    let format = content_format(request.headers())?;
    let body = read_body(request, limits::PUSH_BODY_BYTES_MAX, state).await?;
    // Once in the write-ahead log, and once in the database.
    let room = state.disk.reserve(2 * body.len() as u64)?;
    Ok((decode(format, &body)?, room))
}

fn check_size(field: &str, sealed: &ByteString, max: usize) -> Result<(), ApiError> {
    let (size, min) = (sealed.0.len(), limits::SEAL_OVERHEAD_BYTES);
    if size > min && size <= max {
        return Ok(());
    }
    Err(ApiError::invalid(
        field,
        format!("must have more than {min} bytes and at most {max}, but has {size}"),
    ))
}

/// A text that is not an id names no snapshot.
fn snapshot_of(id: &str) -> Result<SnapshotId, ApiError> {
    id.parse().map_err(|_| ProblemCode::SnapshotNotFound.into())
}

fn part_of(path: PartPath) -> Result<(SnapshotId, u32), ApiError> {
    let Path((id, part)) = path.map_err(|_| ProblemCode::NotFound)?;
    let number: u32 = part.parse().map_err(|_| ProblemCode::SnapshotNotFound)?;
    // One text for each part, as for every id.
    if number.to_string() != part {
        return Err(ProblemCode::SnapshotNotFound.into());
    }
    Ok((snapshot_of(&id)?, number))
}
