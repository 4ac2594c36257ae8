//! `synckit bench`: what the SDK and the server cost, against a server in a process of its own.
//!
//! Figures mean little without the machine that they come from, so its own limits are measured in the same run. What the
//! server spends is read from the system's accounting of its process, apart from what this process spends as the client.
//! Targets stand beside the figures and fail nothing: how fast a machine is at some moment is not a defect.

mod account;
mod arrival;
mod blobs;
mod crowd;
mod figures;
mod fresh_device;
mod idle;
mod machine;
mod one_user;
mod process;
mod raw;
mod recorder;
mod records;
mod server;

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
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
    cli::{BenchArgs, BenchRow},
    failure::Failure,
    runtime, screen,
};

pub(crate) fn run(args: BenchArgs) -> Result<ExitCode, Failure> {
    if let Some(fixture) = &args.prepare {
        runtime()?.block_on(prepare(&args, fixture))?;
        return Ok(ExitCode::SUCCESS);
    }
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; figures that mean something need `cargo run --release -- bench`");
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix("synckit-bench-");
    let directory = match &args.work_dir {
        Some(work_dir) => builder.tempdir_in(work_dir),
        None => builder.tempdir(),
    };
    let directory = directory.context("no directory for the bench can be made")?;
    let report = runtime()?.block_on(async {
        tokio::select! {
            report = measure(&args, directory.path()) => report,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    })?;
    if screen::is_for_programs() {
        screen::json(&report)?;
    } else if args.markdown {
        report.print_markdown();
    } else {
        report.print();
    }
    Ok(ExitCode::SUCCESS)
}

/// Leaves a data directory and requests for it.
async fn prepare(args: &BenchArgs, fixture: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(fixture).with_context(|| format!("{} cannot be created", fixture.display()))?;
    let (mut server, api_key) = ServerProcess::start(&fixture.join("server")).await?;
    let config = SyncKitConfig {
        server_url: server.url.clone(),
        api_key,
    };
    Crowd::of_one(args, &config).await?.write(fixture)?;
    server.stop()
}

async fn measure(args: &BenchArgs, directory: &Path) -> anyhow::Result<Report> {
    let machine = Machine::measure(directory)?;
    let (mut server, api_key) = ServerProcess::start(&directory.join("server")).await?;
    let config = SyncKitConfig {
        server_url: server.url.clone(),
        api_key,
    };
    let mut rows = one_account(args, directory, &machine, &mut server, config.clone()).await?;
    if args.wants(BenchRow::Users) || args.wants(BenchRow::Singles) {
        rows.extend(many_accounts(args, &machine, &server, &config).await?);
    }
    if args.wants(BenchRow::Idle) {
        rows.extend(idle::measure(args, &mut server).await?);
    }
    server.stop()?;
    Ok(Report::new(args, machine, rows))
}

/// The rows of one user with a few devices.
async fn one_account(
    args: &BenchArgs,
    directory: &Path,
    machine: &Machine,
    server: &mut ServerProcess,
    config: SyncKitConfig,
) -> anyhow::Result<Vec<Row>> {
    let with_blobs = args.wants(BenchRow::Blobs) && args.blob_mb > 0;
    let with_log = args.wants(BenchRow::Sdk) || args.wants(BenchRow::Fresh) || args.wants(BenchRow::Arrival);
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
        rows.extend(arrival::measure(args, machine, &laptop, &phone).await?);
    }
    if with_blobs {
        rows.extend(blobs::measure(args, directory, machine, server, &laptop, &phone).await?);
    }
    Ok(rows)
}

/// The rows of many users at once.
async fn many_accounts(
    args: &BenchArgs,
    machine: &Machine,
    server: &ServerProcess,
    config: &SyncKitConfig,
) -> anyhow::Result<Vec<Row>> {
    let mut crowd = Crowd::prepare(args, config).await?;
    let mut rows = Vec::new();
    if args.wants(BenchRow::Users) {
        rows.extend(crowd.push(machine, server).await?);
        rows.extend(crowd.pull(machine, server).await?);
    }
    if args.wants(BenchRow::Singles) {
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
