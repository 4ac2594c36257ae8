//! The seed binding, apps, and their API keys.

use synckit_protocol::{AppId, limits::REDIRECTS_MAX, wire::UnixSeconds};

use super::{Executor, ImpossibleValue, accounts, params, teams};
use crate::{
    AcceptNewSeed, ApiKey, App, AppProfile, AppWrite, NewApiKey, NewApp, RedirectWrite, SeedClaim, StoreError,
};

/// [`crate::Store::claim_seed`].
///
/// # Errors
/// Those of the engine.
pub async fn claim_seed(
    db: &impl Executor,
    seed_id: [u8; 16],
    accept_new: AcceptNewSeed,
) -> Result<SeedClaim, StoreError> {
    let bound = self::seed_id(db).await?;
    match bound {
        Some(bound) if bound == seed_id => return Ok(SeedClaim::Bound),
        Some(_) if accept_new == AcceptNewSeed::No => return Ok(SeedClaim::OtherSeed),
        _ => {}
    }
    db.execute("UPDATE server SET seed_id = $1", params![&seed_id]).await?;
    if bound.is_none() {
        // Records that were made before the first seed was claimed can only be of it.
        db.execute(
            "UPDATE accounts SET seed_id = $1 WHERE seed_id IS NULL",
            params![&seed_id],
        )
        .await?;
        return Ok(SeedClaim::Bound);
    }
    let stale = db
        .query_one(
            "SELECT count(*) FROM accounts WHERE seed_id IS DISTINCT FROM $1 AND is_deleted = 0",
            params![&seed_id],
        )
        .await?;
    let stale_records = stale.map_or(Ok(0), |row| row.get(0))?;
    Ok(SeedClaim::Rebound { stale_records })
}

/// [`crate::Store::seed_id`].
///
/// # Errors
/// Those of the engine.
pub async fn seed_id(db: &impl Executor) -> Result<Option<[u8; 16]>, StoreError> {
    let server = db.query_one("SELECT seed_id FROM server", &[]).await?;
    server.ok_or(ImpossibleValue("table without its row"))?.get(0)
}

/// The half of [`crate::Store::check`] that writes.
///
/// # Errors
/// Those of the engine.
pub async fn check(db: &impl Executor) -> Result<(), StoreError> {
    db.execute("UPDATE server SET checks = checks + 1", &[]).await?;
    Ok(())
}

/// [`crate::Store::create_app`].
///
/// # Errors
/// Those of the engine.
pub async fn create(db: &impl Executor, app: &NewApp) -> Result<AppWrite, StoreError> {
    let team_key = match app.team {
        Some(team_id) => match teams::with_room(db, team_id).await? {
            Ok(team_key) => Some(team_key),
            Err(refusal) => return Ok(refusal),
        },
        None => None,
    };
    if named(db, &app.name).await?.is_some() {
        return Ok(AppWrite::NameTaken);
    }
    let created = db
        .query_one(
            "INSERT INTO apps (app_id, team_key, name, created_at) VALUES ($1, $2, $3, $4) RETURNING app_key",
            params![&app.id, team_key, &app.name, app.key.created_at],
        )
        .await?;
    let app_key = created.ok_or(ImpossibleValue("app without a key"))?.get(0)?;
    add_key(db, app_key, &app.key).await?;
    Ok(AppWrite::Written)
}

/// The key of the app with this name, or one that people read as the same. Here, because each engine has an order of its own for
/// texts.
async fn named(db: &impl Executor, name: &str) -> Result<Option<i64>, StoreError> {
    let apps = db
        .query(
            "SELECT app_key, name FROM apps WHERE is_deleted = 0 AND name <> ''",
            &[],
        )
        .await?;
    for row in apps {
        if read_as(&row.get::<String>(1)?) == read_as(name) {
            return Ok(Some(row.get(0)?));
        }
    }
    Ok(None)
}

