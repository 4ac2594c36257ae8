//! A device's own SQLite file: the database of an app, into which it writes pulled changes.
//!
//! Each table of the dataset is a table here, with the row id beside the columns and no column types, so that every
//! value stays exactly as it was synced. The constraints of the dataset are omitted on purpose: the demo shows the
//! sync, and accepts rows in any order.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use super::dataset::{Cell, Row, Table, quoted, row_count};

/// The column of the row id, with more underscores if the dataset has a column of this name.
const ROW_ID: &str = "synckit_row_id";

/// A device's database.
#[derive(Debug)]
pub(super) struct LocalDatabase {
    connection: Connection,
    tables: BTreeMap<String, LocalTable>,
}

/// A table, and its statements.
#[derive(Debug, Clone)]
struct LocalTable {
    table: Table,
    upsert: String,
    delete: String,
    read_one: String,
    read_after: String,
}

/// The result of comparing two databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Equal to the last bit.
    Equal { rows: u64, bytes: u64 },
    /// The first difference.
    Different(String),
}

impl LocalDatabase {
    /// Creates a database file.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(path).with_context(|| format!("cannot create {}", path.display()))?;
        // A power cut may destroy this file: the next run of the demo creates it again.
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")?;
        connection.set_prepared_statement_cache_capacity(256);
        Ok(Self {
            connection,
            tables: BTreeMap::new(),
        })
    }

    /// Adds a table, unless it exists.
    pub(super) fn add_table(&mut self, table: &Table) -> anyhow::Result<()> {
        if self.tables.contains_key(&table.name) {
            return Ok(());
        }
        let local = LocalTable::new(table.clone());
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
        self.connection.execute_batch(&format!(
            "CREATE TABLE {} ({} TEXT NOT NULL PRIMARY KEY, {})",
            quoted(&table.name),
            quoted(&row_id_column(table)),
            columns.join(", ")
        ))?;
        self.tables.insert(table.name.clone(), local);
        Ok(())
    }

    /// The tables, in order of their names.
    pub(super) fn tables(&self) -> Vec<Table> {
        self.tables.values().map(|local| local.table.clone()).collect()
    }

    /// Begins a transaction, as an app does for each page.
    pub(super) fn begin(&self) -> anyhow::Result<()> {
        Ok(self.connection.execute_batch("BEGIN")?)
    }

    /// Ends the transaction: commits after success, otherwise rolls back.
    pub(super) fn end<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        self.connection
            .execute_batch(if result.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        result
    }

    /// Writes a whole row, new or existing.
    pub(super) fn upsert(&self, table: &str, row: &Row) -> anyhow::Result<()> {
        let local = self.table(table)?;
        ensure!(
            row.cells.len() == local.table.columns.len(),
            "a row of {table} with another number of values"
        );
        let id = Cell::text(row.id.as_str());
        let values = std::iter::once(&id).chain(&row.cells);
        self.connection
            .prepare_cached(&local.upsert)?
            .execute(params_from_iter(values))?;
        Ok(())
    }

    /// Deletes a row, if it exists.
    pub(super) fn delete(&self, table: &str, id: &str) -> anyhow::Result<()> {
        self.connection
            .prepare_cached(&self.table(table)?.delete)?
            .execute([id])?;
        Ok(())
    }

    pub(super) fn row(&self, table: &str, id: &str) -> anyhow::Result<Option<Row>> {
        let mut statement = self.connection.prepare_cached(&self.table(table)?.read_one)?;
        Ok(statement.query_row([id], read_row).optional()?)
    }

    /// Calls `visit` for the rows of a table after `after`, in order of their ids, until it returns `false`.
    pub(super) fn visit_after(
        &self,
        table: &str,
        after: Option<&str>,
        visit: &mut dyn FnMut(Row) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut statement = self.connection.prepare_cached(&self.table(table)?.read_after)?;
        // No row id is empty, because it is the text of an array.
        let mut rows = statement.query([after.unwrap_or_default()])?;
        while let Some(row) = rows.next()? {
            if !visit(read_row(row)?)? {
                break;
            }
        }
        Ok(())
    }

    /// The number of rows of a table.
    pub(super) fn row_count(&self, table: &str) -> anyhow::Result<u64> {
        row_count(&self.connection, table)
    }

    /// Whether the edited column of a table holds any text.
    pub(super) fn has_text(&self, table: &Table) -> anyhow::Result<bool> {
        let column = quoted(&table.columns[table.edited]);
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} WHERE typeof({column}) = 'text')",
            quoted(&table.name)
        );
        Ok(self.connection.query_row(&sql, [], |row| row.get(0))?)
    }

    /// The ids at some ranks of a table, in order of the ids.
    pub(super) fn ids_at(&self, table: &str, ranks: &[u64]) -> anyhow::Result<Vec<String>> {
        let local = self.table(table)?;
        let id = quoted(&row_id_column(&local.table));
        let sql = format!("SELECT {id} FROM {} ORDER BY {id} LIMIT 1 OFFSET ?1", quoted(table));
        let mut statement = self.connection.prepare(&sql)?;
        ranks
            .iter()
            .map(|rank| Ok(statement.query_row([i64::try_from(*rank)?], |row| row.get(0))?))
            .collect()
    }

    /// Compares every table, row and value with another device's.
    pub(super) fn compare(&self, other: &Self) -> anyhow::Result<Comparison> {
        if self.tables() != other.tables() {
            return Ok(Comparison::Different("they do not have the same tables".to_owned()));
        }
        let (mut rows, mut bytes) = (0, 0);
        for name in self.tables.keys() {
            let mut difference = None;
            self.visit_after(name, None, &mut |row| {
                rows += 1;
                bytes += row.size();
                difference = match other.row(name, &row.id)? {
                    Some(theirs) if theirs == row => None,
                    Some(_) => Some(format!("the row {} of {name} has other values", row.id)),
                    None => Some(format!("the row {} of {name} is missing", row.id)),
                };
                Ok(difference.is_none())
            })?;
            if let Some(difference) = difference {
                return Ok(Comparison::Different(difference));
            }
            let (ours, theirs) = (self.row_count(name)?, other.row_count(name)?);
            if ours != theirs {
                return Ok(Comparison::Different(format!(
                    "{name} has {ours} rows on one and {theirs} on the other"
                )));
            }
        }
        Ok(Comparison::Equal { rows, bytes })
    }

    fn table(&self, name: &str) -> anyhow::Result<&LocalTable> {
        self.tables
            .get(name)
            .with_context(|| format!("there is no table {name}"))
    }
}

