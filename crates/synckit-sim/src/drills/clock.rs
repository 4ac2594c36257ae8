//! Clocks jump: the server's ahead and back by days, a device's by days, while all devices keep working.
//!
//! `libfaketime` moves the time of day of a real process, and nothing of its timers. Nothing that has expired is taken,
//! nothing is lost, and no lock-out lasts longer than the jump that caused it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use synckit_client::{
    BlobHash, DeviceId, Error, ErrorChain, SyncKitClient,
    transport::{HttpTransport, RequestBody, Transport as _},
};

use super::{
    Sizes, block_on,
    books::{Batch, Books, whole_log},
    client::journal_file,
    journal::Journal,
    process::{Programs, command, output_of},
    site::{Launch, Site},
};
use crate::golden::{Account, credential_file};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Guesses at one account from one address, and the time in which they come back.
const GUESSES: i64 = 3;
const GUESS_WINDOW_SECONDS: i64 = 15 * 60;
/// Entries in a batch of this drill.
const ENTRIES: u32 = 20;

pub(super) fn run(programs: &Programs, sizes: &Sizes) -> anyhow::Result<String> {
    let clock = FakeClock::new()?;
    let launch = Launch {
        environment: clock.environment(),
        arguments: [
            "--guesses-per-account-and-address",
            "3",
            "--sweep-interval",
            "1s",
            "--device-active-time",
            "10d",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Launch::default()
    };
    let mut site = Site::open(programs, launch)?;
    block_on(async {
        let account = site.sign_up("ada", 3).await?;
        let mut drill = Drill::begin(&site, &clock, &account)?;
        drill.jump_ahead_and_back().await?;
        drill.guess_ahead_and_sign_in_after().await?;
        drill.jump_back_and_ahead().await?;
        drill.outlast_a_session().await?;
        drill.let_the_log_go_early().await?;
        drill.push("at the end").await?;
        let pushed = drill.pushed;
        drill.devices_with_wrong_clocks(sizes).await?;
        let entries = drill.audit().await?;
        Ok(format!(
            "the server 8 days ahead and back, 3 days back and ahead, 100 days ahead and back, devices 10 days ahead and \
             behind: an expired token, a URL that expired and a URL of the future are refused, {pushed} pushes went \
             through by themselves, guesses used up in the future are back after {} minutes, a session that was too old \
             lives on, {entries} acknowledged entries are there exactly once",
            GUESS_WINDOW_SECONDS / 60
        ))
    })
    .and_then(|result| {
        site.stop()?;
        site.check_database()?;
        Ok(result)
    })
}

struct Drill<'a> {
    site: &'a Site,
    clock: &'a FakeClock,
    account: &'a Account,
    client: SyncKitClient,
    device_id: DeviceId,
    /// The credential file of the device.
    credentials: PathBuf,
    transport: HttpTransport,
    books: Books,
    pushed: u64,
}

impl<'a> Drill<'a> {
    fn begin(site: &'a Site, clock: &'a FakeClock, account: &'a Account) -> anyhow::Result<Self> {
        let member = account.devices.first().context("no device")?;
        Ok(Self {
            site,
            clock,
            account,
            client: site.resumed(&member.name)?,
            device_id: member.id,
            credentials: credential_file(site.directory(), &member.name),
            transport: HttpTransport::new(Duration::from_secs(10)),
            books: Books::default(),
            pushed: 0,
        })
    }

    /// Pushes a batch, by whatever the SDK does about its token.
    async fn push(&mut self, when: &str) -> anyhow::Result<()> {
        let batch = Batch {
            by: "clock".to_owned(),
            number: self.pushed,
            count: ENTRIES,
        };
        self.books.attempt(batch.clone());
        let pushed = self.client.push(self.device_id, batch.changes()).await;
        pushed.map_err(|error| anyhow::anyhow!("a push {when}: {}", ErrorChain(&error.source)))?;
        self.books.acknowledge(batch);
        self.pushed += 1;
        Ok(())
    }

    async fn jump_ahead_and_back(&mut self) -> anyhow::Result<()> {
        let file: &[u8] = b"a file of the drill";
        let hash = self.client.blob_put(file.to_vec(), |_| {}).await?;
        self.push("before any jump").await?;
        let token = stored_token(&self.credentials)?;
        ensure!(self.status(&token).await?.0 == 200, "a fresh token is refused");
        let url = self.raw_download_url(&token, &hash).await?;
        ensure!(self.get(&url, None).await?.0 == 200, "a fresh URL is refused");
        let signed_before = self.client.blob_download_url(&hash).await?;

        self.clock.set(8 * DAY)?;
        let (status, code) = self.status(&token).await?;
        ensure!(
            (status, code.as_str()) == (401, "token_expired"),
            "an expired token: {status} {code}"
        );
        let (status, code) = self.get(&url, None).await?;
        ensure!(
            (status, code.as_str()) == (403, "url_expired"),
            "an expired URL: {status} {code}"
        );
        self.push("8 days ahead").await?;
        let downloaded = self.client.blob_download(&signed_before).await;
        ensure!(
            downloaded.context("a download whose URL has expired")? == file,
            "another file"
        );
        let token_ahead = stored_token(&self.credentials)?;
        ensure!(token_ahead != token, "the token was not refreshed");
        let url_ahead = self.raw_download_url(&token_ahead, &hash).await?;

        self.clock.set(0)?;
        let (status, code) = self.get(&url_ahead, None).await?;
        ensure!(
            (status, code.as_str()) == (403, "url_expired"),
            "a URL of the future: {status} {code}"
        );
        self.push("back from 8 days ahead").await?;
        self.download(&hash).await
    }

