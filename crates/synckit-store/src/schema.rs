//! The schema: one text for every engine.
//!
//! The migrations are written in SQLite's dialect. [`postgresql`] turns one into PostgreSQL's: the two differ in the names
//! of types and in the options of a table, and in nothing that a migration may use.

/// The migrations, oldest first.
pub const MIGRATIONS: [&str; 1] = [include_str!("../migrations/V1__first_schema.sql")];

/// Words of a migration, and their PostgreSQL equivalents. Longer texts first.
const WORDS: [(&str, &str); 5] = [
    (" STRICT, WITHOUT ROWID", ""),
    (" STRICT", ""),
    (
        "INTEGER PRIMARY KEY",
        "BIGINT DEFAULT (CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) * 2048 \
         + CAST(floor(random() * 2048) AS BIGINT)) PRIMARY KEY",
    ),
    ("INTEGER", "BIGINT"),
    ("BLOB", "BYTEA"),
];

/// A migration for PostgreSQL.
///
/// # Examples
/// ```
/// let sqlite = "CREATE TABLE invites (code BLOB PRIMARY KEY, created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;";
/// assert_eq!(
///     synckit_store::schema::postgresql(sqlite),
///     "CREATE TABLE invites (code BYTEA PRIMARY KEY, created_at BIGINT NOT NULL);\n",
/// );
/// ```
pub fn postgresql(migration: &str) -> String {
    let mut sql = String::with_capacity(migration.len());
    for line in migration.lines() {
        let (code, comment) = line.split_at(line.find("--").unwrap_or(line.len()));
        let code = WORDS
            .iter()
            .fold(code.to_owned(), |code, (ours, theirs)| code.replace(ours, theirs));
        sql.push_str(&code);
        sql.push_str(comment);
        sql.push('\n');
    }
    sql
}
