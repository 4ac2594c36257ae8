//! What the tracked tables are in this file: how a row is found, which columns are synced, and which of them hold numbers of
//! rows. Read from the schema at each change of it, and from the declarations that the file keeps.

pub(crate) mod declared;
pub(crate) mod scratch;
mod unique;

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Result};

use self::{declared::Declared, scratch::Scratch};
use crate::{
    followers::{Follower, followers},
    inspect::catalog::{self, Kind, TableInfo},
    merge::{Column, ColumnMerge, OnDelete, Reference, Schema, Table},
    rows::{Row, Value},
    track::Identity,
};

/// The tracked tables.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Those that are in the file.
    pub(crate) tables: BTreeMap<String, TableLayout>,
    /// Those that are not.
    pub(crate) missing: BTreeSet<String>,
    /// What the merge must know of them.
    pub(crate) schema: Schema,
    /// Foreign keys of tables that are not tracked.
    pub(crate) followers: Vec<Follower>,
    scratch: Scratch,
}

/// A tracked table.
#[derive(Debug)]
pub(crate) struct TableLayout {
    pub(crate) declared: Declared,
    pub(crate) info: TableInfo,
    pub(crate) key: KeyLayout,
    /// The synced columns.
    pub(crate) columns: Vec<ColumnLayout>,
}

/// How a row is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyLayout {
    /// By a number of this device, in this column.
    Mapped(String),
    /// By the values of these columns.
    Columns(Vec<String>),
    /// By all values.
    WholeRow,
}

/// A synced column.
#[derive(Debug, Clone)]
pub(crate) struct ColumnLayout {
    pub(crate) name: String,
    /// The table whose numbers it holds.
    pub(crate) numbers_of: Option<i64>,
}

impl TableLayout {
    pub(crate) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// Those of the columns that name a row which are in the table.
    pub(crate) fn key_columns(&self) -> Vec<String> {
        match &self.key {
            KeyLayout::Columns(columns) => {
                let columns = columns.iter().filter(|name| self.info.column(name).is_some());
                columns.cloned().collect()
            }
            KeyLayout::Mapped(_) | KeyLayout::WholeRow => Vec::new(),
        }
    }
}

impl Layout {
    pub(crate) fn read(connection: &Connection, scratch: Connection, declared: Vec<Declared>) -> Result<Self> {
        let all = catalog::read(connection)?;
        let scratch = Scratch::new(scratch);
        let (mut found, mut missing) = (Vec::new(), BTreeSet::new());
        for declared in declared {
            let info = all
                .iter()
                .find(|info| info.kind == Kind::Table && info.name.eq_ignore_ascii_case(&declared.name));
            match info {
                Some(info) => found.push((declared, info.clone())),
                None => drop(missing.insert(declared.name)),
            }
        }
        let numbers: BTreeMap<String, i64> = found
            .iter()
            .filter_map(|(declared, _)| Some((declared.name.clone(), root(&found, declared)?)))
            .collect();
        let tables: BTreeMap<String, TableLayout> = found
            .iter()
            .map(|(declared, info)| (declared.name.clone(), table_layout(declared, info, &numbers)))
            .collect();
        let mut schema = Schema::default();
        for table in tables.values() {
            scratch.add(&table.info)?;
            schema
                .tables
                .insert(table.declared.name.clone(), table_of(&scratch, table, &tables)?);
        }
        let followers = followers(&all, |name| tables.keys().any(|known| known.eq_ignore_ascii_case(name)));
        Ok(Self {
            tables,
            missing,
            schema,
            followers,
            scratch,
        })
    }

    /// What the columns of a table store for a row.
    pub(crate) fn image(&self, table: &str, row: &Row) -> Row {
        self.tables
            .get(table)
            .map_or_else(|| row.clone(), |table| self.scratch.image(&table.info, row))
    }

    /// A row with exactly the columns that this device has.
    pub(crate) fn known(&self, table: &str, row: &Row) -> Row {
        self.schema.known(table, row)
    }
}

/// The table whose numbers are the keys of a table: itself, or its parent's.
fn root(all: &[(Declared, TableInfo)], declared: &Declared) -> Option<i64> {
    let mut at = declared;
    // Parents of parents: a circle of them ends, too.
    for _ in 0..=all.len() {
        let (_, info) = all.iter().find(|(known, _)| known.number == at.number)?;
        match (&at.identity, key_layout(at, info)) {
            (_, KeyLayout::Mapped(_)) => return Some(at.number),
            (Identity::OfParent { parent }, _) => {
                (at, _) = all
                    .iter()
                    .find(|(known, _)| known.name.eq_ignore_ascii_case(parent))
                    .map(|(known, info)| (known, info))?;
            }
            _ => return None,
        }
    }
    None
}

fn key_layout(declared: &Declared, info: &TableInfo) -> KeyLayout {
    let alias = info.rowid_alias().map(|column| column.name.clone());
    let key = || info.key().iter().map(|column| column.name.clone()).collect();
    match (&declared.identity, alias) {
        (Identity::Mapped, Some(alias)) => KeyLayout::Mapped(alias),
        (Identity::Columns(columns), Some(alias)) if !is_in(columns, &alias) => KeyLayout::Mapped(alias),
        (Identity::Columns(columns), _) => KeyLayout::Columns(
            columns
                .iter()
                .map(|name| {
                    info.column(name)
                        .map_or_else(|| name.clone(), |column| column.name.clone())
                })
                .collect(),
        ),
        (Identity::WholeRow, _) => KeyLayout::WholeRow,
        (Identity::Mapped | Identity::Verbatim | Identity::OfParent { .. }, _) => KeyLayout::Columns(key()),
    }
}

