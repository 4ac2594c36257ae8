//! Clients are SIGKILLed during all of their work, started again, and finish.
//!
//! Each kind of work runs once without a kill, to count its bytes. Then, once per kill, the line is cut after a number
//! of bytes that the seed chooses, in one direction or the other. The client is killed there, with its request or the
//! answer half sent, and another process continues from the files on the disk.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};
use synckit_client::{BlobHash, SyncKitClient};

use super::{
    Sizes, block_on,
    books::{Books, Tally, whole_log},
    client::journal_file,
    journal::{Journal, Record},
    process::Programs,
    relay::{Direction, Moved, Relay, Wait},
    site::{Launch, Site},
};
use crate::golden::{Account, Member};

/// Kills during changes of the key: a stream can have 24 retired keys, and a kill may cost one.
const KEY_CHANGE_KILLS_MAX: u32 = 10;
/// Batches that a process pushes before it ends.
const BATCHES_A_LIFE: u64 = 6;

pub(super) fn run(programs: &Programs, sizes: &Sizes) -> anyhow::Result<String> {
    let relay = Relay::open()?;
    let launch = Launch {
        public_url: Some(relay.url()),
        ..Launch::default()
    };
    let mut site = Site::open(programs, launch)?;
    relay.lead_to(site.port());
    let account = block_on(site.sign_up("ada", 4))?;
    let mut drill = Drill {
        site: &site,
        relay: &relay,
        account: &account,
        rng: StdRng::seed_from_u64(sizes.seed),
        kills: sizes.kills,
    };
    let pushing = drill.pushing().context("while pushing")?;
    let pulling = drill.pulling(sizes).context("while pulling")?;
    let (uploading, file) = drill.uploading(sizes).context("while uploading")?;
    let downloading = drill.downloading(&file).context("while downloading")?;
    let changing = drill.changing_keys().context("while changing the key")?;
    relay.begin(None);

    let tally = block_on(audit(&site, &account))?;
    site.stop()?;
    site.check_database()?;
    ensure!(site.unfinished_uploads()? == 0, "an upload that was cut is still there");
    ensure_no_leftovers(&site)?;
    Ok(format!(
        "{pushing} kills while pushing, {pulling} while pulling, {uploading} while uploading, {downloading} while \
         downloading {} MiB, {changing} while changing the key: {} acknowledged entries are there exactly once, {} \
         others; every page was applied once, every file is whole or not there, no temporary file is left",
        file.bytes.len() >> 20,
        tally.acknowledged,
        tally.unheard
    ))
}

struct Drill<'a> {
    site: &'a Site,
    relay: &'a Relay,
    account: &'a Account,
    rng: StdRng,
    kills: u32,
}

/// A file that was uploaded.
struct Uploaded {
    hash: BlobHash,
    bytes: Vec<u8>,
}

