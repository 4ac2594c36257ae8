//! The parts of a schema: columns, keys, indexes and checks, each as a line that is the same for every engine.
//!
//! What a database must have is read from a database in memory that the migrations have just made, so that no list of
//! it has to be kept beside them.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::failure::Failure;
use crate::{StoreError, schema::MIGRATIONS};

/// The parts that a database of the newest schema must have.
pub(crate) fn expected() -> Result<BTreeSet<String>, StoreError> {
    let made = || {
        let db = Connection::open_in_memory()?;
        for migration in MIGRATIONS {
            db.execute_batch(migration)?;
        }
        parts(&db)
    };
    Ok(made().map_err(Failure::from)?)
}

/// The parts that a database has.
pub(super) fn parts(db: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut parts = BTreeSet::new();
    let tables = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut tables = db.prepare(tables)?;
    let tables = tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for table in tables {
        let (table, sql): (String, String) = table?;
        for of_table in [COLUMNS, PRIMARY_KEY, INDEXES, FOREIGN_KEYS] {
            let mut statement = db.prepare(of_table)?;
            let lines = statement.query_map(params![table], |row| row.get(0))?;
            parts.extend(
                lines
                    .collect::<rusqlite::Result<Vec<Option<String>>>>()?
                    .into_iter()
                    .flatten(),
            );
        }
        parts.insert(checks(&table, &sql));
    }
    Ok(parts)
}

/// SQLite tells of its checks only in the text of a table.
fn checks(table: &str, sql: &str) -> String {
    let count: usize = sql
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default().matches("CHECK (").count())
        .sum();
    format!("checks of {table}: {count}")
}

const COLUMNS: &str = "
    SELECT 'column ' || ?1 || '.' || name || ' ' || type || iif(\"notnull\" OR pk > 0, ' NOT NULL', '')
    FROM pragma_table_info(?1)";

const PRIMARY_KEY: &str = "
    SELECT 'primary key of ' || ?1 || ' (' || group_concat(name, ', ' ORDER BY pk) || ')'
    FROM pragma_table_info(?1) WHERE pk > 0";

const INDEXES: &str = "
    SELECT iif(\"unique\", 'unique key', 'index') || ' of ' || ?1 || ' (' ||
        (SELECT group_concat(name, ', ' ORDER BY seqno) FROM pragma_index_info(list.name)) || ')' || iif(partial, ' partial', '')
    FROM pragma_index_list(?1) AS list WHERE origin <> 'pk'";

const FOREIGN_KEYS: &str = "
    SELECT 'foreign key of ' || ?1 || ' (' || group_concat(\"from\", ', ' ORDER BY seq) || ') to ' || \"table\"
    FROM pragma_foreign_key_list(?1) GROUP BY id, \"table\"";
