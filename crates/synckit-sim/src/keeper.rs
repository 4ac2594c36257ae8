//! An app that keeps the newest version of every row by its own time, as `SyncKitClient::rejoin` asks for: what it has
//! survives a server that went back, and a log that was folded and cut.
//!
//! What it deliberately is not: [`crate::device::Device`], which takes the log's order for the truth and checks that
//! every single edit is in it. Where a log is cut or a server goes back, edits that were overwritten may go; the newest
//! version of a row may not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use parking_lot::Mutex;
use rand::{Rng as _, rngs::StdRng};
use synckit_client::{
    ChangeEntry, ChangeOp, Cursor, DeviceId, Error, ErrorChain, PushError, RejoinEvidence, SyncKitClient, Timestamp,
};
use tokio::time::Instant;

use crate::{
    crash::{Crash, run_until_crash},
    device::is_excused,
    golden::Golden,
    network::{Link, Network},
    trace::Lane,
};

/// Rows that everybody edits.
const ROWS: usize = 6;
/// Simulated time in which any turn ends.
const TURN_MAX: Duration = Duration::from_secs(24 * 3600);
/// Edits of one simulated millisecond are told apart by so many numbers.
const TIMES_PER_MS: i64 = 64;

/// The newest version of every row, deletions included.
pub type Versions = BTreeMap<String, ChangeEntry>;

/// What is known outside of the devices.
#[derive(Debug, Default)]
pub struct Witness {
    /// The newest version of every row that was ever written on any device.
    newest: Mutex<Versions>,
    /// Set once the server has gone back: from then on devices may say so.
    pub went_back: AtomicBool,
}

impl Witness {
    /// The newest version of every row that was ever written on any device.
    pub fn newest(&self) -> Versions {
        self.newest.lock().clone()
    }
}

/// Takes a version of a row unless a newer one is there.
pub fn merge(versions: &mut Versions, change: ChangeEntry) {
    match versions.get(&change.row_id) {
        Some(held) if held.timestamp > change.timestamp => {}
        _ => drop(versions.insert(change.row_id.clone(), change)),
    }
}

/// What the app keeps on its disk.
#[derive(Debug, Default)]
struct Disk {
    rows: Versions,
    /// Rows whose version here is not known to be stored.
    pending: BTreeSet<String>,
    cursor: Cursor,
    last_time: i64,
}

/// Where a keeper is, and whom it talks to.
#[derive(Debug, Clone)]
pub struct Place {
    /// The world that the run started from.
    pub golden: Arc<Golden>,
    /// The run's own copy of it.
    pub directory: PathBuf,
    /// The network.
    pub network: Arc<Network>,
    /// What is known outside.
    pub witness: Arc<Witness>,
    /// Whether devices fold.
    pub folds: bool,
}

/// One device.
pub struct Keeper {
    /// Its number.
    pub index: usize,
    id: DeviceId,
    name: String,
    place: Place,
    link: Arc<Link>,
    rng: StdRng,
    disk: Mutex<Disk>,
    client: SyncKitClient,
    /// What the last turn refused: in memory only, so a crash forgets it.
    evidence: Mutex<Option<RejoinEvidence>>,
}

/// What an app does in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Sync,
    PullOnePage,
    Fold,
    Rejoin,
}

