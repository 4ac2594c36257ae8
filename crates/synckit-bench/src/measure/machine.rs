//! The best figures of this machine, measured in the same run: the floor under all others.

use std::{
    fs::File,
    hint::black_box,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use chacha20poly1305::{AeadInPlace as _, KeyInit as _, XChaCha20Poly1305};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::figures::with_separators;

/// A sealed batch of 500 records of about 200 bytes.
const BATCH_BYTES: usize = 120_000;
/// A page of the database: the least that a commit writes.
const PAGE_BYTES: usize = 4096;
/// How long each of them is tried.
const TRIAL: Duration = Duration::from_millis(700);

/// The limits of this machine.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    /// Appends of 120 kB to one file, each followed by a sync of its data.
    pub(super) synced_appends_per_second: f64,
    /// Appends of 4 KiB to one file, each followed by a sync of its data.
    pub(super) synced_pages_per_second: f64,
    /// XChaCha20-Poly1305 over 120 kB, one core.
    pub(super) seal_mb_per_second: f64,
    /// SHA-256 over 120 kB, one core.
    pub(super) sha256_mb_per_second: f64,
    /// One TCP connection over loopback, in one direction, 120 kB a write; both ends on this machine's cores.
    pub(super) loopback_mb_per_second: f64,
    /// One byte there and one back over one TCP connection, one after the other.
    pub(super) loopback_round_trips_per_second: f64,
}

impl Machine {
    pub(super) fn measure(directory: &Path) -> anyhow::Result<Self> {
        let mut batch = vec![0x5A; BATCH_BYTES];
        let synced_appends_per_second = synced_appends(directory, &batch)?;
        let synced_pages_per_second = synced_appends(directory, &batch[..PAGE_BYTES])?;
        let cipher = XChaCha20Poly1305::new(&[7; 32].into());
        let seals = rate(|| {
            let tag = cipher
                .encrypt_in_place_detached(&[9; 24].into(), b"", &mut batch)
                .map_err(|_| anyhow!("the cipher refused to seal"))?;
            black_box(tag);
            Ok(())
        })?;
        let hashes = rate(|| {
            black_box(Sha256::digest(&batch));
            Ok(())
        })?;
        let megabytes = BATCH_BYTES as f64 / 1e6;
        Ok(Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            synced_appends_per_second,
            synced_pages_per_second,
            seal_mb_per_second: seals * megabytes,
            sha256_mb_per_second: hashes * megabytes,
            loopback_mb_per_second: loopback_writes(&batch)? * megabytes,
            loopback_round_trips_per_second: loopback_round_trips()?,
        })
    }

    /// Each limit with its name, for people.
    pub(super) fn figures(&self) -> Vec<(&'static str, String)> {
        let whole = |value: f64, unit: &str| format!("{}{unit}", with_separators(value.round() as u64));
        vec![
            (
                "appends of 120 kB, each synced",
                whole(self.synced_appends_per_second, " /s"),
            ),
            (
                "appends of 4 KiB, each synced",
                whole(self.synced_pages_per_second, " /s"),
            ),
            ("XChaCha20-Poly1305, one core", whole(self.seal_mb_per_second, " MB/s")),
            ("SHA-256, one core", whole(self.sha256_mb_per_second, " MB/s")),
            ("loopback, one connection", whole(self.loopback_mb_per_second, " MB/s")),
            (
                "loopback round trips, one connection",
                whole(self.loopback_round_trips_per_second, " /s"),
            ),
            ("cores", self.cores.to_string()),
        ]
    }

    /// Records of this size that could be sealed, or opened, in a second on one core.
    pub(super) fn sealed_records(&self, bytes_per_record: f64) -> f64 {
        self.seal_mb_per_second * 1e6 / bytes_per_record.max(1.0)
    }

    /// Records of this size that fit through loopback in a second.
    pub(super) fn carried_records(&self, bytes_per_record: f64) -> f64 {
        self.loopback_mb_per_second * 1e6 / bytes_per_record.max(1.0)
    }
}

/// How often a second so many bytes can be appended to a file and synced.
fn synced_appends(directory: &Path, bytes: &[u8]) -> anyhow::Result<f64> {
    let path = directory.join("appends");
    let mut file = File::create(&path)?;
    let appends = rate(|| {
        file.write_all(bytes)?;
        file.sync_data()?;
        Ok(())
    })?;
    drop(file);
    std::fs::remove_file(path)?;
    Ok(appends)
}

/// How often a second so many bytes pass through loopback.
fn loopback_writes(bytes: &[u8]) -> anyhow::Result<f64> {
    let (mut near, mut far) = connection()?;
    let length = bytes.len();
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; length];
        while far.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let writes = rate(|| Ok(near.write_all(bytes)?))?;
    drop(near);
    reader.join().map_err(|_| anyhow!("the reader of loopback panicked"))?;
    Ok(writes)
}

fn loopback_round_trips() -> anyhow::Result<f64> {
    let (mut near, mut far) = connection()?;
    let echo = thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    let round_trips = rate(|| {
        let mut byte = [0];
        near.write_all(&byte)?;
        Ok(near.read_exact(&mut byte)?)
    })?;
    drop(near);
    echo.join().map_err(|_| anyhow!("the echo of loopback panicked"))?;
    Ok(round_trips)
}

fn connection() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no loopback")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

/// How often a second something can be done, one after the other.
fn rate(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut count = 0.0;
    loop {
        work()?;
        count += 1.0;
        let elapsed = started.elapsed();
        if elapsed >= TRIAL {
            return Ok(count / elapsed.as_secs_f64());
        }
    }
}