impl LocalTable {
    fn new(table: Table) -> Self {
        let name = quoted(&table.name);
        let id = quoted(&row_id_column(&table));
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
        let all = std::iter::once(id.as_str())
            .chain(columns.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(", ");
        let marks = vec!["?"; columns.len() + 1].join(", ");
        Self {
            upsert: format!("INSERT OR REPLACE INTO {name} ({all}) VALUES ({marks})"),
            delete: format!("DELETE FROM {name} WHERE {id} = ?1"),
            read_one: format!("SELECT {all} FROM {name} WHERE {id} = ?1"),
            read_after: format!("SELECT {all} FROM {name} WHERE {id} > ?1 ORDER BY {id}"),
            table,
        }
    }
}

fn row_id_column(table: &Table) -> String {
    let mut name = ROW_ID.to_owned();
    while table.columns.iter().any(|column| column.eq_ignore_ascii_case(&name)) {
        name.push('_');
    }
    name
}

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let id = row.get(0)?;
    let columns = row.as_ref().column_count();
    let cells = (1..columns)
        .map(|index| Ok(Cell::from(row.get_ref(index)?)))
        .collect::<rusqlite::Result<_>>()?;
    Ok(Row { id, cells })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            name: "of \"things\"".to_owned(),
            columns: vec!["synckit_row_id".to_owned(), "value".to_owned()],
            edited: 1,
        }
    }

    fn row(id: &str, value: Cell) -> Row {
        Row {
            id: id.to_owned(),
            cells: vec![Cell::Null, value],
        }
    }

    fn database(directory: &Path, name: &str, rows: &[Row]) -> LocalDatabase {
        let mut database = LocalDatabase::create(&directory.join(name)).unwrap();
        database.add_table(&table()).unwrap();
        rows.iter().for_each(|row| database.upsert(&table().name, row).unwrap());
        database
    }

    #[test]
    fn databases_are_equal_only_to_the_last_bit() {
        let directory = tempfile::tempdir().unwrap();
        let rows = [row("[1]", Cell::Integer(1)), row("[2]", Cell::text("two"))];
        let ours = database(directory.path(), "ours", &rows);
        let same = database(directory.path(), "same", &rows);
        assert_eq!(ours.compare(&same).unwrap(), Comparison::Equal { rows: 2, bytes: 11 });
        let others = [
            vec![rows[0].clone()],
            vec![rows[0].clone(), rows[1].clone(), row("[3]", Cell::Null)],
            vec![row("[1]", Cell::Real(1.0)), rows[1].clone()],
            vec![rows[0].clone(), row("[2]", Cell::Blob(b"two".to_vec()))],
            vec![],
        ];
        for (index, rows) in others.iter().enumerate() {
            let other = database(directory.path(), &format!("other {index}"), rows);
            assert!(
                matches!(ours.compare(&other).unwrap(), Comparison::Different(_)),
                "{rows:?}"
            );
            assert!(
                matches!(other.compare(&ours).unwrap(), Comparison::Different(_)),
                "{rows:?}"
            );
        }
    }

    #[test]
    fn rows_are_replaced_whole_and_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let name = table().name;
        let database = database(directory.path(), "data", &[row("[1]", Cell::Integer(1))]);
        database.upsert(&name, &row("[1]", Cell::Null)).unwrap();
        assert_eq!(database.row(&name, "[1]").unwrap(), Some(row("[1]", Cell::Null)));
        database.delete(&name, "[1]").unwrap();
        database.delete(&name, "[1]").unwrap();
        assert_eq!(database.row(&name, "[1]").unwrap(), None);
        assert_eq!(database.row_count(&name).unwrap(), 0);
    }
}
