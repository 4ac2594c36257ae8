//! The app in a process of its own: `synckit-sim drill-client …`. It may die at any moment, and continues from its journal.
//!
//! The drill reads its output line by line: the acknowledgements, in their order.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use synckit_client::{
    BlobHash, CredentialStore, Cursor, DeviceId, Error, ErrorChain, FileStore, KeychainStore, ProblemCode,
    SyncKitClient,
};

use super::{
    books::Batch,
    journal::{Journal, Record},
    site,
};
use crate::golden::credential_file;

/// Between two attempts, in addition to the SDK's own waits: a server needs time to restart.
const PAUSE: Duration = Duration::from_millis(50);
/// Attempts at one thing. The SDK makes four of each.
const ATTEMPTS_MAX: u32 = 200;
/// Changes in a batch.
const BATCH_ENTRIES: std::ops::RangeInclusive<u32> = 1..=40;

/// The arguments that every client needs.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The server
    #[arg(long)]
    url: String,
    /// The key of the app
    #[arg(long)]
    api_key: String,
    /// Where its credentials and its journal are
    #[arg(long)]
    directory: PathBuf,
    /// The device, and the name of its credential file
    #[arg(long)]
    device: String,
    /// The device's id
    #[arg(long)]
    device_id: DeviceId,
    /// Credentials in the keychain of the system, under the address of the account
    #[arg(long)]
    keychain: bool,
    #[command(subcommand)]
    role: Role,
}

/// The role of a client.
#[derive(Debug, Subcommand)]
enum Role {
    /// Pushes batches from an outbox on its disk, exactly once.
    Push {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        batches: u64,
    },
    /// Pulls the log to its end, and keeps pages and cursor.
    Pull,
    /// Uploads a file.
    Upload { file: PathBuf },
    /// Downloads a file.
    Download { hash: BlobHash, to: PathBuf },
    /// Changes the key so often, and pushes a batch under each.
    ChangeKeys {
        #[arg(long)]
        password: String,
        #[arg(long)]
        changes: u32,
    },
    /// One of two processes of an app: pushes, pulls and changes the key, in an order that the seed decides.
    Live {
        #[arg(long)]
        process: String,
        #[arg(long)]
        password: String,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        batches: u64,
        #[arg(long)]
        key_changes: u32,
    },
}

/// Where a client of a device keeps its journal.
#[must_use]
pub fn journal_file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.journal"))
}

/// Runs a client to its end.
///
/// # Errors
/// An error that neither a restart of the server nor another process explains.
pub fn run(arguments: ClientArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let store: Arc<dyn CredentialStore> = if arguments.keychain {
            Arc::new(KeychainStore)
        } else {
            Arc::new(FileStore::new(credential_file(&arguments.directory, &arguments.device)))
        };
        let client = site::client(&arguments.url, &arguments.api_key, store);
        client.try_load_key_from_keychain()?;
        let name = match &arguments.role {
            Role::Live { process, .. } => process,
            _ => &arguments.device,
        };
        let (journal, records) = Journal::open(&journal_file(&arguments.directory, name))?;
        let cursor = records.iter().rev().find_map(|record| match record {
            Record::Applied { cursor, .. } => Some(*cursor),
            _ => None,
        });
        let mut app = App {
            client,
            device_id: arguments.device_id,
            name: name.clone(),
            password: None,
            cursor: cursor.unwrap_or(Cursor::START),
            journal,
            records,
        };
        app.client.resume_at(app.cursor);
        app.play(arguments.role).await
    })
}

struct App {
    client: SyncKitClient,
    device_id: DeviceId,
    name: String,
    /// The password that the user types after another device has changed the key.
    password: Option<String>,
    cursor: Cursor,
    journal: Journal,
    /// The records of the journal at the start.
    records: Vec<Record>,
}

impl App {
    async fn play(&mut self, role: Role) -> anyhow::Result<()> {
        match role {
            Role::Push { seed, batches } => {
                self.finish_outbox().await?;
                for number in self.pushed()..batches {
                    self.push(seed, number).await?;
                }
                Ok(())
            }
            Role::Pull => {
                while self.pull().await? {}
                Ok(())
            }
            Role::Upload { file } => {
                let mut attempts = Attempts::default();
                while let Err(error) = self.client.blob_put(file.clone(), |_| {}).await {
                    attempts.next(&error).await?;
                }
                self.write(Record::Stored, "stored")
            }
            Role::Download { hash, to } => {
                let mut attempts = Attempts::default();
                while let Err(error) = self.client.blob_get(&hash, to.clone(), |_| {}).await {
                    attempts.next(&error).await?;
                }
                self.write(Record::Stored, "there")
            }
            Role::ChangeKeys { password, changes } => {
                self.password = Some(password);
                self.finish_outbox().await?;
                for count in self.keys_changed()..changes {
                    self.change_keys().await?;
                    self.push(0, u64::from(count)).await?;
                    self.write(Record::KeysChanged { count: count + 1 }, "changed")?;
                }
                Ok(())
            }
            Role::Live {
                password,
                seed,
                batches,
                key_changes,
                ..
            } => {
                self.password = Some(password);
                self.live(seed, batches, key_changes).await
            }
        }
    }

