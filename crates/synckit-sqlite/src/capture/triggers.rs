//! The triggers by which every writer of the file, in any process and language, notes which rows it touched.
//!
//! They name no column but those of the key, so that the app can drop and rename its columns. They carry no values. They change
//! rows without a conflict clause, because the clause of the app's statement would take its place.

use rusqlite::{Connection, OptionalExtension as _, Result};

use crate::{
    inspect::catalog::quoted,
    layout::{KeyLayout, Layout, TableLayout},
    shadow::TABLES,
};

/// The beginning of the names of triggers, and of tables of notes.
const PREFIX: &str = "synckit_";

/// A trigger: its name and its statement.
type Trigger = (String, String);

/// Installs what is missing. `true`: something was, so that rows may have been touched without a note.
pub(crate) fn install(connection: &Connection, layout: &Layout) -> Result<bool> {
    let mut is_changed = false;
    for table in layout.tables.values() {
        for (name, sql) in triggers(table) {
            let kept = "SELECT sql FROM sqlite_schema WHERE name = ?1 AND type = 'trigger'";
            let kept: Option<String> = connection.query_row(kept, [&name], |row| row.get(0)).optional()?;
            if kept.as_deref() != Some(sql.as_str()) {
                connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {}; {sql}", quoted(&name)))?;
                is_changed = true;
            }
        }
    }
    Ok(is_changed)
}

/// The table of notes of a table whose rows are found by the values of columns.
pub(crate) fn notes_of(table: &TableLayout) -> String {
    format!("{PREFIX}notes_{}", table.declared.number)
}

/// Makes the table of notes.
pub(crate) fn make_notes(connection: &Connection, table: &TableLayout) -> Result<()> {
    let KeyLayout::Columns(columns) = &table.key else {
        return Ok(());
    };
    let names: Vec<String> = (0..columns.len()).map(|place| format!("k{place}")).collect();
    let (notes, names) = (notes_of(table), names.join(", "));
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {notes} ({names}); CREATE INDEX IF NOT EXISTS {notes}_k ON {notes} ({names})"
    ))
}

fn triggers(table: &TableLayout) -> Vec<Trigger> {
    let number = table.declared.number;
    match &table.key {
        KeyLayout::Mapped(key) => mapped(table, number, &quoted(key)),
        KeyLayout::Columns(columns) => {
            let noted = |side: &str| note(table, columns, side);
            vec![
                trigger(table, "insert", "AFTER INSERT", &noted("NEW")),
                trigger(
                    table,
                    "update",
                    "AFTER UPDATE",
                    &format!("{} {}", noted("OLD"), noted("NEW")),
                ),
                trigger(table, "delete", "AFTER DELETE", &noted("OLD")),
            ]
        }
        KeyLayout::WholeRow => {
            let dirty = format!("UPDATE synckit_tables SET dirty = 1 WHERE number = {number} AND NOT dirty;");
            let events = ["insert", "update", "delete"];
            let made = events
                .iter()
                .map(|event| trigger(table, event, &format!("AFTER {}", event.to_uppercase()), &dirty));
            made.collect()
        }
    }
}

/// A row whose number SQLite chose is a new one, even if a deleted row had the number. A row whose number the app changes stays
/// the row that it was.
fn mapped(table: &TableLayout, n: i64, key: &str) -> Vec<Trigger> {
    let noted = format!("UPDATE synckit_map SET noted = 1 WHERE NOT noted AND t = {n} AND k = NEW.{key};");
    let inserted = format!(
        "UPDATE synckit_map SET k = NULL, noted = 1 WHERE t = {n} AND k = NEW.{key}
           AND (SELECT chosen FROM synckit_tables WHERE number = {n});
         INSERT INTO synckit_map (t, k, id, noted)
           SELECT {n}, NEW.{key}, CASE WHEN NEW.{key} > 0 THEN randomblob(16) ELSE CAST(NEW.{key} AS TEXT) END, 1
           WHERE NOT EXISTS (SELECT 1 FROM synckit_map WHERE t = {n} AND k = NEW.{key});
         {noted}"
    );
    let updated = format!(
        "UPDATE synckit_map SET k = NULL, noted = 1 WHERE OLD.{key} IS NOT NEW.{key} AND t = {n} AND k = NEW.{key};
         UPDATE synckit_map SET k = NEW.{key}, noted = 1 WHERE OLD.{key} IS NOT NEW.{key} AND t = {n} AND k = OLD.{key};
         {noted}"
    );
    // In a BEFORE trigger, -1 is in the place of a number that SQLite is going to choose.
    let chosen = format!("UPDATE synckit_tables SET chosen = (NEW.{key} IS -1) WHERE number = {n};");
    let deleted = format!("UPDATE synckit_map SET noted = 1 WHERE t = {n} AND k = OLD.{key};");
    vec![
        trigger(table, "choose", "BEFORE INSERT", &chosen),
        trigger(table, "insert", "AFTER INSERT", &inserted),
        trigger(table, "update", "AFTER UPDATE", &updated),
        trigger(table, "delete", "AFTER DELETE", &deleted),
    ]
}

fn note(table: &TableLayout, columns: &[String], side: &str) -> String {
    let notes = notes_of(table);
    let values: Vec<String> = columns.iter().map(|name| format!("{side}.{}", quoted(name))).collect();
    let same: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(place, value)| format!("k{place} IS {value}"))
        .collect();
    format!(
        "INSERT INTO {notes} SELECT {} WHERE NOT EXISTS (SELECT 1 FROM {notes} WHERE {});",
        values.join(", "),
        same.join(" AND ")
    )
}

fn trigger(table: &TableLayout, event: &str, when: &str, body: &str) -> Trigger {
    let name = format!("{PREFIX}{}_{event}", table.declared.number);
    let sql = format!(
        "CREATE TRIGGER {} {when} ON {} BEGIN {body} END",
        quoted(&name),
        quoted(&table.info.name)
    );
    (name, sql)
}

/// Takes away everything of ours. A table of the app may have a name that begins like ours.
pub(crate) fn uninstall(connection: &Connection) -> Result<()> {
    let all = "SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'table') ORDER BY type DESC";
    let mut select = connection.prepare(all)?;
    let all = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let all: Vec<(String, String)> = all.collect::<Result<_>>()?;
    for (kind, name) in all.iter().filter(|(kind, name)| is_ours(kind, name)) {
        connection.execute_batch(&format!("DROP {kind} {}", quoted(name)))?;
    }
    Ok(())
}

fn is_ours(kind: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let is_number = |text: &str| text.parse::<i64>().is_ok();
    match kind {
        "trigger" => rest.split_once('_').is_some_and(|(number, _)| is_number(number)),
        _ => {
            let made = format!("CREATE TABLE {name} ");
            rest.strip_prefix("notes_").is_some_and(is_number) || TABLES.iter().any(|sql| sql.starts_with(&made))
        }
    }
}
