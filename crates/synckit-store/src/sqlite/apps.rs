//! The seed binding, apps, and their API keys.

use rusqlite::{Connection, OptionalExtension as _, params};
use synckit_protocol::{AppId, wire::UnixSeconds};

use super::{
    columns::{Unsigned, id, optional_unsigned, unsigned},
    failure::Failure,
};
use crate::{AcceptNewSeed, ApiKey, App, NewApiKey, NewApp, SecretHash, SeedClaim};

pub(super) fn claim_seed(db: &Connection, seed_id: [u8; 16], accept_new: AcceptNewSeed) -> Result<SeedClaim, Failure> {
    let bound: Option<[u8; 16]> = db
        .prepare_cached("SELECT seed_id FROM server")?
        .query_row([], |row| row.get(0))?;
    match bound {
        Some(bound) if bound == seed_id => return Ok(SeedClaim::Bound),
        Some(_) if accept_new == AcceptNewSeed::No => return Ok(SeedClaim::OtherSeed),
        _ => {}
    }
    db.prepare_cached("UPDATE server SET seed_id = ?1")?
        .execute([seed_id])?;
    if bound.is_none() {
        // Records that were made before the first seed was named can only be of it.
        db.prepare_cached("UPDATE accounts SET seed_id = ?1 WHERE seed_id IS NULL")?
            .execute([seed_id])?;
        return Ok(SeedClaim::Bound);
    }
    let stale_records = db
        .prepare_cached("SELECT count(*) FROM accounts WHERE seed_id IS NOT ?1 AND is_deleted = 0")?
        .query_row([seed_id], |row| unsigned(row, 0))?;
    Ok(SeedClaim::Rebound { stale_records })
}

pub(super) fn check(db: &Connection) -> Result<(), Failure> {
    db.prepare_cached("UPDATE server SET checks = checks + 1")?
        .execute([])?;
    Ok(())
}

pub(super) fn create(db: &Connection, app: &NewApp) -> Result<(), Failure> {
    db.prepare_cached("INSERT INTO apps (app_id, name, created_at) VALUES (?1, ?2, ?3)")?
        .execute(params![app.id.as_bytes(), app.name, Unsigned(app.key.created_at)])?;
    add_key(db, db.last_insert_rowid(), &app.key)
}

fn add_key(db: &Connection, app_key: i64, key: &NewApiKey) -> Result<(), Failure> {
    db.prepare_cached("INSERT INTO api_keys (app_key, hash, ending, created_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![app_key, key.hash.0, key.ending, Unsigned(key.created_at)])?;
    Ok(())
}

pub(super) fn list(db: &Connection, now: UnixSeconds) -> Result<Vec<App>, Failure> {
    let mut apps = db.prepare_cached("SELECT app_key, app_id, name, created_at FROM apps ORDER BY app_key")?;
    let mut keys = db.prepare_cached(
        "SELECT ending, created_at, ends_at FROM api_keys
         WHERE app_key = ?1 AND (ends_at IS NULL OR ends_at > ?2) ORDER BY api_key_key DESC",
    )?;
    let mut rows = apps.query([])?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        let app_key: i64 = row.get(0)?;
        let keys = keys.query_map(params![app_key, Unsigned(now)], |row| {
            Ok(ApiKey {
                ending: row.get(0)?,
                created_at: unsigned(row, 1)?,
                ends_at: optional_unsigned(row, 2)?,
            })
        })?;
        list.push(App {
            id: id(row, 1, AppId::from_bytes)?,
            name: row.get(2)?,
            created_at: unsigned(row, 3)?,
            keys: keys.collect::<Result<_, _>>()?,
        });
    }
    Ok(list)
}

pub(super) fn rotate_key(
    db: &Connection,
    app_id: AppId,
    key: &NewApiKey,
    others_end_at: UnixSeconds,
) -> Result<bool, Failure> {
    let app_key: Option<i64> = db
        .prepare_cached("SELECT app_key FROM apps WHERE app_id = ?1")?
        .query_row([app_id.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(app_key) = app_key else { return Ok(false) };
    db.prepare_cached("UPDATE api_keys SET ends_at = ?2 WHERE app_key = ?1 AND (ends_at IS NULL OR ends_at > ?2)")?
        .execute(params![app_key, Unsigned(others_end_at)])?;
    add_key(db, app_key, key)?;
    Ok(true)
}

pub(super) fn of_key(db: &Connection, key_hash: SecretHash, now: UnixSeconds) -> Result<Option<AppId>, Failure> {
    let app_id = db
        .prepare_cached(
            "SELECT app_id FROM api_keys JOIN apps USING (app_key)
             WHERE hash = ?1 AND (ends_at IS NULL OR ends_at > ?2)",
        )?
        .query_row(params![key_hash.0, Unsigned(now)], |row| id(row, 0, AppId::from_bytes))
        .optional()?;
    Ok(app_id)
}
