//! Looking at an app's database before it is synced: what each row's identity is, which columns refer to others, what
//! triggers write, and what a developer has to say.
//!
//! Nothing is written. The whole of every table is read, so this is for development and for the first start, not for
//! every one.

mod bookkeeping;
pub(crate) mod catalog;
mod finding;
mod identity;
mod names;
pub(crate) mod references;
mod report;
mod statements;

use rusqlite::Connection;

use crate::track::{Identity, Track};
use catalog::{Kind, TableInfo};

pub use finding::{Finding, Severity};
pub use references::{ReferenceReport, ReferenceSource};
pub use report::{LeftOut, LeftOutReason, SchemaReport, TableReport};
pub use statements::TriggerWrite;

/// A database that cannot be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// SQLite refused to read the file.
    #[error("the database cannot be read")]
    Database(#[from] rusqlite::Error),

    /// A declared table is not in the file.
    #[error("the file has no table `{0}`")]
    UnknownTable(String),
}

/// Inspects every table of the main database, with what the app declares about them. A table without a declaration is
/// inspected as if nothing were to say about it.
///
/// The connection is the app's: what the app registers on it (functions, collations) is there. Its authorizer is
/// replaced, and taken off at the end.
///
/// # Errors
/// [`InspectError`].
///
/// # Examples
/// ```
/// use synckit_sqlite::{inspect::inspect, track::Identity};
///
/// let app = rusqlite::Connection::open_in_memory()?;
/// app.execute_batch("
///     CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT);
///     CREATE TABLE tasks (id INTEGER PRIMARY KEY, list_id INTEGER, title TEXT);
///     INSERT INTO lists VALUES (1, 'Shopping');
///     INSERT INTO tasks VALUES (1, 1, 'Milk');
/// ")?;
/// let report = inspect(&app, &[])?;
/// let tasks = report.table("tasks").unwrap();
/// assert_eq!(tasks.identity, Identity::Mapped);
/// assert!(!tasks.is_ready()); // is `list_id` a reference?
/// assert_eq!(tasks.suggestion().to_string(), r#"Track::new("tasks").references("list_id", "lists")"#);
/// assert!(inspect(&app, &[tasks.suggestion()])?.table("tasks").unwrap().is_ready());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn inspect(connection: &Connection, tracks: &[Track]) -> Result<SchemaReport, InspectError> {
    let all = catalog::read(connection)?;
    if let Some(unknown) = tracks
        .iter()
        .find(|track| !all.iter().any(|table| is_named(table, track.table())))
    {
        return Err(InspectError::UnknownTable(unknown.table().to_owned()));
    }
    let is_core_data = all.iter().any(|table| is_named(table, "Z_PRIMARYKEY"));
    let (mut tables, mut left_out) = (Vec::new(), Vec::new());
    for table in &all {
        match reason(table, is_core_data) {
            Some(reason) => left_out.push(LeftOut {
                name: table.name.clone(),
                reason,
            }),
            None => tables.push((table, declaration(table, tracks))),
        }
    }
    let tables = reports(connection, &all, &tables)?;
    Ok(SchemaReport { tables, left_out })
}

fn is_named(table: &TableInfo, name: &str) -> bool {
    table.name.eq_ignore_ascii_case(name)
}

fn declaration(table: &TableInfo, tracks: &[Track]) -> Track {
    let declared = tracks.iter().find(|track| is_named(table, track.table()));
    declared.cloned().unwrap_or_else(|| Track::new(&table.name))
}

fn reason(table: &TableInfo, is_core_data: bool) -> Option<LeftOutReason> {
    match table.kind {
        Kind::View => Some(LeftOutReason::View),
        Kind::Virtual => Some(LeftOutReason::Virtual),
        Kind::Shadow => Some(LeftOutReason::Shadow),
        Kind::Table if is_core_data && table.name.starts_with('Z') => Some(LeftOutReason::CoreData),
        Kind::Table if bookkeeping::is_bookkeeping(&table.name) => Some(LeftOutReason::Bookkeeping),
        Kind::Table => None,
    }
}

fn reports(
    connection: &Connection,
    all: &[TableInfo],
    tables: &[(&TableInfo, Track)],
) -> Result<Vec<TableReport>, rusqlite::Error> {
    let identities: Vec<Identity> = tables
        .iter()
        .map(|(table, track)| identity::identity(connection, all, table, track))
        .collect();
    let known: Vec<(&TableInfo, &Identity)> = tables.iter().map(|(table, _)| *table).zip(&identities).collect();
    let parents = references::parents(&known);
    let reports = tables.iter().zip(&identities).map(|((table, track), identity)| {
        let prepared = statements::prepare(connection, table)?;
        let mut report = TableReport {
            name: table.name.clone(),
            rows: None,
            identity: identity.clone(),
            references: Vec::new(),
            trigger_writes: Vec::new(),
            findings: Vec::new(),
            track: track.clone(),
        };
        if let Some(message) = prepared.refusal {
            // The values cannot be compared either: a collation may be what is missing.
            report.findings.push(Finding::NotWritable { message });
            return Ok(report);
        }
        report.trigger_writes = prepared.writes.into_iter().collect();
        report.references = references::references(connection, table, track, &parents)?;
        let references = &report.references;
        report.findings = finding::Subject {
            connection,
            tables: all,
            table,
            track,
            identity,
            references,
        }
        .findings()?;
        report
            .findings
            .sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        let count = format!("SELECT count(*) FROM {}", catalog::quoted(&table.name));
        report.rows = Some(catalog::count(connection, &count)?);
        Ok(report)
    });
    reports.collect()
}
