//! Columns that refer to rows: those that the schema declares, and those that look like it.

use rusqlite::{Connection, Result};

use super::{
    catalog::{ColumnInfo, TableInfo, quoted},
    names::{Hint, Place, hint},
};
use crate::track::{Identity, Track};

/// Integers from here on are no small counts: if all of them are keys of a table, that is no accident.
const TELLING_INTEGER: i64 = 1_000_000;
/// Fewer different values prove nothing without a telling name.
const TELLING_VALUES: u32 = 3;

/// A column that refers to the numbers of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReferenceReport {
    /// The column.
    pub column: String,
    /// The table that it refers to.
    pub parent: String,
    /// How it is known.
    pub source: ReferenceSource,
}

/// How a reference is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferenceSource {
    /// A foreign key of the schema.
    Schema,
    /// A declaration of the app.
    Track,
    /// Every value is a key of the other table, and name or values are telling.
    Guess,
}

/// A table whose keys are numbers of one device: whatever refers to them must be translated.
pub(super) struct Parent<'a> {
    pub(super) table: &'a TableInfo,
    /// The column of the number.
    pub(super) key: &'a ColumnInfo,
}

/// The tables whose numbers must be translated. Where columns name a row, a number beside them is still one of this device.
pub(super) fn parents<'a>(tables: &[(&'a TableInfo, &Identity)]) -> Vec<Parent<'a>> {
    let is_translated = |(table, identity): &&(&TableInfo, &Identity)| match identity {
        Identity::Mapped | Identity::OfParent { .. } => true,
        Identity::Columns(columns) => {
            let alias = table.rowid_alias();
            alias.is_some_and(|alias| !columns.iter().any(|column| column.eq_ignore_ascii_case(&alias.name)))
        }
        Identity::Verbatim | Identity::WholeRow => false,
    };
    let tables = tables.iter().filter(is_translated);
    let parents = tables.filter_map(|(table, _)| match table.key()[..] {
        [key] => Some(Parent { table, key }),
        _ => None,
    });
    parents.collect()
}

/// The columns of a table that refer to numbers of one device.
pub(super) fn references(
    connection: &Connection,
    table: &TableInfo,
    track: &Track,
    parents: &[Parent<'_>],
) -> Result<Vec<ReferenceReport>> {
    let mut references = Vec::new();
    let mut open = Vec::new();
    for column in table.columns.iter().filter(|column| !column.is_generated) {
        let known = declared(table, column, parents).map(|parent| (parent, ReferenceSource::Schema));
        let known = known.or_else(|| Some((track.declared_parent(&column.name)?.to_owned(), ReferenceSource::Track)));
        match known {
            Some((parent, source)) => references.push(ReferenceReport {
                column: column.name.clone(),
                parent,
                source,
            }),
            None if track.is_settled(&column.name) || table.foreign_key_of(&column.name).is_some() => {}
            None => open.push((&column.name, candidates(connection, table, column, parents)?)),
        }
    }
    // The columns of a link table point at all of its tables alike: what the others leave is theirs.
    for is_link in [false, true] {
        for (column, found) in &open {
            let taken: Vec<&str> = references.iter().map(|known| known.parent.as_str()).collect();
            if let Some((hint, parent)) = best(found, &table.name, &taken)
                && (hint == Some(Hint::Link)) == is_link
            {
                let (column, parent) = ((*column).clone(), parent.to_owned());
                references.push(ReferenceReport {
                    column,
                    parent,
                    source: ReferenceSource::Guess,
                });
            }
        }
    }
    Ok(references)
}

/// The parent by a foreign key of one column that refers to a number of one device.
fn declared(table: &TableInfo, column: &ColumnInfo, parents: &[Parent<'_>]) -> Option<String> {
    let key = table.foreign_key_of(&column.name)?;
    let parent = parents
        .iter()
        .find(|parent| parent.table.name.eq_ignore_ascii_case(&key.parent))?;
    let [(_, there)] = &key.columns[..] else { return None };
    let is_key = there
        .as_ref()
        .is_none_or(|there| there.eq_ignore_ascii_case(&parent.key.name));
    is_key.then(|| parent.table.name.clone())
}

/// The tables of which every value is a key, and at which the name points. If it points nowhere, telling values do.
fn candidates<'a>(
    connection: &Connection,
    table: &TableInfo,
    column: &ColumnInfo,
    parents: &[Parent<'a>],
) -> Result<Vec<Candidate<'a>>> {
    let mut found = Vec::new();
    if matches!(table.key()[..], [only] if only.name == column.name) {
        return Ok(found);
    }
    let place = Place {
        table: &table.name,
        column: &column.name,
        is_in_pair: table.is_in_pair(&column.name),
    };
    for parent in parents {
        let hint = hint(&place, &parent.table.name, &parent.key.name);
        let values = Values::read(connection, table, column, parent)?;
        if values.are_keys() && (hint.is_some() || values.are_telling()) {
            found.push((hint, parent.table.name.as_str()));
        }
    }
    Ok(found)
}

/// A table, and how the name of a column points at it.
type Candidate<'a> = (Option<Hint>, &'a str);

/// The one table with the best hint; several are no guess. `shopping_list_id` in `shopping_list` means `shopping_lists`:
/// another table goes first.
fn best<'a>(found: &[Candidate<'a>], own: &str, taken: &[&str]) -> Option<Candidate<'a>> {
    let best = found.iter().filter_map(|(hint, _)| *hint).min();
    let mut equal: Vec<&str> = found
        .iter()
        .filter(|(hint, _)| *hint == best)
        .map(|(_, parent)| *parent)
        .collect();
    if equal.len() > 1 && best == Some(Hint::Table) {
        equal.retain(|parent| *parent != own);
    }
    if best == Some(Hint::Link) {
        equal.retain(|parent| !taken.contains(parent));
    }
    match equal[..] {
        [only] => Some((best, only)),
        _ => None,
    }
}

/// The different values of a column, but those that usually mean "none".
struct Values {
    count: u32,
    /// Those that are no key of the other table.
    strange: u32,
    /// Those that are too large to be counts.
    telling: u32,
}

impl Values {
    fn read(connection: &Connection, table: &TableInfo, column: &ColumnInfo, parent: &Parent<'_>) -> Result<Self> {
        let (column, table) = (quoted(&column.name), quoted(&table.name));
        let (key, parent) = (quoted(&parent.key.name), quoted(&parent.table.name));
        // With a collation of SQLite's own: the connection may lack that of the column.
        let sql = format!(
            "SELECT count(*),
                    count(*) FILTER (WHERE typeof(value) <> 'integer' OR value NOT IN (SELECT {key} FROM {parent})),
                    count(*) FILTER (WHERE typeof(value) = 'integer' AND value >= {TELLING_INTEGER})
             FROM (SELECT DISTINCT {column} COLLATE BINARY AS value FROM {table}
                   WHERE {column} COLLATE BINARY NOT IN (0, -1, ''))"
        );
        connection.query_row(&sql, [], |row| {
            Ok(Self {
                count: row.get(0)?,
                strange: row.get(1)?,
                telling: row.get(2)?,
            })
        })
    }

    const fn are_keys(&self) -> bool {
        self.count > 0 && self.strange == 0
    }

    const fn are_telling(&self) -> bool {
        self.telling >= TELLING_VALUES && self.telling >= self.count / 2
    }
}
