//! An app on a device, with a disk that survives crashes and a process that does not: its steps, and the errors that it
//! may report.
//!
//! Its [`Policy`] says which order of changes it follows. Where a server is restored from an older copy, or the log is
//! cut, only [`Policy::Newest`] has a promise to check: overwritten edits may be lost, the newest version of a row may not.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use parking_lot::Mutex;
use rand::{Rng as _, rngs::StdRng};
use synckit_client::{
    BatchId, BlobHash, ChangeEntry, ChangeOp, Cursor, Error, ErrorChain, ProblemCode, PushError, RejoinEvidence,
    SyncKitClient, Tampering, Timestamp, transport::Transport,
};
use synckit_protocol::limits;
use tokio::time::Instant;

use crate::{
    crash::{Crash, run_until_crash},
    golden::{Golden, Member},
    ledger::Ledger,
    network::{Link, Network},
    trace::Lane,
};

/// Rows that everybody edits.
const ROWS: usize = 5;
/// Different files.
const FILES: u8 = 4;
/// Entries of an edit that does not fit one batch.
const BULK_ENTRIES: usize = 505;
/// Distinct times of edits within one simulated millisecond.
const TIMES_PER_MS: i64 = 64;
/// Step between the times of two edits of one device: more than the number of devices, so that no two share a time.
const TIME_STEP: i64 = 8;

/// Simulated time in which any turn ends, whatever the network does: every retry has an end.
const TURN_MAX: Duration = Duration::from_secs(24 * 3600);

/// The last version of every row, deletions included.
pub type Rows = BTreeMap<String, ChangeEntry>;

/// Which order of changes a device follows, and how it pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The log's order, as on the product page; `push`: at least once.
    Plain,
    /// The log's order; `push_at` with an id that is on the disk before the push: exactly once, and only on top of what
    /// was merged.
    Merging,
    /// The order of the edits' own times; `push_at` without an id. It folds, if the run cuts logs, and rejoins a server
    /// that was restored from an older copy.
    Newest,
}

/// The data of an app on its disk.
#[derive(Debug, Default)]
struct Disk {
    rows: Rows,
    /// Edits that are not known to be stored, oldest first.
    pending: Vec<ChangeEntry>,
    cursor: Cursor,
    /// The batch that is about to be pushed, and the number of pending edits in it.
    outgoing: Option<(BatchId, usize)>,
    edited_at: i64,
    /// Whether another device has changed the key, so that the user must be asked for the password.
    needs_password: bool,
}

impl Disk {
    /// Applies a change: blindly, as the product page says, or unless a newer version is known.
    fn apply(&mut self, change: ChangeEntry, policy: Policy) {
        if policy == Policy::Newest {
            let known = self.rows.get(&change.row_id);
            if known.is_some_and(|known| known.timestamp > change.timestamp) {
                return;
            }
            // An overwritten edit that followed its successor in the log would win on a new device.
            self.pending
                .retain(|edit| edit.row_id != change.row_id || edit.timestamp >= change.timestamp);
        }
        self.rows.insert(change.row_id.clone(), change);
    }
}

/// One device.
pub struct Device {
    /// Its number.
    pub index: usize,
    policy: Policy,
    app: Installation,
    rng: StdRng,
    disk: Mutex<Disk>,
    client: SyncKitClient,
    /// The evidence of the last turn's refusal: only in memory, so a crash forgets it.
    evidence: Mutex<Option<RejoinEvidence>>,
}

/// The app as installed on a device: the common part of all its starts.
struct Installation {
    member: Member,
    around: Surroundings,
    link: Arc<Link>,
    page_bytes: u32,
}

impl Installation {
    /// Starts the app: a process with the stored session and key, and no memory.
    fn open(&self, jitter_seed: u64, cursor: Cursor) -> anyhow::Result<SyncKitClient> {
        let Surroundings { golden, directory, .. } = &self.around;
        let client = golden
            .client(directory, &self.member.name)
            .transport(Arc::clone(&self.link) as Arc<dyn Transport>)
            .page_bytes(self.page_bytes)
            .jitter_seed(jitter_seed)
            .build();
        client
            .try_load_key_from_keychain()
            .with_context(|| format!("{} lost its session", self.member.name))?;
        client.resume_at(cursor);
        Ok(client)
    }
}

