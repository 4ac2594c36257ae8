//! `/api/sync/keys`: the envelope of a stream, which the server cannot open.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_protocol::{
    ProblemCode, limits,
    wire::keys::{EnvelopeAnswer, EnvelopeWritten, PutEnvelope},
};
use synckit_store::{EnvelopeWrite, NewEnvelope, StreamId};

use super::{
    access::AppAccess,
    log::{behind, compacted, diverged},
    problems::version_conflict,
};
use crate::{
    http::{ApiError, Received, Reply},
    sign_in::owner_proof,
    state::ServerState,
};

/// `GET /api/sync/keys`.
pub(super) async fn read(
    State(state): State<Arc<ServerState>>,
    access: AppAccess,
    reply: Reply,
) -> Result<Response, ApiError> {
    let envelope = state
        .store
        .envelope(access.stream)
        .await?
        .ok_or(ProblemCode::NoEnvelope)?;
    reply.ok(&EnvelopeAnswer {
        envelope: envelope.envelope.into(),
        key_id: envelope.key_id,
        version: envelope.version,
        owner: envelope.owner,
        updated_at: envelope.updated_at,
    })
}

/// `PUT /api/sync/keys`.
pub(super) async fn write(
    State(state): State<Arc<ServerState>>,
    access: AppAccess,
    Received { value: body, reply }: Received<PutEnvelope>,
) -> Result<Response, ApiError> {
    let size = body.envelope.0.len();
    if size == 0 || size > limits::ENVELOPE_BYTES_MAX {
        let max = limits::ENVELOPE_BYTES_MAX;
        return Err(ApiError::invalid(
            "envelope",
            format!("must be 1 to {max} bytes, but has {size}"),
        ));
    }
    // The envelope cannot change between this read and the write: the version names the one that is replaced.
    let current = state.store.envelope(access.stream).await?;
    let signer = current.map_or(body.owner, |current| current.owner);
    let StreamId { app_id, user_id } = access.stream;
    let message = body.claim(app_id, user_id).message();
    let envelope = NewEnvelope {
        stream: access.stream,
        envelope: body.envelope.0,
        key_id: body.key_id,
        expected_version: body.expected_version,
        head: body.head,
        snapshot: body.snapshot,
        owner: body.owner,
        signed_by: owner_proof::is_valid(&signer, &message, &body.signature).then_some(signer),
        now: state.config.clock.now(),
    };
    match state.store.put_envelope(envelope).await? {
        EnvelopeWrite::Written(version) => reply.ok(&EnvelopeWritten { version }),
        EnvelopeWrite::Conflict(current) => Err(version_conflict(current)),
        EnvelopeWrite::NotProven => Err(ProblemCode::OwnerProofInvalid.into()),
        EnvelopeWrite::HeadMissing => Err(ApiError::invalid(
            "head",
            "a change of the master key must name the stream's head",
        )),
        EnvelopeWrite::SnapshotStale => Err(ProblemCode::SnapshotStale.into()),
        EnvelopeWrite::Behind(page) => Err(behind(page)),
        EnvelopeWrite::Compacted(snapshot) => Err(compacted(snapshot)),
        EnvelopeWrite::Diverged { latest } => Err(diverged(latest)),
    }
}
