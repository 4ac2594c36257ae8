//! Envelopes: the wrapped master keys of a stream.

use rusqlite::{Connection, OptionalExtension as _, params};
use synckit_protocol::{KeyId, limits::ENVELOPES_KEPT};

use super::{
    columns::{Unsigned, id, unsigned},
    failure::Failure,
    log, streams,
};
use crate::store::{Envelope, EnvelopeWrite, NewEnvelope, StreamId};

pub(super) fn current(db: &Connection, stream: StreamId) -> Result<Option<Envelope>, Failure> {
    let envelope = db
        .prepare_cached(
            "SELECT envelope, envelopes.key_id, version, updated_at
             FROM streams JOIN envelopes ON envelopes.stream_key = streams.stream_key AND version = envelope_version
             WHERE user_id = ?1 AND app_id = ?2",
        )?
        .query_row([stream.user_id.as_bytes(), stream.app_id.as_bytes()], |row| {
            Ok(Envelope {
                envelope: row.get(0)?,
                key_id: id(row, 1, KeyId::from_bytes)?,
                version: unsigned(row, 2)?,
                updated_at: unsigned(row, 3)?,
            })
        })
        .optional()?;
    Ok(envelope)
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
    let version = current + 1;
    db.prepare_cached(
        "INSERT INTO envelopes (stream_key, version, envelope, key_id, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        stream_key,
        Unsigned(version),
        envelope.envelope,
        envelope.key_id.as_bytes(),
        Unsigned(envelope.now)
    ])?;
    db.prepare_cached("UPDATE streams SET envelope_version = ?2, key_id = ?3 WHERE stream_key = ?1")?
        .execute(params![stream_key, Unsigned(version), envelope.key_id.as_bytes()])?;
    db.prepare_cached("DELETE FROM envelopes WHERE stream_key = ?1 AND version <= ?2")?
        .execute(params![
            stream_key,
            Unsigned(version.saturating_sub(u64::from(ENVELOPES_KEPT)))
        ])?;
    Ok(EnvelopeWrite::Written(version))
}
