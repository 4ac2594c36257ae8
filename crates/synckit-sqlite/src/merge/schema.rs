//! What the merge must know of the app's tables.

use std::collections::BTreeMap;

use crate::rows::{Row, RowId, Value};

/// The synced tables, by their names in the log.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// The tables.
    pub tables: BTreeMap<String, Table>,
}

/// A synced table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The synced columns that this device has, by their names in the log.
    pub columns: BTreeMap<String, Column>,
    /// The columns that name a row on every device; empty if the key is only a local number.
    pub key: Vec<String>,
    /// Sets of columns of which no two rows have equal values, unless one is NULL.
    pub uniques: Vec<Vec<String>>,
    /// Foreign keys that the database enforces.
    pub references: Vec<Reference>,
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    /// The constant default: the value of rows whose writer did not know the column.
    pub default: Value,
    /// What two concurrent edits of the column become.
    pub merge: ColumnMerge,
}

/// What two concurrent edits of a column become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColumnMerge {
    /// The later one.
    #[default]
    Latest,
    /// The sum of both differences, if all three values are integers; else the later one.
    Counter,
}

/// A foreign key of one column.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The column.
    pub column: String,
    /// The table that it refers to.
    pub parent: String,
    /// What becomes of the row when its parent is gone.
    pub on_delete: OnDelete,
}

/// What becomes of a row when its parent is gone. RESTRICT and NO ACTION are `Cascade`: the parent is gone in the log already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// It goes, too.
    Cascade,
    /// Its column becomes NULL.
    SetNull,
    /// Its column becomes the default.
    SetDefault,
}

impl Schema {
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    pub(super) fn references(&self, table: &str) -> &[Reference] {
        self.table(table).map_or(&[], |table| &table.references)
    }

    /// A column's value: that of a row whose writer did not know it is the default.
    pub(super) fn value<'a>(&'a self, table: &str, row: &'a Row, column: &str) -> &'a Value {
        row.get(column).unwrap_or_else(|| self.default(table, column))
    }

    pub(super) fn default(&self, table: &str, column: &str) -> &Value {
        self.column(table, column).map_or(&Value::Null, |known| &known.default)
    }

    pub(super) fn column(&self, table: &str, column: &str) -> Option<&Column> {
        self.table(table)?.columns.get(column)
    }

    /// A row of nothing but defaults.
    pub(super) fn defaults(&self, table: &str) -> Row {
        let columns = self.table(table).into_iter().flat_map(|table| &table.columns);
        columns
            .map(|(name, column)| (name.as_str(), column.default.clone()))
            .collect()
    }

    /// The id that a row has by the values of its key; `None` if its key is a local number.
    pub(super) fn id_of(&self, table: &str, row: &Row) -> Option<RowId> {
        let key = &self.table(table)?.key;
        let values: Vec<Value> = key
            .iter()
            .map(|column| self.value(table, row, column).clone())
            .collect();
        (!key.is_empty()).then(|| RowId::of_key(&values))
    }

    /// The values under a UNIQUE; `None` if one of them is NULL, which equals nothing.
    pub(super) fn unique_values(&self, table: &str, row: &Row, columns: &[String]) -> Option<Vec<Value>> {
        let values = columns.iter().map(|column| self.value(table, row, column));
        values
            .map(|value| (*value != Value::Null).then(|| value.clone()))
            .collect()
    }

    /// Whether two rows have the same value in every column that either of them has.
    pub(super) fn same(&self, table: &str, left: &Row, right: &Row) -> bool {
        let mut columns = left.iter().chain(right.iter()).map(|(column, _)| column);
        columns.all(|column| self.value(table, left, column) == self.value(table, right, column))
    }
}
