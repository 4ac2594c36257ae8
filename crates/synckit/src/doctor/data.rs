//! The data of a server: its database, the blobs in the database's list, its keys.

use std::{fs, path::Path, time::Duration};

use synckit_server::{
    config::BlobPlace,
    inspect::{
        DatabaseFacts, DatabaseInspection, Inspection, IntegrityCheck, LogSurvey, ObjectExtent, ObjectSurvey,
        check_bucket,
    },
};
use synckit_store::{
    PostgresInspection, PostgresUrl, SqliteStore, StoreError,
    objects::{BucketAccess, BucketCheckError},
};

use super::Report;
use crate::{cli::DoctorArgs, failure::Failure, units};

/// Time limit of the integrity check without --full.
const INTEGRITY_TIME_MAX: Duration = Duration::from_secs(30);
/// A write-ahead log of this size is no longer checkpointed. That of a busy server has about 45 MiB.
const WAL_BYTES_MAX: u64 = 128 << 20;

/// The database and the blobs in its list. `None` if nothing useful could be read.
pub(super) async fn database(
    inspection: &Inspection,
    (args, place): (&DoctorArgs, &BlobPlace),
    is_served: bool,
    report: &mut Report,
) -> Option<DatabaseFacts> {
    const CHECK: &str = "database";
    let path = inspection.database_path();
    if !path.is_file() {
        if let Err(error) = SqliteStore::schema(&path) {
            return failed(error, report);
        }
        report.fail(
            CHECK,
            format_args!("{} is missing", path.display()),
            "restore it from a backup: no server starts without it beside existing keys and files",
        );
        return None;
    }
    let opened = inspection.database().and_then(|database| {
        let schema = database.schema()?.unwrap_or(0);
        Ok((database, schema))
    });
    let (database, schema) = match opened {
        Ok(opened) => opened,
        Err(error) => return failed(error, report),
    };
    let known = DatabaseInspection::known_schema();
    if schema == 0 {
        report.fail(
            CHECK,
            format_args!("{} is empty", path.display()),
            "restore it from a backup: no server starts on it beside existing keys and files",
        );
        return None;
    }
    if schema > known {
        report.fail(
            CHECK,
            format_args!("it has schema {schema}, this program knows up to {known}"),
            "use the newer synckit that made it; only an older backup undoes its migration",
        );
    } else if schema < known {
        let advice = if is_served {
            "the running server is older: make a backup, then restart it with this program"
        } else {
            "back it up, then start the server with this program"
        };
        report.warn(
            CHECK,
            format_args!("it has schema {schema}, this program migrates it to {known}"),
            advice,
        );
    }
    integrity(&database, args, report, schema);
    write_ahead_log(&path, is_served, report);
    if schema != known {
        return None;
    }
    let facts = rows(RowsOf::File(&database), inspection, (args, place), report).await;
    if database.was_disturbed() {
        report.warn(
            CHECK,
            "a server or a command opened it during the check: its findings may be wrong",
            "run the doctor again",
        );
    }
    facts
}

/// A PostgreSQL: whether it can be reached, takes writes, its schema, and what it holds.
pub(super) async fn postgresql(
    url: &PostgresUrl,
    inspection: &Inspection,
    scope: (&DoctorArgs, &BlobPlace),
    report: &mut Report,
) -> Option<DatabaseFacts> {
    const CHECK: &str = "database";
    let opened = async {
        let database = PostgresInspection::open(url).await?;
        let versions = database.schema().await?;
        Ok((database, versions))
    };
    let (database, versions) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return failed(error, report),
    };
    let known = versions.known;
    let facts = match versions.found {
        Some(found) if found == known => {
            report.ok(CHECK, format_args!("{url} answers, schema {found}"));
            rows(RowsOf::Postgres(&database), inspection, scope, report).await
        }
        Some(found) if found > known => {
            report.fail(
                CHECK,
                format_args!("{url} has schema {found}, this program knows up to {known}"),
                "use the newer synckit that made it; only an older backup undoes its migration",
            );
            None
        }
        Some(found) => {
            report.warn(
                CHECK,
                format_args!("{url} has schema {found}, this program migrates it to {known}"),
                "back it up, then start one server with this program",
            );
            None
        }
        None => {
            report.warn(
                CHECK,
                format_args!("{url} answers, and is empty"),
                "the first start of a server makes the tables; restore a backup if there was a server",
            );
            None
        }
    };
    database.close().await;
    facts
}

/// The rows of a database whose schema this program knows.
#[derive(Debug, Clone, Copy)]
enum RowsOf<'a> {
    File(&'a DatabaseInspection),
    Postgres(&'a PostgresInspection),
}

impl RowsOf<'_> {
    async fn missing_parts(self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::File(database) => database.missing_parts(),
            Self::Postgres(database) => database.missing_parts().await,
        }
    }

    async fn facts(self) -> Result<DatabaseFacts, StoreError> {
        match self {
            Self::File(database) => database.facts(),
            Self::Postgres(database) => database.facts().await,
        }
    }

    async fn survey_logs(self) -> Result<LogSurvey, StoreError> {
        match self {
            Self::File(database) => database.survey_logs(),
            Self::Postgres(database) => database.survey_logs().await,
        }
    }

    async fn survey_objects(self, directory: &Path, extent: ObjectExtent) -> Result<ObjectSurvey, StoreError> {
        match self {
            Self::File(database) => database.survey_objects(directory, extent),
            Self::Postgres(database) => database.survey_objects(directory, extent).await,
        }
    }
}

