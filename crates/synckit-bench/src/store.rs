//! The speed of the embedded store on this machine, alone: no HTTP, no encryption.
//!
//! The directory decides about the cost of a sync of the disk; a memory file system makes the figures meaningless.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::bail;
use bytes::Bytes;
use synckit_protocol::{
    AppId, BatchDigest, BatchId, Cursor, DeviceId, KeyId, OwnerKey, Position, SealedHash, SessionId, UserId,
    wire::{UnixSeconds, devices::Platform},
};
use synckit_store::{
    Append, CredentialId, DeviceRegistration, NewAccount, NewApiKey, NewApp, NewBatch, NewDevice, NewEnvelope,
    NewSession, PageRead, PageRequest, PasswordRecord, SecretHash, SqliteOptions, SqliteStore, Store, StreamId,
};

const NOW: UnixSeconds = 1_700_000_000;
const APP: AppId = AppId::from_bytes([1; 16]);
const KEY: KeyId = KeyId::from_bytes([2; 16]);
/// 500 rows of 200 bytes, sealed.
const FULL_BATCH: Load = Load {
    count: 500,
    size: 120_000,
};
/// One row, sealed.
const ONE_ENTRY: Load = Load { count: 1, size: 300 };

/// The contents of a batch.
#[derive(Debug, Clone, Copy)]
struct Load {
    count: u32,
    size: usize,
}

/// Appends to a store in this directory and reads it, from one stream and from many.
pub(crate) async fn run(directory: Option<PathBuf>) -> anyhow::Result<()> {
    let root = directory.unwrap_or_else(std::env::temp_dir);
    for (streams, appends, load) in [
        (1, 1500, FULL_BATCH),
        (16, 200, FULL_BATCH),
        (1, 3000, ONE_ENTRY),
        (64, 800, ONE_ENTRY),
    ] {
        let directory = tempfile::tempdir_in(&root)?;
        let path = directory.path().join("store.db");
        let store = Arc::new(SqliteStore::open(&path, SqliteOptions::default())?);
        prepare(&store, streams).await?;
        append(&store, streams, appends, load).await?;
        for readers in [1, streams] {
            read(&store, readers, streams, load).await?;
        }
        store.close().await?;
        print_disk(&path, streams * appends, load)?;
    }
    Ok(())
}

fn stream(n: u64) -> StreamId {
    StreamId {
        app_id: APP,
        user_id: UserId::from_bytes(u128::from(n).to_be_bytes()),
    }
}

fn device(n: u64) -> DeviceId {
    DeviceId::from_bytes(u128::from(n).to_be_bytes())
}

async fn prepare(store: &SqliteStore, streams: u64) -> anyhow::Result<()> {
    let key = NewApiKey {
        hash: SecretHash([0; 32]),
        ending: String::new(),
        created_at: NOW,
    };
    let app = NewApp {
        id: APP,
        name: "bench".into(),
        key,
    };
    anyhow::ensure!(store.create_app(app).await?, "the app exists already");
    for n in 0..streams {
        let account = NewAccount {
            user_id: stream(n).user_id,
            email: n.to_string(),
            password: PasswordRecord {
                credential_id: CredentialId([0; 16]),
                record: vec![0; 200],
            },
            vault: vec![0; 300],
            invite: None,
            created_at: NOW,
        };
        store.create_account(account).await?;
        let session_id = SessionId::from_bytes(u128::from(n).to_be_bytes());
        let session = NewSession {
            id: session_id,
            stream: stream(n),
            login: None,
            now: NOW,
        };
        store.open_session(session).await?;
        let device = NewDevice {
            stream: stream(n),
            new_id: device(n),
            name: "bench".into(),
            platform: Platform::Linux,
            installation_id: None,
            session_id,
            now: NOW,
        };
        let registered = store.register_device(device).await?;
        anyhow::ensure!(
            matches!(registered, DeviceRegistration::Registered(_)),
            "no device: {registered:?}"
        );
        let envelope = NewEnvelope {
            stream: stream(n),
            envelope: vec![0; 500],
            key_id: KEY,
            expected_version: 0,
            head: None,
            snapshot: None,
            owner: OwnerKey::from_bytes([1; 32]),
            signed_by: Some(OwnerKey::from_bytes([1; 32])),
            now: NOW,
        };
        store.put_envelope(envelope).await?;
    }
    Ok(())
}

