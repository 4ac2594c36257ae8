//! The two sides of a transfer.

use std::path::Path;

use super::{error::TransferError, tables::Table};
use crate::{
    PostgresUrl, StoreError,
    postgres::PostgresEnd,
    records::{Row, Value},
    sqlite::FileEnd,
    survey::{LogSurvey, LogWalk},
};

/// One side of a transfer.
#[derive(Debug, Clone, Copy)]
pub enum TransferEnd<'a> {
    /// An embedded database.
    File(&'a Path),
    /// A PostgreSQL.
    Postgres(&'a PostgresUrl),
}

/// An open side.
pub(super) enum End {
    File(FileEnd),
    Postgres(PostgresEnd),
}

impl End {
    pub(super) async fn source(end: TransferEnd<'_>) -> Result<Self, TransferError> {
        let opened = match end {
            TransferEnd::File(path) => Self::File(FileEnd::source(path)?),
            TransferEnd::Postgres(url) => Self::Postgres(PostgresEnd::source(url).await?),
        };
        opened.ensure_unused().await?;
        Ok(opened)
    }

    pub(super) async fn target(end: TransferEnd<'_>) -> Result<Self, TransferError> {
        let opened = match end {
            TransferEnd::File(path) => Self::File(FileEnd::target(path)?),
            TransferEnd::Postgres(url) => Self::Postgres(PostgresEnd::target(url).await?),
        };
        opened.ensure_unused().await?;
        Ok(opened)
    }

    /// A file is locked by its directory, which is the caller's.
    pub(super) async fn ensure_unused(&self) -> Result<(), TransferError> {
        match self {
            Self::File(_) => Ok(()),
            Self::Postgres(end) => end.ensure_unused().await,
        }
    }

    pub(super) async fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::File(end) => end.rows(sql, values),
            Self::Postgres(end) => end.rows(sql, values).await,
        }
    }

    /// In one transaction.
    pub(super) async fn insert(&self, table: &Table, rows: &[Row]) -> Result<(), StoreError> {
        match self {
            Self::File(end) => end.insert(table, rows),
            Self::Postgres(end) => end.insert(table, rows).await,
        }
    }

    /// Walks every chain, with the hash of every batch.
    pub(super) async fn survey_logs(&self) -> Result<LogSurvey, StoreError> {
        let mut walk = LogWalk::new();
        loop {
            let goes_on = match self {
                Self::File(end) => end.walk(&mut walk)?,
                Self::Postgres(end) => end.walk(&mut walk).await?,
            };
            if !goes_on {
                return Ok(walk.survey);
            }
        }
    }

    /// Makes the target a database that a server opens.
    pub(super) async fn finish(self) -> Result<(), TransferError> {
        match self {
            Self::File(end) => end.finish(),
            Self::Postgres(end) => Ok(end.finish().await?),
        }
    }
}
