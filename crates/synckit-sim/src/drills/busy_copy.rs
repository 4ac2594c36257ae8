//! Copies of the directory of a busy server: some made by `cp`, which reads the files one after the other, and some by
//! `synckit backup`, all while devices push without a pause.
//!
//! A server refuses a damaged copy of the first kind, and any other one has whole chains. A backup is always whole, and
//! contains everything that was acknowledged before it began.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use synckit_client::{ChangeEntry, ChangeOp, DeviceId, SyncKitClient, Timestamp};
use synckit_server::inspect::Inspection;

use super::{
    Sizes, block_on,
    process::{Process, Programs, command},
    site::{Launch, Site},
};
use crate::golden::Account;

/// Devices that push at the same time, at most.
const DEVICES_MAX: usize = 8;
/// Text of one entry: so large that the write-ahead log starts over while it is copied.
const ENTRY_BYTES: usize = 40_000;

pub(super) fn run(programs: &Programs, sizes: &Sizes) -> anyhow::Result<String> {
    let mut site = Site::open(programs, Launch::default())?;
    let devices = sizes.clients.clamp(2, DEVICES_MAX);
    let account = block_on(site.sign_up("ada", devices))?;
    let copies = sizes.kills.max(1);
    let found = block_on(copy_under_load(&site, &account, copies))?;
    site.stop()?;

    let mut refused = 0;
    for copy in &found.copies {
        refused += u32::from(!serves(programs, site.directory(), copy)?);
        fs::remove_dir_all(copy)?;
    }
    for backup in &found.backups {
        let restored = site.directory().join("restored");
        copy_directory(&backup.path, &restored)?;
        copy_directory(&site.data_dir().join("keys"), &restored.join("keys"))?;
        let entries = entries_of(&restored)?;
        ensure!(
            entries >= backup.acknowledged,
            "a backup has {entries} entries, {} were acknowledged before it",
            backup.acknowledged
        );
        ensure!(
            serves(programs, site.directory(), &restored)?,
            "a server refuses a backup that was made of a busy one"
        );
        fs::remove_dir_all(&restored)?;
    }
    Ok(format!(
        "{copies} copies by `cp` and {copies} backups under {devices} devices that pushed without a pause: {refused} copies were \
         refused as damaged, and every other copy has whole chains; every backup is whole, starts, and has all that was \
         acknowledged before it ({} entries at the last)",
        found.backups.last().map_or(0, |backup| backup.acknowledged)
    ))
}

/// Copies that were made while devices pushed.
struct Found {
    copies: Vec<std::path::PathBuf>,
    backups: Vec<Backup>,
}

struct Backup {
    path: std::path::PathBuf,
    /// Entries that were acknowledged before it was begun.
    acknowledged: u64,
}

async fn copy_under_load(site: &Site, account: &Account, copies: u32) -> anyhow::Result<Found> {
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut pushing = Vec::new();
    for (index, member) in account.devices.iter().enumerate() {
        let client = site.resumed(&member.name)?;
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        pushing.push(tokio::spawn(push(client, member.id, index, stop, acknowledged)));
    }
    let mut found = Found {
        copies: Vec::new(),
        backups: Vec::new(),
    };
    for number in 0..copies {
        // Not before new data exists that a copy could tear.
        let before = acknowledged.load(Ordering::SeqCst);
        while acknowledged.load(Ordering::SeqCst) < before + 20 {
            ensure!(
                !pushing.iter().any(tokio::task::JoinHandle::is_finished),
                "a device stopped"
            );
            tokio::task::yield_now().await;
        }
        let copy = site.directory().join(format!("copy {number}"));
        let (from, to) = (site.data_dir(), copy.clone());
        tokio::task::spawn_blocking(move || copy_directory(&from, &to)).await??;
        found.copies.push(copy);

        let path = site.directory().join(format!("backup {number}"));
        let acknowledged = acknowledged.load(Ordering::SeqCst);
        let mut backing_up = site.start_admin(&["backup", &path.display().to_string()])?;
        let status = tokio::task::spawn_blocking(move || backing_up.wait()).await??;
        ensure!(status.success(), "a backup ended with {status}");
        found.backups.push(Backup { path, acknowledged });
    }
    stop.store(true, Ordering::SeqCst);
    for device in pushing {
        device.await??;
    }
    Ok(found)
}

async fn push(
    client: SyncKitClient,
    device_id: DeviceId,
    index: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let change = ChangeEntry {
            table: "drill".to_owned(),
            op: ChangeOp::Insert,
            row_id: format!("{index}: {number}"),
            timestamp: Timestamp::from_micros(number),
            data: Some(serde_json::json!("x".repeat(ENTRY_BYTES))),
        };
        client.push(device_id, vec![change]).await?;
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Whether a server starts on a directory. Then its chains must be whole; else it must have said why.
fn serves(programs: &Programs, directory: &Path, data_dir: &Path) -> anyhow::Result<bool> {
    let log = directory.join("copies.log");
    let _ = fs::remove_file(&log);
    let mut serve = command(&programs.synckit);
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir);
    let mut server = Process::start(serve, &log)?;
    if server.next_line().is_none() {
        server.wait()?;
        let said = fs::read_to_string(&log)?;
        ensure!(
            said.contains("damaged"),
            "a copy was refused for another reason: {said}"
        );
        return Ok(false);
    }
    server.kill()?;
    let logs = Inspection::of(data_dir).database()?.survey_logs()?;
    ensure!(logs.damaged == 0, "a server serves from a damaged copy: {logs:?}");
    Ok(true)
}

fn entries_of(data_dir: &Path) -> anyhow::Result<u64> {
    let database = rusqlite::Connection::open(data_dir.join("synckit.db"))?;
    let entries: i64 = database.query_row("SELECT sum(entry_count) FROM batches", [], |row| row.get(0))?;
    u64::try_from(entries).context("entries")
}

/// As `cp -r` does it: file after file, in the order of the directory.
fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            match fs::copy(entry.path(), target) {
                // A log that was emptied and removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => drop(copied?),
            }
        }
    }
    Ok(())
}
