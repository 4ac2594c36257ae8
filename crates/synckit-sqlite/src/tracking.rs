//! Which tables are tracked, as the file keeps it.

use rusqlite::Connection;

use crate::{
    error::Error,
    inspect::{ReferenceSource, SchemaReport, Severity, TableReport},
    layout::{KeyLayout, Layout, TableLayout, declared::Declared},
    shadow::settings,
    track::Identity,
};

pub(crate) fn declared_tables(connection: &Connection) -> Result<Vec<Declared>, Error> {
    let mut select = connection.prepare_cached("SELECT number, name, declared FROM synckit_tables ORDER BY number")?;
    let tables = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))?;
    tables
        .map(|table| {
            let (number, name, declared) = table?;
            Declared::from_json(number, name, &declared).ok_or(Error::Damaged)
        })
        .collect()
}

pub(crate) fn write_declared(connection: &Connection, declared: &Declared) -> Result<(), Error> {
    let sql = "INSERT INTO synckit_tables (number, name, declared) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET declared = excluded.declared";
    connection
        .prepare_cached(sql)?
        .execute((declared.number, &declared.name, declared.to_json()))?;
    Ok(())
}

/// What is kept of a table that is tracked from now on.
pub(crate) fn declaration(number: i64, table: &TableReport) -> Result<Declared, Error> {
    if let Some(finding) = table
        .findings
        .iter()
        .find(|finding| finding.severity() >= Severity::Question)
    {
        return Err(Error::NotReady {
            table: table.name.clone(),
            finding: finding.clone(),
        });
    }
    let said = table
        .references
        .iter()
        .filter(|reference| reference.source == ReferenceSource::Track);
    Ok(Declared {
        number,
        name: table.name.clone(),
        identity: table.identity.clone(),
        references: said
            .map(|reference| (reference.column.clone(), reference.parent.clone()))
            .collect(),
        local: table.track.local_columns().to_vec(),
        unenforced: Vec::new(),
        known: Vec::new(),
        key: None,
    })
}

/// A number of a row that other devices do not have would mean another row there.
pub(crate) fn check_parents(report: &SchemaReport, declared: &[Declared]) -> Result<(), Error> {
    for table in &report.tables {
        for reference in &table.references {
            let is_tracked = declared
                .iter()
                .any(|known| known.name.eq_ignore_ascii_case(&reference.parent));
            if !is_tracked && !table.track.is_settled(&reference.column) {
                return Err(Error::ParentNotTracked {
                    table: table.name.clone(),
                    column: reference.column.clone(),
                    parent: reference.parent.clone(),
                });
            }
        }
    }
    Ok(())
}

pub(crate) fn check_identity(table: &TableLayout) -> Result<(), Error> {
    let has_number = table.info.rowid_alias().is_some();
    let has_key = !table.info.key().is_empty();
    let fits = match table.declared.identity {
        Identity::Mapped => matches!(table.key, KeyLayout::Mapped(_)),
        Identity::Verbatim | Identity::OfParent { .. } => has_key,
        Identity::WholeRow => !has_number,
        Identity::Columns(_) => true,
    };
    let table = &table.declared.name;
    fits.then_some(())
        .ok_or_else(|| Error::Identity { table: table.clone() })
}

/// Under another key, rows would be other rows.
pub(crate) fn check_key(table: &TableLayout) -> Result<(), Error> {
    let declared = &table.declared;
    let is_same = declared.key.as_ref().is_none_or(|key| *key == table.key_columns());
    is_same.then_some(()).ok_or_else(|| Error::KeyChanged {
        table: declared.name.clone(),
    })
}

/// Rows without their parent were found: the app does not enforce the foreign key, so neither do we.
pub(crate) fn note_unenforced(
    connection: &Connection,
    layout: &Layout,
    table: &str,
    column: &str,
) -> Result<(), Error> {
    let mut declared = layout.tables.get(table).ok_or(Error::Damaged)?.declared.clone();
    let kept = declared_tables(connection)?
        .into_iter()
        .find(|kept| kept.number == declared.number);
    declared = kept.unwrap_or(declared);
    declared.unenforced.push(column.to_owned());
    write_declared(connection, &declared)
}

pub(crate) fn schema_version(connection: &Connection) -> Result<Option<i64>, Error> {
    Ok(Some(
        connection.query_row("PRAGMA schema_version", [], |row| row.get(0))?,
    ))
}

pub(crate) fn note_schema(connection: &Connection) -> Result<(), Error> {
    Ok(settings::write(
        connection,
        settings::SCHEMA_VERSION,
        schema_version(connection)?,
    )?)
}
