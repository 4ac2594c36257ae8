//! `synckit bench`: what push, pull and blobs cost, through the SDK, against a server in a process of its own.
//!
//! Figures mean little without the machine that they come from, so its own limits are measured in the same run. What the
//! server spends is read from the system's accounting of its process, apart from what this process spends as the client.

mod machine;
mod process;
mod records;
mod report;
mod server;

use std::{
    io::{BufWriter, Write as _},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use synckit_client::{CredentialStore, Cursor, DeviceId, SyncKitClient, SyncKitConfig, transport::HttpTransport};
use uuid::Uuid;

use self::{
    machine::Machine,
    process::Usage,
    records::Records,
    report::{Blobs, Report, Rows, Transfer},
    server::ServerProcess,
};
use crate::{
    cli::BenchArgs,
    failure::Failure,
    runtime, screen,
    wire::{CountingTransport, WireBytes},
};

/// Records that are made and pushed at a time; the SDK makes batches of 500 of them.
const RECORDS_AT_ONCE: u64 = 25_000;

pub(crate) fn run(args: BenchArgs) -> Result<ExitCode, Failure> {
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
    if args.json {
        screen::json(&report)?;
    } else {
        report.print();
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &BenchArgs, directory: &Path) -> anyhow::Result<Report> {
    let machine = Machine::measure(directory)?;
    let data_dir = directory.join("server");
    let (mut server, api_key) = ServerProcess::start(&data_dir).await?;
    let account = Account::create(&server.url, api_key).await?;
    let mut push = account.device("laptop").await?;
    push.client.setup_encryption_new(&account.password).await?;
    let mut pull = account.device("phone").await?;
    pull.client.setup_encryption_existing(&account.password).await?;
    push.register().await?;
    pull.register().await?;
    let empty_bytes = server.restart_and_measure()?;

    let rows = measure_rows(args, &mut server, &push, &pull, empty_bytes).await?;
    let blobs = match args.blob_mb {
        0 => None,
        megabytes => Some(measure_blobs(megabytes, args.seed, directory, &server, &push, &pull).await?),
    };
    server.stop()?;
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        machine,
        rows,
        blobs,
    })
}

async fn measure_rows(
    args: &BenchArgs,
    server: &mut ServerProcess,
    push: &Client,
    pull: &Client,
    empty_bytes: u64,
) -> anyhow::Result<Rows> {
    let mut records = Records::new(args.seed, args.record_bytes);
    let bar = bar("push", args.records);
    let (mut elapsed, mut row_bytes, mut pushed) = (Duration::ZERO, 0, 0);
    let usage = server.usage();
    let sent = push.wire.sent();
    while pushed < args.records {
        let batch = records.take(RECORDS_AT_ONCE.min(args.records - pushed));
        row_bytes += records::data_bytes(&batch);
        pushed += batch.len() as u64;
        let count = batch.len() as u64;
        let started = Instant::now();
        push.client.push(push.device_id()?, batch).await?;
        elapsed += started.elapsed();
        bar.inc(count);
    }
    bar.finish_and_clear();
    let push_transfer = Transfer::new(args.records, elapsed, usage, server.usage(), push.wire.sent() - sent);

    let usage = server.usage();
    let received = pull.wire.received();
    let (mut cursor, mut pulled) = (Cursor::START, 0);
    let progress = self::bar("pull", args.records);
    let started = Instant::now();
    loop {
        let (changes, next, has_more) = pull.client.pull(pull.device_id()?, cursor).await?;
        cursor = next;
        pulled += changes.len() as u64;
        progress.inc(changes.len() as u64);
        if !has_more {
            break;
        }
    }
    let elapsed = started.elapsed();
    progress.finish_and_clear();
    ensure!(
        pulled == args.records,
        "{pulled} records came back of {} that were pushed",
        args.records
    );
    let pull_transfer = Transfer::new(pulled, elapsed, usage, server.usage(), pull.wire.received() - received);

    let peak_memory_bytes = server.memory().map(|memory| memory.peak);
    let disk_bytes = server.restart_and_measure()?.saturating_sub(empty_bytes);
    Ok(Rows {
        records: args.records,
        row_bytes_per_record: per(row_bytes, args.records),
        push: push_transfer,
        pull: pull_transfer,
        server_peak_memory_bytes: peak_memory_bytes,
        disk_bytes_per_record: per(disk_bytes, args.records),
    })
}

