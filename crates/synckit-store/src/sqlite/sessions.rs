//! Sessions. One that has ended has no row.

use rusqlite::{Connection, OptionalExtension as _, Row, Statement, params};
use synckit_protocol::{AppId, DeviceId, SessionId, UserId, limits::REFRESH_SECONDS, wire::UnixSeconds};

use super::{
    columns::{Unsigned, id, unsigned},
    failure::Failure,
    streams,
};
use crate::{EndSessions, NewSession, RefreshUse, Session, StreamId};

/// The columns that [`read`] expects; the caller adds its condition.
macro_rules! select_sessions {
    ($condition:literal) => {
        concat!(
            "SELECT session_id, streams.app_id, streams.user_id, apps.name, devices.device_id, devices.name,
                 sessions.created_at, refreshed_at
             FROM sessions JOIN streams USING (stream_key) JOIN apps ON apps.app_id = streams.app_id
                 LEFT JOIN devices ON devices.device_key = sessions.device_key
             WHERE ",
            $condition
        )
    };
}

fn read(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: id(row, 0, SessionId::from_bytes)?,
        stream: StreamId {
            app_id: id(row, 1, AppId::from_bytes)?,
            user_id: id(row, 2, UserId::from_bytes)?,
        },
        app_name: row.get(3)?,
        device_id: row.get::<_, Option<[u8; 16]>>(4)?.map(DeviceId::from_bytes),
        device_name: row.get(5)?,
        created_at: unsigned(row, 6)?,
        refreshed_at: unsigned(row, 7)?,
    })
}

/// A session that was refreshed at this time or before has ended.
const fn expired(now: UnixSeconds) -> Unsigned {
    Unsigned(now.saturating_sub(REFRESH_SECONDS))
}

pub(super) fn open(db: &Connection, session: NewSession) -> Result<(), Failure> {
    let stream_key = streams::find_or_create(db, session.stream)?;
    // Rows of sessions that ran out go here, where a new one of the same stream takes their place.
    db.prepare_cached("DELETE FROM sessions WHERE stream_key = ?1 AND refreshed_at <= ?2")?
        .execute(params![stream_key, expired(session.now)])?;
    db.prepare_cached(
        "INSERT INTO sessions (session_id, stream_key, refresh_counter, created_at, refreshed_at)
         VALUES (?1, ?2, 1, ?3, ?3)",
    )?
    .execute(params![session.id.as_bytes(), stream_key, Unsigned(session.now)])?;
    Ok(())
}

pub(super) fn find(db: &Connection, session_id: SessionId, now: UnixSeconds) -> Result<Option<Session>, Failure> {
    let session = db
        .prepare_cached(select_sessions!("session_id = ?1 AND refreshed_at > ?2"))?
        .query_row(params![session_id.as_bytes(), expired(now)], read)
        .optional()?;
    Ok(session)
}

pub(super) fn of_user(db: &Connection, user_id: UserId, now: UnixSeconds) -> Result<Vec<Session>, Failure> {
    let mut statement = db.prepare_cached(select_sessions!(
        "streams.user_id = ?1 AND refreshed_at > ?2 ORDER BY sessions.session_key DESC"
    ))?;
    let sessions = statement.query_map(params![user_id.as_bytes(), expired(now)], read)?;
    Ok(sessions.collect::<Result<_, _>>()?)
}

pub(super) fn advance_refresh(
    db: &Connection,
    session_id: SessionId,
    counter: u64,
    now: UnixSeconds,
) -> Result<RefreshUse, Failure> {
    let current = db
        .prepare_cached(
            "SELECT refresh_counter, app_id, user_id, refreshed_at > ?2 FROM sessions JOIN streams USING (stream_key)
             WHERE session_id = ?1",
        )?
        .query_row(params![session_id.as_bytes(), expired(now)], |row| {
            let stream = StreamId {
                app_id: id(row, 1, AppId::from_bytes)?,
                user_id: id(row, 2, UserId::from_bytes)?,
            };
            Ok((unsigned(row, 0)?, stream, row.get::<_, bool>(3)?))
        })
        .optional()?;
    let Some((current, stream, is_recent)) = current else {
        return Ok(RefreshUse::Ended);
    };
    if counter > current || !is_recent {
        // Never given out by this database, which then is an older copy: the session is not at fault and stays. Or too
        // old by a clock that may be ahead.
        return Ok(RefreshUse::Refused);
    }
    if counter == 0 || current - counter > 1 {
        end(db, EndSessions::One(session_id))?;
        return Ok(RefreshUse::Ended);
    }
    let next = if counter == current { current + 1 } else { current };
    db.prepare_cached(
        "UPDATE sessions SET refresh_counter = ?2, refreshed_at = max(refreshed_at, ?3) WHERE session_id = ?1",
    )?
    .execute(params![session_id.as_bytes(), Unsigned(next), Unsigned(now)])?;
    Ok(RefreshUse::Next { counter: next, stream })
}

pub(super) fn end(db: &Connection, which: EndSessions) -> Result<Vec<SessionId>, Failure> {
    match which {
        EndSessions::One(session_id) => {
            let mut statement = db.prepare_cached("DELETE FROM sessions WHERE session_id = ?1 RETURNING session_id")?;
            ended(&mut statement, [session_id.as_bytes()])
        }
        EndSessions::OneOfUser(user_id, session_id) => {
            let mut statement = db.prepare_cached(
                "DELETE FROM sessions
                 WHERE session_id = ?1 AND stream_key IN (SELECT stream_key FROM streams WHERE user_id = ?2)
                 RETURNING session_id",
            )?;
            ended(&mut statement, [session_id.as_bytes(), user_id.as_bytes()])
        }
        EndSessions::OfUser(user_id) => end_of_user(db, user_id, None),
    }
}

/// Ends every session of an account but one.
pub(super) fn end_of_user(
    db: &Connection,
    user_id: UserId,
    keep: Option<SessionId>,
) -> Result<Vec<SessionId>, Failure> {
    let mut statement = db.prepare_cached(
        "DELETE FROM sessions
         WHERE stream_key IN (SELECT stream_key FROM streams WHERE user_id = ?1) AND session_id IS NOT ?2
         RETURNING session_id",
    )?;
    ended(
        &mut statement,
        params![user_id.as_bytes(), keep.as_ref().map(SessionId::as_bytes)],
    )
}

/// Ends every session that is bound to a device.
pub(super) fn end_of_device(db: &Connection, device_key: i64) -> Result<Vec<SessionId>, Failure> {
    let mut statement = db.prepare_cached("DELETE FROM sessions WHERE device_key = ?1 RETURNING session_id")?;
    ended(&mut statement, [device_key])
}

fn ended(statement: &mut Statement<'_>, params: impl rusqlite::Params) -> Result<Vec<SessionId>, Failure> {
    let ids = statement.query_map(params, |row| id(row, 0, SessionId::from_bytes))?;
    Ok(ids.collect::<Result<_, _>>()?)
}
