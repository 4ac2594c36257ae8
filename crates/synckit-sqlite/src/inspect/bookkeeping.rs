//! Tables that tools and frameworks keep for themselves: they describe this file, and syncing them would damage others.

/// Names of tables that count migrations or describe the file.
const NAMES: &[&str] = &[
    "__efmigrationshistory",
    "alembic_version",
    "android_metadata",
    "ar_internal_metadata",
    "databasechangelog",
    "databasechangeloglock",
    "flyway_schema_history",
    "goose_db_version",
    "grdb_migrations",
    "refinery_schema_history",
    "room_master_table",
    "schema_info",
    "schema_level",
    "schema_version",
];

/// Beginnings of the names of our own tables, and of those of other sync engines.
const PREFIXES: &[&str] = &["synckit_", "crsql_", "cloudsync_", "ps_"];

pub(super) fn is_bookkeeping(table: &str) -> bool {
    let name = table.to_ascii_lowercase();
    NAMES.contains(&name.as_str())
        || name.contains("migration")
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