/// Checks the rows of a database on any engine. `None` if they cannot be read.
async fn rows(
    database: RowsOf<'_>,
    inspection: &Inspection,
    (args, place): (&DoctorArgs, &BlobPlace),
    report: &mut Report,
) -> Option<DatabaseFacts> {
    match database.missing_parts().await {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => {
            report.fail(
                "database",
                format_args!(
                    "its schema was changed by something else; it lacks: {}",
                    missing.join("; ")
                ),
                "restore a backup: what needs these parts fails, or stores what it should refuse",
            );
            return None;
        }
        Err(error) => return failed(error, report),
    }
    let facts = match database.facts().await {
        Ok(facts) => facts,
        Err(error) => return failed(error, report),
    };
    if args.full {
        logs(database, report).await;
    }
    if *place == BlobPlace::Directory {
        blobs(database, inspection, args, report).await;
    }
    Some(facts)
}

/// What to do about a damaged database.
const DAMAGED: &str = "stop the server, keep a copy of the directory, restore a backup, and distrust the disk";

fn failed(error: StoreError, report: &mut Report) -> Option<DatabaseFacts> {
    let failure = Failure::from(error);
    if failure.code() == "database_damaged" {
        report.fail("database", format_args!("damaged: {}", failure.message()), DAMAGED);
        return None;
    }
    let hint = failure.hint().unwrap_or("restore a backup: see docs/operations.md");
    report.fail("database", failure.message(), hint);
    None
}

fn integrity(database: &DatabaseInspection, args: &DoctorArgs, report: &mut Report, schema: u32) {
    const CHECK: &str = "database";
    let extent = if args.full {
        IntegrityCheck::Whole
    } else {
        IntegrityCheck::Quick(INTEGRITY_TIME_MAX)
    };
    match database.check(extent) {
        Ok(Some(findings)) if findings.is_empty() => {
            report.ok(CHECK, format_args!("opens, schema {schema}, and is not damaged"));
        }
        Ok(Some(findings)) => report.fail(CHECK, format_args!("damaged: {}", findings.join("; ")), DAMAGED),
        Ok(None) => report.warn(
            CHECK,
            format_args!(
                "opens, schema {schema}; the check for damage did not finish within {}",
                units::counted(INTEGRITY_TIME_MAX.as_secs(), "second")
            ),
            "--full has no time limit; run it on a copy, or at a quiet hour",
        ),
        Err(error) => {
            failed(error, report);
        }
    }
}

/// Verifies the logs, whose damage devices would otherwise notice too late for a repair.
async fn logs(database: RowsOf<'_>, report: &mut Report) {
    const CHECK: &str = "logs";
    let survey = match database.survey_logs().await {
        Ok(survey) => survey,
        Err(error) => {
            return report.fail(
                CHECK,
                Failure::from(error).message(),
                "restore a backup: see docs/operations.md",
            );
        }
    };
    let hashed = format!(
        "{} of {} hashed in {}",
        units::bytes(survey.bytes),
        counted_batches(survey.batches),
        units::counted(survey.streams, "stream")
    );
    if survey.damaged == 0 {
        return report.ok(CHECK, format_args!("{hashed}, every chain is complete"));
    }
    let examples: Vec<String> = survey
        .examples
        .iter()
        .map(|found| {
            let (stream, seq) = (found.stream, found.seq);
            format!(
                "{} (app {}, account {}, entry {seq})",
                found.damage, stream.app_id, stream.user_id
            )
        })
        .collect();
    report.fail(
        CHECK,
        format_args!(
            "{hashed}: {}, such as {}",
            units::counted(survey.damaged, "damaged place"),
            examples.join("; ")
        ),
        "devices of these accounts report BatchForged: restore an undamaged backup, and distrust the disk",
    );
}

fn counted_batches(number: u64) -> String {
    let plural = if number == 1 { "" } else { "es" };
    format!("{} batch{plural}", units::count(number))
}

fn write_ahead_log(database: &Path, is_served: bool, report: &mut Report) {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if bytes > WAL_BYTES_MAX {
        report.warn(
            "database",
            format_args!("its write-ahead log has grown to {}", units::bytes(bytes)),
            "end the process that keeps a long read open, perhaps a backup; then the server empties the log",
        );
    } else if bytes > 0 && !is_served {
        report.ok(
            "database",
            "the last server was not shut down cleanly; the next start recovers every acknowledged write",
        );
    }
}