    /// Guesses that were used up in the future are back after the usual time, not after the jump.
    async fn guess_ahead_and_sign_in_after(&mut self) -> anyhow::Result<()> {
        self.clock.set(8 * DAY)?;
        let stranger = self.site.client("stranger");
        let mut refused = false;
        for _ in 0..=GUESSES {
            match stranger.authenticate(&self.account.email, "a wrong password").await {
                Err(Error::InvalidCredentials) => {}
                Err(Error::RetryLater { .. }) => refused = true,
                Err(error) => return Err(error.into()),
                Ok(_) => bail!("a wrong password is right"),
            }
        }
        ensure!(refused, "guesses are not counted");
        self.clock.set(0)?;
        let first = stranger.authenticate(&self.account.email, &self.account.password).await;
        ensure!(
            matches!(first, Ok(_) | Err(Error::RetryLater { .. })),
            "right after the jump: {first:?}"
        );
        self.clock.set(GUESS_WINDOW_SECONDS)?;
        let signed_in = stranger.authenticate(&self.account.email, &self.account.password).await;
        signed_in.context("the lock-out outlasts the jump")?;
        self.push("while somebody guessed").await?;
        self.clock.set(0)
    }

    async fn jump_back_and_ahead(&mut self) -> anyhow::Result<()> {
        self.clock.set(-3 * DAY)?;
        self.push("3 days back").await?;
        let other = self.account.devices.get(1).context("no second device")?;
        let other_client = self.site.resumed(&other.name)?;
        let log = whole_log(&other_client, other.id).await.context("a pull 3 days back")?;
        ensure!(
            log.len() as u64 == self.pushed * u64::from(ENTRIES),
            "{} entries",
            log.len()
        );
        self.clock.set(0)?;
        self.push("ahead again").await
    }

    /// A session that is too old in a future that does not last is not over.
    async fn outlast_a_session(&mut self) -> anyhow::Result<()> {
        self.clock.set(100 * DAY)?;
        let ended = self.client.status().await;
        ensure!(
            matches!(ended, Err(Error::SessionEnded)),
            "a session of 100 days ago: {ended:?}"
        );
        self.clock.set(0)?;
        self.push("back from 100 days ahead").await
    }