async fn measure_blobs(
    megabytes: u64,
    seed: u64,
    directory: &Path,
    server: &ServerProcess,
    push: &Client,
    pull: &Client,
) -> anyhow::Result<Blobs> {
    let (original, copy) = (directory.join("original"), directory.join("copy"));
    write_random_file(&original, megabytes, seed)?;
    let size = megabytes * 1_000_000;

    let progress = bar("upload", size);
    let watch = process::Growth::begin(server.pid());
    let started = Instant::now();
    let hash = push
        .client
        .blob_put(original.as_path(), |at| progress.set_position(at.done_bytes))
        .await?;
    let up = started.elapsed();
    let up_growth = watch.end();
    progress.finish_and_clear();

    let progress = bar("download", size);
    let watch = process::Growth::begin(server.pid());
    let started = Instant::now();
    pull.client
        .blob_get(&hash, copy.as_path(), |at| progress.set_position(at.done_bytes))
        .await?;
    let down = started.elapsed();
    let down_growth = watch.end();
    progress.finish_and_clear();

    let megabytes_per_second = |elapsed: Duration| megabytes as f64 / elapsed.as_secs_f64();
    Ok(Blobs {
        bytes: size,
        up_mb_per_second: megabytes_per_second(up),
        down_mb_per_second: megabytes_per_second(down),
        up_growth,
        down_growth,
    })
}

/// Writes a file of random bytes, in pieces, so that this process does not grow by it.
fn write_random_file(path: &Path, megabytes: u64, seed: u64) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let mut piece = vec![0; 1_000_000];
    for _ in 0..megabytes {
        random.fill_bytes(&mut piece);
        file.write_all(&piece)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

/// The one user of the bench.
#[derive(Debug)]
struct Account {
    url: String,
    api_key: String,
    email: String,
    password: String,
}

impl Account {
    async fn create(url: &str, api_key: String) -> anyhow::Result<Self> {
        let account = Self {
            url: url.to_owned(),
            api_key,
            email: "bench@example.com".to_owned(),
            password: Uuid::new_v4().to_string(),
        };
        let (client, _) = account.client()?;
        client.create_account(&account.email, &account.password).await?;
        Ok(account)
    }

    fn client(&self) -> anyhow::Result<(SyncKitClient, std::sync::Arc<WireBytes>)> {
        let transport = CountingTransport::new(HttpTransport::new(Duration::from_secs(10))?);
        let wire = transport.bytes();
        let config = SyncKitConfig {
            server_url: self.url.clone(),
            api_key: self.api_key.clone(),
        };
        let client = SyncKitClient::builder(config)
            .credential_store(CredentialStore::Memory)
            .transport(std::sync::Arc::new(transport))
            .build();
        Ok((client, wire))
    }

    async fn device(&self, name: &'static str) -> anyhow::Result<Client> {
        let (client, wire) = self.client()?;
        client.authenticate(&self.email, &self.password).await?;
        Ok(Client {
            name,
            client,
            wire,
            id: None,
        })
    }
}

/// A device of that user.
#[derive(Debug)]
struct Client {
    name: &'static str,
    client: SyncKitClient,
    wire: std::sync::Arc<WireBytes>,
    id: Option<DeviceId>,
}

impl Client {
    async fn register(&mut self) -> anyhow::Result<()> {
        self.id = Some(self.client.register_device(self.name, "linux").await?.id);
        Ok(())
    }

    fn device_id(&self) -> anyhow::Result<DeviceId> {
        self.id.context("the device is not registered")
    }
}

fn bar(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent}% {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length)
        .with_style(style.progress_chars("=> "))
        .with_message(what)
}

fn per(total: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total as f64 / count as f64 }
}

impl Transfer {
    fn new(records: u64, elapsed: Duration, before: Option<Usage>, after: Option<Usage>, wire_bytes: u64) -> Self {
        let cpu = before
            .zip(after)
            .map(|(before, after)| after.cpu.saturating_sub(before.cpu));
        Self {
            seconds: elapsed.as_secs_f64(),
            records_per_second: if elapsed.is_zero() {
                0.0
            } else {
                records as f64 / elapsed.as_secs_f64()
            },
            server_cpu_us_per_record: cpu.map(|cpu| per(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX), records)),
            wire_bytes_per_record: per(wire_bytes, records),
        }
    }
}
