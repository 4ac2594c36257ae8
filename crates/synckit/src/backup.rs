//! `synckit backup`: copies the database and the files of a server, whether or not it is running.

use std::process::ExitCode;

use anyhow::anyhow;
use serde::Serialize;
use synckit_protocol::ObjectKey;
use synckit_server::{
    admin::{ObjectsToCopy, back_up},
    config::Database,
};

use crate::{
    admin::{config, has_bucket},
    cli::BackupArgs,
    failure::Failure,
    screen, units,
};

pub(crate) fn run(args: BackupArgs) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Made<'a> {
        database_bytes: u64,
        objects_copied: u64,
        copied_bytes: u64,
        objects_present: u64,
        objects_removed: u64,
        objects_missing: u64,
        missing: &'a [ObjectKey],
    }
    let config = config(&args.data)?;
    if let Database::Postgres(url) = &config.database {
        return Err(Failure::new(
            anyhow!("the database is {url}, which `synckit backup` does not copy"),
            "back it up with pg_dump, then the directory: see \"PostgreSQL\" in docs/operations.md",
        )
        .with_code("not_embedded"));
    }
    let objects = if has_bucket(&args.data, args.blobs.as_deref())? {
        ObjectsToCopy::Nothing
    } else {
        ObjectsToCopy::Directory
    };
    let backup = back_up(&config.data_dir, &args.target, args.keys.as_deref(), objects)?;
    if screen::is_for_programs() {
        screen::json(&Made {
            database_bytes: backup.database_bytes,
            objects_copied: backup.objects_copied,
            copied_bytes: backup.copied_bytes,
            objects_present: backup.objects_present,
            objects_removed: backup.objects_removed,
            objects_missing: backup.objects_missing,
            missing: &backup.missing,
        })?;
    } else {
        screen::line(format_args!(
            "database  {}, checked",
            units::bytes(backup.database_bytes)
        ));
        match objects {
            ObjectsToCopy::Directory => screen::line(format_args!(
                "blobs     {} copied ({}), {} copied earlier, {} removed",
                units::count(backup.objects_copied),
                units::bytes(backup.copied_bytes),
                units::count(backup.objects_present),
                units::count(backup.objects_removed)
            )),
            ObjectsToCopy::Nothing => screen::line("blobs     in a bucket, not copied; protect the bucket itself"),
        }
        match &args.keys {
            Some(keys) => screen::line(format_args!("keys      copied to {}", keys.display())),
            None => screen::line("keys      not copied; store them apart from this backup (--keys DIR)"),
        }
    }
    if backup.objects_missing == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let missing: Vec<String> = backup.missing.iter().map(ToString::to_string).collect();
    Err(Failure::new(
        anyhow!(
            "the data directory lacks the {} of some blobs, for example {}",
            units::counted(backup.objects_missing, "file"),
            missing.join(", ")
        ),
        "all else is in the backup; `synckit doctor --full` checks every file",
    )
    .with_code("backup_incomplete"))
}