    /// A clock that is ahead lets the log below a snapshot go early; the rows stay.
    async fn let_the_log_go_early(&mut self) -> anyhow::Result<()> {
        self.client.fold(self.device_id).await?;
        let before = self.batches()?;
        self.clock.set(20 * DAY)?;
        // The sweep is the server's own affair, so all that can be done is to look again.
        let mut looks = 0;
        while self.batches()? >= before {
            looks += 1;
            ensure!(looks < 600, "the log below a settled snapshot stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.push("20 days ahead").await?;
        self.clock.set(0)?;
        self.push("back from 20 days ahead").await
    }

    /// Clients whose own clock is wrong, each in a process of its own, and two of one device.
    async fn devices_with_wrong_clocks(&mut self, sizes: &Sizes) -> anyhow::Result<()> {
        let mut processes = Vec::new();
        let live = ["--password", &self.account.password, "--key-changes", "0"];
        let batches = sizes.batches.to_string();
        for (name, device, offset) in [("ahead", 1, "+10d"), ("also ahead", 1, "+10d"), ("behind", 2, "-10d")] {
            let member = self.account.devices.get(device).context("no such device")?;
            let mut command = self.site.client_command(member);
            command
                .envs(self.clock.fixed_environment(offset))
                .args(["live", "--process", name, "--batches", &batches])
                .args(["--seed", &sizes.seed.to_string()])
                .args(live);
            processes.push((name, self.site.start_client(command)?));
        }
        for (name, process) in processes {
            process
                .finish()
                .with_context(|| format!("a device whose clock is {name}"))?;
            self.books
                .enter(&Journal::read(&journal_file(self.site.directory(), name))?);
        }
        Ok(())
    }

    async fn audit(&self) -> anyhow::Result<u64> {
        ensure!(
            self.books.open() == 0,
            "{} batches were never acknowledged",
            self.books.open()
        );
        let reader = self.account.devices.last().context("no device")?;
        let log = whole_log(&self.site.resumed(&reader.name)?, reader.id).await?;
        Ok(self.books.audit(&log)?.acknowledged)
    }

    async fn download(&self, hash: &BlobHash) -> anyhow::Result<()> {
        let url = self.client.blob_download_url(hash).await?;
        self.client.blob_download(&url).await?;
        Ok(())
    }

    /// Batches that the server still holds.
    fn batches(&self) -> anyhow::Result<i64> {
        let database = rusqlite::Connection::open(self.site.data_dir().join("synckit.db"))?;
        Ok(database.query_row("SELECT count(*) FROM batches", [], |row| row.get(0))?)
    }

    /// Asks for the status with a token, and with nothing of the SDK's in between.
    async fn status(&self, token: &str) -> anyhow::Result<(u16, String)> {
        self.get(&format!("{}/api/sync/status", self.site.url()), Some(token))
            .await
    }

    async fn raw_download_url(&self, token: &str, hash: &BlobHash) -> anyhow::Result<String> {
        let body = serde_json::json!({ "hash": self.client.blob_id(hash)? }).to_string();
        let request = http::Request::post(format!("{}/api/sync/blobs/download", self.site.url()))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(RequestBody::Full(body.into()))?;
        let (status, answer) = self.send(request).await?;
        ensure!(status == 200, "no URL: {status} {answer}");
        let url = answer["download_url"].as_str().context("no URL")?;
        Ok(url.to_owned())
    }

    /// The status, and the code of a problem.
    async fn get(&self, url: &str, token: Option<&str>) -> anyhow::Result<(u16, String)> {
        let mut request = http::Request::get(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let (status, answer) = self.send(request.body(RequestBody::Empty)?).await?;
        Ok((status, answer["code"].as_str().unwrap_or_default().to_owned()))
    }

    async fn send(&self, request: http::Request<RequestBody>) -> anyhow::Result<(u16, serde_json::Value)> {
        let response = self.transport.send(request).await?;
        let status = response.status().as_u16();
        let mut chunks = response.into_body();
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk?);
        }
        // A file is not JSON.
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// The token in a device's credential file.
fn stored_token(file: &Path) -> anyhow::Result<String> {
    #[derive(serde::Deserialize)]
    struct Session {
        token: String,
    }
    let records: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&fs::read(file)?)?;
    let record = records.iter().find(|(name, _)| name.ends_with("/session"));
    let record = record.and_then(|(_, record)| record.as_str()).context("no session")?;
    let session: Session = minicbor_serde::from_slice(&STANDARD.decode(record)?)?;
    Ok(session.token)
}

/// The time of day of processes, moved by `libfaketime`.
struct FakeClock {
    directory: tempfile::TempDir,
    library: String,
}

impl FakeClock {
    fn new() -> anyhow::Result<Self> {
        // The program knows where its library is; its own way to fake would be fixed at the start.
        let mut ask = Command::new("faketime");
        ask.args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]);
        let library = output_of(&mut ask).context("install faketime: on Debian, `apt-get install faketime`")?;
        let clock = Self {
            directory: tempfile::tempdir()?,
            library: library.trim().to_owned(),
        };
        clock.set(0)?;
        clock.check()?;
        Ok(clock)
    }

    /// Makes sure that the clock does move: a library that is not loaded would let every check pass.
    fn check(&self) -> anyhow::Result<()> {
        let year = |offset: &str| {
            let mut date = command("date");
            date.arg("+%s").envs(self.fixed_environment(offset));
            anyhow::Ok(output_of(&mut date)?.trim().parse::<i64>()?)
        };
        ensure!(
            year("+10d")? > year("+0")? + 9 * DAY,
            "libfaketime does not move the clock"
        );
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    /// Moves the clock of every process that looks at the file, to so many seconds from the true time.
    fn set(&self, offset_seconds: i64) -> anyhow::Result<()> {
        let next = self.directory.path().join("next");
        fs::write(&next, format!("{offset_seconds:+}\n"))?;
        fs::rename(next, self.file())?;
        Ok(())
    }

    /// For a process whose clock moves.
    fn environment(&self) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        let mut environment = self.common();
        environment.push(("FAKETIME_TIMESTAMP_FILE".into(), self.file().into()));
        environment.push(("FAKETIME_NO_CACHE".into(), "1".into()));
        environment
    }

    /// For a process whose clock is wrong from beginning to end.
    fn fixed_environment(&self, offset: &str) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        let mut environment = self.common();
        environment.push(("FAKETIME".into(), offset.into()));
        environment
    }

    fn common(&self) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        [
            ("LD_PRELOAD", self.library.as_str()),
            // Timers are unaffected: only the time of day jumps.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec()
    }
}
