//! After a rejoin, the server may lack files of rows that it has: a backup of its database is seldom as old as that of its files.
//! Every device uploads those that it has. One that the server has already costs one request.

use std::collections::BTreeMap;

use synckit_client::Error as ClientError;
use synckit_crypto::blob::BlobHash;

use crate::{
    database::SyncedDatabase,
    error::Error,
    merge::Key,
    parcel::files_of,
    push::{Run, is_final},
    replica::Replica,
    shadow::{files, settings},
};

impl SyncedDatabase {
    /// Goes on after the last file that was uploaded. What the server refuses is left out, but where the account has no room the
    /// next sync goes on.
    pub(crate) async fn upload_again(&self, run: &mut Run) -> Result<(), Error> {
        let Some(last) = self.fact(settings::UPLOADED).await? else {
            return Ok(());
        };
        for (hash, key) in self.with(move |replica| replica.files_after(&last)).await? {
            let is_stored = run.stored.contains(&hash);
            let bytes = match is_stored {
                true => None,
                false => self.with(move |replica| replica.bytes_of(&key, hash)).await?,
            };
            if let Some(bytes) = bytes {
                match self.0.client.blob_put(bytes, |_| {}).await {
                    Err(error) if is_final(&error) && !matches!(error, ClientError::QuotaExceeded { .. }) => {
                        tracing::warn!(%hash, %error, "the server refuses a file of a row");
                    }
                    uploaded => drop(uploaded?),
                }
            }
            self.note(settings::UPLOADED, Some(hash.to_string())).await?;
        }
        self.note(settings::UPLOADED, None).await
    }
}

impl Replica {
    /// The files of rows that follow the last one that was uploaded again, and a row that has each.
    fn files_after(&mut self, last: &str) -> Result<Vec<(BlobHash, Key)>, Error> {
        let after = match last {
            "" => None,
            last => Some(last.parse().map_err(|_| Error::Damaged)?),
        };
        let work = self.begin()?;
        let mut all = BTreeMap::new();
        for (key, row) in work.book.state.rows() {
            for file in files_of(row) {
                // A row in its table has the bytes.
                if !work.book.outside.contains_key(key) || !all.contains_key(&file.hash) {
                    all.insert(file.hash, key.clone());
                }
            }
        }
        work.finish()?;
        Ok(all.into_iter().filter(|(hash, _)| Some(*hash) > after).collect())
    }

    /// The bytes of a file of a row, if they are here.
    fn bytes_of(&mut self, key: &Key, hash: BlobHash) -> Result<Option<Vec<u8>>, Error> {
        let work = self.begin()?;
        let bytes = match files::read(&work.transaction, hash)? {
            None => work.reader_of(key).file(key, hash)?,
            kept => kept,
        };
        work.finish()?;
        Ok(bytes)
    }
}