impl Keeper {
    /// A device of the golden world's first account.
    ///
    /// # Errors
    /// If its stored session cannot be loaded.
    pub fn start(index: usize, place: Place, link: Arc<Link>, mut rng: StdRng) -> anyhow::Result<Self> {
        let member = place.golden.ada.devices.get(index).context("no such device")?.clone();
        let client = open(&place, &member.name, &link, rng.r#gen(), Cursor::START)?;
        Ok(Self {
            index,
            id: member.id,
            name: member.name,
            place,
            link,
            rng,
            disk: Mutex::default(),
            client,
            evidence: Mutex::default(),
        })
    }

    /// Lives through so many steps.
    ///
    /// # Errors
    /// A finding.
    pub async fn live(&mut self, steps: usize) -> anyhow::Result<()> {
        for _ in 0..steps {
            tokio::time::sleep(Duration::from_millis(self.rng.gen_range(0..3_000))).await;
            let has_evidence = self.evidence.lock().is_some();
            match self.rng.gen_range(0..100) {
                0..45 => (0..self.rng.gen_range(1..=3)).for_each(|_| self.edit()),
                // The user takes a while to decide.
                45..75 if has_evidence => self.turn(Turn::Rejoin).await?,
                45..55 if self.place.folds => self.turn(Turn::Fold).await?,
                55..65 => self.turn(Turn::PullOnePage).await?,
                _ => self.turn(Turn::Sync).await?,
            }
        }
        Ok(())
    }

    /// Syncs without dying, on a network that works.
    ///
    /// # Errors
    /// Any error that a rejoin does not resolve.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        if self.rng.gen_bool(0.5) {
            self.restart()?;
        }
        for _ in 0..4 {
            let has_evidence = self.evidence.lock().is_some();
            let settled = if has_evidence {
                self.rejoin().await
            } else {
                self.sync().await
            };
            match settled {
                Ok(()) if !has_evidence => return Ok(()),
                Ok(()) => {}
                Err(error) => self
                    .heard(&error)
                    .with_context(|| format!("device {} on a calm network: {}", self.index, ErrorChain(&error)))?,
            }
        }
        bail!("device {} does not come to rest", self.index)
    }

    /// What is on its disk.
    pub fn rows(&self) -> Versions {
        self.disk.lock().rows.clone()
    }

    /// What a device that starts from nothing would have: the last entry of every row.
    ///
    /// # Errors
    /// If it cannot be pulled.
    pub async fn rows_of_the_log(&self) -> anyhow::Result<Versions> {
        let client = open(&self.place, &self.name, &self.link, 0, Cursor::START)?;
        let (mut rows, mut cursor) = (Versions::new(), Cursor::START);
        loop {
            let (changes, next, has_more) = client.pull(self.id, cursor).await.context("the final pull")?;
            rows.extend(changes.into_iter().map(|change| (change.row_id.clone(), change)));
            cursor = next;
            if !has_more {
                return Ok(rows);
            }
        }
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        let (seed, cursor) = (self.rng.r#gen(), self.disk.lock().cursor);
        self.client = open(&self.place, &self.name, &self.link, seed, cursor)?;
        *self.evidence.lock() = None;
        Ok(())
    }

    fn edit(&mut self) {
        let row = format!("row {}", self.rng.gen_range(0..ROWS));
        let is_deletion = self.rng.gen_bool(0.2);
        let now_ms = i64::try_from(self.place.network.now_ms()).unwrap_or(i64::MAX);
        let own = i64::try_from(self.index).unwrap_or(0);
        let mut disk = self.disk.lock();
        // Later is greater, on all devices, and no two are equal.
        let time = (now_ms * TIMES_PER_MS + own).max(disk.last_time + 8);
        disk.last_time = time;
        let (op, data) = if is_deletion {
            (ChangeOp::Delete, None)
        } else {
            (
                ChangeOp::Update,
                Some(serde_json::json!({ "at": time, "by": self.name })),
            )
        };
        let change = ChangeEntry {
            table: "t".to_owned(),
            op,
            row_id: row.clone(),
            timestamp: Timestamp::from_micros(time),
            data,
        };
        merge(&mut self.place.witness.newest.lock(), change.clone());
        merge(&mut disk.rows, change);
        disk.pending.insert(row);
    }

    async fn turn(&mut self, turn: Turn) -> anyhow::Result<()> {
        let crash = match self.rng.gen_range(0..6) {
            0 => Crash::At(Instant::now() + Duration::from_millis(self.rng.gen_range(1..2_000))),
            1 => Crash::AfterAnswers {
                answers: self.rng.gen_range(1..=6),
                awaits: self.rng.gen_range(1..=6),
            },
            _ => Crash::Never,
        };
        self.note(format!("{turn:?}"));
        let fuse = Arc::clone(self.link.fuse());
        let app: Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> = match turn {
            Turn::Sync => Box::pin(self.sync()),
            Turn::PullOnePage => Box::pin(async { self.pull_page().await.map(drop) }),
            Turn::Fold => Box::pin(async { self.client.fold(self.id).await.map(drop) }),
            Turn::Rejoin => Box::pin(self.rejoin()),
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
                // A fold reads twice, and the server may have gone back in between.
                let went_back = self.place.witness.went_back.load(Ordering::SeqCst);
                let is_torn = turn == Turn::Fold && went_back && matches!(error, Error::Protocol { status: 200, .. });
                if !is_excused(&error) && !is_torn {
                    self.heard(&error)
                        .with_context(|| format!("device {}: {turn:?}: {}", self.index, ErrorChain(&error)))?;
                }
            }
        }
        Ok(())
    }

    /// Takes note of a refusal that a rejoin may resolve. Anything else is a finding, and so is one before the server
    /// went back.
    fn heard(&self, error: &Error) -> anyhow::Result<()> {
        ensure!(
            self.place.witness.went_back.load(Ordering::SeqCst),
            "the server has never gone back"
        );
        let mut evidence = self.evidence.lock();
        match (error, error.rejoin_evidence()) {
            (Error::NothingToRejoin, _) => *evidence = None,
            (_, Some(found @ RejoinEvidence::History(_))) => *evidence = Some(found),
            _ => bail!("no setback explains this"),
        }
        Ok(())
    }

    async fn sync(&self) -> Result<(), Error> {
        while self.pull_page().await? {}
        loop {
            let (cursor, changes) = {
                let disk = self.disk.lock();
                let changes: Vec<ChangeEntry> = disk
                    .pending
                    .iter()
                    .filter_map(|row| disk.rows.get(row))
                    .cloned()
                    .collect();
                (disk.cursor, changes)
            };
            let pushed = self.client.push_at(self.id, cursor, None, changes.clone()).await;
            step().await;
            let (accepted, cursor, error) = match pushed {
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
                for stored in changes.iter().take(accepted) {
                    if disk.rows.get(&stored.row_id) == Some(stored) {
                        disk.pending.remove(&stored.row_id);
                    }
                }
                disk.cursor = cursor;
            }
            match error {
                None => return Ok(()),
                Some(Error::Behind { .. }) => while self.pull_page().await? {},
                Some(error) => return Err(error),
            }
        }
    }

    /// Whether more follows.
    async fn pull_page(&self) -> Result<bool, Error> {
        let cursor = self.disk.lock().cursor;
        let (changes, next, has_more) = self.client.pull(self.id, cursor).await?;
        step().await;
        {
            let mut disk = self.disk.lock();
            for change in changes {
                merge(&mut disk.rows, change);
            }
            disk.cursor = next;
        }
        step().await;
        Ok(has_more)
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
                disk.pending = disk.rows.keys().cloned().collect();
            }
        }
        *self.evidence.lock() = None;
        self.note(format!("rejoins at {}", rejoined.cursor.seq()));
        Ok(())
    }

    fn note(&self, text: String) {
        let network = &self.place.network;
        network.trace.note(Lane::Device(self.index), network.now_ms(), text);
    }
}

fn open(
    place: &Place,
    name: &str,
    link: &Arc<Link>,
    jitter_seed: u64,
    cursor: Cursor,
) -> anyhow::Result<SyncKitClient> {
    let client = place
        .golden
        .client(&place.directory, name)
        .transport(Arc::clone(link) as Arc<dyn synckit_client::transport::Transport>)
        .jitter_seed(jitter_seed)
        .build();
    client
        .try_load_key_from_keychain()
        .with_context(|| format!("{name} lost its session"))?;
    client.resume_at(cursor);
    Ok(client)
}

/// A place between two steps of the app where it may die.
async fn step() {
    tokio::task::yield_now().await;
}
