//! Envelopes: the wrapped master keys of a stream.
//!
//! Invariant: an envelope takes the place of another one only if it is signed by the other one's owner key, or if the
//! operator puts it there ([`crate::rules::envelopes`]).

use synckit_protocol::{OwnerKey, limits::ENVELOPES_KEPT, wire::UnixSeconds};

use super::{Executor, Row, params, streams};
use crate::{
    Envelope, EnvelopeRestore, NewEnvelope, StoreError, StreamId,
    rules::envelopes::{Current, Restore, restored},
};

/// [`crate::Store::envelope`].
///
/// # Errors
/// Those of the engine.
pub async fn current(db: &impl Executor, stream: StreamId) -> Result<Option<Envelope>, StoreError> {
    let row = db
        .query_one(
            "SELECT envelope, envelopes.key_id, version, owner, updated_at
             FROM streams JOIN envelopes ON envelopes.stream_key = streams.stream_key AND version = envelope_version
             WHERE user_id = $1 AND app_id = $2",
            params![&stream.user_id, &stream.app_id],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// [`crate::Store::envelopes`].
///
/// # Errors
/// Those of the engine.
pub async fn kept(db: &impl Executor, stream: StreamId) -> Result<Vec<Envelope>, StoreError> {
    let rows = db
        .query(
            "SELECT envelope, envelopes.key_id, version, owner, updated_at
             FROM streams JOIN envelopes ON envelopes.stream_key = streams.stream_key
             WHERE user_id = $1 AND app_id = $2 ORDER BY version DESC",
            params![&stream.user_id, &stream.app_id],
        )
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Envelope, StoreError> {
    Ok(Envelope {
        envelope: row.get(0)?,
        key_id: row.get(1)?,
        version: row.get(2)?,
        owner: row.get(3)?,
        updated_at: row.get(4)?,
    })
}

/// The owner key of the current envelope of a stream; `None` without an envelope.
///
/// # Errors
/// Those of the engine.
pub async fn owner(db: &impl Executor, stream: StreamId) -> Result<Option<OwnerKey>, StoreError> {
    Ok(current(db, stream).await?.map(|envelope| envelope.owner))
}

/// The state that decides about a write of an envelope.
///
/// # Errors
/// Those of the engine.
pub async fn state(db: &impl Executor, stream: StreamId) -> Result<Option<Current>, StoreError> {
    let current = current(db, stream).await?;
    Ok(current.map(|envelope| Current {
        version: envelope.version,
        key_id: envelope.key_id,
        owner: envelope.owner,
    }))
}

/// Writes an envelope that [`crate::rules::envelopes::put`] permitted.
///
/// # Errors
/// [`StoreError::NoSuchStream`], and those of the engine.
pub async fn write(db: &impl Executor, asked: &NewEnvelope) -> Result<u64, StoreError> {
    let stream_key = streams::find_or_create(db, asked.stream).await?;
    let envelope = Envelope {
        envelope: asked.envelope.clone(),
        key_id: asked.key_id,
        version: asked.expected_version.saturating_add(1),
        owner: asked.owner,
        updated_at: asked.now,
    };
    insert(db, stream_key, &envelope).await?;
    Ok(envelope.version)
}

/// [`crate::Store::restore_envelope`].
///
/// # Errors
/// Those of the engine.
pub async fn restore(
    db: &impl Executor,
    stream: StreamId,
    version: u64,
    now: UnixSeconds,
) -> Result<EnvelopeRestore, StoreError> {
    let Some(stream_key) = streams::find(db, stream).await? else {
        return Ok(EnvelopeRestore::NotKept);
    };
    match restored(kept(db, stream).await?, version, now) {
        Restore::Refuse(refusal) => Ok(refusal),
        Restore::Write(envelope) => {
            insert(db, stream_key, &envelope).await?;
            Ok(EnvelopeRestore::Restored(envelope.version))
        }
    }
}

/// Makes an envelope the current one, and deletes those that are too many.
async fn insert(db: &impl Executor, stream_key: i64, envelope: &Envelope) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO envelopes (stream_key, version, envelope, key_id, owner, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            stream_key,
            envelope.version,
            &envelope.envelope,
            &envelope.key_id,
            &envelope.owner,
            envelope.updated_at
        ],
    )
    .await?;
    db.execute(
        "UPDATE streams SET envelope_version = $2, key_id = $3 WHERE stream_key = $1",
        params![stream_key, envelope.version, &envelope.key_id],
    )
    .await?;
    db.execute(
        "DELETE FROM envelopes WHERE stream_key = $1 AND version <= $2",
        params![stream_key, envelope.version.saturating_sub(u64::from(ENVELOPES_KEPT))],
    )
    .await?;
    Ok(())
}
