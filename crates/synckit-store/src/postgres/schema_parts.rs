//! The parts of the schema of a PostgreSQL, in the same words as [`crate::sqlite`]'s.

use std::collections::BTreeSet;

use super::connection::Connection;
use crate::{StoreError, records::Executor};

/// The parts that a database has.
pub(super) async fn parts(db: &Connection) -> Result<BTreeSet<String>, StoreError> {
    let mut parts = BTreeSet::new();
    for of_tables in [COLUMNS, INDEXES, FOREIGN_KEYS, CHECKS] {
        for row in db.query(of_tables, &[]).await? {
            parts.insert(row.get(0)?);
        }
    }
    Ok(parts)
}

const COLUMNS: &str = "
    SELECT 'column ' || relname || '.' || attname || ' ' ||
        CASE format_type(atttypid, atttypmod) WHEN 'bigint' THEN 'INTEGER' WHEN 'bytea' THEN 'BLOB' WHEN 'text' THEN 'TEXT'
            ELSE format_type(atttypid, atttypmod) END ||
        CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND attnum > 0 AND NOT attisdropped";

const INDEXES: &str = "
    SELECT CASE WHEN indisprimary THEN 'primary key' WHEN indisunique THEN 'unique key' ELSE 'index' END || ' of ' || relname ||
        ' (' || (SELECT string_agg(attname::text, ', ' ORDER BY place) FROM unnest(indkey) WITH ORDINALITY AS key (number, place)
            JOIN pg_attribute ON attrelid = indrelid AND attnum = number) || ')' ||
        CASE WHEN indpred IS NULL THEN '' ELSE ' partial' END
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND indisvalid";

const FOREIGN_KEYS: &str = "
    SELECT 'foreign key of ' || relname || ' (' ||
        (SELECT string_agg(attname::text, ', ' ORDER BY place) FROM unnest(conkey) WITH ORDINALITY AS key (number, place)
            JOIN pg_attribute ON attrelid = conrelid AND attnum = number) || ') to ' ||
        (SELECT other.relname FROM pg_class AS other WHERE other.oid = confrelid)
    FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    WHERE contype = 'f' AND relnamespace = current_schema()::regnamespace";

const CHECKS: &str = "
    SELECT 'checks of ' || relname || ': ' || (SELECT count(*) FROM pg_constraint WHERE conrelid = pg_class.oid AND contype = 'c')
    FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace";
