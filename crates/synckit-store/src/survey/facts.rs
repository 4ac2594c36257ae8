//! Facts about a database, read from its rows.

use synckit_protocol::wire::UnixSeconds;

use crate::{
    StoreError,
    records::{Executor, ImpossibleValue},
};

/// Facts about a database, read from its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseFacts {
    /// Apps.
    pub apps: u64,
    /// Accounts, deleted ones that are still swept not counted.
    pub accounts: u64,
    /// Those whose password was registered under another OPRF seed than the database is bound to.
    pub stale_passwords: u64,
    /// The OPRF seed that it is bound to; `None` before the first start.
    pub seed_id: Option<[u8; 16]>,
    /// The newest time in any of its rows.
    pub newest_time: Option<UnixSeconds>,
}

pub(crate) async fn read(db: &impl Executor) -> Result<DatabaseFacts, StoreError> {
    let row = db
        .query_one(
            "SELECT (SELECT count(*) FROM apps WHERE is_deleted = 0 AND name <> ''), (SELECT count(*) FROM accounts WHERE is_deleted = 0),
                 (SELECT seed_id FROM server),
                 (SELECT max(newest) FROM (
                     SELECT max(created_at) AS newest FROM accounts UNION ALL SELECT max(refreshed_at) FROM sessions
                     UNION ALL SELECT max(last_seen_at) FROM devices UNION ALL SELECT max(updated_at) FROM envelopes
                     UNION ALL SELECT max(touched_at) FROM snapshots) AS times),
                 (SELECT count(*) FROM accounts CROSS JOIN server
                  WHERE is_deleted = 0 AND accounts.seed_id IS DISTINCT FROM server.seed_id),
                 (SELECT count(*) FROM server)",
            &[],
        )
        .await?;
    let row = row.ok_or(ImpossibleValue("empty answer"))?;
    if row.get::<u64>(5)? != 1 {
        return Err(ImpossibleValue("number of rows in the table server").into());
    }
    Ok(DatabaseFacts {
        apps: row.get(0)?,
        accounts: row.get(1)?,
        seed_id: row.get(2)?,
        newest_time: row.get(3)?,
        stale_passwords: row.get(4)?,
    })
}
