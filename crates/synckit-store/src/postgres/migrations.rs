//! The schema: brought up to date by one process at a time, and never backwards.

use std::time::Duration;

use super::{
    connection::{Connection, Isolation},
    pool::Pool,
};
use crate::{
    OpenedBy, StoreError,
    records::{Executor as _, params},
    schema,
};

/// Names the lock of the database under which its schema changes: any number that other programs do not use.
const LOCK: &str = "SELECT CAST(count(pg_advisory_xact_lock(6010233457196821)) AS bigint)";

/// The table that marks the target of a transfer until it is complete.
const UNFINISHED: &str = "unfinished_transfer";

/// How long one migration may take.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// The newest schema that this program knows.
pub(super) const KNOWN: u32 = schema::MIGRATIONS.len() as u32;

/// Brings the schema up to date, or refuses one that this program does not work on. A server changes any older schema; a
/// command only makes the first one, because a server of an older version may be running.
pub(super) async fn run(pool: &Pool, opened_by: OpenedBy) -> Result<(), StoreError> {
    if is_unfinished(pool).await? {
        return Err(StoreError::Unfinished);
    }
    if let Some(done) = checked(found(pool).await?, opened_by) {
        return done;
    }
    let db = locked(pool).await?;
    // Another process may have been faster. It has committed, and this statement sees it.
    let found = found_by(&db).await?;
    if let Some(done) = checked(found, opened_by) {
        return done;
    }
    migrate(&db, found).await?;
    db.commit().await
}

/// A transaction in which no other process changes the schema.
async fn locked(pool: &Pool) -> Result<Connection, StoreError> {
    let db = pool.begin(Isolation::Locking).await?;
    // Of the wait for another process, too.
    db.run(&format!("SET LOCAL statement_timeout = {}", TIMEOUT.as_millis()))
        .await?;
    db.query(LOCK, &[]).await?;
    Ok(db)
}

async fn migrate(db: &Connection, found: Option<u32>) -> Result<(), StoreError> {
    db.run("CREATE TABLE IF NOT EXISTS schema_history (version BIGINT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL)")
        .await?;
    for (version, migration) in (1..).zip(schema::MIGRATIONS) {
        if found.is_none_or(|found| found < version) {
            db.run(&schema::postgresql(migration)).await?;
            db.execute(
                "INSERT INTO schema_history (version, applied_at) VALUES ($1, now())",
                params![version],
            )
            .await?;
        }
    }
    Ok(())
}

/// Makes the schema in an empty database, marked as the unfinished target of a transfer. Returns whether it is such a target,
/// new or of an earlier transfer.
pub(super) async fn begin_unfinished(pool: &Pool) -> Result<bool, StoreError> {
    let db = locked(pool).await?;
    match (found_by(&db).await?, has_table(&db, UNFINISHED).await?) {
        (None, _) => {
            migrate(&db, None).await?;
            db.run(&format!(
                "CREATE TABLE {UNFINISHED} (begun_at TIMESTAMPTZ NOT NULL DEFAULT now())"
            ))
            .await?;
            db.commit().await?;
            Ok(true)
        }
        (Some(found), true) if found == KNOWN => Ok(true),
        _ => Ok(false),
    }
}

pub(super) async fn is_unfinished(pool: &Pool) -> Result<bool, StoreError> {
    has_table(&pool.single().await?, UNFINISHED).await
}

pub(super) async fn end_unfinished(pool: &Pool) -> Result<(), StoreError> {
    let db = pool.begin(Isolation::Locking).await?;
    db.run(&format!("DROP TABLE {UNFINISHED}")).await?;
    db.commit().await
}

/// Whether a schema is good as it is, or must not be touched; `None` if it is to be brought up to date.
fn checked(found: Option<u32>, opened_by: OpenedBy) -> Option<Result<(), StoreError>> {
    match found {
        Some(found) if found == KNOWN => Some(Ok(())),
        Some(found) if found > KNOWN => Some(Err(StoreError::NewerSchema { found, known: KNOWN })),
        Some(_) if opened_by == OpenedBy::Command => Some(Err(StoreError::OtherSchema { found, known: KNOWN })),
        _ => None,
    }
}

/// The schema of the database; `None` if nothing was ever stored in it.
pub(super) async fn found(pool: &Pool) -> Result<Option<u32>, StoreError> {
    found_by(&pool.single().await?).await
}

async fn found_by(db: &Connection) -> Result<Option<u32>, StoreError> {
    if !has_table(db, "schema_history").await? {
        return Ok(None);
    }
    let newest = db.query_one("SELECT max(version) FROM schema_history", &[]).await?;
    newest.map(|row| row.get(0)).transpose().map(Option::flatten)
}

async fn has_table(db: &Connection, name: &'static str) -> Result<bool, StoreError> {
    let table = db
        .query_one("SELECT CAST(to_regclass($1::text) AS text)", params![name])
        .await?;
    Ok(table
        .map(|row| row.get::<Option<String>>(0))
        .transpose()?
        .flatten()
        .is_some())
}
