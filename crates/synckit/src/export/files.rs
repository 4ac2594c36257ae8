//! The files of an export: every listed file, verified, named by its SHA-256.

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use synckit_client::{BlobHash, BlobId, Error, ProblemCode, SyncKitClient, Tampering};

use super::{bar, place::Progress};
use crate::failure::Failure;

/// Concurrent downloads.
const FILES_AT_ONCE: usize = 4;
/// The most failed files in the report. More failures have a common cause.
const FAILED_MAX: usize = 100;

/// The result of exporting files.
#[derive(Debug, Serialize)]
pub(super) struct BlobReport {
    pub(super) directory: String,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files in the server's list that could not be downloaded whole.
    pub(super) failed: Vec<FailedBlob>,
}

/// A file that is missing in the export.
#[derive(Debug, Serialize)]
pub(super) struct FailedBlob {
    pub(super) blob_id: BlobId,
    pub(super) error: String,
}

/// Downloads every file, in the order of the ids, starting at the end of an earlier run.
pub(super) async fn download_all(client: &SyncKitClient, progress: &mut Progress) -> Result<BlobReport, Failure> {
    let directory = progress.place().prepare_blobs()?;
    let bar = bar("{spinner} {human_pos} files in {elapsed}");
    let mut saved = progress.saved_blobs();
    let mut failed = Vec::new();
    bar.set_position(saved.files);
    loop {
        let (listed, has_more) = client.blobs(saved.after).await?;
        let mut downloads = stream::iter(listed)
            .map(|blob| {
                let directory = directory.clone();
                async move { (blob.hash, client.blob_get_by_id(blob.hash, directory, |_| {}).await) }
            })
            .buffered(FILES_AT_ONCE);
        let before = saved.after;
        while let Some((blob_id, downloaded)) = downloads.next().await {
            match outcome(downloaded)? {
                Outcome::Exported { bytes } => {
                    saved.files += 1;
                    saved.bytes += bytes;
                    bar.inc(1);
                }
                Outcome::Failed(error) if failed.len() < FAILED_MAX => failed.push(FailedBlob { blob_id, error }),
                Outcome::Failed(error) => {
                    return Err(anyhow::anyhow!("too many files failed, the last: {error}").into());
                }
            }
            saved.after = Some(blob_id);
        }
        drop(downloads);
        progress.save_blobs(saved)?;
        // A server that always claims more files must not keep the export running for ever.
        if !has_more || saved.after == before {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(BlobReport {
        directory: directory.display().to_string(),
        files: saved.files,
        bytes: saved.bytes,
        failed,
    })
}

enum Outcome {
    Exported { bytes: u64 },
    Failed(String),
}

/// Whether one file's failure ends the export: a damaged or missing file is reported at the end; a lost connection ends
/// the export.
fn outcome(downloaded: Result<(BlobHash, u64), Error>) -> Result<Outcome, Error> {
    match downloaded {
        Ok((_, bytes)) => Ok(Outcome::Exported { bytes }),
        Err(
            error @ (Error::Tampering(Tampering::BlobForged { .. }) | Error::Tampering(Tampering::UnsafeUrl { .. })),
        ) => Ok(Outcome::Failed(error.to_string())),
        Err(error) if error.problem_code() == Some(ProblemCode::BlobNotFound) => Ok(Outcome::Failed(error.to_string())),
        Err(error) => Err(error),
    }
}
