//! A PostgreSQL as the source or the target of a transfer.
//!
//! A table marks a target that is not complete; no server and no command opens it.

use futures_util::future::try_join_all;

use super::{PostgresUrl, connection, connection::Isolation, migrations, pool::Pool};
use crate::{
    StoreError,
    records::{Row, Value},
    survey::LogWalk,
    transfer::{error::TransferError, tables::Table},
};

/// The name that the sessions of a transfer have in the database.
const APPLICATION: &str = "synckit migrate-store";

/// Held by the only connection of a transfer while it writes into the database.
const LOCK_OF_TARGET: &str = "SELECT CAST(pg_try_advisory_lock(6010233457196822) AS text)";

/// An open database.
pub(crate) struct PostgresEnd {
    pool: Pool,
    shown: String,
}

impl PostgresEnd {
    pub(crate) async fn source(url: &PostgresUrl) -> Result<Self, TransferError> {
        let end = Self::open(url).await?;
        if migrations::is_unfinished(&end.pool).await? {
            return Err(TransferError::NoSource);
        }
        match migrations::found(&end.pool).await? {
            None => Err(TransferError::NoSource),
            Some(found) if found == migrations::KNOWN => Ok(end),
            Some(found) => Err(StoreError::OtherSchema {
                found: Some(found),
                known: migrations::KNOWN,
            }
            .into()),
        }
    }

    pub(crate) async fn target(url: &PostgresUrl) -> Result<Self, TransferError> {
        let end = Self::open(url).await?;
        let locked = end.rows(LOCK_OF_TARGET, &[]).await?;
        if locked
            .first()
            .map_or(Ok(None), |row| row.get::<Option<String>>(0))?
            .as_deref()
            != Some("true")
        {
            return Err(TransferError::InUse(end.shown));
        }
        if migrations::begin_unfinished(&end.pool).await? {
            Ok(end)
        } else {
            Err(TransferError::NotEmpty)
        }
    }

    async fn open(url: &PostgresUrl) -> Result<Self, StoreError> {
        Ok(Self {
            pool: Pool::of_one(url, APPLICATION).await?,
            shown: url.to_string(),
        })
    }

    /// Refuses while others are connected. Only sessions of the same user show their names.
    pub(crate) async fn ensure_unused(&self) -> Result<(), TransferError> {
        let others = "SELECT CAST(count(*) AS bigint) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'synckit'";
        let rows = self.rows(others, &[]).await?;
        let others: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
        if others == 0 {
            Ok(())
        } else {
            Err(TransferError::InUse(self.shown.clone()))
        }
    }

    pub(crate) async fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let rows = self.pool.single().await?.rows(sql, values).await?;
        rows.iter().map(connection::read).collect()
    }

    pub(crate) async fn insert(&self, table: &Table, rows: &[Row]) -> Result<(), StoreError> {
        let db = self.pool.begin(Isolation::Locking).await?;
        let mut inserts = rows.iter().map(async |row| {
            let values: Vec<Value<'_>> = row.columns().iter().map(Value::from).collect();
            db.rows(&table.insert, &values).await
        });
        // The first one begins the transaction and prepares the statement. The others follow without waiting for answers.
        if let Some(first) = inserts.next() {
            first.await?;
        }
        try_join_all(inserts).await?;
        db.commit().await
    }

    /// Walks every chain for one transaction. `false` after the last log.
    pub(crate) async fn walk(&self, walk: &mut LogWalk) -> Result<bool, StoreError> {
        walk.step(&self.pool.begin(Isolation::Snapshot).await?).await
    }

    pub(crate) async fn finish(self) -> Result<(), StoreError> {
        migrations::end_unfinished(&self.pool).await?;
        self.pool.close().await;
        Ok(())
    }
}
