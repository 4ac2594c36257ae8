//! `synckit export`: all data of a user, decrypted on this machine, in a form that other programs can read.
//!
//! The export is deliberately not an operator's tool. It signs in as the user and opens the data as an app would, with
//! every check of the SDK, so it needs the user's password.
//!
//! Invariants: a file under its final name is complete; memory does not grow with the data; the export registers a
//! device, because pulling requires one, and revokes it at the end, so that it does not hold back the log. A machine that is a device
//! of the account stays one.

mod files;
mod lines;
mod place;
mod tables;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use synckit_client::{BatchEvidence, ChangeEntry, Cursor, DeviceId, Error, RecoveryCode, RejoinEvidence};

use self::{
    lines::Lines,
    place::{LeftOut, Owner, Place, Progress, Saved},
    tables::{TableReport, Tables},
};
use crate::{
    cli::{ExportArgs, ExportFormat},
    failure::Failure,
    runtime, screen,
    stop::StopSignal,
    units,
    user::{self, User, signed_in},
};

/// Interval of saving the progress: a power cut repeats at most this much work.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) fn run(args: ExportArgs) -> Result<ExitCode, Failure> {
    let place = Place::open(&args)?;
    let recovery = args.recovery_code.then(user::recovery_code).transpose()?;
    let work = signed_in(&args.sign_in, async |user| {
        match (&recovery, user.is_device) {
            (Some(_), true) => return Err(has_keys()),
            (None, true) => {}
            _ => open_keys(user, recovery.as_ref()).await?,
        }
        as_a_device(user, &args, place, recovery.as_ref()).await
    });
    let report = runtime()?.block_on(work)?;
    let lacks_files = report.blobs.as_ref().is_some_and(|blobs| !blobs.failed.is_empty());
    let code = if lacks_files || !report.left_out.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    };
    tell(&report)?;
    Ok(code)
}

#[derive(Debug, Serialize)]
struct ExportReport {
    #[serde(flatten)]
    owner: Owner,
    file: String,
    format: &'static str,
    changes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tables: Vec<TableReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
    blobs: Option<files::BlobReport>,
}

/// The failure of `--recovery-code` on a machine that needs none.
fn has_keys() -> Failure {
    Failure::new(
        anyhow!("this machine has the keys already: `synckit login` signed it in"),
        "leave --recovery-code out, or name the account with --email",
    )
    .with_code("already_signed_in")
}

async fn open_keys(user: &User<'_>, recovery: Option<&RecoveryCode>) -> Result<(), Failure> {
    match recovery {
        Some(code) => user.client.setup_encryption_with_recovery(code).await?,
        None => user.client.setup_encryption_existing(user.password()?).await?,
    }
    Ok(())
}

/// Registers a device for the duration of the export.
async fn as_a_device(
    user: &User<'_>,
    args: &ExportArgs,
    place: Place,
    recovery: Option<&RecoveryCode>,
) -> Result<ExportReport, Failure> {
    let client = &user.client;
    let (Some(user_id), Some(app_id)) = (client.user_id(), client.app_id()) else {
        return Err(Error::NotSignedIn.into());
    };
    let mut progress = place.begin(Owner { user_id, app_id })?;
    let mut sink = None;
    let device = if user.is_device {
        client.register_device(&user::machine_name(), user::platform()).await?
    } else {
        client.register_device(progress.device_name(), user::platform()).await?
    };
    let mut stop = StopSignal::listen()?;
    let done = tokio::select! {
        done = export(user, device.id, args, &mut progress, &mut sink, recovery) => done,
        () = stop.next() => Err(Failure::new(anyhow!("interrupted"), GO_ON).with_code("interrupted")),
    };
    if let (Err(_), Some(sink)) = (&done, &mut sink) {
        // Save the progress, so that the next run continues after it. The first error is the one to report, not a
        // failed save.
        let _ = sink.save().and_then(|saved| progress.save(saved));
    }
    if !user.is_device
        && let Err(error) = client.revoke_device(device.id).await
    {
        screen::note(format_args!(
            "note: the device {:?} of the export is still registered, revoke it with `synckit device revoke`: {error}",
            device.device_name
        ));
    }
    let report = done?;
    progress.finish()?;
    Ok(report)
}

const GO_ON: &str = "run the same command again to continue, or with --force to start again";

async fn export(
    user: &User<'_>,
    device_id: DeviceId,
    args: &ExportArgs,
    progress: &mut Progress,
    sink: &mut Option<Sink>,
    recovery: Option<&RecoveryCode>,
) -> Result<ExportReport, Failure> {
    let mut tables = Vec::new();
    if !progress.is_pulled() {
        let open = sink.insert(Sink::open(args.format, progress)?);
        pull(user, device_id, progress, open, recovery).await?;
        progress.save(open.save()?)?;
        tables = sink.take().map(Sink::finish).transpose()?.unwrap_or_default();
        progress.publish()?;
    }
    let blobs = if args.blobs {
        Some(files::download_all(&user.client, progress).await?)
    } else {
        None
    };
    Ok(ExportReport {
        owner: progress.owner(),
        file: progress.place().target().display().to_string(),
        format: place::format_name(args.format),
        changes: progress.saved().changes,
        tables,
        left_out: progress.left_out().to_vec(),
        blobs,
    })
}

