//! `synckit migrate-store`: moves the database of a server to the other engine.

use std::{path::Path, process::ExitCode};

use serde::Serialize;
use synckit_server::{
    Config,
    admin::migrate_store,
    config::{Database, Settings},
};

use crate::{
    cli::MigrateStoreArgs,
    failure::Failure,
    runtime, screen,
    settings::{refuse_password_in_flag, secrets},
    units,
};

pub(crate) fn run(args: &MigrateStoreArgs) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Moved {
        rows: u64,
        rows_copied: u64,
        batches_checked: u64,
    }
    let file = match &args.config {
        Some(path) => Settings::read_file(path)?,
        None => Settings::default(),
    };
    let (from, to) = (end(args, &file, &args.from)?, end(args, &file, &args.to)?);
    let data_dir = args.data_dir.clone().or_else(|| file.data_dir().map(Path::to_owned));
    let data_dir = data_dir.unwrap_or_else(|| Config::DEFAULT_DATA_DIR.into());
    let finished = |table: &str, rows: u64| {
        if !screen::is_for_programs() {
            screen::line(format_args!("{table:<17} {}", units::counted(rows, "row")));
        }
    };
    let moved = runtime()?.block_on(migrate_store(&data_dir, &from, &to, finished))?;
    if screen::is_for_programs() {
        screen::json(&Moved {
            rows: moved.rows,
            rows_copied: moved.copied,
            batches_checked: moved.batches,
        })?;
    } else {
        screen::line(format_args!(
            "\nThe copy is complete: {} are equal, and the chains of {} batches are intact.\nStart the server with \
             --database {} and the same data directory. The source is unchanged.",
            units::counted(moved.rows, "row"),
            units::count(moved.batches),
            args.to
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// One of the two databases. The password is that of the PostgreSQL.
fn end(args: &MigrateStoreArgs, file: &Settings, database: &str) -> Result<Database, Failure> {
    if database == "embedded" {
        return Ok(Database::Embedded);
    }
    refuse_password_in_flag(database)?;
    let mut given = secrets()?.without_services().with("database", database)?;
    if let Some(path) = &args.database_password_file {
        given = given.with("database_password_file", path)?;
    }
    Ok(Config::resolve([given, file.clone().without_services()])?.database)
}
