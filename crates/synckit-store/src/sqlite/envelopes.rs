//! Envelopes: the wrapped master keys of a stream.
//!
//! Invariant: an envelope takes the place of another one only if it is signed by the other one's owner key, or if the
//! operator puts it there.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{KeyId, OwnerKey, limits::ENVELOPES_KEPT, wire::UnixSeconds};

use super::{
    columns::{Unsigned, id, unsigned},
    failure::Failure,
    log, streams,
};
use crate::{Envelope, EnvelopeRestore, EnvelopeWrite, NewEnvelope, StreamId};

pub(super) fn current(db: &Connection, stream: StreamId) -> Result<Option<Envelope>, Failure> {
    let envelope = db
        .prepare_cached(
            "SELECT envelope, envelopes.key_id, version, owner, updated_at
             FROM streams JOIN envelopes ON envelopes.stream_key = streams.stream_key AND version = envelope_version
             WHERE user_id = ?1 AND app_id = ?2",
        )?
        .query_row([stream.user_id.as_bytes(), stream.app_id.as_bytes()], read)
        .optional()?;
    Ok(envelope)
}

pub(super) fn kept(db: &Connection, stream: StreamId) -> Result<Vec<Envelope>, Failure> {
    let envelopes = db
        .prepare_cached(
            "SELECT envelope, envelopes.key_id, version, owner, updated_at
             FROM streams JOIN envelopes USING (stream_key) WHERE user_id = ?1 AND app_id = ?2 ORDER BY version DESC",
        )?
        .query_map([stream.user_id.as_bytes(), stream.app_id.as_bytes()], read)?
        .collect::<Result<_, _>>()?;
    Ok(envelopes)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Envelope> {
    Ok(Envelope {
        envelope: row.get(0)?,
        key_id: id(row, 1, KeyId::from_bytes)?,
        version: unsigned(row, 2)?,
        owner: id(row, 3, OwnerKey::from_bytes)?,
        updated_at: unsigned(row, 4)?,
    })
}

/// The owner key of the current envelope; `None` if there is no envelope.
pub(super) fn owner(db: &Connection, stream_key: i64) -> Result<Option<OwnerKey>, Failure> {
    let owner = db
        .prepare_cached(
            "SELECT owner FROM streams JOIN envelopes ON envelopes.stream_key = streams.stream_key
                 AND version = envelope_version
             WHERE streams.stream_key = ?1",
        )?
        .query_row([stream_key], |row| id(row, 0, OwnerKey::from_bytes))
        .optional()?;
    Ok(owner)
}

pub(super) fn put(db: &Connection, envelope: &NewEnvelope) -> Result<EnvelopeWrite, Failure> {
    let stream_key = streams::find_or_create(db, envelope.stream)?;
    let (current, key_id) = db
        .prepare_cached("SELECT envelope_version, key_id FROM streams WHERE stream_key = ?1")?
        .query_row([stream_key], |row| {
            Ok((
                unsigned(row, 0)?,
                row.get::<_, Option<[u8; 16]>>(1)?.map(KeyId::from_bytes),
            ))
        })?;
    if current != envelope.expected_version {
        return Ok(EnvelopeWrite::Conflict(current));
    }
    // The first envelope names the owner key, and is signed by it.
    let owner = owner(db, stream_key)?.unwrap_or(envelope.owner);
    if envelope.signed_by != Some(owner) {
        return Ok(EnvelopeWrite::NotProven);
    }
    if key_id.is_some_and(|key_id| key_id != envelope.key_id) {
        let Some(head) = envelope.head else {
            return Ok(EnvelopeWrite::HeadMissing);
        };
        if let Some(refusal) = log::elsewhere(db, envelope.stream, head)? {
            return Ok(match refusal {
                log::Elsewhere::Behind(page) => EnvelopeWrite::Behind(page),
                log::Elsewhere::Compacted(snapshot) => EnvelopeWrite::Compacted(snapshot),
                log::Elsewhere::Diverged { latest } => EnvelopeWrite::Diverged { latest },
            });
        }
    }
    let next = Envelope {
        envelope: envelope.envelope.clone(),
        key_id: envelope.key_id,
        version: current + 1,
        owner: envelope.owner,
        updated_at: envelope.now,
    };
    write(db, stream_key, &next)?;
    Ok(EnvelopeWrite::Written(next.version))
}

pub(super) fn restore(
    db: &Connection,
    stream: StreamId,
    version: u64,
    now: UnixSeconds,
) -> Result<EnvelopeRestore, Failure> {
    let Some(stream_key) = streams::find(db, stream)?.map(|found| found.key) else {
        return Ok(EnvelopeRestore::NotKept);
    };
    let kept = kept(db, stream)?;
    let newest = kept.first().map_or(0, |newest| newest.version);
    if version == newest && newest > 0 {
        return Ok(EnvelopeRestore::Current);
    }
    let Some(older) = kept.into_iter().find(|kept| kept.version == version) else {
        return Ok(EnvelopeRestore::NotKept);
    };
    let restored = Envelope {
        version: newest + 1,
        updated_at: now,
        ..older
    };
    write(db, stream_key, &restored)?;
    Ok(EnvelopeRestore::Restored(restored.version))
}

/// Makes an envelope the current one, and lets go those that are too many.
fn write(db: &Connection, stream_key: i64, envelope: &Envelope) -> Result<(), Failure> {
    db.prepare_cached(
        "INSERT INTO envelopes (stream_key, version, envelope, key_id, owner, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        stream_key,
        Unsigned(envelope.version),
        envelope.envelope,
        envelope.key_id.as_bytes(),
        envelope.owner.as_bytes(),
        Unsigned(envelope.updated_at)
    ])?;
    db.prepare_cached("UPDATE streams SET envelope_version = ?2, key_id = ?3 WHERE stream_key = ?1")?
        .execute(params![
            stream_key,
            Unsigned(envelope.version),
            envelope.key_id.as_bytes()
        ])?;
    db.prepare_cached("DELETE FROM envelopes WHERE stream_key = ?1 AND version <= ?2")?
        .execute(params![
            stream_key,
            Unsigned(envelope.version.saturating_sub(u64::from(ENVELOPES_KEPT)))
        ])?;
    Ok(())
}