/// A name without what people overlook: capitals, and how wide a space is.
fn read_as(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// The key of an app.
pub(super) async fn find(db: &impl Executor, app_id: AppId) -> Result<Option<i64>, StoreError> {
    let found = db
        .query_one(
            "SELECT app_key FROM apps WHERE app_id = $1 AND is_deleted = 0 AND name <> ''",
            params![&app_id],
        )
        .await?;
    found.map(|row| row.get(0)).transpose()
}

/// [`crate::Store::rename_app`].
///
/// # Errors
/// Those of the engine.
pub async fn rename(db: &impl Executor, app_id: AppId, name: &str) -> Result<AppWrite, StoreError> {
    let Some(app_key) = find(db, app_id).await? else {
        return Ok(AppWrite::NoSuchApp);
    };
    if named(db, name).await?.is_some_and(|other| other != app_key) {
        return Ok(AppWrite::NameTaken);
    }
    db.execute("UPDATE apps SET name = $2 WHERE app_key = $1", params![app_key, name])
        .await?;
    Ok(AppWrite::Written)
}

/// [`crate::Store::delete_app`]: one small transaction removes keys and name and marks the app. No query finds a session
/// of a marked app, and no stream is created in one. [`sweep`] takes its streams.
///
/// # Errors
/// Those of the engine.
pub async fn delete(db: &impl Executor, app_id: AppId) -> Result<bool, StoreError> {
    let Some(app_key) = find(db, app_id).await? else {
        return Ok(false);
    };
    db.execute("DELETE FROM api_keys WHERE app_key = $1", params![app_key])
        .await?;
    db.execute("DELETE FROM redirects WHERE app_key = $1", params![app_key])
        .await?;
    db.execute(
        "UPDATE apps SET name = '', team_key = NULL, is_deleted = 1 WHERE app_key = $1",
        params![app_key],
    )
    .await?;
    Ok(true)
}

/// Transfers one stream of a deleted app to a nameless account, as the deletion of its account would, or deletes the
/// row of an app without streams. Returns whether it found a deleted app.
///
/// # Errors
/// Those of the engine.
pub async fn sweep(db: &impl Executor) -> Result<bool, StoreError> {
    let app = db
        .query_one(
            "SELECT app_key, app_id FROM apps WHERE is_deleted = 1 ORDER BY app_key LIMIT 1",
            &[],
        )
        .await?;
    let Some(app) = app else { return Ok(false) };
    let (app_key, app_id): (i64, AppId) = (app.get(0)?, app.get(1)?);
    let stream = db
        .query_one(
            "SELECT stream_key FROM streams WHERE app_id = $1 ORDER BY stream_key LIMIT 1",
            params![&app_id],
        )
        .await?;
    match stream {
        Some(stream) => accounts::abandon_stream(db, stream.get(0)?).await?,
        None => {
            for statement in [
                "DELETE FROM plans WHERE app_key = $1",
                "DELETE FROM usage_hours WHERE app_key = $1",
                "DELETE FROM usage_months WHERE app_key = $1",
                "DELETE FROM apps WHERE app_key = $1",
            ] {
                db.execute(statement, params![app_key]).await?;
            }
        }
    }
    Ok(true)
}

async fn add_key(db: &impl Executor, app_key: i64, key: &NewApiKey) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO api_keys (app_key, api_key, created_at) VALUES ($1, $2, $3)",
        params![app_key, &key.text, key.created_at],
    )
    .await?;
    Ok(())
}

/// [`crate::Store::apps`].
///
/// # Errors
/// Those of the engine.
pub async fn list(db: &impl Executor, now: UnixSeconds) -> Result<Vec<App>, StoreError> {
    let apps = db
        .query(
            "SELECT app_key, app_id, name, created_at FROM apps WHERE is_deleted = 0 AND name <> '' ORDER BY app_key",
            &[],
        )
        .await?;
    let mut list = Vec::with_capacity(apps.len());
    for row in apps {
        let app_key: i64 = row.get(0)?;
        let keys = db
            .query(
                "SELECT api_key, created_at, ends_at FROM api_keys
                 WHERE app_key = $1 AND (ends_at IS NULL OR ends_at > $2) ORDER BY api_key_key DESC",
                params![app_key, now],
            )
            .await?;
        let keys = keys.iter().map(|row| {
            Ok(ApiKey {
                text: row.get(0)?,
                created_at: row.get(1)?,
                ends_at: row.get(2)?,
            })
        });
        list.push(App {
            id: row.get(1)?,
            name: row.get(2)?,
            created_at: row.get(3)?,
            keys: keys.collect::<Result<_, StoreError>>()?,
        });
    }
    Ok(list)
}

