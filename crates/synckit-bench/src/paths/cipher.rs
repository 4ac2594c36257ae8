//! A device's work on bytes: all from a seed, so that each run is the same.

use std::hint::black_box;

use anyhow::{Context as _, ensure};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use synckit_crypto::{
    AccountKey, Envelope, KeyRing, StreamKeys, StreamScope, VaultEdition,
    batch::{BatchBody, BatchContext, ChangeEntry, ChangeOp, Timestamp},
    blob::{BlobEncryptor, BlobHash},
    snapshot::{Manifest, PartBody, PartDigest, SnapshotContext},
};
use synckit_protocol::{AppId, BatchDigest, BatchId, DeviceId, Position, SealedHash, SnapshotId, UserId};

/// Entries of a full batch.
const ENTRIES: usize = 500;
/// The size of the pieces in which a file is sealed.
const PIECE_BYTES: usize = 1 << 20;
const EDITION: VaultEdition = VaultEdition {
    generation: 1,
    count: 1,
};
const SCOPE: StreamScope = StreamScope {
    app_id: AppId::from_bytes([1; 16]),
    user_id: UserId::from_bytes([2; 16]),
};

/// A device with keys.
struct Device {
    random: StdRng,
    ring: KeyRing,
    keys: StreamKeys,
}

impl Device {
    fn new() -> Self {
        let mut random = StdRng::seed_from_u64(1);
        let ring = KeyRing::generate(&SCOPE, &mut random);
        let keys = ring.current().subkeys(&SCOPE);
        Self { random, ring, keys }
    }

    /// Rows of about 200 bytes, as an app for tasks has them.
    fn changes(&mut self) -> Vec<ChangeEntry> {
        let random = &mut self.random;
        (0..ENTRIES)
            .map(|number| {
                let (high, low) = (random.r#gen::<u64>(), random.r#gen::<u64>());
                ChangeEntry {
                    table: "tasks".to_owned(),
                    op: ChangeOp::Insert,
                    row_id: format!("{:08x}-{:04x}-4000-8000-{:012x}", high >> 32, high & 0xFFFF, low >> 16),
                    timestamp: Timestamp::from_micros(1_760_000_000_000_000 + number as i64),
                    data: Some(json!({
                        "title": format!("the title of number {number}"),
                        "body": "a text of words that somebody wrote, and wrote again, until it had about this length",
                        "done": random.gen_bool(0.3),
                        "priority": random.gen_range(0..5),
                        "amount": f64::from(random.gen_range(0..1_000_000)) / 100.0,
                        "due": 1_760_000_000 + random.gen_range(0..40_000_000),
                    })),
                }
            })
            .collect()
    }
}

fn place() -> BatchContext {
    BatchContext {
        scope: SCOPE,
        device_id: DeviceId::from_bytes([3; 16]),
        batch_id: BatchId::from_bytes([4; 16]),
        parent: Position::start_of(SCOPE.app_id, SCOPE.user_id),
    }
}

fn digest(keys: &StreamKeys, sealed: &[u8]) -> BatchDigest {
    BatchDigest {
        batch_id: place().batch_id,
        device_id: place().device_id,
        key_id: keys.key_id,
        count: 500,
        sealed_hash: SealedHash::of(sealed),
    }
}

/// 500 rows become a sealed batch.
pub(super) fn seal_batch(times: u32) -> anyhow::Result<()> {
    let mut device = Device::new();
    let changes = device.changes();
    for _ in 0..times {
        let body = BatchBody::encode(&changes)?;
        let keys = &device.keys;
        black_box(keys.batch.seal(&keys.key_id, &place(), &body, &mut device.random));
    }
    Ok(())
}

/// A sealed batch becomes 500 rows.
pub(super) fn open_batch(times: u32) -> anyhow::Result<()> {
    let mut device = Device::new();
    let changes = device.changes();
    let body = BatchBody::encode(&changes)?;
    let keys = &device.keys;
    let sealed = keys.batch.seal(&keys.key_id, &place(), &body, &mut device.random);
    for _ in 0..times {
        let opened = keys.batch.open(&keys.key_id, &place(), 500, &sealed)?;
        ensure!(black_box(opened).len() == ENTRIES);
    }
    Ok(())
}

/// The chain advances over a sealed batch: the work of server and device for each.
pub(super) fn chain_step(times: u32) -> anyhow::Result<()> {
    let mut device = Device::new();
    let changes = device.changes();
    let body = BatchBody::encode(&changes)?;
    let keys = &device.keys;
    let sealed = keys.batch.seal(&keys.key_id, &place(), &body, &mut device.random);
    let mut at = place().parent;
    for _ in 0..times {
        at = at.advance(&digest(keys, &sealed)).context("the chain ended")?;
    }
    black_box(at);
    Ok(())
}

/// A part of a snapshot becomes rows.
pub(super) fn open_snapshot_part(times: u32) -> anyhow::Result<()> {
    let mut device = Device::new();
    let changes = device.changes();
    let context = SnapshotContext {
        scope: SCOPE,
        snapshot_id: SnapshotId::from_bytes([5; 16]),
        position: place().parent,
    };
    let keys = &device.keys;
    let (taken, body) = PartBody::encode_prefix(&changes)?;
    ensure!(taken == ENTRIES);
    let sealed = keys
        .snapshot
        .seal_part(&keys.key_id, &context, 0, 1, &body, &mut device.random);
    let manifest = Manifest::new(vec![PartDigest::of(&body, &sealed)]).context("one part makes no manifest")?;
    for _ in 0..times {
        let rows = keys.snapshot.open_part(&keys.key_id, &context, &manifest, 0, &sealed)?;
        ensure!(black_box(rows).len() == ENTRIES);
    }
    Ok(())
}

/// An envelope becomes the key ring.
pub(super) fn open_envelope(times: u32) -> anyhow::Result<()> {
    let mut device = Device::new();
    let account_key = AccountKey::generate(&mut device.random);
    let sealed = Envelope::seal(&SCOPE, &account_key, EDITION, 1, &device.ring, &mut device.random)?.encode();
    for _ in 0..times {
        black_box(Envelope::decode(&sealed)?.open(&SCOPE, &account_key)?);
    }
    Ok(())
}

/// A megabyte of a file is sealed.
pub(super) fn seal_file(times: u32) -> anyhow::Result<()> {
    let mut device = Device::new();
    let mut piece = vec![0x5A; PIECE_BYTES];
    let blob_id = device.ring.blob_id_key().blob_id(&BlobHash::of(&piece));
    let keys = &device.keys;
    let (mut stream, _) = BlobEncryptor::new(&keys.blob, &keys.key_id, &blob_id, &mut device.random);
    for _ in 0..times {
        stream.update(&mut piece)?;
    }
    black_box(stream.finish());
    Ok(())
}
