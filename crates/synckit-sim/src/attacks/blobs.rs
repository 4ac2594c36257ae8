//! Lies about files: nothing of a blob is released before all of it agrees.

use anyhow::{Context as _, ensure};
use rand::rngs::OsRng;
use synckit_client::{BlobHash, Error, Tampering};

use super::{
    Evidence, caught, passes,
    stage::{Stage, rewriting_bytes},
};

const OBJECTS: &str = "/blobs/";

fn photo() -> Vec<u8> {
    (0..100_000_u32).map(|place| (place % 253) as u8).collect()
}

fn letter() -> Vec<u8> {
    // As long as the photo: a blob of another length is refused before it is opened.
    (0..100_000_u32).map(|place| (place % 241) as u8 ^ 0x55).collect()
}

impl Stage {
    /// Uploads a file, in place of an existing one, and returns the stored object.
    async fn upload(&self, file: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let author = self.honest(0)?;
        author.client.blob_replace(file, |_| {}).await?;
        let sent = author.sent.lock();
        let put = sent.iter().find(|sent| sent.path().starts_with(OBJECTS));
        Ok(put.context("nothing was uploaded")?.body.to_vec())
    }

    /// Downloads the photo over a connection that changes the object.
    async fn download(
        &self,
        device: usize,
        change: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    ) -> anyhow::Result<Result<Vec<u8>, Error>> {
        let victim = self.victim(device, rewriting_bytes(OBJECTS, change))?;
        let url = victim.client.blob_download_url(&BlobHash::of(&photo())).await?;
        let target = self.path().join("downloaded");
        let got = victim
            .client
            .blob_get(&BlobHash::of(&photo()), target.as_path(), |_| {})
            .await;
        ensure!(got.is_ok() == target.exists(), "a file was left, or none was made");
        Ok(victim.client.blob_download(&url).await)
    }
}

/// Uploads the photo, and downloads it unchanged, changed, and sealed again.
async fn changed(
    stage: Stage,
    change: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    reason: &'static str,
) -> anyhow::Result<Evidence> {
    stage.upload(photo()).await?;
    let honest = passes("the honest run", stage.download(1, |object| object).await?)?;
    ensure!(honest == photo(), "the honest run brought another file");
    std::fs::remove_file(stage.path().join("downloaded"))?;
    let caught = caught(
        stage.download(2, change).await?,
        |error| matches!(error, Error::Tampering(Tampering::BlobForged { reason: found }) if *found == reason),
    )?;
    // Every byte of the object differs, and it is believed: a holder of the key sealed the same file again.
    let resealed = sealed_as_photo(&stage, &photo())?;
    let control = passes("the control", stage.download(3, move |_| resealed.clone()).await?)?;
    ensure!(control == photo(), "the control brought another file");
    Ok(Evidence::new(
        caught,
        "the same file sealed again with the user's key, every byte different, is believed",
    ))
}

/// Any file, sealed with the user's key as if it were the photo.
fn sealed_as_photo(stage: &Stage, file: &[u8]) -> anyhow::Result<Vec<u8>> {
    let ring = stage.golden.key_ring(&stage.golden.ada)?;
    let photo_id = ring.blob_id_key().blob_id(&BlobHash::of(&photo()));
    let keys = stage.forger.keys();
    Ok(keys.blob.seal(&keys.key_id, &photo_id, file, &mut OsRng)?)
}

const NOT_SEALED: &str = "it was not sealed by a device of this user for this file";

pub(super) async fn swapped(stage: Stage) -> anyhow::Result<Evidence> {
    let letter = stage.upload(letter()).await?;
    changed(stage, move |_| letter.clone(), NOT_SEALED).await
}

pub(super) async fn truncated(stage: Stage) -> anyhow::Result<Evidence> {
    let cut = |mut object: Vec<u8>| {
        object.truncate(object.len() - 1);
        object
    };
    changed(stage, cut, "it is too short").await
}

pub(super) async fn extended(stage: Stage) -> anyhow::Result<Evidence> {
    let extend = |mut object: Vec<u8>| {
        object.push(0);
        object
    };
    changed(stage, extend, "it is too long").await
}

pub(super) async fn last_byte(stage: Stage) -> anyhow::Result<Evidence> {
    let flip = |mut object: Vec<u8>| {
        if let Some(byte) = object.last_mut() {
            *byte ^= 1;
        }
        object
    };
    changed(stage, flip, NOT_SEALED).await
}

pub(super) async fn mixed_ranges(stage: Stage) -> anyhow::Result<Evidence> {
    // Two uploads of one file: each is good, and their halves fit byte for byte in length.
    let first = stage.upload(photo()).await?;
    let mixed = move |object: Vec<u8>| {
        let half = object.len() / 2;
        [&object[..half], &first[half..]].concat()
    };
    changed(stage, mixed, NOT_SEALED).await
}

pub(super) async fn other_file_with_the_key(stage: Stage) -> anyhow::Result<Evidence> {
    // Even a device of the user, or the thief of its key, cannot pass one file for another: the hash decides.
    let forged = sealed_as_photo(&stage, &letter())?;
    changed(stage, move |_| forged.clone(), "it is not the requested file").await
}