/// Every stream appends on its own task, the next batch when the one before was answered.
async fn append(store: &Arc<SqliteStore>, streams: u64, appends: u64, load: Load) -> anyhow::Result<()> {
    let before = store.write_statistics();
    let begun = Instant::now();
    let tasks: Vec<_> = (0..streams)
        .map(|n| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut parent = Position::start_of(APP, stream(n).user_id);
                let mut latencies = Vec::new();
                for number in 0..appends {
                    let begun = Instant::now();
                    parent = append_one(&store, n, number, parent, load).await?;
                    latencies.push(begun.elapsed());
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    latencies.sort();
    let after = store.write_statistics();
    let total = (streams * appends) as f64;
    println!(
        "append {:>6} B from {streams:>2}: {:>6.0} batches/s, {:>8.0} entries/s, p50 {:.2} ms, p99 {:.2} ms, {:.1} jobs a commit, {} checkpoints",
        load.size,
        total / seconds,
        total * f64::from(load.count) / seconds,
        percentile(&latencies, 50),
        percentile(&latencies, 99),
        (after.jobs - before.jobs) as f64 / (after.commits - before.commits).max(1) as f64,
        after.checkpoints,
    );
    Ok(())
}

async fn append_one(
    store: &SqliteStore,
    n: u64,
    number: u64,
    parent: Position,
    load: Load,
) -> anyhow::Result<Position> {
    let mut sealed = vec![0x5a; load.size];
    sealed[..8].copy_from_slice(&number.to_be_bytes());
    let mut batch_id = [0; 16];
    batch_id[..8].copy_from_slice(&number.to_be_bytes());
    batch_id[8..].copy_from_slice(&n.to_be_bytes());
    let batch = NewBatch {
        stream: stream(n),
        parent,
        digest: BatchDigest {
            batch_id: BatchId::from_bytes(batch_id),
            device_id: device(n),
            key_id: KEY,
            count: load.count,
            sealed_hash: SealedHash::of(&sealed),
        },
        sealed: Bytes::from(sealed),
        now: NOW,
    };
    match store.append_batch(batch).await? {
        Append::Stored { position, .. } => Ok(position),
        other => bail!("not stored: {other:?}"),
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1000.0
}

/// So many tasks read every stream from its start, page by page.
async fn read(store: &Arc<SqliteStore>, readers: u64, streams: u64, load: Load) -> anyhow::Result<()> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..readers)
        .map(|reader| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut pages = 0_u64;
                let mut entries = 0_u64;
                for n in (reader..streams).step_by(usize::try_from(readers)?) {
                    let mut request = PageRequest {
                        stream: stream(n),
                        device_id: device(n),
                        cursor: Cursor::START,
                        max_bytes: 1024 * 1024,
                        ahead: false,
                        avoid_snapshot: false,
                        now: NOW,
                    };
                    loop {
                        let PageRead::Page { cursor, has_more, .. } = store.page(request).await? else {
                            bail!("a stream has no page");
                        };
                        pages += 1;
                        entries += cursor.seq() - request.cursor.seq();
                        request.cursor = cursor;
                        if !has_more {
                            break;
                        }
                    }
                }
                anyhow::Ok((pages, entries))
            })
        })
        .collect();
    let (mut pages, mut entries) = (0, 0);
    for task in tasks {
        let counts = task.await??;
        pages += counts.0;
        entries += counts.1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "read   {:>6} B by {readers:>4}: {:>6.0} pages/s, {:>10.0} entries/s",
        load.size,
        pages as f64 / seconds,
        entries as f64 / seconds,
    );
    Ok(())
}

fn print_disk(path: &Path, batches: u64, load: Load) -> anyhow::Result<()> {
    let bytes = path.metadata()?.len();
    let per_batch = bytes as f64 / batches as f64;
    println!(
        "disk   {:>6} B         : {per_batch:.0} B a batch, {:.1} B an entry\n",
        load.size,
        per_batch / f64::from(load.count),
    );
    Ok(())
}
