//! An app on a device: the product page's own loop, and the two stricter ways to push, with a disk that survives
//! crashes and a process that does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use parking_lot::Mutex;
use rand::{Rng as _, rngs::StdRng};
use synckit_client::{
    BatchId, BlobHash, ChangeEntry, ChangeOp, Cursor, DeviceId, Error, ErrorChain, ProblemCode, PushError,
    SyncKitClient, Tampering, Timestamp,
};
use synckit_protocol::limits;
use tokio::time::Instant;

use crate::{
    crash::{Crash, run_until_crash},
    golden::Golden,
    network::{Link, Network},
    trace::Lane,
};

/// Rows that everybody edits.
const ROWS: usize = 5;
/// Different files.
const FILES: u8 = 4;
/// Edits of one device, at most: their numbers stay apart.
const EDITS_MAX: i64 = 1_000_000;
/// Entries of an edit that does not fit one batch.
const BULK_ENTRIES: usize = 505;

/// Simulated time in which any turn ends, whatever the network does: every retry has an end.
const TURN_MAX: Duration = Duration::from_secs(24 * 3600);

/// The rows of an app.
pub type Rows = BTreeMap<String, serde_json::Value>;

/// How a device pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// `push`: at least once.
    Plain,
    /// `push_at`: exactly once, by an id that is on the disk before the push, and only on top of what was merged.
    Merging,
}

/// What is known outside of the devices: who edited what, and what was acknowledged to whom.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every edit that was ever made, by its number.
    edits: Mutex<BTreeMap<i64, Manner>>,
    /// Edits whose push was acknowledged.
    acknowledged: Mutex<BTreeSet<i64>>,
    /// Files whose upload was acknowledged.
    files: Mutex<BTreeSet<u8>>,
}

impl Ledger {
    /// Every edit and how it was pushed.
    pub fn edits(&self) -> BTreeMap<i64, Manner> {
        self.edits.lock().clone()
    }

    /// Every edit that was acknowledged.
    pub fn acknowledged(&self) -> BTreeSet<i64> {
        self.acknowledged.lock().clone()
    }

    /// Every file that was acknowledged.
    pub fn files(&self) -> BTreeSet<u8> {
        self.files.lock().clone()
    }
}

/// What an app keeps on its disk.
#[derive(Debug, Default)]
struct Disk {
    rows: Rows,
    /// Edits that are not known to be stored, oldest first.
    pending: Vec<ChangeEntry>,
    cursor: Cursor,
    /// The batch that is about to be pushed, and how many of the pending edits it holds.
    outgoing: Option<(BatchId, usize)>,
    edits_made: i64,
    /// Whether another device has changed the key, so that the user must be asked for the password.
    needs_password: bool,
}

impl Disk {
    /// Takes edits off that are stored.
    fn acknowledge(&mut self, count: usize, ledger: &Ledger) {
        let mut acknowledged = ledger.acknowledged.lock();
        acknowledged.extend(self.pending.drain(..count).map(|edit| edit.timestamp.as_micros()));
    }
}

/// One device.
pub struct Device {
    /// Its number.
    pub index: usize,
    /// How it pushes.
    pub manner: Manner,
    id: DeviceId,
    app: Installation,
    network: Arc<Network>,
    ledger: Arc<Ledger>,
    rng: StdRng,
    disk: Mutex<Disk>,
    client: SyncKitClient,
    /// Whether its user changes the key now and then, which costs an Argon2id each time.
    rotates: bool,
}

/// The app as it is installed on a device: what every start of it has in common.
struct Installation {
    name: String,
    golden: Arc<Golden>,
    directory: PathBuf,
    link: Arc<Link>,
    page_bytes: u32,
}

impl Installation {
    /// Starts the app: a process with the stored session and key, and no memory.
    fn open(&self, jitter_seed: u64, cursor: Cursor) -> anyhow::Result<SyncKitClient> {
        let client = self
            .golden
            .client(&self.directory, &self.name)
            .transport(Arc::clone(&self.link) as Arc<dyn synckit_client::transport::Transport>)
            .page_bytes(self.page_bytes)
            .jitter_seed(jitter_seed)
            .build();
        client
            .try_load_key_from_keychain()
            .with_context(|| format!("{} lost its session", self.name))?;
        client.resume_at(cursor);
        Ok(client)
    }
}

/// Where a device is, and whom it talks to.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The world that the run started from.
    pub golden: Arc<Golden>,
    /// The run's own copy of it.
    pub directory: PathBuf,
    /// The network.
    pub network: Arc<Network>,
    /// What is known outside.
    pub ledger: Arc<Ledger>,
}

