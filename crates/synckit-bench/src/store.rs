//! The speed of a store on this machine, alone: no HTTP, no encryption. Beside the embedded store, if asked, a PostgreSQL.
//!
//! The directory decides about the cost of a sync of the disk; a memory file system makes the figures meaningless.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    path::PathBuf,
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
    AppWrite, Append, CredentialId, DeviceRegistration, NewAccount, NewApiKey, NewApp, NewBatch, NewDevice,
    NewEnvelope, NewSession, OpenedBy, PageRead, PageRequest, PasswordRecord, PostgresOptions, PostgresStore,
    PostgresUrl, SqliteOptions, SqliteStore, Store, StoreFigures, StreamId, rules::quotas::PlanRoom,
};

const NOW: UnixSeconds = 1_700_000_000;
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

/// An app of this run, so that a database may be measured again, and its users.
#[derive(Debug, Clone, Copy)]
struct World {
    app: AppId,
    first_user: u64,
}

impl World {
    fn new() -> Self {
        Self {
            app: AppId::from_bytes(rand::random()),
            first_user: rand::random(),
        }
    }

    /// A number that no other user of the database has.
    fn user(self, n: u64) -> u128 {
        u128::from(self.first_user) << 32 | u128::from(n)
    }

    fn stream(self, n: u64) -> StreamId {
        StreamId {
            app_id: self.app,
            user_id: UserId::from_bytes(self.user(n).to_be_bytes()),
        }
    }
}

/// Appends to a store in this directory and reads it, from one stream and from many; then the same in a database.
pub(crate) async fn run(directory: Option<PathBuf>, database: Option<PostgresUrl>) -> anyhow::Result<()> {
    let root = directory.unwrap_or_else(std::env::temp_dir);
    for (streams, appends, load) in [
        (1, 1500, FULL_BATCH),
        (16, 200, FULL_BATCH),
        (1, 3000, ONE_ENTRY),
        (64, 800, ONE_ENTRY),
    ] {
        let directory = tempfile::tempdir_in(&root)?;
        let path = directory.path().join("store.db");
        println!("embedded");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, SqliteOptions::default())?);
        measure(&store, streams, appends, load).await?;
        store.close().await?;
        print_disk(path.metadata()?.len(), streams * appends, load);
        if let Some(url) = &database {
            println!("{url}");
            let options = PostgresOptions {
                opened_by: OpenedBy::Server,
                ..PostgresOptions::default()
            };
            let store: Arc<dyn Store> = Arc::new(PostgresStore::open(url, options).await?);
            let before = store.figures().await?.database_bytes;
            measure(&store, streams, appends, load).await?;
            let after = store.figures().await?.database_bytes;
            store.close().await?;
            print_disk(after.saturating_sub(before), streams * appends, load);
        }
    }
    Ok(())
}

async fn measure(store: &Arc<dyn Store>, streams: u64, appends: u64, load: Load) -> anyhow::Result<()> {
    let world = World::new();
    prepare(store.as_ref(), world, streams).await?;
    append(store, world, streams, appends, load).await?;
    for readers in [1, streams] {
        read(store, world, readers, streams, load).await?;
    }
    Ok(())
}

fn device(n: u64) -> DeviceId {
    DeviceId::from_bytes(u128::from(n).to_be_bytes())
}

async fn prepare(store: &dyn Store, world: World, streams: u64) -> anyhow::Result<()> {
    let key = NewApiKey {
        text: world.app.to_string(),
        created_at: NOW,
    };
    let app = NewApp {
        id: world.app,
        name: format!("bench {}", world.app),
        team: None,
        key,
    };
    anyhow::ensure!(
        store.create_app(app).await? == AppWrite::Written,
        "the app exists already"
    );
    for n in 0..streams {
        let account = NewAccount {
            user_id: world.stream(n).user_id,
            email: world.user(n).to_string(),
            password: PasswordRecord {
                credential_id: CredentialId([0; 16]),
                record: vec![0; 200],
            },
            vault: vec![0; 300],
            invite: None,
            created_at: NOW,
        };
        store.create_account(account).await?;
        let session_id = SessionId::from_bytes(world.user(n).to_be_bytes());
        let session = NewSession {
            id: session_id,
            stream: world.stream(n),
            login: None,
            credential: None,
            now: NOW,
        };
        store.open_session(session).await?;
        let device = NewDevice {
            stream: world.stream(n),
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
            stream: world.stream(n),
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
async fn append(store: &Arc<dyn Store>, world: World, streams: u64, appends: u64, load: Load) -> anyhow::Result<()> {
    let before = store.figures().await?;
    let begun = Instant::now();
    let tasks: Vec<_> = (0..streams)
        .map(|n| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut parent = Position::start_of(world.app, world.stream(n).user_id);
                let mut latencies = Vec::new();
                for number in 0..appends {
                    let begun = Instant::now();
                    parent = append_one(store.as_ref(), (world, n), number, parent, load).await?;
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
    let after = store.figures().await?;
    let commits = |figures: &StoreFigures| figures.commits.0.iter().map(|group| group.1).sum::<u64>();
    let total = (streams * appends) as f64;
    println!(
        "append {:>6} B from {streams:>2}: {:>6.0} batches/s, {:>8.0} entries/s, p50 {:.2} ms, p99 {:.2} ms, {:.1} jobs a commit, {} checkpoints",
        load.size,
        total / seconds,
        total * f64::from(load.count) / seconds,
        percentile(&latencies, 50),
        percentile(&latencies, 99),
        (after.writes - before.writes) as f64 / (commits(&after) - commits(&before)).max(1) as f64,
        after.checkpoints,
    );
    Ok(())
}

async fn append_one(
    store: &dyn Store,
    (world, n): (World, u64),
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
        stream: world.stream(n),
        parent,
        digest: BatchDigest {
            batch_id: BatchId::from_bytes(batch_id),
            device_id: device(n),
            key_id: KEY,
            count: load.count,
            sealed_hash: SealedHash::of(&sealed),
        },
        sealed: Bytes::from(sealed),
        room: PlanRoom::default(),
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
async fn read(store: &Arc<dyn Store>, world: World, readers: u64, streams: u64, load: Load) -> anyhow::Result<()> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..readers)
        .map(|reader| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut pages = 0_u64;
                let mut entries = 0_u64;
                for n in (reader..streams).step_by(usize::try_from(readers)?) {
                    let mut request = PageRequest {
                        stream: world.stream(n),
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

fn print_disk(bytes: u64, batches: u64, load: Load) {
    let per_batch = bytes as f64 / batches as f64;
    println!(
        "disk   {:>6} B         : {per_batch:.0} B a batch, {:.1} B an entry\n",
        load.size,
        per_batch / f64::from(load.count),
    );
}
