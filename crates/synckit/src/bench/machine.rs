//! What this machine can do at best, measured beside the rest: the floor under every figure.

use std::{
    fs::File,
    hint::black_box,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use chacha20poly1305::{AeadInPlace as _, KeyInit as _, XChaCha20Poly1305};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A sealed batch of 500 records of about 200 bytes.
const BATCH_BYTES: usize = 120_000;
/// How long each of them is tried.
const TRIAL: Duration = Duration::from_millis(700);

/// The limits of this machine.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    /// Appends of 120 kB to one file, each followed by a sync of its data.
    pub(super) synced_appends_per_second: f64,
    /// XChaCha20-Poly1305 over 120 kB, one core.
    pub(super) seal_mb_per_second: f64,
    /// SHA-256 over 120 kB, one core.
    pub(super) sha256_mb_per_second: f64,
}

impl Machine {
    pub(super) fn measure(directory: &Path) -> anyhow::Result<Self> {
        let mut batch = vec![0x5A; BATCH_BYTES];
        let path = directory.join("appends");
        let mut file = File::create(&path)?;
        let synced_appends_per_second = rate(|| {
            file.write_all(&batch)?;
            file.sync_data()?;
            Ok(())
        })?;
        drop(file);
        std::fs::remove_file(path)?;
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
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            synced_appends_per_second,
            seal_mb_per_second: seals * megabytes,
            sha256_mb_per_second: hashes * megabytes,
        })
    }
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