impl Device {
    /// A device of the golden world's first account, over a link of its own.
    ///
    /// # Errors
    /// If its stored session cannot be loaded.
    pub fn start(
        index: usize,
        manner: Manner,
        surroundings: &Surroundings,
        link: Arc<Link>,
        mut rng: StdRng,
    ) -> anyhow::Result<Self> {
        let Surroundings {
            golden,
            directory,
            network,
            ledger,
        } = surroundings.clone();
        let member = golden.ada.devices.get(index).context("no such device")?.clone();
        let app = Installation {
            name: member.name,
            golden,
            directory,
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
            manner,
            id: member.id,
            app,
            network,
            ledger,
            rng,
            disk: Mutex::default(),
            client,
            rotates: false,
        })
    }

    /// Lets its user change the key now and then.
    pub fn rotate_keys_now_and_then(&mut self) {
        self.rotates = true;
    }

    /// Lives through so many steps: edits, syncs, files, rests, and dies now and then.
    ///
    /// # Errors
    /// A finding: an error that no network explains, or a promise that was not kept.
    pub async fn live(&mut self, steps: usize) -> anyhow::Result<()> {
        for _ in 0..steps {
            tokio::time::sleep(Duration::from_millis(self.rng.gen_range(0..3_000))).await;
            match self.rng.gen_range(0..100) {
                0..45 => {
                    for _ in 0..self.rng.gen_range(1..=3) {
                        self.edit();
                    }
                }
                45 if self.manner == Manner::Plain && self.rng.gen_bool(0.3) => {
                    (0..BULK_ENTRIES).for_each(|_| self.edit());
                }
                45..88 if self.disk.lock().needs_password => self.turn(Turn::FetchKeys).await?,
                45..55 if self.rotates => self.turn(Turn::RotateKeys).await?,
                55..65 => self.turn(Turn::SyncOnePage).await?,
                45..88 => self.turn(Turn::Sync).await?,
                _ => {
                    let file = self.rng.gen_range(0..FILES);
                    let turn = match self.rng.gen_range(0..10) {
                        0..5 => Turn::PutFile(file),
                        5 => Turn::ReplaceFile(file),
                        _ => Turn::GetFile(file),
                    };
                    self.turn(turn).await?;
                }
            }
        }
        Ok(())
    }

    /// Starts the app again, with what is on its disk.
    ///
    /// # Errors
    /// If its stored session cannot be loaded: a crash must never cost it.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let (seed, cursor) = (self.rng.r#gen(), self.disk.lock().cursor);
        self.client = self.app.open(seed, cursor)?;
        Ok(())
    }

    /// Syncs without dying, on a network that works.
    ///
    /// # Errors
    /// Any error: nothing excuses one any more.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        if self.rng.gen_bool(0.5) {
            self.restart()?;
        }
        for _ in 0..5 {
            let synced = match self.sync(usize::MAX).await {
                Err(Error::KeyRotated { .. }) => self.fetch_keys().await.map(|()| Settled::NotYet),
                synced => synced.map(|()| Settled::Pulled),
            };
            let settled = synced
                .map_err(|error| anyhow::anyhow!("device {} on a calm network: {}", self.index, ErrorChain(&error)))?;
            if settled == Settled::Pulled && self.disk.lock().pending.is_empty() {
                return Ok(());
            }
        }
        bail!("device {} cannot push on a calm network", self.index)
    }

    /// Reads every acknowledged file back.
    ///
    /// # Errors
    /// If one is missing or different.
    pub async fn check_files(&self) -> anyhow::Result<()> {
        for file in self.ledger.files() {
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
            let (changes, next, has_more) = client.pull(self.id, cursor).await.context("the final pull")?;
            log.extend(changes);
            cursor = next;
            if !has_more {
                return Ok(log);
            }
        }
    }

    fn edit(&mut self) {
        let row = format!("row {}", self.rng.gen_range(0..ROWS));
        let is_deletion = self.rng.gen_bool(0.2);
        let mut disk = self.disk.lock();
        // The time of an edit is its number: it stands in the log whatever becomes of the row.
        let number = i64::try_from(self.index).unwrap_or(i64::MAX) * EDITS_MAX + disk.edits_made;
        disk.edits_made += 1;
        self.ledger.edits.lock().insert(number, self.manner);
        let (op, data) = if is_deletion {
            (ChangeOp::Delete, None)
        } else {
            (
                ChangeOp::Update,
                Some(serde_json::json!({ "edit": number, "by": self.app.name })),
            )
        };
        let change = ChangeEntry {
            table: "t".to_owned(),
            op,
            row_id: row,
            timestamp: Timestamp::from_micros(number),
            data,
        };
        apply(&mut disk.rows, &change);
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
        let was_there = matches!(turn, Turn::GetFile(file) if self.ledger.files().contains(&file));
        let app = async {
            match turn {
                Turn::Sync => self.sync(usize::MAX).await,
                Turn::SyncOnePage => self.sync(1).await,
                Turn::PutFile(file) => self.put_file(file, false).await,
                Turn::ReplaceFile(file) => self.put_file(file, true).await,
                Turn::GetFile(file) => self.get_file(file).await,
                Turn::RotateKeys => self.client.rotate_keys(&self.app.golden.ada.password).await,
                Turn::FetchKeys => self.fetch_keys().await,
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
                let is_rotated = matches!(error, Error::KeyRotated { .. });
                self.disk.lock().needs_password |= is_rotated;
                let is_missing = error.problem_code() == Some(ProblemCode::BlobNotFound) && !was_there;
                ensure!(
                    is_excused(&error) || is_missing || is_rotated,
                    "device {}: {turn:?} failed: {}",
                    self.index,
                    ErrorChain(&error)
                );
            }
        }
        Ok(())
    }

    /// One turn of the page's loop: pull so many pages, upsert blindly, push.
    async fn sync(&self, pages: usize) -> Result<(), Error> {
        self.pull(pages).await?;
        match self.manner {
            Manner::Plain => self.push().await,
            Manner::Merging => self.push_merged().await,
        }
    }

    async fn pull(&self, pages: usize) -> Result<(), Error> {
        for _ in 0..pages {
            let cursor = self.disk.lock().cursor;
            let (changes, next, has_more) = self.client.pull(self.id, cursor).await?;
            step().await;
            {
                // The app stores the rows and the cursor in one transaction.
                let mut disk = self.disk.lock();
                for change in &changes {
                    apply(&mut disk.rows, change);
                }
                disk.cursor = next;
            }
            self.note(format!("applied {} changes", changes.len()));
            step().await;
            if !has_more {
                break;
            }
        }
        Ok(())
    }

    async fn push(&self) -> Result<(), Error> {
        let changes = self.disk.lock().pending.clone();
        let count = changes.len();
        let pushed = self.client.push(self.id, changes).await;
        step().await;
        let mut disk = self.disk.lock();
        match pushed {
            Ok(cursor) => {
                disk.acknowledge(count, &self.ledger);
                disk.cursor = cursor;
                Ok(())
            }
            Err(PushError {
                accepted,
                cursor,
                source,
                ..
            }) => {
                disk.acknowledge(accepted, &self.ledger);
                disk.cursor = cursor;
                Err(source)
            }
        }
    }

    async fn push_merged(&self) -> Result<(), Error> {
        let Some((batch_id, changes)) = self.outgoing() else {
            return Ok(());
        };
        step().await;
        loop {
            let parent = self.disk.lock().cursor;
            let pushed = self
                .client
                .push_at(self.id, parent, Some(batch_id), changes.clone())
                .await;
            step().await;
            match pushed {
                Ok(cursor) => {
                    let mut disk = self.disk.lock();
                    disk.acknowledge(changes.len(), &self.ledger);
                    disk.outgoing = None;
                    // An id that was stored before its first answer was lost is answered with its old place, which a
                    // pull has passed since.
                    if cursor.seq() > disk.cursor.seq() {
                        for change in &changes {
                            apply(&mut disk.rows, change);
                        }
                        disk.cursor = cursor;
                    }
                    return Ok(());
                }
                Err(PushError {
                    source: Error::Behind { .. },
                    ..
                }) => self.pull(usize::MAX).await?,
                Err(error) => return Err(error.source),
            }
        }
    }

    /// The batch that is on its way, or a new one, noted before it is sent.
    fn outgoing(&self) -> Option<(BatchId, Vec<ChangeEntry>)> {
        let mut disk = self.disk.lock();
        if disk.outgoing.is_none() && !disk.pending.is_empty() {
            disk.outgoing = Some((SyncKitClient::new_batch_id(), disk.pending.len()));
        }
        let (batch_id, count) = disk.outgoing?;
        Some((batch_id, disk.pending[..count].to_vec()))
    }

    async fn fetch_keys(&self) -> Result<(), Error> {
        self.client
            .setup_encryption_existing(&self.app.golden.ada.password)
            .await?;
        self.disk.lock().needs_password = false;
        Ok(())
    }

    async fn put_file(&self, file: u8, replace: bool) -> Result<(), Error> {
        let bytes = contents(file);
        if replace {
            self.client.blob_replace(bytes, |_| {}).await?;
        } else {
            self.client.blob_put(bytes, |_| {}).await?;
        }
        self.ledger.files.lock().insert(file);
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
        self.network
            .trace
            .note(Lane::Device(self.index), self.network.now_ms(), text);
    }
}

/// Whether a device has read everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Pulled,
    NotYet,
}

/// What an app does in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Sync,
    /// As an app does that is in a hurry: what it has not read yet, it reads next time.
    SyncOnePage,
    PutFile(u8),
    ReplaceFile(u8),
    GetFile(u8),
    RotateKeys,
    FetchKeys,
}

/// A place between two steps of the app where it may die.
async fn step() {
    tokio::task::yield_now().await;
}

/// Applies a change as the product page says: blindly.
pub fn apply(rows: &mut Rows, change: &ChangeEntry) {
    match (change.op, &change.data) {
        (ChangeOp::Insert | ChangeOp::Update, Some(data)) => {
            rows.insert(change.row_id.clone(), data.clone());
        }
        _ => {
            rows.remove(&change.row_id);
        }
    }
}

/// An error that a network like this one explains. Anything else is a finding.
pub(crate) fn is_excused(error: &Error) -> bool {
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