    async fn live(&mut self, seed: u64, batches: u64, key_changes: u32) -> anyhow::Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        let every = batches / (u64::from(key_changes) + 1);
        for number in 0..batches {
            self.push(seed, number).await?;
            if rng.gen_bool(0.5) {
                self.pull().await?;
            }
            if every > 0 && number % every == every - 1 && number / every < u64::from(key_changes) {
                self.change_keys().await?;
            }
        }
        while self.pull().await? {}
        Ok(())
    }

    /// Pushes a batch that an earlier life of this process began and did not see acknowledged.
    async fn finish_outbox(&mut self) -> anyhow::Result<()> {
        let Some(Record::Pushing { id, batch }) = self
            .records
            .iter()
            .rev()
            .find(|record| matches!(record, Record::Pushing { .. } | Record::Pushed { .. }))
            .cloned()
        else {
            return Ok(());
        };
        self.push_until_stored(id, batch).await
    }

    /// Batches that were begun in an earlier life, and are stored by now.
    fn pushed(&self) -> u64 {
        let begun = self
            .records
            .iter()
            .filter(|record| matches!(record, Record::Pushing { .. }));
        begun.count() as u64
    }

    fn keys_changed(&self) -> u32 {
        let last = self.records.iter().rev().find_map(|record| match record {
            Record::KeysChanged { count } => Some(*count),
            _ => None,
        });
        // A batch is pushed after each change, so one that is stored belongs to a change that was done.
        last.unwrap_or(0).max(u32::try_from(self.pushed()).unwrap_or(u32::MAX))
    }

    async fn push(&mut self, seed: u64, number: u64) -> anyhow::Result<()> {
        let batch = Batch {
            by: self.name.clone(),
            number,
            count: StdRng::seed_from_u64((seed << 32) ^ number).gen_range(BATCH_ENTRIES),
        };
        let id = SyncKitClient::new_batch_id();
        self.journal.write(&Record::Pushing {
            id,
            batch: batch.clone(),
        })?;
        self.push_until_stored(id, batch).await
    }

    async fn push_until_stored(&mut self, id: synckit_client::BatchId, batch: Batch) -> anyhow::Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let pushed = self
                .client
                .push_at(self.device_id, self.cursor, Some(id), batch.changes());
            match pushed.await.map_err(Error::from) {
                // The rows come back with a pull, as every other's.
                Ok(_) => break,
                Err(Error::Behind { .. }) => while self.pull().await? {},
                Err(error) => self.recover(error, &mut attempts).await?,
            }
        }
        self.write(Record::Pushed { batch }, "pushed")
    }

    /// Pulls a page and keeps it; returns whether more follow.
    async fn pull(&mut self) -> anyhow::Result<bool> {
        let mut attempts = Attempts::default();
        loop {
            match self.client.pull(self.device_id, self.cursor).await {
                Ok((changes, cursor, has_more)) => {
                    let rows = changes.into_iter().map(|change| change.row_id).collect();
                    self.cursor = cursor;
                    self.write(Record::Applied { cursor, rows }, "applied")?;
                    return Ok(has_more);
                }
                Err(error) => self.recover(error, &mut attempts).await?,
            }
        }
    }

    /// Gives the stream another key: this device's, or that of a faster device.
    async fn change_keys(&mut self) -> anyhow::Result<()> {
        let password = self.password.clone().context("no password")?;
        let mut attempts = Attempts::default();
        loop {
            match self.client.rotate_keys(&password).await {
                Ok(()) => return Ok(()),
                Err(error @ Error::KeyRotated { .. }) => {
                    self.recover(error, &mut attempts).await?;
                    return Ok(());
                }
                Err(error) => self.recover(error, &mut attempts).await?,
            }
        }
    }

    /// Handles an error as a user's app would, or reports it if nothing explains it.
    async fn recover(&self, error: Error, attempts: &mut Attempts) -> anyhow::Result<()> {
        let (Error::KeyRotated { .. }, Some(password)) = (&error, &self.password) else {
            return attempts.next(&error).await;
        };
        while let Err(error) = self.client.setup_encryption_existing(password).await {
            attempts.next(&error).await?;
        }
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "the drill reads it")]
    fn write(&mut self, record: Record, line: &str) -> anyhow::Result<()> {
        self.journal.write(&record)?;
        println!("{line}");
        Ok(())
    }
}

/// Attempts at one thing, which have an end.
#[derive(Debug, Default)]
pub struct Attempts(u32);

impl Attempts {
    /// Waits before the next attempt.
    ///
    /// # Errors
    /// If the error is not temporary, or occurred too often.
    pub async fn next(&mut self, error: &Error) -> anyhow::Result<()> {
        if !is_passing(error) {
            bail!("{}", ErrorChain(error));
        }
        self.0 += 1;
        ensure!(
            self.0 < ATTEMPTS_MAX,
            "after {ATTEMPTS_MAX} attempts: {}",
            ErrorChain(error)
        );
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

/// Whether an error is one of a server that is away, stopping, or busy. Nothing else excuses a failure.
#[must_use]
pub fn is_passing(error: &Error) -> bool {
    match error {
        Error::Network(_) | Error::RetryLater { .. } => true,
        Error::Problem(problem) => matches!(
            problem.known_code(),
            Some(ProblemCode::Overloaded | ProblemCode::Timeout | ProblemCode::UploadIncomplete)
        ),
        _ => false,
    }
}
