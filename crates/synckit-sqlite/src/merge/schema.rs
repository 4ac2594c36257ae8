//! What the merge must know of the app's tables.

use std::{collections::BTreeMap, sync::Arc};

use super::state::Key;
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
    /// What no two rows have in common.
    pub uniques: Vec<Unique>,
    /// Columns that refer to rows.
    pub references: Vec<Reference>,
}

/// A UNIQUE: of two rows with equal values of it, one is in the table.
#[derive(Debug, Clone, Default)]
pub struct Unique {
    /// The columns that decide about it, those of expressions and of its WHERE included.
    pub columns: Vec<String>,
    /// Its values, where they are not those of the columns.
    pub values: Option<UniqueValues>,
}

/// How a row's values of a UNIQUE are made: by a collation, by expressions, or only for some rows. `None`: the row does not
/// take part.
#[derive(Clone)]
pub struct UniqueValues(pub Arc<ValuesOf>);

/// A function from a row to its values.
pub type ValuesOf = dyn Fn(&Row) -> Option<Vec<Value>> + Send + Sync;

impl std::fmt::Debug for UniqueValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UniqueValues")
    }
}

impl From<Vec<String>> for Unique {
    fn from(columns: Vec<String>) -> Self {
        Self { columns, values: None }
    }
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

/// A column that refers to a row.
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
    /// Nothing: the database does not enforce the reference, and it may lead nowhere.
    Dangle,
}

impl Schema {
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    pub(crate) fn references(&self, table: &str) -> &[Reference] {
        self.table(table).map_or(&[], |table| &table.references)
    }

    /// A column's value: that of a row whose writer did not know it is the default.
    pub(super) fn value<'a>(&'a self, table: &str, row: &'a Row, column: &str) -> &'a Value {
        row.get(column).unwrap_or_else(|| self.default_of(table, column))
    }

    /// The constant default of a column; NULL for an unknown one.
    pub(crate) fn default_of(&self, table: &str, column: &str) -> &Value {
        self.column(table, column).map_or(&Value::Null, |known| &known.default)
    }

    pub(crate) fn column(&self, table: &str, column: &str) -> Option<&Column> {
        self.table(table)?.columns.get(column)
    }

    /// A row with exactly the columns that this device has.
    pub(crate) fn known(&self, table: &str, row: &Row) -> Row {
        let columns = || self.table(table).into_iter().flat_map(|table| &table.columns);
        if row
            .iter()
            .map(|(name, _)| name)
            .eq(columns().map(|(name, _)| name.as_str()))
        {
            return row.clone();
        }
        columns()
            .map(|(name, column)| (name.as_str(), row.get(name).unwrap_or(&column.default).clone()))
            .collect()
    }

    /// The id that a row has by the values of its key; `None` if its key is a local number.
    pub(crate) fn id_of(&self, table: &str, row: &Row) -> Option<RowId> {
        let key = &self.table(table)?.key;
        let values: Vec<Value> = key
            .iter()
            .map(|column| self.value(table, row, column).clone())
            .collect();
        (!key.is_empty()).then(|| RowId::of_key(&values))
    }

    /// The value of a key of one column.
    pub(super) fn only_key<'a>(&'a self, table: &str, row: &'a Row) -> Option<&'a Value> {
        match &self.table(table)?.key[..] {
            [only] => Some(self.value(table, row, only)),
            _ => None,
        }
    }

    /// The row that a reference leads to, by the id of the row or by its key.
    pub(crate) fn parent(&self, table: &str, row: &Row, reference: &Reference) -> Option<Key> {
        let id = match self.value(table, row, &reference.column) {
            Value::Null => return None,
            Value::Row(id) => id.clone(),
            // A number without a row means that there is none.
            key => match self.table(&reference.parent)?.key.len() {
                1 => RowId::of_key(std::slice::from_ref(key)),
                _ => return None,
            },
        };
        Some(Key {
            table: reference.parent.clone(),
            id,
        })
    }

    /// The values under a UNIQUE; `None` if one of them is NULL, which equals nothing.
    pub(super) fn unique_values(&self, table: &str, row: &Row, unique: &Unique) -> Option<Vec<Value>> {
        if let Some(UniqueValues(values)) = &unique.values {
            return values(row);
        }
        let values = unique.columns.iter().map(|column| self.value(table, row, column));
        values
            .map(|value| (*value != Value::Null).then(|| value.as_key()))
            .collect()
    }

    /// Whether two rows have the same value in every column that either of them has.
    pub(super) fn same(&self, table: &str, left: &Row, right: &Row) -> bool {
        let mut columns = left.iter().chain(right.iter()).map(|(column, _)| column);
        columns.all(|column| self.value(table, left, column) == self.value(table, right, column))
    }
}