async fn pull(
    user: &User<'_>,
    device_id: DeviceId,
    progress: &mut Progress,
    sink: &mut Sink,
    recovery: Option<&RecoveryCode>,
) -> Result<(), Failure> {
    let bar = bar("{spinner} {human_pos} changes in {elapsed}");
    let Saved {
        mut cursor, changes, ..
    } = sink.written();
    bar.set_position(changes);
    let mut saved_at = Instant::now();
    let mut has_new_key = false;
    loop {
        let (changes, next, has_more) = match user.client.pull(device_id, cursor).await {
            // Another device rotated the key meanwhile: the password opens the new one as well.
            Err(Error::KeyRotated { .. }) if !has_new_key => {
                has_new_key = true;
                open_keys(user, recovery).await?;
                continue;
            }
            Err(error) => match error.rejoin_evidence() {
                // One unreadable batch must not block all others.
                Some(RejoinEvidence::Batch(batch)) => {
                    cursor = leave_out(user, progress, batch, cursor).await?.ok_or(error)?;
                    continue;
                }
                _ => return Err(error.into()),
            },
            Ok(pulled) => pulled,
        };
        has_new_key = false;
        sink.write(&changes, next)?;
        bar.inc(changes.len() as u64);
        cursor = next;
        if !has_more {
            bar.finish_and_clear();
            return Ok(());
        }
        if saved_at.elapsed() >= SAVE_INTERVAL {
            progress.save(sink.save()?)?;
            saved_at = Instant::now();
        }
    }
}

/// Skips a batch that no device can read, and remembers it for the report. Returns the cursor to pull from, or `None`
/// if the chain does not contain this batch: then the page was changed in transit, and the data of a lying server is
/// not exported.
///
/// The device of the export is revoked at its end, so the user's own devices are not affected.
async fn leave_out(
    user: &User<'_>,
    progress: &mut Progress,
    batch: Box<BatchEvidence>,
    cursor: Cursor,
) -> Result<Option<Cursor>, Failure> {
    let mut left_out = LeftOut {
        batch_id: batch.batch_id,
        device_id: batch.device_id,
        first_seq: batch.parent.seq.saturating_add(1),
        batches: 1,
        changes: u64::from(batch.count),
        reason: batch.reason.to_owned(),
    };
    match user.client.rejoin(&RejoinEvidence::Batch(batch), cursor).await {
        Ok(rejoined) => {
            left_out.batches = rejoined.skipped_batches;
            left_out.changes = rejoined.skipped_changes;
            progress.leave_out(left_out)?;
            Ok(Some(rejoined.cursor))
        }
        Err(Error::NothingToRejoin) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The destination of the changes.
#[derive(Debug)]
enum Sink {
    Lines(Lines),
    Tables(Box<Tables>),
}

impl Sink {
    fn open(format: ExportFormat, progress: &Progress) -> anyhow::Result<Self> {
        let part = progress.place().part();
        Ok(match format {
            ExportFormat::Jsonl => Self::Lines(Lines::open(&part, progress.saved())?),
            ExportFormat::Sqlite => Self::Tables(Box::new(Tables::open(&part, &progress.owner())?)),
        })
    }

    /// The position from which it continues.
    fn written(&self) -> Saved {
        match self {
            Self::Lines(lines) => lines.written(),
            Self::Tables(tables) => tables.written(),
        }
    }

    fn write(&mut self, changes: &[ChangeEntry], next: Cursor) -> anyhow::Result<()> {
        match self {
            Self::Lines(lines) => lines.write(changes, next),
            Self::Tables(tables) => tables.write(changes, next),
        }
    }

    /// Makes all written changes durable.
    fn save(&mut self) -> anyhow::Result<Saved> {
        match self {
            Self::Lines(lines) => lines.save(),
            Self::Tables(tables) => tables.save(),
        }
    }

    /// Closes the file.
    fn finish(self) -> anyhow::Result<Vec<TableReport>> {
        match self {
            Self::Lines(_) => Ok(Vec::new()),
            Self::Tables(tables) => tables.finish(),
        }
    }
}

/// A progress bar, visible only on a terminal.
fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn tell(report: &ExportReport) -> Result<(), Failure> {
    if screen::is_for_programs() {
        return Ok(screen::json(report)?);
    }
    screen::line(format_args!(
        "{} in {}",
        units::counted(report.changes, "change"),
        report.file
    ));
    if !report.tables.is_empty() {
        let rows: Vec<Vec<String>> = report
            .tables
            .iter()
            .map(|table| vec![table.table.clone(), table.sqlite_name.clone(), units::count(table.rows)])
            .collect();
        screen::table(&["table", "in SQLite", "rows"], &rows, &[2]);
    }
    for batch in &report.left_out {
        screen::note(format_args!(
            "error: {} in {} from sequence {} on (the first is batch {} of device {}) cannot be read and are left out: {}",
            units::counted(batch.changes, "change"),
            if batch.batches == 1 {
                "1 batch".to_owned()
            } else {
                format!("{} batches", units::count(batch.batches))
            },
            batch.first_seq,
            batch.batch_id,
            batch.device_id,
            batch.reason
        ));
    }
    if let Some(blobs) = &report.blobs {
        screen::line(format_args!(
            "{} ({}) in {}",
            units::counted(blobs.files, "file"),
            units::bytes(blobs.bytes),
            blobs.directory
        ));
        for failed in &blobs.failed {
            screen::note(format_args!(
                "error: the file {} could not be exported: {}",
                failed.blob_id, failed.error
            ));
        }
    }
    Ok(())
}
