//! The costs of the SDK and the server, against a server in its own process.
//!
//! Figures mean little without their machine, so its own limits are measured in the same run. The server's resources
//! are read from the system's accounting of its process, separately from this process, which is the client.

mod account;
mod arrival;
mod blobs;
mod crowd;
mod events;
mod figures;
mod fresh_device;
mod idle;
mod machine;
mod neighbours;
mod one_user;
mod postgresql;
mod process;
mod raw;
mod recorder;
mod records;
mod server;

use std::path::Path;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use synckit_client::SyncKitConfig;

use self::{
    account::Account,
    crowd::Crowd,
    figures::{Report, Row},
    machine::Machine,
    server::ServerProcess,
};
use crate::{
    cli::{BenchRow, MeasureArgs, PrepareArgs},
    program,
};

/// Measures the rows and prints the report.
pub(crate) async fn run(args: &MeasureArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; figures that mean something need `cargo run --release`");
    }
    let program = program::find(args.server.as_deref())?;
    let mut builder = tempfile::Builder::new();
    builder.prefix("synckit-bench-");
    let directory = match &args.work_dir {
        Some(work_dir) => builder.tempdir_in(work_dir),
        None => builder.tempdir(),
    };
    let directory = directory.context("the directory for the data cannot be created")?;
    let report = tokio::select! {
        report = measure(args, &program, directory.path()) => report?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    };
    report.print(args.json)
}

/// Leaves a data directory and sealed requests for it.
pub(crate) async fn prepare(args: &PrepareArgs) -> anyhow::Result<()> {
    let fixture = &args.directory;
    std::fs::create_dir(fixture).with_context(|| format!("{} cannot be created", fixture.display()))?;
    let program = program::find(args.server.as_deref())?;
    let (mut server, api_key) = ServerProcess::start(&program, &fixture.join("server"), None, "")?;
    let config = SyncKitConfig {
        server_url: server.url.clone(),
        api_key,
    };
    Crowd::prepare(1, 1, &args.load, &config).await?.write(fixture)?;
    server.stop()
}

async fn measure(args: &MeasureArgs, program: &Path, directory: &Path) -> anyhow::Result<Report> {
    let machine = Machine::measure(directory)?;
    // An older program knows no such settings; the other rows can measure it.
    let more_config = if args.wants(BenchRow::Events) {
        server::EVENTS_CONFIG
    } else {
        ""
    };
    let (mut server, api_key) = ServerProcess::start(program, &directory.join("server"), None, more_config)?;
    let config = SyncKitConfig {
        server_url: server.url.clone(),
        api_key,
    };
    let mut rows = one_account(args, directory, &machine, &mut server, config.clone()).await?;
    if args.wants(BenchRow::Users) || args.wants(BenchRow::Singles) {
        rows.extend(many_accounts(args, &machine, &server, &config).await?);
    }
    if args.wants(BenchRow::Neighbours) {
        rows.extend(neighbours::measure(args, &server, &config).await?);
    }
    if args.wants(BenchRow::Events) {
        rows.extend(events::measure(args, &mut server, &config).await?);
    }
    if args.wants(BenchRow::Idle) {
        rows.extend(idle::measure(args, &mut server).await?);
    }
    server.stop()?;
    if let Some(database) = &args.database {
        rows.extend(postgresql::measure(args, program, directory, &machine, database).await?);
    }
    Ok(Report::new(args, machine, rows))
}

/// The rows of one user with a few devices.
async fn one_account(
    args: &MeasureArgs,
    directory: &Path,
    machine: &Machine,
    server: &mut ServerProcess,
    config: SyncKitConfig,
) -> anyhow::Result<Vec<Row>> {
    let with_blobs = args.wants(BenchRow::Blobs) && args.blob_mb > 0;
    let with_log = args.wants(BenchRow::Sdk)
        || args.wants(BenchRow::Fresh)
        || args.wants(BenchRow::Arrival)
        || args.wants(BenchRow::Events);
    let mut rows = Vec::new();
    if !with_log && !with_blobs {
        return Ok(rows);
    }
    let account = Account::create(config).await?;
    let laptop = account.first_device().await?;
    let phone = account.device("phone").await?;
    if args.wants(BenchRow::Sdk) {
        rows.extend(one_user::measure(args, machine, server, &laptop, &phone).await?);
    } else if args.wants(BenchRow::Fresh) {
        one_user::fill(args, &laptop).await?;
    }
    if args.wants(BenchRow::Fresh) {
        rows.extend(fresh_device::measure(args, directory, machine, &account, &laptop).await?);
    }
    if args.wants(BenchRow::Arrival) {
        rows.extend(arrival::measure(&args.load, machine, &laptop, &phone).await?);
    }
    if args.wants(BenchRow::Events) {
        rows.extend(events::delays(&args.load, machine, &laptop, &phone).await?);
    }
    if with_blobs {
        rows.extend(blobs::measure(args, directory, machine, server, &laptop, &phone).await?);
    }
    Ok(rows)
}

/// The rows of many users at once.
async fn many_accounts(
    args: &MeasureArgs,
    machine: &Machine,
    server: &ServerProcess,
    config: &SyncKitConfig,
) -> anyhow::Result<Vec<Row>> {
    let count = |row, count| if args.wants(row) { count } else { 0 };
    let (users, streams) = (
        count(BenchRow::Users, args.users),
        count(BenchRow::Singles, args.streams),
    );
    let mut crowd = Crowd::prepare(users, streams, &args.load, config).await?;
    let mut rows = Vec::new();
    if users > 0 {
        rows.extend(crowd.push(machine, server).await?);
        rows.extend(crowd.pull(machine, server).await?);
    }
    if streams > 0 {
        rows.extend(crowd.push_singles(machine, server).await?);
    }
    Ok(rows)
}

fn bar(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent}% {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length)
        .with_style(style.progress_chars("=> "))
        .with_message(what)
}
