//! Files that no row names any more are deleted from the server, so that it has room again.
//!
//! The device does so by whose edit a file lost its last row, some time later: other devices may be about to send rows that name the
//! file. The server keeps deleted files for a while, and who wants one brings it back, so that nothing depends on that time.

use std::{collections::BTreeSet, time::Duration};

use synckit_client::{Error as ClientError, ProblemCode};
use synckit_crypto::blob::BlobHash;

use crate::{
    database::SyncedDatabase,
    error::Error,
    parcel::{files_of, key_of},
    replica::{Replica, Work},
    rows::RowChange,
};

/// So long after the edit.
const SWEEP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

impl SyncedDatabase {
    pub(crate) async fn sweep(&self, unnamed: Vec<BlobHash>) -> Result<(), Error> {
        for hash in unnamed {
            match self.0.client.blob_delete(&hash).await {
                Err(error) if error.problem_code() != Some(ProblemCode::BlobNotFound) => {
                    return Err(ClientError::into(error));
                }
                _ => self.with(move |replica| replica.forget_unnamed(hash)).await?,
            }
        }
        Ok(())
    }
}

impl Replica {
    fn forget_unnamed(&mut self, hash: BlobHash) -> Result<(), Error> {
        let work = self.begin()?;
        work.forget_unnamed(hash)?;
        work.finish()
    }
}

impl Work<'_> {
    /// Notes the files that an edit of this device takes away from rows.
    pub(crate) fn note_unnamed(&self, changes: &[RowChange]) -> Result<(), Error> {
        let sql = "INSERT OR REPLACE INTO synckit_unnamed (hash, since) VALUES (?1, ?2)";
        let mut note = self.transaction.prepare_cached(sql)?;
        for change in changes {
            let before = self.book.state.fold.get(&key_of(change));
            let kept: BTreeSet<BlobHash> = change
                .op
                .row()
                .into_iter()
                .flat_map(files_of)
                .map(|file| file.hash)
                .collect();
            let named = before
                .and_then(|before| before.row.as_ref())
                .into_iter()
                .flat_map(files_of);
            for file in named.filter(|file| !kept.contains(&file.hash)) {
                note.execute((file.hash.to_string(), self.now.as_micros()))?;
            }
        }
        Ok(())
    }

    /// The files that no row named for some time.
    pub(crate) fn unnamed_files(&self) -> Result<Vec<BlobHash>, Error> {
        let last = self
            .now
            .as_micros()
            .saturating_sub(i64::try_from(SWEEP_AFTER.as_micros()).unwrap_or(i64::MAX));
        let mut select = self
            .transaction
            .prepare_cached("SELECT hash FROM synckit_unnamed WHERE since <= ?1")?;
        let found: Vec<String> = select.query_map([last], |row| row.get(0))?.collect::<Result<_, _>>()?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let state = &self.book.state;
        let logged = state.fold.values().filter_map(|folded| folded.row.as_ref());
        let edited = state.unsent.values().filter_map(|unsent| unsent.row.as_ref());
        let named: BTreeSet<BlobHash> = logged.chain(edited).flat_map(files_of).map(|file| file.hash).collect();
        let mut unnamed = Vec::new();
        for hash in found {
            let hash: BlobHash = hash.parse().map_err(|_| Error::Damaged)?;
            match named.contains(&hash) {
                true => self.forget_unnamed(hash)?,
                false => unnamed.push(hash),
            }
        }
        Ok(unnamed)
    }

    fn forget_unnamed(&self, hash: BlobHash) -> Result<(), Error> {
        let sql = "DELETE FROM synckit_unnamed WHERE hash = ?1";
        self.transaction.prepare_cached(sql)?.execute([hash.to_string()])?;
        Ok(())
    }
}