/// [`crate::Store::rotate_api_key`].
///
/// # Errors
/// Those of the engine.
pub async fn rotate_key(
    db: &impl Executor,
    app_id: AppId,
    key: &NewApiKey,
    others_end_at: UnixSeconds,
) -> Result<bool, StoreError> {
    let Some(app_key) = find(db, app_id).await? else {
        return Ok(false);
    };
    db.execute(
        "UPDATE api_keys SET ends_at = $2 WHERE app_key = $1 AND (ends_at IS NULL OR ends_at > $2)",
        params![app_key, others_end_at],
    )
    .await?;
    add_key(db, app_key, key).await?;
    Ok(true)
}

/// [`crate::Store::app_of_key`].
///
/// # Errors
/// Those of the engine.
pub async fn of_key(db: &impl Executor, api_key: &str, now: UnixSeconds) -> Result<Option<AppId>, StoreError> {
    let app = db
        .query_one(
            "SELECT app_id FROM api_keys JOIN apps USING (app_key)
             WHERE api_key = $1 AND (ends_at IS NULL OR ends_at > $2)",
            params![api_key, now],
        )
        .await?;
    app.map(|row| row.get(0)).transpose()
}

/// [`crate::Store::put_redirect`].
///
/// # Errors
/// Those of the engine.
pub async fn put_redirect(
    db: &impl Executor,
    app_id: AppId,
    uri: &str,
    now: UnixSeconds,
) -> Result<RedirectWrite, StoreError> {
    let Some(app_key) = find(db, app_id).await? else {
        return Ok(RedirectWrite::NoSuchApp);
    };
    let registered = redirects(db, app_key).await?;
    if registered.iter().any(|one| one == uri) {
        return Ok(RedirectWrite::Registered);
    }
    if registered.len() >= REDIRECTS_MAX {
        return Ok(RedirectWrite::TooMany);
    }
    db.execute(
        "INSERT INTO redirects (app_key, uri, created_at) VALUES ($1, $2, $3)",
        params![app_key, uri, now],
    )
    .await?;
    Ok(RedirectWrite::Registered)
}

async fn redirects(db: &impl Executor, app_key: i64) -> Result<Vec<String>, StoreError> {
    let rows = db
        .query("SELECT uri FROM redirects WHERE app_key = $1", params![app_key])
        .await?;
    let mut uris: Vec<String> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    // Here, because each engine has an order of its own for texts.
    uris.sort_unstable();
    Ok(uris)
}

/// [`crate::Store::delete_redirect`].
///
/// # Errors
/// Those of the engine.
pub async fn delete_redirect(db: &impl Executor, app_id: AppId, uri: &str) -> Result<bool, StoreError> {
    let Some(app_key) = find(db, app_id).await? else {
        return Ok(false);
    };
    let deleted = db
        .query(
            "DELETE FROM redirects WHERE app_key = $1 AND uri = $2 RETURNING app_key",
            params![app_key, uri],
        )
        .await?;
    Ok(!deleted.is_empty())
}

/// [`crate::Store::app_profile`].
///
/// # Errors
/// Those of the engine.
pub async fn profile(db: &impl Executor, app_id: AppId) -> Result<Option<AppProfile>, StoreError> {
    let app = db
        .query_one(
            "SELECT app_key, name FROM apps WHERE app_id = $1 AND is_deleted = 0 AND name <> ''",
            params![&app_id],
        )
        .await?;
    let Some(app) = app else { return Ok(None) };
    Ok(Some(AppProfile {
        name: app.get(1)?,
        redirects: redirects(db, app.get(0)?).await?,
    }))
}
