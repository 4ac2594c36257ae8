//! The server's database is restored from a backup that was taken, as `docs/operations.md` says, while it ran.
//!
//! Between backup and restore every device wrote and one changed the key. After the restore every device that knew more
//! than the backup says so; they rejoin one after the other, in an order that the seed decides, and then all of them, and
//! a new one, have every row that any of them had. A device that was offline since before the backup notices nothing.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, ensure};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use synckit_client::{
    BlobHash, ChangeEntry, ChangeOp, Cursor, DeviceId, Error, ErrorChain, Rejoined, SyncKitClient, Tampering, Timestamp,
};

use super::{
    Sizes, block_on,
    books::whole_log,
    process::Programs,
    site::{Launch, Site},
};
use crate::golden::Account;

/// Rounds of edits before the backup, while it is made, and after it.
const ROUNDS: u64 = 4;
/// Edits of a device in a round.
const EDITS: u64 = 30;
/// Devices, at most.
const DEVICES_MAX: usize = 8;

pub(super) fn run(programs: &Programs, sizes: &Sizes) -> anyhow::Result<String> {
    let mut site = Site::open(programs, Launch::default())?;
    let devices = sizes.clients.clamp(3, DEVICES_MAX);
    let account = block_on(site.sign_up("ada", devices))?;
    let mut apps = account
        .devices
        .iter()
        .map(|member| Ok(App::new(site.resumed(&member.name)?, member.id)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let backup = site.directory().join("backup");
    let file = block_on(live_past_a_backup(&site, &account, &mut apps, &backup))?;
    let held: BTreeMap<String, i64> = apps.iter().flat_map(App::versions).fold(BTreeMap::new(), newest);

    site.stop()?;
    let database = site.data_dir().join("synckit.db");
    fs::copy(backup.join("synckit.db"), &database)?;
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", database.display()));
    }
    site.start()?;

    let alarms = block_on(rejoin_all(&account, &mut apps, sizes.seed, &file))?;
    block_on(converge(&site, &account, &mut apps, &held, &file))?;
    site.stop()?;
    site.check_database()?;
    Ok(format!(
        "{alarms} of {devices} devices knew more than the backup, and all of these said so; after `rejoin`, and one \
         `restore_envelope` for the key that was changed since, all of them and a new one have every row ({}) and the file \
         that any device had",
        held.len()
    ))
}

/// An app's database: the last change of every row.
struct App {
    client: SyncKitClient,
    device_id: DeviceId,
    rows: BTreeMap<String, ChangeEntry>,
    cursor: Cursor,
    edits: u64,
}

impl App {
    fn new(client: SyncKitClient, device_id: DeviceId) -> Self {
        Self {
            client,
            device_id,
            rows: BTreeMap::new(),
            cursor: Cursor::START,
            edits: 0,
        }
    }

    /// The timestamp of every row.
    fn versions(&self) -> Vec<(String, i64)> {
        let versions = self.rows.iter();
        versions
            .map(|(row, change)| (row.clone(), change.timestamp.as_micros()))
            .collect()
    }

    /// The newer version of a row wins.
    fn merge(&mut self, changes: Vec<ChangeEntry>) {
        for change in changes {
            match self.rows.get(&change.row_id) {
                Some(held) if held.timestamp > change.timestamp => {}
                _ => drop(self.rows.insert(change.row_id.clone(), change)),
            }
        }
    }

    async fn pull(&mut self) -> Result<(), Error> {
        loop {
            let (changes, cursor, has_more) = self.client.pull(self.device_id, self.cursor).await?;
            self.merge(changes);
            self.cursor = cursor;
            if !has_more {
                return Ok(());
            }
        }
    }

    /// Edits rows, some of its own and some that everybody edits, and pushes them.
    async fn edit(&mut self, index: usize, time: i64) -> Result<(), Error> {
        let changes: Vec<ChangeEntry> = (0..EDITS)
            .map(|edit| {
                let number = self.edits + edit;
                let row = if edit % 5 == 0 {
                    format!("shared {}", number % 7)
                } else {
                    format!("{index}: {number}")
                };
                ChangeEntry {
                    table: "drill".to_owned(),
                    op: ChangeOp::Update,
                    row_id: row,
                    // Never the same time twice, so that everybody agrees which version is the newest.
                    timestamp: Timestamp::from_micros(time + i64::try_from(number).unwrap_or(0) * 100 + index as i64),
                    data: Some(serde_json::json!({ "by": index, "edit": number })),
                }
            })
            .collect();
        self.edits += EDITS;
        self.merge(changes.clone());
        self.client.push(self.device_id, changes).await?;
        Ok(())
    }

    /// The way back that `SyncKitClient::rejoin` describes; `true` if it needed the password for the key.
    async fn rejoin(&mut self, alarm: &Error, password: &str, file: &[u8]) -> Result<bool, Error> {
        let evidence = alarm.rejoin_evidence().ok_or(Error::NotSignedIn)?;
        let mut restored = false;
        let Rejoined {
            cursor, push_all_rows, ..
        } = match self.client.rejoin(&evidence, self.cursor).await {
            Err(Error::Tampering(Tampering::EnvelopeReplaced { .. })) => {
                self.client.restore_envelope(password).await?;
                restored = true;
                self.client.rejoin(&evidence, self.cursor).await?
            }
            rejoined => rejoined?,
        };
        self.cursor = cursor;
        self.pull().await?;
        if push_all_rows {
            self.client
                .push(self.device_id, self.rows.values().cloned().collect())
                .await?;
            self.client.blob_put(file.to_vec(), |_| {}).await?;
        }
        Ok(restored)
    }
}

fn newest(mut held: BTreeMap<String, i64>, (row, time): (String, i64)) -> BTreeMap<String, i64> {
    let version = held.entry(row).or_insert(time);
    *version = time.max(*version);
    held
}

/// Everybody edits; a backup is made in the middle of it; then all devices but the last continue, the key is changed,
/// and a file is stored. Returns the file.
async fn live_past_a_backup(
    site: &Site,
    account: &Account,
    apps: &mut [App],
    backup: &std::path::Path,
) -> anyhow::Result<Vec<u8>> {
    edit_all(apps, 0).await?;
    for app in &mut *apps {
        app.pull().await?;
    }
    let mut backing_up = site.start_admin(&["backup", &backup.display().to_string()])?;
    let (offline, online) = apps.split_last_mut().context("no devices")?;
    edit_all(online, 1_000_000).await?;
    ensure!(backing_up.wait()?.success(), "the backup failed");
    edit_all(online, 2_000_000).await?;
    let first = online.first().context("no devices")?;
    first.client.rotate_keys(&account.password).await?;
    for app in online.iter_mut().skip(1) {
        app.client.setup_encryption_existing(&account.password).await?;
    }
    for app in &mut *online {
        app.pull().await?;
    }
    edit_all(online, 3_000_000).await?;
    let file = b"a file that was stored after the backup".to_vec();
    online
        .first()
        .context("no devices")?
        .client
        .blob_put(file.clone(), |_| {})
        .await?;
    ensure!(
        offline.rows.len() < online.first().context("no devices")?.rows.len(),
        "nothing was written"
    );
    Ok(file)
}

async fn edit_all(apps: &mut [App], time: i64) -> anyhow::Result<()> {
    for _ in 0..ROUNDS {
        for (index, app) in apps.iter_mut().enumerate() {
            app.edit(index, time).await?;
        }
    }
    Ok(())
}

/// Lets every device find out and rejoin; returns the number of devices that had to.
async fn rejoin_all(account: &Account, apps: &mut [App], seed: u64, file: &[u8]) -> anyhow::Result<usize> {
    let (offline, online) = apps.split_last_mut().context("no devices")?;
    offline.pull().await.context("the device that was offline")?;
    let mut order: Vec<usize> = (0..online.len()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    let mut restored = 0;
    for index in order {
        let app = online.get_mut(index).context("no such device")?;
        let alarm = app
            .pull()
            .await
            .err()
            .context("a device did not notice that the server went back")?;
        ensure!(
            matches!(
                alarm,
                Error::Tampering(Tampering::HistoryRewound(_) | Tampering::HistoryForked(_))
            ),
            "device {index}: {}",
            ErrorChain(&alarm)
        );
        let rejoined = app.rejoin(&alarm, &account.password, file).await;
        restored += u32::from(rejoined.map_err(|error| anyhow::anyhow!("device {index}: {}", ErrorChain(&error)))?);
    }
    ensure!(restored == 1, "{restored} devices put the key back");
    Ok(online.len())
}

/// Everybody pulls; then everybody has everything, and so has a device that joins now.
async fn converge(
    site: &Site,
    account: &Account,
    apps: &mut [App],
    held: &BTreeMap<String, i64>,
    file: &[u8],
) -> anyhow::Result<()> {
    for (index, app) in apps.iter_mut().enumerate() {
        let pulled = match app.pull().await {
            // The one that was offline has not heard of the key.
            Err(Error::KeyRotated { .. }) => {
                app.client.setup_encryption_existing(&account.password).await?;
                app.pull().await
            }
            pulled => pulled,
        };
        pulled.map_err(|error| anyhow::anyhow!("device {index} after all have rejoined: {}", ErrorChain(&error)))?;
        let has: BTreeMap<String, i64> = app.versions().into_iter().collect();
        ensure!(has == *held, "device {index} lacks rows that another one had");
    }
    let newcomer = site.client("newcomer");
    newcomer.authenticate(&account.email, &account.password).await?;
    newcomer.setup_encryption_existing(&account.password).await?;
    let device = newcomer.register_device("newcomer", "linux").await?;
    let log = whole_log(&newcomer, device.id).await?;
    let versions = log
        .iter()
        .map(|change| (change.row_id.clone(), change.timestamp.as_micros()));
    ensure!(
        versions.fold(BTreeMap::new(), newest) == *held,
        "a new device lacks rows"
    );
    let url = newcomer.blob_download_url(&BlobHash::of(file)).await?;
    ensure!(newcomer.blob_download(&url).await? == file, "another file");
    Ok(())
}
