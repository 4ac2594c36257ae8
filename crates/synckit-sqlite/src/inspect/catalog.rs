//! The schema as SQLite tells it.

use rusqlite::{Connection, Result};

/// A table of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableInfo {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) without_rowid: bool,
    pub(crate) is_strict: bool,
    pub(crate) columns: Vec<ColumnInfo>,
    pub(crate) uniques: Vec<UniqueInfo>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
}

/// What a name of the schema stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    View,
    Virtual,
    /// A table that belongs to a virtual one.
    Shadow,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnInfo {
    pub(crate) name: String,
    pub(crate) declared_type: String,
    pub(crate) is_not_null: bool,
    /// The place in the primary key, from 1; 0 outside it.
    pub(crate) key_place: u32,
    pub(crate) is_generated: bool,
    /// The text of the DEFAULT.
    pub(crate) default: Option<String>,
}

/// A UNIQUE, or a primary key that is no rowid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UniqueInfo {
    /// `None` for an expression.
    pub(crate) columns: Vec<Option<String>>,
    pub(crate) is_partial: bool,
    pub(crate) is_primary_key: bool,
    /// The collation of each column.
    pub(crate) collations: Vec<String>,
    /// The statement that made the index; `None` for a constraint of the table.
    pub(crate) sql: Option<String>,
}

/// A declared foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    pub(crate) parent: String,
    /// The columns here, and those there; `None` for the parent's key.
    pub(crate) columns: Vec<(String, Option<String>)>,
    /// The words after ON DELETE.
    pub(crate) on_delete: String,
}

impl TableInfo {
    /// The columns of the primary key, in its order.
    pub(crate) fn key(&self) -> Vec<&ColumnInfo> {
        let mut key: Vec<&ColumnInfo> = self.columns.iter().filter(|column| column.key_place > 0).collect();
        key.sort_by_key(|column| column.key_place);
        key
    }

    /// The column that is another name of the rowid.
    pub(crate) fn rowid_alias(&self) -> Option<&ColumnInfo> {
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
    pub(crate) fn is_in_pair(&self, column: &str) -> bool {
        let is_in = |unique: &UniqueInfo| unique.columns.iter().flatten().any(|name| name == column);
        self.uniques
            .iter()
            .any(|unique| unique.columns.len() > 1 && is_in(unique))
    }

    pub(crate) fn foreign_key_of(&self, column: &str) -> Option<&ForeignKey> {
        let mut keys = self.foreign_keys.iter();
        keys.find(|key| matches!(&key.columns[..], [(only, _)] if only.eq_ignore_ascii_case(column)))
    }

    pub(crate) fn column(&self, name: &str) -> Option<&ColumnInfo> {
        self.columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// Every table and view of the main database, except those of SQLite itself.
pub(crate) fn read(connection: &Connection) -> Result<Vec<TableInfo>> {
    let sql =
        "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'
               ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, (row.get(2)?, row.get(3)?)))
    })?;
    names
        .map(|name| name.and_then(|(name, kind, options)| table(connection, name, &kind, options)))
        .collect()
}

fn table(
    connection: &Connection,
    name: String,
    kind: &str,
    (without_rowid, is_strict): (bool, bool),
) -> Result<TableInfo> {
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
        is_strict,
    })
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<ColumnInfo>> {
    let mut statement =
        connection.prepare("SELECT name, type, \"notnull\", pk, hidden, dflt_value FROM pragma_table_xinfo(?1)")?;
    let columns = statement.query_map([table], |row| {
        Ok(ColumnInfo {
            name: row.get(0)?,
            declared_type: row.get(1)?,
            is_not_null: row.get(2)?,
            key_place: row.get(3)?,
            is_generated: row.get::<_, u32>(4)? != 0,
            default: row.get(5)?,
        })
    })?;
    columns.collect()
}

fn uniques(connection: &Connection, table: &str) -> Result<Vec<UniqueInfo>> {
    let sql = "SELECT list.name, partial, origin = 'pk', sql FROM pragma_index_list(?1) AS list
               LEFT JOIN sqlite_schema AS made ON made.name = list.name AND made.type = 'index'
               WHERE \"unique\" ORDER BY list.name";
    let mut statement = connection.prepare(sql)?;
    let indexes = statement.query_map([table], |row| {
        Ok((row.get::<_, String>(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)))
    })?;
    let read = |(name, (is_partial, is_primary_key, sql)): (String, (bool, bool, Option<String>))| {
        let mut statement =
            connection.prepare("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?;
        let columns = statement.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (columns, collations) = columns.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok(UniqueInfo {
            columns,
            is_partial,
            is_primary_key,
            collations,
            sql,
        })
    };
    indexes.map(|index| index.and_then(read)).collect()
}

fn foreign_keys(connection: &Connection, table: &str) -> Result<Vec<ForeignKey>> {
    let sql = "SELECT id, \"table\", \"from\", \"to\", on_delete FROM pragma_foreign_key_list(?1) ORDER BY id, seq";
    let mut statement = connection.prepare(sql)?;
    let parts = statement.query_map([table], |row| {
        Ok((
            row.get::<_, u32>(0)?,
            row.get::<_, String>(1)?,
            (row.get(2)?, row.get(3)?),
            row.get::<_, String>(4)?,
        ))
    })?;
    let mut keys: Vec<(u32, ForeignKey)> = Vec::new();
    for part in parts {
        let (id, parent, columns, on_delete) = part?;
        match keys.last_mut() {
            Some((last, key)) if *last == id => key.columns.push(columns),
            _ => keys.push((
                id,
                ForeignKey {
                    parent,
                    columns: vec![columns],
                    on_delete,
                },
            )),
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// The number of rows that a query of one counts.
pub(crate) fn count(connection: &Connection, sql: &str) -> Result<u64> {
    let rows: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    // A count is never negative.
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// A name inside SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
