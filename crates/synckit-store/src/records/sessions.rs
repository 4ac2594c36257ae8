//! Sessions. A session that has ended has no row.

use synckit_protocol::{SessionId, UserId, limits::PAGE_SESSIONS_MAX, wire::UnixSeconds};

use super::{Executor, Row, params, streams};
use crate::{
    EndSessions, FinishedLogin, LoginUse, NewSession, PAGES_APP, RefreshUse, Session, StoreError, StreamId,
    ids::app_name,
    rules::{
        quotas::{Quotas, sessions_beside_new},
        sessions::{Refresh, expired, login_forgotten, oldest, refresh, replaced},
    },
};

/// The columns that [`read`] expects; the caller adds its condition.
macro_rules! select_sessions {
    ($condition:literal) => {
        concat!(
            "SELECT session_id, streams.app_id, streams.user_id, apps.name, devices.device_id, devices.name,
                 sessions.created_at, refreshed_at, refresh_counter
             FROM sessions JOIN streams USING (stream_key) JOIN apps ON apps.app_id = streams.app_id
                 LEFT JOIN devices ON devices.device_key = sessions.device_key
             WHERE apps.is_deleted = 0 AND ",
            $condition
        )
    };
}

fn read(row: &Row) -> Result<Session, StoreError> {
    let app_id = row.get(1)?;
    Ok(Session {
        id: row.get(0)?,
        stream: StreamId {
            app_id,
            user_id: row.get(2)?,
        },
        app_name: app_name(app_id, row.get(3)?),
        device_id: row.get(4)?,
        device_name: row.get(5)?,
        created_at: row.get(6)?,
        refreshed_at: row.get(7)?,
        refresh_counter: row.get(8)?,
    })
}

fn lives(session: &Session, now: UnixSeconds) -> bool {
    session.refreshed_at > expired(session.stream.app_id, now)
}

/// [`crate::Store::finish_login`].
///
/// # Errors
/// Those of the engine.
pub async fn finish_login(db: &impl Executor, finished: &FinishedLogin) -> Result<LoginUse, StoreError> {
    db.execute(
        "DELETE FROM finished_logins WHERE finished_at < $1",
        params![login_forgotten(finished.now)],
    )
    .await?;
    let before = db
        .query_one(
            "SELECT session_id FROM finished_logins WHERE login = $1",
            params![&finished.login],
        )
        .await?;
    let Some(before) = before else {
        db.execute(
            "INSERT INTO finished_logins (login, session_id, finished_at) VALUES ($1, $2, $3)",
            params![&finished.login, finished.session_id.as_ref(), finished.now],
        )
        .await?;
        return Ok(LoginUse::First);
    };
    let ended = match before.get::<Option<SessionId>>(0)? {
        Some(opened) => {
            let rows = db
                .query(
                    "DELETE FROM sessions WHERE session_id = $1 AND device_key IS NULL RETURNING session_id",
                    params![&opened],
                )
                .await?;
            ids(&rows)?
        }
        None => Vec::new(),
    };
    // The first message may not have reached `open` yet.
    db.execute(
        "UPDATE finished_logins SET session_id = NULL WHERE login = $1",
        params![&finished.login],
    )
    .await?;
    Ok(LoginUse::Repeated { ended })
}

/// [`crate::Store::open_session`].
///
/// # Errors
/// [`StoreError::NoSuchStream`], [`StoreError::LoginRepeated`], [`StoreError::PasswordReplaced`], and those of the engine.
pub async fn open(db: &impl Executor, session: NewSession, quotas: &Quotas) -> Result<bool, StoreError> {
    if let Some(login) = &session.login {
        let finished = db
            .query_one(
                "SELECT login FROM finished_logins WHERE login = $1 AND session_id = $2",
                params![login, &session.id],
            )
            .await?;
        finished.ok_or(StoreError::LoginRepeated)?;
    }
    if let Some(credential) = &session.credential {
        let account = db
            .query_one(
                "SELECT credential_id FROM accounts WHERE user_id = $1 AND is_deleted = 0",
                params![&session.stream.user_id],
            )
            .await?;
        let current: [u8; 16] = account.ok_or(StoreError::NoSuchStream)?.get(0)?;
        if current != credential.0 {
            return Err(StoreError::PasswordReplaced);
        }
    }
    let stream_key = streams::find_or_create(db, session.stream).await?;
    // Its owner is back: the account is kept.
    let kept = db
        .execute(
            "UPDATE accounts SET delete_at = NULL WHERE user_id = $1 AND delete_at IS NOT NULL",
            params![&session.stream.user_id],
        )
        .await?;
    // Expired rows are deleted where a new session of the same stream takes their place.
    db.execute(
        "DELETE FROM sessions WHERE stream_key = $1 AND refreshed_at <= $2",
        params![stream_key, expired(session.stream.app_id, session.now)],
    )
    .await?;
    if session.stream.app_id == PAGES_APP {
        // Browsers push out browsers, not devices: they have a number of their own.
        db.execute(
            "DELETE FROM sessions WHERE session_key IN (
                 SELECT session_key FROM sessions WHERE stream_key = $1
                 ORDER BY refreshed_at DESC, session_key DESC LIMIT 1000000000 OFFSET $2)",
            params![stream_key, PAGE_SESSIONS_MAX - 1],
        )
        .await?;
    } else {
        // The least recently refreshed sessions beyond the quota end. No account has as many as the limit.
        db.execute(
            "DELETE FROM sessions WHERE session_key IN (
                 SELECT session_key FROM streams JOIN sessions USING (stream_key) WHERE user_id = $1 AND app_id <> $3
                 ORDER BY refreshed_at DESC, session_key DESC LIMIT 1000000000 OFFSET $2)",
            params![&session.stream.user_id, sessions_beside_new(quotas), &PAGES_APP],
        )
        .await?;
    }
    db.execute(
        "INSERT INTO sessions (session_id, stream_key, refresh_counter, created_at, refreshed_at)
         VALUES ($1, $2, 1, $3, $3)",
        params![&session.id, stream_key, session.now],
    )
    .await?;
    Ok(kept > 0)
}

