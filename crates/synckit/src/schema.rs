//! `synckit schema check`: what a developer should know before the tables of an app are synced.

use std::{path::Path, process::ExitCode};

use serde_json::{Value as Json, json};
use synckit_sqlite::{
    inspect::{InspectError, SchemaReport, Severity, TableReport, inspect},
    track::Track,
};

use crate::{
    cli::SchemaCommand,
    demo::{Unreadable, open_without_a_trace},
    failure::Failure,
    screen,
};

pub(crate) fn run(command: &SchemaCommand) -> Result<ExitCode, Failure> {
    let SchemaCommand::Check { database } = command;
    let report = report(database)?;
    if screen::is_for_programs() {
        screen::json(&as_json(&report))?;
    } else {
        print(&report);
    }
    let is_ready = report.tables.iter().all(TableReport::is_ready);
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(database: &Path) -> Result<SchemaReport, Failure> {
    let scratch = tempfile::tempdir()?;
    let unreadable = |error: anyhow::Error| Unreadable::from(error, database);
    let connection = open_without_a_trace(database, scratch.path()).map_err(unreadable)?;
    let report = inspect(&connection, &[]).map_err(|error| match error {
        InspectError::Database(error) => unreadable(error.into()),
        other => other.into(),
    })?;
    Ok(report)
}

fn print(report: &SchemaReport) {
    let rows: Vec<Vec<String>> = report.tables.iter().map(row).collect();
    screen::table(&["table", "rows", "state", "identity"], &rows, &[1]);
    for table in &report.tables {
        for finding in &table.findings {
            screen::line(format_args!("{}: {finding}", table.name));
        }
    }
    for left_out in &report.left_out {
        screen::line(format_args!("{} is left out: {}", left_out.name, left_out.reason));
    }
    screen::line("");
    screen::line("db.track([");
    for track in tracks(report) {
        screen::line(format_args!("    {track},"));
    }
    screen::line("]).await?;");
}

fn row(table: &TableReport) -> Vec<String> {
    let rows = table.rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
    vec![
        table.name.clone(),
        rows,
        state(table).to_owned(),
        table.identity.to_string(),
    ]
}

fn state(table: &TableReport) -> &'static str {
    match table.severity() {
        Some(Severity::Refusal) => "refused",
        Some(Severity::Question) => "question",
        _ => "ready",
    }
}

/// The declarations, with an answer to every question.
fn tracks(report: &SchemaReport) -> impl Iterator<Item = Track> {
    let possible = report
        .tables
        .iter()
        .filter(|table| table.severity() != Some(Severity::Refusal));
    possible.map(TableReport::suggestion)
}

fn as_json(report: &SchemaReport) -> Json {
    let tables = report.tables.iter().map(|table| {
        let findings: Vec<String> = table.findings.iter().map(ToString::to_string).collect();
        json!({
            "name": table.name,
            "rows": table.rows,
            "state": state(table),
            "identity": table.identity.to_string(),
            "findings": findings,
            "track": table.suggestion().to_string(),
        })
    });
    let left_out = report
        .left_out
        .iter()
        .map(|table| json!({ "name": table.name, "reason": table.reason.to_string() }));
    json!({ "tables": tables.collect::<Vec<_>>(), "left_out": left_out.collect::<Vec<_>>() })
}
