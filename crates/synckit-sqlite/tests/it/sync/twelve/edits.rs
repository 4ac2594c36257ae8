//! What an app does to its tables, whatever they are.

use rand::{Rng as _, rngs::StdRng, seq::SliceRandom as _};
use rusqlite::Connection;
use synckit_sqlite::inspect::{SchemaReport, TableReport};

use super::super::device::ask;

/// One edit. What the database refuses did not happen.
pub(crate) fn edit(app: &Connection, report: &SchemaReport, random: &mut StdRng) -> Option<String> {
    let table = report.tables.choose(random)?;
    let subject = Subject::new(app, table);
    let row = subject.any_row(app, random)?;
    let column = subject.columns.choose(random)?;
    let sql = match random.gen_range(0..10) {
        0..=4 => subject.update(app, column, &row, random)?,
        5..=7 => subject.copy(&row, random.gen_range(0..1_000_000)),
        8 => format!("DELETE FROM {} WHERE {row}", subject.name),
        _ => subject.replace(&row),
    };
    app.execute_batch(&sql).is_ok().then_some(sql)
}

struct Subject {
    name: String,
    /// Those that can be written, the number of the row not included.
    columns: Vec<String>,
    key: Vec<String>,
    references: Vec<(String, String)>,
}

impl Subject {
    fn new(app: &Connection, table: &TableReport) -> Self {
        let alias = "pk = 1 AND upper(type) = 'INTEGER'";
        let columns = ask(
            app,
            &format!(
                "SELECT '\"' || name || '\"' FROM pragma_table_xinfo('{}') WHERE hidden = 0 AND NOT ({alias})",
                table.name
            ),
        );
        let key = ask(
            app,
            &format!(
                "SELECT '\"' || name || '\"' FROM pragma_table_info('{}') WHERE pk > 0 AND NOT ({alias})",
                table.name
            ),
        );
        let references = table
            .references
            .iter()
            .map(|known| (format!("\"{}\"", known.column), known.parent.clone()));
        Self {
            name: format!("\"{}\"", table.name),
            columns,
            key,
            references: references.collect(),
        }
    }

    /// A condition.
    fn any_row(&self, app: &Connection, random: &mut StdRng) -> Option<String> {
        let count: u32 = ask(app, &format!("SELECT count(*) FROM {}", self.name))[0]
            .parse()
            .unwrap();
        let skipped = (count > 0).then(|| random.gen_range(0..count))?;
        let rowid = app.query_row(
            &format!("SELECT rowid FROM {} LIMIT 1 OFFSET {skipped}", self.name),
            [],
            |row| row.get::<_, i64>(0),
        );
        if let Ok(rowid) = rowid {
            return Some(format!("rowid = {rowid}"));
        }
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|name| format!("'{name} IS ' || quote({name})"))
            .collect();
        Some(
            ask(
                app,
                &format!(
                    "SELECT {} FROM {} LIMIT 1 OFFSET {skipped}",
                    parts.join(" || ' AND ' || "),
                    self.name
                ),
            )[0]
            .clone(),
        )
    }

    fn update(&self, app: &Connection, column: &str, row: &str, random: &mut StdRng) -> Option<String> {
        let from = match self.references.iter().find(|(name, _)| name == column) {
            Some((_, parent)) => {
                let key = ask(
                    app,
                    &format!("SELECT name FROM pragma_table_info('{parent}') WHERE pk = 1"),
                );
                format!(
                    "(SELECT \"{}\" FROM \"{parent}\" ORDER BY random() LIMIT 1)",
                    key.first()?
                )
            }
            None if random.gen_bool(0.5) => format!("(SELECT {column} FROM {} ORDER BY random() LIMIT 1)", self.name),
            None => format!(
                "CASE typeof({column}) WHEN 'integer' THEN {column} + 1 WHEN 'text' THEN {column} || 'x' ELSE {column} END"
            ),
        };
        Some(format!(
            "UPDATE OR IGNORE {} SET {column} = {from} WHERE {row}",
            self.name
        ))
    }

    fn copy(&self, row: &str, number: u32) -> String {
        let names = self.columns.join(", ");
        let values = self.columns.iter().map(|name| match self.key.contains(name) {
            true => format!("CASE typeof({name}) WHEN 'text' THEN {name} || '-{number}' ELSE {name} END"),
            false => name.clone(),
        });
        let values: Vec<String> = values.collect();
        format!(
            "INSERT OR IGNORE INTO {0} ({names}) SELECT {1} FROM {0} WHERE {row}",
            self.name,
            values.join(", ")
        )
    }

    /// As many apps write: the row goes and comes again.
    fn replace(&self, row: &str) -> String {
        let names = self.columns.join(", ");
        format!(
            "INSERT OR REPLACE INTO {0} ({names}) SELECT {names} FROM {0} WHERE {row}",
            self.name
        )
    }
}

/// A rebuild in twelve steps, as ORMs do it.
pub(crate) fn rebuild(app: &Connection, table: &str) {
    let sql = ask(
        app,
        &format!("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = '{table}'"),
    )[0]
    .clone();
    let others = ask(
        app,
        &format!(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = '{table}' AND type <> 'table' AND sql IS NOT NULL AND name NOT LIKE 'synckit%'"
        ),
    );
    let columns = ask(
        app,
        &format!("SELECT '\"' || name || '\"' FROM pragma_table_xinfo('{table}') WHERE hidden = 0"),
    )
    .join(", ");
    let body = &sql[sql.find('(').unwrap()..];
    app.execute_batch(&format!(
        "PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON; BEGIN;
         CREATE TABLE rebuilt {body}; INSERT INTO rebuilt ({columns}) SELECT {columns} FROM \"{table}\";
         DROP TABLE \"{table}\"; ALTER TABLE rebuilt RENAME TO \"{table}\"; {};
         COMMIT; PRAGMA foreign_keys = ON; PRAGMA legacy_alter_table = OFF",
        others.join(";")
    ))
    .unwrap();
}