/// The surroundings of a device: its server, and its user's actions besides editing.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The world that the run started from.
    pub golden: Arc<Golden>,
    /// The run's own copy of it.
    pub directory: PathBuf,
    /// The network.
    pub network: Arc<Network>,
    /// The promises known outside.
    pub ledger: Arc<Ledger>,
    /// Whether users change the key now and then, which costs an Argon2id each time.
    pub rotates: bool,
    /// Whether devices fold now and then.
    pub folds: bool,
}

impl Device {
    /// A device of the golden world's first account, over a link of its own.
    ///
    /// # Errors
    /// If its stored session cannot be loaded.
    pub fn start(
        index: usize,
        policy: Policy,
        around: Surroundings,
        link: Arc<Link>,
        mut rng: StdRng,
    ) -> anyhow::Result<Self> {
        let member = around.golden.ada.devices.get(index).context("no such device")?.clone();
        let app = Installation {
            member,
            around,
            link,
            // Small pages, of a batch or two each, are where one page is asked for while another is opened.
            page_bytes: if rng.gen_bool(0.4) {
                600
            } else {
                limits::PAGE_BYTES_DEFAULT
            },
        };
        let client = app.open(rng.r#gen(), Cursor::START)?;
        Ok(Self {
            index,
            policy,
            app,
            rng,
            disk: Mutex::default(),
            client,
            evidence: Mutex::default(),
        })
    }

    /// Lives through so many steps: edits, syncs, files, rests, and dies now and then.
    ///
    /// # Errors
    /// A finding: an error that no network explains, or a promise that was not kept.
    pub async fn live(&mut self, steps: usize) -> anyhow::Result<()> {
        let (rotates, folds) = (self.app.around.rotates, self.app.around.folds);
        let has_files = self.policy != Policy::Newest;
        for _ in 0..steps {
            tokio::time::sleep(Duration::from_millis(self.rng.gen_range(0..3_000))).await;
            let has_evidence = self.evidence.lock().is_some();
            match self.rng.gen_range(0..100) {
                0..45 => (0..self.rng.gen_range(1..=3)).for_each(|_| self.edit()),
                45 if self.policy == Policy::Plain && self.rng.gen_bool(0.3) => {
                    (0..BULK_ENTRIES).for_each(|_| self.edit());
                }
                45..88 if self.disk.lock().needs_password => self.turn(Turn::FetchKeys).await?,
                // Otherwise the user takes a while to decide.
                45..75 if has_evidence => self.turn(Turn::Rejoin).await?,
                45..55 if rotates => self.turn(Turn::RotateKeys).await?,
                45..55 if folds => self.turn(Turn::Fold).await?,
                55..65 => self.turn(Turn::SyncOnePage).await?,
                88.. if has_files => {
                    let file = self.rng.gen_range(0..FILES);
                    let turn = match self.rng.gen_range(0..10) {
                        0..5 => Turn::PutFile(file),
                        5 => Turn::ReplaceFile(file),
                        _ => Turn::GetFile(file),
                    };
                    self.turn(turn).await?;
                }
                _ => self.turn(Turn::Sync).await?,
            }
        }
        Ok(())
    }

    /// Syncs without dying, on a network that works.
    ///
    /// # Errors
    /// Any error that neither the password nor a rejoin resolves: nothing else excuses one any more.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        if self.rng.gen_bool(0.5) {
            self.restart()?;
        }
        for _ in 0..5 {
            let has_evidence = self.evidence.lock().is_some();
            let mut settled = if has_evidence {
                self.rejoin().await
            } else {
                self.sync(usize::MAX).await
            };
            let must_read_on = has_evidence || matches!(settled, Err(Error::KeyRotated { .. }));
            if let Err(Error::KeyRotated { .. }) = settled {
                settled = self.fetch_keys().await;
            }
            match settled {
                Ok(()) if !must_read_on && self.disk.lock().pending.is_empty() => return Ok(()),
                Ok(()) => {}
                Err(error) => self
                    .hear(&error)
                    .with_context(|| format!("device {} on a calm network: {}", self.index, ErrorChain(&error)))?,
            }
        }
        bail!("device {} does not come to rest on a calm network", self.index)
    }

    /// Reads every acknowledged file back.
    ///
    /// # Errors
    /// If one is missing or different.
    pub async fn check_files(&self) -> anyhow::Result<()> {
        for file in self.app.around.ledger.files() {
            self.get_file(file)
                .await
                .with_context(|| format!("the file {file} was acknowledged"))?;
        }
        Ok(())
    }

    /// The rows on its disk.
    pub fn rows(&self) -> Rows {
        self.disk.lock().rows.clone()
    }

    /// The whole log, from the start.
    ///
    /// # Errors
    /// If it cannot be pulled.
    pub async fn whole_log(&self) -> anyhow::Result<Vec<ChangeEntry>> {
        let client = self.app.open(0, Cursor::START)?;
        let (mut log, mut cursor) = (Vec::new(), Cursor::START);
        loop {
            let (changes, next, has_more) = client
                .pull(self.app.member.id, cursor)
                .await
                .context("the final pull")?;
            log.extend(changes);
            cursor = next;
            if !has_more {
                return Ok(log);
            }
        }
    }

    /// Starts the app again, with the data on its disk.
    fn restart(&mut self) -> anyhow::Result<()> {
        let (seed, cursor) = (self.rng.r#gen(), self.disk.lock().cursor);
        self.client = self.app.open(seed, cursor)?;
        *self.evidence.lock() = None;
        Ok(())
    }

    fn edit(&mut self) {
        let row = format!("row {}", self.rng.gen_range(0..ROWS));
        let is_deletion = self.rng.gen_bool(0.2);
        let Surroundings { network, ledger, .. } = &self.app.around;
        let now_ms = i64::try_from(network.now_ms()).unwrap_or(i64::MAX);
        let own = i64::try_from(self.index).unwrap_or(0);
        let mut disk = self.disk.lock();
        // Later is greater, on all devices, and no two are equal.
        let edited_at = (now_ms * TIMES_PER_MS + own).max(disk.edited_at + TIME_STEP);
        disk.edited_at = edited_at;
        let (op, data) = if is_deletion {
            (ChangeOp::Delete, None)
        } else {
            let data = serde_json::json!({ "edit": edited_at, "by": self.app.member.name });
            (ChangeOp::Update, Some(data))
        };
        let change = ChangeEntry {
            table: "t".to_owned(),
            op,
            row_id: row,
            timestamp: Timestamp::from_micros(edited_at),
            data,
        };
        ledger.edited(self.policy, &change);
        disk.apply(change.clone(), self.policy);
        disk.pending.push(change);
    }

    async fn turn(&mut self, turn: Turn) -> anyhow::Result<()> {
        let crash = match self.rng.gen_range(0..8) {
            0 => Crash::At(Instant::now() + Duration::from_millis(self.rng.gen_range(1..2_000))),
            1 => Crash::AfterAnswers {
                answers: self.rng.gen_range(1..=5),
                awaits: self.rng.gen_range(1..=6),
            },
            _ => Crash::Never,
        };
        self.note(format!("{turn:?}"));
        let fuse = Arc::clone(self.app.link.fuse());
        let ledger = Arc::clone(&self.app.around.ledger);
        let was_there = matches!(turn, Turn::GetFile(file) if ledger.files().contains(&file));
        let app = async {
            match turn {
                Turn::Sync => self.sync(usize::MAX).await,
                Turn::SyncOnePage => self.sync(1).await,
                Turn::PutFile(file) => self.put_file(file, false).await,
                Turn::ReplaceFile(file) => self.put_file(file, true).await,
                Turn::GetFile(file) => self.get_file(file).await,
                Turn::RotateKeys => self.client.rotate_keys(self.password()).await,
                Turn::FetchKeys => self.fetch_keys().await,
                Turn::Fold => self.client.fold(self.app.member.id).await.map(drop),
                Turn::Rejoin => self.rejoin().await,
            }
        };
        let Ok(turned) = tokio::time::timeout(TURN_MAX, run_until_crash(app, crash, &fuse)).await else {
            bail!("device {}: {turn:?} never ends", self.index);
        };
        match turned {
            None => {
                self.note("dies".to_owned());
                tokio::time::sleep(Duration::from_millis(self.rng.gen_range(1..5_000))).await;
                self.restart()?;
                self.note("lives again".to_owned());
            }
            Some(Ok(())) => self.note("done".to_owned()),
            Some(Err(error)) => {
                self.note(format!("error: {}", ErrorChain(&error)));
                let is_rotated = self.app.around.rotates && matches!(error, Error::KeyRotated { .. });
                self.disk.lock().needs_password |= is_rotated;
                let is_missing = error.problem_code() == Some(ProblemCode::BlobNotFound) && !was_there;
                // A fold reads twice, and the server may have gone back in between.
                let is_torn =
                    turn == Turn::Fold && ledger.went_back() && matches!(error, Error::Protocol { status: 200, .. });
                if !(is_excused(&error) || is_missing || is_rotated || is_torn) {
                    self.hear(&error)
                        .with_context(|| format!("device {}: {turn:?} failed: {}", self.index, ErrorChain(&error)))?;
                }
            }
        }
        Ok(())
    }

    /// Remembers a refusal that a rejoin may resolve. Any other is a finding, and so is one before the server was
    /// restored from an older copy.
    fn hear(&self, error: &Error) -> anyhow::Result<()> {
        ensure!(
            self.app.around.ledger.went_back(),
            "neither the network nor the server explains this"
        );
        let mut evidence = self.evidence.lock();
        match (error, error.rejoin_evidence()) {
            (Error::NothingToRejoin, _) => *evidence = None,
            (_, Some(found @ RejoinEvidence::History(_))) => *evidence = Some(found),
            _ => bail!("no setback explains this"),
        }
        Ok(())
    }

    /// One turn of the app's loop: pull so many pages, apply, push.
    async fn sync(&self, pages: usize) -> Result<(), Error> {
        let has_more = self.pull(pages).await?;
        if has_more && self.policy == Policy::Newest {
            // It pushes on top of everything that was read, and of nothing else.
            return Ok(());
        }
        self.push().await
    }

    /// Whether more follows.
    async fn pull(&self, pages: usize) -> Result<bool, Error> {
        for _ in 0..pages {
            let cursor = self.disk.lock().cursor;
            let (changes, next, has_more) = self.client.pull(self.app.member.id, cursor).await?;
            step().await;
            self.note(format!("applied {} changes", changes.len()));
            {
                // The app stores the rows and the cursor in one transaction.
                let mut disk = self.disk.lock();
                for change in changes {
                    disk.apply(change, self.policy);
                }
                disk.cursor = next;
            }
            step().await;
            if !has_more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn push(&self) -> Result<(), Error> {
        loop {
            let (batch_id, parent, changes) = self.outgoing();
            if self.policy == Policy::Merging {
                if batch_id.is_none() {
                    return Ok(());
                }
                step().await;
            }
            let device_id = self.app.member.id;
            let pushed = match self.policy {
                Policy::Plain => self.client.push(device_id, changes.clone()).await,
                _ => self.client.push_at(device_id, parent, batch_id, changes.clone()).await,
            };
            step().await;
            let (stored, cursor, error) = match pushed {
                Ok(cursor) => (changes.len(), cursor, None),
                Err(PushError {
                    accepted,
                    cursor,
                    source,
                    ..
                }) => (accepted, cursor, Some(source)),
            };
            {
                let mut disk = self.disk.lock();
                self.app.around.ledger.acknowledge(disk.pending.drain(..stored));
                if error.is_none() {
                    disk.outgoing = None;
                }
                // An id that was stored before its first answer was lost is answered with the parent: a pull has applied
                // the changes in their place in the log.
                if self.policy == Policy::Merging && cursor.seq() > disk.cursor.seq() {
                    for change in changes.into_iter().take(stored) {
                        disk.apply(change, self.policy);
                    }
                }
                disk.cursor = cursor;
            }
            match error {
                None => return Ok(()),
                Some(Error::Behind { .. }) if self.policy != Policy::Plain => drop(self.pull(usize::MAX).await?),
                Some(error) => return Err(error),
            }
        }
    }

    /// The changes to push, the cursor to push them on top of, and, if a push happens exactly once, the id of their
    /// batch, which is on the disk before the push.
    fn outgoing(&self) -> (Option<BatchId>, Cursor, Vec<ChangeEntry>) {
        let mut disk = self.disk.lock();
        if self.policy != Policy::Merging {
            return (None, disk.cursor, disk.pending.clone());
        }
        if disk.outgoing.is_none() && !disk.pending.is_empty() {
            disk.outgoing = Some((SyncKitClient::new_batch_id(), disk.pending.len()));
        }
        let (batch_id, count) = disk.outgoing.unzip();
        (batch_id, disk.cursor, disk.pending[..count.unwrap_or(0)].to_vec())
    }

    async fn rejoin(&self) -> Result<(), Error> {
        let evidence = self.evidence.lock().clone();
        let Some(evidence) = evidence else { return Ok(()) };
        let cursor = self.disk.lock().cursor;
        let rejoined = self.client.rejoin(&evidence, cursor).await?;
        step().await;
        {
            let mut disk = self.disk.lock();
            disk.cursor = rejoined.cursor;
            if rejoined.push_all_rows {
                disk.pending = disk.rows.values().cloned().collect();
            }
        }
        *self.evidence.lock() = None;
        self.note(format!("rejoins at {}", rejoined.cursor.seq()));
        Ok(())
    }

    async fn fetch_keys(&self) -> Result<(), Error> {
        self.client.setup_encryption_existing(self.password()).await?;
        self.disk.lock().needs_password = false;
        Ok(())
    }

    fn password(&self) -> &str {
        &self.app.around.golden.ada.password
    }

    async fn put_file(&self, file: u8, replace: bool) -> Result<(), Error> {
        let bytes = contents(file);
        if replace {
            self.client.blob_replace(bytes, |_| {}).await?;
        } else {
            self.client.blob_put(bytes, |_| {}).await?;
        }
        self.app.around.ledger.uploaded(file);
        Ok(())
    }

    async fn get_file(&self, file: u8) -> Result<(), Error> {
        let expected = contents(file);
        let url = self.client.blob_download_url(&BlobHash::of(&expected)).await?;
        let found = self.client.blob_download(&url).await?;
        if found == expected {
            Ok(())
        } else {
            Err(Error::Tampering(Tampering::BlobForged {
                reason: "the simulation found other bytes than were put",
            }))
        }
    }

    fn note(&self, text: String) {
        let network = &self.app.around.network;
        network.trace.note(Lane::Device(self.index), network.now_ms(), text);
    }
}

/// One turn of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Sync,
    /// An app in a hurry: it reads the rest next time.
    SyncOnePage,
    PutFile(u8),
    ReplaceFile(u8),
    GetFile(u8),
    RotateKeys,
    FetchKeys,
    Fold,
    Rejoin,
}

/// A place between two steps of the app at which it may die.
async fn step() {
    tokio::task::yield_now().await;
}

/// An error that a network like this one explains.
fn is_excused(error: &Error) -> bool {
    match error {
        Error::Network(_) | Error::RetryLater { .. } => true,
        Error::Problem(problem) => {
            // Messages under way for longer than a sign-in may take.
            matches!(problem.status, 429 | 502..=504) || problem.known_code() == Some(ProblemCode::LoginExpired)
        }
        _ => false,
    }
}

/// The bytes of a file: from none to some thousands.
fn contents(file: u8) -> Vec<u8> {
    let length = usize::from(file).pow(3) * 500;
    (0..length).map(|place| (place % 251) as u8 ^ file).collect()
}