/// [`crate::Store::session`].
///
/// # Errors
/// Those of the engine.
pub async fn find(db: &impl Executor, id: SessionId, now: UnixSeconds) -> Result<Option<Session>, StoreError> {
    let row = db
        .query_one(
            select_sessions!("session_id = $1 AND refreshed_at > $2"),
            params![&id, oldest(now)],
        )
        .await?;
    let session = row.as_ref().map(read).transpose()?;
    Ok(session.filter(|session| lives(session, now)))
}

/// [`crate::Store::sessions`].
///
/// # Errors
/// Those of the engine.
pub async fn of_user(db: &impl Executor, user_id: UserId, now: UnixSeconds) -> Result<Vec<Session>, StoreError> {
    let rows = db
        .query(
            select_sessions!("streams.user_id = $1 AND refreshed_at > $2 ORDER BY sessions.session_key DESC"),
            params![&user_id, oldest(now)],
        )
        .await?;
    let mut sessions: Vec<Session> = rows.iter().map(read).collect::<Result<_, _>>()?;
    sessions.retain(|session| lives(session, now));
    Ok(sessions)
}

/// [`crate::Store::advance_refresh`].
///
/// # Errors
/// Those of the engine.
pub async fn advance_refresh(
    db: &impl Executor,
    id: SessionId,
    counter: u64,
    now: UnixSeconds,
) -> Result<RefreshUse, StoreError> {
    let row = db
        .query_one(
            "SELECT refresh_counter, refreshed_at, apps.app_id, user_id
             FROM sessions JOIN streams USING (stream_key) JOIN apps ON apps.app_id = streams.app_id
             WHERE session_id = $1 AND apps.is_deleted = 0",
            params![&id],
        )
        .await?;
    let Some(row) = row else {
        return Ok(RefreshUse::Ended);
    };
    let stream = StreamId {
        app_id: row.get(2)?,
        user_id: row.get(3)?,
    };
    // A session of the pages ends by itself, and reaches nothing of an app.
    if stream.app_id == PAGES_APP {
        return Ok(RefreshUse::Refused);
    }
    let next = match refresh(row.get(0)?, row.get(1)?, counter, now) {
        Refresh::Refuse => return Ok(RefreshUse::Refused),
        Refresh::End => {
            end(db, EndSessions::One(id)).await?;
            return Ok(RefreshUse::Ended);
        }
        Refresh::Continue(next) => next,
    };
    db.execute(
        "UPDATE sessions SET refresh_counter = $2,
             refreshed_at = CASE WHEN refreshed_at < $3 THEN $3 ELSE refreshed_at END
         WHERE session_id = $1",
        params![&id, next, now],
    )
    .await?;
    Ok(RefreshUse::Next { counter: next, stream })
}

/// [`crate::Store::end_sessions`].
///
/// # Errors
/// Those of the engine.
pub async fn end(db: &impl Executor, which: EndSessions) -> Result<Vec<SessionId>, StoreError> {
    match which {
        EndSessions::One(id) => {
            let rows = db
                .query(
                    "DELETE FROM sessions WHERE session_id = $1 RETURNING session_id",
                    params![&id],
                )
                .await?;
            ids(&rows)
        }
        EndSessions::OneOfUser(user_id, id) => {
            let rows = db
                .query(
                    "DELETE FROM sessions
                     WHERE session_id = $1 AND stream_key IN (SELECT stream_key FROM streams WHERE user_id = $2)
                     RETURNING session_id",
                    params![&id, &user_id],
                )
                .await?;
            ids(&rows)
        }
        EndSessions::OfUser(user_id) => end_of_user(db, user_id, None).await,
        EndSessions::OthersOfUser(user_id, kept) => end_of_user(db, user_id, Some(kept)).await,
    }
}

/// Ends every session of an account but one.
pub(crate) async fn end_of_user(
    db: &impl Executor,
    user_id: UserId,
    keep: Option<SessionId>,
) -> Result<Vec<SessionId>, StoreError> {
    let rows = db
        .query(
            "DELETE FROM sessions
             WHERE stream_key IN (SELECT stream_key FROM streams WHERE user_id = $1) AND session_id IS DISTINCT FROM $2
             RETURNING session_id",
            params![&user_id, keep.as_ref()],
        )
        .await?;
    ids(&rows)
}

/// Makes every refresh secret that a session was ever given an old one.
pub(crate) async fn replace_refresh(db: &impl Executor, id: SessionId) -> Result<(), StoreError> {
    let row = db
        .query_one(
            "SELECT refresh_counter FROM sessions WHERE session_id = $1",
            params![&id],
        )
        .await?;
    if let Some(row) = row {
        db.execute(
            "UPDATE sessions SET refresh_counter = $2 WHERE session_id = $1",
            params![&id, replaced(row.get(0)?)],
        )
        .await?;
    }
    Ok(())
}

/// Ends every session that is bound to a device.
pub(crate) async fn end_of_device(db: &impl Executor, device_key: i64) -> Result<Vec<SessionId>, StoreError> {
    let rows = db
        .query(
            "DELETE FROM sessions WHERE device_key = $1 RETURNING session_id",
            params![device_key],
        )
        .await?;
    ids(&rows)
}

fn ids(rows: &[Row]) -> Result<Vec<SessionId>, StoreError> {
    rows.iter().map(|row| row.get(0)).collect()
}