async fn blobs(database: RowsOf<'_>, inspection: &Inspection, args: &DoctorArgs, report: &mut Report) {
    const CHECK: &str = "blobs";
    let extent = if args.full {
        ObjectExtent::All
    } else {
        ObjectExtent::Sample
    };
    let survey = match database.survey_objects(&inspection.blobs_path(), extent).await {
        Ok(survey) => survey,
        Err(error) => {
            let failure = Failure::from(error);
            return report.fail(
                CHECK,
                failure.message(),
                failure.hint().unwrap_or("check the directory blobs/"),
            );
        }
    };
    let compared = format!(
        "{} of {} compared",
        units::count(survey.compared),
        units::counted(survey.known, "object")
    );
    if survey.missing + survey.wrong_size + survey.rotten == 0 {
        let hashed = if args.full { ", all hashed" } else { "" };
        report.ok(CHECK, format_args!("{compared}{hashed}, none missing"));
    } else {
        let examples: Vec<String> = survey.examples.iter().map(ToString::to_string).collect();
        report.fail(
            CHECK,
            format_args!(
                "{compared}: {} missing, {} of another size, {} with other bytes, such as {}",
                units::count(survey.missing),
                units::count(survey.wrong_size),
                units::count(survey.rotten),
                examples.join(", ")
            ),
            "restore blobs/ from a backup; devices that still have a file can upload it again (blob_replace)",
        );
    }
    if survey.orphaned > 0 {
        report.warn(
            CHECK,
            format_args!(
                "{} ({}) unknown to the database: a restored database is older than its blobs",
                units::counted(survey.orphaned, "file"),
                units::bytes(survey.orphaned_bytes)
            ),
            "they are harmless and never swept; delete them if you will not restore a newer backup of the database",
        );
    }
}

/// A round trip, and no comparison with the database: a bucket may have millions of objects.
pub(super) async fn bucket(access: &BucketAccess, report: &mut Report) {
    const CHECK: &str = "bucket";
    let address = &access.address;
    match check_bucket(access).await {
        Ok(()) => report.ok(
            CHECK,
            format_args!("{address} stores, returns and deletes, and refuses other bytes than the signed ones"),
        ),
        Err(error) => {
            let advice = match &error {
                BucketCheckError::Unfit(_) => {
                    "use a store that checks and keeps x-amz-checksum-sha256: see \"S3\" in docs/operations.md"
                }
                _ => "check the address, the keys and their rights, and the clock: see \"S3\" in docs/operations.md",
            };
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let what = causes.fold(format!("{address}: {error}"), |what, cause| format!("{what}: {cause}"));
            report.fail(CHECK, what, advice);
        }
    }
}

pub(super) fn keys(inspection: &Inspection, facts: Option<&DatabaseFacts>, report: &mut Report) {
    const CHECK: &str = "keys";
    let keys = inspection.keys();
    let mut is_whole = true;
    match keys.login {
        Ok(Some(seed)) => {
            if facts.is_some_and(|facts| facts.seed_id.is_some_and(|bound| bound != seed)) {
                is_whole = false;
                report.fail(
                    CHECK,
                    "opaque.key does not belong to the passwords in the database",
                    "restore the right opaque.key; see \"Losing the OPRF seed\" in docs/operations.md",
                );
            }
        }
        Ok(None) if facts.is_some_and(|facts| facts.seed_id.is_some()) => {
            is_whole = false;
            report.fail(
                CHECK,
                "opaque.key is missing, but the database was made under one: without it no password works",
                "restore it from a backup, or copy it from another node; see \"Losing the OPRF seed\" in docs/operations.md",
            );
        }
        Ok(None) => {
            is_whole = false;
            report.warn(
                CHECK,
                "opaque.key does not exist yet",
                "the first start of the server creates it",
            );
        }
        Err(error) => {
            is_whole = false;
            key_file(error, report);
        }
    }
    match keys.tokens {
        Ok(Some(_)) => {}
        Ok(None) => {
            is_whole = false;
            report.warn(
                CHECK,
                "tokens.json is missing",
                "the next start creates it; existing tokens end, and clients refresh without the user",
            );
        }
        Err(error) => {
            is_whole = false;
            key_file(error, report);
        }
    }
    match keys.server {
        Ok(true) => {}
        Ok(false) => {
            is_whole = false;
            report.warn(
                CHECK,
                "server.key is missing",
                "the next start creates it; every existing session ends",
            );
        }
        Err(error) => {
            is_whole = false;
            key_file(error, report);
        }
    }
    if let Some(stale) = facts.map(|facts| facts.stale_passwords).filter(|stale| *stale > 0) {
        report.warn(
            CHECK,
            format_args!("{} made under another opaque.key", counted_passwords(stale)),
            "their users reset them by mail; or restore the old opaque.key, and they work again",
        );
    }
    if is_whole {
        report.ok(CHECK, "complete, private, and those of this database");
    }
}

fn counted_passwords(number: u64) -> String {
    let verb = if number == 1 { "was" } else { "were" };
    format!("{} {verb}", units::counted(number, "password"))
}

fn key_file(error: synckit_server::KeyFileError, report: &mut Report) {
    report.fail(
        "keys",
        Failure::from(error).message(),
        "chmod 600 it, or restore it from a backup; it must belong to the server's user",
    );
}
