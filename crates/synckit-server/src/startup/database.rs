//! The database of a server: a file in its data directory, or a PostgreSQL.
//!
//! Invariant: a server that had data never begins with an empty database beside it.

use std::sync::Arc;

use synckit_store::{
    OpenedBy, PostgresOptions, PostgresStore, PostgresUrl, SqliteOptions, SqliteStore, Store, StoreError,
    rules::quotas::Quotas,
};

use super::{
    DataDir, DataDirError,
    config::{AccountQuotas, Config, Database},
};

/// Opens the database of a server, and brings its schema up to date.
pub(crate) async fn open_for_server<E>(config: &Config, data_dir: &DataDir) -> Result<Arc<dyn Store>, E>
where
    E: From<DataDirError> + From<StoreError>,
{
    match &config.database {
        Database::Embedded => {
            data_dir.check_database::<E>()?;
            let options = SqliteOptions {
                opened_by: OpenedBy::Server,
                max_bytes: config.database_bytes_max,
                quotas: store_quotas(config.quotas),
                ..SqliteOptions::default()
            };
            Ok(Arc::new(SqliteStore::open(&data_dir.database(), options)?))
        }
        Database::Postgres(url) => Ok(Arc::new(
            open_postgres::<E>(config, url, data_dir, OpenedBy::Server).await?,
        )),
    }
}

/// Opens a PostgreSQL on behalf of a server or a command.
pub(crate) async fn open_postgres<E>(
    config: &Config,
    url: &PostgresUrl,
    data_dir: &DataDir,
    opened_by: OpenedBy,
) -> Result<PostgresStore, E>
where
    E: From<DataDirError> + From<StoreError>,
{
    if PostgresStore::schema(url).await?.found.is_none() {
        data_dir.check_is_new(&url.to_string())?;
    }
    let limits = config.database_limits;
    let options = PostgresOptions {
        opened_by,
        connections: limits.connections,
        acquire_timeout: limits.acquire,
        connect_timeout: limits.connect,
        statement_timeout: limits.statement,
        quotas: store_quotas(config.quotas),
    };
    Ok(PostgresStore::open(url, options).await?)
}

/// The quotas as the store takes them.
fn store_quotas(quotas: AccountQuotas) -> Quotas {
    Quotas {
        bytes: quotas.bytes,
        blobs: quotas.blobs.into(),
        pending_uploads: quotas.pending_uploads.into(),
        sessions: quotas.sessions.into(),
        revoked_devices: quotas.revoked_devices.into(),
    }
}
