//! The schema as SQLite tells it.

use rusqlite::{Connection, Result};

/// A table of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableInfo {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) without_rowid: bool,
    pub(super) columns: Vec<ColumnInfo>,
    pub(super) uniques: Vec<UniqueInfo>,
    pub(super) foreign_keys: Vec<ForeignKey>,
}

/// What a name of the schema stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    View,
    Virtual,
    /// A table that belongs to a virtual one.
    Shadow,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColumnInfo {
    pub(super) name: String,
    pub(super) declared_type: String,
    pub(super) is_not_null: bool,
    /// The place in the primary key, from 1; 0 outside it.
    pub(super) key_place: u32,
    pub(super) is_generated: bool,
}

/// A UNIQUE, or a primary key that is no rowid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UniqueInfo {
    /// `None` for an expression.
    pub(super) columns: Vec<Option<String>>,
    pub(super) is_partial: bool,
    pub(super) is_primary_key: bool,
}

/// A declared foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForeignKey {
    pub(super) parent: String,
    /// The columns here, and those there; `None` for the parent's key.
    pub(super) columns: Vec<(String, Option<String>)>,
}

impl TableInfo {
    /// The columns of the primary key, in its order.
    pub(super) fn key(&self) -> Vec<&ColumnInfo> {
        let mut key: Vec<&ColumnInfo> = self.columns.iter().filter(|column| column.key_place > 0).collect();
        key.sort_by_key(|column| column.key_place);
        key
    }

    /// The column that is another name of the rowid.
    pub(super) fn rowid_alias(&self) -> Option<&ColumnInfo> {
        match self.key()[..] {
            // An INTEGER PRIMARY KEY DESC is none, and has an index of its own.
            [only] if only.declared_type.eq_ignore_ascii_case("INTEGER") && !self.without_rowid => {
                let has_index = self.uniques.iter().any(|unique| unique.is_primary_key);
                (!has_index).then_some(only)
            }
            _ => None,
        }
    }

    /// Whether a column is in a UNIQUE or key of several columns.
    pub(super) fn is_in_pair(&self, column: &str) -> bool {
        let is_in = |unique: &UniqueInfo| unique.columns.iter().flatten().any(|name| name == column);
        self.uniques
            .iter()
            .any(|unique| unique.columns.len() > 1 && is_in(unique))
    }

    pub(super) fn foreign_key_of(&self, column: &str) -> Option<&ForeignKey> {
        let mut keys = self.foreign_keys.iter();
        keys.find(|key| matches!(&key.columns[..], [(only, _)] if only.eq_ignore_ascii_case(column)))
    }

    pub(super) fn column(&self, name: &str) -> Option<&ColumnInfo> {
        self.columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// Every table and view of the main database, except those of SQLite itself.
pub(super) fn read(connection: &Connection) -> Result<Vec<TableInfo>> {
    let sql =
        "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'
               ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?)))?;
    names
        .map(|name| name.and_then(|(name, kind, wr)| table(connection, name, &kind, wr)))
        .collect()
}

fn table(connection: &Connection, name: String, kind: &str, without_rowid: bool) -> Result<TableInfo> {
    let kind = match kind {
        "view" => Kind::View,
        "virtual" => Kind::Virtual,
        "shadow" => Kind::Shadow,
        _ => Kind::Table,
    };
    let is_table = kind == Kind::Table;
    Ok(TableInfo {
        // A view or virtual table may need a function or module that this connection lacks.
        columns: if is_table {
            columns(connection, &name)?
        } else {
            Vec::new()
        },
        uniques: if is_table {
            uniques(connection, &name)?
        } else {
            Vec::new()
        },
        foreign_keys: if is_table {
            foreign_keys(connection, &name)?
        } else {
            Vec::new()
        },
        name,
        kind,
        without_rowid,
    })
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<ColumnInfo>> {
    let mut statement = connection.prepare("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1)")?;
    let columns = statement.query_map([table], |row| {
        Ok(ColumnInfo {
            name: row.get(0)?,
            declared_type: row.get(1)?,
            is_not_null: row.get(2)?,
            key_place: row.get(3)?,
            is_generated: row.get::<_, u32>(4)? != 0,
        })
    })?;
    columns.collect()
}

fn uniques(connection: &Connection, table: &str) -> Result<Vec<UniqueInfo>> {
    let sql = "SELECT name, partial, origin = 'pk' FROM pragma_index_list(?1) WHERE \"unique\" ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let indexes = statement.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
    let read = |(name, is_partial, is_primary_key): (String, bool, bool)| {
        let mut statement = connection.prepare("SELECT name FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?;
        let columns = statement.query_map([&name], |row| row.get(0))?.collect::<Result<_>>()?;
        Ok(UniqueInfo {
            columns,
            is_partial,
            is_primary_key,
        })
    };
    indexes.map(|index| index.and_then(read)).collect()
}

fn foreign_keys(connection: &Connection, table: &str) -> Result<Vec<ForeignKey>> {
    let sql = "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id, seq";
    let mut statement = connection.prepare(sql)?;
    let parts = statement.query_map([table], |row| {
        Ok((
            row.get::<_, u32>(0)?,
            row.get::<_, String>(1)?,
            (row.get(2)?, row.get(3)?),
        ))
    })?;
    let mut keys: Vec<(u32, ForeignKey)> = Vec::new();
    for part in parts {
        let (id, parent, columns) = part?;
        match keys.last_mut() {
            Some((last, key)) if *last == id => key.columns.push(columns),
            _ => keys.push((
                id,
                ForeignKey {
                    parent,
                    columns: vec![columns],
                },
            )),
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// The number of rows that a query of one counts.
pub(super) fn count(connection: &Connection, sql: &str) -> Result<u64> {
    let rows: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    // A count is never negative.
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// A name inside SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
