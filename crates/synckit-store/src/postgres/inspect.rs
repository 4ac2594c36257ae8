//! Reads a PostgreSQL that servers may be using, for `synckit doctor`.
//!
//! Invariant: nothing is written. Each step reads one snapshot of the database, which blocks no server.

use std::path::Path;

use super::{
    PostgresUrl,
    connection::{Connection, Isolation},
    migrations,
    pool::Pool,
    schema_parts,
};
use crate::{
    SchemaVersions, StoreError,
    sqlite::expected_schema_parts as expected,
    survey::{self, DatabaseFacts, LogSurvey, LogWalk, ObjectExtent, ObjectSurvey, ObjectWalk},
};

/// The name that the session of an inspection has in the database.
const APPLICATION: &str = "synckit doctor";

/// A PostgreSQL, connected for reading only.
///
/// Needs a tokio runtime.
pub struct PostgresInspection {
    pool: Pool,
}

impl std::fmt::Debug for PostgresInspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresInspection").finish_non_exhaustive()
    }
}

impl PostgresInspection {
    /// Connects.
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`](crate::PostgresStore::open), as far as they are about the connection.
    pub async fn open(url: &PostgresUrl) -> Result<Self, StoreError> {
        Ok(Self {
            pool: Pool::of_one(url, APPLICATION).await?,
        })
    }

    /// The schema of the database, and the one that this server knows.
    ///
    /// # Errors
    /// [`StoreError::Unfinished`] if a transfer into it is not finished, [`StoreError::Unavailable`],
    /// [`StoreError::Database`].
    pub async fn schema(&self) -> Result<SchemaVersions, StoreError> {
        if migrations::is_unfinished(&self.pool).await? {
            return Err(StoreError::Unfinished);
        }
        Ok(SchemaVersions {
            found: migrations::found(&self.pool).await?,
            known: migrations::KNOWN,
        })
    }

    /// The parts of the newest schema that the database lacks: columns, keys, indexes, checks. Only for a database whose schema
    /// this server knows.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Database`].
    pub async fn missing_parts(&self) -> Result<Vec<String>, StoreError> {
        let found = schema_parts::parts(&self.snapshot().await?).await?;
        Ok(expected()?.difference(&found).cloned().collect())
    }

    /// Reads the facts. Only for a database whose schema this server knows.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Database`].
    pub async fn facts(&self) -> Result<DatabaseFacts, StoreError> {
        survey::facts(&self.snapshot().await?).await
    }

    /// Walks every chain, and hashes every sealed batch. Only for a database whose schema this server knows. The time
    /// is that of reading the database.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Database`].
    pub async fn survey_logs(&self) -> Result<LogSurvey, StoreError> {
        let mut walk = LogWalk::new();
        while walk.step(&self.snapshot().await?).await? {}
        Ok(walk.survey)
    }

    /// Compares the objects in the database with the files in a directory, by names and sizes. Only for a database
    /// whose schema this server knows. Blocks its thread on the directory.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Database`], also if the directory cannot be read.
    pub async fn survey_objects(&self, directory: &Path, extent: ObjectExtent) -> Result<ObjectSurvey, StoreError> {
        let mut walk = ObjectWalk::begin(&self.snapshot().await?, directory, extent).await?;
        loop {
            let db = self.snapshot().await?;
            let objects = walk.read(&db).await?;
            drop(db);
            match objects {
                Some(objects) => walk.compare(objects)?,
                None => return Ok(walk.survey),
            }
        }
    }

    async fn snapshot(&self) -> Result<Connection, StoreError> {
        self.pool.begin(Isolation::Snapshot).await
    }

    /// Disconnects.
    pub async fn close(self) {
        self.pool.close().await;
    }
}