fn is_in(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn table_layout(declared: &Declared, info: &TableInfo, numbers: &BTreeMap<String, i64>) -> TableLayout {
    let key = key_layout(declared, info);
    let is_number = |name: &str| matches!(&key, KeyLayout::Mapped(alias) if alias == name);
    let synced = info
        .columns
        .iter()
        .filter(|column| !column.is_generated && !is_number(&column.name) && !is_in(&declared.local, &column.name));
    let columns = synced.map(|column| ColumnLayout {
        name: column.name.clone(),
        numbers_of: parent_of(declared, info, &column.name).and_then(|parent| number_of(numbers, &parent)),
    });
    TableLayout {
        columns: columns.collect(),
        declared: declared.clone(),
        info: info.clone(),
        key,
    }
}

fn number_of(numbers: &BTreeMap<String, i64>, table: &str) -> Option<i64> {
    numbers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(table))
        .map(|(_, number)| *number)
}

/// The table whose keys a column holds.
fn parent_of(declared: &Declared, info: &TableInfo, column: &str) -> Option<String> {
    let said = declared
        .references
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(column));
    let of_key = match (&declared.identity, info.key().as_slice()) {
        (Identity::OfParent { parent }, [only]) if only.name == column => Some(parent.clone()),
        _ => None,
    };
    let foreign = info.foreign_key_of(column).map(|key| key.parent.clone());
    said.map(|(_, parent)| parent.clone()).or(of_key).or(foreign)
}

fn table_of(scratch: &Scratch, table: &TableLayout, all: &BTreeMap<String, TableLayout>) -> Result<Table> {
    let names = table.names();
    let mut columns = BTreeMap::new();
    for name in &names {
        let default = scratch.default_of(&table.info.name, name)?;
        columns.insert(
            name.clone(),
            Column {
                default,
                merge: ColumnMerge::Latest,
            },
        );
    }
    let uniques = table
        .info
        .uniques
        .iter()
        .filter_map(|info| unique::unique(scratch, &table.info, info, &names));
    let mut uniques: Vec<_> = uniques.collect();
    if let (KeyLayout::Mapped(_), Identity::Columns(columns)) = (&table.key, &table.declared.identity) {
        uniques.push(columns.clone().into());
    }
    let key = match &table.key {
        KeyLayout::Mapped(_) => Vec::new(),
        KeyLayout::Columns(columns) => columns.clone(),
        // In the order in which a row has them.
        KeyLayout::WholeRow => columns.keys().cloned().collect(),
    };
    Ok(Table {
        columns,
        key,
        uniques,
        references: references(table, all),
    })
}

fn references(table: &TableLayout, all: &BTreeMap<String, TableLayout>) -> Vec<Reference> {
    let references = table.columns.iter().filter_map(|column| {
        let parent = parent_of(&table.declared, &table.info, &column.name)?;
        let parent = all
            .values()
            .find(|known| known.declared.name.eq_ignore_ascii_case(&parent))?;
        let is_row = column.numbers_of.is_some() || is_whole_key(table, parent, &column.name);
        is_row.then(|| Reference {
            column: column.name.clone(),
            parent: parent.declared.name.clone(),
            on_delete: on_delete(table, &column.name),
        })
    });
    references.collect()
}

/// Whether a foreign key refers to the one column that names its parent on every device.
fn is_whole_key(table: &TableLayout, parent: &TableLayout, column: &str) -> bool {
    let (KeyLayout::Columns(key), Some(foreign)) = (&parent.key, table.info.foreign_key_of(column)) else {
        return false;
    };
    match (&key[..], &foreign.columns[..]) {
        // Under another collation, different values refer to one row.
        ([only], [(_, there)]) if is_compared_exactly(&parent.info, only) => {
            let is_declared_key = matches!(parent.info.key()[..], [key] if key.name == *only);
            there
                .as_ref()
                .map_or(is_declared_key, |there| there.eq_ignore_ascii_case(only))
        }
        _ => false,
    }
}

fn is_compared_exactly(info: &TableInfo, column: &str) -> bool {
    let mut alone = info
        .uniques
        .iter()
        .filter(|unique| matches!(&unique.columns[..], [Some(only)] if only == column));
    alone.all(|unique| unique.collations.iter().all(|name| name.eq_ignore_ascii_case("BINARY")))
}

fn on_delete(table: &TableLayout, column: &str) -> OnDelete {
    let Some(foreign) = table.info.foreign_key_of(column) else {
        return OnDelete::Dangle;
    };
    // A row that SQLite would not let lose its parent counts as one of RESTRICT.
    let info = table.info.columns.iter().find(|info| info.name == column);
    let has_default = info.is_some_and(|info| info.default.is_some());
    let is_not_null = info.is_some_and(|info| info.is_not_null);
    match foreign.on_delete.to_ascii_uppercase().as_str() {
        _ if is_in(&table.declared.unenforced, column) => OnDelete::Dangle,
        "SET NULL" if is_not_null => OnDelete::Cascade,
        "SET DEFAULT" if is_not_null && !has_default => OnDelete::Cascade,
        "SET NULL" => OnDelete::SetNull,
        "SET DEFAULT" => OnDelete::SetDefault,
        _ => OnDelete::Cascade,
    }
}

impl Layout {
    /// Whether a value of a synced column is a number of another row.
    pub(crate) fn is_number(value: &Value, column: &ColumnLayout) -> Option<(i64, i64)> {
        match (value, column.numbers_of) {
            (Value::Integer(number), Some(table)) => Some((table, *number)),
            _ => None,
        }
    }
}
