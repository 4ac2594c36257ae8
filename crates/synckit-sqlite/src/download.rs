//! The long values that rows wait for.

use synckit_client::{BlobTarget, Error as ClientError, ProblemCode, Tampering};
use synckit_crypto::blob::BlobHash;

use crate::{database::SyncedDatabase, error::Error, replica::Replica, rows::FileValue};

/// After so many bytes of long values, rows enter their tables.
const PLACED_BYTES: usize = 32 << 20;
impl SyncedDatabase {
    /// Downloads the long values that rows wait for. Those that the server does not have hold nothing up.
    pub(crate) async fn download(&self) -> Result<(), Error> {
        let mut wanted = self.with(Replica::wanted_files).await?;
        wanted.retain(|hash, _| !self.pause().missing.contains(hash));
        let (mut bytes_here, mut downloaded) = (0, Ok(()));
        for (hash, file) in wanted {
            match self.fetch(file).await {
                Ok(bytes) => {
                    bytes_here += bytes.len();
                    self.with(move |replica| replica.take_file(hash, &bytes)).await?;
                    // Each time looks at every row.
                    if bytes_here >= PLACED_BYTES {
                        self.place_rows().await?;
                        bytes_here = 0;
                    }
                }
                Err(error) if is_missing(&error) => {
                    tracing::warn!(%hash, %error, "a row waits for a file that the server does not have");
                    self.pause().missing.insert(hash);
                }
                Err(error) => {
                    downloaded = Err(error.into());
                    break;
                }
            }
        }
        if bytes_here > 0 {
            self.place_rows().await?;
        }
        downloaded
    }

    /// The bytes of a file. One that was deleted when no row named it is brought back.
    pub(crate) async fn fetch(&self, file: FileValue) -> Result<Vec<u8>, ClientError> {
        match self.get(&file.hash).await {
            Err(error)
                if error.problem_code() == Some(ProblemCode::BlobNotFound) && self.is_brought_back(file).await =>
            {
                self.get(&file.hash).await
            }
            got => got,
        }
    }

    /// Whether the server has a file after all: it brings deleted ones back when it is asked for an upload.
    pub(crate) async fn is_brought_back(&self, file: FileValue) -> bool {
        let asked = self.0.client.blob_upload_url(&file.hash, file.size_bytes).await;
        asked.is_ok_and(|ticket| ticket.already_exists)
    }

    async fn get(&self, hash: &BlobHash) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        let target = BlobTarget::writer(&mut bytes);
        self.0.client.blob_get(hash, target, |_| {}).await?;
        Ok(bytes)
    }

    /// Rows enter their tables whose long values are here by now.
    async fn place_rows(&self) -> Result<(), Error> {
        let tables = self.with(Replica::place_rows).await?;
        self.tell(tables);
        Ok(())
    }
}

/// Whether the server does not have a file, or another one in its place.
fn is_missing(error: &ClientError) -> bool {
    match error {
        ClientError::Tampering(Tampering::BlobForged { .. }) => true,
        // The object of a file that the server knows.
        ClientError::Protocol { status, .. } => *status == 404,
        other => other.problem_code() == Some(ProblemCode::BlobNotFound),
    }
}
