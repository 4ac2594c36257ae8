//! The rows of a database as they are the same on every device: a number that only one device counts is left out, and a reference
//! is what it refers to.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

use rusqlite::Connection;
use synckit_sqlite::{
    inspect::{SchemaReport, TableReport},
    track::Identity,
};

use super::super::device::ask;

/// References are followed so far.
const DEPTH: usize = 4;

/// The rows of each table, in order, without columns that belong to one device.
pub(crate) fn canonical(
    app: &Connection,
    report: &SchemaReport,
    local: &[(String, String)],
) -> BTreeMap<String, Vec<String>> {
    let tables: Vec<Table> = report
        .tables
        .iter()
        .map(|table| Table::read(app, table, report, local))
        .collect();
    let mut labels = Labels::new();
    for _ in 0..DEPTH {
        labels = tables.iter().flat_map(|table| table.labels(&labels)).collect();
    }
    let shown = tables.iter().map(|table| {
        let mut rows: Vec<String> = table.rows.iter().map(|row| table.shown(row, &labels)).collect();
        rows.sort();
        (table.name.clone(), rows)
    });
    shown.collect()
}

/// What rows are, by table and number.
type Labels = BTreeMap<(String, String), u64>;

struct Table {
    name: String,
    columns: Vec<String>,
    /// The columns that hold numbers, and whose they are; its own ones are nobody's.
    numbers: BTreeMap<usize, Option<String>>,
    key: Option<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(app: &Connection, table: &TableReport, report: &SchemaReport, local: &[(String, String)]) -> Self {
        let columns = ask(
            app,
            &format!(
                "SELECT name FROM pragma_table_xinfo('{}') WHERE hidden <> 1",
                table.name
            ),
        );
        let columns: Vec<String> = columns
            .into_iter()
            .filter(|name| !local.contains(&(table.name.clone(), name.clone())))
            .collect();
        let place = |name: &str| columns.iter().position(|column| column.eq_ignore_ascii_case(name));
        let key = counted(app, table).and_then(|name| place(&name));
        let mut numbers = BTreeMap::new();
        if matches!(table.identity, Identity::Mapped | Identity::Columns(_)) {
            numbers.extend(key.map(|key| (key, None)));
        }
        for reference in &table.references {
            if report
                .table(&reference.parent)
                .is_some_and(|parent| is_numbered(app, parent))
            {
                numbers.extend(place(&reference.column).map(|place| (place, Some(reference.parent.clone()))));
            }
        }
        let shown: Vec<String> = columns
            .iter()
            .map(|name| format!("typeof(\"{name}\") || ' ' || quote(\"{name}\")"))
            .collect();
        let mut select = app
            .prepare(&format!("SELECT {} FROM \"{}\"", shown.join(", "), table.name))
            .unwrap();
        let text = |row: &rusqlite::Row<'_>, place| Ok(row.get_ref(place)?.as_bytes()?.escape_ascii().to_string());
        let rows = select.query_map([], |row| (0..columns.len()).map(|place| text(row, place)).collect());
        let rows: Vec<Vec<String>> = rows.unwrap().map(Result::unwrap).collect();
        // Nothing names a row of which a part of the key is NULL: it stays where it is.
        let named: Vec<usize> = match &table.identity {
            Identity::Columns(names) => names.iter().filter_map(|name| place(name)).collect(),
            _ => Vec::new(),
        };
        let rows = rows
            .into_iter()
            .filter(|row| !named.iter().any(|place| row[*place].starts_with("null")))
            .collect();
        Self {
            name: table.name.clone(),
            columns,
            numbers,
            key,
            rows,
        }
    }

    fn labels(&self, known: &Labels) -> Vec<((String, String), u64)> {
        let Some(key) = self.key else { return Vec::new() };
        let labels = self.rows.iter().map(|row| {
            let mut hasher = DefaultHasher::new();
            self.shown(row, known).hash(&mut hasher);
            ((self.name.clone(), row[key].clone()), hasher.finish())
        });
        labels.collect()
    }

    fn shown(&self, row: &[String], known: &Labels) -> String {
        let columns =
            self.columns
                .iter()
                .zip(row)
                .enumerate()
                .map(|(place, (name, value))| match self.numbers.get(&place) {
                    None => format!("{name}: {value}"),
                    Some(None) => String::new(),
                    Some(Some(parent)) => match known.get(&(parent.clone(), value.clone())) {
                        Some(label) => format!("{name}: row {label:x}"),
                        None if value.starts_with("integer") && !value.contains(" 0") && !value.contains('-') => {
                            format!("{name}: nobody")
                        }
                        None => format!("{name}: {value}"),
                    },
                });
        columns.collect::<Vec<_>>().join(", ")
    }
}

/// The column of a number that only one device counts.
fn counted(app: &Connection, table: &TableReport) -> Option<String> {
    let alias = ask(
        app,
        &format!(
            "SELECT name FROM pragma_table_info('{0}') WHERE pk = 1 AND upper(type) = 'INTEGER' AND (SELECT count(*) FROM pragma_table_info('{0}') WHERE pk > 0) = 1",
            table.name
        ),
    );
    let of_parent = || {
        ask(
            app,
            &format!("SELECT name FROM pragma_table_info('{}') WHERE pk = 1", table.name),
        )
        .into_iter()
        .next()
    };
    if matches!(table.identity, Identity::OfParent { .. }) {
        return of_parent();
    }
    let alias = alias.into_iter().next()?;
    match &table.identity {
        Identity::Columns(columns) if columns.contains(&alias) => None,
        _ => Some(alias),
    }
}

fn is_numbered(app: &Connection, table: &TableReport) -> bool {
    !matches!(table.identity, Identity::Verbatim | Identity::WholeRow) && counted(app, table).is_some()
}