impl Drill<'_> {
    fn device(&self, index: usize) -> anyhow::Result<&Member> {
        self.account.devices.get(index).context("no such device")
    }

    /// Lets a client do its work without a cut, and measures it.
    fn measure(&self, command: Command) -> anyhow::Result<Moved> {
        self.relay.begin(None);
        self.site.start_client(command)?.finish()?;
        Ok(self.relay.moved())
    }

    /// Starts a client, and kills it at a place that the seed decides; `false` if it had ended before.
    fn kill_within(&mut self, command: Command, moved: Moved) -> anyhow::Result<bool> {
        // An answer is cut as often as a request, however few bytes it has.
        let cut = if self.rng.gen_bool(0.5) {
            (Direction::Up, self.rng.gen_range(1..=moved.up))
        } else {
            (Direction::Down, self.rng.gen_range(1..=moved.down))
        };
        self.relay.begin(Some(cut));
        let mut process = self.site.start_client(command)?;
        let killed = match self.relay.wait(&mut process)? {
            Wait::Cut => {
                process.kill()?;
                true
            }
            Wait::Ended => {
                process.finish()?;
                false
            }
        };
        self.relay.begin(None);
        Ok(killed)
    }

    fn pushing(&mut self) -> anyhow::Result<u32> {
        let member = self.device(0)?.clone();
        let command = |life: u64| {
            let mut command = self.site.client_command(&member);
            command.args(["push", "--seed", "1", "--batches", &(life * BATCHES_A_LIFE).to_string()]);
            command
        };
        let mut lives: Vec<Command> = (1..=u64::from(self.kills) + 1).map(command).collect();
        let last = command(u64::from(self.kills) + 1);
        let moved = self.measure(lives.remove(0))?;
        let mut kills = 0;
        for life in lives {
            kills += u32::from(self.kill_within(life, moved)?);
        }
        self.site.start_client(last)?.finish()?;
        Ok(kills)
    }

    fn pulling(&mut self, sizes: &Sizes) -> anyhow::Result<u32> {
        let pusher = self.device(0)?.clone();
        let mut command = self.site.client_command(&pusher);
        let batches = sizes.batches + BATCHES_A_LIFE * (u64::from(self.kills) + 1);
        command.args(["push", "--seed", "1", "--batches", &batches.to_string()]);
        self.measure(command)?;

        let member = self.device(1)?.clone();
        let pull = || {
            let mut command = self.site.client_command(&member);
            command.arg("pull");
            command
        };
        let journal = journal_file(self.site.directory(), &member.name);
        let commands: Vec<(Command, Command)> = (0..self.kills).map(|_| (pull(), pull())).collect();
        let moved = self.measure(pull())?;
        let whole = applied(&journal)?;
        let mut kills = 0;
        for (life, next) in commands {
            fs::remove_file(&journal)?;
            kills += u32::from(self.kill_within(life, moved)?);
            self.site.start_client(next)?.finish()?;
            ensure!(applied(&journal)? == whole, "pages were lost or applied twice");
        }
        Ok(kills)
    }

    fn uploading(&mut self, sizes: &Sizes) -> anyhow::Result<(u32, Uploaded)> {
        let member = self.device(2)?.clone();
        let path = self.site.directory().join("upload");
        let upload = || {
            let mut command = self.site.client_command(&member);
            command.arg("upload").arg(&path);
            command
        };
        let mut file = vec![0; sizes.file_bytes];
        let commands: Vec<(Command, Command)> = (0..self.kills).map(|_| (upload(), upload())).collect();
        let first = upload();
        self.rng.fill_bytes(&mut file);
        fs::write(&path, &file)?;
        let moved = self.measure(first)?;
        let mut hashes = vec![BlobHash::of(&file)];
        let mut kills = 0;
        for (life, next) in commands {
            self.rng.fill_bytes(&mut file);
            fs::write(&path, &file)?;
            kills += u32::from(self.kill_within(life, moved)?);
            self.site.start_client(next)?.finish()?;
            hashes.push(BlobHash::of(&file));
        }
        fs::remove_file(&path)?;
        let reader = self.site.resumed(&self.device(3)?.name)?;
        block_on(read_back(&reader, &hashes))?;
        let hash = hashes.pop().context("no file")?;
        Ok((kills, Uploaded { hash, bytes: file }))
    }

    fn downloading(&mut self, file: &Uploaded) -> anyhow::Result<u32> {
        let member = self.device(3)?.clone();
        let directory = self.site.directory().join("downloads");
        fs::create_dir(&directory)?;
        let path = directory.join("result");
        let download = || {
            let mut command = self.site.client_command(&member);
            command.arg("download").arg(file.hash.to_string()).arg(&path);
            command
        };
        let commands: Vec<(Command, Command)> = (0..self.kills).map(|_| (download(), download())).collect();
        let moved = self.measure(download())?;
        ensure!(fs::read(&path)? == file.bytes, "another file");
        let mut kills = 0;
        for (life, next) in commands {
            fs::remove_file(&path)?;
            kills += u32::from(self.kill_within(life, moved)?);
            ensure!(
                !path.exists() || fs::read(&path)? == file.bytes,
                "a part of a file is at the path of the result"
            );
            self.site.start_client(next)?.finish()?;
            ensure!(fs::read(&path)? == file.bytes, "another file");
        }
        let there: Vec<PathBuf> = fs::read_dir(&directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        ensure!(there == [path], "what cut downloads left is not swept: {there:?}");
        Ok(kills)
    }

    fn changing_keys(&mut self) -> anyhow::Result<u32> {
        let member = self.device(2)?.clone();
        let password = self.account.password.clone();
        let changes = |count: u32| {
            let mut command = self.site.client_command(&member);
            command.args(["change-keys", "--password", &password, "--changes", &count.to_string()]);
            command
        };
        let rounds = self.kills.min(KEY_CHANGE_KILLS_MAX);
        let commands: Vec<(Command, Command)> = (2..rounds + 2).map(|count| (changes(count), changes(count))).collect();
        let moved = self.measure(changes(1))?;
        let mut kills = 0;
        for (life, next) in commands {
            kills += u32::from(self.kill_within(life, moved)?);
            self.site.start_client(next)?.finish()?;
        }
        Ok(kills)
    }
}

/// The rows that a client has applied, in their order.
fn applied(journal: &std::path::Path) -> anyhow::Result<Vec<String>> {
    let records = Journal::read(journal)?;
    Ok(records
        .into_iter()
        .filter_map(|record| match record {
            Record::Applied { rows, .. } => Some(rows),
            _ => None,
        })
        .flatten()
        .collect())
}

async fn read_back(reader: &SyncKitClient, hashes: &[BlobHash]) -> anyhow::Result<()> {
    for hash in hashes {
        let url = reader.blob_download_url(hash).await?;
        // The SDK compares the received file with the requested hash.
        reader.blob_download(&url).await?;
    }
    let (blobs, _) = reader.blobs(None).await?;
    ensure!(
        blobs.len() == hashes.len(),
        "{} files, of {}",
        blobs.len(),
        hashes.len()
    );
    Ok(())
}

/// Compares the log, as a device reads it that was never killed and never saw a change of the key, with the journals.
async fn audit(site: &Site, account: &Account) -> anyhow::Result<Tally> {
    let mut books = Books::default();
    for member in &account.devices {
        books.enter(&Journal::read(&journal_file(site.directory(), &member.name))?);
    }
    ensure!(books.open() == 0, "{} batches were never acknowledged", books.open());
    let reader = account.devices.last().context("no device")?;
    let client = site.client(&reader.name);
    client.try_load_key_from_keychain()?;
    client.setup_encryption_existing(&account.password).await?;
    books.audit(&whole_log(&client, reader.id).await?)
}

/// Whether a kill has left secrets in files that nothing will ever remove.
fn ensure_no_leftovers(site: &Site) -> anyhow::Result<()> {
    for entry in fs::read_dir(site.directory())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // A lock file holds nothing, and is never removed.
        ensure!(
            !name.starts_with('.') || name.ends_with(".lock"),
            "{name} is left in the directory of the credentials"
        );
    }
    Ok(())
}
